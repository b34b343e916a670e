//! What a source reports besides its rows: counters, rejected lines, warnings.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::now_ms;

/// Rejected lines, producers and files that are kept; all are counted.
const KEPT_REJECTED: usize = 100;
/// Characters of a rejected line that are kept.
const KEPT_CHARACTERS: usize = 500;
/// Warnings that wait to be taken; later ones are counted.
const KEPT_WARNINGS: usize = 100;

/// A line that is not a row of the table, or a whole producer or file that could not be read any
/// further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// When it was rejected, in milliseconds since the epoch.
    pub at: i64,
    /// The sender: an address, a path, a file, or `producer 3` of a Unix socket.
    pub producer: String,
    /// The number of the line in what the producer sent, from 1; None if it is not a line.
    pub number: Option<u64>,
    /// The line, or the beginning of a long one; None if it is not a line.
    pub line: Option<String>,
    /// Why it is not a row.
    pub reason: String,
}

/// What waits to be read, if the source can report that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// Bytes that a file or pipe holds beyond what is read.
    Bytes(u64),
    /// Files of a folder that are not begun.
    Files(u64),
}

/// Counters and notices of a source, written by its readers and read by the caller that runs the
/// query.
#[derive(Debug, Default)]
pub struct Report {
    rows: AtomicU64,
    rejected: AtomicU64,
    connected: AtomicU64,
    dropped: AtomicU64,
    notices: Mutex<Notices>,
}

#[derive(Debug, Default)]
struct Notices {
    rejected: Vec<Rejected>,
    /// How many rejected lines there were, and how many of them were reported.
    lines: u64,
    lines_reported: u64,
    warnings: VecDeque<String>,
    unreported: u64,
    lag: Option<Lag>,
}

impl Report {
    /// Rows that were passed on.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Lines that were skipped because they are no rows of the table, and producers and files that
    /// could not be read to their end.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Producers that connected and sent something.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Producers that were dropped because what they sent made no sense.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The first that were rejected, in the order of their arrival.
    pub fn first_rejected(&self) -> Vec<Rejected> {
        self.notices().rejected.clone()
    }

    /// What waits to be read, if the source can report that.
    pub fn lag(&self) -> Option<Lag> {
        self.notices().lag
    }

    /// Takes the warnings since the last call, one sentence each. Rejected lines are reported when
    /// there are ten times as many as the last time. If there were more warnings than are kept, one
    /// warning says how many more.
    pub fn take_warnings(&self) -> Vec<String> {
        self.warnings(false)
    }

    /// The same at the end of a statement, which reports all rejected lines.
    pub fn take_last_warnings(&self) -> Vec<String> {
        self.warnings(true)
    }

    fn warnings(&self, is_end: bool) -> Vec<String> {
        let mut notices = self.notices();
        let mut warnings: Vec<String> = notices.warnings.drain(..).collect();
        let unreported = std::mem::take(&mut notices.unreported);
        if unreported > 0 {
            warnings.push(format!("{unreported} further warnings of the source are not shown"));
        }
        let (lines, reported) = (notices.lines, notices.lines_reported);
        if lines > reported && (is_end || lines >= reported.saturating_mul(10)) {
            notices.lines_reported = lines;
            let first = notices.rejected.iter().find(|rejected| rejected.line.is_some());
            let first = first.map_or_else(String::new, |first| {
                let line = first.number.map_or_else(String::new, |n| format!("line {n} of "));
                format!(", the first {line}{}: {}", first.producer, first.reason)
            });
            warnings.push(match lines {
                1 => format!("a line is no row of the table and is skipped{first}"),
                _ => format!("{lines} lines are no rows of the table and are skipped{first}"),
            });
        }
        warnings
    }

    pub(crate) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn producer_connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn producer_dropped(&self, producer: &str, why: &str) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.warn(format!("{producer} was dropped: {why}"));
        self.reject(producer, None, why);
    }

    /// Records a file that is not read, or not to its end.
    pub(crate) fn file_skipped(&self, file: &str, why: &str) {
        self.warn(format!("file {file} {why}"));
        self.reject(&format!("file {file}"), None, why);
    }

    /// Records a rejected line, given with its number.
    pub(crate) fn line_rejected(&self, producer: &str, line: (u64, &[u8]), why: &str) {
        self.reject(producer, Some(line), why);
        self.notices().lines += 1;
    }

    fn reject(&self, producer: &str, line: Option<(u64, &[u8])>, reason: &str) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let mut notices = self.notices();
        if notices.rejected.len() < KEPT_REJECTED {
            // A character has at most four bytes, so the rest of a long line is not needed.
            let text = line.map(|(_, bytes)| {
                let beginning = &bytes[..bytes.len().min(4 * KEPT_CHARACTERS)];
                String::from_utf8_lossy(beginning).chars().take(KEPT_CHARACTERS).collect()
            });
            notices.rejected.push(Rejected {
                at: now_ms(),
                producer: producer.to_owned(),
                number: line.map(|(number, _)| number),
                line: text,
                reason: reason.to_owned(),
            });
        }
    }

    pub(crate) fn warn(&self, warning: String) {
        let mut notices = self.notices();
        if notices.warnings.len() < KEPT_WARNINGS {
            notices.warnings.push_back(warning);
        } else {
            notices.unreported += 1;
        }
    }

    pub(crate) fn set_lag(&self, lag: Lag) {
        self.notices().lag = Some(lag);
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_counted_and_the_first_are_kept() {
        let report = Report::default();
        for i in 0..KEPT_REJECTED as u64 + 5 {
            report.line_rejected("a", (i + 1, format!("line {i}").as_bytes()), "no row");
        }
        assert_eq!(report.rejected(), 105);
        let lines = report.first_rejected();
        assert_eq!(lines.len(), KEPT_REJECTED);
        let first = Rejected {
            at: lines[0].at,
            producer: "a".to_owned(),
            number: Some(1),
            line: Some("line 0".to_owned()),
            reason: "no row".to_owned(),
        };
        assert_eq!(lines[0], first);
        assert!((0..60_000).contains(&(now_ms() - first.at)));
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let report = Report::default();
        report.line_rejected("a", (1, "ä".repeat(10_000).as_bytes()), "long");
        assert_eq!(report.first_rejected()[0].line, Some("ä".repeat(KEPT_CHARACTERS)));
    }

    #[test]
    fn warnings_are_taken_once_and_bounded() {
        let report = Report::default();
        for i in 0..KEPT_WARNINGS + 3 {
            report.warn(format!("warning {i}"));
        }
        let warnings = report.take_warnings();
        assert_eq!(warnings.len(), KEPT_WARNINGS + 1);
        assert_eq!(warnings[KEPT_WARNINGS], "3 further warnings of the source are not shown");
        assert!(report.take_last_warnings().is_empty());
    }

    #[test]
    fn rejected_lines_are_told_when_they_are_ten_times_as_many_and_at_the_end() {
        let report = Report::default();
        let reject = |lines: std::ops::Range<u64>| {
            lines.for_each(|line| report.line_rejected("a", (line, b"?"), "no JSON"));
        };
        reject(3..4);
        assert_eq!(
            report.take_warnings(),
            ["a line is no row of the table and is skipped, the first line 3 of a: no JSON"]
        );
        reject(4..12);
        assert!(report.take_warnings().is_empty());
        reject(12..13);
        let ten =
            "10 lines are no rows of the table and are skipped, the first line 3 of a: no JSON";
        assert_eq!(report.take_warnings(), [ten]);
        reject(13..14);
        assert!(report.take_warnings().is_empty());
        assert_eq!(report.take_last_warnings(), [ten.replace("10", "11")]);
        assert!(report.take_last_warnings().is_empty());
    }
}
