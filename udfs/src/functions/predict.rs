//! `predict('model', f1, ...)` and `predict_proba('model', f1, ...)`.
//!
//! The model's name is a literal: the caller that plans a statement has pinned the models that it
//! names. Planning replaces the name by the model itself, so that a version published while the
//! statement runs changes nothing.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::names::Names;
use crate::resolver::StateResolver;
use crate::scorer::{Scorer, prediction_parts};

/// Which part of a prediction a function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// `predict`: the prediction.
    Label,
    /// `predict_proba`: classes with their probabilities, most probable first.
    Probabilities,
}

impl Part {
    fn function(self) -> &'static str {
        match self {
            Part::Label => "predict",
            Part::Probabilities => "predict_proba",
        }
    }

    /// The index of the part in a prediction; None: all parts as a struct, of a model that predicts
    /// several things.
    fn place(self, scorer: &Scorer) -> Result<Option<usize>> {
        let name = match self {
            Part::Label => prediction_parts::LABEL,
            Part::Probabilities => prediction_parts::PROBABILITIES,
        };
        match scorer.fields().find(name) {
            Some((place, _)) => Ok(Some(place)),
            None if self == Part::Label => Ok(None),
            None => plan_err!(
                "model {} gives no probabilities, because {} has none; use predict",
                scorer.model().name,
                scorer.model().algorithm
            ),
        }
    }
}

/// `predict` and `predict_proba`; `resolver` finds the models that calls name.
pub fn predict_udfs(resolver: &Arc<dyn StateResolver>) -> Vec<ScalarUDF> {
    [Part::Label, Part::Probabilities]
        .into_iter()
        .map(|part| {
            ScalarUDF::from(Predict {
                part,
                resolver: Arc::clone(resolver),
                signature: Signature::variadic_any(Volatility::Stable),
            })
        })
        .collect()
}

/// A function that returns one part of a prediction: `part` is its index in [`Scorer::fields`]. Its
/// arguments are those of [`Scorer::arguments`].
pub fn prediction_part_udf(scorer: Arc<Scorer>, part: usize, threshold: f64) -> ScalarUDF {
    let name = scorer.fields().get(part).map_or("part", |field| field.name());
    let name = format!("predict_{name}");
    ScalarUDF::from(BoundPredict::new(scorer, Some(part), &name, threshold))
}

#[derive(Debug)]
struct Predict {
    part: Part,
    resolver: Arc<dyn StateResolver>,
    signature: Signature,
}

impl PartialEq for Predict {
    fn eq(&self, other: &Self) -> bool {
        self.part == other.part && Arc::ptr_eq(&self.resolver, &other.resolver)
    }
}

impl Eq for Predict {}

impl Hash for Predict {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.part.hash(state);
    }
}

impl Predict {
    fn scorer(&self, name: Option<&ScalarValue>) -> Result<Arc<Scorer>> {
        match name.map(ScalarValue::try_as_str) {
            Some(Some(Some(name))) => self.resolver.scorer(name),
            _ => plan_err!(
                "the first argument of {} must be the model's name as a string literal",
                self.name()
            ),
        }
    }

    fn bound(&self, scorer: Arc<Scorer>) -> Result<BoundPredict> {
        let part = self.part.place(&scorer)?;
        Ok(BoundPredict::new(scorer, part, self.name(), 0.5))
    }
}

impl ScalarUDFImpl for Predict {
    fn name(&self) -> &str {
        self.part.function()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("the type of {} depends on its model", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let scorer = self.scorer(args.scalar_arguments.first().copied().flatten())?;
        let types: Vec<_> = args.arg_fields[1..].iter().map(|f| f.data_type().clone()).collect();
        self.bound(scorer)?.field(&types)
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some((Expr::Literal(name, _), rest)) = args.split_first() else {
            return plan_err!(
                "the first argument of {} must be the model's name as a string literal",
                self.name()
            );
        };
        let scorer = self.scorer(Some(name))?;
        let call = ScalarUDF::from(self.bound(scorer)?).call(rest.to_vec());
        Ok(ExprSimplifyResult::Simplified(call))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match args.args.first() {
            Some(ColumnarValue::Scalar(name)) => Some(name),
            _ => None,
        };
        let bound = self.bound(self.scorer(name)?)?;
        bound.predict(&args.args[1..], args.number_rows)
    }
}

/// A prediction function of one model.
#[derive(Debug)]
struct BoundPredict {
    scorer: Arc<Scorer>,
    /// Index in [`Scorer::fields`]; None: all of them as a struct.
    part: Option<usize>,
    threshold: f64,
    name: String,
    signature: Signature,
}

impl PartialEq for BoundPredict {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.scorer, &other.scorer)
            && self.part == other.part
            && self.threshold.to_bits() == other.threshold.to_bits()
    }
}

impl Eq for BoundPredict {}

impl Hash for BoundPredict {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.threshold.to_bits().hash(state);
    }
}

impl BoundPredict {
    fn new(scorer: Arc<Scorer>, part: Option<usize>, function: &str, threshold: f64) -> Self {
        let model = scorer.model();
        let name = format!("{function}[{} version {}]", model.name, model.version);
        let signature = Signature::variadic_any(Volatility::Immutable);
        Self { scorer, part, threshold, name, signature }
    }

    /// The field of the result for arguments of these types. A single struct argument passes its
    /// fields by name.
    fn field(&self, types: &[DataType]) -> Result<FieldRef> {
        match types {
            [DataType::Struct(fields)] if self.takes_struct(types) => {
                let places = self.places(fields)?;
                let types: Vec<_> =
                    places.into_iter().map(|place| fields[place].data_type().clone()).collect();
                self.scorer.check(&types)?;
            }
            types => self.scorer.check(types)?,
        }
        let fields = self.scorer.fields();
        let data_type = match self.part {
            None => DataType::Struct(fields.clone()),
            Some(part) => match fields.get(part) {
                Some(part) => part.data_type().clone(),
                None => return exec_err!("a prediction has no part {part}"),
            },
        };
        Ok(Arc::new(Field::new(&self.name, data_type, true)))
    }

    /// Whether a single struct passes all arguments, and is not itself the only argument of the
    /// model.
    fn takes_struct(&self, types: &[DataType]) -> bool {
        let mut arguments = self.scorer.arguments();
        let one = (arguments.next(), arguments.next());
        match (types, one) {
            ([DataType::Struct(given)], (Some((name, DataType::Struct(_))), None)) => {
                given.find(name).is_some()
            }
            ([DataType::Struct(_)], _) => true,
            _ => false,
        }
    }

    fn predict(&self, args: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
        let all_scalar = args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { rows };
        let mut columns: Vec<ArrayRef> =
            args.iter().map(|a| a.to_array(rows)).collect::<Result<_>>()?;
        let types: Vec<_> = columns.iter().map(|c| c.data_type().clone()).collect();
        if self.takes_struct(&types) {
            let row = columns[0].as_struct();
            let places = self.places(row.fields())?;
            columns = places.into_iter().map(|place| Arc::clone(row.column(place))).collect();
        }
        let array = match self.part {
            None => Arc::new(self.scorer.score(&columns, rows, self.threshold)?) as ArrayRef,
            Some(part) => {
                let parts = self.scorer.predict(&columns, rows, self.threshold)?;
                match parts.into_iter().nth(part) {
                    Some(array) => array,
                    None => return exec_err!("a prediction has no part {part}"),
                }
            }
        };
        if all_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }

    /// The indices of the arguments among the fields of a struct.
    fn places(&self, fields: &Fields) -> Result<Vec<usize>> {
        let names = || self.scorer.arguments().map(|(name, _)| name.as_str());
        let places = Names::of(fields).find_all(names())?;
        let place = |(place, name): (Option<usize>, &str)| match place {
            Some(place) => Ok(place),
            None => plan_err!(
                "model {} needs the field {name}, which the struct lacks",
                self.scorer.model().name
            ),
        };
        places.into_iter().zip(names()).map(place).collect()
    }
}

impl ScalarUDFImpl for BoundPredict {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(self.field(types)?.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        self.field(&types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.predict(&args.args, args.number_rows)
    }
}
