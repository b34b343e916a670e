//! The same rows, options and seed give the same weights, bit for bit: at any number of threads,
//! replicas of a kind, within any memory limit, alone or as a group among others.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Database, write_rows};

/// Statements that train in every way there is.
const WAYS: [(&str, &str); 22] = [
    ("linear_regression", "TARGET z"),
    ("logistic_regression", "TARGET y"),
    ("logistic_regression", "TARGET k WITH (solver = 'sgd', epochs = 3)"),
    ("logistic_regression", "TARGET k WITH (solver = 'lbfgs')"),
    ("logistic_regression", "TARGET y WITH (l1 = 0.001)"),
    ("linear_svm", "TARGET k"),
    ("linear_regression", "TARGET z WITH (loss = 'huber')"),
    ("linear_svm", "TARGET y WITH (epochs = 3, replicas = 2)"),
    ("mlp_classifier", "TARGET k WITH (hidden = [16, 8], epochs = 3, dropout = 0.1)"),
    ("mlp_regressor", "TARGET z WITH (hidden = [16], epochs = 3, replicas = 8, round_rows = 2000)"),
    (
        "mlp_classifier",
        "TARGET y WITH (hidden = [16], epochs = 3, replicas = 4, parallel = 'gradient')",
    ),
    ("mlp_regressor", "TARGET z WITH (hidden = [8], epochs = 2, shuffle = FALSE, loss = 'huber')"),
    ("linear_regression", "TARGET (z, a)"),
    ("mlp_regressor", "TARGET (z, a) WITH (hidden = [16], epochs = 3)"),
    (
        "mlp_classifier",
        "TRANSFORM (*, a > 0.5 AS w) TARGET (y, w) WITH (hidden = [16], epochs = 3)",
    ),
    (
        "network_classifier",
        "TARGET k LAYERS (dense(24), batch_norm, relu, residual(dense(24), tanh, dropout(0.1))) \
         WITH (epochs = 3)",
    ),
    (
        "network_regressor",
        "TARGET z FEATURES (a, b, c) LAYERS FOR a, b (reshape(2, 1), conv(8, 2), relu, gru(6)) \
         LAYERS (concat, dense(8), relu) WITH (epochs = 2)",
    ),
    ("kmeans", "WITH (k = 5, epochs = 10)"),
    (
        "kmeans",
        "FEATURES (a, b) WITH (k = 9, init = 'kmeans++', restarts = 2, distance = 'cosine')",
    ),
    ("kmeans", "WITH (k = 4, init = 'random', epochs = 5, split = 'random')"),
    ("pca", ""),
    ("pca", "WITH (components = 2, svd = 'randomized')"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_and_repetition_change_nothing() {
    let one = Database::with(Arc::new(tempfile::tempdir().unwrap()), |o| o.threads = Some(1)).await;
    let two = Database::open().await;
    let file = one.path("rows.parquet");
    write_rows(&file, 20_000).await;
    for (algorithm, rest) in WAYS {
        let mut all = vec![];
        for database in [&one, &two, &two] {
            let sql = format!(
                "TRAIN OR REPLACE MODEL m USING {algorithm} {rest} AS SELECT * FROM '{}'",
                file.display()
            );
            database.rows(&sql).await;
            all.push(database.weights("m").await);
        }
        assert!(all[0].iter().any(|bits| *bits != 0), "{rest}");
        assert_eq!(all[0], all[1], "one thread and two differ: {algorithm} {rest}");
        assert_eq!(all[1], all[2], "a repetition differs: {algorithm} {rest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_decides() {
    let database = Database::open().await;
    let file = database.path("rows.parquet");
    write_rows(&file, 3000).await;
    let mut all = vec![];
    for seed in [1, 1, 2] {
        let sql = format!(
            "TRAIN OR REPLACE MODEL m USING mlp_classifier TARGET y \
             WITH (hidden = [4], epochs = 2, seed = {seed}) FROM '{}'",
            file.display()
        );
        database.rows(&sql).await;
        all.push(database.weights("m").await);
    }
    assert_eq!(all[0], all[1]);
    assert_ne!(all[1], all[2]);
}

/// 60,000 rows of 200 numbers are 48 MB encoded; the pool allows 24 MB. Numbers that float32 holds
/// are loaded in a single pass if all of them train, others are kept first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spilled_changes_nothing() {
    let roomy = Database::open().await;
    let tight = Database::with(Arc::new(tempfile::tempdir().unwrap()), |options| {
        options.memory_limit = Some(24_000_000);
    })
    .await;
    let file = roomy.path("wide.parquet");
    for number in ["DOUBLE", "REAL"] {
        let column =
            |i| format!("CAST(((value * {}) % 1009) / 1009.0 AS {number}) AS x{i}", 7919 + 2 * i);
        let columns: Vec<String> = (0..200).map(column).collect();
        let sql = format!(
            "COPY (SELECT {}, value % 7 > 3 AS y FROM generate_series(1, 60000) ORDER BY value) \
             TO '{}'",
            columns.join(", "),
            file.display()
        );
        roomy.rows(&sql).await;
        for (shuffle, split) in
            [("TRUE", "auto"), ("FALSE", "auto"), ("TRUE", "none"), ("FALSE", "none")]
        {
            let sql = format!(
                "TRAIN OR REPLACE MODEL m USING linear_svm TARGET y \
                 WITH (epochs = 3, shuffle = {shuffle}, split = '{split}') FROM '{}'",
                file.display()
            );
            let mut all = vec![];
            for database in [&roomy, &tight] {
                database.rows(&sql).await;
                all.push(database.weights("m").await);
            }
            assert_eq!(all[0], all[1], "{number}, shuffle = {shuffle}, split = {split}");
        }
    }
    let explained = tight
        .rows(&format!(
            "EXPLAIN ANALYZE TRAIN MODEL other USING linear_svm TARGET y WITH (epochs = 1) FROM '{}'",
            file.display()
        ))
        .await;
    let text = arrow::util::pretty::pretty_format_batches(&[explained]).unwrap().to_string();
    assert!(text.contains("spilled") && !text.contains(" 0 spilled"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_equals_the_model_trained_on_it_alone() {
    let database = Database::open().await;
    let file = database.path("rows.parquet");
    write_rows(&file, 9000).await;
    for (algorithm, rest) in WAYS {
        let query = format!("AS SELECT * FROM '{}'", file.display());
        database
            .rows(&format!(
                "TRAIN OR REPLACE MODEL groups USING {algorithm} {} PARTITION BY g {} {query}",
                rest.split("WITH").next().unwrap(),
                rest.split_once("WITH").map_or(String::new(), |(_, with)| format!("WITH{with}")),
            ))
            .await;
        for group in ["g0", "g3"] {
            database
                .rows(&format!(
                    "TRAIN OR REPLACE MODEL alone USING {algorithm} {rest} \
                     AS SELECT a, b, c, y, k, z FROM '{}' WHERE g = '{group}'",
                    file.display()
                ))
                .await;
            for table in ["parameters", "features", "metrics", "weights", "optimizer"] {
                let grouped = database
                    .rows(&format!(
                        "SELECT * EXCEPT (g) FROM model.groups.{table} WHERE g = '{group}'"
                    ))
                    .await;
                let alone = database.rows(&format!("SELECT * FROM model.alone.{table}")).await;
                assert_eq!(grouped.columns(), alone.columns(), "{algorithm} {rest}: {table}");
            }
        }
    }
}

/// The bytes of a file are not the order of its rows: cut into many files and row groups, the same
/// rows give the same weights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_row_groups_change_nothing() {
    let database = Database::open().await;
    let file = database.path("rows.parquet");
    write_rows(&file, 12_000).await;
    let parts = database.path("parts");
    std::fs::create_dir(&parts).unwrap();
    for part in 0..3 {
        database
            .rows(&format!(
                "COPY (SELECT * FROM '{}' LIMIT 4000 OFFSET {}) TO '{}/{part}.parquet' STORED AS \
                 PARQUET OPTIONS ('format.max_row_group_size' '1000')",
                file.display(),
                part * 4000,
                parts.display()
            ))
            .await;
    }
    let mut all = vec![];
    for source in [file.display().to_string(), format!("{}/", parts.display())] {
        database
            .rows(&format!(
                "TRAIN OR REPLACE MODEL m USING mlp_classifier TARGET k \
                 WITH (hidden = [8], epochs = 2) FROM '{source}'"
            ))
            .await;
        all.push(database.weights("m").await);
    }
    assert_eq!(all[0], all[1]);
}
