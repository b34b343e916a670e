//! A network of an online training: features, labels and weights grow with new categories and
//! classes.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use gradlake_udfs::{
    Descent, LabelScale, Labels, Learner as _, Loss, MiniBatch, Network, NetworkSpec, Reads,
    Reshape, Scratch, State, Stepper, Width,
};

use super::{FeatureRows, Features, LearnerState, OnlineLearner, Snapshot, Targets};
use crate::online::progressive::Progressive;
use crate::online::target::RunningTarget;

/// Makes a [`Descent`] for a network; the network is replaced when it grows.
pub type MakeDescent = Box<dyn Fn(Arc<Network>) -> Descent + Send + Sync>;

/// A network that is trained on rows as they come.
pub struct NetworkLearner {
    features: Features,
    /// Classes by their index (empty until two have appeared), or the scale of numbers.
    labels: Labels,
    /// Statistics of the target, if the scale is that of the rows so far.
    target: Option<RunningTarget>,
    spec: NetworkSpec,
    make_descent: MakeDescent,
    network: Arc<Network>,
    stepper: Stepper,
    progressive: Progressive,
    scratch: Scratch,
    buffers: Buffers,
    batch_size: usize,
}

/// Buffers of a mini-batch: raw outputs, labels.
#[derive(Default)]
struct Buffers {
    scores: Vec<f32>,
    label: Vec<f32>,
}

impl std::fmt::Debug for NetworkLearner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkLearner").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl NetworkLearner {
    /// A learner before its first row. `standardizes` says whether labels are numbers on the scale
    /// of the rows so far, `start` is the state of a continued model.
    pub fn new(
        features: Features,
        (labels, standardizes): (Labels, bool),
        spec: NetworkSpec,
        batch_size: usize,
        make_descent: MakeDescent,
        start: Option<State>,
    ) -> Self {
        let width = features.width(0);
        let network = Arc::new(spec.network(width));
        let descent = Arc::new(make_descent(Arc::clone(&network)));
        let state = start.unwrap_or_else(|| descent.initial_state());
        let stepper = Stepper::new(descent, state, 0, Reads::EachStep);
        let mut learner = Self {
            features,
            labels,
            target: standardizes.then(RunningTarget::default),
            spec,
            make_descent,
            network,
            stepper,
            progressive: Progressive::default(),
            scratch: Scratch::default(),
            buffers: Buffers::default(),
            batch_size,
        };
        learner.size_buffers();
        learner.grow_inputs();
        learner
    }

    /// Mean and standard deviation by which a number becomes a label.
    fn label_scale(&self) -> (f64, f64) {
        match &self.labels {
            Labels::Numbers(scales) => scales.first().map_or((0.0, 1.0), |s| (s.mean, s.stddev)),
            Labels::Classes(_) | Labels::None => (0.0, 1.0),
        }
    }

    /// Updates the running target with numbers, if there is one.
    fn follow_target(&mut self, numbers: &[f64]) -> Result<()> {
        let Some(target) = &mut self.target else { return Ok(()) };
        target.update(numbers);
        let (mean, stddev) = target.scale();
        if !mean.is_finite() || !stddev.is_finite() {
            return exec_err!(
                "the numbers of the target are so far apart that their deviation leaves the range of \
                 64-bit numbers; divide the target in the query"
            );
        }
        self.label_by_target();
        Ok(())
    }

    /// Gives labels the scale of the running target, if there is one.
    fn label_by_target(&mut self) {
        if let Some(target) = &self.target {
            let (mean, stddev) = target.scale();
            self.labels = Labels::Numbers(vec![LabelScale { mean, stddev }]);
        }
    }

    /// Grows the weight table to hold the categories so far. Its capacity doubles, so growth costs
    /// little.
    fn grow_inputs(&mut self) {
        let wanted = self.features.width(0).categories;
        let width = self.network.width();
        if wanted > width.categories {
            let categories = wanted.next_power_of_two().max(16);
            let inputs: Vec<Option<usize>> = (0..width.dense + categories)
                .map(|input| (input < width.dense + width.categories).then_some(input))
                .collect();
            self.regrow(Width { categories, ..width }, Some(&inputs), None);
        }
    }

    /// Makes the buffers hold a mini-batch of the current network.
    fn size_buffers(&mut self) {
        self.scratch = self.network.scratch(self.batch_size);
        self.buffers.scores.resize(self.batch_size * self.spec.outputs, 0.0);
    }

    /// Replaces the network by a larger one that computes the same function. New inputs start as in
    /// a new network.
    fn regrow(
        &mut self,
        width: Width,
        inputs: Option<&[Option<usize>]>,
        outputs: Option<&[Option<usize>]>,
    ) {
        let network = Arc::new(self.spec.network(width));
        let descent = Arc::new((self.make_descent)(Arc::clone(&network)));
        let fresh = descent.initial_state();
        let before = self.stepper.state();
        // New outputs do not start as in a new network: their logit is 0.
        let (parameters, moments) = match outputs {
            Some(_) => (vec![0.0; fresh.parameters.len()], vec![0.0; fresh.moments.len()]),
            None => (fresh.parameters, fresh.moments),
        };
        let mut state = State { parameters, moments, ..before.clone() };
        let map = Reshape { inputs, outputs };
        let (old, new) = (self.network.layout(), network.layout());
        map.copy(old, new, &before.parameters, &mut state.parameters);
        let buffers = descent.optimizer.moments();
        map.copy_moments((old, new), buffers, &before.moments, &mut state.moments);
        self.stepper = Stepper::new(descent, state, 0, Reads::EachStep);
        self.network = network;
        self.size_buffers();
    }
}

impl OnlineLearner for NetworkLearner {
    fn resume(
        &mut self,
        saved: &LearnerState,
        state: &[u8],
        classes: Vec<ScalarValue>,
    ) -> Result<()> {
        self.name_classes(classes);
        if self.spec.outputs == 1 && saved.outputs > 1 {
            self.spec.loss = Loss::Softmax;
        }
        self.features.restore(saved.running.as_ref())?;
        self.target = match (self.target, &saved.target) {
            (Some(_), Some(state)) => Some(RunningTarget::restore(state)),
            // A training that began with the raw target continues with it.
            (_, None) => None,
            (None, Some(_)) => return internal_err!("the checkpoint has another target"),
        };
        self.label_by_target();
        self.spec.outputs = saved.outputs;
        let network = Arc::new(self.spec.network(self.features.width(saved.capacity)));
        let descent = Arc::new((self.make_descent)(Arc::clone(&network)));
        let state = State::from_bytes(state, network.layout().len(), descent.moments())?;
        self.stepper = Stepper::new(descent, state, 0, Reads::EachStep);
        self.network = network;
        self.progressive = Progressive::restore(&saved.progressive);
        self.size_buffers();
        self.grow_inputs();
        Ok(())
    }

    fn save(&self) -> Result<(LearnerState, Vec<u8>)> {
        let saved = LearnerState {
            running: self.features.state(),
            capacity: self.network.width().categories,
            outputs: self.spec.outputs,
            progressive: self.progressive.state(),
            target: self.target.as_ref().map(RunningTarget::state),
            counts: (0, 0),
        };
        Ok((saved, self.stepper.state().to_bytes()))
    }

    fn progressive(&self) -> &Progressive {
        &self.progressive
    }

    fn counts(&self) -> (u64, u64) {
        (self.stepper.state().rows, self.stepper.state().steps)
    }

    fn is_finite(&self) -> bool {
        self.stepper.state().is_finite()
    }

    fn classes(&self) -> &[ScalarValue] {
        match &self.labels {
            Labels::Classes(classes) => classes,
            Labels::Numbers(_) | Labels::None => &[],
        }
    }

    fn name_classes(&mut self, classes: Vec<ScalarValue>) {
        if let Labels::Classes(own) = &mut self.labels {
            *own = classes;
        }
    }

    fn loss(&self) -> Option<Loss> {
        Some(self.spec.loss)
    }

    fn add_class(&mut self, class: ScalarValue) {
        let before = self.spec.outputs;
        if let Labels::Classes(classes) = &mut self.labels {
            classes.push(class);
        }
        let outputs: Vec<Option<usize>> = if before == 1 {
            self.spec.loss = Loss::Softmax;
            vec![None, Some(0), None]
        } else {
            (0..before).map(Some).chain([None]).collect()
        };
        self.spec.outputs = outputs.len();
        self.regrow(self.network.width(), None, Some(&outputs));
    }

    fn prepare(&mut self, columns: &[ArrayRef], rows: usize, out: &mut FeatureRows) -> Result<()> {
        self.features.read(columns, rows, out)
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn learn(
        &mut self,
        rows: &mut FeatureRows,
        range: Range<usize>,
        targets: Targets<'_>,
        weight: &[f32],
    ) -> Result<()> {
        let n = range.len();
        if self.features.update(rows, range.clone()) {
            self.grow_inputs();
        }
        let mut buffers = std::mem::take(&mut self.buffers);
        let (dense, codes) = self.features.encode(rows, range);
        let batch = MiniBatch { rows: n, dense, codes, weight, ..MiniBatch::default() };
        let scores = &mut buffers.scores[..n * self.spec.outputs];
        self.network.scores(&self.stepper.state().parameters, &batch, &mut self.scratch, scores);
        let label = match targets {
            Targets::None => return internal_err!("a network has a target"),
            Targets::Classes(label) => {
                self.progressive.add_classes(self.spec.loss, scores, label, weight);
                label
            }
            Targets::Numbers(numbers) => {
                let scale = self.label_scale();
                self.progressive.add_numbers(self.spec.loss, scores, numbers, scale, weight);
                // Rows are scored before the statistics and the weights see their targets.
                self.follow_target(numbers)?;
                let (mean, stddev) = self.label_scale();
                buffers.label.clear();
                buffers.label.extend(numbers.iter().map(|y| ((y - mean) / stddev) as f32));
                &buffers.label
            }
        };
        self.stepper.step(&MiniBatch { label, ..batch })?;
        self.buffers = buffers;
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let state = self.stepper.state();
        let (encoder, order) = self.features.snapshot()?;
        let d = encoder.width().dense;
        let inputs = order.map(|order| -> Vec<Option<usize>> {
            (0..d).chain(order.into_iter().map(|row| d + row)).map(Some).collect()
        });
        let mut labels = self.labels.clone();
        let mut outputs = None;
        if let (Labels::Classes(classes), true) = (&mut labels, self.spec.outputs > 1) {
            let mut order: Vec<usize> = (0..classes.len()).collect();
            order.sort_by(|a, b| {
                let (a, b) = (&classes[*a], &classes[*b]);
                a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)
            });
            *classes = order.iter().map(|class| classes[*class].clone()).collect();
            outputs = Some(order.into_iter().map(Some).collect::<Vec<Option<usize>>>());
        }
        let network = self.spec.network(encoder.width());
        let map = Reshape { inputs: inputs.as_deref(), outputs: outputs.as_deref() };
        let (old, new) = (self.network.layout(), network.layout());
        let mut parameters = vec![0.0; new.len()];
        map.copy(old, new, &state.parameters, &mut parameters);
        let optimizer = self.stepper.descent().optimizer;
        let mut moments = vec![0.0; optimizer.moment_values(new.len())];
        map.copy_moments((old, new), optimizer.moments(), &state.moments, &mut moments);
        Ok(Snapshot {
            encoder,
            labels,
            description: Arc::new(self.spec.clone()),
            parameters,
            moments,
            steps: state.steps,
        })
    }
}
