//! `EVALUATE MODEL`.

use datafusion::error::Result;

use super::cursor::Cursor;
use super::predict_parser::parse_version_and_options;
use super::source_parser::parse_source;
use crate::statements::Evaluate;

/// Parses a statement from EVALUATE to its end.
pub(super) fn parse_evaluate(cursor: &mut Cursor<'_>) -> Result<Evaluate> {
    cursor.expect_words(&["EVALUATE"], "at the beginning")?;
    cursor.expect_words(&["MODEL"], "after EVALUATE")?;
    let name = cursor.model_name("MODEL")?;
    let (version, options) = parse_version_and_options(cursor, "EVALUATE")?;
    let source = parse_source(cursor, "EVALUATE")?;
    if source.is_none() && !cursor.is_at_end() {
        return Err(cursor.expected("VERSION, WITH, AS query or FROM table after EVALUATE MODEL"));
    }
    Ok(Evaluate { name, version, options, source })
}
