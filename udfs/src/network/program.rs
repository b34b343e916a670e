//! A pass as a list of operations: compiled once for an architecture, run by every shard.

use datafusion_common::{Result, plan_err};

use super::architecture::{Architecture, Compiled, InputKind, Origin};
use super::layer::{Layer, Source};
use super::mask::Mask;
use super::plan::assign;
use super::values::Values;

/// One operation on a block of rows. Its index in the program is its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Copies the numbers of the rows, and finds out the lengths.
    Load,
    /// A node forward.
    Forward(usize),
    /// A node's part of its sums over the mini-batch, forward or not. A stage ends behind it.
    Sums(usize, bool),
    /// The loss, and its derivative by the raw outputs.
    Loss,
    /// A node backward.
    Backward(usize),
}

/// How backward writes the gradient by one input of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Nothing needs it.
    None,
    /// It overwrites this value.
    Replace(Source),
    /// It is added to this value, by way of the spare buffer.
    Add(Source),
}

/// A node and where its values are.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) layer: Box<dyn Layer>,
    pub(crate) inputs: Vec<Source>,
    pub(crate) output: Source,
    /// Whether the output stands where the input stood.
    pub(crate) shares_output: bool,
    pub(crate) kept: Option<Source>,
    /// The gradient by its output, in training.
    pub(crate) gradient: Option<Source>,
    /// By input.
    pub(crate) targets: Vec<Target>,
    /// Whether the gradient by the input stands where that by the output stood.
    pub(crate) shares_gradient: bool,
    /// Index of the mask of its (first) input.
    pub(crate) mask: Option<usize>,
}

/// A compiled pass.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) steps: Vec<Step>,
    /// Where the numbers of each input go; None of codes, and of inputs that nothing reads.
    pub(crate) loads: Vec<Option<Source>>,
    pub(crate) masks: Vec<Mask>,
    /// Numbers of a row in each buffer.
    pub(crate) slots: Vec<usize>,
    /// A value to which gradients are written before they are added to others.
    pub(crate) spare: Option<Source>,
    /// Whether values of all rows are kept: sums over the mini-batch or tables need them.
    pub(crate) is_whole: bool,
    pub(crate) is_training: bool,
}

impl Program {
    /// Compiles a pass: forward and backward in training, forward otherwise.
    pub(crate) fn new(architecture: &Architecture, is_training: bool) -> Result<Self> {
        let compiled = architecture.compile()?;
        check_uses(architecture, &compiled)?;
        let mut masks: Vec<Mask> = vec![];
        let mut mask_of = |mask: &Option<Mask>| {
            let mask = mask.as_ref()?;
            Some(masks.iter().position(|own| own == mask).unwrap_or_else(|| {
                masks.push(mask.clone());
                masks.len() - 1
            }))
        };
        let mut node_masks = vec![];
        for node in &architecture.nodes {
            let first = node.inputs.first().map(|from| architecture.incoming(*from, &compiled));
            let input = first.transpose()?.and_then(|incoming| incoming.mask);
            node_masks.push(mask_of(&input));
        }
        let ops = operations(&compiled, is_training);
        let is_whole = ops.iter().any(|op| matches!(op, Op::Sums(..)))
            || is_training && compiled.iter().any(|own| has_table(own.built.layer.as_ref()));
        let mut values = Values::new(architecture, &compiled, &ops, is_training);
        let plans = values.plan(architecture, &compiled);
        let (targets, spare) = values.targets(architecture, &compiled, &plans);
        let (places, slots) = assign(&values.lifetimes);
        let place = |value: usize| places[value];
        let nodes = compiled.into_iter().zip(plans).zip(targets).zip(node_masks);
        let steps = nodes.map(|(((own, plan), targets), mask)| Step {
            layer: own.built.layer,
            inputs: plan.sources.iter().map(|value| place(*value)).collect(),
            output: place(plan.output),
            shares_output: plan.shares_output,
            kept: plan.kept.map(place),
            gradient: plan.gradient.map(place),
            targets: targets
                .into_iter()
                .map(|target| match target {
                    None => Target::None,
                    Some((value, true)) => Target::Replace(place(value)),
                    Some((value, false)) => Target::Add(place(value)),
                })
                .collect(),
            shares_gradient: plan.shares_gradient,
            mask,
        });
        let steps = steps.collect();
        let of_input = |i: usize| match architecture.inputs[i].kind {
            InputKind::Numbers { .. } => Some(place(values.inputs[i])),
            _ => None,
        };
        let loads = (0..architecture.inputs.len()).map(of_input).collect();
        let spare = spare.map(place);
        Ok(Self { ops, steps, loads, masks, slots, spare, is_whole, is_training })
    }

    /// Working memory of the layers, for a block of so many rows.
    pub(crate) fn scratch(&self, rows: usize) -> usize {
        self.steps.iter().map(|step| step.layer.scratch(rows)).max().unwrap_or(0)
    }
}

/// Refuses nodes that nothing reads, and a last node that gives no vector.
fn check_uses(architecture: &Architecture, compiled: &[Compiled]) -> Result<()> {
    let last = match compiled.last() {
        Some(own) if own.built.shape.len() == 1 => compiled.len() - 1,
        _ => return architecture.outputs().map(drop),
    };
    for (i, node) in architecture.nodes.iter().enumerate().take(last) {
        let is_read = |other: &super::architecture::Node| other.inputs.contains(&Origin::Node(i));
        if !architecture.nodes.iter().any(is_read) {
            return plan_err!("{} feeds no other layer", node.name);
        }
    }
    Ok(())
}

pub(crate) fn has_table(layer: &dyn Layer) -> bool {
    layer.parameters().iter().any(|parameter| parameter.is_table)
}

/// The operations in order.
fn operations(compiled: &[Compiled], is_training: bool) -> Vec<Op> {
    let mut ops = vec![Op::Load];
    let has_sums = |i: usize| is_training && compiled[i].built.layer.sums() > 0;
    for i in 0..compiled.len() {
        if has_sums(i) {
            ops.push(Op::Sums(i, true));
        }
        ops.push(Op::Forward(i));
    }
    if is_training {
        ops.push(Op::Loss);
        for i in (0..compiled.len()).rev() {
            if has_sums(i) {
                ops.push(Op::Sums(i, false));
            }
            ops.push(Op::Backward(i));
        }
    }
    ops
}
