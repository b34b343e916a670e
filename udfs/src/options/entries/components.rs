//! Options of principal components.

use super::super::kind::Kind;
use super::super::{Choice, OptionGroup, Svd};
use super::{OptionSpec, boolean, default};

pub(super) static ENTRIES: [OptionSpec; 3] = [
    OptionSpec {
        name: "components",
        group: OptionGroup::Components,
        is_of_steps: false,
        kind: Kind::Words(|| {
            "auto, a whole number from 1 to 65536, or a share of the variance above 0 and below 1"
                .to_owned()
        }),
        doc: "principal components to keep, or the share of the variance that they explain together; auto is all that the inputs and rows allow, at most 50; of standardised inputs (the default) they are those of the correlation matrix",
        default: default!("auto"),
        set: |options, given| given.components().map(|wanted| options.components = wanted),
        get: |options| Some(options.components.to_string()),
    },
    OptionSpec {
        name: "whiten",
        group: OptionGroup::Components,
        is_of_steps: false,
        kind: Kind::Boolean,
        doc: "whether each principal component is divided by its standard deviation",
        default: default!("FALSE"),
        set: |options, given| given.boolean().map(|yes| options.whiten = yes),
        get: |options| boolean(options.whiten),
    },
    OptionSpec {
        name: "svd",
        group: OptionGroup::Components,
        is_of_steps: false,
        kind: Kind::OneOf(Svd::names),
        doc: "how principal components are found: covariance is by the covariance matrix, in one pass, randomized by random projections, in some eight passes; auto is covariance up to 2000 inputs, and where a share of the variance or nearly all components are asked for",
        default: default!("auto"),
        set: |options, given| given.choice().map(|choice| options.svd = choice),
        get: |options| Some(options.svd.name().to_owned()),
    },
];
