//! `assert_true(condition, message)`: a check inside a script, named as in Spark SQL.
//!
//! It returns TRUE if the condition holds; otherwise, also for NULL, it fails the statement with
//! the message. Example scripts assert their own output with it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The function `assert_true`.
pub fn assert_true_udf() -> ScalarUDF {
    // Volatile, so that the optimizer neither folds it nor drops it.
    let arguments = vec![DataType::Boolean, DataType::Utf8];
    ScalarUDF::from(AssertTrue { signature: Signature::exact(arguments, Volatility::Volatile) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AssertTrue {
    signature: Signature,
}

impl ScalarUDFImpl for AssertTrue {
    fn name(&self) -> &str {
        "assert_true"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [condition, message] = args.args.as_slice() else {
            return exec_err!("assert_true takes a condition and a message");
        };
        let condition = condition.to_array(rows)?;
        let condition: &BooleanArray = condition.as_boolean();
        for row in 0..condition.len() {
            if condition.is_null(row) || !condition.value(row) {
                let message = message.to_array(rows)?;
                let message = message.as_string::<i32>();
                return exec_err!("assertion failed: {}", message.value(row));
            }
        }
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(vec![true; rows]))))
    }
}
