//! A pass as a list of operations: compiled once for an architecture, run by every shard.

use datafusion_common::{Result, plan_err};

use super::architecture::{Architecture, Compiled, InputKind, Origin};
use super::layer::{Content, Layer, Source};
use super::mask::Mask;
use super::plan::{Lifetime, assign};

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

/// What is known of a node before values have places.
struct Plan {
    sources: Vec<usize>,
    output: usize,
    shares_output: bool,
    kept: Option<usize>,
    gradient: Option<usize>,
    shares_gradient: bool,
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

fn has_table(layer: &dyn Layer) -> bool {
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

/// Values and when they live.
struct Values<'a> {
    lifetimes: Vec<Lifetime>,
    /// By input, its value.
    inputs: Vec<usize>,
    /// By node, whether a gradient by its output is needed.
    needs: Vec<bool>,
    ops: &'a [Op],
    is_training: bool,
}

impl<'a> Values<'a> {
    fn new(
        architecture: &Architecture,
        compiled: &[Compiled],
        ops: &'a [Op],
        is_training: bool,
    ) -> Self {
        let mut own = Self { lifetimes: vec![], inputs: vec![], needs: vec![], ops, is_training };
        for (i, input) in architecture.inputs.iter().enumerate() {
            let len = match input.incoming(i).map(|incoming| incoming.content) {
                Ok(Content::Numbers(shape)) => shape.iter().product(),
                _ => 0,
            };
            let value = own.push(len, 0);
            own.inputs.push(value);
        }
        for (node, this) in architecture.nodes.iter().zip(compiled) {
            let needs =
                this.parameters > 0 || node.inputs.iter().any(|from| own.needs_gradient(*from));
            own.needs.push(needs);
        }
        own
    }

    fn needs_gradient(&self, from: Origin) -> bool {
        matches!(from, Origin::Node(i) if self.needs[i])
    }

    fn push(&mut self, len: usize, time: usize) -> usize {
        self.lifetimes.push(Lifetime { len, begin: time, end: time });
        self.lifetimes.len() - 1
    }

    fn touch(&mut self, value: usize, time: usize) {
        let own = &mut self.lifetimes[value];
        own.begin = own.begin.min(time);
        own.end = own.end.max(time);
    }

    fn time(&self, op: Op) -> usize {
        self.ops.iter().position(|own| *own == op).unwrap_or(0)
    }

    /// Decides which values share a place, and how long each lives.
    fn plan(&mut self, architecture: &Architecture, compiled: &[Compiled]) -> Vec<Plan> {
        let n = compiled.len();
        let layer = |i: usize| compiled[i].built.layer.as_ref();
        let is_absent = |i: usize| !self.is_training && layer(i).is_training_only();
        // Readers of every node and input, layers that are left out replaced by their readers.
        let mut readers_of_inputs = vec![0; self.inputs.len()];
        let mut readers = vec![0; n];
        let mut origin: Vec<Vec<Origin>> = vec![];
        for (i, node) in architecture.nodes.iter().enumerate() {
            let resolve = |from: &Origin| match *from {
                Origin::Node(j) if is_absent(j) => origin[j][0],
                other => other,
            };
            let own: Vec<Origin> = node.inputs.iter().map(resolve).collect();
            if !is_absent(i) {
                for from in &own {
                    match *from {
                        Origin::Input(i) => readers_of_inputs[i] += 1,
                        Origin::Node(i) => readers[i] += 1,
                    }
                }
            }
            origin.push(own);
        }
        let mut last = Origin::Node(n - 1);
        if is_absent(n - 1) {
            last = origin[n - 1][0];
        }
        match last {
            Origin::Input(i) => readers_of_inputs[i] += 1,
            Origin::Node(i) => readers[i] += 1,
        }
        let absent: Vec<bool> = (0..n).map(is_absent).collect();
        let mut plans: Vec<Plan> = vec![];
        for i in 0..n {
            let value_of = |from: &Origin| match *from {
                Origin::Input(i) => self.inputs[i],
                Origin::Node(i) => plans[i].output,
            };
            let sources: Vec<usize> = origin[i].iter().map(value_of).collect();
            let forward = self.time(Op::Forward(i));
            let reads = layer(i).reads();
            // In training, neither this layer nor the one before may read what is overwritten.
            let is_free = match origin[i].first() {
                Some(Origin::Input(i)) => readers_of_inputs[*i] == 1,
                Some(Origin::Node(j)) => {
                    readers[*j] == 1 && !(self.is_training && layer(*j).reads().output)
                }
                None => false,
            };
            let shares_output = absent[i]
                || layer(i).is_in_place() && is_free && !(self.is_training && reads.input);
            let len = compiled[i].built.shape.iter().product();
            let output = match (shares_output, sources.first()) {
                (true, Some(source)) => *source,
                _ => self.push(len, forward),
            };
            self.touch(output, forward);
            for source in &sources {
                self.touch(*source, forward);
            }
            let kept = layer(i).kept();
            let kept = (kept > 0).then(|| self.push(kept, forward));
            plans.push(Plan {
                sources,
                output,
                shares_output,
                kept,
                gradient: None,
                shares_gradient: false,
            });
        }
        if !self.is_training {
            self.touch(plans[n - 1].output, self.ops.len());
            return plans;
        }
        self.plan_gradients(architecture, compiled, &mut plans, &readers);
        plans
    }

    /// The same for gradients, and for what backward reads.
    fn plan_gradients(
        &mut self,
        architecture: &Architecture,
        compiled: &[Compiled],
        plans: &mut [Plan],
        readers: &[usize],
    ) {
        let n = plans.len();
        let loss = self.time(Op::Loss);
        self.touch(plans[n - 1].output, loss);
        for i in (0..n).rev() {
            let layer = compiled[i].built.layer.as_ref();
            let time = self.time(Op::Backward(i));
            if i == n - 1 {
                let len = compiled[i].built.shape.iter().product();
                plans[i].gradient = Some(self.push(len, loss));
            }
            let Some(gradient) = plans[i].gradient else { continue };
            // The gradients that tables read stay until all rows have theirs.
            self.touch(gradient, if has_table(layer) { self.ops.len() } else { time });
            if layer.sums() > 0 {
                let sums = self.time(Op::Sums(i, false));
                self.touch(gradient, sums);
                (0..plans[i].sources.len()).for_each(|k| self.touch(plans[i].sources[k], sums));
            }
            if let Some(kept) = plans[i].kept {
                self.touch(kept, time);
            }
            if layer.reads().output {
                self.touch(plans[i].output, time);
            }
            for (k, from) in architecture.nodes[i].inputs.iter().enumerate() {
                if layer.reads().input {
                    self.touch(plans[i].sources[k], time);
                }
                let Origin::Node(j) = *from else { continue };
                if !self.needs[j] {
                    continue;
                }
                match plans[j].gradient {
                    Some(own) => self.touch(own, time),
                    None if layer.is_in_place() && readers[j] == 1 => {
                        plans[j].gradient = Some(gradient);
                        plans[i].shares_gradient = true;
                    }
                    None => {
                        let len = compiled[j].built.shape.iter().product();
                        plans[j].gradient = Some(self.push(len, time));
                    }
                }
            }
        }
    }

    /// By node and input, where its gradient goes, and whether it is the first there; and the
    /// value of the spare buffer.
    #[allow(clippy::type_complexity, reason = "a table that one caller reads")]
    fn targets(
        &mut self,
        architecture: &Architecture,
        compiled: &[Compiled],
        plans: &[Plan],
    ) -> (Vec<Vec<Option<(usize, bool)>>>, Option<usize>) {
        let n = plans.len();
        let (mut spare, mut is_written) = (None, vec![false; n]);
        let mut targets = vec![vec![]; n];
        if !self.is_training {
            return (targets, spare);
        }
        for i in (0..n).rev() {
            for from in &architecture.nodes[i].inputs {
                let target = match *from {
                    Origin::Node(j) if self.needs[j] => plans[j].gradient.map(|value| (j, value)),
                    _ => None,
                };
                let target = target.map(|(j, value)| {
                    let is_first = !is_written[j];
                    is_written[j] = true;
                    if !is_first {
                        let len = compiled[j].built.shape.iter().product();
                        let time = self.time(Op::Backward(i));
                        let spare = *spare.get_or_insert_with(|| self.push(len, time));
                        self.lifetimes[spare].len = self.lifetimes[spare].len.max(len);
                        self.touch(spare, time);
                    }
                    (value, is_first)
                });
                targets[i].push(target);
            }
        }
        (targets, spare)
    }
}
