//! `predict('model', f1, ...)` and `predict_proba('model', f1, ...)`.
//!
//! The model's name is a literal: whoever plans a statement has pinned the models that it names.
//! Planning replaces the name by the model itself, so that a version published while the
//! statement runs changes nothing.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::resolver::StateResolver;
use crate::scorer::{Scorer, parts};

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

    fn field(self, scorer: &Scorer) -> Result<&FieldRef> {
        let name = match self {
            Part::Label => parts::LABEL,
            Part::Probabilities => parts::PROBABILITIES,
        };
        match scorer.fields().find(name) {
            Some((_, field)) => Ok(field),
            None => plan_err!(
                "model {} gives no probabilities, because {} has none; use predict",
                scorer.model().name,
                scorer.model().algorithm
            ),
        }
    }
}

/// `predict` and `predict_proba`, with whom to ask for the models that calls name.
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

/// A function that gives all parts of a prediction of one model as a struct: what PREDICT uses.
/// Its arguments are those of [`Scorer::arguments`].
pub fn bound_predict_udf(scorer: Arc<Scorer>, threshold: f64) -> ScalarUDF {
    ScalarUDF::from(BoundPredict::new(scorer, None, threshold))
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

    fn bound(&self, scorer: Arc<Scorer>) -> BoundPredict {
        BoundPredict::new(scorer, Some(self.part), 0.5)
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
        self.bound(scorer).field(&types)
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some((Expr::Literal(name, _), rest)) = args.split_first() else {
            return plan_err!(
                "the first argument of {} must be the model's name as a string literal",
                self.name()
            );
        };
        let scorer = self.scorer(Some(name))?;
        let call = ScalarUDF::from(self.bound(scorer)).call(rest.to_vec());
        Ok(ExprSimplifyResult::Simplified(call))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match args.args.first() {
            Some(ColumnarValue::Scalar(name)) => Some(name),
            _ => None,
        };
        let bound = self.bound(self.scorer(name)?);
        bound.predict(&args.args[1..], args.number_rows)
    }
}

/// A prediction function of one model.
#[derive(Debug)]
struct BoundPredict {
    scorer: Arc<Scorer>,
    part: Option<Part>,
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
    fn new(scorer: Arc<Scorer>, part: Option<Part>, threshold: f64) -> Self {
        let model = scorer.model();
        let function = part.map_or("predict_row", Part::function);
        let name = format!("{function}[{} version {}]", model.name, model.version);
        Self {
            scorer,
            part,
            threshold,
            name,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }

    /// The field of the result for arguments of these types. One struct stands for its fields by
    /// name.
    fn field(&self, types: &[DataType]) -> Result<FieldRef> {
        match types {
            [DataType::Struct(fields)] if self.takes_struct(types) => {
                let types: Vec<_> = self
                    .scorer
                    .arguments()
                    .map(|(name, _)| match fields.find(name) {
                        Some((_, field)) => Ok(field.data_type().clone()),
                        None => plan_err!(
                            "model {} needs the field {name}, which the struct lacks",
                            self.scorer.model().name
                        ),
                    })
                    .collect::<Result<_>>()?;
                self.scorer.check(&types)?;
            }
            types => self.scorer.check(types)?,
        }
        let data_type = match self.part {
            Some(part) => part.field(&self.scorer)?.data_type().clone(),
            None => DataType::Struct(self.scorer.fields().clone()),
        };
        Ok(Arc::new(Field::new(&self.name, data_type, true)))
    }

    /// Whether a single struct stands for all arguments, and not for the one that the model has.
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
            columns = self.unpack(columns[0].as_struct())?;
        }
        let result = self.scorer.score(&columns, rows, self.threshold)?;
        let array: ArrayRef = match self.part {
            None => Arc::new(result),
            Some(part) => {
                let name = part.field(&self.scorer)?.name();
                let Some(column) = result.column_by_name(name) else {
                    return exec_err!("the prediction has no part {name}");
                };
                // A struct that is NULL has NULL parts.
                let nulls = arrow::compute::is_null(&result)?;
                if result.null_count() > 0 {
                    arrow::compute::nullif(column, &nulls)?
                } else {
                    Arc::clone(column)
                }
            }
        };
        if all_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }

    /// The fields of a struct in the order of the arguments.
    fn unpack(&self, row: &StructArray) -> Result<Vec<ArrayRef>> {
        self.scorer
            .arguments()
            .map(|(name, _)| match row.column_by_name(name) {
                Some(column) => Ok(Arc::clone(column)),
                None => exec_err!(
                    "model {} needs the field {name}, which the struct lacks",
                    self.scorer.model().name
                ),
            })
            .collect()
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
