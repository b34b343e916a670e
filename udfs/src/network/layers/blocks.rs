//! Layers that stand for several nodes: [`Builder`](crate::network::Builder) expands them.

use crate::network::definition::{Default, Definition, Kind, given, optional};

pub(crate) const RESIDUAL: Definition = Definition {
    name: "residual",
    doc: "adds its input to the output of the layers inside, by a projection where shapes differ",
    arguments: &[],
    build: None,
};

pub(crate) const TRANSFORMER: Definition = Definition {
    name: "transformer",
    doc: "a transformer block: attention and two dense layers, each with a sum and a norm",
    arguments: &[
        given("heads", Kind::Integer(1, 1 << 12), Default::Number(4.0), "heads of the attention"),
        optional(
            "hidden",
            Kind::Integer(1, 1 << 20),
            "units between the dense layers, by default four times the channels",
        ),
        given(
            "dropout",
            Kind::Number(0.0, 0.99),
            Default::Number(0.1),
            "rate of the dropout of attention, hidden units and both sums",
        ),
        given(
            "norm",
            Kind::Word(&["post", "pre"]),
            Default::Word("post"),
            "whether layer_norm stands behind each sum or before each part",
        ),
        given(
            "activation",
            Kind::Word(&["relu", "gelu", "silu"]),
            Default::Word("relu"),
            "the activation of the hidden units",
        ),
        given("causal", Kind::Flag, Default::Flag(false), "whether a step sees no later one"),
    ],
    build: None,
};
