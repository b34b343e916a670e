//! `EXPLAIN [ANALYZE] TRAIN`; every other EXPLAIN is DataFusion's.

use datafusion::error::Result;

use super::cursor::Cursor;
use super::train_parser::parse_train;
use crate::statements::ExplainTrain;

/// Gradlake statements that have no plan of their own.
const WITHOUT_PLAN: [&str; 1] = ["EVALUATE"];

/// Whether an EXPLAIN is followed by a Gradlake statement, possibly after options of DataFusion.
pub(super) fn is_ours(cursor: &Cursor<'_>) -> bool {
    let explained = explained(cursor);
    explained.is_word("TRAIN")
        || WITHOUT_PLAN.iter().any(|word| explained.is_words(&[word, "MODEL"]))
}

/// The position after `EXPLAIN [ANALYZE] [VERBOSE] [FORMAT word]`.
fn explained<'a>(cursor: &Cursor<'a>) -> Cursor<'a> {
    let mut cursor = cursor.after();
    loop {
        if cursor.is_word("ANALYZE") || cursor.is_word("VERBOSE") {
            cursor = cursor.after();
        } else if cursor.is_word("FORMAT") {
            cursor = cursor.after().after();
        } else {
            return cursor;
        }
    }
}

/// Parses a statement from EXPLAIN to its end.
pub(super) fn parse_explain_train(cursor: &mut Cursor<'_>) -> Result<ExplainTrain> {
    cursor.expect_words(&["EXPLAIN"], "at the beginning")?;
    let analyze = cursor.take_words(&["ANALYZE"]);
    if !cursor.is_word("TRAIN") {
        let what = if explained(cursor).is_word("TRAIN")
            || cursor.is_word("VERBOSE")
            || cursor.is_word("FORMAT")
        {
            "TRAIN after EXPLAIN [ANALYZE], which takes no other option"
        } else {
            "TRAIN, PREDICT or a query after EXPLAIN"
        };
        return Err(cursor.expected(what));
    }
    Ok(ExplainTrain { analyze, train: Box::new(parse_train(cursor)?) })
}
