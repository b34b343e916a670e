//! Metrics of classes, and labels as codes.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::Accumulator;
use serde::{Deserialize, Serialize};

use super::{state_of, states, value, weights};
use crate::metrics::Confusion;

/// Distinct labels, as bytes that sort as the labels do.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) converter: RowConverter,
    pub(super) codes: HashMap<Box<[u8]>, u32>,
    pub(super) keys: Vec<Box<[u8]>>,
}

impl Keys {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Self { converter, codes: HashMap::new(), keys: vec![] })
    }

    pub(super) fn code(&mut self, key: &[u8]) -> u32 {
        if let Some(code) = self.codes.get(key) {
            return *code;
        }
        let code = self.keys.len() as u32;
        self.codes.insert(key.into(), code);
        self.keys.push(key.into());
        code
    }

    /// The code of each value. A NULL gets a code too, so the caller must leave out rows with NULL.
    pub(super) fn intern(&mut self, array: &ArrayRef) -> Result<Vec<u32>> {
        let rows = self.converter.convert_columns(std::slice::from_ref(array))?;
        Ok(rows.iter().map(|row| self.code(row.as_ref())).collect())
    }

    /// The rank of each code in the order of the labels.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<usize> = (0..self.keys.len()).collect();
        order.sort_by(|a, b| self.keys[*a].cmp(&self.keys[*b]));
        let mut ranks = vec![0; order.len()];
        for (rank, code) in order.into_iter().enumerate() {
            ranks[code] = rank as u32;
        }
        ranks
    }
}

#[derive(Serialize, Deserialize)]
struct ClassState {
    keys: Vec<Box<[u8]>>,
    /// Class, predicted class, and the bits of the weight of their rows.
    cells: Vec<(u32, u32, u64)>,
}

#[derive(Debug)]
pub(super) struct ClassAccumulator {
    pub(super) metric: fn(&Confusion) -> Option<f64>,
    pub(super) keys: Keys,
    pub(super) confusion: Confusion,
}

impl Accumulator for ClassAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (label, prediction) = (self.keys.intern(&values[0])?, self.keys.intern(&values[1])?);
        let weight = weights(values);
        for (row, (label, prediction)) in label.into_iter().zip(prediction).enumerate() {
            if let Some(weight) = weight(row) {
                self.confusion.add(label, prediction, weight);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let ranks = self.keys.ranks();
        let ordered = self.confusion.relabelled(|code| ranks[code as usize]);
        Ok(value((self.metric)(&ordered)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + 64 * self.keys.keys.len() + 32 * self.confusion.cells().len()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let cells = self.confusion.cells().map(|((c, p), weight)| (c, p, weight.to_bits()));
        let state = ClassState { keys: self.keys.keys.clone(), cells: cells.collect() };
        match serde_json::to_vec(&state) {
            Ok(bytes) => Ok(state_of(bytes)),
            Err(error) => exec_err!("the state of a metric cannot be written: {error}"),
        }
    }

    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for bytes in states(values) {
            let state: ClassState = match serde_json::from_slice(bytes) {
                Ok(state) => state,
                Err(error) => return exec_err!("the state of a metric cannot be read: {error}"),
            };
            let codes: Vec<u32> = state.keys.iter().map(|key| self.keys.code(key)).collect();
            for (class, predicted, weight) in state.cells {
                let (c, p) = (codes[class as usize], codes[predicted as usize]);
                self.confusion.add(c, p, f64::from_bits(weight));
            }
        }
        Ok(())
    }
}
