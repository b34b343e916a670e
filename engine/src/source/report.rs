//! What a source has to tell besides its rows: counters, rejected lines, warnings.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rejected lines that are kept; all are counted.
const KEPT_REJECTED: usize = 100;
/// Characters of a rejected line that are kept.
const KEPT_CHARACTERS: usize = 500;
/// Warnings that wait to be taken; later ones are counted.
const KEPT_WARNINGS: usize = 100;

/// A line that is no row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Who sent it: an address, a path, or `producer 3` of a Unix socket.
    pub producer: String,
    /// The line, or the beginning of a long one.
    pub line: String,
    /// Why it is no row.
    pub reason: String,
}

/// What waits to be read, where the source can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// Bytes that a file or pipe holds beyond what is read.
    Bytes(u64),
    /// Files of a folder that are not begun.
    Files(u64),
}

/// Counters and notices of a source, written by its readers, read by whoever runs the query.
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
    warnings: VecDeque<String>,
    untold: u64,
    lag: Option<Lag>,
}

impl Report {
    /// Rows that were handed on.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Lines that were skipped because they are no rows of the table.
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

    /// The first rejected lines, in the order of their arrival.
    pub fn rejected_lines(&self) -> Vec<Rejected> {
        self.notices().rejected.clone()
    }

    /// What waits to be read, where the source can tell.
    pub fn lag(&self) -> Option<Lag> {
        self.notices().lag
    }

    /// Takes the warnings since the last call, one sentence each. The last one says how many
    /// more there were than are kept, if there were.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut notices = self.notices();
        let mut warnings: Vec<String> = notices.warnings.drain(..).collect();
        let untold = std::mem::take(&mut notices.untold);
        if untold > 0 {
            warnings.push(format!("{untold} further warnings of the source are not shown"));
        }
        warnings
    }

    pub(crate) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn producer_connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn producer_dropped(&self, warning: String) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.warn(warning);
    }

    pub(crate) fn reject(&self, producer: &str, line: &[u8], reason: impl Into<String>) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let mut notices = self.notices();
        if notices.rejected.len() < KEPT_REJECTED {
            // Four bytes a character at most: the rest of a long line need not be looked at.
            let beginning = &line[..line.len().min(4 * KEPT_CHARACTERS)];
            let line = String::from_utf8_lossy(beginning).chars().take(KEPT_CHARACTERS).collect();
            notices.rejected.push(Rejected {
                producer: producer.to_owned(),
                line,
                reason: reason.into(),
            });
        }
    }

    pub(crate) fn warn(&self, warning: String) {
        let mut notices = self.notices();
        if notices.warnings.len() < KEPT_WARNINGS {
            notices.warnings.push_back(warning);
        } else {
            notices.untold += 1;
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
        for i in 0..KEPT_REJECTED + 5 {
            report.reject("a", format!("line {i}").as_bytes(), "no row");
        }
        assert_eq!(report.rejected(), 105);
        let lines = report.rejected_lines();
        assert_eq!(lines.len(), KEPT_REJECTED);
        let first = Rejected {
            producer: "a".to_owned(),
            line: "line 0".to_owned(),
            reason: "no row".to_owned(),
        };
        assert_eq!(lines[0], first);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let report = Report::default();
        report.reject("a", "ä".repeat(10_000).as_bytes(), "long");
        assert_eq!(report.rejected_lines()[0].line, "ä".repeat(KEPT_CHARACTERS));
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
        assert!(report.take_warnings().is_empty());
    }
}
