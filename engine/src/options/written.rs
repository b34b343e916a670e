//! Options in SQL's spelling, every default written out.

use std::collections::BTreeMap;

use gradlake_udfs::learner::{Activation, Loss};
use gradlake_udfs::optimizer::Optimizer;

use super::spec::SPECS;
use super::{
    ClassWeights, OptionValue, Parallel, PublishEvery, Solver, Split, Statistics, TrainOptions,
};

impl TrainOptions {
    /// Name and value of every option that takes part, as a statement would give them: those that
    /// the algorithm takes, without those of another optimizer, solver or split.
    pub fn written_out(&self) -> BTreeMap<String, String> {
        let taken = SPECS.iter().filter(|spec| spec.takers.contains(self.algorithm));
        taken.filter_map(|spec| Some((spec.name.to_owned(), self.written(spec.name)?))).collect()
    }

    /// The value of one option; None where it takes no part.
    fn written(&self, name: &str) -> Option<String> {
        let is_exact = matches!(self.solver, Solver::Normal | Solver::Newton);
        if is_exact && super::rules::is_of_steps(name) {
            return None;
        }
        let momentum = match self.optimizer {
            Optimizer::Momentum { momentum } | Optimizer::Nesterov { momentum } => Some(momentum),
            _ => None,
        };
        let (beta1, beta2, epsilon) = match self.optimizer {
            Optimizer::Adam { beta1, beta2, epsilon }
            | Optimizer::AdamW { beta1, beta2, epsilon } => {
                (Some(beta1), Some(beta2), Some(epsilon))
            }
            Optimizer::RmsProp { beta2, epsilon } => (None, Some(beta2), Some(epsilon)),
            Optimizer::Adagrad { epsilon } => (None, None, Some(epsilon)),
            Optimizer::Ftrl { beta } => (None, None, Some(beta)),
            Optimizer::Sgd
            | Optimizer::Momentum { .. }
            | Optimizer::Nesterov { .. }
            | Optimizer::AdaptiveInvariant => (None, None, None),
        };
        let has_hidden = !self.hidden.is_empty();
        let is_stopping = self.early_stop && self.split != Split::None;
        match name {
            "epochs" => Some(self.epochs.to_string()),
            "batch_size" => Some(self.batch_size.to_string()),
            "learning_rate" => Some(self.learning_rate.to_string()),
            "intercept_learning_rate" => {
                (self.intercept || has_hidden).then(|| auto(self.intercept_learning_rate))
            }
            "schedule" => Some(self.schedule.to_string()),
            "optimizer" => Some(optimizer_name(&self.optimizer).to_owned()),
            "momentum" => momentum.map(|value| value.to_string()),
            "beta1" => beta1.map(|value| value.to_string()),
            "beta2" => beta2.map(|value| value.to_string()),
            "epsilon" => epsilon.map(|value| value.to_string()),
            "l1" => Some(auto(self.l1)),
            "l2" => Some(auto(self.l2)),
            "dropout" => has_hidden.then(|| self.dropout.to_string()),
            "hidden" => Some(hidden(&self.hidden)),
            "activation" => has_hidden.then(|| activation_name(self.activation).to_owned()),
            "loss" => Some(auto(self.loss.map(loss_name))),
            "solver" => Some(solver_name(self.solver).to_owned()),
            "statistics" => Some(match self.statistics {
                Statistics::Fixed => "fixed".to_owned(),
                Statistics::Running => "running".to_owned(),
            }),
            "standardize" => Some(boolean(self.standardize)),
            "intercept" => Some(boolean(self.intercept)),
            "class_weights" => Some(class_weights(&self.class_weights)),
            "seed" => Some(self.seed.to_string()),
            "replicas" => Some(auto(self.replicas)),
            "parallel" => Some(parallel_name(self.parallel).to_owned()),
            "shuffle" => Some(boolean(self.shuffle)),
            "round_rows" => Some(auto(self.round_rows)),
            "split" => Some(split_name(self.split).to_owned()),
            "split_column" => {
                self.split_column.clone().map(|name| OptionValue::String(name).to_string())
            }
            "split_fraction" => {
                matches!(self.split, Split::Auto | Split::Random | Split::Sequential)
                    .then(|| self.split_fraction.to_string())
            }
            "early_stop" => Some(boolean(self.early_stop)),
            "patience" => is_stopping.then(|| self.patience.to_string()),
            "min_delta" => is_stopping.then(|| self.min_delta.to_string()),
            "max_seconds" => Some(or_none(self.max_seconds)),
            "tolerance" => matches!(self.solver, Solver::Auto | Solver::Newton)
                .then(|| self.tolerance.to_string()),
            "checkpoint_every" => Some(self.checkpoint_every.as_secs_f64().to_string()),
            "keep_versions" => Some(or_none(self.keep_versions)),
            "publish_every" => self.publish_every.map(|every| match every {
                PublishEvery::Rows(rows) => format!("'{rows} rows'"),
                PublishEvery::Time(time) => format!("'{} seconds'", time.as_secs_f64()),
            }),
            _ => None,
        }
    }
}

fn auto(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "auto".to_owned(), |value| value.to_string())
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn boolean(value: bool) -> String {
    OptionValue::Bool(value).to_string()
}

pub(super) fn hidden(units: &[usize]) -> String {
    let units = units.iter().map(|n| OptionValue::Number(n.to_string())).collect();
    OptionValue::List(units).to_string()
}

fn class_weights(weights: &ClassWeights) -> String {
    match weights {
        ClassWeights::None => "none".to_owned(),
        ClassWeights::Balanced => "balanced".to_owned(),
        ClassWeights::Map(weights) => OptionValue::Map(
            weights
                .iter()
                .map(|(label, weight)| (label.clone(), OptionValue::Number(weight.to_string())))
                .collect(),
        )
        .to_string(),
    }
}

pub(super) fn optimizer_name(optimizer: &Optimizer) -> &'static str {
    match optimizer {
        Optimizer::Sgd => "sgd",
        Optimizer::Momentum { .. } => "momentum",
        Optimizer::Nesterov { .. } => "nesterov",
        Optimizer::Adagrad { .. } => "adagrad",
        Optimizer::RmsProp { .. } => "rmsprop",
        Optimizer::Adam { .. } => "adam",
        Optimizer::AdamW { .. } => "adamw",
        Optimizer::Ftrl { .. } => "ftrl",
        Optimizer::AdaptiveInvariant => "adaptive_invariant",
    }
}

pub(super) fn split_name(split: Split) -> &'static str {
    match split {
        Split::Auto => "auto",
        Split::Random => "random",
        Split::Sequential => "sequential",
        Split::Column => "column",
        Split::None => "none",
    }
}

fn parallel_name(parallel: Option<Parallel>) -> &'static str {
    match parallel {
        None => "auto",
        Some(Parallel::Replicas) => "replicas",
        Some(Parallel::Gradient) => "gradient",
    }
}

fn solver_name(solver: Solver) -> &'static str {
    match solver {
        Solver::Auto => "auto",
        Solver::Normal => "normal",
        Solver::Newton => "newton",
        Solver::Sgd => "sgd",
    }
}

fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu => "relu",
        Activation::Gelu => "gelu",
        Activation::Tanh => "tanh",
        Activation::Sigmoid => "sigmoid",
        Activation::Elu => "elu",
        Activation::Identity => "identity",
    }
}

fn loss_name(loss: Loss) -> &'static str {
    match loss {
        Loss::Squared => "squared",
        Loss::Absolute => "absolute",
        Loss::Huber => "huber",
        Loss::Poisson => "poisson",
        Loss::Logistic => "logistic",
        Loss::Softmax => "softmax",
        Loss::Hinge => "hinge",
        Loss::SquaredHinge => "squared_hinge",
    }
}

#[cfg(test)]
mod tests {
    use gradlake_udfs::algorithm::Algorithm;

    use super::*;

    /// A value of `written_out` as the parser of statements reads it.
    fn value(text: &str) -> OptionValue {
        let inner = |c| text.strip_prefix(c).and_then(|t: &str| t.strip_suffix([']', '}', '\'']));
        if let Some(text) = inner('\'') {
            return OptionValue::String(text.to_owned());
        }
        if let Some(items) = inner('[') {
            let items = items.split(", ").filter(|item| !item.is_empty());
            return OptionValue::List(items.map(value).collect());
        }
        if let Some(entries) = inner('{') {
            let entries = entries.split(", ").filter_map(|entry| entry.split_once(": "));
            let entry = |(k, v): (&str, &str)| (k.trim_matches('\'').to_owned(), value(v));
            return OptionValue::Map(entries.map(entry).collect());
        }
        match text {
            "TRUE" => OptionValue::Bool(true),
            "FALSE" => OptionValue::Bool(false),
            _ if text.parse::<f64>().is_ok() => OptionValue::Number(text.to_owned()),
            _ => OptionValue::Word(text.to_owned()),
        }
    }

    /// What is written out gives the same options again.
    #[test]
    fn written_options_are_read_again() {
        let cases: [&[(&str, &str)]; 13] = [
            &[],
            &[("solver", "sgd")],
            &[("solver", "normal"), ("l2", "0.5"), ("split", "sequential")],
            &[("solver", "newton"), ("tolerance", "0.001"), ("split", "none")],
            &[("optimizer", "ftrl"), ("epsilon", "0.5"), ("l1", "0.01")],
            &[("optimizer", "nesterov"), ("momentum", "0.7"), ("split", "none")],
            &[("optimizer", "adaptive_invariant"), ("hidden", "[]")],
            &[("optimizer", "rmsprop"), ("beta2", "0.5"), ("early_stop", "FALSE")],
            &[("schedule", "{'kind': 'step', 'epochs': 2.5, 'factor': 0.3, 'warmup': 0.1}")],
            &[("schedule", "{'warmup': 50}"), ("intercept", "FALSE"), ("keep_versions", "2")],
            &[("hidden", "[]"), ("max_seconds", "1.5"), ("replicas", "3")],
            &[("hidden", "[3, 2]"), ("dropout", "0.1"), ("activation", "elu")],
            &[("split", "column"), ("split_column", "'A b'"), ("class_weights", "{'x': 0.5}")],
        ];
        let mut checked = 0;
        for algorithm in Algorithm::ALL {
            for case in cases {
                let given: Vec<_> = case.iter().map(|(k, v)| ((*k).to_owned(), value(v))).collect();
                let Ok(mut options) = TrainOptions::check(algorithm, &given) else { continue };
                let written: Vec<_> =
                    options.written_out().iter().map(|(k, v)| (k.clone(), value(v))).collect();
                if options.solver == Solver::Auto {
                    // Nothing is settled yet: the options of steps are written out beside it.
                    continue;
                }
                let mut again = TrainOptions::check(algorithm, &written).unwrap();
                options.given.clear();
                again.given.clear();
                assert_eq!(again, options, "{algorithm} {case:?}");
                checked += 1;
            }
        }
        assert!(checked > 25, "{checked}");
    }

    #[test]
    fn what_takes_no_part_is_not_written() {
        let written = TrainOptions::default_of(Algorithm::LinearSvm).written_out();
        assert_eq!(written["optimizer"], "adam");
        assert_eq!(written["seed"], "0");
        assert_eq!(written["checkpoint_every"], "60");
        assert_eq!(written["l2"], "auto");
        assert_eq!(written["intercept"], "TRUE");
        for name in ["momentum", "hidden", "solver", "tolerance", "split_column"] {
            assert!(!written.contains_key(name), "{name}");
        }
    }
}
