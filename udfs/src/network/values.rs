//! The values of a pass: which share a place, how long each lives, and where gradients go.

use super::architecture::{Architecture, Compiled, Origin};
use super::layer::Content;
use super::plan::Lifetime;
use super::program::{Op, has_table};

/// What is known of a node before values have places.
pub(crate) struct Plan {
    pub(crate) sources: Vec<usize>,
    pub(crate) output: usize,
    pub(crate) shares_output: bool,
    pub(crate) kept: Option<usize>,
    pub(crate) gradient: Option<usize>,
    pub(crate) shares_gradient: bool,
}

/// Values and when they live.
pub(crate) struct Values<'a> {
    pub(crate) lifetimes: Vec<Lifetime>,
    /// By input, its value.
    pub(crate) inputs: Vec<usize>,
    /// By node, whether a gradient by its output is needed.
    needs: Vec<bool>,
    ops: &'a [Op],
    is_training: bool,
}

impl<'a> Values<'a> {
    pub(crate) fn new(
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
    pub(crate) fn plan(&mut self, architecture: &Architecture, compiled: &[Compiled]) -> Vec<Plan> {
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
    pub(crate) fn targets(
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
