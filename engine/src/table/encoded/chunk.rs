//! A chunk of encoded rows, and its columns.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, Float32Array, PrimitiveArray,
    RecordBatch, UInt8Array, UInt32Array,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type};
use datafusion::common::{Result, exec_err};
use gradlake_udfs::{MiniBatch, RowSchema, Rows, Width};

/// A chunk of encoded rows.
#[derive(Clone, Debug)]
pub struct EncodedChunk {
    /// `[rows, d]`.
    pub dense: Float32Array,
    /// `[rows, bytes]`.
    pub bytes: UInt8Array,
    /// `[rows, c]`.
    pub codes: UInt32Array,
    /// `[rows, k]`.
    pub label: Float32Array,
    /// `[rows]`.
    pub weight: Float32Array,
}

impl EncodedChunk {
    pub(in crate::table) fn new(width: Width, batch: &RecordBatch) -> Result<Self> {
        let mut columns = batch.columns().iter();
        let dense = if width.dense > 0 { numbers(columns.next()) } else { Some(none()) };
        let bytes = if width.bytes > 0 { numbers(columns.next()) } else { Some(none()) };
        let codes = if width.columns > 0 { numbers(columns.next()) } else { Some(none()) };
        let label = match width.targets {
            0 => Some(none()),
            1 => floats(columns.next()),
            _ => numbers(columns.next()),
        };
        let weight = floats(columns.next());
        let (Some(dense), Some(bytes), Some(codes), Some(label), Some(weight)) =
            (dense, bytes, codes, label, weight)
        else {
            return exec_err!("an encoded chunk has lost a column");
        };
        Ok(Self { dense, bytes, codes, label, weight })
    }

    /// `rows` rows from `first` on.
    pub(in crate::table) fn slice(&self, first: usize, rows: usize, width: Width) -> Self {
        Self {
            dense: self.dense.slice(first * width.dense, rows * width.dense),
            bytes: self.bytes.slice(first * width.bytes, rows * width.bytes),
            codes: self.codes.slice(first * width.columns, rows * width.columns),
            label: self.label.slice(first * width.targets, rows * width.targets),
            weight: self.weight.slice(first, rows),
        }
    }

    /// The rows as they are stored.
    pub fn mini_batch(&self) -> MiniBatch<'_> {
        MiniBatch {
            rows: self.weight.len(),
            dense: self.dense.values(),
            bytes: self.bytes.values(),
            codes: self.codes.values(),
            label: self.label.values(),
            weight: self.weight.values(),
            ..MiniBatch::default()
        }
    }

    /// The rows, without a copy where nothing else refers to them.
    pub(in crate::table) fn into_rows(self) -> Rows {
        fn values<T: ArrowPrimitiveType>(column: PrimitiveArray<T>) -> Vec<T::Native> {
            column.into_parts().1.into()
        }
        Rows {
            dense: values(self.dense),
            bytes: values(self.bytes),
            codes: values(self.codes),
            label: values(self.label),
            weight: values(self.weight),
        }
    }

    /// The columns of [`fields`].
    ///
    /// # Errors
    /// Never in practice: the columns have the width of the table.
    pub(in crate::table) fn columns(self, width: Width) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<ArrayRef> = vec![];
        if width.dense > 0 {
            columns.push(list(Arc::new(self.dense), width.dense)?);
        }
        if width.bytes > 0 {
            columns.push(list(Arc::new(self.bytes), width.bytes)?);
        }
        if width.columns > 0 {
            columns.push(list(Arc::new(self.codes), width.columns)?);
        }
        match width.targets {
            0 => {}
            1 => columns.push(Arc::new(self.label)),
            k => columns.push(list(Arc::new(self.label), k)?),
        }
        columns.push(Arc::new(self.weight));
        Ok(columns)
    }
}

impl From<Rows> for EncodedChunk {
    fn from(rows: Rows) -> Self {
        Self {
            dense: rows.dense.into(),
            bytes: rows.bytes.into(),
            codes: rows.codes.into(),
            label: rows.label.into(),
            weight: rows.weight.into(),
        }
    }
}

fn none<T: ArrowPrimitiveType>() -> PrimitiveArray<T> {
    PrimitiveArray::new(ScalarBuffer::default(), None)
}

/// A column of numbers.
fn floats(column: Option<&ArrayRef>) -> Option<Float32Array> {
    column?.as_primitive_opt::<Float32Type>().cloned()
}

/// The numbers of all lists of a column.
fn numbers<T: ArrowPrimitiveType>(column: Option<&ArrayRef>) -> Option<PrimitiveArray<T>> {
    let list = column?.as_fixed_size_list_opt()?;
    let n = list.value_length() as usize;
    let values = list.values().as_primitive_opt::<T>()?;
    Some(values.slice(list.offset() * n, list.len() * n))
}

/// The columns of an encoded table, without the replica.
pub(in crate::table) fn fields(schema: &RowSchema) -> Vec<Field> {
    let (width, mut fields) = (schema.width(), vec![]);
    if width.dense > 0 {
        fields.push(Field::new("features", list_type(DataType::Float32, width.dense), false));
    }
    if width.bytes > 0 {
        let bytes = list_type(DataType::UInt8, width.bytes);
        fields.push(Field::new(schema.bytes_name(), bytes, false));
    }
    if width.columns > 0 {
        fields.push(Field::new("categories", list_type(DataType::UInt32, width.columns), false));
    }
    match width.targets {
        0 => {}
        1 => fields.push(Field::new("label", DataType::Float32, false)),
        k => fields.push(Field::new("label", list_type(DataType::Float32, k), false)),
    }
    fields.push(Field::new("weight", DataType::Float32, false));
    fields
}

fn list_type(item: DataType, n: usize) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new("item", item, false)), n as i32)
}

fn list(values: ArrayRef, n: usize) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", values.data_type().clone(), false));
    Ok(Arc::new(FixedSizeListArray::try_new(item, n as i32, values, None)?))
}
