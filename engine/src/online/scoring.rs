//! PREDICT on an unbounded table: rows are scored for as long as they come, each by the version that is
//! current then.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use gradlake_udfs::scorer::Scorer;

use crate::event::{Event, EventSink};
use crate::prediction::{PredictOptions, argument_plan, free_name, output_names};
use crate::session::Engine;

/// How often the store is asked for a new version.
const POLL: Duration = Duration::from_millis(250);
/// The version that scored a row.
const MODEL_VERSION: &str = "model_version";

/// A model whose current version is followed.
struct Followed {
    scorer: RwLock<Arc<Scorer>>,
}

impl Followed {
    fn get(&self) -> Arc<Scorer> {
        Arc::clone(&self.scorer.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Engine {
    /// Scores the rows of a query over an unbounded table: its columns, those of PREDICT, and
    /// `model_version`. Versions that are published meanwhile are taken up, unless one is asked
    /// for.
    ///
    /// # Errors
    /// When the query lacks a column that the model needs.
    pub async fn predict_stream(
        self: &Arc<Self>,
        scorer: Arc<Scorer>,
        follows: bool,
        options: PredictOptions,
        query: LogicalPlan,
        events: EventSink,
    ) -> Result<SendableRecordBatchStream> {
        let state = self.context().state();
        let inputs = query.schema().fields().len();
        let plan = argument_plan(&state, query, &scorer, options)?;
        let physical = state.create_physical_plan(&plan).await?;
        let rows = execute_stream(physical, state.task_ctx())?;
        let schema = output_schema(&rows.schema(), inputs, &scorer);
        let followed = Arc::new(Followed { scorer: RwLock::new(Arc::clone(&scorer)) });
        let task = follows.then(|| AbortOnDrop(self.follow(&followed, events)));
        let output = Arc::clone(&schema);
        let scored = rows.map(move |batch| {
            // The task lives as long as the rows.
            let _own = &task;
            score(&batch?, inputs, &followed.get(), options, &output)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, scored)))
    }

    /// Looks for new versions until it is aborted.
    fn follow(
        self: &Arc<Self>,
        followed: &Arc<Followed>,
        events: EventSink,
    ) -> tokio::task::JoinHandle<()> {
        let (engine, followed) = (Arc::clone(self), Arc::clone(followed));
        tokio::spawn(async move {
            let mut refused = 0;
            loop {
                tokio::time::sleep(POLL).await;
                let now = followed.get();
                let name = &now.model().name;
                let Ok(version) = engine.store.current_version(name).await else { continue };
                if version == now.model().version || version == refused {
                    continue;
                }
                // A version that is swept away while it is read is followed by another.
                let Ok(next) = engine.scorer(name, Some(version)).await else { continue };
                if next.fields() == now.fields() && next.arguments().eq(now.arguments()) {
                    *followed.scorer.write().unwrap_or_else(PoisonError::into_inner) = next;
                } else {
                    refused = version;
                    events(Event::Warning(format!(
                        "version {version} of model {name} has other columns, so version {} goes on \
                         scoring; run the statement again",
                        now.model().version
                    )));
                }
            }
        })
    }
}

/// A task that ends with the rows that need it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn output_schema(input: &SchemaRef, inputs: usize, scorer: &Scorer) -> SchemaRef {
    let mut fields: Vec<Field> =
        input.fields().iter().take(inputs).map(|field| field.as_ref().clone()).collect();
    let mut taken = fields.iter().map(|field| field.name().clone()).collect();
    for ((_, name), field) in output_names(scorer).into_iter().zip(scorer.fields()) {
        let name = free_name(name, &mut taken);
        fields.push(Field::new(name, field.data_type().clone(), true));
    }
    fields.push(Field::new(
        free_name(MODEL_VERSION.to_owned(), &mut taken),
        DataType::UInt64,
        false,
    ));
    Arc::new(Schema::new(fields))
}

fn score(
    batch: &RecordBatch,
    inputs: usize,
    scorer: &Scorer,
    options: PredictOptions,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let (own, arguments) = batch.columns().split_at(inputs);
    let rows = batch.num_rows();
    let scored = scorer.score(arguments, rows, options.threshold)?;
    let version = scorer.model().version;
    let nulls = scored.nulls().cloned();
    let mut columns: Vec<ArrayRef> = own.to_vec();
    for column in scored.columns() {
        // What is NULL as a whole is NULL in every part.
        columns.push(match &nulls {
            None => Arc::clone(column),
            Some(nulls) => {
                let missing = datafusion::arrow::array::BooleanArray::new(!nulls.inner(), None);
                datafusion::arrow::compute::nullif(column.as_ref(), &missing)?
            }
        });
    }
    columns.push(Arc::new(UInt64Array::from_value(version, rows)));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
