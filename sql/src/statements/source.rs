//! The rows that a statement takes: `AS query` or `FROM table-or-'file'`.

use std::fmt;

use datafusion::error::Result;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Query};

use super::name::exact;

/// Where rows come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `AS query`
    Query(Box<Query>),
    /// `FROM table`
    Table(ObjectName),
    /// `FROM 'file'`
    File(String),
}

impl Source {
    /// The query as a statement that DataFusion plans; for a table or file, `SELECT * FROM it`.
    pub fn statement(&self) -> Result<DfStatement> {
        Ok(DfStatement::Statement(Box::new(datafusion::sql::sqlparser::ast::Statement::Query(
            self.query()?,
        ))))
    }

    /// The query; for a table or file, `SELECT * FROM it`.
    pub fn query(&self) -> Result<Box<Query>> {
        match self {
            Source::Query(query) => Ok(query.clone()),
            Source::Table(name) => crate::parsers::query(&format!("SELECT * FROM {name}")),
            Source::File(path) => {
                crate::parsers::query(&format!("SELECT * FROM {}", literal(path)))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Query(query) => write!(f, "AS {}", exact(query.as_ref())),
            Source::Table(name) => write!(f, "FROM {name}"),
            Source::File(path) => write!(f, "FROM {}", literal(path)),
        }
    }
}

/// The text as a string literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
