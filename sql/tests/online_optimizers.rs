//! Every optimizer on a stream, one row a step: progressive losses are those of numpy, River and
//! Vowpal Wabbit, which `oracle/online.py` wrote.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod common;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use common::Database;
use serde_json::Value;

/// One training; losses are means over the rows so far, every 100 rows.
struct Case {
    algorithm: String,
    target: String,
    weight: Option<String>,
    options: String,
    losses: Vec<f64>,
}

impl Case {
    fn all() -> Vec<Self> {
        let cases: Vec<Value> = serde_json::from_str(include_str!("oracle/online.json")).unwrap();
        let text = |case: &Value, key: &str| case[key].as_str().map(str::to_owned);
        let case = |case: &Value| Self {
            algorithm: text(case, "algorithm").unwrap(),
            target: text(case, "target").unwrap(),
            weight: text(case, "weight"),
            options: text(case, "options").unwrap(),
            losses: case["losses"].as_array().unwrap().iter().filter_map(Value::as_f64).collect(),
        };
        cases.iter().map(case).collect()
    }

    fn train(&self, model: &str, more: &str, from: &str) -> String {
        let Self { algorithm, target, options, weight, .. } = self;
        let clause = weight.as_ref().map_or_else(String::new, |name| format!("WEIGHT {name}"));
        let column = weight.as_ref().map_or_else(String::new, |name| format!(", {name}"));
        format!(
            "TRAIN OR REPLACE MODEL {model} USING {algorithm} TARGET {target} {clause} \
             WITH ({options}, batch_size = 1{more}) \
             AS SELECT a, b, c, d, color{column}, {target} FROM {from}"
        )
    }
}

/// The rows of `oracle/online.csv` as a table, and as a folder of files that is an unbounded table.
async fn tables(database: &Database) {
    let csv = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/online.csv");
    let columns = "row BIGINT, a DOUBLE, b DOUBLE, c DOUBLE, d DOUBLE, color VARCHAR, h DOUBLE, \
                   y BOOLEAN, z DOUBLE";
    database
        .rows(&format!(
            "CREATE EXTERNAL TABLE written ({columns}) STORED AS CSV LOCATION '{csv}' \
             OPTIONS ('format.has_header' 'true')"
        ))
        .await;
    let parts = database.path("parts");
    std::fs::create_dir_all(&parts).unwrap();
    for (file, begin) in [0, 130, 600, 601].into_iter().enumerate() {
        let end = [130, 600, 601, 1000][file];
        database
            .rows(&format!(
                "COPY (SELECT * FROM written WHERE row >= {begin} AND row < {end} ORDER BY row) \
                 TO '{}/{file}.parquet' STORED AS PARQUET",
                parts.display()
            ))
            .await;
    }
    database
        .rows(&format!(
            "CREATE UNBOUNDED EXTERNAL TABLE stream ({columns}) STORED AS PARQUET \
             LOCATION '{}/' OPTIONS ('end' 'when_empty', 'poll' '10 ms')",
            parts.display()
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progressive_losses_are_those_of_independent_implementations() {
    let cases = Case::all();
    let database = Database::open().await;
    tables(&database).await;
    let mut worst = vec![];
    for case in &cases {
        let name = format!("{} {:?} {}", case.algorithm, case.weight, case.options);
        let published = database
            .rows(&case.train("m", ", publish_every = '100 rows', keep_versions = 20", "stream"))
            .await;
        let rows = published.column_by_name("rows").unwrap().as_primitive::<Int64Type>();
        let expected: Vec<i64> = (1..=10).map(|mark| 100 * mark).collect();
        assert_eq!(rows.values().to_vec(), expected, "{name}");
        let losses = published.column_by_name("loss").unwrap().as_primitive::<Float64Type>();
        let gaps = losses.values().iter().zip(&case.losses).map(|(a, b)| (a - b).abs());
        let most = gaps.fold(0.0, f64::max);
        worst.push((most, name));
    }
    assert_eq!(worst.len(), 35);
    for (gap, name) in &worst {
        println!("{gap:.1e} {name}");
    }
    let wrong: Vec<_> = worst.iter().filter(|(gap, _)| gap.is_nan() || *gap > 1e-5).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// With running statistics a table is the same stream; so are the losses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_running_statistics_has_the_same_losses() {
    let cases = Case::all();
    let database = Database::open().await;
    tables(&database).await;
    for case in &cases {
        let from = "written ORDER BY row";
        let trained = database.rows(&case.train("m", ", statistics = 'running'", from)).await;
        let loss = trained.column_by_name("loss").unwrap().as_primitive::<Float64Type>().value(0);
        let truth = case.losses[9];
        assert!(
            (loss - truth).abs() <= 1e-5,
            "{} {}: {loss}, not {truth}",
            case.algorithm,
            case.options
        );
    }
}
