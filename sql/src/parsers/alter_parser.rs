//! `ALTER MODEL`.

use datafusion::error::Result;

use super::cursor::Cursor;
use crate::statements::{AlterModel, AlterModelAction};

/// Parses a statement from ALTER to its end.
pub(super) fn parse_alter_model(cursor: &mut Cursor<'_>) -> Result<AlterModel> {
    cursor.expect_words(&["ALTER", "MODEL"], "at the beginning")?;
    let name = cursor.model_name("MODEL")?;
    let action = if cursor.take_words(&["RENAME"]) {
        cursor.expect_words(&["TO"], "after RENAME")?;
        AlterModelAction::Rename(cursor.model_name("RENAME TO")?)
    } else if cursor.take_words(&["SET"]) {
        cursor.expect_words(&["VERSION"], "after SET")?;
        AlterModelAction::SetVersion(cursor.version_number()?)
    } else {
        return Err(cursor.expected("RENAME TO name or SET VERSION n after ALTER MODEL name"));
    };
    Ok(AlterModel { name, action })
}
