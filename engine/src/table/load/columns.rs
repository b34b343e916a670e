//! The columns of raw rows.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Fields, Float64Type, SchemaRef, UInt32Type};
use datafusion::common::Result;
use gradlake_udfs::{Input, Values};

use crate::table::TargetKind;

/// A column per input (category columns as provisional codes), then the targets, then weight and
/// split where there are such.
#[derive(Debug)]
pub(in crate::table) struct RawColumns {
    pub inputs: Vec<Input>,
    /// Which inputs are categories.
    pub is_category: Vec<bool>,
    pub kind: TargetKind,
    /// Names of the targets.
    pub targets: Vec<String>,
    pub has_weight: bool,
    pub schema: SchemaRef,
}

/// Bytes of a row with these columns, without those of lists whose length the types do not say.
pub(in crate::table) fn fixed_bytes(fields: &Fields) -> usize {
    fields.iter().map(|field| value_bytes(field.data_type())).sum()
}

/// Bytes that the lists of fixed length of a row take while Parquet is decoded: their elements are
/// numbers of at least 4 bytes then, with two levels of 2 bytes each, beside the values that they
/// become.
pub(in crate::table) fn decoded_bytes(fields: &Fields) -> usize {
    let bytes = |data_type: &DataType| match data_type {
        DataType::FixedSizeList(_, _) => {
            let own = value_bytes(data_type);
            let elements = list_elements(data_type);
            own + elements * (own / elements.max(1)).max(4) + elements * 4
        }
        _ => 0,
    };
    fields.iter().map(|field| bytes(field.data_type())).sum()
}

/// Elements of nested lists of fixed length.
fn list_elements(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeList(item, n) => *n as usize * list_elements(item.data_type()),
        _ => 1,
    }
}

/// Bytes of a value of this type, without those of lists whose length the type does not say.
fn value_bytes(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeList(item, n) => *n as usize * value_bytes(item.data_type()),
        other => other.primitive_width().unwrap_or(1),
    }
}

/// Bytes of the first list of a column that is not NULL.
fn list_bytes(column: &ArrayRef) -> Option<usize> {
    let (row, item) = match column.data_type() {
        DataType::List(item) => {
            (column.as_list::<i32>().iter().flatten().next()?, item.data_type())
        }
        DataType::LargeList(item) => {
            (column.as_list::<i64>().iter().flatten().next()?, item.data_type())
        }
        _ => return None,
    };
    Some(row.len() * value_bytes(item))
}

impl RawColumns {
    /// Bytes of a row. The lengths of lists are in their values: those of the first lists of the
    /// table count, which `chunk` gives chunk by chunk.
    ///
    /// # Errors
    /// Those of `chunk`.
    pub(in crate::table) fn row_bytes(
        &self,
        chunks: usize,
        chunk: impl Fn(usize) -> Result<RecordBatch>,
    ) -> Result<usize> {
        let fields = self.schema.fields();
        let mut bytes = fixed_bytes(fields);
        let mut lists: Vec<usize> = fields
            .iter()
            .enumerate()
            .filter(|(_, f)| matches!(f.data_type(), DataType::List(_) | DataType::LargeList(_)))
            .map(|(column, _)| column)
            .collect();
        for index in 0..chunks {
            if lists.is_empty() {
                break;
            }
            let rows = chunk(index)?;
            lists.retain(|column| match list_bytes(rows.column(*column)) {
                Some(own) => {
                    bytes += own;
                    false
                }
                None => true,
            });
        }
        Ok(bytes)
    }

    /// The feature columns of a block as statistics take them.
    pub(in crate::table) fn values<'a>(&self, block: &'a RecordBatch) -> Vec<Values<'a>> {
        let columns = block.columns().iter();
        columns
            .zip(&self.is_category)
            .map(|(column, is_category)| match column.as_primitive_opt() {
                Some(codes) if *is_category => Values::Codes(codes),
                _ => Values::Array(column),
            })
            .collect()
    }

    /// The targets: float64 of numbers, lists of float64, or provisional codes of classes.
    pub(in crate::table) fn targets<'a>(&self, block: &'a RecordBatch) -> &'a [ArrayRef] {
        let first = self.inputs.len();
        &block.columns()[first..first + self.targets.len()]
    }

    /// The numeric targets with their types in raw rows.
    pub(in crate::table) fn number_targets(&self) -> Vec<(String, DataType)> {
        if self.kind != TargetKind::Number {
            return vec![];
        }
        let fields = self.schema.fields().iter().skip(self.inputs.len()).take(self.targets.len());
        fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
    }

    /// Provisional codes of classes; None if the target is no class.
    pub(in crate::table) fn codes<'a>(&self, block: &'a RecordBatch) -> Option<&'a UInt32Array> {
        self.targets(block).first()?.as_primitive_opt::<UInt32Type>()
    }

    /// Row weights, float64, if there are any.
    pub(in crate::table) fn weight<'a>(&self, block: &'a RecordBatch) -> Option<&'a ArrayRef> {
        self.has_weight.then(|| block.column(self.inputs.len() + self.targets.len()))
    }

    /// The split column, boolean, if there is one.
    pub(in crate::table) fn split_column<'a>(
        &self,
        block: &'a RecordBatch,
    ) -> Option<&'a ArrayRef> {
        let before = self.inputs.len() + self.targets.len();
        block.columns().get(before + usize::from(self.has_weight))
    }

    /// The numbers of the targets, those of a list one after another; empty if they are classes, or
    /// there are none. All lists of a target have the same length.
    pub(in crate::table) fn numbers(&self, block: &RecordBatch) -> Vec<Float64Array> {
        let mut numbers = vec![];
        for target in self.targets(block) {
            if let Some(target) = target.as_primitive_opt::<Float64Type>() {
                numbers.push(target.clone());
            } else if let Some(lists) = target.as_list_opt::<i32>() {
                let (first, rows) = (lists.value_offsets()[0] as usize, lists.len());
                let all = lists.values().as_primitive::<Float64Type>().values();
                let k = lists.value_length(0).max(0) as usize;
                let element = |i: usize| (0..rows).map(move |row| all[first + row * k + i]);
                numbers.extend((0..k).map(|i| Float64Array::from_iter_values(element(i))));
            }
        }
        numbers
    }
}
