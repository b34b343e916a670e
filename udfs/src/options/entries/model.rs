//! Options of the model: penalties, layers, loss, solver, preprocessing.

use super::super::kind::{BELOW_ONE, Kind, number_or};
use super::super::{Choice, ClassWeights, OptionGroup, OptionValue, Solver, Statistics};
use super::{OptionSpec, auto, boolean, default, losses, solvers};
use crate::learner::{Activation, Loss};

pub(super) static ENTRIES: [OptionSpec; 12] = [
    OptionSpec {
        name: "l1",
        group: OptionGroup::Gradient,
        is_of_steps: false,
        kind: number_or("auto", 0.0, 1e6),
        doc: "strength of the sum of absolute weights; auto is 0; ftrl adds it (and l2) once to its sum over steps, as McMahan et al. 2013 do",
        default: default!("auto"),
        set: |options, given| given.number_or().map(|l1| options.l1 = l1),
        get: |options| auto(options.l1),
    },
    OptionSpec {
        name: "l2",
        group: OptionGroup::Gradient,
        is_of_steps: false,
        kind: number_or("auto", 0.0, 1e6),
        doc: "strength of half the sum of squared weights; auto is 1 / rows for logistic_regression and linear_svm over rows that are all known, 0 for others and where rows are learned from as they come",
        default: default!("auto"),
        set: |options, given| given.number_or().map(|l2| options.l2 = l2),
        get: |options| auto(options.l2),
    },
    OptionSpec {
        name: "dropout",
        group: OptionGroup::Layers,
        is_of_steps: false,
        kind: BELOW_ONE,
        doc: "probability that a hidden unit is left out of a step",
        default: default!("0"),
        set: |options, given| given.single().map(|p| options.dropout = p),
        get: |options| (!options.hidden.is_empty()).then(|| options.dropout.to_string()),
    },
    OptionSpec {
        name: "hidden",
        group: OptionGroup::Layers,
        is_of_steps: false,
        kind: Kind::Words(|| "a list of at most 32 whole numbers from 1 to 65536".to_owned()),
        doc: "units of the hidden layers",
        default: |algorithm| Some(units(algorithm.hidden)),
        set: |options, given| given.layers().map(|hidden| options.hidden = hidden),
        get: |options| Some(units(&options.hidden)),
    },
    OptionSpec {
        name: "activation",
        group: OptionGroup::Layers,
        is_of_steps: false,
        kind: Kind::OneOf(<Activation as Choice>::names),
        doc: "activation of the hidden layers",
        default: default!("relu"),
        set: |options, given| given.choice().map(|choice| options.activation = choice),
        get: |options| {
            (!options.hidden.is_empty()).then(|| Choice::name(options.activation).to_owned())
        },
    },
    OptionSpec {
        name: "loss",
        group: OptionGroup::Loss,
        is_of_steps: false,
        kind: Kind::OneOfAlgorithm(<Loss as Choice>::names, losses),
        doc: "what is minimised; auto is squared, softmax, or squared_hinge (scikit-learn's LinearSVC)",
        default: default!("auto"),
        set: |options, given| given.loss(options.algorithm).map(|loss| options.loss = loss),
        get: |options| auto(options.loss.map(Choice::name)),
    },
    OptionSpec {
        name: "quantiles",
        group: OptionGroup::Quantiles,
        is_of_steps: false,
        kind: Kind::Words(|| "a list of 1 to 99 ascending numbers above 0 and below 1".to_owned()),
        doc: "quantiles that loss = 'quantile' learns, [0.1, 0.5, 0.9] if not given; the prediction is the one nearest to 0.5",
        default: |_| None,
        set: |options, given| given.quantiles().map(|quantiles| options.quantiles = quantiles),
        get: |options| (!options.quantiles.is_empty()).then(|| numbers(&options.quantiles)),
    },
    OptionSpec {
        name: "solver",
        group: OptionGroup::Solver,
        is_of_steps: false,
        kind: Kind::OneOfAlgorithm(Solver::names, solvers),
        doc: "over all rows at once (normal, newton, lbfgs, irls of quantiles; lbfgs with l1 is OWL-QN) or by mini-batches; auto is by all rows where the shape of the rows allows and no option of mini-batches is given",
        default: default!("auto"),
        set: |options, given| given.solver(options.algorithm).map(|solver| options.solver = solver),
        get: |options| Some(options.solver.name().to_owned()),
    },
    OptionSpec {
        name: "statistics",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: Kind::OneOf(Statistics::names),
        doc: "how features are standardised: fixed is by all training rows, running by the rows so far, in one pass (the default of unbounded tables)",
        default: default!("fixed"),
        set: |options, given| given.choice().map(|choice| options.statistics = choice),
        get: |options| Some(options.statistics.name().to_owned()),
    },
    OptionSpec {
        name: "standardize",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: Kind::Boolean,
        doc: "whether numbers are standardised; FALSE by default where adaptive_invariant learns with running statistics",
        default: default!("TRUE"),
        set: |options, given| given.boolean().map(|yes| options.standardize = yes),
        get: |options| boolean(options.standardize),
    },
    OptionSpec {
        name: "intercept",
        group: OptionGroup::Gradient,
        is_of_steps: false,
        kind: Kind::Boolean,
        doc: "whether an intercept (of networks: a bias of the output layer) is learned",
        default: default!("TRUE"),
        set: |options, given| given.boolean().map(|yes| options.intercept = yes),
        get: |options| boolean(options.intercept),
    },
    OptionSpec {
        name: "class_weights",
        group: OptionGroup::Classes,
        is_of_steps: false,
        kind: Kind::Words(|| {
            "none, balanced or a map such as {'yes': 2, 'no': 1} of numbers above 0".to_owned()
        }),
        doc: "weight of the rows of a class",
        default: default!("none"),
        set: |options, given| given.class_weights().map(|weights| options.class_weights = weights),
        get: |options| Some(class_weights(&options.class_weights)),
    },
];

/// `[128, 64]`
fn units(units: &[usize]) -> String {
    let units = units.iter().map(|n| OptionValue::Number(n.to_string())).collect();
    OptionValue::List(units).to_string()
}

/// `[0.1, 0.5]`
fn numbers(numbers: &[f64]) -> String {
    OptionValue::from(numbers.to_vec()).to_string()
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

/// Whether a solver passes over all rows for each step.
pub(in crate::options) fn is_full_batch(solver: Solver) -> bool {
    matches!(solver, Solver::Normal | Solver::Newton | Solver::Lbfgs | Solver::Irls)
}
