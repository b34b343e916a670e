//! Options of clusters.

use super::super::kind::{Kind, number, whole};
use super::super::{Choice, Distance, Init, OptionGroup, Statistics};
use super::{OptionSpec, default};

pub(super) static ENTRIES: [OptionSpec; 5] = [
    OptionSpec {
        name: "k",
        group: OptionGroup::Clusters,
        is_of_steps: false,
        kind: whole(1, 65_536),
        doc: "number of clusters",
        default: default!("8"),
        set: |options, given| given.whole().map(|k| options.k = k as usize),
        get: |options| Some(options.k.to_string()),
    },
    OptionSpec {
        name: "init",
        group: OptionGroup::Clusters,
        is_of_steps: false,
        kind: Kind::OneOf(Init::names),
        doc: "how the first centroids are chosen among the rows: kmeans|| in a few passes (Bahmani et al. 2012), kmeans++ in one pass for each, random in one pass",
        default: default!("kmeans||"),
        set: |options, given| given.choice().map(|init| options.init = init),
        get: |options| Some(options.init.name().to_owned()),
    },
    OptionSpec {
        name: "distance",
        group: OptionGroup::Clusters,
        is_of_steps: false,
        kind: Kind::OneOf(Distance::names),
        doc: "distance of a row to a centroid; cosine is 1 - the cosine of their angle",
        default: default!("euclidean"),
        set: |options, given| given.choice().map(|distance| options.distance = distance),
        get: |options| Some(options.distance.name().to_owned()),
    },
    OptionSpec {
        name: "restarts",
        group: OptionGroup::Clusters,
        is_of_steps: false,
        kind: whole(1, 100),
        doc: "starts from other centroids, of which the best result is kept",
        default: default!("1"),
        set: |options, given| given.whole().map(|n| options.restarts = n),
        get: |options| Some(options.restarts.to_string()),
    },
    OptionSpec {
        name: "decay",
        group: OptionGroup::Clusters,
        is_of_steps: false,
        kind: number(0.0, 1.0),
        doc: "of rows that are learned from as they come, the weight of the past after each mini-batch",
        default: default!("1"),
        set: |options, given| given.number().map(|decay| options.decay = decay),
        get: |options| {
            (options.statistics == Statistics::Running).then(|| options.decay.to_string())
        },
    },
];
