//! From pairs of names and values to [`TrainOptions`].

use datafusion::common::{Result, plan_err};
use gradlake_udfs::algorithm::Algorithm;
use gradlake_udfs::learner::{Activation, Loss};
use gradlake_udfs::optimizer::Optimizer;

use super::defaults::{learning_rate, optimizer};
use super::read::Given;
use super::spec::{SPECS, find};
use super::{OptionValue, Parallel, Solver, Split, Statistics, TrainOptions, nearest};

/// Names of the optimizers.
const OPTIMIZERS: [&str; 9] = [
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "ftrl",
    "adaptive_invariant",
];

impl TrainOptions {
    /// Checks options as they were given.
    ///
    /// # Errors
    /// When an option is unknown, not taken by the algorithm, out of range or given twice, or when
    /// two of them contradict each other.
    pub fn check(algorithm: Algorithm, given: &[(String, OptionValue)]) -> Result<Self> {
        let mut options = Self::default_of(algorithm);
        let mut known = Vec::with_capacity(given.len());
        for (name, value) in given {
            let Some(spec) = find(name) else { return unknown(name) };
            if !spec.takers.contains(algorithm) {
                return plan_err!(
                    "{algorithm} takes no option {name}; it belongs to {}",
                    spec.takers.names()
                );
            }
            if options.given.contains(&spec.name) {
                return plan_err!("option {name} is given twice");
            }
            options.given.push(spec.name);
            known.push(Given { spec, value });
        }
        // The optimizer first: its own options change the default that it brings.
        known.sort_by_key(|given| given.spec.name != "optimizer");
        for given in &known {
            options.set(given)?;
        }
        options.check_rules()?;
        Ok(options)
    }

    fn set(&mut self, given: &Given<'_>) -> Result<()> {
        match given.spec.name {
            "epochs" => self.epochs = given.whole(1, 1_000_000)?,
            "batch_size" => self.batch_size = size(given, 1 << 20)?,
            "learning_rate" => self.learning_rate = given.number(|n| n > 0.0 && n <= 1000.0)?,
            "intercept_learning_rate" => {
                self.intercept_learning_rate =
                    or_auto(given, |g| g.number(|n| (0.0..=1000.0).contains(&n)))?;
            }
            "schedule" => self.schedule = given.schedule()?,
            "optimizer" => {
                self.optimizer = given.one_of(&OPTIMIZERS, optimizer)?;
                if !self.is_given("learning_rate") {
                    self.learning_rate = learning_rate(self.algorithm, &self.optimizer);
                }
            }
            "momentum" | "beta1" | "beta2" | "epsilon" => self.set_optimizer_option(given)?,
            "l1" => self.l1 = or_auto(given, penalty)?,
            "l2" => self.l2 = or_auto(given, penalty)?,
            "dropout" => self.dropout = below_one(given)?,
            "hidden" => self.hidden = given.layers()?,
            "activation" => self.activation = given.one_of(&ACTIVATIONS, activation)?,
            "loss" => self.loss = loss(self.algorithm, given)?,
            "solver" => self.solver = solver(self.algorithm, given)?,
            "statistics" => {
                self.statistics = given.one_of(&["fixed", "running"], |name| match name {
                    "fixed" => Some(Statistics::Fixed),
                    "running" => Some(Statistics::Running),
                    _ => None,
                })?;
            }
            "standardize" => self.standardize = given.boolean()?,
            "intercept" => self.intercept = given.boolean()?,
            "class_weights" => self.class_weights = given.class_weights()?,
            "seed" => self.seed = given.whole(0, u64::MAX)?,
            "replicas" => self.replicas = or_auto(given, |given| size(given, 1024))?,
            "parallel" => {
                self.parallel =
                    given.one_of(&["auto", "replicas", "gradient"], |name| match name {
                        "auto" => Some(None),
                        "replicas" => Some(Some(Parallel::Replicas)),
                        "gradient" => Some(Some(Parallel::Gradient)),
                        _ => None,
                    })?;
            }
            "shuffle" => self.shuffle = given.boolean()?,
            "round_rows" => {
                self.round_rows = or_auto(given, |given| given.whole(1, 1_000_000_000_000))?;
            }
            "split" => self.split = given.one_of(&SPLITS, split)?,
            "split_column" => self.split_column = Some(given.text()?.to_owned()),
            "split_fraction" => self.split_fraction = given.number(|n| n > 0.0 && n < 1.0)?,
            "early_stop" => self.early_stop = given.boolean()?,
            "patience" => self.patience = given.whole(1, 1_000_000)?,
            "min_delta" => self.min_delta = penalty(given)?,
            "max_seconds" => {
                self.max_seconds = or_none(given, |g| g.number(|n| n > 0.0 && n <= 1e9))?;
            }
            "tolerance" => self.tolerance = given.number(|n| (0.0..=1.0).contains(&n))?,
            "checkpoint_every" => self.checkpoint_every = given.duration()?,
            "keep_versions" => {
                self.keep_versions = or_none(given, |given| given.whole(1, 1_000_000))?;
            }
            "publish_every" => self.publish_every = Some(given.publish_every()?),
            name => return unknown(name),
        }
        Ok(())
    }

    /// Options that belong to one optimizer or another.
    fn set_optimizer_option(&mut self, given: &Given<'_>) -> Result<()> {
        let name = given.spec.name;
        let value = match name {
            "epsilon" => given.number(|n| (1e-30..=1.0).contains(&n))? as f32,
            _ => below_one(given)?,
        };
        let place = match (name, &mut self.optimizer) {
            ("momentum", Optimizer::Momentum { momentum } | Optimizer::Nesterov { momentum }) => {
                momentum
            }
            ("beta1", Optimizer::Adam { beta1, .. } | Optimizer::AdamW { beta1, .. }) => beta1,
            (
                "beta2",
                Optimizer::RmsProp { beta2, .. }
                | Optimizer::Adam { beta2, .. }
                | Optimizer::AdamW { beta2, .. },
            ) => beta2,
            (
                "epsilon",
                Optimizer::Adagrad { epsilon }
                | Optimizer::RmsProp { epsilon, .. }
                | Optimizer::Adam { epsilon, .. }
                | Optimizer::AdamW { epsilon, .. }
                | Optimizer::Ftrl { beta: epsilon },
            ) => epsilon,
            _ => {
                let takers = match name {
                    "momentum" => "momentum and nesterov",
                    "beta1" => "adam and adamw",
                    "beta2" => "rmsprop, adam and adamw",
                    _ => "adagrad, rmsprop, adam, adamw and ftrl",
                };
                return plan_err!(
                    "option {name} does not go with optimizer = {}; it belongs to {takers}",
                    super::written::optimizer_name(&self.optimizer)
                );
            }
        };
        *place = value;
        Ok(())
    }
}

fn unknown<T>(name: &str) -> Result<T> {
    match nearest(name, SPECS.iter().map(|spec| spec.name)) {
        Some(near) => plan_err!("unknown option {name}; did you mean {near}?"),
        None => plan_err!(
            "unknown option {name}; TRAIN takes {}",
            SPECS.map(|spec| spec.name).join(", ")
        ),
    }
}

/// A value, or None for `auto`.
fn or_auto<T>(given: &Given<'_>, read: impl Fn(&Given<'_>) -> Result<T>) -> Result<Option<T>> {
    if given.is("auto") { Ok(None) } else { read(given).map(Some) }
}

/// A value, or None for `none`.
fn or_none<T>(given: &Given<'_>, read: impl Fn(&Given<'_>) -> Result<T>) -> Result<Option<T>> {
    if given.is("none") { Ok(None) } else { read(given).map(Some) }
}

fn penalty(given: &Given<'_>) -> Result<f64> {
    given.number(|n| (0.0..=1e6).contains(&n))
}

/// A number from 0 to below 1, also after it is rounded to 32 bits.
fn below_one(given: &Given<'_>) -> Result<f32> {
    given.number(|n| n >= 0.0 && (n as f32) < 1.0).map(|n| n as f32)
}

fn size(given: &Given<'_>, high: u64) -> Result<usize> {
    let number = given.whole(1, high)?;
    usize::try_from(number).or_else(|_| given.refuse())
}

const ACTIVATIONS: [&str; 6] = ["relu", "gelu", "tanh", "sigmoid", "elu", "identity"];

fn activation(name: &str) -> Option<Activation> {
    Some(match name {
        "relu" => Activation::Relu,
        "gelu" => Activation::Gelu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "elu" => Activation::Elu,
        "identity" => Activation::Identity,
        _ => return None,
    })
}

const SPLITS: [&str; 5] = ["auto", "random", "sequential", "column", "none"];

fn split(name: &str) -> Option<Split> {
    Some(match name {
        "auto" => Split::Auto,
        "random" => Split::Random,
        "sequential" => Split::Sequential,
        "column" => Split::Column,
        "none" => Split::None,
        _ => return None,
    })
}

/// Losses that an algorithm lets one choose.
fn losses(algorithm: Algorithm) -> &'static [(&'static str, Loss)] {
    match algorithm {
        Algorithm::LinearRegression | Algorithm::MlpRegressor => &[
            ("squared", Loss::Squared),
            ("absolute", Loss::Absolute),
            ("huber", Loss::Huber),
            ("poisson", Loss::Poisson),
        ],
        Algorithm::LinearSvm => &[("hinge", Loss::Hinge), ("squared_hinge", Loss::SquaredHinge)],
        Algorithm::MlpClassifier => &[("softmax", Loss::Softmax), ("logistic", Loss::Logistic)],
        Algorithm::LogisticRegression => &[],
    }
}

fn loss(algorithm: Algorithm, given: &Given<'_>) -> Result<Option<Loss>> {
    let name = given.text()?.to_lowercase();
    let losses = losses(algorithm);
    if name == "auto" {
        return Ok(None);
    }
    match losses.iter().find(|(other, _)| *other == name) {
        Some((_, loss)) => Ok(Some(*loss)),
        None => {
            let names: Vec<&str> = losses.iter().map(|(name, _)| *name).collect();
            let hint = nearest(&name, names.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            plan_err!(
                "option loss of {algorithm} must be one of auto, {}, but is {}{hint}",
                names.join(", "),
                given.value
            )
        }
    }
}

fn solver(algorithm: Algorithm, given: &Given<'_>) -> Result<Solver> {
    let solver = given.one_of(&["auto", "normal", "newton", "sgd"], |name| match name {
        "auto" => Some(Solver::Auto),
        "normal" => Some(Solver::Normal),
        "newton" => Some(Solver::Newton),
        "sgd" => Some(Solver::Sgd),
        _ => None,
    })?;
    match (solver, algorithm) {
        (Solver::Normal, Algorithm::LogisticRegression)
        | (Solver::Newton, Algorithm::LinearRegression) => {
            let exact = if solver == Solver::Normal { "newton" } else { "normal" };
            plan_err!(
                "option solver of {algorithm} must be one of auto, {exact}, sgd, but is {}",
                given.value
            )
        }
        _ => Ok(solver),
    }
}

#[cfg(test)]
mod tests;
