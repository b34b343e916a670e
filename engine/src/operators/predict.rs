//! PREDICT in a logical plan: the rows of its input, and behind their columns the parts of their
//! predictions.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore,
};
use datafusion::physical_plan::ExecutionPlan;
use gradlake_udfs::{LatestScorer, MODEL_ROWS, MODEL_VERSION, Scorer, prediction_part_udf};

use super::pick::{Moves, Pick, places};
use super::predict_exec::PredictExec;

/// The model whose predictions a plan returns.
#[derive(Clone, Debug)]
pub enum Predictor {
    /// One version, whatever is published meanwhile.
    Fixed(Arc<Scorer>),
    /// The newest revision at each batch; each row says which.
    Latest(Arc<LatestScorer>),
}

impl Predictor {
    /// The model that scores the next batch.
    pub fn scorer(&self) -> Arc<Scorer> {
        match self {
            Self::Fixed(scorer) => Arc::clone(scorer),
            Self::Latest(followed) => followed.newest(),
        }
    }

    /// The parts of a prediction.
    pub fn parts(&self) -> Vec<FieldRef> {
        let mut parts = self.scorer().fields().to_vec();
        if let Self::Latest(_) = self {
            let number = |name| Arc::new(Field::new(name, DataType::UInt64, false));
            parts.extend([MODEL_VERSION, MODEL_ROWS].map(number));
        }
        parts
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fixed(a), Self::Fixed(b)) => Arc::ptr_eq(a, b),
            (Self::Latest(a), Self::Latest(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// How a row is predicted.
#[derive(Clone, Debug)]
pub(crate) struct Prediction {
    pub predictor: Predictor,
    /// Probability above which the larger of two classes is predicted.
    pub threshold: f64,
    /// The arguments of [`Scorer::score`].
    pub arguments: Vec<Pick>,
    /// The columns that the parts become.
    pub columns: Vec<FieldRef>,
}

impl PartialEq for Prediction {
    fn eq(&self, other: &Self) -> bool {
        self.predictor.is(&other.predictor)
            && self.threshold.to_bits() == other.threshold.to_bits()
            && self.arguments == other.arguments
            && self.columns == other.columns
    }
}

/// A prediction of each row.
#[derive(Clone)]
pub(crate) struct Predict {
    input: LogicalPlan,
    prediction: Prediction,
    schema: DFSchemaRef,
}

impl fmt::Debug for Predict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

impl PartialEq for Predict {
    fn eq(&self, other: &Self) -> bool {
        self.prediction == other.prediction && self.input == other.input
    }
}

impl Eq for Predict {}

impl Hash for Predict {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.prediction.threshold.to_bits().hash(state);
        self.prediction.arguments.hash(state);
        self.prediction.columns.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for Predict {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Predict {
    /// The rows of `input` with their predictions, in columns of `names`.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn plan(
        input: LogicalPlan,
        predictor: Predictor,
        threshold: f64,
        arguments: Vec<Pick>,
        names: Vec<String>,
    ) -> Result<LogicalPlan> {
        // A correlated query, which refers to rows outside of it: the rules that turn it into a
        // join do not look into our operators.
        if let (Predictor::Fixed(scorer), false) =
            (&predictor, input.all_out_ref_exprs().is_empty())
        {
            return correlated(input, scorer, threshold, &arguments, names);
        }
        let rename =
            |(part, name): (FieldRef, String)| Arc::new(Field::clone(&part).with_name(name));
        let columns = predictor.parts().into_iter().zip(names).map(rename).collect();
        let node = Self::new(input, Prediction { predictor, threshold, arguments, columns })
            .map(Arc::new)?;
        Ok(LogicalPlan::Extension(Extension { node }))
    }

    fn new(input: LogicalPlan, prediction: Prediction) -> Result<Self> {
        let given = input.schema();
        let own = given.iter().map(|(relation, field)| (relation.cloned(), Arc::clone(field)));
        let more = prediction.columns.iter().map(|column| (None, Arc::clone(column)));
        let fields = own.chain(more).collect();
        let schema = DFSchema::new_with_metadata(fields, given.metadata().clone())?;
        let schema = schema
            .with_functional_dependencies(given.functional_dependencies().clone())
            .map(Arc::new)?;
        Ok(Self { input, prediction, schema })
    }

    /// The plan whose rows it predicts.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// The columns of the predictions.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.prediction.columns.iter().map(|column| column.name().as_str())
    }

    /// The operator that runs.
    pub fn physical(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let arguments = self.prediction.arguments.iter();
        let arguments =
            arguments.map(|pick| pick.physical(self.input.schema())).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(PredictExec::new(
            input,
            self.prediction.predictor.clone(),
            self.prediction.threshold,
            arguments,
            &self.prediction.columns,
        )))
    }
}

/// The same as a projection, which scores once for each part.
fn correlated(
    input: LogicalPlan,
    scorer: &Arc<Scorer>,
    threshold: f64,
    arguments: &[Pick],
    names: Vec<String>,
) -> Result<LogicalPlan> {
    let schema = Arc::clone(input.schema());
    let mut columns: Vec<Expr> = schema.iter().map(Expr::from).collect();
    for (part, name) in names.into_iter().enumerate() {
        let function = prediction_part_udf(Arc::clone(scorer), part, threshold);
        let arguments = arguments.iter().map(|pick| pick.logical(&schema)).collect();
        columns.push(function.call(arguments).alias(name));
    }
    LogicalPlanBuilder::from(input).project(columns)?.build()
}

impl UserDefinedLogicalNodeCore for Predict {
    fn name(&self) -> &str {
        "Predict"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    /// Filters on other columns are cheaper before rows are scored.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.columns().map(str::to_owned).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let columns: Vec<&str> = self.columns().collect();
        write!(f, "Predict: {} by {}", columns.join(", "), name_of(&self.prediction.predictor))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.swap_remove(0);
        let moves = Moves::new(self.input.schema(), input.schema());
        let arguments = self.prediction.arguments.iter();
        let arguments = arguments.map(|pick| pick.moved(&moves)).collect::<Result<_>>()?;
        Self::new(input, Prediction { arguments, ..self.prediction.clone() })
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let given = self.input.schema().fields().len();
        let mut wanted = places(&self.prediction.arguments);
        wanted.extend(output.iter().filter(|column| **column < given));
        wanted.sort_unstable();
        wanted.dedup();
        Some(vec![wanted])
    }
}

/// A model, as plans show it.
pub(super) fn name_of(predictor: &Predictor) -> String {
    let scorer = predictor.scorer();
    let model = scorer.model();
    match predictor {
        Predictor::Fixed(_) => format!("{} version {}", model.name, model.version),
        Predictor::Latest(_) => format!("{} as it is revised", model.name),
    }
}
