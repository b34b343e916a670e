//! Every option of TRAIN, one entry each. Parsing, checks, defaults, printing, completion and the
//! README's table are derived from the entries.

use datafusion_common::Result;

use super::given::Given;
use super::kind::Kind;
use super::{Choice, TrainOptions};
use crate::algorithms::{Algorithm, AlgorithmSpec, OptionGroup};
use crate::learner::Loss;
use crate::options::Solver;

mod clusters;
mod components;
mod model;
mod networks;
mod run;
mod steps;

pub(super) use model::is_full_batch;

/// One option.
#[derive(Debug)]
pub struct OptionSpec {
    /// Its name.
    pub name: &'static str,
    /// Which algorithms accept it.
    pub group: OptionGroup,
    /// Whether only mini-batch training can use it.
    pub is_of_steps: bool,
    /// The values that it takes.
    pub kind: Kind,
    /// What it does, in one line.
    pub doc: &'static str,
    /// Its default in SQL's spelling; None if it has no default, or one that depends on other
    /// options.
    pub default: fn(&AlgorithmSpec) -> Option<String>,
    /// Writes a value into the options.
    pub set: fn(&mut TrainOptions, &Given<'_>) -> Result<()>,
    /// The value in SQL's spelling; None if the option has no effect.
    pub get: fn(&TrainOptions) -> Option<String>,
}

/// Every option, in the order of the README's table.
pub fn options() -> impl Iterator<Item = &'static OptionSpec> + Clone {
    let model = model::ENTRIES.iter().chain(&components::ENTRIES).chain(&clusters::ENTRIES);
    steps::ENTRIES.iter().chain(model).chain(&networks::ENTRIES).chain(&run::ENTRIES)
}

/// The option of that name.
pub fn find(name: &str) -> Option<&'static OptionSpec> {
    options().find(|option| option.name == name)
}

/// A default that is the same for all algorithms.
macro_rules! default {
    ($text:literal) => {
        |_| Some($text.to_owned())
    };
}
use default;

/// `auto`, or the value.
fn auto(value: Option<impl ToString>) -> Option<String> {
    Some(value.map_or_else(|| "auto".to_owned(), |value| value.to_string()))
}

/// `none`, or the value.
fn or_none(value: Option<impl ToString>) -> Option<String> {
    Some(value.map_or_else(|| "none".to_owned(), |value| value.to_string()))
}

/// `TRUE` or `FALSE`.
fn boolean(value: bool) -> Option<String> {
    Some(super::OptionValue::Bool(value).to_string())
}

/// The losses with the algorithms that accept them, grouped by algorithms.
fn losses() -> String {
    let mut groups: Vec<(&[Loss], Vec<&str>)> = vec![];
    for algorithm in Algorithm::all().filter(|a| a.takes(OptionGroup::Loss)) {
        let losses = algorithm.spec().losses;
        match groups.iter_mut().find(|(known, _)| *known == losses) {
            Some((_, names)) => names.push(algorithm.name()),
            None => groups.push((losses, vec![algorithm.name()])),
        }
    }
    let text = |(losses, names): &(&[Loss], Vec<&str>)| {
        let losses: Vec<_> = losses.iter().map(|loss| Choice::name(*loss)).collect();
        format!("{} ({})", losses.join(", "), names.join(", "))
    };
    format!("auto or one of {}", groups.iter().map(text).collect::<Vec<_>>().join(", "))
}

/// The solvers; one that a single algorithm accepts is listed with the algorithm.
fn solvers() -> String {
    let text = |solver: &Solver| {
        let mut takers = Algorithm::all().filter(|a| a.spec().solvers.contains(solver));
        match (takers.next(), takers.next()) {
            (Some(only), None) => format!("{} ({only})", solver.name()),
            _ => solver.name().to_owned(),
        }
    };
    format!("one of {}", Solver::ALL.iter().map(text).collect::<Vec<_>>().join(", "))
}
