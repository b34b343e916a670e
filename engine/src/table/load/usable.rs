//! Which rows can be learned from: the rule for target and weight, the same for tables and streams.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result;

/// Targets and weight of some rows, as far as they say whether a row can be learned from.
pub(crate) struct Usable {
    /// Where a target is NULL.
    nulls: Option<NullBuffer>,
    /// The targets whose values may be not finite.
    numbers: Vec<Float64Array>,
    weight: Option<Float64Array>,
}

impl Usable {
    /// For targets as the query gives them; `numbers` are the targets as float64, if they are
    /// numbers.
    ///
    /// # Errors
    /// When a value cannot be read as a number.
    pub fn new(
        targets: &[ArrayRef],
        numbers: &[ArrayRef],
        weight: Option<&ArrayRef>,
    ) -> Result<Self> {
        let float64 = |column: &ArrayRef| -> Result<Float64Array> {
            if let Some(lists) = column.as_list_opt::<i32>() {
                return Ok(of_lists(lists));
            }
            Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
        };
        let numbers = match numbers {
            // Classes that are floats.
            [] => targets.iter().filter(|target| target.data_type().is_floating()).collect(),
            numbers => numbers.iter().collect::<Vec<_>>(),
        };
        let numbers = numbers.into_iter().map(float64).collect::<Result<Vec<_>>>()?;
        let mut nulls = None;
        for own in targets.iter().map(|target| target.logical_nulls()) {
            nulls = NullBuffer::union(nulls.as_ref(), own.as_ref());
        }
        for own in &numbers {
            nulls = NullBuffer::union(nulls.as_ref(), own.nulls());
        }
        Ok(Self { nulls, numbers, weight: weight.map(float64).transpose()? })
    }

    /// Whether all rows can be learned from.
    pub fn all(&self) -> bool {
        let is_finite = |v: &f64| v.is_finite();
        self.nulls.as_ref().is_none_or(|nulls| nulls.null_count() == 0)
            && self.numbers.iter().all(|numbers| numbers.values().iter().all(is_finite))
            && self.weight.as_ref().is_none_or(|weight| {
                weight.null_count() == 0 && weight.values().iter().copied().all(is_weight)
            })
    }

    /// Why a row cannot be learned from; None if it can.
    pub fn cause(&self, row: usize) -> Option<&'static str> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Some("the target is NULL");
        }
        if self.numbers.iter().any(|numbers| !numbers.value(row).is_finite()) {
            return Some("the target is not finite");
        }
        match &self.weight {
            Some(weight) if weight.is_null(row) => Some("the weight is NULL"),
            Some(weight) if !is_weight(weight.value(row)) => {
                Some("the weight is negative or not finite")
            }
            _ => None,
        }
    }

    /// The weight of a row; 1 without WEIGHT.
    pub fn weight(&self, row: usize) -> f64 {
        self.weight.as_ref().map_or(1.0, |weight| weight.value(row))
    }
}

/// A number for each list: NULL if the list or one of its numbers is NULL, NaN if one is not
/// finite, else 0.
fn of_lists(lists: &ListArray) -> Float64Array {
    let of_list = |list: Option<ArrayRef>| {
        let list = list?;
        let numbers = list.as_primitive_opt::<Float64Type>().filter(|own| own.null_count() == 0)?;
        let is_finite = numbers.values().iter().all(|number| number.is_finite());
        Some(if is_finite { 0.0 } else { f64::NAN })
    };
    lists.iter().map(of_list).collect()
}

fn is_weight(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}
