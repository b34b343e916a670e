//! Reads the rows of a training: either in a single pass, which scatters rows to chunks as they are
//! read, or into a raw table, which keeps rows until all of them are known.

use std::sync::Arc;

use datafusion::common::{Result, exec_err};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use gradlake_udfs::{Outline, Shape, SplitRule, TrainingPlan, Width};

use super::columns::TrainingColumns;
use crate::event::{Event, EventSink};
use crate::pages::PageRows;
use crate::request::TrainRequest;
use crate::table::{Arrangement, RawTable, Resources, SinglePassLoad, batch_rows};

/// What a training reads.
pub enum TrainingRows {
    /// Rows as the query returns them, in groups.
    Raw(RawTable),
    /// Rows of one member, scattered to chunks; all of them train.
    SinglePassLoad(Box<SinglePassLoad>),
}

/// Reads the rows of a query: in a single pass if all of them train one member, and their columns
/// and values allow it.
pub async fn read_rows(
    physical: Arc<dyn ExecutionPlan>,
    state: &SessionState,
    request: &TrainRequest,
    columns: &TrainingColumns,
    resources: &Resources,
    events: &EventSink,
) -> Result<TrainingRows> {
    let sink = Arc::clone(events);
    let progress = move |rows| sink(Event::Reading { rows });
    let pages =
        PageRows::of(physical.as_ref(), state.runtime_env()).filter(|pages| pages.len() > 0);
    let batch_rows = batch_rows(physical.schema().fields());
    let streams = match pages {
        Some(pages) => {
            let streams = pages.streams(resources.pool().threads(), batch_rows);
            let arrange = |d, rows| arrangement(request, d, rows);
            let load =
                SinglePassLoad::read(pages, &columns.roles, arrange, resources, &progress).await?;
            if let Some(load) = load {
                return Ok(TrainingRows::SinglePassLoad(Box::new(load)));
            }
            streams
        }
        None => {
            let config = state.config().clone().with_batch_size(batch_rows);
            let context = TaskContext::from(state).with_session_config(config);
            execute_stream_partitioned(physical, Arc::new(context))?
        }
    };
    let raw = RawTable::collect(streams, &columns.roles, resources, &progress).await?;
    if raw.rows() == 0 {
        return exec_err!("{}", super::no_rows(&raw.skipped()));
    }
    Ok(TrainingRows::Raw(raw))
}

/// The arrangement of rows of `d` numbers, for two classes if the target has classes; None if some
/// rows do not train, there are several members, or a model is continued.
fn arrangement(request: &TrainRequest, d: usize, rows: u64) -> Option<Arrangement> {
    if request.continue_from.is_some() || !request.partition_by.is_empty() {
        return None;
    }
    let (options, algorithm) = (request.options.clone(), request.algorithm);
    let standardize = options.standardize;
    let names = request.targets.join(", ");
    let width = Width { dense: d, targets: request.targets.len(), ..Width::default() };
    // The shuffle, if all rows train.
    let shuffle_of = move |classes: usize| {
        let classes = (algorithm.is_classifier() && width.targets == 1).then_some(classes);
        let outline = Outline {
            options: &options,
            target: &names,
            classes,
            targets: width.targets,
            parent: None,
            layers: &[],
            encoder: None,
        };
        let description = outline.describe().ok()?;
        let shape = Shape { width, classes, rows };
        let plan = TrainingPlan::decide(&options, description.as_ref(), &shape, false);
        (plan.split == SplitRule::None).then_some(plan.shuffle)
    };
    let shuffle = shuffle_of(2)?;
    let holds = move |classes| shuffle_of(classes) == Some(shuffle);
    Some(Arrangement { shuffle, standardize, holds: Arc::new(holds) })
}

#[cfg(test)]
mod tests {
    use gradlake_udfs::Algorithm;

    use super::*;
    use crate::options::{OptionValue, TrainOptions};
    use crate::session::{Engine, EngineOptions};

    /// 20,000 rows of numbers that float32 holds (but for `d`), some of them NULL or in a struct.
    const ROWS: &str = "SELECT CAST(a AS REAL) AS a, CAST(NULLIF(b, 0.5) AS REAL) AS b, value % 97 AS n, \
        struct(CAST(a * b AS REAL), CAST(b - a AS REAL)) AS s, a / 3 AS d, \
        CAST(value % 5 AS REAL) AS w, 2 * a + b > 1.4 AS y, value % 3 AS k, \
        CAST(3 * a - b AS REAL) AS z, CAST(value % 4 AS REAL) AS p \
        FROM (SELECT value, ((value * 7919) % 1024) / 1024.0 AS a, \
                     ((value * 104729) % 512) / 512.0 AS b FROM generate_series(1, 20000) ORDER BY value)";

    fn engine(folder: &tempfile::TempDir, threads: usize) -> Engine {
        let warehouse = Some(folder.path().join("warehouse").display().to_string());
        let options =
            EngineOptions { warehouse, threads: Some(threads), ..EngineOptions::default() };
        Engine::open(options).unwrap()
    }

    async fn request(
        engine: &Engine,
        algorithm: Algorithm,
        (target, weight): (&str, bool),
        options: &[(&str, &str)],
        query: &str,
    ) -> TrainRequest {
        let value = |text: &str| match text.parse::<f64>() {
            Ok(_) => OptionValue::Number(text.to_owned()),
            Err(_) if text.starts_with('[') => {
                OptionValue::List(vec![OptionValue::Number(text.replace(['[', ']'], ""))])
            }
            Err(_) => OptionValue::Word(text.to_owned()),
        };
        let given: Vec<_> =
            options.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        TrainRequest {
            name: "m".to_owned(),
            or_replace: true,
            if_not_exists: false,
            algorithm,
            transform: vec![],
            targets: vec![target.to_owned()],
            features: None,
            weight: weight.then(|| "w".to_owned()),
            partition_by: vec![],
            continue_from: None,
            layers: vec![],
            options: TrainOptions::check(algorithm, &given).unwrap(),
            query: engine.context().sql(query).await.unwrap().into_unoptimized_plan(),
            statement: "TRAIN MODEL m".to_owned(),
        }
    }

    async fn is_single_pass(engine: &Engine, request: &TrainRequest) -> bool {
        let state = engine.training_state();
        let columns = TrainingColumns::resolve(&state, request, None).unwrap();
        let plan = state.create_physical_plan(&columns.plan).await.unwrap();
        let resources = engine.resources(&state).unwrap();
        let events: EventSink = Arc::new(|_| {});
        let rows = read_rows(plan, &state, request, &columns, &resources, &events).await.unwrap();
        matches!(rows, TrainingRows::SinglePassLoad(_))
    }

    /// Whether rows are loaded in a single pass, the columns, the algorithm, the target and whether
    /// there are weights, the options.
    type Case<'a> = (bool, &'a str, Algorithm, (&'a str, bool), &'a [(&'a str, &'a str)]);

    /// The result of a training: all parameters by their bits, the encoder, the losses.
    async fn trained(engine: &Engine, request: &TrainRequest) -> (Vec<u32>, String) {
        let events: EventSink = Arc::new(|_| {});
        engine.train(request, &events).await.unwrap();
        let model = engine.store.load("m", None).await.unwrap();
        let member = model.members[0].outcome.as_ref().unwrap();
        let parameters = member.parameters.iter().map(|value| value.to_bits()).collect();
        let rest = format!(
            "{:?} {:?} {:?} {:?} {} {:?}",
            member.encoder.features(),
            member.labels,
            member.loss,
            member.eval_loss,
            member.rows,
            member.metrics
        );
        (parameters, rest)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_single_pass_trains_as_kept_rows_do() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (engine(&folder, 1), engine(&folder, 2));
        let file = folder.path().join("rows.parquet").display().to_string();
        let copy = format!("COPY ({ROWS}) TO '{file}' STORED AS PARQUET");
        two.context().sql(&copy).await.unwrap().collect().await.unwrap();
        let all = [("split", "none"), ("epochs", "2")];
        let sgd = [("split", "none"), ("epochs", "2"), ("solver", "sgd")];
        let net = [("split", "none"), ("epochs", "1"), ("hidden", "[5]")];
        let cases: [Case<'_>; 18] = [
            (true, "a, b, n, y", Algorithm::LOGISTIC_REGRESSION, ("y", false), &[]),
            (true, "a, b, n, w, y", Algorithm::LOGISTIC_REGRESSION, ("y", true), &sgd),
            (true, "a, b, n, k", Algorithm::LOGISTIC_REGRESSION, ("k", false), &sgd),
            (true, "a, b, n, k", Algorithm::LOGISTIC_REGRESSION, ("k", false), &[]),
            (true, "a, b, y, z", Algorithm::LINEAR_REGRESSION, ("z", false), &[]),
            (true, "a, b, y, z", Algorithm::LINEAR_REGRESSION, ("z", false), &sgd),
            (
                true,
                "a, b, p",
                Algorithm::LINEAR_REGRESSION,
                ("p", false),
                &[("loss", "poisson"), ("split", "none")],
            ),
            (true, "a, b, w, y", Algorithm::LINEAR_SVM, ("y", true), &all),
            (true, "a, b, n, k", Algorithm::MLP_CLASSIFIER, ("k", false), &net),
            (true, "a, b, n, z", Algorithm::MLP_REGRESSOR, ("z", false), &net),
            (true, "b, s, a, k", Algorithm::LOGISTIC_REGRESSION, ("k", false), &sgd),
            (true, "a, a AS again, n, y", Algorithm::LINEAR_SVM, ("y", false), &all),
            // Some rows are evaluation rows.
            (false, "a, b, n, y", Algorithm::LINEAR_SVM, ("y", false), &[("epochs", "1")]),
            (false, "a, b, n, k", Algorithm::MLP_CLASSIFIER, ("k", false), &[("epochs", "1")]),
            // Numbers that float32 cannot represent, texts, a computed column.
            (false, "a, d, y", Algorithm::LINEAR_SVM, ("y", false), &all),
            (false, "a, b, d", Algorithm::LINEAR_REGRESSION, ("d", false), &[]),
            (false, "a, CAST(n AS VARCHAR) AS n, y", Algorithm::LINEAR_SVM, ("y", false), &all),
            (false, "a, b + 1 AS b, y", Algorithm::LINEAR_SVM, ("y", false), &all),
        ];
        for (single_pass, columns, algorithm, target, options) in cases {
            let plain = format!("SELECT {columns} FROM '{file}'");
            let what = format!("{algorithm} {columns} {options:?}");
            let own = request(&two, algorithm, target, options, &plain).await;
            assert_eq!(is_single_pass(&two, &own).await, single_pass, "{what}");
            let found = trained(&two, &own).await;
            assert!(found.0.iter().any(|bits| *bits != 0), "{what}");
            let own = request(&one, algorithm, target, options, &plain).await;
            assert_eq!(found, trained(&one, &own).await, "one thread and two differ: {what}");
            // A filter makes the query no plain scan, even if all rows pass.
            let filtered = format!("{plain} WHERE w < 100");
            let own = request(&two, algorithm, target, options, &filtered).await;
            assert!(!is_single_pass(&two, &own).await, "{what}");
            assert_eq!(found, trained(&two, &own).await, "{what}");
        }
    }

    /// Many classes and many numbers are too expensive for Newton's method: fields of structs
    /// count.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn numbers_of_a_struct_decide_on_the_method() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(&folder, 2);
        let file = folder.path().join("rows.parquet").display().to_string();
        let fields: Vec<_> = (0..200).map(|i| format!("CAST(value % {} AS REAL)", i + 2)).collect();
        let copy = format!(
            "COPY (SELECT struct({}) AS s, value % 10 AS k FROM generate_series(1, 3000)) TO '{file}' \
             STORED AS PARQUET",
            fields.join(", ")
        );
        engine.context().sql(&copy).await.unwrap().collect().await.unwrap();
        let query = format!("SELECT s, k FROM '{file}'");
        let options = [("epochs", "1")];
        let algorithm = Algorithm::LOGISTIC_REGRESSION;
        let own = request(&engine, algorithm, ("k", false), &options, &query).await;
        assert!(!is_single_pass(&engine, &own).await);
        let events: EventSink = Arc::new(|_| {});
        engine.train(&own, &events).await.unwrap();
        let model = engine.store.load("m", None).await.unwrap();
        assert!(model.members[0].outcome.as_ref().unwrap().rows < 3000, "no rows to evaluate on");
    }
}
