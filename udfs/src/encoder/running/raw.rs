//! Columns of a batch as rows of numbers, before statistics are applied.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, UInt32Array};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};

use super::NULL;
use crate::encoder::apply::{cycles, numbers, unix_seconds};
use crate::encoder::vectors::vectors;

/// Rows that are gathered from the columns at a time: they stay in the cache until they are
/// encoded.
const WINDOW: usize = 128;

/// A column of a batch.
#[derive(Debug)]
pub(super) enum RawColumn {
    /// A dense input.
    Float32(Float32Array),
    /// A dense input.
    Float64(Float64Array),
    /// Seconds since the epoch: a dense input, and six of cycles.
    Seconds(Float64Array),
    /// Lists of `n` dense inputs, by their starts.
    Vectors { values: Float64Array, starts: Vec<Option<usize>>, n: usize },
    /// Provisional codes of a category column.
    Codes(UInt32Array),
}

impl RawColumn {
    /// A column of numbers or booleans.
    pub(super) fn number(name: &str, array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Float32 => Self::Float32(array.as_primitive().clone()),
            _ => Self::Float64(numbers(name, array)?),
        })
    }

    /// A column of timestamps or dates.
    pub(super) fn timestamp(array: &ArrayRef) -> Result<Self> {
        Ok(Self::Seconds(unix_seconds(array)?))
    }

    /// A column of lists of `n`.
    pub(super) fn vector(name: &str, array: &ArrayRef, n: usize) -> Result<Self> {
        let (values, starts, length) = vectors(name, array)?;
        if length.is_some_and(|length| length != n) {
            return exec_err!(
                "column {name} has lists of {}, but {n} are needed",
                length.unwrap_or(0)
            );
        }
        Ok(Self::Vectors { values: numbers(name, &values)?, starts, n })
    }
}

/// Rows of a batch as numbers, before statistics are applied.
#[derive(Debug, Default)]
pub struct RawRows {
    /// Number of rows.
    len: usize,
    /// Columns, each with the index of its first dense input or of its category column.
    columns: Vec<(usize, RawColumn)>,
    /// Numbers of dense inputs and of category columns.
    width: (usize, usize),
    /// The rows that `dense` and `codes` hold.
    window: Range<usize>,
    /// `[window, d]`; NaN is missing.
    dense: Vec<f64>,
    /// `[window, c]` provisional codes.
    codes: Vec<u32>,
}

impl RawRows {
    /// Drops the previous batch; the next has `len` rows of `d` dense inputs and `c` category
    /// columns.
    pub(super) fn begin(&mut self, len: usize, (d, c): (usize, usize)) {
        self.len = len;
        self.width = (d, c);
        self.window = 0..0;
        self.columns.clear();
    }

    pub(super) fn push(&mut self, first: usize, column: RawColumn) {
        self.columns.push((first, column));
    }

    /// Dense inputs `[rows, d]` and provisional codes `[rows, c]` of some rows.
    pub(super) fn rows(&mut self, rows: Range<usize>) -> (&[f64], &[u32]) {
        if rows.start < self.window.start || rows.end > self.window.end {
            let end = rows.end.max(self.len.min(rows.start + WINDOW));
            self.fill(rows.start..end);
        }
        let (d, c) = self.width;
        let (start, end) = (rows.start - self.window.start, rows.end - self.window.start);
        (&self.dense[start * d..end * d], &self.codes[start * c..end * c])
    }

    /// Gathers the values of rows from all columns.
    fn fill(&mut self, rows: Range<usize>) {
        let ((d, c), n) = (self.width, rows.len());
        self.dense.resize(n * d, f64::NAN);
        self.codes.resize(n * c, NULL);
        for (first, column) in &self.columns {
            match column {
                RawColumn::Float32(array) => {
                    let places = self.dense[*first..].iter_mut().step_by(d);
                    let values = &array.values()[rows.clone()];
                    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
                        None => places.zip(values).for_each(|(place, x)| *place = f64::from(*x)),
                        Some(nulls) => {
                            for (i, (place, x)) in places.zip(values).enumerate() {
                                let known = nulls.is_valid(rows.start + i);
                                *place = if known { f64::from(*x) } else { f64::NAN };
                            }
                        }
                    }
                }
                RawColumn::Float64(array) => {
                    let places = self.dense[*first..].iter_mut().step_by(d);
                    let values = &array.values()[rows.clone()];
                    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
                        None => places.zip(values).for_each(|(place, x)| *place = *x),
                        Some(nulls) => {
                            for (i, (place, x)) in places.zip(values).enumerate() {
                                let known = nulls.is_valid(rows.start + i);
                                *place = if known { *x } else { f64::NAN };
                            }
                        }
                    }
                }
                RawColumn::Seconds(seconds) => {
                    for (row, i) in self.dense.chunks_exact_mut(d).zip(rows.clone()) {
                        let value = seconds.is_valid(i).then(|| seconds.value(i));
                        row[*first] = value.unwrap_or(f64::NAN);
                        let places = row[first + 1..first + 7].iter_mut();
                        places.zip(cycles(value)).for_each(|(place, x)| *place = f64::from(x));
                    }
                }
                RawColumn::Vectors { values, starts, n } => {
                    for (row, start) in self.dense.chunks_exact_mut(d).zip(&starts[rows.clone()]) {
                        for (i, place) in row[*first..first + n].iter_mut().enumerate() {
                            let at = start.map(|start| start + i).filter(|at| values.is_valid(*at));
                            *place = at.map_or(f64::NAN, |at| values.value(at));
                        }
                    }
                }
                RawColumn::Codes(codes) => {
                    let places = self.codes[*first..].iter_mut().step_by(c);
                    for (place, i) in places.zip(rows.clone()) {
                        *place = if codes.is_valid(i) { codes.value(i) } else { NULL };
                    }
                }
            }
        }
        self.window = rows;
    }
}
