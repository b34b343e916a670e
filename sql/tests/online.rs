//! Training on unbounded tables: the same bits as the same rows as a table, exactly once through
//! `kill -9` at any moment, until somebody asks for the end.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.
#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use common::{Database, Draws, create_parts, gradlake, kills, run, succeed, write_parts};
use gradlake_engine::failpoints;

/// Ways to learn online.
const WAYS: [(&str, &str, &str); 9] = [
    ("logistic_regression", "y", "optimizer = 'sgd', learning_rate = 0.05, batch_size = 1"),
    ("logistic_regression", "k", "optimizer = 'adagrad', batch_size = 32"),
    ("linear_regression", "z", "optimizer = 'ftrl', batch_size = 7"),
    ("linear_svm", "y", "optimizer = 'adam', batch_size = 16"),
    ("mlp_classifier", "k", "hidden = [8], dropout = 0.1, batch_size = 50"),
    ("mlp_regressor", "z", "hidden = [8, 4], optimizer = 'rmsprop', batch_size = 64"),
    ("logistic_regression", "k", "optimizer = 'adaptive_invariant', batch_size = 1"),
    ("linear_regression", "z", "optimizer = 'adaptive_invariant', l1 = 0.001, batch_size = 20"),
    ("linear_svm", "y", "optimizer = 'adaptive_invariant', batch_size = 5"),
];

async fn same_model(database: &Database, one: &str, other: &str, what: &str) {
    for table in ["parameters", "optimizer", "features", "metrics"] {
        let [a, b] = [one, other].map(|model| format!("SELECT * FROM model.{model}.{table}"));
        let (a, b) = (database.rows(&a).await, database.rows(&b).await);
        assert!(a.num_rows() > 0 || table == "optimizer", "{what}: {table}");
        assert_eq!(a.columns(), b.columns(), "{what}: {table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_its_rows_as_a_table() {
    let database = Database::open().await;
    write_parts(&database, 7, 333).await;
    database.rows(&create_parts(database.folder.path())).await;
    for (algorithm, target, options) in WAYS {
        let select = format!("a, b, c, g, {target}");
        database
            .rows(&format!(
                "TRAIN OR REPLACE MODEL stream USING {algorithm} TARGET {target} WITH ({options}) \
                 AS SELECT {select} FROM parts WHERE a > 0.1"
            ))
            .await;
        database
            .rows(&format!(
                "TRAIN OR REPLACE MODEL whole USING {algorithm} TARGET {target} \
                 WITH ({options}, statistics = 'running', shuffle = FALSE, split = 'none', \
                 epochs = 1) AS SELECT {select} FROM numbered WHERE a > 0.1 ORDER BY row"
            ))
            .await;
        same_model(&database, "stream", "whole", &format!("{algorithm} {target} {options}")).await;
    }
}

/// A model of a table goes on with its encoder, its classes and its optimizer state; so it does on
/// a table without shuffling.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_a_table_goes_on_with_a_stream() {
    let database = Database::open().await;
    write_parts(&database, 4, 250).await;
    database.rows(&create_parts(database.folder.path())).await;
    let base = "TRAIN MODEL base USING mlp_classifier TARGET k \
                WITH (hidden = [8], epochs = 2, batch_size = 20) AS SELECT a, b, c, k FROM numbered";
    database.rows(base).await;
    let go_on = |model: &str, more: &str, from: &str| {
        format!(
            "TRAIN MODEL {model} USING mlp_classifier TARGET k CONTINUE base \
             WITH (batch_size = 20 {more}) AS SELECT a, b, c, k FROM {from}"
        )
    };
    database.rows(&go_on("stream", "", "parts")).await;
    let written = ", epochs = 1, shuffle = FALSE, split = 'none'";
    database.rows(&go_on("whole", written, "numbered ORDER BY row")).await;
    let [a, b] = [database.weights("stream").await, database.weights("whole").await];
    assert_eq!(a, b);
    assert_ne!(a, database.weights("base").await);
    let [a, b] = ["stream", "whole"].map(|m| format!("SELECT * FROM model.{m}.optimizer"));
    assert_eq!(database.rows(&a).await.columns(), database.rows(&b).await.columns());
}

/// LIMIT ends a training; rows after it are not learned from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_ends_the_training() {
    let database = Database::open().await;
    write_parts(&database, 3, 200).await;
    database.rows(&create_parts(database.folder.path())).await;
    database
        .rows(
            "TRAIN MODEL m USING linear_regression TARGET z WITH (batch_size = 8) \
             AS SELECT a, b, z FROM parts LIMIT 450",
        )
        .await;
    assert_eq!(database.number("SELECT rows FROM model.m.manifest").await, 450.0);
}

const TRAIN: &str = "TRAIN OR REPLACE MODEL m USING logistic_regression TARGET k \
    WITH (batch_size = 4, optimizer = 'adam', checkpoint_every = 0, publish_every = '900 rows', \
    keep_versions = 100) AS SELECT a, b, c, g, k, lag(before, 2) OVER () AS before \
    FROM (SELECT *, lag(a) OVER () AS before FROM parts)";

fn state(folder: &Path, model: &str) -> String {
    ["parameters", "optimizer", "features", "metrics"]
        .map(|table| succeed(folder, &[&format!("SELECT * FROM model.{model}.{table}")]))
        .concat()
}

/// Rows of the versions that one training published, in the order of their numbers.
fn published(folder: &Path, model: &str, after: u64) -> Vec<u64> {
    let sql = format!("SELECT version, rows FROM model.{model}.versions ORDER BY version");
    let listed = succeed(folder, &[&sql]);
    let rows = listed.lines().skip(1).map(|line| {
        let (version, rows) = line.split_once(',').unwrap();
        (version.parse::<u64>().unwrap(), rows.parse::<u64>().unwrap())
    });
    rows.filter(|(version, _)| *version > after).map(|(_, rows)| rows).collect()
}

#[tokio::test]
async fn kills_at_random_moments_change_nothing() {
    let database = Database::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await;
    write_parts(&database, 24, 200).await;
    let folder = database.folder.path();
    let create = create_parts(folder);
    let begun = Instant::now();
    succeed(folder, &[&create, &TRAIN.replace("MODEL m ", "MODEL whole ")]);
    let took = begun.elapsed();
    let expected = state(folder, "whole");
    let rows = published(folder, "whole", 0);
    assert_eq!(rows, [900, 1800, 2700, 3600, 4500, 4800]);
    let mut draws = Draws(5);
    let (mut killed, mut before, mut trainings) = (0, 0, 0);
    while killed < kills() {
        let mut child = gradlake(folder)
            .args(["-q", "-c", &create, "-c", TRAIN])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(draws.below(took.mul_f64(1.1)));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        if child.wait().unwrap().success() {
            assert_eq!(state(folder, "m"), expected, "after {killed} kills");
            // A kill may come after the end of a training, whose statement then begins anew.
            let found = published(folder, "m", before);
            assert!(found.chunks(rows.len()).all(|one| one == rows), "after {killed}: {found:?}");
            before += found.len() as u64;
            trainings += found.len() / rows.len();
        }
    }
    succeed(folder, &[&create, TRAIN]);
    assert_eq!(state(folder, "m"), expected);
    let found = published(folder, "m", before);
    assert!(found.chunks(rows.len()).all(|one| one == rows), "{found:?}");
    println!("{killed} kills, {} trainings", trainings + found.len() / rows.len());
}

#[tokio::test]
async fn a_death_between_any_two_writes_changes_nothing() {
    let database = Database::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await;
    write_parts(&database, 4, 500).await;
    let folder = database.folder.path();
    let create = create_parts(folder);
    succeed(folder, &[&create, &TRAIN.replace("MODEL m ", "MODEL whole ")]);
    let (expected, rows) = (state(folder, "whole"), published(folder, "whole", 0));
    let mut before = 0;
    for place in failpoints::ALL {
        for times in ["0", "1"] {
            let output = gradlake(folder)
                .args(["-q", "-c", &create, "-c", TRAIN])
                .env(failpoints::VARIABLE, format!("{place}:{times}"))
                .output()
                .unwrap();
            assert!(
                output.status.code().is_none() || (times == "1" && output.status.success()),
                "{place}:{times} was not passed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            if !output.status.success() && place != "release-log" {
                succeed(folder, &[&create, TRAIN]);
            }
            assert_eq!(state(folder, "m"), expected, "{place}:{times}");
            assert_eq!(published(folder, "m", before), rows, "{place}:{times}");
            before += rows.len() as u64;
        }
    }
}

/// Algorithms without a target follow running statistics and new categories, which a checkpoint
/// holds too.
#[tokio::test]
async fn deaths_of_trainings_without_a_target_change_nothing() {
    let database = Database::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await;
    write_parts(&database, 12, 500).await;
    let folder = database.folder.path();
    let create = create_parts(folder);
    for using in [
        "kmeans FEATURES (a, b, c) WITH (k = 4, decay = 0.9, batch_size = 16",
        "pca FEATURES (a, b, c) WITH (components = 2",
    ] {
        let train = format!(
            "TRAIN OR REPLACE MODEL m USING {using}, checkpoint_every = 0, \
             publish_every = '2000 rows', keep_versions = 100) FROM parts"
        );
        succeed(folder, &[&create, &train.replace("MODEL m ", "MODEL whole ")]);
        let expected = state(folder, "whole");
        for place in ["checkpoint-file:0", "checkpoint-file:2", "checkpoint-old:3", "publish-log:1"]
        {
            let output = gradlake(folder)
                .args(["-q", "-c", &create, "-c", &train])
                .env(failpoints::VARIABLE, place)
                .output()
                .unwrap();
            assert!(output.status.code().is_none(), "{using} {place} was not passed");
            succeed(folder, &[&create, &train]);
            assert_eq!(state(folder, "m"), expected, "{using} {place}");
        }
    }
}

/// Ctrl-C publishes what was learned; the same statement goes on with the next row.
#[tokio::test]
async fn ctrl_c_publishes_and_the_same_statement_goes_on() {
    let database = Database::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await;
    write_parts(&database, 6, 300).await;
    let folder = database.folder.path();
    let endless = create_parts(folder).replace("'end' 'when_empty', ", "");
    let train = "TRAIN MODEL m USING linear_regression TARGET z \
                 WITH (batch_size = 8, publish_every = '400 rows') AS SELECT a, b, c, z FROM parts";
    let mut child = gradlake(folder)
        .args(["--format", "csv", "-c", &endless, "-c", train])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // 1,800 rows: the fourth publication is the last that is due, at 1,600.
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(out).map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("m,4,1600,")), "no fourth version");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let last = lines.last().unwrap();
    assert!(last.starts_with("m,5,1800,"), "{last}");
    child.wait().unwrap();

    // More files come, and the same statement (which finds its own model) takes them alone.
    let more = database.path("parts/006.parquet");
    std::fs::copy(database.path("parts/000.parquet"), more).unwrap();
    succeed(folder, &[&create_parts(folder), train]);
    assert_eq!(published(folder, "m", 0), [400, 800, 1200, 1600, 1800, 2000, 2100]);
    let other = train.replace("batch_size = 8", "batch_size = 4");
    let output = run(folder, &[&create_parts(folder), &other]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("model m exists"), "{text}");
}

/// What an optimizer keeps beside its moments is in the checkpoint too, and grows with the classes.
#[tokio::test]
async fn totals_of_adaptive_invariant_come_back_after_a_death() {
    let database = Database::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await;
    write_parts(&database, 4, 250).await;
    let folder = database.folder.path();
    let create = create_parts(folder);
    let train = TRAIN.replace("'adam'", "'adaptive_invariant'").replace("'900 rows'", "'90 rows'");
    succeed(folder, &[&create, &train.replace("MODEL m ", "MODEL whole ")]);
    let expected = state(folder, "whole");
    assert!(expected.contains("norm_sum"), "{expected}");
    for times in [1, 4, 9] {
        let output = gradlake(folder)
            .args(["-q", "-c", &create, "-c", &train])
            .env(failpoints::VARIABLE, format!("publish-parameters:{times}"))
            .output()
            .unwrap();
        assert!(output.status.code().is_none(), "publication {times} was passed");
        succeed(folder, &[&create, &train]);
        assert_eq!(state(folder, "m"), expected, "publication {times}");
    }
}
