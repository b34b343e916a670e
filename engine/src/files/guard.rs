//! Scans of files that end with one sentence, whatever a reader does with a broken file.
//!
//! Readers of formats answer damaged input with errors that do not say which file it is, and now
//! and then with a panic. A [`ScanGuard`] around a scan turns both into an error that names the
//! file.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, Statistics,
};
use futures::{FutureExt, Stream, StreamExt};

use super::listing::one_line;
use super::name_in;

thread_local! {
    /// How many guarded calls this thread is within.
    static GUARDED: Cell<usize> = const { Cell::new(0) };
}

/// Runs a closure whose panics are caught, and prints nothing about them.
fn within<T>(run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if GUARDED.get() == 0 {
                default(panic);
            }
        }));
    });
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            GUARDED.set(GUARDED.get().saturating_sub(1));
        }
    }
    GUARDED.set(GUARDED.get() + 1);
    let _leave = Leave;
    run()
}

/// The output of a future, or the message of its panic.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = std::pin::pin!(AssertUnwindSafe(future).catch_unwind());
    std::future::poll_fn(|context| within(|| future.as_mut().poll(context)))
        .await
        .map_err(|panic| message_of(panic.as_ref()))
}

/// The message of a panic, in one line.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    one_line(text.unwrap_or("without a message"))
}

/// Runs a step of reading `file`; a panic and an error of the reader name it.
///
/// # Errors
/// As the step, or when it panics.
pub(crate) fn reading<T>(file: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    attempt(step).map_err(|failure| failure.named(file))
}

fn named(file: &str, error: &DataFusionError) -> DataFusionError {
    exec_datafusion_err!("{file} cannot be read: {}", one_line(&error.strip_backtrace()))
}

/// Whether an error is about the bytes of a file, not about memory or what is computed of them.
fn is_of_reader(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::ParquetError(_)
        | DataFusionError::ObjectStore(_)
        | DataFusionError::IoError(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(
            error.as_ref(),
            ArrowError::ParquetError(_) | ArrowError::IoError(..) | ArrowError::IpcError(_)
        ),
        DataFusionError::Context(_, inner) => is_of_reader(inner),
        DataFusionError::Shared(inner) => is_of_reader(inner),
        _ => false,
    }
}

/// An optimizer rule that guards every scan of files of a plan. It is the last rule, because other
/// rules look for the scan itself.
#[derive(Debug)]
pub(crate) struct GuardScans;

impl PhysicalOptimizerRule for GuardScans {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let guarded = guarded(&node);
            Ok(guarded.map_or_else(|| Transformed::no(node), Transformed::yes))
        })
        .data()
    }

    fn name(&self) -> &str {
        "guard_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A scan of files that is guarded; None if the plan is something else.
fn guarded(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.downcast_delegate().is_some() {
        return None;
    }
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()?;
    Some(Arc::new(ScanGuard { scan: Arc::clone(plan) }))
}

/// The scan of a plan that is guarded, or else the plan as it is.
pub(crate) fn guard(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    guarded(&plan).unwrap_or(plan)
}

/// A scan of files whose panics and errors name the file. It is displayed as the scan, and behaves
/// like it.
#[derive(Debug)]
struct ScanGuard {
    scan: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for ScanGuard {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scan.fmt_as(kind, f)
    }
}

impl ExecutionPlan for ScanGuard {
    fn name(&self) -> &str {
        self.scan.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.scan.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.scan.apply_expressions(f)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { scan: Arc::clone(&self.scan).reset_state()? }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.scan.metrics()
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.scan.statistics_from_inputs(inputs, args)
    }

    fn fetch(&self) -> Option<usize> {
        self.scan.fetch()
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let files = Files { scan: Arc::clone(&self.scan), context: Arc::clone(&context) };
        let inner = attempt(|| self.scan.execute(partition, context));
        let inner = inner.map_err(|failure| failure.named(&files.any()))?;
        let schema = self.schema();
        let guarded = Guarded { inner, is_over: false };
        let rows = guarded.then(move |batch| {
            let files =
                Files { scan: Arc::clone(&files.scan), context: Arc::clone(&files.context) };
            async move {
                match batch {
                    Ok(batch) => Ok(batch),
                    Err(failure) => Err(files.named(failure).await),
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Why a step failed.
enum Failure {
    Error(DataFusionError),
    Panic(String),
}

fn attempt<T>(step: impl FnOnce() -> Result<T>) -> Result<T, Failure> {
    match within(|| catch_unwind(AssertUnwindSafe(step))) {
        Ok(result) => result.map_err(Failure::Error),
        Err(panic) => Err(Failure::Panic(message_of(panic.as_ref()))),
    }
}

impl Failure {
    fn is_of_reader(&self) -> bool {
        match self {
            Self::Error(error) => is_of_reader(error),
            Self::Panic(_) => true,
        }
    }

    fn named(self, file: &str) -> DataFusionError {
        match self {
            Self::Error(error) if is_of_reader(&error) => named(file, &error),
            Self::Error(error) => error,
            Self::Panic(message) => {
                exec_datafusion_err!("{file} cannot be read: the reader failed, {message}")
            }
        }
    }
}

/// A stream that ends after a panic or an error.
struct Guarded {
    inner: SendableRecordBatchStream,
    is_over: bool,
}

impl Stream for Guarded {
    type Item = Result<RecordBatch, Failure>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let failure = match attempt(|| Ok(this.inner.poll_next_unpin(context))) {
            Ok(Poll::Ready(Some(Err(error)))) => Failure::Error(error),
            Ok(poll) => return poll.map(|batch| batch.map(|batch| batch.map_err(Failure::Error))),
            Err(failure) => failure,
        };
        this.is_over = true;
        Poll::Ready(Some(Err(failure)))
    }
}

/// The files of a scan, to find out which of them it was.
#[derive(Clone)]
struct Files {
    scan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

impl Files {
    fn config(&self) -> Option<&FileScanConfig> {
        self.scan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref()
    }

    fn name(&self, file: &PartitionedFile) -> String {
        let url = self.config().map(|config| &config.object_store_url);
        let is_on_disk = url == Some(&ObjectStoreUrl::local_filesystem());
        name_in(is_on_disk, &file.object_meta.location)
    }

    /// One name for all of the files.
    fn any(&self) -> String {
        let files: Vec<_> = self.config().map_or_else(Vec::new, |config| {
            config.file_groups.iter().flat_map(FileGroup::iter).collect()
        });
        match files.as_slice() {
            [file] => self.name(file),
            [first, .., last] if first.object_meta.location == last.object_meta.location => {
                self.name(first)
            }
            [first, ..] => format!("one of {} and other files", self.name(first)),
            [] => "a file".to_owned(),
        }
    }

    /// A failure with the file that it is about. Where several are read, each is read alone until
    /// one fails.
    async fn named(self, failure: Failure) -> DataFusionError {
        if !failure.is_of_reader() {
            return failure.named("");
        }
        let Some(config) = self.config() else { return failure.named("a file") };
        let mut names: Vec<_> = config
            .file_groups
            .iter()
            .flat_map(FileGroup::iter)
            .map(|file| file.object_meta.location.clone())
            .collect();
        names.dedup();
        if names.len() <= 1 {
            return failure.named(&self.any());
        }
        for file in config.file_groups.iter().flat_map(FileGroup::iter) {
            let alone = FileScanConfigBuilder::from(config.clone())
                .with_file_groups(vec![FileGroup::new(vec![file.clone()])])
                .build();
            let alone = DataSourceExec::from_data_source(alone);
            let Ok(inner) = attempt(|| alone.execute(0, Arc::clone(&self.context))) else {
                return failure.named(&self.name(file));
            };
            let mut rows = Guarded { inner, is_over: false };
            while let Some(batch) = rows.next().await {
                if batch.is_err_and(|failure| failure.is_of_reader()) {
                    return failure.named(&self.name(file));
                }
            }
        }
        failure.named(&self.any())
    }
}
