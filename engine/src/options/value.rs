//! The value of an option, as a statement or a program gives it.

use std::fmt;

/// The value of an option.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// `'text'`
    String(String),
    /// `0.5`, `-3`: the text is kept, so that 64-bit integers stay exact.
    Number(String),
    /// `TRUE` or `FALSE`
    Bool(bool),
    /// A bare word, in lower case: `auto`.
    Word(String),
    /// `[ value, ... ]`
    List(Vec<OptionValue>),
    /// `{ 'key': value, ... }`, in the order given.
    Map(Vec<(String, OptionValue)>),
}

impl fmt::Display for OptionValue {
    /// SQL's spelling, which parses to the same value again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::String(s) => write!(f, "'{}'", s.replace('\'', "''")),
            OptionValue::Number(n) => f.write_str(n),
            OptionValue::Bool(b) => f.write_str(if *b { "TRUE" } else { "FALSE" }),
            OptionValue::Word(w) => f.write_str(w),
            OptionValue::List(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            OptionValue::Map(entries) => {
                f.write_str("{")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}'{}': {value}", key.replace('\'', "''"))?;
                }
                f.write_str("}")
            }
        }
    }
}
