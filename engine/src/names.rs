//! Columns by name, and what to say when there is none.

use datafusion::common::{Column, DFSchema, Result, plan_err};

/// The column of that exact name; an error where two tables of the query have one.
pub fn find_column(schema: &DFSchema, name: &str) -> Result<Option<Column>> {
    let mut found = schema.columns().into_iter().filter(|c| c.name == name);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => plan_err!(
            "column {name} is ambiguous: the query has it more than once; give one an alias"
        ),
        (column, _) => Ok(column),
    }
}

/// `; did you mean x?`, or nothing.
pub fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
