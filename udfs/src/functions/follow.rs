//! The prediction of a model that a running statement follows, revision by revision.
//!
//! A revision is a model with its version and the rows that it has learned from: one that is
//! published, or one on its way to the next version.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{Array, ArrayRef, StructArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_common::Result;
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::scorer::Scorer;

/// The version of the revision that scored a row, a part of its prediction.
pub const MODEL_VERSION: &str = "model_version";
/// The rows that this revision has learned from.
pub const MODEL_ROWS: &str = "model_rows";

/// A model that is followed: its newest revision scores the next batch.
#[derive(Debug)]
pub struct Followed(RwLock<Arc<Scorer>>);

impl Followed {
    /// Begins with a revision.
    pub fn new(scorer: Arc<Scorer>) -> Self {
        Self(RwLock::new(scorer))
    }

    /// The newest revision.
    pub fn newest(&self) -> Arc<Scorer> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a revision up and says whether it did: one with other inputs or outputs does not fit
    /// the statement.
    pub fn offer(&self, scorer: Arc<Scorer>) -> bool {
        let now = self.newest();
        let fits = scorer.fields() == now.fields() && scorer.arguments().eq(now.arguments());
        if fits {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = scorer;
        }
        fits
    }
}

/// A function that gives all parts of a prediction as a struct, and behind them
/// [`MODEL_VERSION`] and [`MODEL_ROWS`]: what PREDICT on an unbounded table uses. Its arguments
/// are those of [`Scorer::arguments`].
pub fn followed_predict_udf(followed: Arc<Followed>, threshold: f64) -> ScalarUDF {
    let scorer = followed.newest();
    let own = scorer.fields().iter().cloned();
    let revision =
        [MODEL_VERSION, MODEL_ROWS].map(|name| Arc::new(Field::new(name, DataType::UInt64, false)));
    ScalarUDF::from(FollowedPredict {
        name: format!("predict_row[{}]", scorer.model().name),
        fields: own.chain(revision).collect(),
        followed,
        threshold,
        // Two calls may be answered by two revisions.
        signature: Signature::variadic_any(Volatility::Volatile),
    })
}

#[derive(Debug)]
struct FollowedPredict {
    name: String,
    followed: Arc<Followed>,
    fields: Fields,
    threshold: f64,
    signature: Signature,
}

impl PartialEq for FollowedPredict {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.followed, &other.followed)
            && self.threshold.to_bits() == other.threshold.to_bits()
    }
}

impl Eq for FollowedPredict {}

impl Hash for FollowedPredict {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.threshold.to_bits().hash(state);
    }
}

impl ScalarUDFImpl for FollowedPredict {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(self.fields.clone()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        self.followed.newest().check(&types)?;
        Ok(Arc::new(Field::new(&self.name, DataType::Struct(self.fields.clone()), false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scorer = self.followed.newest();
        let rows = args.number_rows;
        let columns: Vec<ArrayRef> =
            args.args.iter().map(|a| a.to_array(rows)).collect::<Result<_>>()?;
        let (_, parts, nulls) = scorer.score(&columns, rows, self.threshold)?.into_parts();
        let mut all = Vec::with_capacity(self.fields.len());
        for part in parts {
            // What is NULL as a whole is NULL in every part.
            all.push(match &nulls {
                None => part,
                Some(nulls) => {
                    let missing = arrow::array::BooleanArray::new(!nulls.inner(), None);
                    arrow::compute::nullif(part.as_ref() as &dyn Array, &missing)?
                }
            });
        }
        let model = scorer.model();
        for number in [model.version, model.rows] {
            all.push(Arc::new(UInt64Array::from_value(number, rows)));
        }
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(self.fields.clone(), all, None)?)))
    }
}
