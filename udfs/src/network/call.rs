//! Layers as a clause has them: calls with arguments, which a parser reads and `Display` writes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The value of an argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Flag(bool),
    /// Any number; whole numbers are written without a point.
    Number(f64),
    /// A string or a bare word.
    Text(String),
    /// `[value, ...]`.
    List(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Value::List(values) => {
                f.write_str("[")?;
                separated(f, values.iter())?;
                f.write_str("]")
            }
        }
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Number(number as f64)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_string())
    }
}

/// One layer as it is written: `conv(32, 3, padding => 'same') AS stem`, `relu`, or
/// `residual(conv(32, 3), relu)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerSpec {
    /// The name of the layer, in lower case.
    pub name: String,
    /// Arguments without a name, in order.
    pub positional: Vec<Value>,
    /// Arguments with a name, in order.
    pub named: Vec<(String, Value)>,
    /// Layers inside the parentheses: those of `residual(...)`.
    pub layers: Vec<LayerSpec>,
    /// What follows `AS`.
    pub alias: Option<String>,
}

impl LayerSpec {
    /// A layer without arguments.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_string(), ..Self::default() }
    }

    /// The same with one more argument without a name.
    #[must_use]
    pub fn with(mut self, value: impl Into<Value>) -> Self {
        self.positional.push(value.into());
        self
    }

    /// The same with one more named argument.
    #[must_use]
    pub fn named(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.named.push((name.to_string(), value.into()));
        self
    }

    /// The same with layers inside.
    #[must_use]
    pub fn around(mut self, layers: Vec<LayerSpec>) -> Self {
        self.layers = layers;
        self
    }

    /// The same with a name of its own.
    #[must_use]
    pub fn named_as(mut self, alias: &str) -> Self {
        self.alias = Some(alias.to_string());
        self
    }
}

impl fmt::Display for LayerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let values = self.positional.iter().map(Part::Value);
        let named = self.named.iter().map(|(name, value)| Part::Named(name, value));
        let parts: Vec<_> =
            values.chain(named).chain(self.layers.iter().map(Part::Layer)).collect();
        if !parts.is_empty() {
            f.write_str("(")?;
            separated(f, parts.iter())?;
            f.write_str(")")?;
        }
        match &self.alias {
            Some(alias) => write!(f, " AS {alias}"),
            None => Ok(()),
        }
    }
}

/// What stands between the parentheses.
enum Part<'a> {
    Value(&'a Value),
    Named(&'a str, &'a Value),
    Layer(&'a LayerSpec),
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Value(value) => value.fmt(f),
            Part::Named(name, value) => write!(f, "{name} => {value}"),
            Part::Layer(layer) => layer.fmt(f),
        }
    }
}

fn separated<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    parts: impl Iterator<Item = T>,
) -> fmt::Result {
    for (i, part) in parts.enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        part.fmt(f)?;
    }
    Ok(())
}

/// A layer of a node: its name and the value of every argument, defaults written out, so that a
/// stored model stays what it is when a default changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The name of the layer.
    pub layer: String,
    /// The arguments in the order of the layer's definition; those without a value are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<(String, Value)>,
}

impl Call {
    /// The value of an argument.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.arguments.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_written_as_a_clause_has_them() {
        let conv = LayerSpec::new("conv").with(32usize).with(3usize).named("padding", "same");
        assert_eq!(conv.to_string(), "conv(32, 3, padding => 'same')");
        let block = LayerSpec::new("residual").around(vec![conv, LayerSpec::new("relu")]);
        assert_eq!(
            block.named_as("stem").to_string(),
            "residual(conv(32, 3, padding => 'same'), relu) AS stem"
        );
        let list = Value::List(vec![1.5.into(), true.into(), "it's".into()]);
        assert_eq!(list.to_string(), "[1.5, true, 'it''s']");
    }
}
