//! Unbounded inputs: `CREATE UNBOUNDED EXTERNAL TABLE t (...) STORED AS ... LOCATION '...'`.
//!
//! ```text
//!   standard input, FIFO, file ─┐ bytes                       ┌ SELECT
//!   TCP and Unix sockets ───────┼─────▶ decode ─▶ Reader ─▶ SourceScan ─┤
//!   folder of Parquet files ────┘               rows, cursor  └ training, through `numbered`
//! ```
//!
//! A [`Source`] knows how rows arrive. A [`Reader`] returns them in order with their positions
//! ([`Cursor`]). Every queue between a producer and the query is short and bounded: a slow query
//! makes producers wait, and memory stays flat. Errors of single lines or producers do not end the
//! stream; they are reported through the [`Report`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use serde::{Deserialize, Serialize};

mod adapt;
mod decode;
mod exact;
mod factory;
mod feed;
mod folder;
mod ledger;
mod location;
mod notices;
mod options;
mod pipe;
mod rejected;
mod report;
mod scan;
mod socket;
mod table;

pub use factory::{FORMATS, SourceTableFactory};
pub use folder::{FileRows, FolderCursor};
pub use ledger::Ledger;
pub use notices::with_warnings;
pub use rejected::rejected_function;
pub use report::{Lag, Report};
pub use table::{ROW_COLUMN, SourceTable, source_tables};

/// Maximum rows of a batch that a source returns.
pub const BATCH_ROWS: usize = 8192;

/// The position of a row in a partition: a place that only the source understands, and a number of
/// rows counted from it. The default is the start of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The place: the name of a file, or empty where the input is one sequence of rows.
    pub place: String,
    /// Rows before this one, counted from the place.
    pub row: u64,
    /// For a watched folder: which files are read. None if the input is one sequence of rows, and
    /// in checkpoints of program versions that tracked the order of names alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderCursor>,
}

impl Cursor {
    /// The cursor of a row of a place.
    pub fn new(place: impl Into<String>, row: u64) -> Self {
        Self { place: place.into(), row, folder: None }
    }

    /// The cursor of the row that is `rows` rows after this one in the same place.
    pub fn after(&self, rows: u64) -> Self {
        Self { row: self.row.saturating_add(rows), ..self.clone() }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "row {}", self.row),
            place => write!(f, "row {} of {place}", self.row),
        }
    }
}

/// Rows in order, and their positions.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The rows, at least one, in the source's schema.
    pub batch: RecordBatch,
    /// The cursor of the first row; that of row `i` of the batch is `first.after(i)`.
    pub first: Cursor,
    /// Rows between the previous batch and this one that an earlier run read and this run should
    /// read again but cannot: their first cursor, and how many.
    pub lost: Vec<(Cursor, u64)>,
}

impl Rows {
    /// Rows that follow the previous ones without a gap.
    pub fn new(batch: RecordBatch, first: Cursor) -> Self {
        Self { batch, first, lost: vec![] }
    }
}

/// An input of rows, possibly without end.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// The columns of its rows.
    fn schema(&self) -> SchemaRef;

    /// The number of partitions, which are read in parallel, each with its own order and cursor; at
    /// least 1.
    fn partitions(&self) -> usize;

    /// Whether `open` at an old cursor gives the same rows again, in the same order.
    fn is_replayable(&self) -> bool;

    /// Begins to read a partition: at its start, or with the row at the cursor `from`.
    ///
    /// A source that cannot replay continues with what arrives next and counts rows from `from`.
    /// Dropping the reader ends the reading and releases sockets and files.
    ///
    /// # Errors
    /// When the location cannot be opened, or another reader has it and cannot share it.
    async fn open(&self, partition: usize, from: Option<&Cursor>) -> Result<Box<dyn Reader>>;

    /// Counters and notices of this source, shared by all its readers.
    fn report(&self) -> Arc<Report>;

    /// What kind of input it is, in one word, for plans: `tcp`, `folder`.
    fn kind(&self) -> &'static str;

    /// Where it is, as it was written in LOCATION.
    fn location(&self) -> &str;
}

/// A partition that is being read.
#[async_trait]
pub trait Reader: Send {
    /// The next rows as soon as there are any; None at the end of the input. It must not be
    /// called again after None or an error.
    ///
    /// Cancel safe: a future that is dropped before it is ready has taken no rows.
    ///
    /// # Errors
    /// When the input as a whole cannot go on.
    async fn next(&mut self) -> Result<Option<Rows>>;
}
