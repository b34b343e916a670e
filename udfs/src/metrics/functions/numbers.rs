//! Metrics of numbers.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::Float64Type;
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::Accumulator;

use super::{bytes_to_numbers, numbers_to_bytes, state_of, states, value, weights};
use crate::metrics::Residuals;

#[derive(Debug)]
pub(super) struct NumberAccumulator {
    pub(super) metric: fn(&Residuals) -> Option<f64>,
    pub(super) residuals: Residuals,
}

impl Accumulator for NumberAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let label = values[0].as_primitive::<Float64Type>();
        let prediction = values[1].as_primitive::<Float64Type>();
        let weight = weights(values);
        for row in 0..label.len() {
            if let Some(weight) = weight(row) {
                self.residuals.add(label.value(row), prediction.value(row), weight);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(value((self.metric)(&self.residuals)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + 16 * self.residuals.len()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(state_of(numbers_to_bytes(&self.residuals.to_numbers())))
    }

    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for bytes in states(values) {
            match Residuals::from_numbers(&bytes_to_numbers(bytes)) {
                Some(part) => self.residuals.merge(&part),
                None => return exec_err!("the state of a metric is cut off"),
            }
        }
        Ok(())
    }
}
