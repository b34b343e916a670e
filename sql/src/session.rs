//! A session: SQL in, Arrow batches and events out.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::plan_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::Statement as DfStatement;
use futures::StreamExt;
use gradlake_engine::{
    Engine, EngineOptions, EventSink, MODEL_CATALOG, PredictOptions, TrainOptions, TrainRequest,
    check_layers, is_unbounded, reported, reported_schema, unbounded_table, with_warnings,
};

use crate::parsers;
use crate::relation::{PinnedModels, PredictRelation};
use crate::statements::{
    AlterModelAction, DropModel, Evaluate, Predict, Statement, Train, TransformItem,
};

/// How to open a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Folder or object-store URL of the warehouse; `./gradlake-warehouse` if absent.
    pub warehouse: Option<String>,
    /// Bytes that queries and training may reserve; 70 % of the machine's memory if absent.
    pub memory_limit: Option<usize>,
    /// Threads; the machine's cores if absent.
    pub threads: Option<usize>,
    /// Folder for spilled data; the system's temporary folder if absent.
    pub spill_folder: Option<PathBuf>,
}

/// A session on a warehouse.
///
/// ```no_run
/// # async fn example() -> datafusion::error::Result<()> {
/// use std::sync::Arc;
/// use gradlake_sql::{Session, SessionOptions};
///
/// let session = Session::open(SessionOptions::default()).await?;
/// let events = Arc::new(|event| println!("{event:?}"));
/// let rows = session
///     .collect(
///         "TRAIN MODEL price USING linear_regression TARGET price FROM 'diamonds.parquet'",
///         events,
///     )
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Session {
    pub(crate) engine: Arc<Engine>,
    pub(crate) pinned: Arc<PinnedModels>,
}

impl Session {
    /// Opens a session. The warehouse need not exist: it is created on the first write.
    ///
    /// # Errors
    /// When the warehouse's location cannot be used.
    pub async fn open(options: SessionOptions) -> Result<Self> {
        let engine = Engine::open(EngineOptions {
            warehouse: options.warehouse,
            memory_limit: options.memory_limit,
            threads: options.threads,
            spill_folder: options.spill_folder,
        })?;
        Self::on(engine)
    }

    /// A session on an engine that the caller made.
    ///
    /// # Errors
    /// When the engine's context does not accept a planner.
    pub fn on(engine: Engine) -> Result<Self> {
        let engine = Arc::new(engine);
        let pinned = Arc::new(PinnedModels::default());
        let planner = PredictRelation::new(&engine, Arc::clone(&pinned));
        engine.context().register_relation_planner(Arc::new(planner))?;
        Ok(Self { engine, pinned })
    }

    /// The engine, for programs that go beyond SQL.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Runs one statement and returns its rows. Events of a training go to `events`.
    ///
    /// Dropping the future or the stream stops a query; [`Session::interrupt`] stops a training
    /// at its next mini-batch, so that it keeps its checkpoint.
    ///
    /// # Errors
    /// One sentence that says what was wrong; see [`crate::sentence`].
    pub async fn execute(&self, sql: &str, events: EventSink) -> Result<SendableRecordBatchStream> {
        match parsers::parse_one(sql)? {
            Statement::Train(train) => {
                let request = self.request(&train, &events).await?;
                if unbounded_table(&request.query)?.is_some() {
                    return self.engine.train_stream(request, events).await;
                }
                Ok(once(self.engine.train(&request, &events).await?))
            }
            Statement::ExplainTrain(explain) => {
                let request = self.request(&explain.train, &events).await?;
                let rows =
                    gradlake_engine::explain(&self.engine, &request, explain.analyze, &events)
                        .await?;
                Ok(once(rows))
            }
            Statement::Predict(predict) => self.predict(&predict, events).await,
            Statement::Evaluate(evaluate) => self.evaluate(&evaluate, events).await,
            Statement::ShowModels => Ok(once(self.engine.show_models().await?)),
            Statement::ShowTraining => Ok(once(self.engine.show_training().await?)),
            Statement::DescribeModel(describe) => {
                let (name, version) = (&describe.name, describe.version);
                Ok(once(self.engine.describe_model(name, version).await?))
            }
            Statement::DropModel(drop) => {
                self.drop_model(&drop).await?;
                Ok(nothing())
            }
            Statement::AlterModel(alter) => {
                let store = self.engine.store();
                match &alter.action {
                    AlterModelAction::Rename(other) => store.rename(&alter.name, other).await?,
                    AlterModelAction::SetVersion(n) => store.set_version(&alter.name, *n).await?,
                }
                Ok(nothing())
            }
            Statement::DataFusion(statement) => self.query(*statement, events).await,
        }
    }

    /// Runs one statement and returns all its rows.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub async fn collect(&self, sql: &str, events: EventSink) -> Result<Vec<RecordBatch>> {
        datafusion::physical_plan::common::collect(self.execute(sql, events).await?).await
    }

    /// Splits a script into statements at the semicolons between them.
    ///
    /// # Errors
    /// When a string, quoted name or comment does not end.
    pub fn split(script: &str) -> Result<Vec<String>> {
        parsers::split(script)
    }

    /// Asks the running training of this session to stop at its next mini-batch.
    pub fn interrupt(&self) {
        self.engine.interrupt();
    }

    /// Stops the running queries of this session, for callers that drop or will drop their rows.
    /// (Dropping the future or the stream is not enough while a worker is busy with a join and does
    /// not return.)
    pub fn stop_queries(&self) {
        self.engine.stop_queries();
    }

    /// Names for completion: tables, models and columns.
    pub async fn completions(&self) -> Vec<String> {
        let mut names = self.engine.refresh_catalog().await.unwrap_or_default();
        let context = self.engine.context();
        for catalog_name in context.catalog_names() {
            let Some(catalog) = context.catalog(&catalog_name) else { continue };
            for schema_name in catalog.schema_names() {
                if schema_name == "information_schema" {
                    continue;
                }
                let Some(schema) = catalog.schema(&schema_name) else { continue };
                for table in schema.table_names() {
                    if let Ok(Some(provider)) = schema.table(&table).await {
                        names.extend(provider.schema().fields().iter().map(|f| f.name().clone()));
                    }
                    // Tables of a model are always written in full.
                    names.push(match catalog_name.as_str() {
                        MODEL_CATALOG => format!("{catalog_name}.{schema_name}.{table}"),
                        _ => table,
                    });
                }
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// A TRAIN statement with its query planned and its options checked.
    async fn request(&self, train: &Train, events: &EventSink) -> Result<TrainRequest> {
        let algorithm = train.algorithm()?;
        let options = TrainOptions::check(algorithm, &train.options)?;
        check_layers(algorithm, &train.layers)?;
        let query = self.plan(&train.source, events).await?;
        let columns: Vec<&str> =
            query.schema().fields().iter().map(|f| f.name().as_str()).collect();
        Ok(TrainRequest {
            name: train.name.clone(),
            or_replace: train.or_replace,
            if_not_exists: train.if_not_exists,
            algorithm,
            transform: TransformItem::expand(&train.transform, &columns)?,
            targets: train.targets.clone(),
            features: train.features.clone(),
            weight: train.weight.clone(),
            partition_by: train.partition_by.clone(),
            continue_from: train.continue_from.clone(),
            layers: train.layers.clone(),
            options,
            statement: train.to_string(),
            query,
        })
    }

    async fn predict(
        &self,
        predict: &Predict,
        events: EventSink,
    ) -> Result<SendableRecordBatchStream> {
        let options = PredictOptions::check(&predict.options)?;
        let scorer = self.engine.scorer(&predict.name, predict.version).await?;
        let query = self.plan(&predict.source, &events).await?;
        let is_fixed = predict.version.is_some();
        let plan = self.engine.predict(&scorer, is_fixed, options, query, &events)?;
        let stream = self.run(plan, &events).await?;
        let engine = Arc::clone(&self.engine);
        Ok(at_end(stream, move || engine.warn_of_unseen(&scorer, &events)))
    }

    async fn evaluate(
        &self,
        evaluate: &Evaluate,
        events: EventSink,
    ) -> Result<SendableRecordBatchStream> {
        let options = PredictOptions::check(&evaluate.options)?;
        let Some(source) = &evaluate.source else {
            if !evaluate.options.is_empty() {
                return plan_err!(
                    "EVALUATE without data shows the stored metrics, which options cannot change; \
                     add FROM or AS"
                );
            }
            let (name, version) = (&evaluate.name, evaluate.version);
            return Ok(once(self.engine.stored_metrics(name, version).await?));
        };
        let scorer = self.engine.scorer(&evaluate.name, evaluate.version).await?;
        let query = self.plan(source, &events).await?;
        Engine::refuse_unbounded(&query, "EVALUATE")?;
        let plan = self.engine.evaluate(&scorer, options, query)?;
        let rows = self.run(plan, &events).await?;
        let schema = reported_schema(&rows.schema(), &scorer)?;
        let (model, sink) = (Arc::clone(&scorer), Arc::clone(&events));
        let metrics = rows.map(move |rows| reported(&rows?, &model, &sink));
        let stream = Box::pin(RecordBatchStreamAdapter::new(schema, metrics));
        let engine = Arc::clone(&self.engine);
        Ok(at_end(stream, move || engine.warn_of_unseen(&scorer, &events)))
    }

    async fn drop_model(&self, drop: &DropModel) -> Result<()> {
        let store = self.engine.store();
        if drop.if_exists {
            let is_there = match drop.version {
                Some(_) => store.contains(&drop.name).await?,
                None => store.can_drop(&drop.name).await?,
            };
            if !is_there {
                return Ok(());
            }
        }
        store.drop_model(&drop.name, drop.version).await
    }

    async fn query(
        &self,
        statement: DfStatement,
        events: EventSink,
    ) -> Result<SendableRecordBatchStream> {
        if names_catalog(&statement) {
            self.engine.refresh_catalog().await?;
        }
        let models = parsers::models_of_statement(&statement)?;
        let copied = match &statement {
            DfStatement::CopyTo(copy) => Some(copy.source.to_string()),
            _ => None,
        };
        let plan = self.logical_plan(statement, &events).await?;
        if let (LogicalPlan::Copy(copy), Some(text)) = (&plan, copied)
            && is_unbounded(&copy.input)?
        {
            refuse_pinned(&copy.input)?;
            let files = self.engine.copy_stream(copy, text, &events).await?;
            return with_warnings(files, &plan, &events);
        }
        if !matches!(plan, LogicalPlan::Ddl(_)) && is_unbounded(&plan)? {
            refuse_pinned(&plan)?;
        }
        let stream = self.run(plan, &events).await?;
        let scorers: Vec<_> = models.iter().filter_map(|model| self.pinned.get(model)).collect();
        let engine = Arc::clone(&self.engine);
        Ok(at_end(stream, move || {
            for scorer in &scorers {
                engine.warn_of_unseen(scorer, &events);
            }
        }))
    }

    async fn run(
        &self,
        plan: LogicalPlan,
        events: &EventSink,
    ) -> Result<SendableRecordBatchStream> {
        let is_query = !matches!(
            plan,
            LogicalPlan::Ddl(_)
                | LogicalPlan::Dml(_)
                | LogicalPlan::Copy(_)
                | LogicalPlan::Statement(_)
        );
        if is_query && is_unbounded(&plan)? {
            return with_warnings(self.engine.run_in_order(&plan).await?, &plan, events);
        }
        if plan.exists(|node| Ok(matches!(node, LogicalPlan::Copy(_) | LogicalPlan::Dml(_))))? {
            return with_warnings(self.engine.write_files(&plan).await?, &plan, events);
        }
        let frame: DataFrame = self.engine.context().execute_logical_plan(plan.clone()).await?;
        with_warnings(frame.execute_stream().await?, &plan, events)
    }
}

/// Whether a statement may list models, so that the catalog must be refreshed.
fn names_catalog(statement: &DfStatement) -> bool {
    let text = statement.to_string().to_lowercase();
    text.contains("information_schema") || text.starts_with("show")
}

/// Refuses `predict(...)` over an unbounded table: its model would stay the one at planning.
fn refuse_pinned(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && ["predict", "predict_proba"].contains(&call.name())
                {
                    found = Some(call.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    match found {
        Some(name) => plan_err!(
            "{name}(...) does not follow the versions that are published while an unbounded table \
             is read; write FROM (PREDICT MODEL ... AS SELECT ...)"
        ),
        None => Ok(()),
    }
}

/// A batch that exists already, as a stream.
fn once(batch: RecordBatch) -> SendableRecordBatchStream {
    let schema: SchemaRef = batch.schema();
    let rows = futures::stream::once(async move { Ok(batch) });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The result of a statement that returns nothing: no rows and no columns.
fn nothing() -> SendableRecordBatchStream {
    let schema = Arc::new(arrow::datatypes::Schema::empty());
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::empty()))
}

/// A stream that runs `finish` after its last row.
fn at_end(
    stream: SendableRecordBatchStream,
    finish: impl FnOnce() + Send + 'static,
) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let end = futures::stream::once(async move { finish() }).filter_map(|()| async { None });
    Box::pin(RecordBatchStreamAdapter::new(schema, stream.chain(end)))
}
