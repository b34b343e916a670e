//! Trains on the rows of a DataFrame and predicts into another, without a word of SQL. Run it in
//! the folder of the repository:
//!
//! ```sh
//! cargo run -p gradlake-examples --example train_from_dataframe
//! ```

#![allow(clippy::print_stdout, reason = "a program shows what it found")]

use std::error::Error;
use std::sync::Arc;

use arrow::compute::kernels::cmp;
use arrow::util::pretty::pretty_format_batches;
use datafusion::functions_aggregate::expr_fn::{avg, count};
use datafusion::prelude::{DataFrame, ParquetReadOptions, cast, col, lit};
use gradlake_engine::{Engine, EngineOptions, EventSink, PredictOptions, TrainRequest};
use gradlake_examples::data;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await
}

/// Trains, predicts, counts, and asserts what comes out.
pub async fn run() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let warehouse = Some(folder.path().display().to_string());
    let engine = Arc::new(Engine::open(EngineOptions { warehouse, ..Default::default() })?);
    let events: EventSink = Arc::new(|_event| {});

    // Any DataFrame of DataFusion is something to learn from: here people of working age.
    let path = data("adult_train.parquet");
    let people = engine.context().read_parquet(path, ParquetReadOptions::default()).await?;
    let workers = people.filter(col("age").between(lit(18), lit(65)))?;
    let request = TrainRequest::builder("income", "logistic_regression", workers)
        .target("income")
        .option("solver", "lbfgs")
        .option("l2", 0.0001)
        .build()?;
    let version = engine.train(&request, &events).await?;
    println!("{}", pretty_format_batches(&[version])?);

    // PREDICT is a plan like others: what follows it is planned with it.
    let path = data("adult_test.parquet");
    let others = engine.context().read_parquet(path, ParquetReadOptions::default()).await?;
    let scorer = engine.scorer("income", None).await?;
    let rows = others.into_unoptimized_plan();
    let plan = engine.predict(&scorer, true, PredictOptions::default(), rows, &events)?;
    let predicted = DataFrame::new(engine.context().state(), plan);
    let by_sex = predicted
        .clone()
        .aggregate(
            vec![col("sex")],
            vec![
                count(lit(1)).alias("people"),
                avg(cast(
                    col("predicted_income").eq(lit(">50K")),
                    arrow::datatypes::DataType::Float64,
                ))
                .alias("predicted_share"),
            ],
        )?
        .sort(vec![col("sex").sort(true, false)])?;
    println!("{}", pretty_format_batches(&by_sex.collect().await?)?);

    let (mut rows, mut right) = (0, 0);
    for batch in predicted.collect().await? {
        rows += batch.num_rows();
        right += cmp::eq(&batch["income"], &batch["predicted_income"])?.true_count();
    }
    println!("{right} of {rows} predictions are right");
    assert_eq!(rows, 16_281, "PREDICT returns every row");
    // Always saying "no" is right for 12,435 of them.
    assert!(right > 13_700, "{right}");
    Ok(())
}
