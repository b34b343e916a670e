//! `AS query` and `FROM table-or-'file'`, which end a statement.

use datafusion::error::Result;
use datafusion::sql::sqlparser::ast::{ObjectName, ObjectNamePart};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::{Cursor, excerpt};
use crate::statements::Source;

/// Takes the source if AS or FROM is next; it extends to the end of the statement.
pub(super) fn parse_source(cursor: &mut Cursor<'_>, statement: &str) -> Result<Option<Source>> {
    if cursor.take_words(&["AS"]) {
        let place = format!("the query of {statement}");
        if cursor.is_at_end() {
            return Err(cursor.expected(&format!("{place} after AS")));
        }
        let query = cursor.parse_all(&place, |parser| parser.parse_query())?;
        *cursor = Cursor::new(cursor.script, &[]);
        return Ok(Some(Source::Query(query)));
    }
    if !cursor.take_words(&["FROM"]) {
        return Ok(None);
    }
    let start = *cursor;
    let source = match cursor.peek() {
        Some(Token::SingleQuotedString(path)) => {
            *cursor = cursor.after();
            Source::File(path.clone())
        }
        Some(Token::LParen) => {
            let query = excerpt(start.script.text(start.rest()));
            return Err(start.error(&format!(
                "FROM takes the name of a table or a 'file'; write AS SELECT * FROM {query} \
                 instead of FROM"
            )));
        }
        _ => {
            let mut parts = vec![];
            loop {
                let what = "the name of a table or a 'file' after FROM";
                parts.push(ObjectNamePart::Identifier(cursor.ident(what)?));
                if !cursor.take(&Token::Period) {
                    break;
                }
            }
            Source::Table(ObjectName(parts))
        }
    };
    if cursor.is_at_end() {
        return Ok(Some(source));
    }
    let query = excerpt(start.script.text(start.rest()));
    let found = cursor.peek().map(ToString::to_string).unwrap_or_default();
    Err(cursor.error(&format!(
        "FROM takes a table or a 'file' and nothing more; write AS SELECT * FROM {query} instead, \
         found {found}"
    )))
}
