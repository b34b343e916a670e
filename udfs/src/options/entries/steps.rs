//! Options of mini-batch training.

use datafusion_common::{Result, plan_err};

use super::super::given::Given;
use super::super::kind::{BELOW_ONE, Kind, number, number_or, positive, whole};
use super::super::{OptionGroup, TrainOptions};
use super::{OptionSpec, auto, default};
use crate::algorithms::AlgorithmSpec;
use crate::optimizer::Optimizer;

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

pub(super) static ENTRIES: [OptionSpec; 10] = [
    OptionSpec {
        name: "epochs",
        group: OptionGroup::Passes,
        is_of_steps: true,
        kind: whole(1, 1_000_000),
        doc: "passes over the training rows",
        default: |algorithm| Some(algorithm.epochs.to_string()),
        set: |options, given| given.whole().map(|n| options.epochs = n),
        get: |options| Some(options.epochs.to_string()),
    },
    OptionSpec {
        name: "batch_size",
        group: OptionGroup::Batch,
        is_of_steps: true,
        kind: whole(1, 1 << 20),
        doc: "rows of a mini-batch",
        default: |algorithm| Some(algorithm.batch_size.to_string()),
        set: |options, given| given.whole().map(|n| options.batch_size = n as usize),
        get: |options| Some(options.batch_size.to_string()),
    },
    OptionSpec {
        name: "learning_rate",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: positive(1000.0),
        doc: "size of a step, before the schedule",
        default: |_| None,
        set: |options, given| given.number().map(|n| options.learning_rate = n),
        get: |options| Some(options.learning_rate.to_string()),
    },
    OptionSpec {
        name: "intercept_learning_rate",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: number_or("auto", 0.0, 1000.0),
        doc: "size of a step of the intercept (of networks: the bias of the output layer); auto is learning_rate",
        default: default!("auto"),
        set: |options, given| given.number_or().map(|n| options.intercept_learning_rate = n),
        get: |options| match options.intercept
            || !options.hidden.is_empty()
            || options.algorithm.takes(OptionGroup::Networks)
        {
            true => auto(options.intercept_learning_rate),
            false => None,
        },
    },
    OptionSpec {
        name: "schedule",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: Kind::Words(|| {
            "one of constant, step, exponential, cosine, or a map such as {'kind': 'step', \
             'epochs': 10, 'factor': 0.1, 'warmup': 0.05}"
                .to_owned()
        }),
        doc: "how the learning rate changes over the steps",
        default: default!("constant"),
        set: |options, given| given.schedule().map(|schedule| options.schedule = schedule),
        get: |options| Some(options.schedule.to_string()),
    },
    OptionSpec {
        name: "optimizer",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: Kind::OneOf(|| OPTIMIZERS.to_vec()),
        doc: "how to step; adaptive_invariant is Vowpal Wabbit's update of linear models, which takes the rows of a mini-batch one after another",
        default: default!("adam"),
        set: |options, given| {
            options.optimizer = given.named(optimizer)?;
            if !options.is_given("learning_rate") {
                options.learning_rate = learning_rate(options.algorithm.spec(), &options.optimizer);
            }
            Ok(())
        },
        get: |options| Some(options.optimizer.name().to_owned()),
    },
    OptionSpec {
        name: "momentum",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: BELOW_ONE,
        doc: "decay of the velocity of momentum and nesterov",
        default: |_| None,
        set: |options, given| {
            set_optimizer(options, given, |optimizer| match optimizer {
                Optimizer::Momentum { momentum } | Optimizer::Nesterov { momentum } => {
                    Some(momentum)
                }
                _ => None,
            })
        },
        get: |options| match options.optimizer {
            Optimizer::Momentum { momentum } | Optimizer::Nesterov { momentum } => {
                Some(momentum.to_string())
            }
            _ => None,
        },
    },
    OptionSpec {
        name: "beta1",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: BELOW_ONE,
        doc: "decay of the first moment of adam and adamw",
        default: |_| None,
        set: |options, given| {
            set_optimizer(options, given, |optimizer| match optimizer {
                Optimizer::Adam { beta1, .. } | Optimizer::AdamW { beta1, .. } => Some(beta1),
                _ => None,
            })
        },
        get: |options| match options.optimizer {
            Optimizer::Adam { beta1, .. } | Optimizer::AdamW { beta1, .. } => {
                Some(beta1.to_string())
            }
            _ => None,
        },
    },
    OptionSpec {
        name: "beta2",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: BELOW_ONE,
        doc: "decay of the second moment of rmsprop, adam and adamw",
        default: |_| None,
        set: |options, given| {
            set_optimizer(options, given, |optimizer| match optimizer {
                Optimizer::RmsProp { beta2, .. }
                | Optimizer::Adam { beta2, .. }
                | Optimizer::AdamW { beta2, .. } => Some(beta2),
                _ => None,
            })
        },
        get: |options| match options.optimizer {
            Optimizer::RmsProp { beta2, .. }
            | Optimizer::Adam { beta2, .. }
            | Optimizer::AdamW { beta2, .. } => Some(beta2.to_string()),
            _ => None,
        },
    },
    OptionSpec {
        name: "epsilon",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: number(1e-30, 1.0),
        doc: "added to the root by adagrad, rmsprop, adam and adamw; beta of ftrl",
        default: |_| None,
        set: |options, given| {
            set_optimizer(options, given, |optimizer| match optimizer {
                Optimizer::Adagrad { epsilon }
                | Optimizer::RmsProp { epsilon, .. }
                | Optimizer::Adam { epsilon, .. }
                | Optimizer::AdamW { epsilon, .. }
                | Optimizer::Ftrl { beta: epsilon } => Some(epsilon),
                _ => None,
            })
        },
        get: |options| match options.optimizer {
            Optimizer::Adagrad { epsilon }
            | Optimizer::RmsProp { epsilon, .. }
            | Optimizer::Adam { epsilon, .. }
            | Optimizer::AdamW { epsilon, .. }
            | Optimizer::Ftrl { beta: epsilon } => Some(epsilon.to_string()),
            _ => None,
        },
    },
];

/// The optimizer of that name with PyTorch's defaults (momentum 0.9, where PyTorch has 0).
fn optimizer(name: &str) -> Option<Optimizer> {
    let (momentum, beta1, beta2) = (0.9, 0.9, 0.999);
    Some(match name {
        "sgd" => Optimizer::Sgd,
        "momentum" => Optimizer::Momentum { momentum },
        "nesterov" => Optimizer::Nesterov { momentum },
        "adagrad" => Optimizer::Adagrad { epsilon: 1e-10 },
        "rmsprop" => Optimizer::RmsProp { beta2: 0.99, epsilon: 1e-8 },
        "adam" => Optimizer::Adam { beta1, beta2, epsilon: 1e-8 },
        "adamw" => Optimizer::AdamW { beta1, beta2, epsilon: 1e-8 },
        "ftrl" => Optimizer::Ftrl { beta: 1.0 },
        "adaptive_invariant" => Optimizer::AdaptiveInvariant,
        _ => return None,
    })
}

/// The default learning rate of an optimizer: networks need smaller steps than linear models.
fn learning_rate(algorithm: &AlgorithmSpec, optimizer: &Optimizer) -> f64 {
    let (linear, network) = match optimizer {
        Optimizer::Sgd => (0.01, 0.1),
        Optimizer::Momentum { .. } | Optimizer::Nesterov { .. } => (0.001, 0.01),
        Optimizer::Adagrad { .. } => (0.05, 0.01),
        Optimizer::RmsProp { .. } | Optimizer::Adam { .. } | Optimizer::AdamW { .. } => {
            (0.01, 0.001)
        }
        Optimizer::Ftrl { .. } => (0.1, 0.01),
        // Vowpal Wabbit's default; a network that can use it is linear.
        Optimizer::AdaptiveInvariant => (0.5, 0.5),
    };
    if algorithm.is_linear() { linear } else { network }
}

/// Sets an option of the optimizer; `place` returns the field, or None if the optimizer has no such
/// option.
fn set_optimizer(
    options: &mut TrainOptions,
    given: &Given<'_>,
    place: fn(&mut Optimizer) -> Option<&mut f32>,
) -> Result<()> {
    let value = given.single()?;
    if let Some(place) = place(&mut options.optimizer) {
        *place = value;
        return Ok(());
    }
    let takers = OPTIMIZERS.into_iter().filter(|name| {
        optimizer(name).is_some_and(|mut optimizer| place(&mut optimizer).is_some())
    });
    let takers: Vec<_> = takers.collect();
    let takers = match takers.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => takers.join(""),
    };
    plan_err!(
        "option {} does not go with optimizer = {}; it belongs to {takers}",
        given.spec.name,
        options.optimizer.name()
    )
}
