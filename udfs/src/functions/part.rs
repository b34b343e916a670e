//! One part of a prediction's struct.
//!
//! `get_field` would do, but optimizers move that towards the leaves of a plan, past the
//! projection that predicts, which then predicts once a part.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// A function that takes the struct of a prediction and gives its part `name`; NULL where the
/// prediction is NULL.
pub fn prediction_part_udf(name: &str) -> ScalarUDF {
    ScalarUDF::from(PredictionPart {
        name: format!("prediction_{name}"),
        part: name.to_owned(),
        signature: Signature::any(1, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PredictionPart {
    name: String,
    part: String,
    signature: Signature,
}

impl ScalarUDFImpl for PredictionPart {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Struct(fields)] => match fields.find(&self.part) {
                Some((_, field)) => Ok(field.data_type().clone()),
                None => plan_err!("a prediction has no part {}", self.part),
            },
            _ => plan_err!("{} takes a prediction", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let Some(row) = args.arg_fields.first() else {
            return plan_err!("{} takes a prediction", self.name);
        };
        let data_type = self.return_type(&[row.data_type().clone()])?;
        let is_nullable = match row.data_type() {
            DataType::Struct(fields) => {
                row.is_nullable() || fields.find(&self.part).is_none_or(|(_, f)| f.is_nullable())
            }
            _ => true,
        };
        Ok(Arc::new(arrow::datatypes::Field::new(&self.name, data_type, is_nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(row) = args.args.first() else {
            return exec_err!("{} takes a prediction", self.name);
        };
        let row = row.to_array(args.number_rows)?;
        let row = row.as_struct();
        let Some(part) = row.column_by_name(&self.part) else {
            return exec_err!("a prediction has no part {}", self.part);
        };
        // A struct that is NULL has NULL parts.
        let part: ArrayRef = match row.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => Arc::clone(part),
            Some(_) => arrow::compute::nullif(part, &arrow::compute::is_null(row)?)?,
        };
        Ok(ColumnarValue::Array(part))
    }
}
