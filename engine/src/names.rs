//! Suggestions for errors about names of columns that do not exist.

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
