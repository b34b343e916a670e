//! Options of networks of any layers.

use super::super::OptionGroup;
use super::super::kind::{BELOW_ONE, positive_or};
use super::{OptionSpec, default, or_none};

pub(super) static ENTRIES: [OptionSpec; 2] = [
    OptionSpec {
        name: "clip_norm",
        group: OptionGroup::Networks,
        is_of_steps: true,
        kind: positive_or("none", 1e6),
        doc: "norm that the gradient of a step is scaled down to, where it is longer",
        default: default!("none"),
        set: |options, given| given.number_or().map(|norm| options.clip_norm = norm),
        get: |options| or_none(options.clip_norm),
    },
    OptionSpec {
        name: "label_smoothing",
        group: OptionGroup::Networks,
        is_of_steps: true,
        kind: BELOW_ONE,
        doc: "share of a label that is spread over all classes in training, of loss = 'softmax'",
        default: default!("0"),
        set: |options, given| given.single().map(|share| options.label_smoothing = share),
        get: |options| Some(options.label_smoothing.to_string()),
    },
];
