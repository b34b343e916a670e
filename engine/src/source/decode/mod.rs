//! Decodes bytes into batches of the table's schema, as they arrive.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_datafusion_err};

use super::Report;
use super::feed::{Feed, Now};

mod csv;
mod ipc;
mod json;
mod lines;
mod numbers;

pub(super) use csv::{CsvOptions, Header};

/// The format of the bytes.
#[derive(Clone, Debug)]
pub(super) enum Format {
    /// The stream format of Arrow IPC (its file format is understood too).
    Arrow,
    /// One JSON object a line.
    Json,
    /// Comma separated values.
    Csv(CsvOptions),
}

impl Format {
    /// Decodes what `producer` sends; the name is for errors and the report.
    ///
    /// # Errors
    /// When the format cannot hold a type of the schema.
    pub(super) fn decoder(
        &self,
        schema: &SchemaRef,
        producer: &str,
        report: &Arc<Report>,
    ) -> Result<Box<dyn Decode>> {
        let lines = |format| lines::Lines::new(format, producer, Arc::clone(report));
        Ok(match self {
            Self::Arrow => Box::new(ipc::Ipc::new(Arc::clone(schema), producer)),
            Self::Json => Box::new(lines(Box::new(json::Json::try_new(schema)?))),
            Self::Csv(options) => Box::new(lines(Box::new(csv::Csv::new(schema, *options)))),
        })
    }
}

/// Decodes the bytes of one producer.
pub(super) trait Decode: Send {
    /// Takes the bytes that come next.
    ///
    /// # Errors
    /// When they are malformed, so that no bytes after them can be decoded either; `take` still
    /// returns what came before.
    fn push(&mut self, bytes: Bytes) -> Result<()>;

    /// A batch of 8192 rows, or with `flush` of fewer; None where there is none yet.
    fn take(&mut self, flush: bool) -> Result<Option<RecordBatch>>;

    /// Is called when no more bytes come.
    ///
    /// # Errors
    /// When the last bytes are an incomplete row or message.
    fn finish(&mut self) -> Result<()>;
}

/// The batches of one producer.
pub(super) struct Decoding {
    feed: Feed,
    decoder: Box<dyn Decode>,
    bytes: u64,
    end: Option<Result<()>>,
}

impl Decoding {
    pub(super) fn new(feed: Feed, decoder: Box<dyn Decode>) -> Self {
        Self { feed, decoder, bytes: 0, end: None }
    }

    /// Bytes that have arrived.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next batch: a full one, or what has been decoded if no more bytes are available right
    /// now. None at the end. Whole batches come before the error that follows them.
    ///
    /// Cancel safe: bytes are taken and decoded between two awaits.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.decoder.take(self.end.is_some())? {
                return Ok(Some(batch));
            }
            if let Some(end) = self.end.take() {
                // The next call returns the end.
                self.end = Some(Ok(()));
                return end.map(|()| None);
            }
            match self.feed.now() {
                Ok(Now::Bytes(bytes)) => self.push(bytes),
                Ok(Now::End) => self.end = Some(self.decoder.finish()),
                Ok(Now::Nothing) => {
                    if let Some(batch) = self.decoder.take(true)? {
                        return Ok(Some(batch));
                    }
                    match self.feed.next().await {
                        Ok(Some(bytes)) => self.push(bytes),
                        Ok(None) => self.end = Some(self.decoder.finish()),
                        Err(error) => self.fail(error),
                    }
                }
                Err(error) => self.fail(error),
            }
            // There may be many bytes without a row in them; other tasks must still get to run.
            tokio::task::consume_budget().await;
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        if let Err(error) = self.decoder.push(bytes) {
            self.end = Some(Err(error));
        }
    }

    fn fail(&mut self, error: std::io::Error) {
        self.end = Some(Err(exec_datafusion_err!("reading failed: {error}")));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{ErrorKind, Read};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::arrow::util::pretty::pretty_format_batches;

    use super::*;

    /// Columns `x BIGINT, s VARCHAR`.
    pub(in crate::source) fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("x", DataType::Int64, true),
            Field::new("s", DataType::Utf8View, true),
        ]))
    }

    pub(in crate::source) fn text(batches: &[RecordBatch]) -> String {
        let text = pretty_format_batches(batches).unwrap().to_string();
        text.lines().filter(|l| !l.starts_with('+')).skip(1).collect::<Vec<_>>().join("\n")
    }

    /// Decodes bytes that arrive `step` at a time; rows, and the error at the end.
    pub(super) fn decode(
        format: &Format,
        bytes: &[u8],
        step: usize,
        report: &Arc<Report>,
    ) -> (Vec<RecordBatch>, Result<()>) {
        let mut decoder = format.decoder(&schema(), "p", report).unwrap();
        let mut batches = vec![];
        let mut end = Ok(());
        for bytes in bytes.chunks(step) {
            end = decoder.push(Bytes::copy_from_slice(bytes));
            while let Some(batch) = decoder.take(false).unwrap() {
                batches.push(batch);
            }
            if end.is_err() {
                break;
            }
        }
        end = end.and_then(|()| decoder.finish());
        while let Some(batch) = decoder.take(true).unwrap() {
            batches.push(batch);
        }
        (batches, end)
    }

    /// An input that the test writes to, and that returns `WouldBlock` in between.
    struct Channel(Receiver<Vec<u8>>);

    impl Read for Channel {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            use std::sync::mpsc::TryRecvError;
            match self.0.try_recv() {
                Ok(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    Ok(bytes.len())
                }
                Err(TryRecvError::Empty) => Err(ErrorKind::WouldBlock.into()),
                Err(TryRecvError::Disconnected) => Ok(0),
            }
        }
    }

    #[tokio::test]
    async fn what_is_there_is_handed_on_when_a_read_would_block() {
        let (sender, receiver): (Sender<Vec<u8>>, _) = channel();
        let report = Arc::default();
        let decoder = Format::Json.decoder(&schema(), "p", &report).unwrap();
        let mut decoding = Decoding::new(Feed::start(Channel(receiver)).unwrap(), decoder);
        for round in 0..3 {
            let line = format!("{{\"x\": {round}}}\n{{\"x\": ");
            sender.send(line.into_bytes()).unwrap();
            let batch = decoding.next().await.unwrap().unwrap();
            assert_eq!(text(&[batch]), format!("| {round} |   |"));
            sender.send(b"-1}\n".to_vec()).unwrap();
            let batch = decoding.next().await.unwrap().unwrap();
            assert_eq!(text(&[batch]), "| -1 |   |");
        }
        sender.send(b"{\"x\": 9".to_vec()).unwrap();
        drop(sender);
        assert!(decoding.next().await.unwrap().is_none());
        assert_eq!(report.first_rejected()[0].line.as_deref(), Some("{\"x\": 9"));
        assert!(decoding.bytes() > 30);
    }
}
