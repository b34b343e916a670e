//! Trains a model on census data with one SQL statement, streams its predictions as Arrow batches,
//! and evaluates it on people it has not seen. Run it in the folder of the repository:
//!
//! ```sh
//! cargo run -p gradlake-examples --example train_and_predict
//! ```

#![allow(clippy::print_stdout, reason = "a program shows what it found")]

use std::error::Error;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::kernels::cmp;
use arrow::datatypes::Float64Type;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use gradlake_engine::EventSink;
use gradlake_examples::data;
use gradlake_sql::{Session, SessionOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await
}

/// Trains, predicts, evaluates, and asserts what comes out.
pub async fn run() -> Result<(), Box<dyn Error>> {
    // A warehouse is the folder where models live. This one goes when the program ends.
    let folder = tempfile::tempdir()?;
    let warehouse = Some(folder.path().display().to_string());
    let session = Session::open(SessionOptions { warehouse, ..Default::default() }).await?;

    // Statements report events while they run; `watch_training.rs` listens to them.
    let quiet: EventSink = Arc::new(|_event| {});

    // A statement returns Arrow batches. TRAIN returns one row about the new version.
    let sql = format!(
        "TRAIN MODEL income USING logistic_regression TARGET income FROM '{}'",
        data("adult_train.parquet")
    );
    let trained = session.collect(&sql, Arc::clone(&quiet)).await?;
    println!("{}", pretty_format_batches(&trained)?);

    // `execute` streams: one batch at a time is in memory, however long the table is.
    let test = data("adult_test.parquet");
    let sql = format!(
        "SELECT age, occupation, hours_per_week, income, predicted_income
         FROM (PREDICT MODEL income FROM '{test}')"
    );
    let mut stream = session.execute(&sql, Arc::clone(&quiet)).await?;
    let (mut rows, mut right) = (0, 0);
    while let Some(batch) = stream.try_next().await? {
        if rows == 0 {
            println!("{}", pretty_format_batches(&[batch.slice(0, 3)])?);
        }
        rows += batch.num_rows();
        right += cmp::eq(&batch["income"], &batch["predicted_income"])?.true_count();
    }
    println!("{right} of {rows} predictions are right");
    assert_eq!(rows, 16_281, "PREDICT returns every row");

    // EVALUATE measures in one pass.
    let sql = format!("EVALUATE MODEL income FROM '{test}'");
    let metrics = session.collect(&sql, quiet).await?;
    println!("{}", pretty_format_batches(&metrics)?);
    let metric = |name: &str| metrics[0][name].as_primitive::<Float64Type>().value(0);
    assert!((metric("accuracy") - right as f64 / rows as f64).abs() < 1e-9);
    // scikit-learn's LogisticRegression on the same rows: 0.9054.
    assert!(metric("roc_auc") >= 0.905, "AUC {}", metric("roc_auc"));
    Ok(())
}
