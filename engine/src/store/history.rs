//! The tables `history` and `metrics`: how a training went, and how good its model is.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringBuilder, UInt32Array, UInt64Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Result;
use gradlake_udfs::{HistoryEntry, Metric, Model};
use serde::{Deserialize, Serialize};

use super::records::to_batch;
use super::tables::{Count, count_type, counts, trained, with_keys};

/// A row of `history`: the columns that a model is made of.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct HistoryRow {
    pub epoch: u64,
    pub loss: Option<f64>,
    pub eval_loss: Option<f64>,
    pub learning_rate: Option<f64>,
    pub rows: u64,
    pub duration_ms: u64,
}

impl HistoryRow {
    /// The entry that it came from.
    pub fn entry(self) -> HistoryEntry {
        HistoryEntry {
            epoch: self.epoch,
            loss: self.loss.unwrap_or(f64::NAN),
            eval_loss: self.eval_loss,
            learning_rate: self.learning_rate.unwrap_or(f64::NAN),
            rows: self.rows,
            duration_ms: self.duration_ms,
        }
    }
}

/// Rows of a member that were filtered out.
#[derive(Serialize)]
struct SkippedRows {
    skipped_rows: Vec<Count>,
}

/// The table `history`.
pub(super) fn history(model: &Model) -> Result<RecordBatch> {
    let mut member = vec![];
    let (mut epoch, mut rows, mut duration_ms) = (vec![], vec![], vec![]);
    let (mut loss, mut eval_loss, mut learning_rate) = (vec![], vec![], vec![]);
    let finite = |x: f64| Some(x).filter(|x| x.is_finite());
    // The filtered-out rows are the same for every epoch of a member, so one row per member is made
    // and then taken by index.
    let (mut skipped, mut skipped_of) = (vec![], vec![]);
    for (index, trained) in trained(model) {
        for h in &trained.history {
            epoch.push(h.epoch);
            loss.push(finite(h.loss));
            eval_loss.push(h.eval_loss.and_then(finite));
            learning_rate.push(finite(h.learning_rate));
            rows.push(h.rows);
            duration_ms.push(h.duration_ms);
        }
        member.resize(epoch.len(), index);
        skipped_of.resize(epoch.len(), skipped.len() as u32);
        skipped.push(SkippedRows { skipped_rows: counts(&trained.skipped_rows) });
    }
    let skipped_rows = Field::new("skipped_rows", count_type(), false);
    let skipped = to_batch(Arc::new(Schema::new(vec![skipped_rows.clone()])), &skipped)?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("epoch", DataType::UInt64, false),
        Field::new("loss", DataType::Float64, true),
        Field::new("eval_loss", DataType::Float64, true),
        Field::new("learning_rate", DataType::Float64, true),
        Field::new("rows", DataType::UInt64, false),
        Field::new("duration_ms", DataType::UInt64, false),
        skipped_rows,
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(epoch)),
        Arc::new(Float64Array::from(loss)),
        Arc::new(Float64Array::from(eval_loss)),
        Arc::new(Float64Array::from(learning_rate)),
        Arc::new(UInt64Array::from(rows)),
        Arc::new(UInt64Array::from(duration_ms)),
        take(skipped.column(0), &UInt32Array::from(skipped_of), None)?,
    ];
    with_keys(model, &member, &RecordBatch::try_new(schema, columns)?)
}

/// A row of `metrics`: the columns that a model is made of.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct MetricRow {
    #[serde(default)]
    pub target: Option<String>,
    pub metric: String,
    pub value: Option<f64>,
}

impl MetricRow {
    /// The figure.
    pub(super) fn metric(self) -> Metric {
        Metric { target: self.target, name: self.metric, value: self.value.unwrap_or(f64::NAN) }
    }
}

/// The table `metrics`.
pub(super) fn metrics(model: &Model) -> Result<RecordBatch> {
    let mut member = vec![];
    let (mut target, mut metric, mut measured_on) =
        (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut values = vec![];
    for (index, trained) in trained(model) {
        for Metric { target: own, name, value } in &trained.metrics {
            target.append_option(own.as_ref());
            metric.append_value(name);
            values.push(Some(*value).filter(|value| value.is_finite()));
            measured_on.append_value(&trained.metrics_on);
        }
        member.resize(values.len(), index);
    }
    let schema = Arc::new(Schema::new(vec![
        Field::new("metric", DataType::Utf8, false),
        Field::new("value", DataType::Float64, true),
        Field::new("measured_on", DataType::Utf8, false),
        Field::new("target", DataType::Utf8, true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(metric.finish()),
        Arc::new(Float64Array::from(values)),
        Arc::new(measured_on.finish()),
        Arc::new(target.finish()),
    ];
    with_keys(model, &member, &RecordBatch::try_new(schema, columns)?)
}
