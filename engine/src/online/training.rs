//! The loop of an online training: rows in, mini-batches learned, checkpoints saved, versions
//! published.

mod publication;
mod revision;
mod start;
mod timers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream_partitioned;
use futures::StreamExt;
use gradlake_udfs::{Interrupted, Labels, Loss, Model};

use super::checkpoint::OnlineProgress;
use super::intake::{FilteredRows, Intake};
use super::learner::{FeatureRows, OnlineLearner, Targets};
use super::query::StreamQuery;
use super::report::Rate;
use crate::clock::now_ms;
use crate::event::{Event, EventSink, Position};
use crate::options::{ClassWeights, TrainOptions};
use crate::request::TrainRequest;
use crate::session::Engine;
use crate::source::{Ledger, ROW_COLUMN, Report};
use crate::training::{Pace, TrainingColumns};

pub use publication::Publisher;
use revision::Revisions;
pub use start::check_online;
use start::{learner, parent_of};

/// How often an idle stream checks whether to stop, to save or to publish.
const TICK: Duration = Duration::from_millis(50);
/// A classifier gives up after this many rows of a single class.
const MOST_OF_ONE_CLASS: usize = 1_000_000;
/// How an online training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The input ended, or LIMIT was reached.
    Input,
    /// It was interrupted; the same statement resumes it later.
    Asked,
    /// max_seconds is used up; over an unbounded table, the same statement resumes it later.
    TimeUp,
}

/// An online training.
pub struct OnlineTraining<'a> {
    engine: &'a Engine,
    request: &'a TrainRequest,
    options: TrainOptions,
    columns: &'a TrainingColumns,
    parent: Option<&'a Model>,
    events: &'a EventSink,
    query: Option<StreamQuery>,
    ledger: Arc<Ledger>,
    intake: Intake,
    learner: Box<dyn OnlineLearner>,
    prepared: FeatureRows,
    /// Rows after the last full mini-batch.
    rest: Option<RecordBatch>,
    /// Rows that came before there were two classes.
    one_class: Vec<RecordBatch>,
    /// Rows of the source below this ordinal are consumed.
    consumed: u64,
    /// Rows of the query that may still come.
    left: Option<u64>,
    started_ms: i64,
    first_version: u64,
    saves: bool,
    saved: Instant,
    /// Rows of the source below this ordinal are in the last checkpoint.
    saved_until: u64,
    published: Instant,
    /// Rows of the last version.
    published_rows: u64,
    next_publication: Option<u64>,
    publisher: Option<Publisher>,
    version: u64,
    rate: Rate,
    pace: Pace,
    publish_on_start: bool,
    /// An earlier run may already have published what this run learns again.
    is_resumed: bool,
    revisions: Revisions,
}

impl<'a> OnlineTraining<'a> {
    /// Prepares a training; resumes from the bytes of a checkpoint if there are any.
    ///
    /// # Errors
    /// When the request does not fit online training, or the checkpoint does not fit the request.
    pub async fn new(
        engine: &'a Engine,
        request: &'a TrainRequest,
        columns: &'a TrainingColumns,
        parent: Option<&'a Model>,
        events: &'a EventSink,
        (publisher, saves): (Option<Publisher>, bool),
        checkpoint: Option<Vec<u8>>,
    ) -> Result<Self> {
        let query = StreamQuery::of(&columns.plan)?;
        let options = match &query {
            Some(_) => request.options.for_stream(parent.is_some())?,
            None => request.options.clone(),
        };
        check_online(request, &options, query.is_some())?;
        let parent_member = match parent {
            Some(parent) => Some(parent_of(parent)?),
            None => None,
        };
        let schema = columns.plan.schema().as_arrow();
        // A continued model keeps its classes, and hinge losses allow only two.
        let is_open = parent.is_none() && request.algorithm.spec().grows;
        let mut intake = Intake::new(&columns.roles, schema, 0, is_open)?;
        let mut learner = learner(engine, request, &options, columns, &intake, parent_member)?;
        if let Some(parent) = parent_member
            && let Labels::Classes(classes) = &parent.labels
        {
            intake.know(classes)?;
        }
        let state = engine.store.next_version(&request.name).await?;
        let (mut consumed, mut cursors, mut from) = (0, None, 0);
        let mut started_ms = now_ms();
        let (mut first_version, mut publish_on_start) = (state, false);
        let is_resumed = checkpoint.is_some();
        if let Some(bytes) = checkpoint {
            let (progress, state) = OnlineProgress::from_bytes(&bytes)?;
            let classes =
                progress.classes_of(columns.targets.first().map_or(&DataType::Null, |t| &t.1))?;
            intake.restore(progress.skipped.clone(), &classes)?;
            learner.resume(&progress.learner, state, classes)?;
            (consumed, from) = (progress.consumed, progress.from);
            (started_ms, first_version) = (progress.started_ms, progress.first_version);
            publish_on_start = progress.publishes;
            cursors = query.as_ref().map(|_| progress.cursors.clone());
            events(Event::Resumed { from: Position::Row(learner.counts().0) });
        }
        let seen = learner.counts().0 + intake.counted().values().sum::<u64>();
        let left =
            query.as_ref().and_then(|query| query.limit).map(|limit| limit.saturating_sub(seen));
        let ledger = Arc::new(Ledger::new(from, cursors.unwrap_or_default()));
        let rows = learner.counts().0;
        let mut training = Self {
            engine,
            request,
            columns,
            parent,
            events,
            query,
            ledger,
            intake,
            learner,
            prepared: FeatureRows::default(),
            rest: None,
            one_class: vec![],
            consumed,
            left,
            started_ms,
            first_version,
            saves,
            saved: Instant::now(),
            saved_until: consumed,
            published: Instant::now(),
            published_rows: 0,
            next_publication: None,
            publisher,
            version: first_version.saturating_sub(1),
            rate: Rate::new(rows),
            pace: Pace::default(),
            publish_on_start,
            is_resumed,
            revisions: Revisions::default(),
            options,
        };
        training.next_publication = training.publication_after(rows);
        Ok(training)
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// When the input fails, learning diverges or the store cannot be written.
    pub async fn run(&mut self) -> Result<Ended> {
        if let Some(query) = &self.query {
            let every = self.options.checkpoint_every.as_secs_f64();
            let since = format!("the last checkpoint (checkpoint_every is {every} s)");
            query.warn_of_losses(&since, self.events);
        }
        self.publish_what_was_due().await?;
        let mut input = self.open().await?;
        let deadline =
            self.options.max_seconds.map(|s| Instant::now() + Duration::from_secs_f64(s));
        let mut reported = Instant::now();
        let ended = loop {
            if self.engine.interrupt.check().is_err() {
                break Ended::Asked;
            }
            // (A training on a table learns something first: its version is its only result.)
            let may_end = self.query.is_some() || self.has_learned();
            if may_end && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break Ended::TimeUp;
            }
            if self.left == Some(0) {
                break Ended::Input;
            }
            match tokio::time::timeout(self.next_look(), input.next()).await {
                Ok(Some(batch)) => self.take(batch?).await?,
                Ok(None) => break Ended::Input,
                Err(_) => {}
            }
            self.run_timers().await?;
            self.revise()?;
            if reported.elapsed() >= Duration::from_millis(200) {
                reported = Instant::now();
                self.tell();
            }
        };
        drop(input);
        self.tell_warnings(Report::take_last_warnings);
        if ended == Ended::Input {
            self.finish().await?;
        } else if self.query.is_none() && ended == Ended::TimeUp {
            self.intake.count_skipped(self.consumed);
            (self.events)(Event::Warning(format!(
                "max_seconds is used up: the training stopped after {} rows",
                self.learner.counts().0
            )));
        } else if self.query.is_none() {
            self.save(false).await?;
            return Err(Interrupted::error());
        } else if !self.is_replayable()
            && let Some(rest) = self.rest.take()
        {
            // The source cannot send these rows again.
            self.learn(&rest).await?;
        }
        self.tell();
        Ok(ended)
    }

    /// The rows of the query from the current position of the training.
    async fn open(&self) -> Result<SendableRecordBatchStream> {
        let state = self.engine.training_state();
        let plan = match &self.query {
            Some(query) => {
                let from = self.ledger.cursors_at(self.ledger.next());
                query.numbered(&self.ledger, (!from.is_empty()).then_some(from))?
            }
            None => self.columns.plan.clone(),
        };
        let physical = match &self.query {
            Some(_) => self.engine.plan_in_order(&plan).await?,
            None => state.create_physical_plan(&plan).await?,
        };
        let mut streams = execute_stream_partitioned(physical, state.task_ctx())?;
        if streams.len() == 1
            && let Some(only) = streams.pop()
        {
            return Ok(only);
        }
        if self.query.is_some() {
            return exec_err!(
                "the query over an unbounded table gives {} partitions, which have no common order",
                streams.len()
            );
        }
        // One partition after another: that is the order of the rows.
        let Some(schema) = streams.first().map(|stream| stream.schema()) else {
            return exec_err!("the query has no partitions");
        };
        let rows = futures::stream::iter(streams).flatten();
        Ok(Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(schema, rows)))
    }

    /// Learns from a batch of the query.
    async fn take(&mut self, batch: RecordBatch) -> Result<()> {
        let mut batch = batch;
        if self.query.is_none() {
            // A table is read again from its beginning; rows that were consumed before are skipped.
            let begin = self.intake.next();
            let numbers = UInt64Array::from_iter_values(begin..begin + batch.num_rows() as u64);
            batch = with_rows(&batch, numbers)?;
        }
        let Some(numbers) = batch.column_by_name(ROW_COLUMN) else {
            return exec_err!("rows of the query have lost their numbers");
        };
        let numbers = datafusion::arrow::array::AsArray::as_primitive::<
            datafusion::arrow::datatypes::UInt64Type,
        >(numbers.as_ref())
        .values()
        .clone();
        let old = numbers.partition_point(|row| *row < self.consumed);
        let mut rows = batch.num_rows() - old;
        if let Some(left) = &mut self.left {
            rows = rows.min(*left as usize);
            *left -= rows as u64;
        }
        if old > 0 {
            self.intake.pass(numbers[old - 1]);
        }
        if rows == 0 {
            return Ok(());
        }
        let taken = self.intake.take(&batch.slice(old, rows))?;
        if taken.num_rows() == 0 {
            return Ok(());
        }
        self.push(taken).await
    }

    /// Learns from the rows that fill whole mini-batches and keeps the rest.
    async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        let mut rows = rows;
        if self.columns.roles.kind == crate::table::TargetKind::Class
            && self.learner.classes().is_empty()
        {
            self.one_class.push(rows);
            if self.intake.arrived().len() < 2 {
                let held: usize = self.one_class.iter().map(RecordBatch::num_rows).sum();
                if held > MOST_OF_ONE_CLASS {
                    return self.one_class_only();
                }
                return Ok(());
            }
            rows = concat_batches(self.intake.schema(), &std::mem::take(&mut self.one_class))?;
            self.name_first_classes()?;
        }
        let size = self.options.batch_size;
        if let Some(rest) = self.rest.take() {
            let wanted = (size - rest.num_rows()).min(rows.num_rows());
            let full = concat_batches(self.intake.schema(), [&rest, &rows.slice(0, wanted)])?;
            rows = rows.slice(wanted, rows.num_rows() - wanted);
            if full.num_rows() < size {
                self.rest = Some(full);
                return Ok(());
            }
            self.learn(&full).await?;
        }
        let full = rows.num_rows() / size * size;
        if full > 0 {
            self.learn(&rows.slice(0, full)).await?;
        }
        if full < rows.num_rows() {
            self.rest = Some(rows.slice(full, rows.num_rows() - full));
        }
        Ok(())
    }

    /// Assigns the first two classes their indices in sorted order, as on a table.
    fn name_first_classes(&mut self) -> Result<()> {
        let mut first = vec![];
        for code in self.intake.arrived().iter().take(2).copied() {
            first.push((self.intake.class(code)?, code));
        }
        first.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        for (index, (_, code)) in first.iter().enumerate() {
            self.intake.name_class(*code, index as u32);
        }
        self.learner.name_classes(first.into_iter().map(|(class, _)| class).collect());
        Ok(())
    }

    fn one_class_only<T>(&self) -> Result<T> {
        let class = match self.intake.arrived().first() {
            Some(code) => self.intake.class(*code)?.to_string(),
            None => "none".to_owned(),
        };
        exec_err!(
            "the target {} has one class only, {class}; a classifier needs two",
            self.columns.target_names()
        )
    }

    /// Learns from whole mini-batches (the last may have fewer rows).
    async fn learn(&mut self, rows: &RecordBatch) -> Result<()> {
        let taken = FilteredRows::of(rows);
        let n = rows.num_rows();
        let mut prepared = std::mem::take(&mut self.prepared);
        self.learner.prepare(taken.features, n, &mut prepared)?;
        let mut label = Vec::with_capacity(self.options.batch_size);
        let mut weight = Vec::with_capacity(self.options.batch_size);
        let mut start = 0;
        while start < n {
            let end = n.min(start + self.options.batch_size);
            label.clear();
            weight.clear();
            weight.extend_from_slice(&taken.weight[start..end]);
            let targets = match (taken.codes, taken.numbers) {
                (Some(codes), _) => {
                    for code in &codes[start..end] {
                        label.push(self.index_of(*code)? as f32);
                    }
                    self.weigh_classes(&label, &mut weight);
                    Targets::Classes(&label)
                }
                (None, Some(numbers)) => {
                    if self.learner.loss() == Some(Loss::Poisson)
                        && let Some(bad) = numbers[start..end].iter().find(|y| **y < 0.0)
                    {
                        return exec_err!(
                            "loss = 'poisson' needs a target of at least 0, but {} has {bad}",
                            self.columns.target_names()
                        );
                    }
                    Targets::Numbers(&numbers[start..end])
                }
                (None, None) => Targets::None,
            };
            self.learner.learn(&mut prepared, start..end, targets, &weight)?;
            self.consumed = taken.rows[end - 1] + 1;
            start = end;
            if let Some(next) = self.next_publication
                && self.learner.counts().0 >= next
            {
                self.next_publication = self.publication_after(self.learner.counts().0);
                if self.learner.is_ready() {
                    self.publish().await?;
                }
            }
        }
        self.prepared = prepared;
        self.check_finite()
    }

    /// The index of a class, which may be new.
    fn index_of(&mut self, code: u32) -> Result<u32> {
        if let Some(index) = self.intake.class_of(code) {
            return Ok(index);
        }
        let index = self.learner.classes().len() as u32;
        self.learner.add_class(self.intake.class(code)?);
        self.intake.name_class(code, index);
        Ok(index)
    }

    fn weigh_classes(&self, label: &[f32], weight: &mut [f32]) {
        if let ClassWeights::Map(given) = &self.options.class_weights {
            let classes = self.learner.classes();
            for (w, y) in weight.iter_mut().zip(label) {
                let name = classes[*y as usize].to_string();
                if let Some((_, factor)) = given.iter().find(|(class, _)| *class == name) {
                    *w *= *factor as f32;
                }
            }
        }
    }

    fn check_finite(&self) -> Result<()> {
        if self.learner.is_finite() {
            return Ok(());
        }
        exec_err!(
            "learning diverged after {} rows: the weights are not finite; the last published version \
             stays; try a learning_rate below {}, or optimizer = 'adam'",
            self.learner.counts().0,
            self.options.learning_rate
        )
    }

    /// At the end of the input, learns from the rows that fill no mini-batch too.
    async fn finish(&mut self) -> Result<()> {
        if !self.one_class.is_empty() {
            return self.one_class_only();
        }
        if let Some(rest) = self.rest.take() {
            self.learn(&rest).await?;
        }
        self.consumed = self.intake.next().max(self.consumed);
        self.intake.count_skipped(self.consumed);
        if self.learner.counts().0 == 0 {
            return exec_err!("{}", crate::training::no_rows(self.intake.counted()));
        }
        Ok(())
    }
}

/// A batch with the ordinals of its rows as one more column.
fn with_rows(batch: &RecordBatch, numbers: UInt64Array) -> Result<RecordBatch> {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    let mut fields: Vec<Field> =
        batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(ROW_COLUMN, DataType::UInt64, false));
    let columns = batch.columns().iter().cloned().chain([Arc::new(numbers) as _]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
