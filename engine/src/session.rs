//! An engine on a warehouse: contexts for queries, the model store, and what statements do.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::catalog::{DynamicFileCatalog, TableProviderFactory, UrlTableFactory};
use datafusion::common::{Result, plan_err};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use gradlake_udfs::{
    Interrupt, LatestScorer, ParallelFor, Scorer, Sequential, StateResolver, assert_true_udf,
    predict_udfs, train_udaf,
};

use crate::catalog::{MODEL_CATALOG, ModelCatalog};
use crate::evaluation::evaluate_plan;
use crate::event::{Event, EventSink};
use crate::files::{CsvFilesFactory, GuardScans, JsonFilesFactory, ParquetFilesFactory, UrlTables};
use crate::object_stores::ObjectStores;
use crate::online::{LatestModels, RefuseEndless, is_unbounded};
use crate::operators::{DropUnusedPredictions, Planner};
use crate::prediction::{PredictOptions, Predictor, predict_plan};
use crate::registry::Registry;
use crate::row_groups::BalanceRowGroups;
use crate::source::{self, SourceTableFactory};
use crate::stopping::{Queries, StopSoon};
use crate::store::ModelStore;
use crate::table::{BLOCK_ROWS, Resources};
use crate::thread_pool::ThreadPool;

/// The warehouse where none is named.
pub const DEFAULT_WAREHOUSE: &str = "gradlake-warehouse";

/// How to open an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Folder or object-store URL of the warehouse; `./gradlake-warehouse` if absent.
    pub warehouse: Option<String>,
    /// Bytes that queries and training may reserve; 70 % of the machine's memory if absent.
    pub memory_limit: Option<usize>,
    /// Threads; the machine's cores if absent.
    pub threads: Option<usize>,
    /// Folder for spilled data; the system's temporary folder if absent.
    pub spill_folder: Option<PathBuf>,
}

/// An engine on a warehouse.
pub struct Engine {
    context: SessionContext,
    pub(crate) store: ModelStore,
    pub(crate) registry: Arc<Registry>,
    catalog: Arc<ModelCatalog>,
    pool: RwLock<Option<Arc<dyn ParallelFor>>>,
    pub(crate) interrupt: Arc<Interrupt>,
    queries: Arc<Queries>,
    pub(crate) threads: usize,
    scorers: RwLock<HashMap<(String, u64), Arc<Scorer>>>,
    pub(crate) latest: Arc<LatestModels>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens an engine. The warehouse need not exist: it is made when it is first written to.
    ///
    /// # Errors
    /// When the warehouse's location or the spill folder cannot be used.
    pub fn open(options: EngineOptions) -> Result<Self> {
        let warehouse = options.warehouse.as_deref().unwrap_or(DEFAULT_WAREHOUSE);
        let store = ModelStore::open(warehouse)?;
        Self::with_store(store, options)
    }

    /// Opens an engine on a store of the caller's making.
    pub fn with_store(store: ModelStore, options: EngineOptions) -> Result<Self> {
        let threads = options.threads.unwrap_or_else(cores).max(1);
        let limit = options.memory_limit.unwrap_or_else(default_memory_limit);
        let pool = TrackConsumersPool::new(FairSpillPool::new(limit), TOP_CONSUMERS);
        let mut disk = DiskManagerBuilder::default();
        if let Some(folder) = options.spill_folder {
            disk = disk.with_mode(DiskManagerMode::Directories(vec![folder]));
        }
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::new(ObjectStores::default()))
            .build_arc()?;
        let mut config =
            SessionConfig::new().with_information_schema(true).with_target_partitions(threads);
        // Otherwise, aggregates with many groups would build one accumulator per row.
        config.options_mut().execution.skip_partial_aggregation_probe_ratio_threshold = 1.0;
        let queries = Arc::<Queries>::default();
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&runtime))
            .with_default_features()
            .with_query_planner(Arc::new(Planner))
            .with_optimizer_rule(Arc::new(DropUnusedPredictions))
            .with_physical_optimizer_rules(RefuseEndless::rules())
            .with_physical_optimizer_rule(Arc::new(BalanceRowGroups::new(runtime)))
            .with_physical_optimizer_rule(Arc::new(StopSoon::new(Arc::clone(&queries))))
            .with_physical_optimizer_rule(Arc::new(GuardScans))
            .build();
        state.register_file_format(Arc::new(ParquetFilesFactory::default()), true)?;
        state.register_file_format(Arc::new(CsvFilesFactory::default()), true)?;
        state.register_file_format(Arc::new(JsonFilesFactory::default()), true)?;
        let tables: Arc<dyn TableProviderFactory> = Arc::new(SourceTableFactory);
        for format in source::FORMATS {
            state.table_factories_mut().insert(format.to_owned(), Arc::clone(&tables));
        }
        let context = with_url_tables(state);
        let registry = Arc::new(Registry::default());
        let resolver: Arc<dyn StateResolver> = Arc::<Registry>::clone(&registry);
        for function in predict_udfs(&resolver) {
            context.register_udf(function);
        }
        context.register_udf(assert_true_udf());
        let (name, function) = source::rejected_function();
        context.register_udtf(name, function);
        context.register_udaf(train_udaf(resolver));
        for metric in gradlake_udfs::metric_functions() {
            context.register_udaf(metric.as_ref().clone());
        }
        let catalog = Arc::new(ModelCatalog::new(store.clone()));
        context.register_catalog(MODEL_CATALOG, Arc::<ModelCatalog>::clone(&catalog));
        Ok(Self {
            context,
            store,
            registry,
            catalog,
            pool: RwLock::new(None),
            interrupt: Arc::new(Interrupt::default()),
            queries,
            threads,
            scorers: RwLock::default(),
            latest: Arc::default(),
        })
    }

    /// The context that plans and runs queries, with all functions and the models' tables.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The model store.
    pub fn store(&self) -> &ModelStore {
        &self.store
    }

    /// Asks the running training to stop at its next mini-batch.
    pub fn interrupt(&self) {
        self.interrupt.request();
    }

    /// Stops all running queries; their rows are no longer needed. (Dropping a query is enough if
    /// it returns to the runtime now and then; joins that find nothing do not.)
    pub fn stop_queries(&self) {
        self.queries.stop();
    }

    /// The state that training queries and rounds are planned with: rows keep the order in which
    /// the files hold them, whatever the number of threads, and groups are cut by position.
    pub(crate) fn training_state(&self) -> SessionState {
        let state = self.context.state();
        let mut config = state.config().clone();
        let options = config.options_mut();
        options.optimizer.enable_round_robin_repartition = false;
        options.execution.enable_file_stream_work_stealing = false;
        // Each batch of a scan is a block.
        let config = config.with_batch_size(BLOCK_ROWS);
        SessionStateBuilder::new_from_existing(state).with_config(config).build()
    }

    /// The resources that the tables of a training may use.
    pub(crate) fn resources(&self, state: &SessionState) -> Result<Resources> {
        Ok(Resources::new(state, Arc::clone(&self.interrupt), self.thread_pool()?))
    }

    /// The thread pool of trainings, whose threads are started when they are first needed.
    pub(crate) fn thread_pool(&self) -> Result<Arc<dyn ParallelFor>> {
        if self.threads == 1 {
            return Ok(Arc::new(Sequential));
        }
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pool.as_ref() {
            return Ok(Arc::clone(known));
        }
        let new: Arc<dyn ParallelFor> = ThreadPool::new(self.threads)?;
        *pool = Some(Arc::clone(&new));
        Ok(new)
    }

    /// A model ready to predict: the given version, or the one that PREDICT uses.
    pub async fn scorer(&self, name: &str, version: Option<u64>) -> Result<Arc<Scorer>> {
        let version = match version {
            Some(version) => version,
            None => self.store.current_version(name).await?,
        };
        let key = (name.to_owned(), version);
        let known = {
            let scorers = self.scorers.read().unwrap_or_else(PoisonError::into_inner);
            scorers.get(&key).cloned()
        };
        let model = self.store.load(name, Some(version)).await;
        if let (Some(scorer), Ok(model)) = (known, &model) {
            // A name can be used again after DROP: the same version must be the same model.
            if scorer.model().finished_ms == model.finished_ms {
                return Ok(scorer);
            }
        }
        let scorer = Arc::new(Scorer::new(Arc::new(model?))?);
        let mut scorers = self.scorers.write().unwrap_or_else(PoisonError::into_inner);
        scorers.retain(|(other, _), _| other != name);
        scorers.insert(key, Arc::clone(&scorer));
        Ok(scorer)
    }

    /// Pins a loaded model: from now on `predict('name', ...)` is this version.
    pub fn pin(&self, name: &str, scorer: Arc<Scorer>) {
        self.registry.pin(name, scorer);
    }

    /// Lists the models again for `information_schema` and completion.
    pub async fn refresh_catalog(&self) -> Result<Vec<String>> {
        let names: Vec<String> =
            self.store.list().await?.into_iter().map(|model| model.name).collect();
        self.catalog.set_names(names.clone());
        Ok(names)
    }

    /// The plan of PREDICT over a query. Over an unbounded table, a model whose version is not
    /// `is_fixed` uses the latest version: versions that are published meanwhile are picked up.
    pub fn predict(
        self: &Arc<Self>,
        scorer: &Arc<Scorer>,
        is_fixed: bool,
        options: PredictOptions,
        query: LogicalPlan,
        events: &EventSink,
    ) -> Result<LogicalPlan> {
        let predictor = match is_unbounded(&query)? {
            true if is_fixed => Predictor::Latest(Arc::new(LatestScorer::new(Arc::clone(scorer)))),
            true => Predictor::Latest(self.latest_of(Arc::clone(scorer), Arc::clone(events))),
            false => Predictor::Fixed(Arc::clone(scorer)),
        };
        predict_plan(&self.context.state(), query, &predictor, options)
    }

    /// The plan of EVALUATE over a query.
    pub fn evaluate(
        &self,
        scorer: &Arc<Scorer>,
        options: PredictOptions,
        query: LogicalPlan,
    ) -> Result<LogicalPlan> {
        evaluate_plan(&self.context.state(), query, scorer, options)
    }

    /// Warns of rows that had no model of their own, if there are any.
    pub fn warn_of_unseen(&self, scorer: &Scorer, events: &EventSink) {
        let unseen = scorer.take_unseen();
        if unseen > 0 {
            let model = scorer.model();
            let columns: Vec<_> = model.partition_by.iter().map(|(n, _)| n.as_str()).collect();
            let rows =
                if unseen == 1 { "1 row has".to_owned() } else { format!("{unseen} rows have") };
            events(Event::Warning(format!(
                "{rows} a {} for which model {} was not trained: NULL is predicted",
                columns.join(", "),
                model.name
            )));
        }
    }

    /// Refuses a query over an unbounded table; `what` is the statement that cannot take it.
    ///
    /// # Errors
    /// One sentence that says so.
    pub fn refuse_unbounded(plan: &LogicalPlan, what: &str) -> Result<()> {
        if is_unbounded(plan)? {
            return plan_err!(
                "the query reads an unbounded table, which TRAIN and PREDICT take, but {what} does \
                 not"
            );
        }
        Ok(())
    }
}

/// A context in which names that are not tables are locations of files.
fn with_url_tables(state: SessionState) -> SessionContext {
    let tables = Arc::new(UrlTables::default());
    let catalogs = Arc::clone(state.catalog_list());
    let factory = Arc::<UrlTables>::clone(&tables) as Arc<dyn UrlTableFactory>;
    let catalogs = Arc::new(DynamicFileCatalog::new(catalogs, factory));
    let state = SessionStateBuilder::new_from_existing(state).with_catalog_list(catalogs).build();
    let context = SessionContext::new_with_state(state);
    tables.session().with_state(context.state_weak_ref());
    context
}

/// Consumers that an error about memory names.
const TOP_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(4);

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// 70 % of the machine's memory, or 4 GiB where that cannot be read.
fn default_memory_limit() -> usize {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    });
    total.map_or(4 << 30, |kib| kib / 10 * 7 * 1024)
}
