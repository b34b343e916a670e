//! Tables of thousands of columns: what would take time with the square of their number takes long
//! enough here to be seen, and each column is where it belongs.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fmt::Write as _;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use common::Database;
use gradlake_engine::Event;

const COLUMNS: usize = 5_000;

/// Rows of `COLUMNS` numbers, a class `k`, a group `g` and `y`, which is the first minus the last
/// number.
fn write_csv(path: &Path, rows: usize) {
    let mut text = String::new();
    for column in 0..COLUMNS {
        write!(text, "Col {column},").unwrap();
    }
    text.push_str("k,g,y\n");
    for row in 0..rows {
        let value = |column: usize| (row * 7 + column * 13 + row * column) % 11;
        for column in 0..COLUMNS {
            write!(text, "{},", value(column)).unwrap();
        }
        let y = value(0) as f64 - value(COLUMNS - 1) as f64;
        writeln!(text, "c{},g{},{y:.1}", row % 3, row % 2).unwrap();
    }
    std::fs::write(path, text).unwrap();
}

async fn ints(database: &Database, sql: &str) -> Vec<i64> {
    let rows = database.rows(sql).await;
    let column = |i: usize| {
        let column = arrow::compute::cast(rows.column(i), &arrow::datatypes::DataType::Int64);
        column.unwrap().as_primitive::<Int64Type>().value(0)
    };
    (0..rows.num_columns()).map(column).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_takes_thousands_of_columns() {
    let database = Database::open().await;
    let (csv, parquet) = (database.path("wide.csv"), database.path("wide.parquet"));
    let (csv, parquet) = (csv.display(), parquet.display());
    write_csv(&database.path("wide.csv"), 60);
    database.rows(&format!("COPY '{csv}' TO '{parquet}' STORED AS PARQUET")).await;
    for file in [csv.to_string(), parquet.to_string()] {
        let train = "USING linear_regression TARGET y WITH (epochs = 2)";
        database.rows(&format!("TRAIN OR REPLACE MODEL wide {train} FROM '{file}'")).await;
        database.rows(&format!("EXPLAIN TRAIN MODEL x {train} AS SELECT * FROM '{file}'")).await;
        let counts = "SELECT count(predicted_y), count(\"Col 4999\")";
        for query in [
            format!("PREDICT MODEL wide FROM '{file}'"),
            format!("PREDICT MODEL wide AS SELECT * FROM '{file}'"),
        ] {
            assert_eq!(ints(&database, &format!("{counts} FROM ({query})")).await, [60, 60]);
            let rows = database.rows(&query).await;
            assert_eq!((rows.num_rows(), rows.num_columns()), (60, COLUMNS + 4));
        }
        let metrics = database.rows(&format!("EVALUATE MODEL wide FROM '{file}'")).await;
        assert_eq!(metrics.num_columns(), 6);
        // Groups, of fewer rows than columns.
        let groups =
            "USING logistic_regression TARGET k PARTITION BY g WITH (epochs = 1, solver = 'sgd')";
        database.rows(&format!("TRAIN OR REPLACE MODEL groups {groups} FROM '{file}'")).await;
        let query = format!("SELECT count(predicted_k) FROM (PREDICT MODEL groups FROM '{file}')");
        assert_eq!(ints(&database, &query).await, [60]);
    }
    assert_eq!(database.rows("DESCRIBE MODEL wide").await.num_rows(), COLUMNS + 3);
    let weights = "SELECT count(*), count(DISTINCT processed_input) FROM model.wide.weights";
    // k and g are of three and two categories.
    assert_eq!(ints(&database, weights).await, [COLUMNS as i64 + 6, COLUMNS as i64 + 3]);
    let features = "SELECT count(*), count(DISTINCT feature) FROM model.wide.features";
    assert_eq!(ints(&database, features).await, [COLUMNS as i64 + 2; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_columns_has_its_own_weight() {
    let database = Database::open().await;
    let file = database.path("wide.csv");
    write_csv(&file, 60);
    // Columns in reverse order, in another case, and one that is read past.
    let list = |columns: &mut dyn Iterator<Item = usize>, case: &str| -> String {
        columns.map(|column| format!("\"{case} {column}\"")).collect::<Vec<_>>().join(", ")
    };
    let train = format!(
        "TRAIN MODEL m USING linear_regression TARGET y FEATURES ({}) WITH (epochs = 1) FROM '{}'",
        list(&mut (0..COLUMNS).rev(), "col"),
        file.display()
    );
    database.rows(&train).await;
    let described = database.rows("DESCRIBE MODEL m").await;
    let names = described.column(0).as_string::<i32>();
    assert_eq!((names.value(0), names.value(COLUMNS - 1)), ("Col 4999", "Col 0"));
    let predict = |query: String| {
        format!("SELECT sum(predicted_y) FROM (PREDICT MODEL m {query}) WHERE y > 0")
    };
    let straight = database.number(&predict(format!("FROM '{}'", file.display()))).await;
    // The same columns in another order and case.
    let select: Vec<_> =
        (0..COLUMNS).rev().map(|column| format!("\"Col {column}\" AS \"COL {column}\"")).collect();
    let query = format!("AS SELECT y, {} FROM '{}'", select.join(", "), file.display());
    let turned = database.number(&predict(query)).await;
    assert!((straight - turned).abs() < 1e-9, "{straight} is not {turned}");
}

/// `predict(...)` with thousands of arguments, and with a struct of as many fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_take_thousands_of_arguments() {
    const ARGUMENTS: usize = 2_000;
    let database = Database::open().await;
    let columns: Vec<_> =
        (0..ARGUMENTS).map(|i| format!("CAST(value % {} AS REAL) AS c{i}", i + 2)).collect();
    let make = format!(
        "CREATE TABLE rows AS SELECT {}, value * 1.0 AS y FROM generate_series(1, 20)",
        columns.join(", ")
    );
    database.rows(&make).await;
    database.rows("TRAIN MODEL m USING linear_regression TARGET y FROM rows").await;
    let names: Vec<_> = (0..ARGUMENTS).map(|i| format!("c{i}")).collect();
    let named: Vec<_> = names.iter().rev().map(|name| format!("{name}: {name}")).collect();
    let straight =
        database.number("SELECT sum(predicted_y) FROM (PREDICT MODEL m FROM rows)").await;
    for argument in [names.join(", "), format!("{{{}}}", named.join(", "))] {
        let sum = database.number(&format!("SELECT sum(predict('m', {argument})) FROM rows")).await;
        assert!((straight - sum).abs() < 1e-9, "{straight} is not {sum}");
    }
    // As one feature, whose fields are features.
    let train = format!(
        "TRAIN MODEL one USING linear_regression TARGET y AS SELECT {{{}}} AS s, y FROM rows",
        named.join(", ")
    );
    database.rows(&train).await;
    let query = format!(
        "SELECT sum(predicted_y) FROM (PREDICT MODEL one AS SELECT {{{}}} AS s FROM rows)",
        names.iter().map(|name| format!("{name}: {name}")).collect::<Vec<_>>().join(", ")
    );
    let sum = database.number(&query).await;
    assert!((straight - sum).abs() < 0.01, "{straight} is not {sum}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transform_takes_thousands_of_columns() {
    let database = Database::open().await;
    let file = database.path("wide.csv");
    write_csv(&file, 60);
    let file = file.display();
    let outputs: Vec<_> = (0..COLUMNS)
        .map(|i| match i % 2 {
            0 => format!("\"Col {i}\" * 2 AS \"Col {i}\""),
            _ => format!("\"Col {i}\""),
        })
        .collect();
    for items in
        [outputs.join(", "), "* EXCEPT (k, g, y) REPLACE (\"Col 7\" + 1 AS \"Col 7\")".to_owned()]
    {
        let train = format!(
            "TRAIN OR REPLACE MODEL m USING linear_regression TRANSFORM ({items}) TARGET y \
             WITH (epochs = 1) FROM '{file}'"
        );
        database.rows(&train).await;
        let query = format!("SELECT count(predicted_y) FROM (PREDICT MODEL m FROM '{file}')");
        assert_eq!(ints(&database, &query).await, [60]);
        assert_eq!(database.rows(&format!("EVALUATE MODEL m FROM '{file}'")).await.num_rows(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_have_thousands_of_columns() {
    let database = Database::open().await;
    let file = database.path("wide.csv");
    write_csv(&file, 60);
    let columns: Vec<_> = (0..COLUMNS).map(|i| format!("\"Col {i}\" DOUBLE")).collect();
    let create = format!(
        "CREATE UNBOUNDED EXTERNAL TABLE flow ({}, k TEXT, g TEXT, y DOUBLE) STORED AS CSV LOCATION \
         '{}' OPTIONS ('format.has_header' 'true')",
        columns.join(", "),
        file.display()
    );
    database.rows(&create).await;
    database.rows("TRAIN MODEL m USING linear_regression TARGET Y FROM flow").await;
    let scored = database.rows("PREDICT MODEL m FROM flow").await;
    assert_eq!((scored.num_rows(), scored.num_columns()), (60, COLUMNS + 6));
    let out = database.path("scored");
    database
        .rows(&format!(
            "COPY (PREDICT MODEL m FROM flow) TO '{}/' STORED AS PARQUET",
            out.display()
        ))
        .await;
    let counted = format!("SELECT count(predicted_y), count(\"Col 0\") FROM '{}/'", out.display());
    assert_eq!(ints(&database, &counted).await, [60, 60]);
    assert!(!database.events().iter().any(|event| matches!(event, Event::Warning(_))));
}

/// Vectors of thousands of elements, and hundreds of thousands of categories.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wide_vectors_and_many_categories() {
    let database = Database::open().await;
    let file = database.path("vectors.parquet");
    let copy = format!(
        "COPY (SELECT arrow_cast(array_repeat(CAST(value % 7 AS REAL), 10000), \
         'FixedSizeList(10000, Float32)') AS v, value * 1.0 AS y FROM generate_series(1, 30)) \
         TO '{}' STORED AS PARQUET",
        file.display()
    );
    database.rows(&copy).await;
    let file = file.display();
    let train = "USING linear_regression TARGET y WITH (epochs = 1)";
    database.rows(&format!("TRAIN MODEL v {train} FROM '{file}'")).await;
    let query = format!("SELECT count(predicted_y) FROM (PREDICT MODEL v FROM '{file}')");
    assert_eq!(ints(&database, &query).await, [30]);
    assert_eq!(ints(&database, "SELECT count(*) FROM model.v.features").await, [10_000]);
    let make = "CREATE TABLE many AS SELECT concat('text ', value) AS c, value % 2 AS y \
                FROM generate_series(1, 200000)";
    database.rows(make).await;
    database
        .rows("TRAIN MODEL c USING logistic_regression TARGET y WITH (epochs = 1, split = 'none') FROM many")
        .await;
    let query = "SELECT count(predicted_y) FROM (PREDICT MODEL c FROM many)";
    assert_eq!(ints(&database, query).await, [200_000]);
    let rows = database.rows("SELECT count(*) FROM model.c.weights").await;
    let rows = arrow::compute::cast(rows.column(0), &arrow::datatypes::DataType::Float64).unwrap();
    assert_eq!(rows.as_primitive::<Float64Type>().value(0), 200_001.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_may_be_very_long() {
    let database = Database::open().await;
    let name = format!("{}name", "Long ".repeat(2_000));
    let make = format!(
        "CREATE TABLE t AS SELECT value AS \"{name}\", value * 2 AS y FROM generate_series(1, 9)"
    );
    database.rows(&make).await;
    database.rows("TRAIN MODEL m USING linear_regression TARGET y FROM t").await;
    let other = name.to_uppercase();
    let query =
        format!("SELECT round(predicted_y, 3) FROM (PREDICT MODEL m AS SELECT 7 AS \"{other}\")");
    assert_eq!(database.number(&query).await, 14.0);
    assert_eq!(
        database.error("PREDICT MODEL m AS SELECT 1 AS x").await,
        format!("model m needs column {name} (Int64), which the query lacks")
    );
    let weights = database.rows("SELECT processed_input FROM model.m.weights").await;
    let names = arrow::compute::cast(weights.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
    assert_eq!(names.as_string::<i32>().value(0), name);
}
