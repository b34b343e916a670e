//! Values of options as Rust types, or an error that says what was expected.

use std::time::Duration;

use datafusion_common::{Result, plan_err};

use super::entries::OptionSpec;
use super::kind::Kind;
use super::schedule::{ScheduleKind, ScheduleOption, Warmup};
use super::value::OptionValue;
use super::{Choice, ClassWeights, Components, PublishEvery, Solver, nearest};
use crate::algorithms::Algorithm;
use crate::learner::Loss;

/// One given option.
pub struct Given<'a> {
    pub(super) spec: &'static OptionSpec,
    pub(super) value: &'a OptionValue,
}

impl<'a> Given<'a> {
    /// The error for a value that does not fit.
    fn refuse<T>(&self) -> Result<T> {
        plan_err!(
            "option {} must be {}, but is {}",
            self.spec.name,
            self.spec.kind.range(),
            self.value
        )
    }

    fn check<T>(&self, value: Option<T>) -> Result<T> {
        value.map_or_else(|| self.refuse(), Ok)
    }

    /// Whether the value is the word that is allowed instead of a number.
    fn is_word(&self) -> bool {
        let or = match self.spec.kind {
            Kind::Whole(bounds) => bounds.or,
            Kind::Number(bounds) => bounds.or,
            _ => None,
        };
        or.is_some_and(|word| text(self.value).is_some_and(|text| text.eq_ignore_ascii_case(word)))
    }

    /// A whole number within the bounds.
    pub(super) fn whole(&self) -> Result<u64> {
        let Kind::Whole(bounds) = self.spec.kind else { return self.refuse() };
        self.check(whole(self.value).filter(|n| (bounds.low..=bounds.high).contains(n)))
    }

    /// The same, or None for the word that is allowed instead.
    pub(super) fn whole_or(&self) -> Result<Option<u64>> {
        if self.is_word() { Ok(None) } else { self.whole().map(Some) }
    }

    /// A finite number within the bounds.
    pub(super) fn number(&self) -> Result<f64> {
        let Kind::Number(bounds) = self.spec.kind else { return self.refuse() };
        self.check(number(self.value).filter(|n| bounds.contain(*n)))
    }

    /// The same, or None for the word that is allowed instead.
    pub(super) fn number_or(&self) -> Result<Option<f64>> {
        if self.is_word() { Ok(None) } else { self.number().map(Some) }
    }

    /// A number within the bounds that remains so when it is rounded to 32 bits.
    pub(super) fn single(&self) -> Result<f32> {
        let number = self.number()? as f32;
        let Kind::Number(bounds) = self.spec.kind else { return self.refuse() };
        self.check(Some(number).filter(|n| !(bounds.is_below && f64::from(*n) >= bounds.high)))
    }

    pub(super) fn boolean(&self) -> Result<bool> {
        self.check(match self.value {
            OptionValue::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// The text of a string or of a bare word.
    pub(super) fn text(&self) -> Result<&'a str> {
        self.check(text(self.value))
    }

    /// One of some names.
    pub(super) fn choice<T: Choice>(&self) -> Result<T> {
        self.one_of(&T::names(), T::named)
    }

    /// One of the names that its kind lists; `named` maps a name to a value.
    pub(super) fn named<T>(&self, named: fn(&str) -> Option<T>) -> Result<T> {
        let Kind::OneOf(names) = self.spec.kind else { return self.refuse() };
        self.one_of(&names(), named)
    }

    fn one_of<T>(&self, names: &[&str], choose: impl Fn(&str) -> Option<T>) -> Result<T> {
        let Some(text) = text(self.value) else { return self.refuse() };
        match choose(&text.to_lowercase()) {
            Some(value) => Ok(value),
            None => match nearest(text, names.iter().copied()) {
                Some(name) => plan_err!(
                    "option {} must be {}, but is {}; did you mean {name}?",
                    self.spec.name,
                    self.spec.kind.range(),
                    self.value
                ),
                None => self.refuse(),
            },
        }
    }

    /// One of the names that an algorithm accepts, including `auto`.
    fn one_of_algorithm<T: Choice>(&self, algorithm: Algorithm, values: &[T]) -> Result<T> {
        let name = self.text()?.to_lowercase();
        if let Some(value) = values.iter().find(|value| value.name() == name) {
            return Ok(*value);
        }
        let mut names: Vec<&str> = values.iter().map(|value| value.name()).collect();
        if !names.contains(&"auto") {
            names.insert(0, "auto");
        }
        let hint = nearest(&name, names.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean {near}?"));
        plan_err!(
            "option {} of {algorithm} must be one of {}, but is {}{hint}",
            self.spec.name,
            names.join(", "),
            self.value
        )
    }

    /// A loss of the algorithm; None for auto.
    pub(super) fn loss(&self, algorithm: Algorithm) -> Result<Option<Loss>> {
        if self.text()?.eq_ignore_ascii_case("auto") {
            return Ok(None);
        }
        self.one_of_algorithm(algorithm, algorithm.spec().losses).map(Some)
    }

    /// A solver of the algorithm.
    pub(super) fn solver(&self, algorithm: Algorithm) -> Result<Solver> {
        let own = algorithm.spec().solvers.iter().copied();
        let solvers: Vec<_> = [Solver::Auto].into_iter().chain(own).chain([Solver::Sgd]).collect();
        self.one_of_algorithm(algorithm, &solvers)
    }

    /// `[128, 64]`
    pub(super) fn layers(&self) -> Result<Vec<usize>> {
        let units = |value: &OptionValue| {
            whole(value).filter(|n| (1..=65536).contains(n)).and_then(|n| usize::try_from(n).ok())
        };
        self.check(match self.value {
            OptionValue::List(values) if values.len() <= 32 => values.iter().map(units).collect(),
            _ => None,
        })
    }

    /// `[0.1, 0.5, 0.9]`: quantiles, ascending.
    pub(super) fn quantiles(&self) -> Result<Vec<f64>> {
        let quantile = |value| number(value).filter(|q| *q > 0.0 && *q < 1.0);
        let quantiles = match self.value {
            OptionValue::List(values) if (1..=99).contains(&values.len()) => {
                values.iter().map(quantile).collect::<Option<Vec<f64>>>()
            }
            _ => None,
        };
        self.check(quantiles.filter(|all| all.is_sorted_by(|a, b| a < b)))
    }

    /// `auto`, a whole number or a share.
    pub(super) fn components(&self) -> Result<Components> {
        if text(self.value).is_some_and(|text| text.eq_ignore_ascii_case("auto")) {
            return Ok(Components::Auto);
        }
        let count = whole(self.value).filter(|n| (1..=Components::MOST).contains(n));
        let share = number(self.value).filter(|share| *share > 0.0 && *share < 1.0);
        self.check(match count {
            Some(count) => Some(Components::Count(count as usize)),
            None => share.map(Components::Share),
        })
    }

    pub(super) fn class_weights(&self) -> Result<ClassWeights> {
        if let OptionValue::Map(entries) = self.value {
            let weight = |(label, value): &(String, OptionValue)| {
                let weight = number(value).filter(|n| *n > 0.0 && *n <= 1e9)?;
                Some((label.clone(), weight))
            };
            let weights: Option<Vec<_>> = entries.iter().map(weight).collect();
            return self.check(weights.filter(|w| !w.is_empty()).map(ClassWeights::Map));
        }
        self.one_of(&["none", "balanced"], |name| match name {
            "none" => Some(ClassWeights::None),
            "balanced" => Some(ClassWeights::Balanced),
            _ => None,
        })
    }

    /// Seconds as a number, or a number and a unit in a string.
    pub(super) fn duration(&self) -> Result<Duration> {
        self.check(match self.value {
            OptionValue::String(text) => duration(text),
            value => number(value).and_then(of_seconds),
        })
    }

    /// `'10000 rows'`, or a duration.
    pub(super) fn publish_every(&self) -> Result<PublishEvery> {
        self.check(match self.value {
            OptionValue::String(text) => every(text),
            _ => None,
        })
    }

    /// A word, or a map with 'kind', 'epochs', 'factor' and 'warmup'.
    pub(super) fn schedule(&self) -> Result<ScheduleOption> {
        let none = [];
        let (kind, entries) = match self.value {
            OptionValue::Map(entries) => {
                let kind = entries.iter().find(|(key, _)| key == "kind").map(|(_, kind)| kind);
                let kind = match kind {
                    Some(kind) => self.check(text(kind))?,
                    None => "constant",
                };
                (kind.to_lowercase(), entries.as_slice())
            }
            _ => (self.text()?.to_lowercase(), none.as_slice()),
        };
        let keys: &[&str] = match kind.as_str() {
            "step" | "exponential" => &["kind", "warmup", "epochs", "factor"],
            "constant" | "cosine" => &["kind", "warmup"],
            _ => return self.refuse(),
        };
        let (mut epochs, mut factor, mut warmup) = (None, None, Warmup::Share(0.0));
        for (key, value) in entries {
            if !keys.contains(&key.as_str()) {
                return plan_err!(
                    "schedule '{kind}' takes {}, found '{key}'",
                    keys.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ")
                );
            }
            let number = number(value);
            let fits = match (key.as_str(), number) {
                ("epochs", Some(n)) if n > 0.0 && n <= 1e6 => {
                    epochs = Some(n);
                    true
                }
                ("factor", Some(n)) if n > 0.0 && n <= 1.0 => {
                    factor = Some(n);
                    true
                }
                ("warmup", Some(n)) if (0.0..1.0).contains(&n) => {
                    warmup = Warmup::Share(n);
                    true
                }
                ("warmup", Some(_)) => match whole(value) {
                    Some(steps) => {
                        warmup = Warmup::Steps(steps);
                        true
                    }
                    None => false,
                },
                ("kind", _) => true,
                _ => false,
            };
            if !fits {
                let range = match key.as_str() {
                    "epochs" => "a number above 0 and at most 1000000",
                    "factor" => "a number above 0 and at most 1",
                    _ => "a share of all steps from 0 to below 1, or a whole number of steps",
                };
                return plan_err!("'{key}' of schedule must be {range}, but is {value}");
            }
        }
        let kind = match kind.as_str() {
            "step" => ScheduleKind::Step { epochs, factor: factor.unwrap_or(0.1) },
            "exponential" => ScheduleKind::Exponential {
                epochs: epochs.unwrap_or(1.0),
                factor: factor.unwrap_or(0.9),
            },
            "cosine" => ScheduleKind::Cosine,
            _ => ScheduleKind::Constant,
        };
        Ok(ScheduleOption { kind, warmup })
    }
}

fn text(value: &OptionValue) -> Option<&str> {
    match value {
        OptionValue::String(text) | OptionValue::Word(text) => Some(text),
        _ => None,
    }
}

/// A finite number.
fn number(value: &OptionValue) -> Option<f64> {
    match value {
        OptionValue::Number(text) => text.parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

/// A whole number, exact in 64 bits; `1e3` is one too.
fn whole(value: &OptionValue) -> Option<u64> {
    match value {
        OptionValue::Number(text) => text.parse().ok().or_else(|| {
            let number = number(value)?;
            // Above 2^53 a float does not identify a whole number.
            let is_whole =
                number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
            is_whole.then_some(number as u64)
        }),
        _ => None,
    }
}

/// A number and a unit.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let amount = text[..text.len() - unit.len()].parse::<f64>().ok()?;
    let unit = match unit.trim().to_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "" | "s" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        _ => return None,
    };
    of_seconds(amount * unit)
}

fn of_seconds(seconds: f64) -> Option<Duration> {
    (0.0..=1e9).contains(&seconds).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

/// `10000 rows`, or a duration.
fn every(text: &str) -> Option<PublishEvery> {
    match text.trim().strip_suffix("rows") {
        Some(amount) => {
            amount.trim().parse::<u64>().ok().filter(|rows| *rows > 0).map(PublishEvery::Rows)
        }
        None => duration(text).map(PublishEvery::Time),
    }
}

impl PublishEvery {
    /// Reads a text such as '10000 rows' or '30 seconds', the value of `option`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn of_text(option: &str, text: &str) -> Result<Self> {
        match every(text) {
            Some(every) => Ok(every),
            None => plan_err!(
                "option {option} must be a text such as '10000 rows', '30 seconds' or '1 minute', \
                 but is '{text}'"
            ),
        }
    }
}
