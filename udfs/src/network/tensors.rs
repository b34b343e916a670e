//! The flat parameters: which tensors they are, how they begin, and whose they are.

use std::sync::Arc;

use super::architecture::Architecture;
use super::layer::{Initial, Parameter};
use super::program::Program;
use crate::kernels::rng;
use crate::learner::{Layout, Role};

/// The stream of random numbers of initial parameters.
const INIT_STREAM: u64 = 3 << 32;

/// A table of a node: `[rows, units]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeTable {
    pub(crate) node: usize,
    pub(crate) table: usize,
    pub(crate) offset: usize,
    pub(crate) rows: usize,
    pub(crate) units: usize,
}

/// The ranges of a node's parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges {
    /// All of them in the flat buffer.
    pub(crate) all: std::ops::Range<usize>,
    /// Those that are no tables, in the gradient of a shard.
    pub(crate) own: std::ops::Range<usize>,
}

/// The tensors of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Tensors {
    pub(crate) layout: Layout,
    /// By node.
    pub(crate) nodes: Vec<Ranges>,
    pub(crate) tables: Vec<NodeTable>,
    /// By tensor.
    initials: Vec<Initial>,
}

impl Tensors {
    /// Those of a compiled architecture. The bias of the last node is the intercept.
    pub(crate) fn new(architecture: &Architecture, program: &Program) -> Self {
        let mut own = Self::default();
        let (steps, mut dense) = (&program.steps, 0);
        for (i, (node, step)) in architecture.nodes.iter().zip(steps).enumerate() {
            let (start, own_start) = (own.layout.len(), dense);
            for (table, parameter) in step.layer.parameters().into_iter().enumerate() {
                let Parameter { name, part, shape, role, initial, is_table } = parameter;
                let name_of_node: Arc<str> = match part {
                    Some(part) => format!("{}.{part}", node.name).into(),
                    None => node.name.as_str().into(),
                };
                let units = shape.iter().skip(1).product();
                if is_table {
                    let (offset, rows) = (own.layout.len(), shape.first().copied().unwrap_or(0));
                    own.tables.push(NodeTable { node: i, table, offset, rows, units });
                } else {
                    dense += shape.iter().product::<usize>();
                }
                let is_output = i + 1 == steps.len() && role == Role::Bias;
                let role = if is_output { Role::Intercept } else { role };
                own.layout.push_of_node((i, &name_of_node), name, shape, role);
                own.initials.push(initial);
            }
            own.nodes.push(Ranges { all: start..own.layout.len(), own: own_start..dense });
        }
        own
    }

    /// Number of parameters that are no tables.
    pub(crate) fn own(&self) -> usize {
        self.nodes.last().map_or(0, |ranges| ranges.own.end)
    }

    /// Writes initial parameters.
    pub(crate) fn initialize(&self, seed: u64, parameters: &mut [f32]) {
        for (i, (tensor, initial)) in self.layout.tensors().iter().zip(&self.initials).enumerate() {
            let draw = |j: usize| rng::mix(seed, INIT_STREAM + i as u64, j as u64);
            let Some(values) = parameters.get_mut(tensor.range()) else { return };
            for (j, value) in values.iter_mut().enumerate() {
                *value = match *initial {
                    Initial::Constant(value) => value,
                    Initial::Uniform(bound) => bound * (2.0 * rng::unit(draw(j)) - 1.0),
                    Initial::Normal(deviation) => deviation * normal(draw(j)),
                };
            }
        }
    }
}

/// A standard normal number from 64 random bits (Box and Muller 1958), in float64.
pub(crate) fn normal(bits: u64) -> f32 {
    let unit = |bits: u64| (bits as f64 + 0.5) / (1u64 << 32) as f64;
    let radius = (-2.0 * unit(bits >> 32).ln()).sqrt();
    (radius * (std::f64::consts::TAU * unit(bits & 0xffff_ffff)).cos()) as f32
}
