//! The training aggregate in plain SQL is the one that TRAIN runs: over the encoded table it
//! reproduces a round bit for bit.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable, execute_stream_partitioned};
use gradlake_udfs::{Algorithm, Descent, Learner, Model, Progress, SgdRound, SplitRule, State};

use super::columns::TrainingColumns;
use super::rounds::RoundRunner;
use crate::event::EventSink;
use crate::options::{ClassWeights, OptionValue, TrainOptions};
use crate::request::TrainRequest;
use crate::session::{Engine, EngineOptions};
use crate::table::{EncodedTable, Encoding, RawTable, Side, Slice};

/// 1,500 rows with a number, a category and a class.
const ROWS: &str = "SELECT ((value * 7919) % 1009) / 1009.0 AS a, \
                    ['x', 'y', NULL][value % 3 + 1] AS c, \
                    ((value * 7919) % 1009) / 1009.0 + (value % 3) / 3.0 > 0.8 AS y \
                    FROM generate_series(1, 1500) ORDER BY value";

fn engine(folder: &tempfile::TempDir, threads: usize) -> Engine {
    let warehouse = Some(folder.path().join("warehouse").display().to_string());
    let options = EngineOptions { warehouse, threads: Some(threads), ..EngineOptions::default() };
    Engine::open(options).unwrap()
}

async fn request(engine: &Engine, replicas: usize) -> TrainRequest {
    let number = |n: usize| OptionValue::Number(n.to_string());
    let given = [
        ("hidden", OptionValue::List(vec![number(6)])),
        ("epochs", number(1)),
        ("replicas", number(replicas)),
        ("round_rows", number(2048)),
        ("batch_size", number(32)),
        ("seed", number(11)),
        ("split", OptionValue::Word("none".to_owned())),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    TrainRequest {
        name: "m".to_owned(),
        or_replace: true,
        if_not_exists: false,
        algorithm: Algorithm::MLP_CLASSIFIER,
        transform: vec![],
        targets: vec!["y".to_owned()],
        features: None,
        weight: None,
        partition_by: vec![],
        continue_from: None,
        layers: vec![],
        options: TrainOptions::check(Algorithm::MLP_CLASSIFIER, &given).unwrap(),
        query: engine.context().sql(ROWS).await.unwrap().into_unoptimized_plan(),
        statement: "TRAIN MODEL m".to_owned(),
    }
}

/// The training rows as TRAIN encodes them.
async fn encoded(engine: &Engine, request: &TrainRequest, model: &Model) -> Arc<EncodedTable> {
    let state = engine.training_state();
    let columns = TrainingColumns::resolve(&state, request, None).unwrap();
    let plan = state.create_physical_plan(&columns.plan).await.unwrap();
    let streams = execute_stream_partitioned(plan, state.task_ctx()).unwrap();
    let resources = engine.resources(&state).unwrap();
    let raw = RawTable::collect(streams, &columns.roles, &resources, &|_| {}).await.unwrap();
    let (_, subset) = raw.groups().remove(0);
    let mask = raw.split(&subset, &SplitRule::None).await.unwrap();
    let fitted = raw.fit(&subset, &mask, true, false).await.unwrap();
    let trained = model.members[0].outcome.as_ref().unwrap();
    let encoding = Encoding {
        encoder: &trained.encoder,
        labels: &trained.labels,
        class_weights: &ClassWeights::None,
        fitted: &fitted,
        shuffle: Some(request.options.seed),
        is_last: false,
    };
    let table = EncodedTable::encode(&raw, &subset, &mask, Side::Training, encoding).await;
    Arc::new(table.unwrap())
}

/// The [`Descent`] for the options, built by hand.
fn descent(engine: &Engine, request: &TrainRequest, model: &Model) -> Descent {
    let trained = model.members[0].outcome.as_ref().unwrap();
    let learner: Arc<dyn Learner> =
        Arc::new(trained.description.network().unwrap().network(trained.encoder.width()));
    let options = &request.options;
    Descent {
        learner,
        optimizer: options.optimizer,
        schedule: options.schedule.resolve(1, 1),
        first_step: 0,
        learning_rate: options.learning_rate as f32,
        intercept_learning_rate: options.learning_rate as f32,
        l1: 0.0,
        l2: 0.0,
        clip_norm: None,
        seed: options.seed,
        batch_size: options.batch_size,
        slices: 1,
        threads: engine.thread_pool().unwrap(),
        first_categories: trained.encoder.first_categories(),
        progress: Arc::new(Progress::default()),
        interrupt: Arc::clone(&engine.interrupt),
    }
}

/// A slice as a table.
fn provider(rows: &Slice) -> Arc<StreamingTable> {
    Arc::new(StreamingTable::try_new(rows.scan().unwrap().schema(), rows.partitions()).unwrap())
}

fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(false).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_aggregate_in_plain_sql_is_a_round_of_train() {
    let folder = tempfile::tempdir().unwrap();
    let events: EventSink = Arc::new(|_| {});
    for (threads, replicas) in [(1, 1), (2, 1), (1, 3), (2, 3)] {
        let engine = engine(&folder, threads);
        let request = request(&engine, replicas).await;
        engine.train(&request, &events).await.unwrap();
        let model = engine.store().load("m", None).await.unwrap();
        let trained = model.members[0].outcome.as_ref().unwrap();

        let table = encoded(&engine, &request, &model).await;
        assert_eq!(table.rows(), 1500);
        let order = table.epoch_order(0, request.options.seed, true);
        let rows = provider(&table.slice(&order, 0, table.rows(), replicas));
        let context = engine.context();
        context.register_table("encoded", rows).unwrap();
        let descent = Arc::new(descent(&engine, &request, &model));
        let start = Arc::new(descent.initial_state());
        let round = Arc::new(SgdRound::new(descent, Arc::clone(&start)).unwrap());
        let _known = engine.registry.register_round("m/1/0", Arc::clone(&round) as _);
        // Rows of a replica must reach one accumulator, in their order.
        let ordered = "SET datafusion.optimizer.enable_round_robin_repartition = false";
        context.sql(ordered).await.unwrap().collect().await.unwrap();
        let sql =
            "SELECT train('m/1/0', features, categories, label, weight, replica) FROM encoded";
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let state: State = round.state(batches[0].column(0).as_binary::<i64>().value(0)).unwrap();

        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        assert_ne!(bits(&state.parameters), bits(&start.parameters));
        let how = format!("{threads} threads, {replicas} replicas");
        assert_eq!(bits(&state.parameters), bits(&trained.parameters), "{how}");
        assert_eq!(bits(&state.moments), bits(&trained.moments), "{how}");
        assert_eq!(state.steps, trained.steps, "{how}");
        assert_eq!(state.rows, 1500, "{how}");

        // Rows in the order of another epoch are the values of dictionaries: their rounds, too,
        // give what the replicas give without a plan.
        let order = table.epoch_order(1, request.options.seed, true);
        let rows = table.slice(&order, 100, 1400, replicas);
        let context = engine.context();
        context.register_table("later", provider(&rows)).unwrap();
        context.sql(ordered).await.unwrap().collect().await.unwrap();
        let later = context.sql(&sql.replace("encoded", "later")).await.unwrap();
        let planned = later.clone().create_physical_plan().await.unwrap();
        let batches = later.collect().await.unwrap();
        let bytes = batches[0].column(0).as_binary::<i64>().value(0);
        assert!(bytes == rows.run(round.as_ref()).unwrap(), "{how}");

        // The same holds for the plan of rounds, which is the plan that DataFusion makes of the
        // statement.
        let runner = RoundRunner::new(&context.state(), Arc::clone(&engine.registry));
        let own = runner.plan("m/1/0", &rows).unwrap();
        assert_eq!(text(&own), text(&planned), "{how}");
        let batches = collect(own, context.task_ctx()).await.unwrap();
        assert!(bytes == batches[0].column(0).as_binary::<i64>().value(0), "{how}");

        // A round that is not registered is an error: nothing starts cold.
        let unknown = sql.replace("m/1/0", "m/1/1");
        let error = context.sql(&unknown).await.unwrap().collect().await.unwrap_err();
        assert!(error.to_string().contains("round 'm/1/1' is not known here"), "{error}");
    }
}
