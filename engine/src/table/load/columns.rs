//! The columns of raw rows.

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::{Float64Type, SchemaRef, UInt32Type};
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

    /// The targets: float64 of numbers, provisional codes of classes.
    pub(in crate::table) fn targets<'a>(&self, block: &'a RecordBatch) -> &'a [ArrayRef] {
        let first = self.inputs.len();
        &block.columns()[first..first + self.targets.len()]
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

    /// The targets as numbers; empty if they are classes, or there are none.
    pub(in crate::table) fn numbers<'a>(&self, block: &'a RecordBatch) -> Vec<&'a Float64Array> {
        let targets = self.targets(block).iter();
        targets.filter_map(|target| target.as_primitive_opt::<Float64Type>()).collect()
    }
}
