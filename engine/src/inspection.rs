//! Tables about models: SHOW MODELS, SHOW TRAINING, DESCRIBE MODEL, the stored metrics.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    UInt64Array,
};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::Result;

use crate::prediction::column_name;
use crate::session::Engine;
use crate::store::{ModelTable, Training, TrainingStatus};

impl Engine {
    /// The models of the warehouse: model, version, versions, algorithm, target, rows,
    /// published_at.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn show_models(&self) -> Result<RecordBatch> {
        let models = self.store.list().await?;
        let text = |f: &dyn Fn(&crate::store::ModelSummary) -> String| -> ArrayRef {
            Arc::new(models.iter().map(f).map(Some).collect::<StringArray>())
        };
        let number = |f: &dyn Fn(&crate::store::ModelSummary) -> u64| -> ArrayRef {
            Arc::new(models.iter().map(f).map(Some).collect::<UInt64Array>())
        };
        let published: TimestampMillisecondArray =
            models.iter().map(|m| Some(m.current.published_at)).collect();
        batch(vec![
            ("model", text(&|m| m.name.clone())),
            ("version", number(&|m| m.current.version)),
            ("versions", number(&|m| m.versions)),
            ("algorithm", text(&|m| m.current.algorithm.clone())),
            ("target", text(&|m| m.current.target.clone())),
            ("rows", number(&|m| m.current.rows)),
            ("published_at", Arc::new(published.with_timezone("UTC"))),
        ])
    }

    /// The trainings of the warehouse, in whatever process: those that run, and those that stopped
    /// and left a checkpoint, from which their statement resumes. Columns: model, state (`running`,
    /// `stopped`), started, epoch (NULL of streams), rows, rows_per_second, lag and lag_unit (what
    /// waits in the source), loss, recent_loss, checkpoint (when the last was saved), version (the
    /// last published), owner, heartbeat_age (seconds), statement.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn show_training(&self) -> Result<RecordBatch> {
        let trainings = self.store.trainings().await?;
        let text = |f: &dyn Fn(&Training) -> Option<String>| -> ArrayRef {
            Arc::new(trainings.iter().map(f).collect::<StringArray>())
        };
        let status = |training: &Training| training.status.clone();
        let number = |f: &dyn Fn(&Training) -> Option<u64>| -> ArrayRef {
            Arc::new(trainings.iter().map(f).collect::<UInt64Array>())
        };
        let float = |f: &dyn Fn(&Training) -> Option<f64>| -> ArrayRef {
            Arc::new(trainings.iter().map(f).collect::<Float64Array>())
        };
        let of_status = |f: fn(TrainingStatus) -> Option<f64>| {
            float(&move |training: &Training| status(training).and_then(f))
        };
        let time = |f: &dyn Fn(&Training) -> Option<i64>| -> ArrayRef {
            let times: TimestampMillisecondArray = trainings.iter().map(f).collect();
            Arc::new(times.with_timezone("UTC"))
        };
        let running = |training: &Training| training.status.clone().filter(|_| training.is_running);
        batch(vec![
            ("model", text(&|t| Some(t.model.clone()))),
            ("state", text(&|t| Some(if t.is_running { "running" } else { "stopped" }.to_owned()))),
            ("started", time(&|t| status(t).map(|s| s.started_ms))),
            ("epoch", number(&|t| status(t)?.epoch)),
            ("rows", number(&|t| status(t).map(|s| s.rows))),
            ("rows_per_second", float(&|t| running(t)?.rows_per_second)),
            ("lag", number(&|t| running(t)?.lag.map(|(n, _)| n))),
            ("lag_unit", text(&|t| running(t)?.lag.map(|(_, unit)| unit))),
            ("loss", of_status(|s| s.loss)),
            ("recent_loss", of_status(|s| s.recent_loss)),
            ("checkpoint", time(&|t| t.checkpoint_at)),
            ("version", number(&|t| t.version)),
            ("owner", text(&|t| t.owner.clone())),
            ("heartbeat_age", float(&|t| t.heartbeat_age)),
            ("statement", text(&|t| t.statement.clone())),
        ])
    }

    /// The columns of a model: first the arguments of `predict('name', ...)`, in order, then its
    /// results.
    ///
    /// # Errors
    /// When there is no such model or version.
    pub async fn describe_model(&self, name: &str, version: Option<u64>) -> Result<RecordBatch> {
        let scorer = self.scorer(name, version).await?;
        let mut rows: Vec<(String, String, &str)> = vec![];
        let keys = &scorer.model().partition_by;
        for (column, data_type) in scorer.arguments() {
            let is_key = keys.iter().any(|(key, _)| key == column);
            let role = if is_key { "partition" } else { "feature" };
            rows.push((column.to_owned(), data_type.to_string(), role));
        }
        for part in scorer.fields() {
            let column = column_name(scorer.model(), part.name());
            rows.push((column, part.data_type().to_string(), "prediction"));
        }
        let text = |f: &dyn Fn(&(String, String, &str)) -> String| -> ArrayRef {
            Arc::new(rows.iter().map(f).map(Some).collect::<StringArray>())
        };
        // Made by TRANSFORM from columns of the query.
        let outputs = scorer.model().transform.iter().map(|(output, _)| output);
        let outputs: HashSet<&String> = outputs.collect();
        let transformed: BooleanArray = rows
            .iter()
            .map(|(column, _, role)| Some(*role != "prediction" && outputs.contains(column)))
            .collect();
        batch(vec![
            ("column_name", text(&|r| r.0.clone())),
            ("data_type", text(&|r| r.1.clone())),
            ("role", text(&|r| r.2.to_owned())),
            ("from_transform", Arc::new(transformed)),
        ])
    }

    /// The metrics that were measured when a version was trained.
    ///
    /// # Errors
    /// When there is no such model or version.
    pub async fn stored_metrics(&self, name: &str, version: Option<u64>) -> Result<RecordBatch> {
        let mut metrics = self.store.table(name, version, ModelTable::Metrics).await?;
        // Figures of one target need no name of it.
        if let Some((place, _)) = metrics.schema().column_with_name("target")
            && metrics.column(place).null_count() == metrics.num_rows()
        {
            metrics.remove_column(place);
        }
        Ok(metrics)
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
