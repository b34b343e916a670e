//! Line formats: each line is a row; a line that is not a row is skipped and reported.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, exec_datafusion_err};

use super::super::{BATCH_ROWS, Report};
use super::Decode;

/// Maximum bytes of a line: a producer that never ends its line must not fill the memory.
const LINE_BYTES: usize = 16 << 20;
/// Maximum bytes of waiting lines, beyond which they become a batch of fewer rows.
const WAITING_BYTES: usize = 8 << 20;

/// A line that is not a row, and why. `line` is its index among the lines of the call; it is None
/// if only the lines as a whole were found wrong.
#[derive(Debug)]
pub(super) struct NoRow {
    pub(super) line: Option<usize>,
    pub(super) reason: String,
}

/// How lines become rows.
pub(super) trait LineFormat: Send {
    /// Decodes one row per line. There are at most [`BATCH_ROWS`] lines, and none is blank.
    fn rows(&mut self, lines: &[&[u8]]) -> Result<RecordBatch, NoRow>;

    /// Scans the next bytes; returns the index of the byte that ends the line, if it is among them.
    fn line_end(&mut self, bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|byte| *byte == b'\n')
    }

    /// Inspects the first line.
    ///
    /// # Errors
    /// When no line of the producer can be read after it. The message follows the producer's name.
    fn first(&mut self, _: &[u8]) -> Result<First, String> {
        Ok(First::Row(None))
    }
}

/// What the first line is, with a warning if there is one.
#[derive(Debug)]
pub(super) enum First {
    Header(Option<String>),
    Row(Option<String>),
}

/// Splits bytes into lines and lines into batches.
pub(super) struct Lines {
    format: Box<dyn LineFormat>,
    producer: String,
    report: Arc<Report>,
    /// Whole lines that wait, and the beginning of the next.
    buffer: Vec<u8>,
    /// The lines that wait, without their ends, and their numbers.
    lines: Vec<(Range<usize>, u64)>,
    /// The number of the next line.
    number: u64,
    /// Where the next line begins.
    start: usize,
    /// Whether the first line is still to come.
    is_first: bool,
    /// Whether the rest of the line is to be skipped, since it is too long.
    is_skipping: bool,
}

impl Lines {
    pub(super) fn new(format: Box<dyn LineFormat>, producer: &str, report: Arc<Report>) -> Self {
        Self {
            format,
            producer: producer.to_owned(),
            report,
            buffer: vec![],
            lines: vec![],
            number: 1,
            start: 0,
            is_first: true,
            is_skipping: false,
        }
    }

    /// Handles the line from `start` to the end of the buffer.
    fn line(&mut self) -> Result<()> {
        let mut line = self.start..self.buffer.len();
        self.start = line.end;
        let number = self.next_number(line.clone());
        if self.is_first && self.buffer[line.clone()].starts_with(BYTE_ORDER_MARK) {
            line.start += BYTE_ORDER_MARK.len();
        }
        let bytes = &self.buffer[line.clone()];
        line.end -= bytes.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
        if line.is_empty() {
            return Ok(());
        }
        if std::mem::replace(&mut self.is_first, false) {
            let first = self.format.first(&self.buffer[line.clone()]);
            let first = first.map_err(|why| exec_datafusion_err!("{} {why}", self.producer))?;
            let (First::Header(warning) | First::Row(warning)) = &first;
            if let Some(warning) = warning {
                self.report.warn(format!("{}: {warning}", self.producer));
            }
            if matches!(first, First::Header(_)) {
                return Ok(());
            }
        }
        self.lines.push((line, number));
        Ok(())
    }

    /// The number of a line that ends here. Quoted values may contain line breaks, which count too.
    fn next_number(&mut self, line: Range<usize>) -> u64 {
        let within = self.buffer[line].iter().filter(|byte| **byte == b'\n').count();
        let number = self.number;
        self.number += 1 + within as u64;
        number
    }

    fn is_full(&self) -> bool {
        let waiting = self.lines.last().map_or(0, |(line, _)| line.end);
        self.lines.len() >= BATCH_ROWS || waiting >= WAITING_BYTES
    }
}

/// Decodes lines and rejects those that are not rows; `first` is the index of the first line.
///
/// Lines are decoded in groups as large as those that succeeded before: after an error the decoder
/// starts over and has to decode the lines of the group again. If the line at fault is not known,
/// it is found by bisection.
fn decode(
    format: &mut dyn LineFormat,
    lines: &[&[u8]],
    first: usize,
    batches: &mut Vec<RecordBatch>,
    reject: &dyn Fn(usize, &str),
) {
    let mut begin = 0;
    let mut together = lines.len();
    while begin < lines.len() {
        let these = &lines[begin..lines.len().min(begin + together.max(1))];
        let place = first + begin;
        begin += these.len();
        match (format.rows(these), these) {
            (Ok(batch), _) => {
                batches.push(batch);
                together *= 2;
            }
            (Err(NoRow { reason, .. }), [_]) => reject(place, &reason),
            (Err(NoRow { line: Some(line), reason }), _) => {
                decode(format, &these[..line], place, batches, reject);
                reject(place + line, &reason);
                begin = place - first + line + 1;
                together = 2 * (line + 1);
            }
            (Err(NoRow { line: None, .. }), _) => {
                let half = these.len() / 2;
                decode(format, &these[..half], place, batches, reject);
                decode(format, &these[half..], place + half, batches, reject);
            }
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Decode for Lines {
    fn push(&mut self, bytes: Bytes) -> Result<()> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let end = self.format.line_end(rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            rest = end.map_or(&[], |end| &rest[end + 1..]);
            if self.is_skipping {
                self.is_skipping = end.is_none();
                self.number += u64::from(end.is_some());
                continue;
            }
            self.buffer.extend_from_slice(line);
            if self.buffer.len() - self.start > LINE_BYTES {
                let reason = format!("the line is longer than {} MiB", LINE_BYTES >> 20);
                let line = (self.number, &self.buffer[self.start..]);
                self.report.line_rejected(&self.producer, line, &reason);
                self.buffer.truncate(self.start);
                self.is_skipping = end.is_none();
                self.number += u64::from(end.is_some());
                self.is_first = false;
            } else if end.is_some() {
                self.line()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, flush: bool) -> Result<Option<RecordBatch>> {
        while self.is_full() || (flush && !self.lines.is_empty()) {
            let taken: Vec<_> = self.lines.drain(..self.lines.len().min(BATCH_ROWS)).collect();
            let mut batches = vec![];
            let lines: Vec<&[u8]> =
                taken.iter().map(|(line, _)| &self.buffer[line.clone()]).collect();
            decode(self.format.as_mut(), &lines, 0, &mut batches, &|place, reason| {
                let line = (taken[place].1, lines[place]);
                self.report.line_rejected(&self.producer, line, reason);
            });
            let cut = self.lines.first().map_or(self.start, |(line, _)| line.start);
            self.buffer.drain(..cut);
            self.start -= cut;
            for (line, _) in &mut self.lines {
                *line = line.start - cut..line.end - cut;
            }
            if let Some(first) = batches.first() {
                let schema = first.schema();
                let batch = datafusion::arrow::compute::concat_batches(&schema, &batches)?;
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<()> {
        // The last line of a file often has no line break; most formats notice one that was cut
        // short.
        self.line()
    }
}

/// The message of an error, without the line numbers that the decoder counted by itself.
pub(super) fn reason(error: ArrowError) -> String {
    let (ArrowError::JsonError(text) | ArrowError::CsvError(text) | ArrowError::ParseError(text)) =
        error
    else {
        return error.to_string();
    };
    let text = text.split(" at line ").next().unwrap_or_default();
    match text.split_once(" for line ") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{after}")
        }
        None => text.to_owned(),
    }
}
