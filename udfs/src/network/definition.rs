//! What a layer is in a clause: its arguments with types, ranges, defaults and a line of
//! documentation. Parsing, printing and completion read it.

use datafusion_common::{Result, plan_err};

use super::call::{Call, LayerSpec, Value};
use super::layer::{Built, Incoming};
use crate::options::nearest;

/// The type and range of an argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A whole number from the first to the second.
    Integer(usize, usize),
    /// A whole number in a range, or a list of them.
    Integers(usize, usize),
    /// One of some words, or what [`Kind::Integers`] takes.
    WordOrIntegers(&'static [&'static str], usize, usize),
    /// A number from the first to the second.
    Number(f64, f64),
    /// One of some words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
}

/// What holds where an argument is not given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// It must be given.
    Required,
    /// It has no value; the layer decides by the shape of its input.
    Absent,
    /// A number.
    Number(f64),
    /// A word.
    Word(&'static str),
    /// `true` or `false`.
    Flag(bool),
}

/// One argument of a layer. Arguments may be given by position, in the order of the definition.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// Its default.
    pub default: Default,
    /// One line of documentation.
    pub doc: &'static str,
}

/// Makes a layer for the shapes of its inputs.
pub(crate) type Build = fn(&Arguments<'_>, &[Incoming]) -> Result<Built>;

/// One kind of layer.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name in a clause.
    pub name: &'static str,
    /// One line of documentation: what it computes.
    pub doc: &'static str,
    /// Its arguments, in the order in which they may be given without a name.
    pub arguments: &'static [Argument],
    /// Makes the layer for the shapes of its inputs; of layers that stand for several nodes, None.
    pub(crate) build: Option<Build>,
}

/// The checked arguments of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    /// What the layer is called in errors.
    pub(crate) node: &'a str,
    call: &'a Call,
}

/// An argument that must be given.
pub(crate) const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Argument {
    Argument { name, kind, default: Default::Required, doc }
}

/// An argument without which the layer decides itself.
pub(crate) const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Argument {
    Argument { name, kind, default: Default::Absent, doc }
}

/// An argument with a default.
pub(crate) const fn given(
    name: &'static str,
    kind: Kind,
    default: Default,
    doc: &'static str,
) -> Argument {
    Argument { name, kind, default, doc }
}

impl Kind {
    /// What the argument takes, in words.
    pub fn text(&self) -> String {
        let words = |words: &[&str]| {
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
        };
        let range = |low: usize, high: usize| match high {
            usize::MAX => format!("from {low}"),
            high => format!("from {low} to {high}"),
        };
        match self {
            Kind::Integer(low, high) => format!("a whole number {}", range(*low, *high)),
            Kind::Integers(low, high) => {
                format!("a whole number or a list of whole numbers {}", range(*low, *high))
            }
            Kind::WordOrIntegers(choices, low, high) => format!(
                "one of {} or a whole number or a list of whole numbers {}",
                words(choices),
                range(*low, *high)
            ),
            Kind::Number(low, high) => format!("a number from {low} to {high}"),
            Kind::Word(choices) => format!("one of {}", words(choices)),
            Kind::Flag => "true or false".to_string(),
        }
    }

    fn takes(&self, value: &Value) -> bool {
        let whole = |number: f64, low: usize, high: usize| {
            number.fract() == 0.0 && number >= low as f64 && number <= high as f64
        };
        let all = |values: &[Value], low, high| {
            let mut each = values.iter();
            let is_whole = |v: &Value| matches!(v, Value::Number(n) if whole(*n, low, high));
            !values.is_empty() && each.all(is_whole)
        };
        match (self, value) {
            (
                Kind::Integer(low, high)
                | Kind::Integers(low, high)
                | Kind::WordOrIntegers(_, low, high),
                Value::Number(number),
            ) => whole(*number, *low, *high),
            (
                Kind::Integers(low, high) | Kind::WordOrIntegers(_, low, high),
                Value::List(values),
            ) => all(values, *low, *high),
            (Kind::WordOrIntegers(choices, ..) | Kind::Word(choices), Value::Text(word)) => {
                choices.contains(&word.as_str())
            }
            (Kind::Number(low, high), Value::Number(number)) => number >= low && number <= high,
            (Kind::Flag, Value::Flag(_)) => true,
            _ => false,
        }
    }
}

impl Default {
    fn value(&self) -> Option<Value> {
        match self {
            Default::Required | Default::Absent => None,
            Default::Number(number) => Some(Value::Number(*number)),
            Default::Word(word) => Some(Value::Text((*word).to_string())),
            Default::Flag(flag) => Some(Value::Flag(*flag)),
        }
    }
}

impl Definition {
    /// How the layer is called, for errors and completion: `conv(filters, kernel, stride, ...)`.
    pub fn signature(&self) -> String {
        let names: Vec<_> = self.arguments.iter().map(|argument| argument.name).collect();
        match names.is_empty() {
            true => self.name.to_string(),
            false => format!("{}({})", self.name, names.join(", ")),
        }
    }

    /// The call of a layer as it is written, with every argument checked and defaults filled in.
    ///
    /// # Errors
    /// When an argument is unknown, missing, given twice, or out of range.
    pub fn call(&self, spec: &LayerSpec) -> Result<Call> {
        let own = self.arguments;
        if let Some(inner) = spec.layers.first() {
            return plan_err!(
                "{} takes no layers, but {} stands between its parentheses",
                self.name,
                inner.name
            );
        }
        if spec.positional.len() > own.len() {
            return plan_err!(
                "{} takes {} arguments, but {} are given; write {}",
                self.name,
                own.len(),
                spec.positional.len(),
                self.signature()
            );
        }
        let mut values: Vec<Option<Value>> = vec![None; own.len()];
        for (value, given) in values.iter_mut().zip(&spec.positional) {
            *value = Some(given.clone());
        }
        for (name, given) in &spec.named {
            let Some(i) = own.iter().position(|argument| argument.name == name) else {
                let hint = match nearest(name, own.iter().map(|argument| argument.name)) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("write {}", self.signature()),
                };
                return plan_err!("{} has no argument {name}; {hint}", self.name);
            };
            if values[i].replace(given.clone()).is_some() {
                return plan_err!("argument {name} of {} is given twice", self.name);
            }
        }
        let mut arguments = vec![];
        for (argument, value) in own.iter().zip(values) {
            let name = argument.name;
            let value = match (value, argument.default) {
                (Some(value), _) if argument.kind.takes(&value) => value,
                (Some(value), _) => {
                    return plan_err!(
                        "argument {name} of {} should be {}, but is {value}",
                        self.name,
                        argument.kind.text()
                    );
                }
                (None, Default::Required) => {
                    return plan_err!(
                        "{} needs argument {name}, {}: {}",
                        self.name,
                        argument.doc,
                        self.signature()
                    );
                }
                (None, default) => match default.value() {
                    Some(value) => value,
                    None => continue,
                },
            };
            arguments.push((name.to_string(), value));
        }
        Ok(Call { layer: self.name.to_string(), arguments })
    }

    /// Checks a call that was stored.
    ///
    /// # Errors
    /// When an argument is unknown, missing or out of range.
    pub fn check(&self, call: &Call) -> Result<()> {
        let named = call.arguments.clone();
        self.call(&LayerSpec { name: call.layer.clone(), named, ..LayerSpec::default() }).map(drop)
    }

    /// A call as it is written: leading arguments that are always given by position, others by
    /// name, defaults left out.
    pub fn spec(&self, call: &Call) -> LayerSpec {
        let mut spec = LayerSpec::new(self.name);
        let mut by_position = true;
        for argument in self.arguments {
            let value = call.get(argument.name);
            by_position &= match argument.default {
                Default::Required => true,
                // (Those of one kind, such as the sides of a shape.)
                Default::Absent => value.is_some() && argument.kind == self.arguments[0].kind,
                _ => false,
            };
            match value {
                Some(value) if by_position => spec.positional.push(value.clone()),
                Some(value) if argument.default.value().as_ref() != Some(value) => {
                    // (The first argument is understood without its name.)
                    let is_first = spec.positional.is_empty()
                        && spec.named.is_empty()
                        && self.arguments.first().is_some_and(|a| a.name == argument.name);
                    match is_first {
                        true => spec.positional.push(value.clone()),
                        false => spec.named.push((argument.name.to_string(), value.clone())),
                    }
                }
                _ => {}
            }
        }
        spec
    }
}

impl<'a> Arguments<'a> {
    /// The arguments of a node's call.
    pub(crate) fn new(node: &'a str, call: &'a Call) -> Self {
        Self { node, call }
    }

    /// A whole number; 0 if there is none.
    pub(crate) fn integer(&self, name: &str) -> usize {
        self.given_integer(name).unwrap_or(0)
    }

    /// A whole number, where it is given.
    pub(crate) fn given_integer(&self, name: &str) -> Option<usize> {
        match self.call.get(name) {
            Some(Value::Number(number)) => Some(*number as usize),
            _ => None,
        }
    }

    /// Whole numbers: one, or those of a list; empty if there are none.
    pub(crate) fn integers(&self, name: &str) -> Vec<usize> {
        let of = |value: &Value| match value {
            Value::Number(number) => *number as usize,
            _ => 0,
        };
        match self.call.get(name) {
            Some(Value::List(values)) => values.iter().map(of).collect(),
            Some(value @ Value::Number(_)) => vec![of(value)],
            _ => vec![],
        }
    }

    /// A number; 0 if there is none.
    pub(crate) fn number(&self, name: &str) -> f32 {
        match self.call.get(name) {
            Some(Value::Number(number)) => *number as f32,
            _ => 0.0,
        }
    }

    /// A word; empty if there is none.
    pub(crate) fn word(&self, name: &str) -> &'a str {
        match self.call.get(name) {
            Some(Value::Text(word)) => word,
            _ => "",
        }
    }

    /// A flag; false if there is none.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.call.get(name), Some(Value::Flag(true)))
    }
}
