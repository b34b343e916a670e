//! A mock backend for tests: its statements are words that say how it behaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{exec_datafusion_err, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use gradlake_engine::{Event, EventSink, Position};

use super::backend::Backend;

#[derive(Default)]
pub struct Fake {
    pub interrupted: AtomicBool,
    pub stopped: AtomicBool,
    pub executed: AtomicUsize,
}

fn batch(n: i64) -> RecordBatch {
    let x: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
    RecordBatch::try_from_iter([("x", x)]).unwrap()
}

fn stream(batches: BoxStream<'static, Result<RecordBatch>>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(batch(0).schema(), batches))
}

#[async_trait]
impl Backend for Fake {
    async fn execute(&self, sql: &str, events: EventSink) -> Result<SendableRecordBatchStream> {
        self.executed.fetch_add(1, Ordering::SeqCst);
        let words: Vec<&str> = sql.split_whitespace().collect();
        match words[..] {
            ["rows", n] => {
                let batches = vec![Ok(batch(n.parse().unwrap())), Ok(batch(1))];
                Ok(stream(stream::iter(batches).boxed()))
            }
            ["endless"] => Ok(stream(stream::repeat_with(|| Ok(batch(1000))).boxed())),
            ["ddl"] => {
                let empty = stream::iter(vec![]).boxed();
                let schema = Arc::new(Schema::empty());
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, empty)))
            }
            ["fail"] => plan_err!("no such table 't'"),
            ["fail", "late"] => {
                let end = Err(exec_datafusion_err!("disk on fire"));
                Ok(stream(stream::iter(vec![Ok(batch(2)), end]).boxed()))
            }
            ["hang"] => std::future::pending().await,
            ["reading"] => {
                events(Event::Reading { rows: 5 });
                std::future::pending().await
            }
            ["busy"] => {
                std::thread::sleep(Duration::from_secs(4));
                Ok(stream(stream::empty().boxed()))
            }
            ["panic"] => panic!("a test panics"),
            ["train", ..] => {
                events(Event::Started {
                    model: "m".to_owned(),
                    member: String::new(),
                    rows: 1000,
                    eval_rows: 100,
                    epochs: 30,
                    method: "adam, batch 128, 1 replica".to_owned(),
                });
                for epoch in 1..=30 {
                    for part in 1..=10 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        let rows_done = part * 100;
                        let loss = 1.0 / epoch as f64;
                        events(Event::Progress { epoch, epochs: 30, rows_done, rows: 1000, loss });
                    }
                    if self.interrupted.load(Ordering::SeqCst) && !sql.contains("stubborn") {
                        events(Event::Checkpoint { until: Position::Epoch(epoch) });
                        self.interrupted.store(false, Ordering::SeqCst);
                        return exec_err!(
                            "interrupted after epoch {epoch}, its checkpoint is kept"
                        );
                    }
                    events(Event::Epoch {
                        epoch,
                        epochs: 30,
                        loss: 1.0 / epoch as f64,
                        eval_loss: Some(1.1 / epoch as f64),
                        learning_rate: 0.1,
                        rows_per_second: 10_000.0,
                    });
                    if epoch == 3 {
                        events(Event::Warning("two rows look odd".to_owned()));
                    }
                }
                events(Event::Published { model: "m".to_owned(), version: 1 });
                Ok(stream(stream::iter(vec![Ok(batch(1))]).boxed()))
            }
            _ => plan_err!("what is '{sql}'?"),
        }
    }

    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
    }

    fn stop_queries(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    async fn completions(&self) -> Vec<String> {
        ["SELECT", "FROM", "TRAIN", "train", "endless", "iris"].map(str::to_owned).to_vec()
    }
}
