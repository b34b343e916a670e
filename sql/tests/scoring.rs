//! PREDICT and COPY over unbounded tables: revisions are taken up while rows come, and each row is
//! written once through `kill -9` at any moment.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.
#![cfg(unix)]

mod common;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use common::{Database, Draws, create_parts, gradlake, kills, run, succeed, write_parts};
use futures::StreamExt;
use gradlake_engine::failpoints;

fn versions(batch: &RecordBatch) -> Vec<u64> {
    batch.column_by_name("model_version").unwrap().as_primitive::<UInt64Type>().values().to_vec()
}

/// A scorer takes up what another session publishes, without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scorer_takes_up_new_versions() {
    let database = Database::open().await;
    write_parts(&database, 1, 100).await;
    let endless = create_parts(database.folder.path()).replace("'end' 'when_empty', ", "");
    database.rows(&endless).await;
    let train = "TRAIN OR REPLACE MODEL m USING linear_regression TARGET z AS SELECT a, b, z FROM";
    database.rows(&format!("{train} numbered")).await;
    let sql = "PREDICT MODEL m AS SELECT row, a, b FROM parts";
    let mut rows = database.session.execute(sql, Arc::new(|_| {})).await.unwrap();
    let first = rows.next().await.unwrap().unwrap();
    let names: Vec<_> = first.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["row", "a", "b", "predicted_z", "model_version", "model_rows"]);
    let expected = database.rows("PREDICT MODEL m AS SELECT row, a, b FROM numbered").await;
    assert_eq!(first.num_rows(), 100);
    assert_eq!(first.column(3), expected.column(3));
    assert_eq!(versions(&first), vec![1; 100]);

    let other = Database::with(Arc::clone(&database.folder), |_| {}).await;
    let all = other.path("all.parquet");
    other.rows(&format!("{train} '{}'", all.display())).await;
    let parts = database.path("parts");
    // A file at a time, until one is scored by the new version.
    for file in 1..200 {
        let name = format!("{file:03}.parquet");
        std::fs::copy(parts.join("000.parquet"), parts.join(name)).unwrap();
        let batch = rows.next().await.unwrap().unwrap();
        if versions(&batch)[0] == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("version 2 was not taken up");
}

/// Between two versions, a scorer in the process of the training predicts by what was learned so
/// far.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_reach_a_scorer_of_the_same_process() {
    let database = Database::open().await;
    write_parts(&database, 6, 100).await;
    let folder = database.folder.path();
    let endless = create_parts(folder).replace("'end' 'when_empty', ", "");
    // What is learned from comes file by file into a folder of its own.
    let lessons = folder.join("lessons");
    std::fs::create_dir(&lessons).unwrap();
    let parts = folder.join("parts");
    let of_lessons = endless
        .replace("TABLE parts", "TABLE lessons")
        .replace(&parts.display().to_string(), &lessons.display().to_string());
    database.rows(&of_lessons).await;
    std::fs::copy(parts.join("000.parquet"), lessons.join("000.parquet")).unwrap();
    let train = "TRAIN MODEL m USING linear_regression TARGET z \
                 WITH (batch_size = 1, publish_every = '100 rows') AS SELECT a, b, z FROM lessons";
    let mut training = database.session.execute(train, Arc::new(|_| {})).await.unwrap();
    // The first version is there; the next is not due before 100 more rows.
    training.next().await.unwrap().unwrap();

    database.rows(&endless).await;
    let sql = "PREDICT MODEL m AS SELECT row, a, b FROM parts";
    let mut rows = database.session.execute(sql, Arc::new(|_| {})).await.unwrap();
    let first = rows.next().await.unwrap().unwrap();
    assert_eq!(versions(&first), vec![1; 100]);
    // Half a file is not enough for a version.
    let half = format!(
        "COPY (SELECT * FROM '{}/001.parquet' LIMIT 50) TO '{}/001.parquet' STORED AS PARQUET",
        parts.display(),
        lessons.display()
    );
    database.rows(&half).await;
    let begun = Instant::now();
    for file in 100.. {
        let name = format!("{file:03}.parquet");
        std::fs::copy(parts.join("000.parquet"), parts.join(name)).unwrap();
        let batch = rows.next().await.unwrap().unwrap();
        let learned = batch.column_by_name("model_rows").unwrap().as_primitive::<UInt64Type>();
        if learned.values().iter().all(|rows| *rows == 150) {
            // On its way to version 2, which is not published.
            assert_eq!(versions(&batch), vec![2; 100]);
            let scored = batch.column_by_name("predicted_z").unwrap();
            assert_ne!(scored, first.column_by_name("predicted_z").unwrap());
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no revision of 150 rows came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(database.number("SELECT max(version) FROM model.m.versions").await, 1.0);
    drop(training);
}

/// PREDICT on a stream stands in a query as on a table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_takes_predictions_of_a_stream() {
    let database = Database::open().await;
    write_parts(&database, 3, 100).await;
    database.rows(&create_parts(database.folder.path())).await;
    database
        .rows("TRAIN MODEL m USING linear_regression TARGET z AS SELECT a, b, z FROM numbered")
        .await;
    let sql = |table: &str| {
        format!(
            "SELECT CAST(row AS BIGINT) AS row, predicted_z * 2 AS twice FROM (PREDICT MODEL m AS SELECT * FROM {table}) \
             AS scored WHERE predicted_z > 1.2 AND a < 0.9"
        )
    };
    let streamed = database.rows(&sql("parts")).await;
    let whole = database.rows(&format!("{} ORDER BY row", sql("numbered"))).await;
    assert!(whole.num_rows() > 50 && whole.num_rows() < 290, "{}", whole.num_rows());
    assert_eq!(streamed.columns(), whole.columns());
    // A version that is asked for stays, and says so.
    let fixed = "SELECT DISTINCT model_version, model_rows FROM \
                 (PREDICT MODEL m VERSION 1 AS SELECT * FROM parts) AS scored";
    let error = database.error(fixed).await;
    assert!(error.contains("groups, sorts or joins all rows of an unbounded table"), "{error}");
    let fixed = database.rows("PREDICT MODEL m VERSION 1 AS SELECT * FROM parts").await;
    assert_eq!(versions(&fixed), vec![1; 300]);
    let error = database.error("SELECT predict('m', a, b) FROM parts").await;
    assert!(error.contains("does not follow the versions"), "{error}");
    let error = database.error("EVALUATE MODEL m AS SELECT a, b, z FROM parts").await;
    assert!(error.contains("but EVALUATE does not"), "{error}");
}

const COPY: &str = "COPY (SELECT row, predicted_z, model_version \
    FROM (PREDICT MODEL m AS SELECT *, lag(b) OVER () AS before FROM parts) AS scored WHERE a > 0.3) \
    TO 'scored/' STORED AS PARQUET OPTIONS ('commit_every' '150 rows')";

/// The rows that COPY wrote, and their number.
fn written(folder: &std::path::Path) -> String {
    succeed(folder, &["SELECT row, predicted_z FROM 'scored/' ORDER BY row"])
}

async fn copied() -> (Database, String, String) {
    let database = Database::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await;
    write_parts(&database, 24, 200).await;
    let train = "TRAIN MODEL m USING linear_regression TARGET z \
                 AS SELECT a, b, before, z FROM (SELECT *, lag(b) OVER () AS before FROM numbered)";
    database.rows(train).await;
    let folder = database.folder.path();
    let create = create_parts(folder);
    let expected = "SELECT row, predicted_z FROM (PREDICT MODEL m AS \
                    SELECT *, lag(b) OVER (ORDER BY row) AS before FROM 'parts/') AS scored \
                    WHERE a > 0.3 ORDER BY row";
    let expected = succeed(folder, &[expected]);
    assert!(expected.lines().count() > 3000);
    (database, create, expected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_neither_lose_nor_repeat_a_copied_row() {
    let (database, create, expected) = copied().await;
    let folder = database.folder.path();
    let begun = Instant::now();
    succeed(folder, &[&create, COPY]);
    let took = begun.elapsed();
    assert_eq!(written(folder), expected);
    let mut draws = Draws(11);
    let (mut killed, mut copies) = (0, 0);
    while killed < kills() {
        std::fs::remove_dir_all(folder.join("scored")).unwrap();
        loop {
            let mut child = gradlake(folder)
                .args(["-q", "-c", &create, "-c", COPY])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            tokio::time::sleep(draws.below(took.mul_f64(1.1))).await;
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                killed += 1;
            }
            if child.wait().unwrap().success() {
                break;
            }
        }
        copies += 1;
        assert_eq!(written(folder), expected, "after {killed} kills");
    }
    println!("{killed} kills, {copies} copies");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_goes_on_and_refuses_what_is_not_its_own() {
    let (database, create, expected) = copied().await;
    let folder = database.folder.path();
    let limited = COPY.replace("WHERE a > 0.3", "WHERE a > 0.3 LIMIT 1000");
    let told = succeed(folder, &[&create, &limited]);
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told[0], "file,rows,total_rows");
    assert!(told[1].starts_with("part-000000000001.parquet,"), "{told:?}");
    assert!(told.last().unwrap().ends_with(",1000"), "{told:?}");
    let first: Vec<&str> = expected.lines().take(1001).collect();
    assert_eq!(written(folder).lines().collect::<Vec<_>>(), first);
    // The limit is reached: nothing more is written.
    assert_eq!(succeed(folder, &[&create, &limited]).lines().count(), 1);

    let refused = |sql: &str| {
        let output = run(folder, &[&create, sql]);
        assert!(!output.status.success(), "{sql}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let error = refused(COPY);
    assert!(error.contains("has the rows of another query"), "{error}");
    let error = refused(&COPY.replace("AS PARQUET", "AS CSV"));
    assert!(error.contains("but STORED AS CSV was asked for"), "{error}");
    let error = refused(&COPY.replace("'scored/'", "'scored.parquet'"));
    assert!(error.contains("names one file"), "{error}");
    let error = refused(&COPY.replace("AS PARQUET", "AS PARQUET PARTITIONED BY (model_version)"));
    assert!(error.contains("takes no PARTITIONED BY"), "{error}");
    let error = refused(&COPY.replace("'150 rows'", "'often'"));
    assert!(error.contains("option commit_every must be"), "{error}");
    let error = refused(&COPY.replace("'scored/'", "'parts/'"));
    assert!(error.contains("which no COPY of a stream wrote"), "{error}");
    let grouped = "COPY (SELECT c, count(*) FROM parts GROUP BY c) TO 'grouped/' STORED AS PARQUET";
    let error = refused(grouped);
    assert!(error.contains("whose rows a checkpoint does not hold"), "{error}");

    let newest = folder.join("scored").join(told.last().unwrap().split(',').next().unwrap());
    std::fs::write(&newest, b"PAR1").unwrap();
    let error = refused(&limited);
    assert!(error.contains("does not say where the stream stands"), "{error}");
}

/// New rows of the source follow the old ones, with a codec that was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_takes_up_new_files() {
    let (database, create, expected) = copied().await;
    let folder = database.folder.path();
    let copy = COPY.replace("'150 rows'", "'1 minute', 'compression' 'snappy'");
    for file in 10..24 {
        let name = format!("{file:03}.parquet");
        std::fs::rename(folder.join("parts").join(&name), folder.join(&name)).unwrap();
    }
    succeed(folder, &[&create, &copy]);
    for file in 10..24 {
        let name = format!("{file:03}.parquet");
        std::fs::rename(folder.join(&name), folder.join("parts").join(&name)).unwrap();
    }
    let told = succeed(folder, &[&create, &copy]);
    assert!(told.lines().nth(1).unwrap().starts_with("part-000000000002.parquet,"), "{told}");
    assert_eq!(written(folder), expected);
}

/// Dying before or after a file is created changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_around_a_file_changes_nothing() {
    let (database, create, expected) = copied().await;
    let folder = database.folder.path();
    for place in ["copy-before-file", "copy-after-file"] {
        for times in ["0", "3"] {
            let output = gradlake(folder)
                .args(["-q", "-c", &create, "-c", COPY])
                .env(failpoints::VARIABLE, format!("{place}:{times}"))
                .output()
                .unwrap();
            assert!(output.status.code().is_none(), "{place}:{times} was not passed");
            succeed(folder, &[&create, COPY]);
            assert_eq!(written(folder), expected, "{place}:{times}");
            std::fs::remove_dir_all(folder.join("scored")).unwrap();
        }
    }
}

/// Ctrl-C writes what was taken; the same statement goes on behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_writes_what_was_taken() {
    let (database, create, expected) = copied().await;
    let folder = database.folder.path();
    let endless = create.replace("'end' 'when_empty', ", "");
    let child = gradlake(folder)
        .args(["-c", &endless, "-c", &COPY.replace("'150 rows'", "'1 hour'")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!folder.join("scored").exists(), "no file was due");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("interrupting: the copy writes the rows that it has taken"), "{text}");
    let rows = written(folder);
    assert!(rows.lines().count() > 1 && expected.starts_with(&rows), "{rows}");
    succeed(folder, &[&create, COPY]);
    assert_eq!(written(folder), expected);
}
