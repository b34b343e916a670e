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

impl From<&str> for OptionValue {
    fn from(text: &str) -> Self {
        OptionValue::String(text.to_owned())
    }
}

impl From<String> for OptionValue {
    fn from(text: String) -> Self {
        OptionValue::String(text)
    }
}

impl From<bool> for OptionValue {
    fn from(value: bool) -> Self {
        OptionValue::Bool(value)
    }
}

/// Numbers as their text.
macro_rules! numbers {
    ($($type:ty),+) => {
        $(impl From<$type> for OptionValue {
            fn from(number: $type) -> Self {
                OptionValue::Number(number.to_string())
            }
        })+
    };
}
numbers!(i32, i64, u32, u64, usize, f32, f64);

impl<T: Into<OptionValue>> From<Vec<T>> for OptionValue {
    fn from(values: Vec<T>) -> Self {
        OptionValue::List(values.into_iter().map(Into::into).collect())
    }
}

impl OptionValue {
    /// The value of a text in SQL's spelling, as `Display` writes it.
    pub fn of_text(text: &str) -> Self {
        let inner = |open, close| text.strip_prefix(open).and_then(|t: &str| t.strip_suffix(close));
        if let Some(text) = inner('\'', '\'') {
            return OptionValue::String(text.replace("''", "'"));
        }
        if let Some(items) = inner('[', ']') {
            let items = items.split(", ").filter(|item| !item.is_empty());
            return OptionValue::List(items.map(Self::of_text).collect());
        }
        if let Some(entries) = inner('{', '}') {
            let entries = entries.split(", ").filter_map(|entry| entry.split_once(": "));
            let entry = |(k, v): (&str, &str)| (k.trim_matches('\'').to_owned(), Self::of_text(v));
            return OptionValue::Map(entries.map(entry).collect());
        }
        match text {
            "TRUE" => OptionValue::Bool(true),
            "FALSE" => OptionValue::Bool(false),
            _ if text.parse::<f64>().is_ok() => OptionValue::Number(text.to_owned()),
            _ => OptionValue::Word(text.to_owned()),
        }
    }
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
