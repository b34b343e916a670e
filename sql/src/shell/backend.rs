//! The interface of a session that the shell needs.

use async_trait::async_trait;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use gradlake_engine::EventSink;

use super::keywords;
use crate::session::Session;

/// Runs statements: the session, or a mock of it in tests.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Runs one statement; events of a training go to `events`.
    async fn execute(&self, sql: &str, events: EventSink) -> Result<SendableRecordBatchStream>;

    /// Asks the running training to stop at its next mini-batch and to keep its checkpoint.
    fn interrupt(&self);

    /// Stops running queries whose rows are not wanted any more.
    fn stop_queries(&self);

    /// Keywords and the names of tables, models and columns.
    async fn completions(&self) -> Vec<String>;
}

#[async_trait]
impl Backend for Session {
    async fn execute(&self, sql: &str, events: EventSink) -> Result<SendableRecordBatchStream> {
        Self::execute(self, sql, events).await
    }

    fn interrupt(&self) {
        Self::interrupt(self);
    }

    fn stop_queries(&self) {
        Self::stop_queries(self);
    }

    async fn completions(&self) -> Vec<String> {
        let mut names = Self::completions(self).await;
        names.extend(keywords::words());
        names
    }
}
