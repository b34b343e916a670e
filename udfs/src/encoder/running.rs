//! Preprocessing with running statistics: means, scales and categories of the rows so far.
//!
//! ```text
//! columns ──► RawRows ──► update(rows a..b) ──► encode(rows a..b) ──► mini-batch
//!             (once a batch)   (statistics)        (as the scales are now)
//! ```
//! Statistics are updated row by row, so that they do not depend on how rows are cut into batches.
//! New categories get the next row of the weight table in the order in which they first occur.
//!
//! The update of a number is Welford's (1962), the variance is the population variance: with
//! mini-batches of one row, this is river's `StandardScaler`.

mod raw;
mod slots;

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err, plan_err};
use serde::{Deserialize, Serialize};

use self::raw::RawColumn;
use self::slots::{Scaling, Slots};
use super::{Encoder, Feature, FeatureKind, InputKind, Interner, Scale};
use crate::batch::{NO_CATEGORY, Width};

pub use raw::RawRows;

/// A provisional code of NULL.
const NULL: u32 = u32::MAX;

/// One input column.
#[derive(Clone, Debug)]
struct Input {
    name: String,
    data_type: DataType,
    kind: InputKind,
    /// The range of its dense inputs; empty for a category, which has the index of its category
    /// column.
    dense: Range<usize>,
    column: usize,
    /// Whether it is a vector of `uint8`.
    is_bytes: bool,
}

/// Preprocessing whose statistics are updated by every row.
#[derive(Debug)]
pub struct RunningEncoder {
    inputs: Vec<Input>,
    slots: Slots,
    interners: Vec<Interner>,
    /// Row of the weight table by category column and provisional code.
    places: Vec<Vec<u32>>,
    /// Row of the weight table of NULL by category column.
    nulls: Vec<u32>,
    /// Category column and text (None: NULL) of each row of the weight table.
    table: Vec<(usize, Option<String>)>,
}

/// The part of a running encoder that a checkpoint stores; numbers by their bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningState {
    /// Count, missing, mean, squares, min and max of each dense input.
    slots: Vec<[u64; 6]>,
    /// Category column and text of each row of the weight table.
    table: Vec<(usize, Option<String>)>,
}

impl RunningEncoder {
    /// An encoder that has seen no rows. `inputs` are flattened columns.
    ///
    /// # Errors
    /// When a type cannot be a feature, or is a list type without a fixed length.
    pub fn new(inputs: &[(String, DataType)], standardize: bool) -> Result<Self> {
        let mut slots = Slots::default();
        let mut columns = vec![];
        let mut categories = 0;
        let standard = if standardize { Scaling::Standard } else { Scaling::Raw };
        for (name, data_type) in inputs {
            let kind = InputKind::of(name, data_type)?;
            let first = slots.len();
            let (mut column, mut is_bytes) = (0, false);
            match kind {
                InputKind::Number | InputKind::Boolean => slots.push(standard),
                InputKind::Timestamp => {
                    slots.push(Scaling::Standard);
                    (0..6).for_each(|_| slots.push(Scaling::Cycle));
                }
                InputKind::Category => {
                    column = categories;
                    categories += 1;
                }
                InputKind::Vector => {
                    let DataType::FixedSizeList(item, n) = data_type else {
                        return plan_err!(
                            "running statistics need vectors of a length that their type says, but \
                             column {name} is {data_type}; cast it with arrow_cast({name}, \
                             'FixedSizeList(...)')"
                        );
                    };
                    is_bytes = *item.data_type() == DataType::UInt8;
                    let scaling = if is_bytes { Scaling::Bytes(first) } else { standard };
                    (0..*n).for_each(|_| slots.push(scaling));
                }
            }
            let dense = first..slots.len();
            columns.push(Input {
                name: name.clone(),
                data_type: data_type.clone(),
                kind,
                dense,
                column,
                is_bytes,
            });
        }
        Ok(Self {
            inputs: columns,
            slots,
            interners: (0..categories).map(|_| Interner::default()).collect(),
            places: vec![vec![]; categories],
            nulls: vec![NO_CATEGORY; categories],
            table: vec![],
        })
    }

    /// Width of the rows so far: its categories are those seen so far.
    pub fn width(&self) -> Width {
        Width {
            dense: self.slots.len(),
            columns: self.interners.len(),
            categories: self.table.len(),
            ..Width::default()
        }
    }

    /// What dense inputs are encoded with now: subtrahends and divisors `[d]`.
    pub fn scales(&self) -> (&[f64], &[f64]) {
        self.slots.scales()
    }

    /// Reads columns (flattened, in the order of the inputs) of `rows` rows into `out`, replacing
    /// its contents.
    ///
    /// # Errors
    /// When a column does not have the declared type.
    pub fn read(&mut self, columns: &[ArrayRef], rows: usize, out: &mut RawRows) -> Result<()> {
        out.begin(rows, (self.slots.len(), self.interners.len()));
        for (input, array) in self.inputs.iter().zip(columns) {
            let column = match input.kind {
                InputKind::Number | InputKind::Boolean => RawColumn::number(&input.name, array)?,
                InputKind::Timestamp => RawColumn::timestamp(array)?,
                InputKind::Vector => RawColumn::vector(&input.name, array, input.dense.len())?,
                InputKind::Category => {
                    RawColumn::Codes(self.interners[input.column].intern(array)?)
                }
            };
            let first = match input.kind {
                InputKind::Category => input.column,
                _ => input.dense.start,
            };
            out.push(first, column);
        }
        Ok(())
    }

    /// Updates the statistics by rows; from then on, the scales are those of all rows so far.
    pub fn update(&mut self, raw: &mut RawRows, rows: Range<usize>) {
        let c = self.interners.len();
        let (dense, codes) = raw.rows(rows);
        if self.slots.len() > 0 {
            self.slots.update(dense);
            self.slots.rescale();
        }
        if c > 0 {
            for row in codes.chunks_exact(c) {
                for (column, code) in row.iter().enumerate() {
                    self.meet(column, *code);
                }
            }
        }
    }

    /// Gives a category a row of the weight table when it first occurs.
    #[inline]
    fn meet(&mut self, column: usize, code: u32) {
        let next = self.table.len() as u32;
        if code == NULL {
            if self.nulls[column] == NO_CATEGORY {
                self.nulls[column] = next;
                self.table.push((column, None));
            }
            return;
        }
        let places = &mut self.places[column];
        if places.len() <= code as usize {
            places.resize(self.interners[column].values().len(), NO_CATEGORY);
        }
        if places[code as usize] == NO_CATEGORY {
            places[code as usize] = next;
            let text = self.interners[column].value(code).map(str::to_owned);
            self.table.push((column, text));
        }
    }

    /// Encodes rows with the current statistics, into `dense[rows, d]` and `codes[rows, c]`.
    pub fn encode(
        &self,
        raw: &mut RawRows,
        rows: Range<usize>,
        dense: &mut [f32],
        codes: &mut [u32],
    ) {
        let c = self.interners.len();
        let (raw_dense, raw_codes) = raw.rows(rows);
        if self.slots.len() > 0 {
            self.slots.encode(raw_dense, dense);
        }
        if c > 0 {
            for (out, row) in codes.chunks_exact_mut(c).zip(raw_codes.chunks_exact(c)) {
                for (column, (out, code)) in out.iter_mut().zip(row).enumerate() {
                    *out = if *code == NULL {
                        self.nulls[column]
                    } else {
                        let place = self.places[column].get(*code as usize);
                        place.copied().unwrap_or(NO_CATEGORY)
                    };
                }
            }
        }
    }

    /// The encoder of the current statistics, and for each of its categories (in the order of its
    /// weight table) the row of this encoder's table.
    ///
    /// # Errors
    /// When a scale is not finite.
    pub fn snapshot(&self) -> Result<(Encoder, Vec<usize>)> {
        let mut features = vec![];
        let mut order = vec![];
        for input in &self.inputs {
            let scales: Vec<Scale> = input.dense.clone().map(|i| self.slots.scale(i)).collect();
            let missing = input.dense.start;
            let null_count = self.slots.missing.get(missing).copied().unwrap_or(0.0) as u64;
            let (kind, null_count) = match input.kind {
                InputKind::Number => (FeatureKind::Number(scales[0]), null_count),
                InputKind::Boolean => (FeatureKind::Boolean(scales[0]), null_count),
                InputKind::Timestamp => (FeatureKind::Timestamp(scales[0]), null_count),
                InputKind::Vector if input.is_bytes => {
                    (FeatureKind::Bytes(self.slots.byte_scale(input.dense.clone())), null_count)
                }
                InputKind::Vector => (FeatureKind::Vector(scales), null_count),
                InputKind::Category => {
                    let mut own: Vec<(&Option<String>, usize)> = self
                        .table
                        .iter()
                        .enumerate()
                        .filter(|(_, (column, _))| *column == input.column)
                        .map(|(row, (_, text))| (text, row))
                        .collect();
                    own.sort_unstable();
                    order.extend(own.iter().map(|(_, row)| *row));
                    let texts = own.into_iter().map(|(text, _)| text.as_deref()).collect();
                    (FeatureKind::Category(texts), 0)
                }
            };
            features.push(Feature {
                name: input.name.clone(),
                data_type: input.data_type.clone(),
                kind,
                null_count,
            });
        }
        Ok((Encoder::new(features)?, order))
    }

    /// The statistics, for a checkpoint.
    pub fn state(&self) -> RunningState {
        let s = &self.slots;
        let slots = (0..s.scaling.len())
            .map(|i| {
                [s.count[i], s.missing[i], s.mean[i], s.squares[i], s.min[i], s.max[i]]
                    .map(f64::to_bits)
            })
            .collect();
        RunningState { slots, table: self.table.clone() }
    }

    /// Continues from the statistics of a checkpoint.
    ///
    /// # Errors
    /// When they belong to other columns.
    pub fn restore(&mut self, state: &RunningState) -> Result<()> {
        if state.slots.len() != self.slots.len()
            || state.table.iter().any(|(column, _)| *column >= self.interners.len())
        {
            return exec_err!("the running statistics of the checkpoint are of other columns");
        }
        for (i, bits) in state.slots.iter().enumerate() {
            let [count, missing, mean, squares, min, max] = bits.map(f64::from_bits);
            let s = &mut self.slots;
            (s.count[i], s.missing[i], s.mean[i]) = (count, missing, mean);
            (s.squares[i], s.min[i], s.max[i]) = (squares, min, max);
        }
        self.slots.rescale();
        self.table.clear();
        for (column, text) in &state.table {
            let code = match text {
                None => NULL,
                Some(text) => {
                    let array: ArrayRef =
                        std::sync::Arc::new(arrow::array::StringArray::from(vec![text.as_str()]));
                    let codes = self.interners[*column].intern(&array)?;
                    codes.value(0)
                }
            };
            self.meet(*column, code);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};

    use super::*;

    fn columns(x: &[Option<f64>], c: &[Option<&str>]) -> Vec<ArrayRef> {
        vec![Arc::new(Float64Array::from(x.to_vec())), Arc::new(StringArray::from(c.to_vec()))]
    }

    fn encoder() -> RunningEncoder {
        let inputs = [("x".to_owned(), DataType::Float64), ("c".to_owned(), DataType::Utf8)];
        RunningEncoder::new(&inputs, true).unwrap()
    }

    /// river's StandardScaler, learn_one then transform_one, on 1, 3, 3, 7:
    /// 0, 1, 0.70710678, 1.60591014 (population variance).
    #[test]
    fn scales_are_those_of_the_rows_so_far() {
        let mut encoder = encoder();
        let mut raw = RawRows::default();
        let x = [Some(1.0), Some(3.0), Some(3.0), Some(7.0), None];
        let c = [Some("b"), None, Some("a"), Some("b"), Some("c")];
        encoder.read(&columns(&x, &c), 5, &mut raw).unwrap();
        let (mut dense, mut codes) = (vec![0.0; 5], vec![0; 5]);
        for i in 0..5 {
            encoder.update(&mut raw, i..i + 1);
            encoder.encode(&mut raw, i..i + 1, &mut dense[i..=i], &mut codes[i..=i]);
        }
        for (found, truth) in
            dense.iter().zip([0.0, 1.0, std::f32::consts::FRAC_1_SQRT_2, 1.605_910_1, 0.0])
        {
            assert!((found - truth).abs() < 1e-6, "{dense:?}");
        }
        assert_eq!(codes, [0, 1, 2, 0, 3]);
        let (frozen, order) = encoder.snapshot().unwrap();
        // Sorted with NULL first: NULL, a, b, c.
        assert_eq!(order, [1, 2, 0, 3]);
        assert_eq!(frozen.width(), encoder.width());
        let FeatureKind::Number(scale) = frozen.features()[0].kind else { panic!("a number") };
        // Variance with NULL at the mean: (4 x 4.75) / 5.
        assert!((scale.mean - 3.5).abs() < 1e-12 && (scale.stddev - 3.8f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn batches_and_restarts_change_nothing() {
        let x: Vec<Option<f64>> =
            (0..50).map(|i| (i % 7 != 0).then_some(f64::from(i) * 0.37 - 3.0)).collect();
        let names = ["u", "v", "w", "x", "y"];
        let c: Vec<Option<&str>> = (0..50).map(|i| names.get(i * i % 6).copied()).collect();
        let mut whole = encoder();
        let mut raw = RawRows::default();
        whole.read(&columns(&x, &c), 50, &mut raw).unwrap();
        (0..10).for_each(|i| whole.update(&mut raw, 5 * i..5 * i + 5));
        let mut parts = encoder();
        for cut in [0..10, 10..15, 15..35, 35..50] {
            parts.read(&columns(&x[cut.clone()], &c[cut.clone()]), cut.len(), &mut raw).unwrap();
            (0..cut.len() / 5).for_each(|i| parts.update(&mut raw, 5 * i..5 * i + 5));
            let state = parts.state();
            let text = serde_json::to_string(&state).unwrap();
            parts = encoder();
            parts.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        }
        assert_eq!(parts.state(), whole.state());
        assert_eq!(parts.snapshot().unwrap(), whole.snapshot().unwrap());
    }
}
