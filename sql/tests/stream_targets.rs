//! Regressions on streams whose targets are far from 0, tiny, constant or drifting: the defaults
//! learn them, and what is told is in the target's own unit.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod common;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use common::{Database, create_parts, gradlake, succeed, write_parts};
use gradlake_engine::failpoints;

/// A table `rows` of `x` like draws around 100, and a stream of it.
async fn rows(database: &Database, count: usize, target: &str) {
    let part = database.path("in");
    let _ = std::fs::remove_dir_all(&part);
    database
        .rows(&format!(
            "CREATE OR REPLACE TABLE rows AS SELECT x, noise, i, {target} AS y FROM (SELECT value AS i, \
             100 + 50 * ((((value * 7919) % 10007) + ((value * 104729) % 10009)) / 10008.0 - 1) AS x, \
             ((value * 15485863) % 1009) / 1009.0 - 0.5 AS noise FROM generate_series(1, {count})) \
             ORDER BY i"
        ))
        .await;
    database
        .rows(&format!(
            "COPY (SELECT x, y FROM rows ORDER BY i) TO '{}/a.parquet' STORED AS PARQUET",
            part.display()
        ))
        .await;
    database
        .rows(&format!(
            "CREATE OR REPLACE UNBOUNDED EXTERNAL TABLE stream (x DOUBLE, y DOUBLE) STORED AS PARQUET \
             LOCATION '{}/' OPTIONS ('end' 'when_empty', 'poll' '10 ms')",
            part.display()
        ))
        .await;
}

async fn train(database: &Database, options: &str) {
    database
        .rows(&format!(
            "TRAIN OR REPLACE MODEL m USING linear_regression TARGET y WITH (seed = 1{options}) FROM \
             stream"
        ))
        .await;
}

async fn weights(database: &Database) -> (f64, f64) {
    let sql = "SELECT weight FROM model.m.weights WHERE processed_input = ";
    let x = database.number(&format!("{sql}'x'")).await;
    (x, database.number(&format!("{sql}'__INTERCEPT__'")).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_defaults_learn_a_target_of_thousands() {
    let database = Database::open().await;
    rows(&database, 100_000, "1000 + 5 * x").await;
    for options in ["", ", loss = 'absolute'", ", loss = 'huber'"] {
        train(&database, options).await;
        let (x, intercept) = weights(&database).await;
        assert!((x / 5.0 - 1.0).abs() < 0.01, "{options}: {x}");
        assert!((intercept / 1000.0 - 1.0).abs() < 0.01, "{options}: {intercept}");
    }
    // Predictions and errors are in the target's unit, and a model that goes on keeps its scale.
    let predicted = database.number("SELECT predict('m', 200.0)").await;
    assert!((predicted - 2000.0).abs() < 20.0, "{predicted}");
    database
        .rows(
            "TRAIN OR REPLACE MODEL more USING linear_regression TARGET y CONTINUE m \
             WITH (publish_every = '10000 rows') FROM stream",
        )
        .await;
    let error = "SELECT value FROM model.more.metrics WHERE metric = 'mean_absolute_error'";
    let error = database.number(error).await;
    assert!((1e-6..20.0).contains(&error), "{error}");
    let predicted = database.number("SELECT predict('more', 200.0)").await;
    assert!((predicted - 2000.0).abs() < 10.0, "{predicted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_may_be_far_tiny_or_constant() {
    let database = Database::open().await;
    // Deviations of 1e-6 about a million, which are some thousand steps of its float64.
    rows(&database, 50_000, "1e6 + 1e-8 * x").await;
    for options in ["", ", batch_size = 1, optimizer = 'sgd', learning_rate = 0.01"] {
        train(&database, options).await;
        let sql = "SELECT predict('m', 150.0) - predict('m', 50.0)";
        let slope = database.number(sql).await / 100.0;
        assert!((slope / 1e-8 - 1.0).abs() < 0.02, "{options}: {slope}");
        let predicted = database.number("SELECT predict('m', 100.0)").await;
        assert!((predicted - (1e6 + 1e-6)).abs() < 1e-7, "{options}: {predicted}");
    }
    rows(&database, 2000, "7.25").await;
    for (options, network) in [("", ""), (", optimizer = 'ftrl'", ""), ("", "mlp_regressor")] {
        train(&database, options).await;
        assert_eq!(weights(&database).await, (0.0, 7.25), "{options}");
        if !network.is_empty() {
            let sql = "TRAIN OR REPLACE MODEL m USING mlp_regressor TARGET y FROM stream";
            database.rows(sql).await;
            let predicted = database.number("SELECT predict('m', 90.0)").await;
            assert!((predicted - 7.25).abs() < 0.5, "{predicted}");
        }
    }
    // The first row alone is scored without knowing anything.
    train(&database, ", batch_size = 1").await;
    let loss = "SELECT value FROM model.m.metrics WHERE metric = 'mean_absolute_error'";
    let loss = database.number(loss).await;
    assert!((loss * 2000.0 - 7.25).abs() < 1e-9, "{loss}");
    // A deviation beyond float64 is refused with a sentence.
    rows(&database, 100, "CASE WHEN i % 2 = 0 THEN 1e200 ELSE -1e200 END").await;
    let sql = "TRAIN OR REPLACE MODEL m USING linear_regression TARGET y FROM stream";
    let error = database.error(sql).await;
    assert!(error.contains("deviation leaves the range of 64-bit numbers"), "{error}");
}

/// The level moves by a hundred deviations on the way, and the model with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_may_drift() {
    let database = Database::open().await;
    rows(&database, 100_000, "2 * x + 0.01 * i + noise").await;
    for options in ["", ", batch_size = 16"] {
        train(&database, options).await;
        let sql = "SELECT predict('m', 100.0)";
        let predicted = database.number(sql).await;
        // At the end the level is 1,000; the deviation of all rows is some 290.
        assert!((predicted - 1200.0).abs() < 20.0, "{options}: {predicted}");
        let sql = "SELECT (predict('m', 150.0) - predict('m', 50.0)) / 100";
        let slope = database.number(sql).await;
        assert!((slope - 2.0).abs() < 0.5, "{options}: {slope}");
    }
}

/// Every loss that standardises its target, on a stream and on its rows as a table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_its_rows_as_a_table_for_every_loss() {
    let database = Database::open().await;
    rows(&database, 5000, "1e4 + 3 * x + 10 * noise").await;
    for options in [
        "loss = 'squared', batch_size = 7",
        "loss = 'absolute', optimizer = 'momentum', learning_rate = 0.001, batch_size = 64",
        "loss = 'huber', optimizer = 'ftrl', l1 = 0.0001, batch_size = 32",
        "loss = 'squared', standardize = FALSE, optimizer = 'sgd', learning_rate = 0.00001",
        "loss = 'poisson', learning_rate = 0.01",
        "optimizer = 'adaptive_invariant'",
        "optimizer = 'adaptive_invariant', standardize = TRUE",
    ] {
        for (model, more, from) in
            [("stream", "", "stream"), ("whole", ", statistics = 'running'", "rows ORDER BY i")]
        {
            database
                .rows(&format!(
                    "TRAIN OR REPLACE MODEL {model} USING linear_regression TARGET y \
                     WITH ({options}{more}) AS SELECT x, y FROM {from}"
                ))
                .await;
        }
        let [a, b] = [database.weights("stream").await, database.weights("whole").await];
        assert_eq!(a, b, "{options}");
        for column in ["label_mean", "label_stddev"] {
            let sql = |model: &str| format!("SELECT {column} FROM model.{model}.members");
            let scale = database.rows(&sql("stream")).await;
            assert_eq!(scale.columns(), database.rows(&sql("whole")).await.columns());
            let value = scale.column(0).as_primitive::<Float64Type>().value(0);
            let is_standardised =
                ["squared', batch", "absolute", "huber"].iter().any(|part| options.contains(part));
            let plain = if column == "label_mean" { 0.0 } else { 1.0 };
            assert_eq!(value != plain, is_standardised, "{options}: {column} is {value}");
        }
    }
}

/// The statistics of the target are in the checkpoint.
#[tokio::test]
async fn a_regression_comes_back_after_a_death_with_the_same_bits() {
    let database = Database::open().await;
    write_parts(&database, 4, 250).await;
    let folder = database.folder.path();
    let create = create_parts(folder);
    let train = "TRAIN OR REPLACE MODEL m USING mlp_regressor TARGET z WITH (hidden = [4], \
                 batch_size = 4, checkpoint_every = 0, publish_every = '90 rows') \
                 AS SELECT a, b, c, 1e4 + 100 * z AS z FROM parts";
    let state = |model: &str| {
        ["parameters", "optimizer", "members", "metrics"]
            .map(|table| format!("SELECT * FROM model.{model}.{table}"))
            .map(|sql| succeed(folder, &[&sql]))
            .concat()
    };
    succeed(folder, &[&create, &train.replace("MODEL m ", "MODEL whole ")]);
    let expected = state("whole");
    for times in [1, 4, 9] {
        let output = gradlake(folder)
            .args(["-q", "-c", &create, "-c", train])
            .env(failpoints::VARIABLE, format!("publish-parameters:{times}"))
            .output()
            .unwrap();
        assert!(output.status.code().is_none(), "publication {times} was passed");
        succeed(folder, &[&create, train]);
        assert_eq!(state("m"), expected, "publication {times}");
    }
}
