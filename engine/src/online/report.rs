//! The rows that the training of an unbounded table returns while it runs.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;

use gradlake_udfs::TargetRule;

use super::progressive::Progressive;

/// The columns of a row.
pub fn stream_schema() -> SchemaRef {
    let int = |name: &str, null: bool| Field::new(name, DataType::Int64, null);
    let float = |name: &str| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        Field::new("model", DataType::Utf8, false),
        int("version", false),
        int("rows", false),
        int("skipped_rows", false),
        float("loss"),
        float("recent_loss"),
        float("accuracy"),
        float("recent_accuracy"),
        float("mean_absolute_error"),
        float("recent_mean_absolute_error"),
        float("rows_per_second"),
        int("waiting", true),
    ]))
}

/// A row at a publication. `waiting` is the lag that the source reports: bytes or files.
#[derive(Debug)]
pub struct StreamRow<'a> {
    pub model: &'a str,
    pub version: u64,
    pub rows: u64,
    pub skipped: u64,
    pub progressive: &'a Progressive,
    pub target: TargetRule,
    pub rows_per_second: f64,
    pub waiting: Option<u64>,
}

impl StreamRow<'_> {
    /// The row as a batch.
    ///
    /// # Errors
    /// Never in practice.
    pub fn batch(&self) -> Result<RecordBatch> {
        let int =
            |n: Option<u64>| -> ArrayRef { Arc::new(Int64Array::from(vec![n.map(|n| n as i64)])) };
        let float = |x: Option<f64>| -> ArrayRef { Arc::new(Float64Array::from(vec![x])) };
        let (all, recent) = (self.progressive.all(), self.progressive.window());
        let of_classes = |x: Option<f64>| float(x.filter(|_| self.target.is_class()));
        let of_numbers = |x: Option<f64>| float(x.filter(|_| self.target == TargetRule::Number));
        Ok(RecordBatch::try_new(
            stream_schema(),
            vec![
                Arc::new(StringArray::from(vec![self.model])),
                int(Some(self.version)),
                int(Some(self.rows)),
                int(Some(self.skipped)),
                float(all.mean_loss()),
                float(recent.mean_loss()),
                of_classes(all.accuracy()),
                of_classes(recent.accuracy()),
                of_numbers(all.mean_absolute_error()),
                of_numbers(recent.mean_absolute_error()),
                float(Some(self.rows_per_second)),
                int(self.waiting),
            ],
        )?)
    }
}

/// Rows per second since the last call.
#[derive(Debug)]
pub struct Rate {
    since: Instant,
    rows: u64,
}

impl Rate {
    /// Starts to measure now, with `rows` rows so far.
    pub fn new(rows: u64) -> Self {
        Self { since: Instant::now(), rows }
    }

    /// Returns the rate until now and starts to measure again.
    pub fn take(&mut self, rows: u64) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let rate = rows.saturating_sub(self.rows) as f64 / seconds;
        *self = Self::new(rows);
        rate
    }
}
