//! Lists and structs in CSV, which has neither: their cells are JSON text.

use std::sync::Arc;

use arrow::json::writer::{EncoderOptions, make_encoder};
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::arrow::error::ArrowError;

/// The batch with text in place of nested columns.
pub fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema_ref();
    if !schema.fields().iter().any(|field| field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let (mut fields, mut columns) = (vec![], vec![]);
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(text(field, column)?);
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn text(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column, &options)?;
    let mut cells = StringBuilder::with_capacity(column.len(), 0);
    let mut cell = Vec::new();
    for row in 0..column.len() {
        if encoder.is_null(row) {
            cells.append_null();
        } else {
            cell.clear();
            encoder.encode(row, &mut cell);
            cells.append_value(String::from_utf8_lossy(&cell));
        }
    }
    Ok(Arc::new(cells.finish()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float64Array, Int64Array, StringArray, StructArray};

    use super::*;

    #[test]
    fn structs_become_json_and_plain_columns_stay() {
        let label: ArrayRef = Arc::new(StringArray::from(vec![Some("a \"b\""), None]));
        let prob: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.25]));
        let pairs = StructArray::try_from(vec![("label", label), ("prob", prob)]).unwrap();
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("p", Arc::new(pairs)),
        ])
        .unwrap();
        let flat = flat(&batch).unwrap();
        assert_eq!(flat.schema().field(1).data_type(), &DataType::Utf8);
        assert_eq!(flat.column(0), batch.column(0));
        let expected = StringArray::from(vec![
            r#"{"label":"a \"b\"","prob":0.5}"#,
            r#"{"label":null,"prob":0.25}"#,
        ]);
        assert_eq!(flat.column(1).as_ref(), &expected as &dyn Array);
    }

    #[test]
    fn a_flat_batch_is_left_alone() {
        let batch =
            RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)])
                .unwrap();
        assert_eq!(flat(&batch).unwrap(), batch);
    }
}
