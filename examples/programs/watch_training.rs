//! Watches a neural network learn to read handwritten digits: a line for every epoch, from the
//! events that a training sends. Run it in the folder of the repository:
//!
//! ```sh
//! cargo run -p gradlake-examples --example watch_training
//! ```

#![allow(clippy::print_stdout, reason = "a program shows what it found")]

use std::error::Error;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use gradlake_engine::{Event, EventSink};
use gradlake_examples::data;
use gradlake_sql::{Session, SessionOptions};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await
}

/// Trains, prints every epoch, evaluates, and asserts what comes out.
pub async fn run() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let warehouse = Some(folder.path().display().to_string());
    let session = Session::open(SessionOptions { warehouse, ..Default::default() }).await?;

    // Events come from the threads that train, so what takes them must be quick: this sends them
    // to a task of their own, which prints, and ends when the training has dropped the sender.
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let events = Arc::new(move |event| drop(sender.send(event)));
    let watcher = tokio::spawn(async move {
        let mut losses = vec![];
        while let Some(event) = receiver.recv().await {
            match event {
                Event::Started { rows, eval_rows, method, .. } => {
                    println!("{rows} rows to learn from, {eval_rows} to stop by; {method}");
                }
                Event::Epoch { epoch, epochs, loss, eval_loss, rows_per_second, .. } => {
                    let eval_loss = eval_loss.unwrap_or(f64::NAN);
                    println!(
                        "epoch {epoch:2} of {epochs}: loss {loss:.4}, evaluation {eval_loss:.4}, \
                         {rows_per_second:.0} rows per second"
                    );
                    losses.push(loss);
                }
                Event::Published { model, version } => println!("{model} version {version}"),
                _ => {}
            }
        }
        losses
    });

    // A feature is the whole image, 64 numbers. Every fifth image is kept back for the end.
    let quiet: EventSink = Arc::new(|_event| {});
    let sql = format!(
        "CREATE VIEW digits AS
         SELECT image, label, row_number() OVER () % 5 = 0 AS kept_back FROM '{}'",
        data("digits.parquet")
    );
    session.collect(&sql, Arc::clone(&quiet)).await?;
    let sql = "TRAIN MODEL digit USING mlp_classifier TARGET label
               WITH (hidden = [64, 32], epochs = 30, batch_size = 32, learning_rate = 0.002,
                     schedule = 'cosine')
               AS SELECT image, label FROM digits WHERE NOT kept_back";
    session.collect(sql, events).await?;
    let losses = watcher.await?;
    let (Some(first), Some(last)) = (losses.first(), losses.last()) else {
        return Err("no epoch was reported".into());
    };
    assert!(last < &(first / 10.0), "the loss fell from {first} to {last} only");

    let sql = "EVALUATE MODEL digit AS SELECT image, label FROM digits WHERE kept_back";
    let metrics = session.collect(sql, quiet).await?;
    let accuracy = metrics[0]["accuracy"].as_primitive::<Float64Type>().value(0);
    println!("accuracy on the images kept back: {accuracy:.3}");
    assert!(accuracy >= 0.93, "accuracy {accuracy}");
    Ok(())
}
