//! How the features of a stream become numbers.

use std::ops::Range;

use datafusion::arrow::array::ArrayRef;
use datafusion::common::{Result, internal_err};
use gradlake_udfs::{Column, Encoder, RawRows, RunningEncoder, RunningState, Width};

/// How features become numbers.
#[derive(Debug)]
pub enum Features {
    /// With the statistics of the rows so far.
    Running(Box<RunningEncoder>),
    /// With the encoder of a model that is continued.
    Fixed(Box<Encoder>),
}

/// The features of rows that wait to be learned from.
#[derive(Debug, Default)]
pub struct FeatureRows {
    /// As they are, where statistics are running.
    raw: RawRows,
    /// Encoded: the rows of a mini-batch where statistics are running, otherwise all.
    dense: Vec<f32>,
    codes: Vec<u32>,
}

impl Features {
    /// Width of rows, with capacity for at least `capacity` categories.
    pub fn width(&self, capacity: usize) -> Width {
        let width = match self {
            Features::Running(running) => running.width(),
            Features::Fixed(encoder) => encoder.width(),
        };
        Width { categories: width.categories.max(capacity), ..width }
    }

    /// Reads the features of `rows` rows (flattened columns).
    ///
    /// # Errors
    /// When a column has another form than its type says.
    pub(super) fn read(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        out: &mut FeatureRows,
    ) -> Result<()> {
        match self {
            Features::Running(running) => running.read(columns, rows, &mut out.raw),
            Features::Fixed(encoder) => {
                let width = encoder.width();
                out.dense.clear();
                out.dense.resize(rows * width.dense, 0.0);
                out.codes.clear();
                out.codes.resize(rows * width.columns, 0);
                let columns: Vec<Column<'_>> = columns.iter().map(Column::Array).collect();
                encoder.encode(&columns, rows, &mut out.dense, &mut out.codes)
            }
        }
    }

    /// Counts rows in the running statistics. Returns whether there are any.
    pub(super) fn update(&mut self, rows: &mut FeatureRows, range: Range<usize>) -> bool {
        match self {
            Features::Running(running) => {
                running.update(&mut rows.raw, range);
                true
            }
            Features::Fixed(_) => false,
        }
    }

    /// The encoded rows of a range: dense numbers `[n, d]`, category indices `[n, c]`.
    pub(super) fn encode<'a>(
        &self,
        rows: &'a mut FeatureRows,
        range: Range<usize>,
    ) -> (&'a [f32], &'a [u32]) {
        let Width { dense: d, columns: c, .. } = self.width(0);
        let FeatureRows { raw, dense, codes } = rows;
        match self {
            Features::Running(running) => {
                let n = range.len();
                dense.resize(n * d, 0.0);
                codes.resize(n * c, 0);
                running.encode(raw, range, dense, codes);
                (dense, codes)
            }
            Features::Fixed(_) => {
                (&dense[range.start * d..range.end * d], &codes[range.start * c..range.end * c])
            }
        }
    }

    /// The encoder of a model as it is now, and the categories in the order in which it numbers
    /// them; None where that is the order in which they were learned.
    ///
    /// # Errors
    /// When a scale is not finite.
    pub(super) fn snapshot(&self) -> Result<(Encoder, Option<Vec<usize>>)> {
        match self {
            Features::Running(running) => {
                let (encoder, order) = running.snapshot()?;
                Ok((encoder, Some(order)))
            }
            Features::Fixed(encoder) => Ok((encoder.as_ref().clone(), None)),
        }
    }

    /// The running statistics, for a checkpoint.
    pub(super) fn state(&self) -> Option<RunningState> {
        match self {
            Features::Running(running) => Some(running.state()),
            Features::Fixed(_) => None,
        }
    }

    /// Resumes the running statistics of a checkpoint.
    ///
    /// # Errors
    /// When it has others.
    pub(super) fn restore(&mut self, saved: Option<&RunningState>) -> Result<()> {
        match (self, saved) {
            (Features::Running(running), Some(state)) => running.restore(state),
            (Features::Fixed(_), None) => Ok(()),
            _ => internal_err!("the checkpoint has other statistics"),
        }
    }
}
