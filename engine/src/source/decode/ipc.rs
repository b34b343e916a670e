//! The stream format of Arrow IPC.
//!
//! Messages are assembled and checked here before Arrow's decoder sees them: it trusts the lengths
//! that it reads, and any program may send anything to a socket.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::convert::fb_to_schema;
use datafusion::arrow::ipc::reader::StreamDecoder;
use datafusion::arrow::ipc::{Message, RecordBatch as Layout, root_as_message};
use datafusion::common::{Result, exec_datafusion_err, exec_err};

use super::super::BATCH_ROWS;
use super::super::adapt::{Adapter, Columns};
use super::Decode;

/// The first bytes of each message. The length of its head (four bytes, little endian), the head
/// and the body follow.
const CONTINUATION: &[u8] = &[0xff; 4];
/// Bytes before the head.
const PREFIX: usize = 8;
/// The first bytes of the file format. Zeros may follow, then a stream and a footer.
const FILE_MAGIC: &[u8] = b"ARROW1\0\0";
/// Maximum bytes of a head; that of a thousand columns has some hundred thousand.
const HEAD_BYTES: usize = 16 << 20;
/// Maximum bytes of a body, as it is sent and decompressed: a message is held in memory as a whole.
const BODY_BYTES: u64 = 256 << 20;

/// Decodes what one producer sends: a stream, or several one after another.
pub(super) struct Ipc {
    table: SchemaRef,
    producer: String,
    decoder: StreamDecoder,
    adapter: Option<Adapter>,
    /// Bytes of a message that has not arrived completely.
    bytes: Vec<u8>,
    /// Bytes of the message that are known to be needed: at first those of its prefix.
    wanted: usize,
    part: Part,
    /// Whether it sends the file format.
    is_file: bool,
    batches: VecDeque<RecordBatch>,
    rows: usize,
    /// Rows decoded so far.
    came: u64,
}

/// The part of a message that ends at `wanted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The first eight bytes that a producer sends.
    First,
    Prefix,
    Head,
    Body,
    /// The footer of a file, which is not needed.
    Footer,
}

impl Ipc {
    pub(super) fn new(table: SchemaRef, producer: &str) -> Self {
        Self {
            table,
            producer: producer.to_owned(),
            decoder: StreamDecoder::new(),
            adapter: None,
            bytes: vec![],
            wanted: PREFIX,
            part: Part::First,
            is_file: false,
            batches: VecDeque::new(),
            rows: 0,
            came: 0,
        }
    }

    /// Handles a part that has arrived completely.
    fn advance(&mut self) -> Result<()> {
        match self.part {
            Part::First if self.bytes == FILE_MAGIC => {
                self.is_file = true;
                self.await_prefix();
            }
            // Writers pad the file with zeros up to the first message.
            Part::Prefix if self.is_file && self.adapter.is_none() && self.bytes == [0; PREFIX] => {
                self.await_prefix();
            }
            Part::First | Part::Prefix => {
                if !self.bytes.starts_with(CONTINUATION) {
                    return exec_err!(
                        "{} sent bytes that are no message of an Arrow IPC stream",
                        self.producer
                    );
                }
                match number(&self.bytes[CONTINUATION.len()..]) {
                    0 => self.end_of_stream(),
                    head if head > HEAD_BYTES => {
                        return exec_err!(
                            "{} sent a message with a head of {head} bytes; {HEAD_BYTES} are the \
                             most",
                            self.producer
                        );
                    }
                    head => {
                        self.wanted = PREFIX + head;
                        self.part = Part::Head;
                    }
                }
            }
            Part::Head => {
                let body = self.check_head()?;
                self.wanted += body;
                self.part = Part::Body;
            }
            Part::Body => {
                let message = std::mem::take(&mut self.bytes);
                self.await_prefix();
                self.message(message)?;
            }
            Part::Footer => self.bytes.clear(),
        }
        Ok(())
    }

    fn await_prefix(&mut self) {
        self.bytes.clear();
        self.wanted = PREFIX;
        self.part = Part::Prefix;
    }

    /// Another stream may follow, unless the footer of a file does.
    fn end_of_stream(&mut self) {
        self.decoder = StreamDecoder::new();
        self.adapter = None;
        self.await_prefix();
        if self.is_file {
            self.part = Part::Footer;
        }
    }

    fn malformed(&self, what: impl std::fmt::Display) -> datafusion::error::DataFusionError {
        exec_datafusion_err!("{} sent a malformed message: {what}", self.producer)
    }

    fn head(&self) -> Result<Message<'_>> {
        let end = self.wanted.min(self.bytes.len());
        root_as_message(&self.bytes[PREFIX..end]).map_err(|error| self.malformed(error))
    }

    /// The length of the body that the head announces.
    fn check_head(&self) -> Result<usize> {
        let announced = self.head()?.bodyLength();
        match u64::try_from(announced) {
            Ok(length) if length <= BODY_BYTES => Ok(length as usize),
            _ => exec_err!(
                "{} sent a message of {announced} bytes; {BODY_BYTES} are the most: send smaller \
                 batches",
                self.producer
            ),
        }
    }

    /// Checks that all buffers are within the body and decompress to a size that fits into memory.
    fn check_layout(&self, layout: Layout<'_>, body: &[u8]) -> Result<()> {
        if i32::try_from(layout.length()).is_err() || layout.length() < 0 {
            return Err(self.malformed(format!("a batch of {} rows", layout.length())));
        }
        let nodes = layout.nodes().into_iter().flatten();
        if nodes.into_iter().any(|node| node.length() < 0 || node.null_count() < 0) {
            return Err(self.malformed("a column of negative length"));
        }
        let mut unpacked = 0;
        for buffer in layout.buffers().into_iter().flatten() {
            let start = usize::try_from(buffer.offset()).ok();
            let length = usize::try_from(buffer.length()).ok();
            let bytes = start
                .zip(length)
                .and_then(|(start, length)| body.get(start..start.checked_add(length)?));
            let Some(bytes) = bytes else {
                return Err(self.malformed("a buffer that does not lie within it"));
            };
            // A compressed buffer begins with its decompressed length; -1 means that it is not
            // compressed.
            if layout.compression().is_some()
                && let Some(length) = bytes.first_chunk()
            {
                unpacked += u64::try_from(i64::from_le_bytes(*length)).unwrap_or(0);
            }
        }
        if unpacked > BODY_BYTES {
            return Err(self.malformed(format!(
                "it unpacks to {unpacked} bytes; {BODY_BYTES} are the most: send smaller batches"
            )));
        }
        Ok(())
    }

    /// Decodes a whole message.
    fn message(&mut self, bytes: Vec<u8>) -> Result<()> {
        let head = PREFIX + number(&bytes[CONTINUATION.len()..PREFIX]);
        let (head, body) = bytes[PREFIX..].split_at(head - PREFIX);
        let message = root_as_message(head).map_err(|error| self.malformed(error))?;
        let dictionary = message.header_as_dictionary_batch().map(|dictionary| dictionary.data());
        for layout in message.header_as_record_batch().into_iter().chain(dictionary.flatten()) {
            self.check_layout(layout, body)?;
        }
        // If Arrow panics on a message that passes the checks, only this producer is dropped.
        if let Some(schema) = message.header_as_schema() {
            let schema = catch_unwind(AssertUnwindSafe(|| fb_to_schema(schema)))
                .map_err(|_| self.malformed("a schema that cannot be decoded"))?;
            let whose = self.producer.as_str();
            let adapter = Adapter::new(&schema, &self.table, whose, Columns::Same)?;
            self.adapter = Some(adapter);
        }
        let mut buffer = Buffer::from_vec(bytes);
        while !buffer.is_empty() {
            let decoder = &mut self.decoder;
            let batch = catch_unwind(AssertUnwindSafe(|| decoder.decode(&mut buffer)))
                .map_err(|_| self.malformed("a batch that cannot be decoded"))?
                .map_err(|error| self.malformed(error))?;
            if let Some(batch) = batch
                && let Some(adapter) = &self.adapter
                && batch.num_rows() > 0
            {
                self.rows += batch.num_rows();
                self.batches.push_back(adapter.adapt(&batch, self.came)?);
                self.came += batch.num_rows() as u64;
            }
        }
        Ok(())
    }
}

impl Decode for Ipc {
    fn push(&mut self, bytes: Bytes) -> Result<()> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() && self.part != Part::Footer {
            let missing = self.wanted - self.bytes.len();
            let (these, later) = rest.split_at(missing.min(rest.len()));
            self.bytes.extend_from_slice(these);
            rest = later;
            while self.bytes.len() == self.wanted {
                self.advance()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, flush: bool) -> Result<Option<RecordBatch>> {
        if self.rows == 0 || (self.rows < BATCH_ROWS && !flush) {
            return Ok(None);
        }
        let mut pieces = vec![];
        let mut missing = self.rows.min(BATCH_ROWS);
        self.rows -= missing;
        while missing > 0
            && let Some(batch) = self.batches.pop_front()
        {
            let rows = batch.num_rows();
            if rows > missing {
                self.batches.push_front(batch.slice(missing, rows - missing));
                pieces.push(batch.slice(0, missing));
                break;
            }
            missing -= rows;
            pieces.push(batch);
        }
        if pieces.len() == 1 {
            return Ok(pieces.pop());
        }
        Ok(Some(concat_batches(&self.table, &pieces)?))
    }

    fn finish(&mut self) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        exec_err!(
            "{} ended in the middle of a message, {} bytes into it",
            self.producer,
            self.bytes.len()
        )
    }
}

/// Four bytes, little endian.
fn number(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, DictionaryArray, Int32Array, Int64Array, StringArray, StringViewArray,
    };
    use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema};
    use datafusion::arrow::ipc::CompressionType;
    use datafusion::arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

    use super::super::super::Report;
    use super::super::Format;
    use super::super::tests::{decode, schema, text};
    use super::*;

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let x = Int64Array::from_iter_values(from..from + rows);
        let s = StringViewArray::from_iter_values((from..from + rows).map(|i| format!("s{i}")));
        RecordBatch::try_new(schema(), vec![Arc::new(x), Arc::new(s)]).unwrap()
    }

    fn stream(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
        let mut bytes = vec![];
        let schema = batches[0].schema();
        let mut writer = StreamWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    fn rows(batches: &[RecordBatch]) -> Vec<usize> {
        batches.iter().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn batches_are_cut_and_joined_however_bytes_arrive() {
        let sent: Vec<_> =
            (0..10).map(|i| batch(i * 3000, 3000)).chain([batch(30_000, 20_000)]).collect();
        let expected = concat_batches(&schema(), &sent).unwrap();
        let packed =
            IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
        for options in [IpcWriteOptions::default(), packed] {
            let bytes = stream(&sent, options);
            for step in [7, 4096, usize::MAX] {
                let (batches, end) = decode(&Format::Arrow, &bytes, step, &Arc::default());
                end.unwrap();
                assert_eq!(rows(&batches), [8192, 8192, 8192, 8192, 8192, 8192, 848], "{step}");
                assert_eq!(concat_batches(&schema(), &batches).unwrap(), expected);
            }
        }
    }

    #[test]
    fn streams_may_follow_one_another_and_a_file_is_one() {
        let one = stream(&[batch(0, 2)], IpcWriteOptions::default());
        let (batches, end) = decode(&Format::Arrow, &one.repeat(3), 11, &Arc::default());
        end.unwrap();
        assert_eq!(rows(&batches), [6]);

        let mut file = vec![];
        let mut writer = FileWriter::try_new(&mut file, &schema()).unwrap();
        writer.write(&batch(0, 2)).unwrap();
        writer.write(&batch(2, 3)).unwrap();
        writer.finish().unwrap();
        drop(writer);
        for step in [1, 100_000] {
            let (batches, end) = decode(&Format::Arrow, &file, step, &Arc::default());
            end.unwrap();
            assert_eq!(rows(&batches), [5]);
        }
    }

    #[test]
    fn what_is_sent_in_other_types_becomes_those_of_the_table() {
        let fields = [
            ("s", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))),
            ("x", DataType::Int32),
        ];
        let theirs = fields.map(|(name, t)| Field::new(name, t, true)).to_vec();
        let names: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(names), Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]))];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(theirs)), columns).unwrap();
        let bytes = stream(&[batch], IpcWriteOptions::default());
        let (batches, end) = decode(&Format::Arrow, &bytes, 13, &Arc::default());
        end.unwrap();
        assert_eq!(text(&batches), "| 1 | a |\n|   | b |\n| 3 | a |");
    }

    #[test]
    fn another_schema_is_refused_before_any_row() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
        let batch = RecordBatch::try_from_iter([("x", Arc::clone(&column)), ("s", column)]);
        let bytes = stream(&[batch.unwrap()], IpcWriteOptions::default());
        let (batches, end) = decode(&Format::Arrow, &bytes, 50, &Arc::default());
        assert!(batches.is_empty());
        assert_eq!(
            end.unwrap_err().strip_backtrace(),
            "Execution error: p has column x as Utf8, whose values Int64, the type of the table's \
             column, does not hold in full"
        );
    }

    #[test]
    fn whole_batches_count_and_the_rest_is_an_error() {
        let bytes = stream(&[batch(0, 2), batch(2, 2)], IpcWriteOptions::default());
        let one = stream(&[batch(0, 2)], IpcWriteOptions::default()).len();
        // The marker at the end of the stream is optional.
        let (batches, end) = decode(&Format::Arrow, &bytes[..bytes.len() - 8], 64, &Arc::default());
        end.unwrap();
        assert_eq!(rows(&batches), [4]);
        for cut in [one, one + 100, bytes.len() - 9, bytes.len() - 1] {
            let (batches, end) = decode(&Format::Arrow, &bytes[..cut], 64, &Arc::default());
            let error = end.unwrap_err().to_string();
            assert!(error.contains("p ended in the middle of a message"), "{cut} {error}");
            assert_eq!(rows(&batches), [if cut == bytes.len() - 1 { 4 } else { 2 }], "{cut}");
        }
    }

    #[test]
    fn rubbish_is_an_error_and_no_more() {
        let report = Arc::<Report>::default();
        for rubbish in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[0xff; 100], b"{\"x\": 1}\n"] {
            let (batches, end) = decode(&Format::Arrow, rubbish, 8, &report);
            assert!(batches.is_empty());
            end.unwrap_err();
        }
        // Every byte of a stream is inverted, one at a time: the result is rows or an error, never
        // an uncaught panic or a row too many.
        let bytes = stream(&[batch(0, 3), batch(3, 3)], IpcWriteOptions::default());
        for index in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[index] ^= 0xff;
            let (batches, _) = decode(&Format::Arrow, &bytes, usize::MAX, &report);
            assert!(rows(&batches).iter().sum::<usize>() <= 6, "{index}");
        }
    }

    #[test]
    fn huge_messages_are_refused_by_their_head() {
        let mut head = CONTINUATION.to_vec();
        head.extend((1_u32 << 30).to_le_bytes());
        let (_, end) = decode(&Format::Arrow, &head, 8, &Arc::default());
        assert!(end.unwrap_err().to_string().contains("16777216 are the most"));
    }
}
