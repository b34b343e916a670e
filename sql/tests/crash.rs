//! `kill -9` at any moment, and at every place between two writes of the store: nothing that was
//! published is lost, half visible or overwritten, and a checkpointed training resumes bit for bit.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.
#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Database, Draws, gradlake, write_rows};
use gradlake_engine::failpoints;

/// A training with a checkpoint after every round, of which there are some hundred.
const TRAIN: &str = "TRAIN OR REPLACE MODEL m USING mlp_classifier TARGET k \
    WITH (hidden = [16, 8], epochs = 30, round_rows = 1024, batch_size = 32, optimizer = 'adam', \
    dropout = 0.2, patience = 25, checkpoint_every = 0, seed = 3) FROM 'rows.parquet'";
/// What stands there before it: version 1.
const BEFORE: &str = "TRAIN OR REPLACE MODEL m USING logistic_regression TARGET k \
    FROM 'rows.parquet'";

fn run(folder: &Path, sql: &str) -> Output {
    gradlake(folder).args(["-c", sql, "--format", "csv"]).output().unwrap()
}

fn spawn(folder: &Path, sql: &str) -> Child {
    gradlake(folder)
        .args(["-c", sql, "--format", "csv"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(folder: &Path, sql: &str) -> String {
    let output = run(folder, sql);
    assert!(output.status.success(), "{sql}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The weights of a version of model m, and its optimizer state, as text.
fn state(folder: &Path, model: &str) -> String {
    ["parameters", "optimizer"]
        .map(|table| succeed(folder, &format!("SELECT * FROM model.{model}.{table}")))
        .concat()
}

/// Loss by epoch without what a clock decides.
fn history(folder: &Path, model: &str) -> String {
    let sql = format!("SELECT * EXCEPT (duration_ms) FROM model.{model}.history ORDER BY epoch");
    succeed(folder, &sql)
}

fn versions(folder: &Path) -> String {
    succeed(folder, "SELECT version, is_current FROM model.m.versions ORDER BY version")
}

/// A folder with rows and version 1 of model m, and the predictions of that version.
async fn prepared() -> (Arc<tempfile::TempDir>, String) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    write_rows(&folder.path().join("rows.parquet"), 6000).await;
    succeed(folder.path(), BEFORE);
    let predictions = predictions_of_the_first(folder.path());
    (folder, predictions)
}

fn predictions_of_the_first(folder: &Path) -> String {
    succeed(folder, "SELECT predicted_k FROM (PREDICT MODEL m VERSION 1 FROM 'rows.parquet')")
}

/// A training that nobody disturbs: its state, its history and how long it took.
fn undisturbed(folder: &Path) -> (String, String, Duration) {
    let sql = TRAIN.replace("MODEL m ", "MODEL whole ");
    let begun = Instant::now();
    succeed(folder, &sql);
    let took = begun.elapsed();
    (state(folder, "whole"), history(folder, "whole"), took)
}

#[tokio::test]
async fn fifty_kills_at_random_moments_change_nothing() {
    let (folder, first) = prepared().await;
    let folder = folder.path();
    let (expected, expected_history, took) = undisturbed(folder);
    let mut draws = Draws(17);
    let (mut kills, mut published) = (0, 1);
    while kills < 50 {
        let mut child = spawn(folder, TRAIN);
        std::thread::sleep(draws.below(took.mul_f64(1.1)));
        let ended = child.try_wait().unwrap();
        if ended.is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        let status = child.wait().unwrap();
        assert!(status.success() || ended.is_none(), "{status}");
        // Whatever was cut off, a reader finds whole versions in their order.
        let listed = versions(folder);
        let count = listed.lines().count() - 1;
        assert!(count == published || count == published + 1, "{listed}");
        assert_eq!(predictions_of_the_first(folder), first);
        if count == published + 1 {
            published = count;
            assert_eq!(state(folder, "m"), expected, "after {kills} kills");
            assert_eq!(history(folder, "m"), expected_history, "after {kills} kills");
        }
    }
    let output = run(folder, TRAIN);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(state(folder, "m"), expected);
    assert_eq!(history(folder, "m"), expected_history);
    assert_eq!(versions(folder).lines().count() - 1, published + 1);
    println!("{kills} kills, {} versions", published + 1);
}

/// Numbers that float32 holds and that all train are loaded in a single pass.
#[tokio::test]
async fn a_single_pass_training_resumes_bit_for_bit() {
    let (folder, _) = prepared().await;
    let folder = folder.path();
    let numbers = "SELECT CAST(a AS REAL) AS a, CAST(b AS REAL) AS b, k FROM 'rows.parquet'";
    succeed(folder, &format!("COPY ({numbers}) TO 'numbers.parquet'"));
    let train =
        TRAIN.replace("patience = 25", "split = 'none'").replace("rows.parquet", "numbers.parquet");
    let begun = Instant::now();
    succeed(folder, &train.replace("MODEL m ", "MODEL whole "));
    let took = begun.elapsed();
    let expected = state(folder, "whole");
    let mut draws = Draws(5);
    let mut resumed = 0;
    for _ in 0..6 {
        let mut child = spawn(folder, &train);
        std::thread::sleep(took.mul_f64(0.3) + draws.below(took.mul_f64(0.5)));
        // (It may have ended.)
        let _ = child.kill();
        child.wait().unwrap();
        let output = run(folder, &train);
        assert!(output.status.success(), "{}", stderr(&output));
        resumed += usize::from(stderr(&output).contains("resum"));
        assert_eq!(state(folder, "m"), expected);
    }
    assert!(resumed > 0, "no run was killed behind a checkpoint");
}

/// Lets the process die at a place, and says whether it passed there.
fn dies_at(folder: &Path, place: &str, sql: &str) -> bool {
    let output =
        gradlake(folder).args(["-c", sql]).env(failpoints::VARIABLE, place).output().unwrap();
    !output.status.success() && output.status.code().is_none()
}

#[tokio::test]
async fn a_death_between_any_two_writes_of_a_training_loses_nothing() {
    let (folder, first) = prepared().await;
    let folder = folder.path();
    let train = TRAIN.replace("epochs = 30", "epochs = 4, keep_versions = 100");
    succeed(folder, &train.replace("MODEL m ", "MODEL whole "));
    let expected = state(folder, "whole");
    let mut published = 1;
    for place in failpoints::ALL {
        // Versions are deleted after a commit only where some are surplus.
        assert!(dies_at(folder, place, &train), "{place} was not passed");
        let count = versions(folder).lines().count() - 1;
        // The commit is one moment: before it the old versions stand, after it one more.
        let committed = ["publish-old", "checkpoint-discard", "release-log"].contains(&place);
        assert_eq!(count, published + usize::from(committed), "{place}");
        assert_eq!(predictions_of_the_first(folder), first, "{place}");
        published = count;
        if committed {
            assert_eq!(state(folder, "m"), expected, "{place}");
        }
        succeed(folder, &train);
        published += 1;
        assert_eq!(versions(folder).lines().count() - 1, published, "{place}");
        assert_eq!(state(folder, "m"), expected, "{place}");
    }
    // Numbers rise by one, each there once.
    let listed = versions(folder);
    let numbers: Vec<&str> = listed.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    let rising: Vec<String> = (1..=published).map(|n| n.to_string()).collect();
    assert_eq!(numbers, rising);
}

/// Every solver, with a checkpoint after each pass and evaluation rows behind the last.
const SOLVERS: [&str; 9] = [
    "logistic_regression TARGET k WITH (solver = 'newton', tolerance = 0, l2 = 0.001,",
    "logistic_regression TARGET k WITH (solver = 'lbfgs', l2 = 0.001,",
    "linear_svm TARGET y WITH (l1 = 0.001,",
    "linear_regression TARGET z WITH (loss = 'huber',",
    "linear_regression TARGET z WITH (",
    "linear_regression TARGET (z, a) WITH (",
    "kmeans WITH (k = 5, restarts = 2, epochs = 12,",
    "pca WITH (",
    "pca WITH (components = 2, svd = 'randomized',",
];

#[tokio::test]
async fn solvers_resume_bit_for_bit_after_a_death_in_any_pass() {
    let (folder, _) = prepared().await;
    let folder = folder.path();
    for solver in SOLVERS {
        let train = format!(
            "TRAIN OR REPLACE MODEL m USING {solver} split = 'random', checkpoint_every = 0) \
             FROM 'rows.parquet'"
        );
        succeed(folder, &train.replace("MODEL m ", "MODEL whole "));
        let (expected, expected_history) = (state(folder, "whole"), history(folder, "whole"));
        let mut deaths = 0;
        for pass in [0, 1, 2, 3, 7, 20] {
            if !dies_at(folder, &format!("checkpoint-file:{pass}"), &train) {
                // There are fewer passes.
                continue;
            }
            deaths += 1;
            let output = run(folder, &train);
            assert!(output.status.success(), "{solver}: {}", stderr(&output));
            // (Of the first checkpoint the process dies before it is there.)
            let is_resumed = stderr(&output).contains("resum");
            assert_eq!(is_resumed, pass > 0, "{solver} {pass}: {}", stderr(&output));
            assert_eq!(state(folder, "m"), expected, "{solver} {pass}");
            assert_eq!(history(folder, "m"), expected_history, "{solver} {pass}");
        }
        assert!(deaths > 1, "{solver}: {deaths}");
    }
}

/// After a death in the midst of surplus versions, those that the log names are all readable.
#[tokio::test]
async fn a_death_while_old_versions_are_deleted_leaves_the_kept_ones() {
    let (folder, _) = prepared().await;
    let folder = folder.path();
    let train = "TRAIN OR REPLACE MODEL m USING linear_regression TARGET z \
                 WITH (keep_versions = 1) FROM 'rows.parquet'";
    assert!(dies_at(folder, "publish-old", train));
    assert_eq!(versions(folder), "version,is_current\n2,true\n");
    succeed(folder, "PREDICT MODEL m FROM 'rows.parquet'");
    succeed(folder, train);
    assert_eq!(versions(folder), "version,is_current\n3,true\n");
}

#[tokio::test]
async fn a_death_while_a_model_is_renamed_chosen_or_dropped_leaves_it_whole() {
    let (folder, first) = prepared().await;
    let folder = folder.path();
    succeed(folder, BEFORE);
    for place in ["rename-from-log", "rename-to-log"] {
        assert!(dies_at(folder, place, "ALTER MODEL m RENAME TO other"), "{place}");
        let models = succeed(folder, "SHOW MODELS");
        assert!(models.contains("\nm,") && !models.contains("\nother,"), "{place}: {models}");
        assert_eq!(predictions_of_the_first(folder), first, "{place}");
    }
    succeed(folder, "ALTER MODEL m RENAME TO other");
    let models = succeed(folder, "SHOW MODELS");
    assert!(!models.contains("\nm,") && models.contains("\nother,"), "{models}");
    succeed(folder, "ALTER MODEL other RENAME TO m");
    assert_eq!(predictions_of_the_first(folder), first);
    assert!(dies_at(folder, "set-version-log", "ALTER MODEL m SET VERSION 1"));
    assert_eq!(versions(folder), "version,is_current\n1,false\n2,true\n");
    succeed(folder, "ALTER MODEL m SET VERSION 1");
    assert!(dies_at(folder, "drop-log", "DROP MODEL m VERSION 2"));
    assert_eq!(versions(folder), "version,is_current\n1,true\n2,false\n");
    succeed(folder, "DROP MODEL m VERSION 2");
    assert!(dies_at(folder, "drop-log", "DROP MODEL m"));
    assert_eq!(predictions_of_the_first(folder), first);
    succeed(folder, "DROP MODEL m");
    assert!(!run(folder, "DESCRIBE MODEL m").status.success());
}

/// Ctrl-C keeps the checkpoint and publishes nothing; another statement is refused until it says
/// OR REPLACE, and the same one resumes.
#[tokio::test]
async fn ctrl_c_keeps_the_checkpoint_and_publishes_nothing() {
    let (folder, first) = prepared().await;
    let folder = folder.path();
    let long = TRAIN
        .replace("OR REPLACE MODEL m ", "MODEL fresh ")
        .replace("epochs = 30", "epochs = 400")
        .replace("patience = 25", "early_stop = FALSE")
        .replace("checkpoint_every = 0", "checkpoint_every = '1 hour'");
    succeed(folder, &long.replace("MODEL fresh ", "MODEL whole "));
    let (expected, expected_history) = (state(folder, "whole"), history(folder, "whole"));
    let mut child = gradlake(folder)
        .args(["-c", &long])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first epoch's line shows that the training runs.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let told = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("epoch 1/")));
    assert!(told.is_some(), "no epoch was told of");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{rest:?}");
    assert!(output.stdout.is_empty());
    let last = rest.last().cloned().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains("interrupted"), "{rest:?}");
    assert!(!run(folder, "DESCRIBE MODEL fresh").status.success());
    assert_eq!(predictions_of_the_first(folder), first);

    let other = long.replace("seed = 3", "seed = 4");
    let refused = run(folder, &other);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(text.contains("model fresh has a checkpoint of another statement"), "{text}");
    assert!(text.contains("seed = 3"), "{text}");

    let resumed = run(folder, &long);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("resum"), "{}", stderr(&resumed));
    assert_eq!(state(folder, "fresh"), expected);
    assert_eq!(history(folder, "fresh"), expected_history);
}

/// Rows that have changed since the checkpoint are not learned from as if they were the same.
#[tokio::test]
async fn changed_data_is_not_resumed() {
    let (folder, _) = prepared().await;
    let folder = folder.path();
    assert!(dies_at(folder, "checkpoint-file:20", TRAIN));
    write_rows(&folder.join("rows.parquet"), 6001).await;
    let output = run(folder, TRAIN);
    let text = stderr(&output);
    assert!(text.contains("its data has changed since the checkpoint"), "{text}");
    assert_eq!(versions(folder), "version,is_current\n1,true\n");
}

/// Two processes that train one model: one is refused or they follow one another; both find whole
/// versions.
#[tokio::test]
async fn two_processes_publish_one_after_the_other() {
    let (folder, first) = prepared().await;
    let folder = folder.path();
    let train = TRAIN.replace("epochs = 30", "epochs = 2");
    let children: Vec<Child> = (0..4)
        .map(|_| {
            gradlake(folder)
                .args(["-c", &train])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut successes = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            successes += 1;
        } else {
            let text = stderr(&output);
            assert!(text.contains("model m is being trained by"), "{text}");
        }
    }
    assert!(successes >= 1);
    assert_eq!(versions(folder).lines().count() - 1, 1 + successes);
    assert_eq!(predictions_of_the_first(folder), first);
}

/// A disk that is full: a file may have no more than so many blocks of 1024 bytes.
/// Running statistics of batch_norm and the draws of dropout are part of what is resumed.
#[tokio::test]
async fn kills_of_a_network_of_any_layers_change_nothing() {
    let (folder, _) = prepared().await;
    let folder = folder.path();
    let train = "TRAIN OR REPLACE MODEL m USING network_classifier TARGET k FEATURES (a, b, c) \
                 LAYERS (dense(16), batch_norm, relu, dropout(0.2), dense(8), tanh) \
                 WITH (epochs = 30, round_rows = 1024, batch_size = 32, checkpoint_every = 0, \
                 patience = 25) FROM 'rows.parquet'";
    let begun = Instant::now();
    succeed(folder, &train.replace("MODEL m ", "MODEL whole "));
    let took = begun.elapsed();
    let mut draws = Draws(5);
    for _ in 0..8 {
        let mut child = spawn(folder, train);
        std::thread::sleep(draws.below(took));
        let _ = child.kill();
        child.wait().unwrap();
    }
    succeed(folder, train);
    assert_eq!(state(folder, "m"), state(folder, "whole"));
    assert_eq!(history(folder, "m"), history(folder, "whole"));
}

fn with_small_files(folder: &Path, blocks: u64, arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_gradlake");
    Command::new("bash")
        .current_dir(folder)
        .args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), "bash", binary])
        .args(["--warehouse", "warehouse"])
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test]
async fn a_full_disk_stops_a_publication_and_loses_nothing() {
    let (folder, first) = prepared().await;
    let folder = folder.path();
    let train = "TRAIN OR REPLACE MODEL m USING mlp_classifier TARGET k \
                 WITH (hidden = [256, 256], epochs = 1) FROM 'rows.parquet'";
    let output = with_small_files(folder, 64, &["-c", train]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stderr(&output);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("error: the model store could not write"), "{text}");
    assert!(last.contains("parameters.parquet"), "{text}");
    assert_eq!(versions(folder), "version,is_current\n1,true\n");
    assert_eq!(predictions_of_the_first(folder), first);
    // Nothing of the attempt is left, and the next one finds no obstacle.
    let folders = std::fs::read_dir(folder.join("warehouse/models/m")).unwrap();
    let of_versions = folders
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('v'));
    assert_eq!(of_versions.count(), 1);
    succeed(folder, train);
    assert_eq!(versions(folder), "version,is_current\n1,false\n2,true\n");
}

#[tokio::test]
async fn a_full_disk_stops_spilling_and_publishes_nothing() {
    let (folder, first) = prepared().await;
    let folder = folder.path();
    let columns: Vec<String> =
        (0..100).map(|i| format!("((value * {}) % 1009) / 1009.0 AS x{i}", 7919 + 2 * i)).collect();
    succeed(
        folder,
        &format!(
            "COPY (SELECT {}, value % 7 > 3 AS y FROM generate_series(1, 60000) ORDER BY value) \
             TO 'wide.parquet'",
            columns.join(", ")
        ),
    );
    let train = "TRAIN OR REPLACE MODEL m USING linear_svm TARGET y WITH (epochs = 1) \
                 FROM 'wide.parquet'";
    let output = with_small_files(folder, 4096, &["--memory-limit", "24MB", "-c", train]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stderr(&output);
    let last = text.lines().last().unwrap();
    assert!(last.contains("could not be spilled to disk"), "{text}");
    assert_eq!(versions(folder), "version,is_current\n1,true\n");
    assert_eq!(predictions_of_the_first(folder), first);
    let output = with_small_files(folder, 1 << 20, &["--memory-limit", "24MB", "-c", train]);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// A lease outlives no owner: a training whose process was killed does not keep others waiting.
#[tokio::test]
async fn a_killed_owner_frees_the_lease() {
    let (folder, _) = prepared().await;
    let database = Database::with(Arc::clone(&folder), |_| {}).await;
    let mut child = spawn(folder.path(), &TRAIN.replace("epochs = 30", "epochs = 100000"));
    let locks = folder.path().join("warehouse/models/m/checkpoints");
    let begun = Instant::now();
    while std::fs::read_dir(&locks).map_or(0, Iterator::count) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    let file = database.path("rows.parquet");
    let other = format!(
        "TRAIN OR REPLACE MODEL m USING linear_regression TARGET z FROM '{}'",
        file.display()
    );
    let error = database.error(&other).await;
    assert!(error.contains("model m is being trained by"), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    database.rows(&other).await;
    let warnings = database.warnings();
    assert!(warnings.iter().any(|w| w.contains("is discarded")), "{warnings:?}");
}
