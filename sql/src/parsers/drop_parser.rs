//! `DROP MODEL`.

use datafusion::error::Result;

use super::cursor::Cursor;
use crate::statements::DropModel;

/// Parses a statement from DROP to its end.
pub(super) fn parse_drop_model(cursor: &mut Cursor<'_>) -> Result<DropModel> {
    cursor.expect_words(&["DROP", "MODEL"], "at the beginning")?;
    let if_exists = cursor.take_words(&["IF", "EXISTS"]);
    let place = if if_exists { "IF EXISTS" } else { "MODEL" };
    Ok(DropModel { if_exists, name: cursor.model_name(place)?, version: cursor.version()? })
}
