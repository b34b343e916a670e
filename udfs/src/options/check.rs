//! From pairs of names and values to [`TrainOptions`], and back to SQL's spelling.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion_common::{Result, plan_err};

use super::entries::{find, is_full_batch, options};
use super::given::Given;
use super::{
    ClassWeights, Components, Distance, Init, OptionValue, Parallel, ScheduleOption, Solver, Split,
    Statistics, Svd, TrainOptions, nearest,
};
use crate::algorithms::Algorithm;
use crate::learner::Activation;
use crate::optimizer::Optimizer;

/// One row of the table in the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionRow {
    /// Name of the option.
    pub name: &'static str,
    /// Its range of values.
    pub range: String,
    /// (algorithm, default in SQL's spelling) for each algorithm that accepts the option and has a
    /// default for it.
    pub defaults: Vec<(Algorithm, String)>,
    /// What it does.
    pub doc: &'static str,
    /// Names that are values of it, if it has such values.
    pub words: Vec<&'static str>,
}

/// Every option with its range and defaults, in the order of the README's table.
pub fn option_table() -> Vec<OptionRow> {
    let defaults: Vec<_> = Algorithm::all()
        .map(|algorithm| (algorithm, TrainOptions::default_of(algorithm).written_out()))
        .collect();
    let row = |option: &super::entries::OptionSpec| OptionRow {
        name: option.name,
        range: option.kind.range(),
        defaults: defaults
            .iter()
            .filter_map(|(algorithm, written)| {
                Some((*algorithm, written.get(option.name)?.clone()))
            })
            .collect(),
        doc: option.doc,
        words: option.kind.words(),
    };
    options().map(row).collect()
}

impl TrainOptions {
    /// The options of a training for which none are given.
    pub fn default_of(algorithm: Algorithm) -> Self {
        let mut all = Self::without_defaults(algorithm);
        for option in options().filter(|option| algorithm.takes(option.group)) {
            let Some(text) = (option.default)(algorithm.spec()) else { continue };
            let given = Given { spec: option, value: &OptionValue::of_text(&text) };
            let set = (option.set)(&mut all, &given);
            debug_assert!(set.is_ok(), "the default {text} of {}: {set:?}", option.name);
        }
        all
    }

    /// The values of options that the algorithm does not accept, and of the others before their
    /// defaults are set.
    fn without_defaults(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            loss: None,
            quantiles: vec![],
            hidden: vec![],
            activation: Activation::Relu,
            dropout: 0.0,
            intercept: true,
            standardize: true,
            statistics: Statistics::Fixed,
            solver: Solver::Sgd,
            optimizer: Optimizer::Sgd,
            learning_rate: 0.0,
            intercept_learning_rate: None,
            schedule: ScheduleOption::CONSTANT,
            l1: None,
            l2: None,
            clip_norm: None,
            label_smoothing: 0.0,
            k: 1,
            init: Init::Scalable,
            distance: Distance::Euclidean,
            restarts: 1,
            decay: 1.0,
            epochs: 1,
            batch_size: algorithm.spec().batch_size,
            components: Components::Auto,
            whiten: false,
            svd: Svd::Auto,
            class_weights: ClassWeights::None,
            seed: 0,
            replicas: None,
            parallel: Parallel::Auto,
            shuffle: true,
            round_rows: None,
            split: Split::Auto,
            split_column: None,
            split_fraction: 0.0,
            early_stop: true,
            patience: 1,
            min_delta: 0.0,
            max_seconds: None,
            tolerance: 0.0,
            checkpoint_every: Duration::ZERO,
            keep_versions: None,
            publish_every: None,
            given: vec![],
        }
    }

    /// Checks the given options.
    ///
    /// # Errors
    /// When an option is unknown, not accepted by the algorithm, out of range or given twice, or
    /// when two of them contradict each other.
    pub fn check(algorithm: Algorithm, given: &[(String, OptionValue)]) -> Result<Self> {
        let mut all = Self::default_of(algorithm);
        let mut known = Vec::with_capacity(given.len());
        for (name, value) in given {
            let Some(spec) = find(name) else { return unknown(name) };
            if !algorithm.takes(spec.group) {
                return plan_err!(
                    "{algorithm} takes no option {name}; it belongs to {}",
                    Algorithm::takers(spec.group)
                );
            }
            if all.given.contains(&spec.name) {
                return plan_err!("option {name} is given twice");
            }
            all.given.push(spec.name);
            known.push(Given { spec, value });
        }
        // The optimizer is set first: its own options change its default values.
        known.sort_by_key(|given| given.spec.name != "optimizer");
        for given in &known {
            (given.spec.set)(&mut all, given)?;
        }
        all.check_rules()?;
        Ok(all)
    }

    /// Name and value of every option that has an effect, as a statement would give them: those
    /// that the algorithm accepts, without those of another optimizer, solver or split.
    pub fn written_out(&self) -> BTreeMap<String, String> {
        let is_full_batch = is_full_batch(self.solver);
        let taken = options()
            .filter(|option| self.algorithm.takes(option.group))
            .filter(|option| !(is_full_batch && option.is_of_steps));
        taken.filter_map(|option| Some((option.name.to_owned(), (option.get)(self)?))).collect()
    }
}

fn unknown<T>(name: &str) -> Result<T> {
    match nearest(name, options().map(|option| option.name)) {
        Some(near) => plan_err!("unknown option {name}; did you mean {near}?"),
        None => plan_err!(
            "unknown option {name}; TRAIN takes {}",
            options().map(|option| option.name).collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests;
