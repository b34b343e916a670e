//! Names in printed statements, and the clauses that many statements share.

use std::convert::Infallible;
use std::fmt;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, Value, ValueWithSpan, VisitMut, VisitorMut};
pub use gradlake_engine::quoted;

use gradlake_engine::OptionValue;

/// The name that an identifier stands for: folded to lower case unless it is quoted.
pub(crate) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// `a, "B", c`
pub(super) fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// Writes ` VERSION n`, or nothing.
pub(super) fn write_version(f: &mut fmt::Formatter<'_>, version: Option<u64>) -> fmt::Result {
    version.map_or(Ok(()), |version| write!(f, " VERSION {version}"))
}

/// Writes ` WITH (...)`, or nothing if there are no options.
pub(super) fn write_options(
    f: &mut fmt::Formatter<'_>,
    options: &[(String, OptionValue)],
) -> fmt::Result {
    if options.is_empty() {
        return Ok(());
    }
    write!(f, " WITH ({})", options_text(options))
}

/// `name = value, ...`
pub(crate) fn options_text(options: &[(String, OptionValue)]) -> String {
    let pairs = options.iter().map(|(name, value)| format!("{} = {value}", quoted(name)));
    pairs.collect::<Vec<_>>().join(", ")
}

/// The node as SQL that reads as the same node again.
///
/// sqlparser takes two adjacent quotes in a string's value for an escape and prints them as they
/// are. So every quote is doubled first, which makes it print correctly.
pub(crate) fn exact<T: VisitMut + Clone + fmt::Display>(node: &T) -> String {
    struct Doubled;
    impl VisitorMut for Doubled {
        type Break = Infallible;
        fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Infallible> {
            if let Value::SingleQuotedString(text) = &mut value.value {
                *text = text.replace('\'', "''");
            }
            ControlFlow::Continue(())
        }
    }
    let mut node = node.clone();
    let ControlFlow::Continue(()) = node.visit(&mut Doubled);
    node.to_string()
}
