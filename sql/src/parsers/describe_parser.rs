//! `DESCRIBE MODEL`; `DESCRIBE model` and `DESCRIBE model.m.weights` are tables.

use datafusion::error::Result;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::statements::DescribeModel;

/// Whether a DESCRIBE is about a model, and not about a table called model.
pub(super) fn is_ours(cursor: &Cursor<'_>) -> bool {
    let cursor = cursor.after();
    cursor.is_word("MODEL")
        && !cursor.after().is_at_end()
        && cursor.after().peek() != Some(&Token::Period)
}

/// Parses a statement from DESCRIBE to its end.
pub(super) fn parse_describe_model(cursor: &mut Cursor<'_>) -> Result<DescribeModel> {
    *cursor = cursor.after();
    cursor.expect_words(&["MODEL"], "after DESCRIBE")?;
    Ok(DescribeModel { name: cursor.model_name("MODEL")?, version: cursor.version()? })
}
