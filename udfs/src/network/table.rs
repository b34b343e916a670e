//! The table `layers` of a model: one row for each node.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::Result;

use super::architecture::Architecture;
use super::layer::shape_text;

/// The table.
///
/// # Errors
/// When a layer does not fit what it reads.
pub(super) fn layers(architecture: &Architecture) -> Result<RecordBatch> {
    let rows = architecture.summary()?;
    let text = |f: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..rows.len()).map(f)))
    };
    let number = |f: &dyn Fn(usize) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..rows.len()).map(|row| f(row) as i64)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("name", text(&|row| rows[row].name.clone())),
        ("layer", text(&|row| rows[row].layer.clone())),
        ("inputs", text(&|row| rows[row].inputs.join(", "))),
        ("output_shape", text(&|row| shape_text(&rows[row].shape))),
        ("parameters", number(&|row| rows[row].parameters as u64)),
        ("multiply_adds", number(&|row| rows[row].multiply_adds)),
    ];
    let field = |(name, values): &(&str, ArrayRef)| -> Field {
        let data_type: &DataType = values.data_type();
        Field::new(*name, data_type.clone(), false)
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let values = columns.into_iter().map(|(_, values)| values).collect();
    Ok(RecordBatch::try_new(Arc::new(schema), values)?)
}
