//! Queries that nobody wants any more end soon, whatever they compute: the next statement is
//! answered, and the cores are free.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.
#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Database;
use datafusion::error::DataFusionError;
use gradlake_engine::EventSink;
use gradlake_sql::Session;

/// How long each statement runs before it is stopped.
const RUNS: Duration = Duration::from_millis(700);
/// Within this time it must have ended.
const ENDS: Duration = Duration::from_secs(2);

/// Seconds of processor time that this process has taken.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn series(rows: u64) -> String {
    format!("(SELECT value AS v, value % 2 AS k FROM generate_series(1, {rows}))")
}

/// Statements that run for minutes and more, by what is hard to stop about them.
fn statements(folder: &str) -> Vec<(&'static str, String)> {
    // So long that no machine has collected it before the statement is stopped: one call over all
    // of its rows, such as joining the batches of a join's side, cannot be stopped from within.
    let (short, long) = (series(100_000), series(10_000_000_000));
    let pairs = format!("{short} a JOIN {short} b ON a.k = b.k JOIN {short} c ON c.k = a.k");
    let endless = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t)";
    let crossed = format!("SELECT a.v AS x, b.k AS y FROM {long} a, {short} b");
    vec![
        ("a scan", "SELECT sum(value) FROM generate_series(1, 100000000000)".to_owned()),
        ("a cross join", format!("SELECT count(*) FROM {long} a, {short} b")),
        ("rows of a cross join", crossed.clone()),
        ("a hash join with many rows", format!("SELECT count(*) FROM {pairs}")),
        (
            "a nested-loop join without rows",
            format!("SELECT count(*) FROM {short} a JOIN {long} b ON a.v + b.v < 0"),
        ),
        (
            "a nested-loop left join without rows",
            format!("SELECT count(*) FROM {short} a LEFT JOIN {long} b ON a.v + b.v < 0"),
        ),
        (
            "a hash join whose filter keeps nothing",
            format!("SELECT count(*) FROM {short} a JOIN {long} b ON a.k = b.k AND a.v + b.v < 0"),
        ),
        (
            "a semi join",
            format!(
                "SELECT count(*) FROM {long} a WHERE EXISTS (SELECT 1 FROM {long} b WHERE a.k = b.k)"
            ),
        ),
        (
            "an anti join with a filter",
            format!(
                "SELECT count(*) FROM {long} a WHERE NOT EXISTS \
                 (SELECT 1 FROM {short} b WHERE a.k = b.k AND a.v + b.v < 0)"
            ),
        ),
        ("a sort", format!("SELECT * FROM {long} ORDER BY k, -v")),
        ("groups", format!("SELECT count(*) FROM (SELECT v, sum(k) FROM {long} GROUP BY v)")),
        (
            "windows",
            format!(
                "SELECT max(s) FROM (SELECT sum(v) OVER (PARTITION BY k ORDER BY v) AS s \
                 FROM {long})"
            ),
        ),
        ("a recursive query", format!("{endless} SELECT count(*) FROM t")),
        (
            "a recursive query with a join",
            format!(
                "{endless} SELECT count(*) FROM t JOIN {short} a ON t.n % 2 = a.k JOIN {short} b \
                 ON a.k = b.k"
            ),
        ),
        ("a union", format!("SELECT count(*) FROM ({crossed} UNION ALL {crossed})")),
        ("lists", format!("SELECT count(*) FROM (SELECT unnest(range(0, 1000)) FROM {long})")),
        ("CREATE TABLE AS", format!("CREATE TABLE t AS SELECT count(*) AS n FROM {pairs}")),
        ("COPY to CSV", format!("COPY ({crossed}) TO '{folder}/x.csv'")),
        ("COPY to Parquet", format!("COPY ({crossed}) TO '{folder}/x.parquet'")),
        ("COPY to JSON", format!("COPY ({crossed}) TO '{folder}/x.json'")),
        ("PREDICT", format!("PREDICT MODEL m AS SELECT a.v AS x FROM {pairs}")),
        (
            "a join of predictions",
            format!(
                "SELECT count(*) FROM (PREDICT MODEL m AS SELECT v AS x FROM {short}) p, {long} b"
            ),
        ),
        ("EVALUATE", format!("EVALUATE MODEL m AS SELECT a.v AS x, b.k AS y FROM {pairs}")),
        (
            "TRAIN while its query runs",
            format!(
                "TRAIN MODEL n USING linear_regression TARGET y \
                 AS SELECT a.v AS x, b.v AS y FROM {short} a JOIN {long} b ON a.v + b.v < 0"
            ),
        ),
        (
            "TRAIN while its query gives rows",
            format!("TRAIN MODEL n USING linear_regression TARGET y {crossed}")
                .replace("TARGET y SELECT", "TARGET y AS SELECT"),
        ),
    ]
}

/// Runs a statement, stops it, and says what it left behind.
async fn left_by(session: &Arc<Session>, sql: &str, stop: bool) -> Option<String> {
    let quiet: EventSink = Arc::new(|_event| {});
    let (own, text, sink) = (Arc::clone(session), sql.to_owned(), Arc::clone(&quiet));
    let task = tokio::spawn(async move {
        let mut rows = own.execute(&text, sink).await?;
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            batch?;
            tokio::task::yield_now().await;
        }
        Ok::<(), DataFusionError>(())
    });
    tokio::time::sleep(RUNS).await;
    if task.is_finished() {
        return Some(format!("it ended by itself: {:?}", task.await));
    }
    task.abort();
    if stop {
        session.stop_queries();
    }
    let begun = Instant::now();
    let answer = tokio::time::timeout(Duration::from_secs(20), session.collect("SELECT 42", quiet));
    let is_answered = answer.await.is_ok_and(|rows| rows.is_ok());
    let answered = begun.elapsed();
    // What was aborted must have come to its end too.
    let ended = tokio::time::timeout(Duration::from_secs(20), task).await.is_ok();
    let taken = begun.elapsed();
    // What it held is given back meanwhile.
    let mut busy = f64::INFINITY;
    while busy >= 0.2 && begun.elapsed() < ENDS {
        let before = processor_time();
        tokio::time::sleep(Duration::from_millis(500)).await;
        busy = (processor_time() - before) / 0.5;
    }
    let is_well = is_answered && ended && taken < ENDS && busy < 0.2;
    (!is_well).then(|| {
        format!("answer after {answered:?}, end after {taken:?}, cores busy afterwards: {busy:.2}")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_is_stopped_ends_soon() {
    let Database { session, folder, .. } =
        Database::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await;
    let session = Arc::new(session);
    let train = "TRAIN MODEL m USING linear_regression TARGET y \
                 AS SELECT value AS x, value * 2 AS y FROM generate_series(1, 9)";
    session.collect(train, Arc::new(|_event| {})).await.unwrap();
    let mut failures = vec![];
    for (what, sql) in statements(&folder.path().display().to_string()) {
        if let Some(left) = left_by(&session, &sql, true).await {
            failures.push(format!("{what}: {left}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // Nothing is left of the files.
    let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let files: Vec<_> = files.filter(|name| name.to_string_lossy().starts_with('x')).collect();
    assert_eq!(files, Vec::<std::ffi::OsString>::new());
}
