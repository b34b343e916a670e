//! Other programs read the models: numpy makes the predictions of PREDICT from the warehouse's
//! Parquet files alone (`readers/predict.py`), and DuckDB, pandas and polars read every table of a
//! version as SQL does (`readers/read.py`).
//!
//! The interpreter is that of the environment variable `GRADLAKE_PYTHON`, or `python3`. Where it
//! lacks the packages of `readers/requirements.txt` these tests say that they are skipped, but
//! where the variable is set, as the gate sets it, they fail.

// Helpers of tests are tests; what agreed is printed for `--nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use common::Database;
use serde_json::{Map, Value, json};

/// Largest difference of two predictions that counts as agreement. Kernels compute in float32,
/// whose sums of a hundred terms are good to about 1e-6; numpy computes in float64.
const TOLERANCE: f64 = 1e-5;

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Predicts {
    /// Classes with probabilities, which are compared absolutely.
    Probabilities,
    /// Classes with a margin, which is compared relative to itself where it is above 1.
    Margin,
    /// Numbers, compared relative to themselves, or to the standard deviation of all predictions
    /// where that is larger: the network's output is a float32 on the scale of the standardised
    /// target, so a prediction near zero dollars is no more exact than one of an average price.
    Numbers,
}

/// How a model's predictions by gradlake and by numpy compare.
#[derive(Clone, Copy, Debug)]
struct Agreement {
    rows: i64,
    nulls: i64,
    difference: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adult_with_categories_and_nulls() {
    let Some(python) = Python::find() else { return };
    let database = Database::open().await;
    let rows = format!("SELECT * FROM '{}'", data("adult_test"));
    for (name, rest, predicts, thresholds) in [
        (
            "income",
            "logistic_regression TARGET income",
            Predicts::Probabilities,
            &[None, Some(0.25)][..],
        ),
        ("margin", "linear_svm TARGET income WITH (epochs = 2)", Predicts::Margin, &[None][..]),
    ] {
        let train = data("adult_train");
        database.rows(&format!("TRAIN MODEL {name} USING {rest} FROM '{train}'")).await;
        for threshold in thresholds {
            let own = python.agrees(&database, name, &rows, predicts, *threshold).await;
            assert_eq!((own.rows, own.nulls), (16_281, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_that_are_strings() {
    let Some(python) = Python::find() else { return };
    let database = Database::open().await;
    let train = data("adult_train");
    let sql = format!("TRAIN MODEL income USING logistic_regression TARGET income FROM '{train}'");
    database.rows(&sql).await;
    python.reads_every_table(&database, "income").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diamonds_with_categories() {
    let Some(python) = Python::find() else { return };
    let database = Database::open().await;
    let rows = format!("SELECT * FROM '{}'", data("diamonds"));
    for (name, rest) in [
        ("price", ""),
        ("raw_scale", "WITH (standardize = FALSE, intercept = FALSE)"),
        ("robust", "WITH (loss = 'huber', epochs = 1)"),
    ] {
        let sql =
            format!("TRAIN MODEL {name} USING linear_regression TARGET price {rest} AS {rows}");
        database.rows(&sql).await;
        let own = python.agrees(&database, name, &rows, Predicts::Numbers, None).await;
        assert_eq!((own.rows, own.nulls), (53_940, 0));
        python.reads_every_table(&database, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_with_an_image_column() {
    let Some(python) = Python::find() else { return };
    let database = Database::open().await;
    let rows = format!("SELECT * FROM '{}'", data("digits"));
    for (name, algorithm, rest, predicts) in [
        (
            "network",
            "mlp_classifier",
            "WITH (hidden = [64, 32], epochs = 10)",
            Predicts::Probabilities,
        ),
        ("softmax", "logistic_regression", "", Predicts::Probabilities),
        ("one_vs_rest", "linear_svm", "WITH (epochs = 5)", Predicts::Margin),
    ] {
        let sql = format!("TRAIN MODEL {name} USING {algorithm} TARGET label {rest} AS {rows}");
        database.rows(&sql).await;
        let own = python.agrees(&database, name, &rows, predicts, None).await;
        assert_eq!((own.rows, own.nulls), (1797, 0));
        python.reads_every_table(&database, name).await;
    }
}

/// A model per carrier; one that cannot be trained, one that training has not seen, and none at
/// all predict NULL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flights_with_timestamps_by_carrier() {
    let Some(python) = Python::find() else { return };
    let database = Database::open().await;
    // Without the distance, which origin and destination determine but for a mile or two: its exact
    // weights are so large that float32 keeps four digits of their sum.
    let columns = "carrier, origin, dest, dep_delay, time_hour, \
                   arr_delay, arr_delay > 15 AND carrier <> 'HA' AS late";
    let train = format!("SELECT {columns} FROM '{}' WHERE month < 7", data("flights"));
    let strangers = "CASE row_id % 1000 WHEN 0 THEN 'ZZ' WHEN 1 THEN NULL ELSE carrier END";
    let rows = format!(
        "SELECT {} FROM '{}' WHERE month >= 6",
        columns.replacen("carrier", &format!("{strangers} AS carrier"), 1),
        data("flights")
    );
    for (name, rest, dropped, predicts) in [
        ("delay", "linear_regression TARGET arr_delay", "late", Predicts::Numbers),
        ("late", "logistic_regression TARGET late", "arr_delay", Predicts::Probabilities),
        (
            "network",
            "mlp_regressor TARGET arr_delay WITH (hidden = [16], epochs = 2)",
            "late",
            Predicts::Numbers,
        ),
    ] {
        let (head, with) = rest.split_once(" WITH").unwrap_or((rest, ""));
        let with = if with.is_empty() { String::new() } else { format!("WITH{with}") };
        database
            .rows(&format!(
                "TRAIN MODEL {name} USING {head} PARTITION BY carrier {with} \
                 AS SELECT * EXCEPT ({dropped}) FROM ({train})"
            ))
            .await;
        let own = python.agrees(&database, name, &rows, predicts, None).await;
        assert!(own.nulls > 0 && own.nulls < own.rows / 50, "{name}: {own:?}");
        python.reads_every_table(&database, name).await;
    }
}

/// Every kind of column, activation and loss; two partition columns, one of them with NULL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_column_and_network() {
    use Predicts::{Margin, Numbers, Probabilities};
    let Some(python) = Python::find() else { return };
    let database = Database::open().await;
    let train = every_kind(1, 3000);
    let rows = every_kind(2000, 4000);
    for (name, algorithm, target, rest, predicts) in [
        ("linear", "linear_regression", "z", "", Numbers),
        ("counts", "linear_regression", "n", "WITH (loss = 'poisson', epochs = 2)", Numbers),
        ("two", "logistic_regression", "y", "", Probabilities),
        ("three", "logistic_regression", "k", "PARTITION BY g, h", Probabilities),
        ("dates", "logistic_regression", "d", "WITH (intercept = FALSE)", Probabilities),
        ("margin", "linear_svm", "y", "PARTITION BY g WITH (epochs = 2)", Margin),
        ("margins", "linear_svm", "k", "WITH (loss = 'squared_hinge', epochs = 2)", Margin),
        ("relu", "mlp_regressor", "z", "WITH (hidden = [16], epochs = 2)", Numbers),
        (
            "gelu",
            "mlp_classifier",
            "k",
            "WITH (hidden = [16, 8], activation = 'gelu', epochs = 2)",
            Probabilities,
        ),
        (
            "tanh",
            "mlp_regressor",
            "n",
            "WITH (hidden = [8], activation = 'tanh', loss = 'poisson', epochs = 2)",
            Numbers,
        ),
        (
            "sigmoid",
            "mlp_classifier",
            "y",
            "WITH (hidden = [8], activation = 'sigmoid', dropout = 0.2, epochs = 2)",
            Probabilities,
        ),
        (
            "elu",
            "mlp_classifier",
            "y",
            "WITH (hidden = [8], activation = 'elu', loss = 'softmax', intercept = FALSE, \
             epochs = 2)",
            Probabilities,
        ),
        (
            "identity",
            "mlp_regressor",
            "z",
            "PARTITION BY h WITH (hidden = [8, 4], activation = 'identity', epochs = 2)",
            Numbers,
        ),
        ("none", "mlp_classifier", "k", "WITH (hidden = [], epochs = 2)", Probabilities),
    ] {
        let others = ["z", "n", "y", "k", "d"].into_iter().filter(|other| *other != target);
        let sql = format!(
            "TRAIN MODEL \"{name}\" USING {algorithm} TARGET {target} {rest} \
             AS SELECT * EXCEPT ({}) FROM ({train})",
            others.collect::<Vec<_>>().join(", ")
        );
        database.rows(&sql).await;
        let own = python.agrees(&database, name, &rows, predicts, None).await;
        assert_eq!((own.rows, own.nulls), (2001, 0), "{name}");
        python.reads_every_table(&database, name).await;
    }
}

/// A version that is not the latest, a model under another name, the outputs of TRANSFORM, and what
/// is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_and_names() {
    let Some(python) = Python::find() else { return };
    let database = Database::open().await;
    let rows = format!("SELECT carat, price FROM '{}' LIMIT 500", data("diamonds"));
    for l2 in ["0", "10"] {
        let with = format!("WITH (l2 = {l2})");
        database
            .rows(&format!(
                "TRAIN OR REPLACE MODEL old USING linear_regression TARGET price {with} AS {rows}"
            ))
            .await;
    }
    database.rows("ALTER MODEL old SET VERSION 1").await;
    python.agrees(&database, "old", &rows, Predicts::Numbers, None).await;
    database.rows("ALTER MODEL old RENAME TO other").await;
    python.agrees(&database, "other", &rows, Predicts::Numbers, None).await;
    python.reads_every_table(&database, "other").await;
    database.rows("ALTER MODEL other SET VERSION 2").await;
    python.agrees(&database, "other", &rows, Predicts::Numbers, None).await;
    database
        .rows(&format!(
            "TRAIN MODEL law USING linear_regression TRANSFORM (log2(carat) AS log_carat) \
             TARGET price AS {rows}"
        ))
        .await;
    let with_output = format!("SELECT carat, log2(carat) AS log_carat FROM ({rows})");
    python.agrees(&database, "law", &with_output, Predicts::Numbers, None).await;
    python.agrees(&database, "other", &rows, Predicts::Numbers, None).await;
    for (model, options, refusal) in [
        ("law", &[][..], "log_carat, the output of the model's TRANSFORM, which"),
        ("old", &[][..], "there is no model old"),
        ("other", &["--version", "3"][..], "model other has no version 3"),
        ("other", &["--threshold", "0.1"][..], "a threshold needs a model with probabilities"),
    ] {
        let output = python.predict(&database, model, options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(refusal), "{said}");
    }
}

/// The path of a table among the examples.
fn data(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
    folder.join(format!("{name}.parquet")).display().to_string()
}

/// Rows with every kind of column that can be a feature, each with NULLs, two columns `g` and `h`
/// to partition by, and targets `z` (a number), `n` (a count), `y` (one of two), `k` (one of three)
/// and `d` (a date). Rows after 3000 have categories that the ones before have not.
fn every_kind(first: u32, last: u32) -> String {
    format!(
        "SELECT
           CASE WHEN v % 11 = 0 THEN NULL ELSE arrow_cast(v % 97 - 40, 'Int32') END AS whole,
           arrow_cast(v * 1000003, 'UInt64') AS large,
           CASE v % 29 WHEN 0 THEN 'NaN'::DOUBLE WHEN 1 THEN 'Infinity'::DOUBLE
                       WHEN 2 THEN NULL ELSE a END AS fraction,
           arrow_cast(a * b, 'Float32') AS single,
           CASE WHEN v % 12 = 0 THEN NULL
                ELSE arrow_cast(b * 1000, 'Decimal128(12, 3)') END AS money,
           CASE WHEN v % 7 = 0 THEN NULL ELSE v % 3 = 0 END AS flag,
           7 AS constant,
           CASE WHEN v % 23 = 0 THEN NULL WHEN v > 3000 AND v % 5 = 0 THEN 'violet'
                ELSE ['red', 'green', 'blue', ''][v % 4 + 1] END AS text,
           arrow_cast(CASE WHEN v % 19 = 0 THEN NULL ELSE concat('c', v % 6) END,
                      'Dictionary(Int32, Utf8)') AS packed,
           CASE WHEN v > 3000 AND v % 17 = 0 THEN NULL
                ELSE concat('never null in training ', v % 2) END AS late_null,
           CASE WHEN v % 31 = 0 THEN NULL
                ELSE arrow_cast(arrow_cast(v % 40 - 20, 'Int32'), 'Date32') END AS day,
           arrow_cast(arrow_cast(v % 9 * 86400000, 'Int64'), 'Date64') AS day64,
           CASE WHEN v % 37 = 0 THEN NULL
                ELSE arrow_cast(v * 1234567 - 2000000000, 'Timestamp(Millisecond, None)') END AS at,
           arrow_cast(v * 1000000 - 2000000000, 'Timestamp(Second, None)') AS at_second,
           arrow_cast(v * 8640000123456, 'Timestamp(Microsecond, Some(\"UTC\"))') AS at_zone,
           arrow_cast(-v * 86400000000001, 'Timestamp(Nanosecond, None)') AS at_nano,
           CASE WHEN v % 41 = 0 THEN NULL
                ELSE [a, CASE WHEN v % 5 = 0 THEN NULL ELSE b END, a - b] END AS list,
           arrow_cast([v % 200, v % 13, v % 2], 'FixedSizeList(3, UInt8)') AS pixels,
           CASE WHEN v % 43 = 0 THEN NULL ELSE named_struct(
             'x', a + b,
             'inner', named_struct(
               'word', concat('w', v % 3),
               'at', arrow_cast(v * 3600000, 'Timestamp(Millisecond, None)'))) END AS nested,
           CASE WHEN v % 3 = 0 THEN NULL ELSE concat('g', v % 3) END AS g,
           arrow_cast(v % 2, 'Int16') AS h,
           arrow_cast(3 * a - b + (v % 4) * 0.2, 'Float32') AS z,
           v % 5 + arrow_cast(4 * a, 'Int64') AS n,
           a + 2 * b + noise > 1.5 AS y,
           CASE WHEN a > 0.6 THEN 3 WHEN a + b > 0.8 THEN 2 ELSE 1 END AS k,
           CASE WHEN a + noise > 0.5 THEN DATE '2024-02-29' ELSE DATE '1969-07-20' END AS d
         FROM (SELECT value AS v, ((value * 7919) % 10007) / 10007.0 AS a,
                      ((value * 104729) % 10009) / 10009.0 AS b,
                      ((value * 15485863) % 1009) / 1009.0 - 0.5 AS noise
               FROM generate_series({first}, {last}) ORDER BY value)"
    )
}

/// A Python interpreter with what the programs need.
struct Python(PathBuf);

impl Python {
    /// The interpreter, or None after saying why these tests are skipped.
    fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
        let find = || {
            let named = std::env::var_os("GRADLAKE_PYTHON").map(PathBuf::from);
            let is_named = named.is_some();
            let path = named.unwrap_or_else(|| "python3".into());
            let mut probe = Command::new(&path);
            let reason = match probe.args(["-c", "import numpy, pyarrow, duckdb"]).output() {
                Ok(output) if output.status.success() => return Some(path),
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    said.lines().last().unwrap_or("it says nothing").to_owned()
                }
                Err(error) => error.to_string(),
            };
            assert!(
                !is_named,
                "GRADLAKE_PYTHON names {}, which cannot import numpy, pyarrow and duckdb: {reason}",
                path.display()
            );
            // Past the capture of tests, so that it can be seen.
            let mut stderr = std::io::stderr().lock();
            let written = writeln!(
                stderr,
                "SKIPPED: the tests of sql/tests/readers.rs, because {} cannot import numpy, \
                 pyarrow and duckdb ({reason}); install sql/tests/readers/requirements.txt and \
                 name the interpreter in GRADLAKE_PYTHON",
                path.display()
            );
            written.unwrap();
            None
        };
        FOUND.get_or_init(find).clone().map(Python)
    }

    /// Runs a program of `readers/`.
    fn run(&self, program: &str, arguments: &[&str]) -> std::process::Output {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers");
        let mut command = Command::new(&self.0);
        // -B: no compiled files beside the sources.
        command.arg("-B").arg(folder.join(program)).args(arguments).output().unwrap()
    }

    /// `predict.py` from `rows.parquet` to `numpy.parquet` in the database's folder.
    fn predict(&self, database: &Database, model: &str, options: &[&str]) -> std::process::Output {
        let path = |name: &str| database.path(name).display().to_string();
        let (warehouse, rows, output) =
            (path("warehouse"), path("rows.parquet"), path("numpy.parquet"));
        let arguments = [warehouse.as_str(), model, &rows, &output];
        self.run("predict.py", &[&arguments, options].concat())
    }

    /// Predicts the rows of a query with PREDICT and with numpy, and asserts that they agree.
    async fn agrees(
        &self,
        database: &Database,
        model: &str,
        query: &str,
        predicts: Predicts,
        threshold: Option<f64>,
    ) -> Agreement {
        let path = |name: &str| database.path(name).display().to_string();
        let (rows, ours, theirs) =
            (path("rows.parquet"), path("gradlake.parquet"), path("numpy.parquet"));
        let numbered = format!("SELECT row_number() OVER () AS line, * FROM ({query})");
        database.rows(&format!("COPY ({numbered}) TO '{rows}' STORED AS PARQUET")).await;
        let with = threshold.map_or(String::new(), |t| format!("WITH (threshold = {t})"));
        database
            .rows(&format!(
                "COPY (PREDICT MODEL \"{model}\" {with} FROM '{rows}') TO '{ours}' \
                 STORED AS PARQUET"
            ))
            .await;
        let text = threshold.map(|t| t.to_string());
        let options: Vec<&str> = text.iter().flat_map(|t| ["--threshold", t.as_str()]).collect();
        let output = self.predict(database, model, &options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "predict.py {model}: {said}");
        let own = compare(database, &ours, &theirs, predicts).await;
        let all = database.number(&format!("SELECT count(*) FROM '{rows}'")).await;
        assert_eq!(own.rows as f64, all, "{model}: rows are missing");
        assert!(own.difference <= TOLERANCE, "{model} {predicts:?}: {own:?}");
        println!(
            "{model} {with}: {predicts:?} of {} rows differ by {:e}",
            own.rows, own.difference
        );
        own
    }

    /// Asserts that DuckDB, pandas and polars find in every table what SQL finds.
    async fn reads_every_table(&self, database: &Database, model: &str) {
        let mut expected = Map::new();
        for table in [
            "manifest",
            "members",
            "features",
            "parameters",
            "weights",
            "optimizer",
            "history",
            "metrics",
            "versions",
        ] {
            // The table of versions is made from the log.
            let (name, left_out): (&str, &[&str]) = match table {
                "versions" => ("log", &["is_current", "bytes"]),
                own => (own, &[]),
            };
            let facts = facts(database, &format!("model.\"{model}\".{table}"), left_out).await;
            expected.insert(name.to_owned(), facts);
        }
        let file = database.path("expected.json");
        std::fs::write(&file, Value::Object(expected).to_string()).unwrap();
        let warehouse = database.path("warehouse").display().to_string();
        let output = self.run("read.py", &[&warehouse, model, &file.display().to_string()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "read.py {model}: {said}");
        println!("{model}: {}", String::from_utf8_lossy(&output.stdout).replace('\n', "; "));
    }
}

/// Compares two files of predictions, whose rows have a number `line`.
async fn compare(database: &Database, ours: &str, theirs: &str, predicts: Predicts) -> Agreement {
    let columns = database.rows(&format!("SELECT * FROM '{ours}' LIMIT 0")).await.schema();
    let other = database.rows(&format!("SELECT * FROM '{theirs}' LIMIT 0")).await.schema();
    let names = |schema: &arrow::datatypes::Schema| -> Vec<String> {
        schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    assert_eq!(names(&columns), names(&other));
    let label = names(&columns).into_iter().find(|name| name.starts_with("predicted_")).unwrap();
    let joined = format!("'{ours}' AS a JOIN '{theirs}' AS b ON a.line = b.line");
    let difference = match predicts {
        Predicts::Numbers => {
            let spread = format!("(SELECT stddev(\"{label}\") FROM '{ours}')");
            format!(
                "SELECT max(abs(a.\"{label}\" - b.\"{label}\") / greatest(abs(a.\"{label}\"), \
                 {spread})) FROM {joined}"
            )
        }
        Predicts::Margin => format!(
            "SELECT max(abs(a.\"{label}_score\" - b.\"{label}_score\") / \
             greatest(abs(a.\"{label}_score\"), 1)) FROM {joined}"
        ),
        Predicts::Probabilities => {
            let pairs = |file: &str| {
                format!(
                    "(SELECT line, p['label'] AS label, p['prob'] AS prob FROM \
                     (SELECT line, unnest(\"{label}_probs\") AS p FROM '{file}'))"
                )
            };
            // A pair that one of them lacks counts as all the difference that there can be.
            format!(
                "SELECT max(coalesce(abs(a.prob - b.prob), 1)) FROM {} AS a FULL JOIN {} AS b \
                 ON a.line = b.line AND a.label = b.label",
                pairs(ours),
                pairs(theirs)
            )
        }
    };
    let difference = database.number(&difference).await;
    // Numbers compare by their difference, but for which of them are NULL.
    let differs = match predicts {
        Predicts::Numbers => format!("(a.\"{label}\" IS NULL) <> (b.\"{label}\" IS NULL)"),
        _ => format!("a.\"{label}\" IS DISTINCT FROM b.\"{label}\""),
    };
    let counts = database
        .rows(&format!(
            "SELECT count(*), count(*) FILTER (WHERE a.\"{label}\" IS NULL), \
             count(*) FILTER (WHERE {differs}) FROM {joined}"
        ))
        .await;
    let count = |i: usize| counts.column(i).as_primitive::<Int64Type>().value(0);
    assert_eq!(count(2), 0, "labels differ");
    Agreement { rows: count(0), nulls: count(1), difference }
}

/// What SQL says of a table, in the form that `read.py` takes.
async fn facts(database: &Database, table: &str, left_out: &[&str]) -> Value {
    let all = database.rows(&format!("SELECT * FROM {table}")).await;
    let mut columns = vec![];
    for field in all.schema().fields() {
        let (name, quoted) = (field.name(), format!("\"{}\"", field.name()));
        if left_out.contains(&name.as_str()) {
            continue;
        }
        let mut own = Map::new();
        let counted = format!("SELECT count({quoted}) FROM {table}");
        own.insert("count".to_owned(), json!(database.number(&counted).await as u64));
        let (values, item) = match field.data_type() {
            DataType::List(item) => {
                let values = format!("(SELECT unnest({quoted}) AS {quoted} FROM {table})");
                let elements = database.number(&format!("SELECT count(*) FROM {values}")).await;
                own.insert("elements".to_owned(), json!(elements as u64));
                (values, item.data_type().clone())
            }
            other => (table.to_owned(), other.clone()),
        };
        if item.is_numeric() {
            let sums = database
                .rows(&format!(
                    "SELECT coalesce(sum(v), 0), coalesce(sum(abs(v)), 0) \
                     FROM (SELECT CAST({quoted} AS DOUBLE) AS v FROM {values})"
                ))
                .await;
            for (i, fact) in ["sum", "magnitude"].into_iter().enumerate() {
                own.insert(fact.to_owned(), json!(number(&sums, i)));
            }
        }
        columns.push(json!([name, own]));
    }
    json!({ "rows": all.num_rows(), "columns": columns })
}

/// The number in a column of a batch of one row.
fn number(batch: &RecordBatch, column: usize) -> f64 {
    batch.column(column).as_primitive::<Float64Type>().value(0)
}
