//! A model is a set of tables: trains one model per airline, reads all their weights with SQL, goes
//! on learning from later flights, and goes back to the version before. Run it in the folder of the
//! repository:
//!
//! ```sh
//! cargo run -p gradlake-examples --example model_as_table
//! ```

#![allow(clippy::print_stdout, reason = "a program shows what it found")]

use std::error::Error;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, UInt64Type};
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use gradlake_examples::data;
use gradlake_sql::{Session, SessionOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await
}

/// Trains, reads weights, continues, goes back, and asserts what comes out.
pub async fn run() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let warehouse = Some(folder.path().display().to_string());
    let session = Session::open(SessionOptions { warehouse, ..Default::default() }).await?;

    // Everything that DataFusion's SQL knows works beside our statements.
    let flights = data("flights.parquet");
    let sql = format!(
        "CREATE VIEW flights AS
         SELECT month, carrier, origin, distance, dep_delay, arr_delay > 15 AS late
         FROM '{flights}' WHERE arr_delay IS NOT NULL"
    );
    rows(&session, &sql).await?;

    let train = "TRAIN OR REPLACE MODEL late USING logistic_regression TARGET late
                 PARTITION BY carrier FEATURES (origin, distance, dep_delay)";
    rows(&session, &format!("{train} AS SELECT * FROM flights WHERE month < 11")).await?;

    // One statement trained a model for every airline, and this is what each has learned. Tables
    // of a partitioned model begin with its partition columns.
    let weights = rows(
        &session,
        "SELECT carrier, weight, standardized_weight FROM model.late.weights
         WHERE processed_input = 'dep_delay' ORDER BY carrier",
    )
    .await?;
    println!("{}", pretty_format_batches(std::slice::from_ref(&weights))?);
    let late_start = weights["weight"].as_primitive::<Float64Type>();
    assert!(weights.num_rows() >= 10, "{} airlines", weights.num_rows());
    assert!(late_start.iter().flatten().all(|weight| weight > 0.0), "who starts late arrives late");

    // CONTINUE goes on from the weights of a version, here with one pass over later flights.
    let later = "AS SELECT * FROM flights WHERE month = 11";
    rows(&session, &format!("{train} CONTINUE late WITH (epochs = 1) {later}")).await?;
    let versions = rows(
        &session,
        "SELECT version, is_current, parent, rows FROM model.late.versions ORDER BY version",
    )
    .await?;
    println!("{}", pretty_format_batches(std::slice::from_ref(&versions))?);
    assert_eq!(versions.num_rows(), 2);
    assert!(versions["is_current"].as_boolean().value(1), "the new version is in use");

    // Both versions can be asked; December is new to both.
    for version in [1, 2] {
        let december = "AS SELECT * FROM flights WHERE month = 12";
        let sql = format!("EVALUATE MODEL late VERSION {version} {december}");
        let accuracy = number(&rows(&session, &sql).await?, "accuracy");
        println!("version {version}: accuracy {accuracy:.3} in December");
        assert!(accuracy > 0.8, "accuracy {accuracy} of version {version}");
    }

    // Nothing is lost by publishing: one statement goes back.
    rows(&session, "ALTER MODEL late SET VERSION 1").await?;
    let sql = "SELECT version FROM model.late.versions WHERE is_current";
    let current = rows(&session, sql).await?;
    assert_eq!(current["version"].as_primitive::<UInt64Type>().values(), &[1]);
    Ok(())
}

/// The rows of a statement as one batch.
async fn rows(session: &Session, sql: &str) -> Result<RecordBatch, Box<dyn Error>> {
    let stream = session.execute(sql, Arc::new(|_event| {})).await?;
    let schema = stream.schema();
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    Ok(concat_batches(&schema, &batches)?)
}

/// The first value of a column.
fn number(rows: &RecordBatch, column: &str) -> f64 {
    rows[column].as_primitive::<Float64Type>().value(0)
}
