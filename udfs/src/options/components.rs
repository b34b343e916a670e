//! The number of principal components, as the option `components` gives it.

use std::fmt;

/// How many principal components are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Components {
    /// As many as there can be, at most [`Components::DEFAULT`].
    Auto,
    /// So many.
    Count(usize),
    /// The smallest number that explains this share of the variance, above 0 and below 1.
    Share(f64),
}

impl Components {
    /// Components at most by default.
    pub const DEFAULT: usize = 50;
    /// Components at most.
    pub const MOST: u64 = 65536;
}

/// SQL's spelling.
impl fmt::Display for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Components::Auto => f.write_str("auto"),
            Components::Count(count) => write!(f, "{count}"),
            Components::Share(share) => write!(f, "{share}"),
        }
    }
}
