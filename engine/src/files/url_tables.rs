//! `FROM 'data/x.parquet'`: names that are not tables are locations of files.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{TableProvider, UrlTableFactory};
use datafusion::common::{Result, internal_err};
use datafusion::execution::SessionState;
use datafusion_session::SessionStore;

use super::kind::Kind;
use super::location::Location;
use super::table;

/// Makes tables of the locations that a statement names.
#[derive(Debug, Default)]
pub(crate) struct UrlTables {
    session: SessionStore,
}

impl UrlTables {
    /// The store in which the session that plans statements is registered.
    pub(crate) fn session(&self) -> &SessionStore {
        &self.session
    }

    fn state(&self) -> Result<SessionState> {
        let state =
            self.session.get_session().upgrade().and_then(|session| {
                session.read().as_any().downcast_ref::<SessionState>().cloned()
            });
        match state {
            Some(state) => Ok(state),
            None => internal_err!("no session plans statements"),
        }
    }
}

#[async_trait]
impl UrlTableFactory for UrlTables {
    async fn try_new(&self, text: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        // No path contains a zero byte: see how the session plans CREATE EXTERNAL TABLE.
        if text.contains('\0') {
            return Ok(None);
        }
        let is_named_as_file = Kind::of_file(text).is_some();
        match Location::parse(text) {
            Ok(location) if is_named_as_file || location.is_explicit() => {
                Ok(Some(Arc::new(table::open(&self.state()?, location).await?)))
            }
            Err(error) if is_named_as_file || text.contains('/') => Err(error),
            _ => Ok(None),
        }
    }
}
