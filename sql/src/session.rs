//! A session: SQL in, Arrow batches and events out.

use std::path::PathBuf;

use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use gradlake_engine::event::EventSink;

/// How to open a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Folder or object-store URL of the warehouse; `./gradlake-warehouse` if absent.
    pub warehouse: Option<String>,
    /// Bytes that queries and training may reserve; 80 % of the machine's memory if absent.
    pub memory_limit: Option<usize>,
    /// Threads; the machine's cores if absent.
    pub threads: Option<usize>,
    /// Folder for spilled data; the system's temporary folder if absent.
    pub spill_folder: Option<PathBuf>,
}

/// A session on a warehouse.
pub struct Session {}

impl Session {
    /// Opens a session. The warehouse need not exist: it is made when it is first written to.
    pub async fn open(_options: SessionOptions) -> Result<Self> {
        Ok(Self {})
    }

    /// Runs one statement and returns its rows. Events of a training go to `events`.
    ///
    /// Dropping the future or the stream stops a query; [`Session::interrupt`] stops a training
    /// at its next round, so that it keeps its checkpoint.
    pub async fn execute(
        &self,
        _sql: &str,
        _events: EventSink,
    ) -> Result<SendableRecordBatchStream> {
        Err(datafusion::error::DataFusionError::NotImplemented("statements".to_owned()))
    }

    /// Splits a script into statements at the semicolons between them.
    pub fn split(_script: &str) -> Result<Vec<String>> {
        Ok(vec![])
    }

    /// Asks the running training of this session to stop at its next mini-batch boundary.
    pub fn interrupt(&self) {}

    /// Names for completion: keywords, tables, models and columns.
    pub async fn completions(&self) -> Vec<String> {
        vec![]
    }
}
