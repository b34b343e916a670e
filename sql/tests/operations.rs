//! Streams in operation: trainings seen from elsewhere, warnings, rows that are no rows, clocks
//! that run backwards, checkpoints of others and damaged ones.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, UInt64Type};
use arrow::util::display::array_value_to_string;
use common::{Database, create_parts, gradlake, run, succeed, write_parts};
use gradlake_engine::{Event, Position, failpoints};

/// Beyond this a condition counts as never met.
const PATIENCE: Duration = Duration::from_secs(60);

async fn database() -> Database {
    Database::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await
}

fn endless(folder: &Path) -> String {
    create_parts(folder).replace("'end' 'when_empty', ", "")
}

fn shell(folder: &Path, statements: &[&str]) -> Child {
    let mut command = gradlake(folder);
    command.args(["--format", "csv", "-q"]);
    for sql in statements {
        command.args(["-c", sql]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

fn cell(rows: &RecordBatch, column: &str) -> Option<String> {
    let column = rows.column_by_name(column).unwrap();
    column.is_valid(0).then(|| array_value_to_string(column, 0).unwrap())
}

/// SHOW TRAINING, once it has what is waited for.
async fn shown(database: &Database, what: impl Fn(&RecordBatch) -> bool) -> RecordBatch {
    let begun = Instant::now();
    loop {
        let rows = database.rows("SHOW TRAINING").await;
        if what(&rows) {
            return rows;
        }
        assert!(begun.elapsed() < PATIENCE, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The same, while `child` runs.
async fn shown_of(
    database: &Database,
    child: &mut Child,
    what: impl Fn(&RecordBatch) -> bool,
) -> RecordBatch {
    let begun = Instant::now();
    loop {
        let rows = database.rows("SHOW TRAINING").await;
        if what(&rows) {
            return rows;
        }
        let ended = child.try_wait().unwrap();
        if ended.is_some() || begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("{ended:?} {said} {rows:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const STREAM: &str = "TRAIN MODEL m USING logistic_regression TARGET y \
    WITH (batch_size = 4, publish_every = '400 rows', checkpoint_every = 0) \
    AS SELECT a, b, c, y FROM parts";

#[tokio::test]
async fn a_training_is_seen_from_another_shell() {
    let database = database().await;
    write_parts(&database, 3, 200).await;
    let folder = database.folder.path();
    assert_eq!(database.rows("SHOW TRAINING").await.num_rows(), 0);
    let mut child = shell(folder, &[&endless(folder), STREAM]);
    let is_read = |rows: &RecordBatch| {
        rows.num_rows() == 1 && cell(rows, "rows").is_some_and(|rows| rows == "600")
    };
    let rows = shown_of(&database, &mut child, is_read).await;
    for (column, value) in [
        ("model", "m"),
        ("state", "running"),
        ("lag", "0"),
        ("lag_unit", "files"),
        ("version", "1"),
    ] {
        assert_eq!(cell(&rows, column).as_deref(), Some(value), "{column}");
    }
    for column in ["started", "rows_per_second", "loss", "recent_loss", "checkpoint"] {
        assert!(cell(&rows, column).is_some(), "{column}");
    }
    assert_eq!(cell(&rows, "epoch"), None);
    let owner = cell(&rows, "owner").unwrap();
    assert!(owner.contains(&format!(":{}:", child.id())), "{owner}");
    let age = rows.column_by_name("heartbeat_age").unwrap().as_primitive::<Float64Type>().value(0);
    assert!((0.0..60.0).contains(&age), "{age}");
    let statement = cell(&rows, "statement").unwrap();
    assert!(
        statement.starts_with("TRAIN MODEL m USING logistic_regression TARGET y"),
        "{statement}"
    );

    let other = "TRAIN OR REPLACE MODEL m USING linear_regression TARGET z \
                 AS SELECT a, z FROM numbered";
    let error = database.error(other).await;
    assert!(error.contains(&format!("model m is being trained by {owner}")), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    let rows = shown(&database, |rows| cell(rows, "state").is_some_and(|s| s == "stopped")).await;
    assert_eq!(cell(&rows, "rows").as_deref(), Some("600"));
    assert_eq!(cell(&rows, "rows_per_second"), None);
    assert_eq!(cell(&rows, "heartbeat_age"), None);
    assert_eq!(cell(&rows, "statement"), Some(statement.clone()));

    // The statement that it shows goes on, to the end of the folder.
    succeed(folder, &[&create_parts(folder), &statement]);
    assert_eq!(database.rows("SHOW TRAININGS").await.num_rows(), 0);
    assert_eq!(database.number("SELECT rows FROM model.m.manifest").await, 600.0);
    let left = std::fs::read_dir(folder.join("warehouse/models/m/lease")).unwrap();
    assert_eq!(left.count(), 0, "files of leases");
}

/// A training on a table has epochs; Ctrl-C leaves its checkpoint.
#[tokio::test]
async fn a_training_on_a_table_is_seen_too() {
    let database = database().await;
    let file = database.path("rows.parquet");
    common::write_rows(&file, 3000).await;
    let train = format!(
        "TRAIN MODEL m USING logistic_regression TARGET y WITH (epochs = 1000000, \
         early_stop = FALSE, checkpoint_every = 0) FROM '{}'",
        file.display()
    );
    let mut child = shell(database.folder.path(), &[&train]);
    let rows = shown(&database, |rows| {
        rows.num_rows() == 1
            && cell(rows, "epoch").is_some_and(|epoch| epoch.parse::<u64>().unwrap() > 2)
            && cell(rows, "checkpoint").is_some()
    })
    .await;
    let number =
        |name: &str| rows.column_by_name(name).unwrap().as_primitive::<UInt64Type>().value(0);
    assert!(number("rows") > 2000 * number("epoch") / 2, "{rows:?}");
    assert!(cell(&rows, "loss").is_some() && cell(&rows, "lag").is_none());
    assert_eq!(cell(&rows, "version"), None);
    interrupt(&child);
    child.wait().unwrap();
    let rows = database.rows("SHOW TRAINING").await;
    assert_eq!(cell(&rows, "state").as_deref(), Some("stopped"));
    assert_eq!(cell(&rows, "owner"), None);
    database.rows("TRAIN OR REPLACE MODEL m USING linear_regression TARGET z AS SELECT 1.0 AS x, 2.0 AS z UNION ALL SELECT 2, 3").await;
    assert_eq!(database.rows("SHOW TRAINING").await.num_rows(), 0);
}

/// DROP MODEL takes a checkpoint away that has no model yet, but not under a training that runs.
#[tokio::test]
async fn a_checkpoint_without_a_model_can_be_dropped() {
    let database = database().await;
    write_parts(&database, 1, 400).await;
    let folder = database.folder.path();
    let table = "TRAIN MODEL m USING mlp_classifier TARGET y WITH (epochs = 1000000, \
                 early_stop = FALSE, split = 'none', checkpoint_every = 0) FROM 'all.parquet'";
    let stream = "TRAIN MODEL m USING logistic_regression TARGET y \
                  WITH (publish_every = '1000000 rows', checkpoint_every = 0) \
                  AS SELECT a, b, c, y FROM parts";
    for statements in [vec![table.to_owned()], vec![endless(folder), stream.to_owned()]] {
        for drop in ["DROP MODEL m", "DROP MODEL IF EXISTS m"] {
            let statements: Vec<_> = statements.iter().map(String::as_str).collect();
            let mut child = shell(folder, &statements);
            let has_checkpoint =
                |rows: &RecordBatch| rows.num_rows() == 1 && cell(rows, "checkpoint").is_some();
            shown_of(&database, &mut child, has_checkpoint).await;
            let error = database.error(drop).await;
            assert!(error.contains("model m is being trained by "), "{error}");
            assert!(error.ends_with("; it can be dropped afterwards"), "{error}");
            child.kill().unwrap();
            child.wait().unwrap();
            let has_stopped = |rows: &RecordBatch| {
                rows.num_rows() == 1 && cell(rows, "state").unwrap() == "stopped"
            };
            let rows = shown(&database, has_stopped).await;
            assert_eq!(cell(&rows, "version"), None);
            let error = database.error("DROP MODEL m VERSION 1").await;
            assert!(error.contains("there is no model m"), "{error}");
            database.rows("DROP MODEL IF EXISTS m VERSION 1").await;
            assert_eq!(database.rows("SHOW TRAINING").await.num_rows(), 1);
            database.rows(drop).await;
            assert_eq!(database.rows("SHOW TRAINING").await.num_rows(), 0);
            let error = database.error("DROP MODEL m").await;
            assert!(error.contains("there is no model m"), "{error}");
            database.rows("DROP MODEL IF EXISTS m").await;
        }
    }
    // Nothing is in the way of another statement.
    let train = "TRAIN MODEL m USING linear_regression TARGET z AS SELECT a, z FROM numbered";
    database.rows(train).await;
}

/// `timeout` signals the process and its group: two signals of one Ctrl-C, and what was taken up is
/// kept.
#[tokio::test]
async fn two_signals_at_once_lose_no_row() {
    let database = database().await;
    let fifo = database.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let create = "CREATE UNBOUNDED EXTERNAL TABLE s (x DOUBLE, y DOUBLE) STORED AS JSON \
                  LOCATION 'fifo'";
    let train = "TRAIN MODEL m USING linear_regression TARGET y \
                 WITH (batch_size = 300, publish_every = '1000000 rows') FROM s";
    let child = shell(database.folder.path(), &[create, train]);
    // It stays open until the end.
    let mut producer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    for i in 0..400 {
        writeln!(producer, "{{\"x\": {}, \"y\": {}}}", f64::from(i) / 100.0, f64::from(i) / 50.0)
            .unwrap();
    }
    let is_read = |rows: &RecordBatch| {
        rows.num_rows() == 1 && cell(rows, "rows").is_some_and(|rows| rows == "300")
    };
    shown(&database, is_read).await;
    // The rest waits for a mini-batch.
    tokio::time::sleep(Duration::from_millis(500)).await;
    interrupt(&child);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches("error").count(), 0, "{output:?}");
    assert_eq!(database.number("SELECT max(rows) AS rows FROM model.m.versions").await, 400.0);
}

/// A second Ctrl-C drops the statement; the same process may train again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_statement_lets_go_of_its_lease() {
    let database = database().await;
    write_parts(&database, 1, 100).await;
    database.rows(&endless(database.folder.path())).await;
    let stream = database.session.execute(STREAM, Arc::new(|_| {})).await.unwrap();
    shown(&database, |rows| rows.num_rows() == 1).await;
    let error = database.error(STREAM).await;
    assert!(error.contains("model m is being trained by"), "{error}");
    drop(stream);
    let begun = Instant::now();
    while database.session.execute(STREAM, Arc::new(|_| {})).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the lease is still held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What metrics do not show is told.
#[tokio::test]
async fn an_evaluation_tells_of_rows_that_it_cannot_measure() {
    let database = Database::open().await;
    for train in [
        "TRAIN MODEL m USING logistic_regression TARGET k AS SELECT value AS x, \
         CASE WHEN value % 2 = 0 THEN 'a' ELSE 'b' END AS k FROM generate_series(1, 50)",
        "TRAIN MODEL n USING linear_regression TARGET y AS SELECT value AS x, value AS y \
         FROM generate_series(1, 9)",
    ] {
        database.rows(train).await;
    }
    database.events();
    let rows = "SELECT 1 AS x, 'a' AS k UNION ALL SELECT 2, 'A' UNION ALL SELECT 3, 'B'";
    for (query, expected) in [
        ("EVALUATE MODEL m AS SELECT 1 AS x, 'a' AS k".to_owned(), vec![]),
        (
            "EVALUATE MODEL m AS SELECT 1 AS x, 'a' AS k WHERE false".to_owned(),
            vec!["the query gives no rows: nothing is measured"],
        ),
        (
            format!("EVALUATE MODEL m AS {rows}"),
            vec![
                "2 rows have a k that model m was not trained on, such as 'A': it never predicts \
                 that",
            ],
        ),
        (
            format!("EVALUATE MODEL m AS {rows} UNION ALL SELECT 3, NULL"),
            vec![
                "1 row has no k (NULL) and is left out",
                "2 rows have a k that model m was not trained on, such as 'A': it never predicts \
                 that",
            ],
        ),
        (
            "EVALUATE MODEL n AS SELECT 1 AS x, CAST(NULL AS DOUBLE) AS y FROM (VALUES (1), (2))"
                .to_owned(),
            vec!["2 rows have no y (NULL) and are left out"],
        ),
    ] {
        let metrics = database.rows(&query).await;
        assert_eq!((metrics.num_rows(), metrics.num_columns()), (1, 6), "{query}");
        assert_eq!(database.warnings(), expected, "{query}");
    }
}

/// Lines that are no rows are told of by whatever statement reads them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn select_predict_and_train_tell_warnings() {
    let database = Database::open().await;
    let lines: String = (0..30)
        .map(|i| match i % 10 {
            7 => "{\"x\": \"seven\", \"y\": 7}\n".to_owned(),
            i => format!("{{\"x\": {i}, \"y\": {}}}\n", 2 * i),
        })
        .collect();
    let file = database.path("lines.json");
    std::fs::write(&file, lines).unwrap();
    let create = format!(
        "CREATE OR REPLACE UNBOUNDED EXTERNAL TABLE lines (x DOUBLE, y DOUBLE) STORED AS JSON \
         LOCATION '{}'",
        file.display()
    );
    let train = "TRAIN MODEL m USING linear_regression TARGET y FROM lines";
    for statement in [
        train,
        "SELECT * FROM lines",
        "PREDICT MODEL m FROM lines",
        "CREATE TABLE copied AS SELECT x FROM lines",
    ] {
        database.rows(&create).await;
        database.events();
        database.rows(statement).await;
        let warnings = database.warnings();
        // At once of the first, at the end of all; what is read at once is told of at once.
        let last = warnings.iter().rfind(|w| w.contains("of the table and"));
        let last = last.unwrap_or_else(|| panic!("{statement}: {warnings:?}"));
        assert!(
            last.starts_with(
                "3 lines are no rows of the table and are skipped, the first line 8 of"
            ),
            "{statement}: {warnings:?}"
        );
    }
    // Another statement reads them anew: three more.
    database.rows("SELECT * FROM lines").await;
    assert!(database.warnings()[0].starts_with("6 lines"), "{:?}", database.warnings());
    let rejected = database
        .rows("SELECT line, text, error, total FROM rejected('lines') WHERE line < 20")
        .await;
    assert_eq!(rejected.num_rows(), 4);
    assert_eq!(cell(&rejected, "text").unwrap(), "{\"x\": \"seven\", \"y\": 7}");
    assert_eq!(cell(&rejected, "total").unwrap(), "6");
}

/// A file of other columns is left out and told by its name, and the training goes on without it;
/// when it is put right, it is learned from. Columns that the table does not know are left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_changes_in_mid_stream() {
    let database = database().await;
    write_parts(&database, 4, 200).await;
    let folder = database.folder.path();
    let create = create_parts(folder);
    let third = folder.join("parts/002.parquet");
    let right = folder.join("right.parquet");
    std::fs::rename(&third, &right).unwrap();
    succeed(folder, &[&create, &STREAM.replace("MODEL m ", "MODEL without ")]);
    let rewrite = |columns: &str| {
        format!(
            "COPY (SELECT {columns} FROM '{}') TO '{}' STORED AS PARQUET",
            right.display(),
            third.display()
        )
    };
    database.rows(&rewrite("* EXCLUDE (a), CAST(a AS VARCHAR) AS a")).await;
    // It dies at the end, so that the same statement goes on.
    for again in [false, true] {
        let output = gradlake(folder)
            .args(["-q", "-c", &create, "-c", STREAM])
            .env(failpoints::VARIABLE, "checkpoint-discard:0")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_none(), "{again}: {text}");
        assert!(
            text.contains("file 002.parquet is skipped: it has column a as Utf8")
                && text.contains("Float64"),
            "{again}: {text}"
        );
        assert_eq!(database.number("SELECT rows FROM model.m.manifest").await, 600.0);
        assert_eq!(database.weights("m").await, database.weights("without").await);
    }
    std::fs::remove_file(&third).unwrap();
    database.rows(&rewrite("*, 'new' AS more")).await;
    succeed(folder, &[&create, STREAM]);
    assert_eq!(versions(&database, "m").await, [400, 600, 800]);
}

async fn versions(database: &Database, model: &str) -> Vec<u64> {
    let sql = format!("SELECT rows FROM model.{model}.versions ORDER BY version");
    let rows = database.rows(&sql).await;
    rows.column(0).as_primitive::<UInt64Type>().values().to_vec()
}

/// The last checkpoint is damaged: the one before it leads to the same model, and no version is
/// published twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_checkpoint_of_a_stream() {
    let database = database().await;
    write_parts(&database, 4, 200).await;
    let folder = database.folder.path();
    let create = create_parts(folder);
    succeed(folder, &[&create, &STREAM.replace("MODEL m ", "MODEL whole ")]);
    // Versions of 400 and 800 rows: it dies when it is to discard the checkpoints of its end.
    let output = gradlake(folder)
        .args(["-q", "-c", &create, "-c", STREAM])
        .env(failpoints::VARIABLE, "checkpoint-discard:0")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let before = versions(&database, "m").await;
    assert_eq!(before, [400, 800]);

    let checkpoints = folder.join("warehouse/models/m/checkpoints");
    let mut names: Vec<_> = std::fs::read_dir(&checkpoints)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    let mut bytes = std::fs::read(&names[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&names[1], bytes).unwrap();

    // Another statement is told where it differs, before anything else.
    let other = STREAM.replace("batch_size = 4", "batch_size = 8");
    let output = run(folder, &[&create, &other]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains(
            "model m has a checkpoint of another statement, which has batch_size = 4 where this \
             one has batch_size = 8"
        ),
        "{text}"
    );
    let output = run(folder, &[&create, STREAM]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("is damaged: the one before it is used"), "{text}");
    assert_eq!(versions(&database, "m").await, before);
    assert_eq!(database.weights("m").await, database.weights("whole").await);
}

/// A wall clock that runs backwards, a thousand times as fast: versions and checkpoints are due as
/// ever, and nobody takes the training for dead.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_clock_that_runs_backwards() {
    const CLOCK: &str = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <time.h>
        int clock_gettime(clockid_t id, struct timespec *t) {
            static int (*real)(clockid_t, struct timespec *);
            static time_t wall, steady;
            struct timespec now;
            if (!real) {
                real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
                real(CLOCK_REALTIME, &now);
                wall = now.tv_sec;
                real(CLOCK_MONOTONIC, &now);
                steady = now.tv_sec;
            }
            if (id != CLOCK_REALTIME) return real(id, t);
            real(CLOCK_MONOTONIC, &now);
            t->tv_sec = wall - 1000 * (now.tv_sec - steady) - now.tv_nsec / 1000000;
            t->tv_nsec = 0;
            return 0;
        }"#;
    let database = database().await;
    write_parts(&database, 1, 200).await;
    let folder = database.folder.path();
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    let moved = Command::new("sh")
        .args(["-c", "a=$(date +%s); sleep 2; b=$(date +%s); echo $((b - a))"])
        .env("LD_PRELOAD", &library)
        .output()
        .unwrap();
    let went: i64 = String::from_utf8(moved.stdout).unwrap().trim().parse().unwrap();
    assert!(went < 100, "the clock went {went} s");

    let train = "TRAIN MODEL m USING linear_regression TARGET z \
                 WITH (batch_size = 4, publish_every = '1 second', checkpoint_every = 1) \
                 AS SELECT a, b, z FROM parts";
    let mut child = gradlake(folder)
        .args(["--format", "csv", "-q", "-c", &endless(folder), "-c", train])
        .env("LD_PRELOAD", &library)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let begun = Instant::now();
    for version in 1..=3 {
        let start = format!("m,{version},{},", 200 * version);
        assert!(lines.any(|line| line.starts_with(&start)), "no {start}");
        let parts = folder.join("parts");
        std::fs::copy(parts.join("000.parquet"), parts.join(format!("{version:03}.parquet")))
            .unwrap();
    }
    assert!(begun.elapsed() < PATIENCE);
    let rows = shown(&database, |rows| cell(rows, "rows").is_some_and(|rows| rows == "800")).await;
    assert_eq!(cell(&rows, "state").as_deref(), Some("running"));
    interrupt(&child);
    assert!(lines.any(|line| line.starts_with("m,4,800,")));
    child.wait().unwrap();
    // The next one, by a clock that is right, goes on.
    succeed(folder, &[&create_parts(folder), train]);
    assert_eq!(database.number("SELECT rows FROM model.m.manifest").await, 800.0);
}

/// A query whose windows look back nobody knows how far runs, and says what a restart costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_unknown_reach_are_warned_of() {
    let database = database().await;
    write_parts(&database, 1, 100).await;
    database.rows(&create_parts(database.folder.path())).await;
    database.events();
    for (window, is_known) in [
        ("lag(a, 3) OVER ()", true),
        ("avg(a) OVER (ROWS 5 PRECEDING)", true),
        ("lag(a) OVER (PARTITION BY c)", false),
        ("sum(a) OVER (ROWS UNBOUNDED PRECEDING)", false),
    ] {
        let train = format!(
            "TRAIN OR REPLACE MODEL m USING linear_regression TARGET z \
             AS SELECT a, z, {window} AS w FROM parts"
        );
        let result = database.try_rows(&train).await;
        let warnings = database.warnings();
        let is_told = warnings.iter().any(|w| w.contains("look back is not known"));
        assert_eq!(is_told, !is_known, "{window}: {warnings:?} {result:?}");
        if is_known {
            result.unwrap();
        }
    }
}

/// Rows that nobody sends again: Ctrl-C learns from those that fill no mini-batch, too.
#[tokio::test]
async fn an_interrupted_fifo_leaves_no_row_behind() {
    use std::io::Write;
    let database = database().await;
    let folder = database.folder.path();
    let fifo = folder.join("rows");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let create = "CREATE UNBOUNDED EXTERNAL TABLE rows (x DOUBLE, y DOUBLE) STORED AS CSV \
                  LOCATION 'rows' OPTIONS ('has_header' 'false')";
    let train = "TRAIN MODEL m USING linear_regression TARGET y WITH (batch_size = 10, \
                 publish_every = '10 rows') FROM rows";
    let mut child = shell(folder, &[create, train]);
    let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    for i in 0..25 {
        writeln!(writer, "{i},{}", 2 * i).unwrap();
    }
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("m,2,20,")));
    interrupt(&child);
    assert!(lines.any(|line| line.starts_with("m,3,25,")));
    drop(writer);
    child.wait().unwrap();
}

/// An idle stream publishes and saves nothing new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_publishes_nothing() {
    let database = database().await;
    write_parts(&database, 1, 100).await;
    database.rows(&endless(database.folder.path())).await;
    let train = "TRAIN MODEL m USING linear_regression TARGET z WITH (publish_every = '1 second', \
                 checkpoint_every = 0, max_seconds = 3.5) AS SELECT a, b, z FROM parts";
    let rows = database.rows(train).await;
    // 100 rows are no mini-batch of 256: they wait in the checkpoint.
    assert_eq!(rows.num_rows(), 0);
    let train = train.replace("WITH (", "WITH (batch_size = 10, ").replace("MODEL m", "MODEL n");
    assert_eq!(database.rows(&train).await.num_rows(), 1);
    let saved: Vec<u64> = database
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Checkpoint { until: Position::Row(rows) } => Some(rows),
            _ => None,
        })
        .collect();
    assert!(saved.len() < 10, "{saved:?}");
}

/// Nothing is drawn where nobody looks: lines alone, a few of them.
#[tokio::test]
async fn a_stream_in_a_pipe_is_lines() {
    let database = database().await;
    write_parts(&database, 3, 200).await;
    let folder = database.folder.path();
    let output = gradlake(folder)
        .args(["--format", "csv", "-c", &create_parts(folder), "-c", STREAM])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains(['\r', '\u{1b}']) && !text.contains("epoch"), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"training m: every row once, as it comes"), "{text}");
    assert!(lines.iter().any(|l| l.starts_with("published m, version 1: 400 rows, ")), "{text}");
    assert!(lines.iter().any(|l| l.starts_with("published m, version 2: 600 rows, ")), "{text}");
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(!out.contains(['\r', '\u{1b}']), "{out}");
}
