//! TRAIN on an unbounded table: a task that trains, and a stream of rows that report its versions.

use std::sync::Arc;

use datafusion::common::{Result, plan_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use gradlake_udfs::Model;
use tokio::sync::mpsc;

use super::query::StreamQuery;
use super::stream_schema;
use super::training::{Ended, OnlineTraining, Publisher};
use crate::event::{Event, EventSink};
use crate::request::TrainRequest;
use crate::session::Engine;
use crate::store::{Lease, validate_name};
use crate::training::{LEASE, Monitor, TrainingColumns, already_exists};

/// Capacity of the channel of publication rows.
const WAITING: usize = 16;

impl Engine {
    /// Trains on an unbounded table for as long as rows come, and returns a row of
    /// [`stream_schema`] at each publication. [`Engine::interrupt`] ends it with a last version.
    ///
    /// # Errors
    /// When the request does not fit the table or the store. A later error is the last item of the
    /// stream.
    pub async fn train_stream(
        self: &Arc<Self>,
        request: TrainRequest,
        events: EventSink,
    ) -> Result<SendableRecordBatchStream> {
        validate_name(&request.name)?;
        let exists = self.store.contains(&request.name).await?;
        if exists && request.if_not_exists {
            let nothing = futures::stream::empty();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(stream_schema(), nothing)));
        }
        let checkpoint = self.own_checkpoint(&request, &events).await?;
        // A model that this same statement published does not prevent it from resuming.
        if exists && !request.or_replace && checkpoint.is_none() {
            return already_exists(&request.name);
        }
        let parent = self.parent(&request).await?;
        let columns = TrainingColumns::resolve(&self.training_state(), &request, parent.as_ref())?;
        if StreamQuery::of(&columns.plan)?.is_none() {
            return plan_err!("the query reads no unbounded table");
        }
        request.options.for_stream(parent.is_some())?;
        if !self.store.exists().await? {
            events(Event::Note(format!("creating the warehouse {}", self.store.location())));
        }
        let note = |text| events(Event::Note(text));
        let lease = self.store.acquire_lease(&request.name, LEASE, &note).await?;
        self.interrupt.clear();
        let (sender, mut rows) = mpsc::channel(WAITING);
        let engine = Arc::clone(self);
        let task = tokio::spawn(async move {
            let keeper = engine.store.keep_lease(&lease);
            let monitor = Monitor::start(&engine.store, &lease, &request.statement);
            let events = monitor.sink(&events);
            let _revising = engine.latest.revising(&request.name);
            let work = Work { engine: &engine, request: &request, columns: &columns, parent };
            let result = work.run(&lease, sender.clone(), &events).await;
            drop(keeper);
            monitor.end().await;
            let released = engine.store.release_lease(&lease).await;
            if let Err(error) = result.and(released) {
                // The receiver may be gone.
                let _ = sender.send(Err(error)).await;
            }
        });
        let task = AbortOnDrop(task);
        let rows = futures::stream::poll_fn(move |context| {
            let _own = &task;
            rows.poll_recv(context)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(stream_schema(), rows.boxed())))
    }
}

/// What the task of a training needs.
struct Work<'a> {
    engine: &'a Engine,
    request: &'a TrainRequest,
    columns: &'a TrainingColumns,
    parent: Option<Model>,
}

impl Work<'_> {
    async fn run(
        &self,
        lease: &Lease,
        rows: mpsc::Sender<Result<datafusion::arrow::array::RecordBatch>>,
        events: &EventSink,
    ) -> Result<()> {
        // Read under the lease: its previous holder may have saved another checkpoint.
        let saved = self.engine.store.checkpoint(&self.request.name).await?;
        let checkpoint = saved
            .filter(|saved| saved.fingerprint == self.request.fingerprint())
            .map(|saved| saved.bytes);
        let publisher = Publisher { lease: lease.clone(), rows };
        let mut training = OnlineTraining::new(
            self.engine,
            self.request,
            self.columns,
            self.parent.as_ref(),
            events,
            (Some(publisher), true),
            checkpoint,
        )
        .await?;
        events(Event::Started {
            model: self.request.name.clone(),
            member: String::new(),
            rows: 0,
            eval_rows: 0,
            epochs: 1,
            method: "every row once, as it comes".to_owned(),
        });
        let ended = training.run().await?;
        if training.has_learned() && !training.is_published().await? {
            training.publish().await?;
        }
        if ended == Ended::Input {
            self.engine.store.discard_checkpoints(&self.request.name).await?;
        }
        Ok(())
    }
}

/// Aborts a task when the stream of its rows is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
