//! Options of the run: randomness, replicas, evaluation rows, stopping, checkpoints and versions.

use super::super::kind::{Kind, SHARE, number, positive_or, whole, whole_or};
use super::super::{Choice, OptionGroup, OptionValue, Parallel, PublishEvery, Solver, Split};
use super::{OptionSpec, auto, boolean, default, or_none};

pub(super) static ENTRIES: [OptionSpec; 16] = [
    OptionSpec {
        name: "seed",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: whole(0, u64::MAX),
        doc: "start of every random choice",
        default: default!("0"),
        set: |options, given| given.whole().map(|n| options.seed = n),
        get: |options| Some(options.seed.to_string()),
    },
    OptionSpec {
        name: "replicas",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: whole_or("auto", 1, 1024),
        doc: "copies that are trained side by side and averaged, or parts of parallel = 'gradient'",
        default: default!("auto"),
        set: |options, given| given.whole_or().map(|n| options.replicas = n.map(|n| n as usize)),
        get: |options| auto(options.replicas),
    },
    OptionSpec {
        name: "parallel",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: Kind::OneOf(Parallel::names),
        doc: "average copies after each round, or sum gradients in each step",
        default: default!("auto"),
        set: |options, given| given.choice().map(|choice| options.parallel = choice),
        get: |options| Some(options.parallel.name().to_owned()),
    },
    OptionSpec {
        name: "shuffle",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: Kind::Boolean,
        doc: "whether rows are taken in random order",
        default: default!("TRUE"),
        set: |options, given| given.boolean().map(|yes| options.shuffle = yes),
        get: |options| boolean(options.shuffle),
    },
    OptionSpec {
        name: "round_rows",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: whole_or("auto", 1, 1_000_000_000_000),
        doc: "rows of a round, after which replicas are merged; auto is a quarter of the rows at most with more than one",
        default: default!("auto"),
        set: |options, given| given.whole_or().map(|n| options.round_rows = n),
        get: |options| auto(options.round_rows),
    },
    OptionSpec {
        name: "split",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: Kind::OneOf(Split::names),
        doc: "how evaluation rows are chosen; auto is random for mini-batches and none for solvers",
        default: default!("auto"),
        set: |options, given| given.choice().map(|choice| options.split = choice),
        get: |options| Some(options.split.name().to_owned()),
    },
    OptionSpec {
        name: "split_column",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: Kind::Words(|| "the name of a column".to_owned()),
        doc: "boolean column that is true for evaluation rows",
        default: |_| None,
        set: |options, given| given.text().map(|name| options.split_column = Some(name.to_owned())),
        get: |options| {
            options.split_column.clone().map(|name| OptionValue::String(name).to_string())
        },
    },
    OptionSpec {
        name: "split_fraction",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: SHARE,
        doc: "share of evaluation rows",
        default: default!("0.1"),
        set: |options, given| given.number().map(|share| options.split_fraction = share),
        get: |options| {
            matches!(options.split, Split::Auto | Split::Random | Split::Sequential)
                .then(|| options.split_fraction.to_string())
        },
    },
    OptionSpec {
        name: "early_stop",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: Kind::Boolean,
        doc: "whether training stops when the evaluation loss no longer falls",
        default: default!("TRUE"),
        set: |options, given| given.boolean().map(|yes| options.early_stop = yes),
        get: |options| boolean(options.early_stop),
    },
    OptionSpec {
        name: "patience",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: whole(1, 1_000_000),
        doc: "epochs without a better evaluation loss before it stops",
        default: default!("5"),
        set: |options, given| given.whole().map(|n| options.patience = n),
        get: |options| options.may_stop_early().then(|| options.patience.to_string()),
    },
    OptionSpec {
        name: "min_delta",
        group: OptionGroup::Gradient,
        is_of_steps: true,
        kind: number(0.0, 1e6),
        doc: "fall of the evaluation loss that counts as better",
        default: default!("0"),
        set: |options, given| given.number().map(|fall| options.min_delta = fall),
        get: |options| options.may_stop_early().then(|| options.min_delta.to_string()),
    },
    OptionSpec {
        name: "max_seconds",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: positive_or("none", 1e9),
        doc: "time after which training stops with what it has",
        default: default!("none"),
        set: |options, given| given.number_or().map(|seconds| options.max_seconds = seconds),
        get: |options| or_none(options.max_seconds),
    },
    OptionSpec {
        name: "tolerance",
        group: OptionGroup::Tolerance,
        is_of_steps: false,
        kind: number(0.0, 1.0),
        doc: "largest derivative of the objective at which newton and lbfgs end, and a hundred times the relative fall of the loss at which irls ends; of kmeans, largest squared movement of the centroids in mean variances of the inputs",
        // scikit-learn's `tol` is 1e-4: for its Newton solvers of a gradient that is not a mean.
        default: |algorithm| {
            let is_of_clusters = algorithm.options.contains(&OptionGroup::Clusters);
            Some(if is_of_clusters { "0.0001" } else { "0.000001" }.to_owned())
        },
        set: |options, given| given.number().map(|tolerance| options.tolerance = tolerance),
        get: |options| {
            let is_of_solver = options.algorithm.takes(OptionGroup::Solver);
            (!is_of_solver
                || matches!(
                    options.solver,
                    Solver::Auto | Solver::Newton | Solver::Lbfgs | Solver::Irls
                ))
            .then(|| options.tolerance.to_string())
        },
    },
    OptionSpec {
        name: "checkpoint_every",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: Kind::Words(|| {
            "seconds from 0 to 1000000000, or a text such as '30 seconds', '1 minute' or '2 hours'"
                .to_owned()
        }),
        doc: "time between checkpoints; 0 is after every round",
        default: default!("60"),
        set: |options, given| given.duration().map(|time| options.checkpoint_every = time),
        get: |options| Some(options.checkpoint_every.as_secs_f64().to_string()),
    },
    OptionSpec {
        name: "keep_versions",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: whole_or("none", 1, 1_000_000),
        doc: "versions of the model that are kept; none keeps all",
        default: default!("none"),
        set: |options, given| given.whole_or().map(|n| options.keep_versions = n),
        get: |options| or_none(options.keep_versions),
    },
    OptionSpec {
        name: "publish_every",
        group: OptionGroup::All,
        is_of_steps: false,
        kind: Kind::Words(|| "a text such as '10000 rows', '30 seconds' or '1 minute'".to_owned()),
        doc: "how often the training of an unbounded table publishes a version (1 minute if not given)",
        default: |_| None,
        set: |options, given| {
            given.publish_every().map(|every| options.publish_every = Some(every))
        },
        get: |options| {
            options.publish_every.map(|every| match every {
                PublishEvery::Rows(rows) => format!("'{rows} rows'"),
                PublishEvery::Time(time) => format!("'{} seconds'", time.as_secs_f64()),
            })
        },
    },
];
