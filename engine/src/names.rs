//! Names in statements, and suggestions for names that do not exist.

use gradlake_udfs::Names;

use crate::options::nearest;

/// `; did you mean x?` of the nearest of the names, or nothing.
pub fn suggested(names: &Names<'_>, name: &str) -> String {
    suggestion(nearest(name, names.all().iter().copied()))
}

/// `; did you mean x?`, or nothing.
pub fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// The name as SQL that reads as this name again: quoted where folding would change it.
pub fn quoted(name: &str) -> String {
    let mut characters = name.chars();
    let is_plain = characters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !["if", "or"].contains(&name);
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
