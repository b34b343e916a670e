//! Reduces errors to the one sentence that helps, without their wrappers.

use std::error::Error;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;

/// The position of a statement in its script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// File name; absent for `-c`, standard input and the prompt.
    pub file: Option<String>,
    /// Line of the statement's first character, from 1.
    pub line: u64,
    /// Column of the statement's first character, from 1.
    pub column: u64,
    /// Whether to print the line (a statement alone on one line needs none).
    pub say_line: bool,
}

/// The error as one line: `train.sql, line 12: what was wrong`.
pub fn located(error: &DataFusionError, place: &Place) -> String {
    let sentence = shift_location(&sentence(error), place);
    match &place.file {
        Some(file) => format!("{file}, line {}: {sentence}", place.line),
        None if place.say_line => format!("line {}: {sentence}", place.line),
        None => sentence,
    }
}

/// The innermost message of an error, on one line.
pub fn sentence(error: &DataFusionError) -> String {
    let text = describe(error);
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
    // Errors that were converted to text on their way have their chain in it.
    let text = text.rsplit("\ncaused by\n").next().unwrap_or_default();
    let mut text = text.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest.trim_start();
    }
    without_signatures(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// If a function has refused its arguments with a sentence of its own, returns that sentence:
/// DataFusion writes the signatures of its functions around it.
fn without_signatures(text: &str) -> &str {
    const BEFORE: &str = " user-defined coercion failed with: Error during planning: ";
    const AFTER: &str = ". No function matches the given name and argument types";
    let own = text.split_once(BEFORE).map_or(text, |(_, own)| own);
    if own.len() == text.len() { text } else { own.split(AFTER).next().unwrap_or(own) }
}

/// What DataFusion, Arrow and Parquet put before a message.
const PREFIXES: [&str; 13] = [
    "Error during planning: ",
    "Execution error: ",
    "External error: ",
    "External: ",
    "Arrow error: ",
    "Parquet error: ",
    "Object Store error: ",
    "IO error: ",
    "Io error: ",
    "Schema error: ",
    "SQL error: ",
    "Compute error: ",
    "Invalid argument error: ",
];

fn describe(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            describe(inner)
        }
        DataFusionError::Shared(inner) => describe(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => describe(first),
            None => error.to_string(),
        },
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.clone(),
            ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
        },
        DataFusionError::NotImplemented(text) => format!("not implemented: {text}"),
        DataFusionError::Internal(text) => format!("internal error: {text}"),
        DataFusionError::Plan(text)
        | DataFusionError::Configuration(text)
        | DataFusionError::Execution(text)
        | DataFusionError::ResourcesExhausted(text)
        | DataFusionError::Substrait(text)
        | DataFusionError::Ffi(text) => text.clone(),
        DataFusionError::SchemaError(error, _) => error.to_string(),
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::ParquetError(error) => parquet(error),
        DataFusionError::ObjectStore(error) => error.to_string(),
        DataFusionError::IoError(error) => error.to_string(),
        DataFusionError::ExecutionJoin(error) => format!("internal error: {error}"),
        DataFusionError::External(error) => foreign(error.as_ref()),
    }
}

fn arrow(error: &ArrowError) -> String {
    match error {
        ArrowError::ExternalError(inner) => foreign(inner.as_ref()),
        ArrowError::DivideByZero => "division by zero".to_owned(),
        other => other.to_string(),
    }
}

fn parquet(error: &ParquetError) -> String {
    match error {
        ParquetError::External(inner) => foreign(inner.as_ref()),
        other => other.to_string(),
    }
}

fn foreign(error: &(dyn Error + 'static)) -> String {
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        describe(inner)
    } else if let Some(inner) = error.downcast_ref::<Arc<DataFusionError>>() {
        describe(inner)
    } else if let Some(inner) = error.downcast_ref::<ArrowError>() {
        arrow(inner)
    } else if let Some(inner) = error.downcast_ref::<ParquetError>() {
        parquet(inner)
    } else {
        error.to_string()
    }
}

/// The parser counts lines and columns from the statement's first character; the reader looks
/// for them in the script. ` at Line: 2, Column: 5` becomes ` at line 13, column 5`.
fn shift_location(text: &str, place: &Place) -> String {
    const MARK: &str = " at Line: ";
    let found = text.rfind(MARK).and_then(|at| {
        let (line, column) = text.get(at + MARK.len()..)?.split_once(", Column: ")?;
        let digits = column.len() - column.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (column, rest) = column.split_at(digits);
        Some((at, line.parse::<u64>().ok()?, column.parse::<u64>().ok()?, rest))
    });
    let Some((at, line, column, rest)) = found else {
        return text.to_owned();
    };
    let (first_line, first_column) = (place.line.max(1), place.column.max(1));
    let column = if line == 1 { column + first_column - 1 } else { column };
    let head = text.get(..at).unwrap_or_default();
    format!("{head} at line {}, column {column}{rest}", line + first_line - 1)
}

#[cfg(test)]
mod tests {
    use datafusion::common::{exec_datafusion_err, internal_datafusion_err, plan_datafusion_err};

    use super::*;

    #[test]
    fn wrappers_are_stripped() {
        let plan = || plan_datafusion_err!("unknown option 'epoch'");
        let cases = [
            plan(),
            plan().context("type_coercion").context("optimizing"),
            DataFusionError::Shared(Arc::new(plan())),
            DataFusionError::External(Box::new(plan())),
            DataFusionError::External(Box::new(Arc::new(plan()))),
            ArrowError::ExternalError(Box::new(plan())).into(),
            ParquetError::External(Box::new(plan())).into(),
            DataFusionError::Collection(vec![plan(), exec_datafusion_err!("second")]),
            exec_datafusion_err!("Execution error: Error during planning: unknown option 'epoch'"),
            exec_datafusion_err!("outer\ncaused by\nExternal error: unknown option 'epoch'"),
            exec_datafusion_err!(
                "unknown\n   option 'epoch'{}at x",
                DataFusionError::BACK_TRACE_SEP
            ),
        ];
        let coerced = plan_datafusion_err!(
            "Function 'accuracy' user-defined coercion failed with: {}. No function matches the \
             given name and argument types 'accuracy(Utf8)'. You might need to add casts.",
            plan()
        );
        for error in cases.into_iter().chain([coerced]) {
            assert_eq!(sentence(&error), "unknown option 'epoch'", "{error:?}");
        }
    }

    #[test]
    fn what_matters_stays() {
        assert_eq!(
            sentence(&DataFusionError::NotImplemented("PIVOT".to_owned())),
            "not implemented: PIVOT"
        );
        assert_eq!(sentence(&internal_datafusion_err!("no state")), "internal error: no state");
        assert_eq!(sentence(&ArrowError::DivideByZero.into()), "division by zero");
        assert_eq!(
            sentence(&ArrowError::CastError("'x' is no Int64".to_owned()).into()),
            "Cast error: 'x' is no Int64"
        );
    }

    #[test]
    fn places_are_those_of_the_script() {
        let error = |line: u64, column: u64| {
            DataFusionError::SQL(
                Box::new(ParserError::ParserError(format!(
                    "Expected: an expression, found: FROM at Line: {line}, Column: {column}"
                ))),
                None,
            )
        };
        let file = Some("a.sql".to_owned());
        let place = Place { file, line: 12, column: 5, say_line: true };
        assert_eq!(
            located(&error(1, 8), &place),
            "a.sql, line 12: Expected: an expression, found: FROM at line 12, column 12"
        );
        assert_eq!(
            located(&error(3, 8), &Place { file: None, ..place.clone() }),
            "line 12: Expected: an expression, found: FROM at line 14, column 8"
        );
        assert_eq!(
            located(&error(1, 8), &Place::default()),
            "Expected: an expression, found: FROM at line 1, column 8"
        );
        let odd = exec_datafusion_err!("look at Line: x, Column: y");
        assert_eq!(located(&odd, &Place::default()), "look at Line: x, Column: y");
    }
}
