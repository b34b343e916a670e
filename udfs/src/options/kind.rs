//! The values that an option accepts: the check and the description are derived from them.

use std::fmt::Write;

/// The values of an option.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number.
    Whole(Bounds<u64>),
    /// A finite number.
    Number(Bounds<f64>),
    /// `TRUE` or `FALSE`.
    Boolean,
    /// One of some names.
    OneOf(fn() -> Vec<&'static str>),
    /// One of some names that not every algorithm accepts, and their description.
    OneOfAlgorithm(fn() -> Vec<&'static str>, fn() -> String),
    /// Other values, with a description that completes "must be ...".
    Words(fn() -> String),
}

/// The bounds of a number.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<T> {
    /// The lower bound.
    pub low: T,
    /// The upper bound.
    pub high: T,
    /// Whether the lower bound is excluded.
    pub is_above: bool,
    /// Whether the upper bound is excluded.
    pub is_below: bool,
    /// A word that is allowed instead of a number.
    pub or: Option<&'static str>,
}

impl Bounds<f64> {
    /// Whether a number is within them.
    pub fn contain(&self, number: f64) -> bool {
        let Self { low, high, is_above, is_below, .. } = *self;
        let above = if is_above { number > low } else { number >= low };
        let below = if is_below { number < high } else { number <= high };
        above && below
    }
}

/// Whole numbers from `low` to `high`.
pub(super) const fn whole(low: u64, high: u64) -> Kind {
    Kind::Whole(Bounds { low, high, is_above: false, is_below: false, or: None })
}

/// The same, or a word.
pub(super) const fn whole_or(or: &'static str, low: u64, high: u64) -> Kind {
    Kind::Whole(Bounds { low, high, is_above: false, is_below: false, or: Some(or) })
}

/// Numbers from `low` to `high`, inclusive.
pub(super) const fn number(low: f64, high: f64) -> Kind {
    Kind::Number(Bounds { low, high, is_above: false, is_below: false, or: None })
}

/// The same, or a word.
pub(super) const fn number_or(or: &'static str, low: f64, high: f64) -> Kind {
    Kind::Number(Bounds { low, high, is_above: false, is_below: false, or: Some(or) })
}

/// Numbers from 0 to below 1.
pub(super) const BELOW_ONE: Kind =
    Kind::Number(Bounds { low: 0.0, high: 1.0, is_above: false, is_below: true, or: None });

/// Numbers above 0 and at most `high`.
pub(super) const fn positive(high: f64) -> Kind {
    Kind::Number(Bounds { low: 0.0, high, is_above: true, is_below: false, or: None })
}

/// The same, or a word.
pub(super) const fn positive_or(or: &'static str, high: f64) -> Kind {
    Kind::Number(Bounds { low: 0.0, high, is_above: true, is_below: false, or: Some(or) })
}

/// Numbers above 0 and below 1.
pub(super) const SHARE: Kind =
    Kind::Number(Bounds { low: 0.0, high: 1.0, is_above: true, is_below: true, or: None });

impl Kind {
    /// Names that are values, for completion.
    pub fn words(&self) -> Vec<&'static str> {
        match self {
            Kind::OneOf(names) | Kind::OneOfAlgorithm(names, _) => names(),
            _ => vec![],
        }
    }

    /// A description that completes "must be ...".
    pub fn range(&self) -> String {
        match self {
            Kind::Whole(Bounds { low, high, or, .. }) => {
                format!("{}a whole number from {low} to {high}", or_word(*or))
            }
            Kind::Number(Bounds { low, high, is_above, is_below, or }) => {
                let mut text = format!("{}a number", or_word(*or));
                let from = if *is_above { "above" } else { "from" };
                let to = match (is_above, is_below) {
                    (true, true) => "and below",
                    (true, false) => "and at most",
                    (false, true) => "to below",
                    (false, false) => "to",
                };
                // (A tiny number reads better with an exponent.)
                let low =
                    if *low > 0.0 && *low < 1e-6 { format!("{low:e}") } else { low.to_string() };
                let _ = write!(text, " {from} {low} {to} {high}");
                text
            }
            Kind::Boolean => "TRUE or FALSE".to_owned(),
            Kind::OneOf(names) => format!("one of {}", names().join(", ")),
            Kind::Words(words) | Kind::OneOfAlgorithm(_, words) => words(),
        }
    }
}

fn or_word(or: Option<&'static str>) -> String {
    or.map_or_else(String::new, |word| format!("{word} or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_said_as_they_are_checked() {
        assert_eq!(whole_or("auto", 1, 9).range(), "auto or a whole number from 1 to 9");
        assert_eq!(positive(1000.0).range(), "a number above 0 and at most 1000");
        assert_eq!(BELOW_ONE.range(), "a number from 0 to below 1");
        assert_eq!(SHARE.range(), "a number above 0 and below 1");
        assert_eq!(number(1e-30, 1.0).range(), "a number from 1e-30 to 1");
        let Kind::Number(bounds) = BELOW_ONE else { unreachable!() };
        assert!(bounds.contain(0.0) && !bounds.contain(1.0) && !bounds.contain(-0.1));
        let Kind::Number(bounds) = SHARE else { unreachable!() };
        assert!(!bounds.contain(0.0) && bounds.contain(0.5));
    }
}
