//! The columns of raw rows.

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, SchemaRef};
use gradlake_udfs::{Input, Values};

use crate::table::TargetKind;

/// A column per input (category columns as provisional codes), then the target, then weight and
/// split where there are such.
#[derive(Debug)]
pub(in crate::table) struct RawColumns {
    pub inputs: Vec<Input>,
    /// Which inputs are categories.
    pub is_category: Vec<bool>,
    pub kind: TargetKind,
    pub target_name: String,
    pub has_weight: bool,
    pub schema: SchemaRef,
}

impl RawColumns {
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

    /// The target: float64 of numbers, provisional codes of classes.
    pub(in crate::table) fn target<'a>(&self, block: &'a RecordBatch) -> &'a ArrayRef {
        block.column(self.inputs.len())
    }

    /// Row weights, float64, if there are any.
    pub(in crate::table) fn weight<'a>(&self, block: &'a RecordBatch) -> Option<&'a ArrayRef> {
        self.has_weight.then(|| block.column(self.inputs.len() + 1))
    }

    /// The split column, boolean, if there is one.
    pub(in crate::table) fn split_column<'a>(
        &self,
        block: &'a RecordBatch,
    ) -> Option<&'a ArrayRef> {
        block.columns().get(self.inputs.len() + 1 + usize::from(self.has_weight))
    }

    /// The target as numbers.
    pub(in crate::table) fn numbers<'a>(&self, block: &'a RecordBatch) -> Option<&'a Float64Array> {
        self.target(block).as_primitive_opt::<Float64Type>()
    }
}
