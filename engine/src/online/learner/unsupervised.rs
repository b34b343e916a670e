//! An algorithm without a target, whose inputs are encoded with the statistics of the rows so far.

use std::ops::Range;

use datafusion::arrow::array::ArrayRef;
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::{Labels, Loss, MiniBatch, OnlineEstimator, OnlineFit};

use super::{FeatureRows, Features, LearnerState, OnlineLearner, Snapshot, Targets};
use crate::online::progressive::Progressive;
use crate::table::Resources;

/// The model of an online training without a target.
#[derive(Debug)]
pub struct UnsupervisedLearner {
    features: Features,
    estimator: Box<dyn OnlineEstimator>,
    /// Categories that the estimator has inputs for.
    capacity: usize,
    /// Centers and divisors of the dense inputs, as the estimator knows them.
    scales: (Vec<f64>, Vec<f64>),
    progressive: Progressive,
    rows: u64,
    steps: u64,
    resources: Resources,
    reservation: MemoryReservation,
}

impl UnsupervisedLearner {
    /// Before the first row; `estimator` takes rows of the features' width.
    ///
    /// # Errors
    /// When memory does not suffice.
    pub fn new(
        features: Features,
        estimator: Box<dyn OnlineEstimator>,
        resources: Resources,
    ) -> Result<Self> {
        let capacity = features.width(0).categories;
        let mut learner = Self {
            features,
            estimator,
            capacity,
            scales: Default::default(),
            progressive: Progressive::default(),
            rows: 0,
            steps: 0,
            reservation: resources.reservation("online training"),
            resources,
        };
        learner.scales = learner.current_scales();
        learner.reserve()?;
        Ok(learner)
    }

    /// Reserves the memory that the estimator has grown to.
    fn reserve(&self) -> Result<()> {
        let more = self.estimator.bytes().saturating_sub(self.reservation.size());
        self.resources.reserve(&self.reservation, more, "what is learned from the stream")
    }

    /// Centers and divisors of the dense inputs now; empty with a fixed encoder.
    fn current_scales(&self) -> (Vec<f64>, Vec<f64>) {
        match &self.features {
            Features::Running(running) => {
                let (centers, divisors) = running.scales();
                (centers.to_vec(), divisors.to_vec())
            }
            Features::Fixed(_) => (vec![], vec![]),
        }
    }

    /// Passes changes of the scale of the inputs and new categories to the estimator.
    fn follow_features(&mut self) -> Result<()> {
        let (centers, divisors) = self.current_scales();
        let (old_centers, old_divisors) = &self.scales;
        if (&centers, &divisors) != (old_centers, old_divisors) {
            // x = (raw - center) / divisor, so raw = divisor x + center.
            let factor: Vec<f64> = old_divisors.iter().zip(&divisors).map(|(a, b)| a / b).collect();
            let shift = old_centers.iter().zip(&centers).zip(&divisors);
            let shift: Vec<f64> = shift.map(|((a, b), divisor)| (a - b) / divisor).collect();
            self.estimator.rescale(&factor, &shift);
            self.scales = (centers, divisors);
        }
        let wanted = self.features.width(0).categories;
        if wanted > self.capacity {
            // (A quarter more than there are, so that growth costs little.)
            self.capacity = wanted + wanted / 4 + 16;
            self.estimator.grow(self.capacity)?;
            self.reserve()?;
        }
        Ok(())
    }
}

impl OnlineLearner for UnsupervisedLearner {
    fn prepare(&mut self, columns: &[ArrayRef], rows: usize, out: &mut FeatureRows) -> Result<()> {
        self.features.read(columns, rows, out)
    }

    fn learn(
        &mut self,
        rows: &mut FeatureRows,
        range: Range<usize>,
        _targets: Targets<'_>,
        weight: &[f32],
    ) -> Result<()> {
        let n = range.len();
        if self.features.update(rows, range.clone()) {
            self.follow_features()?;
        }
        let (dense, codes) = self.features.encode(rows, range);
        let batch = MiniBatch { rows: n, dense, codes, weight, ..MiniBatch::default() };
        let (loss, weight) = self.estimator.learn(&batch)?;
        self.progressive.add_rows(n as u64, weight, loss);
        self.rows += n as u64;
        self.steps += 1;
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let (encoder, order) = self.features.snapshot()?;
        let order = order.unwrap_or_else(|| (0..encoder.width().categories).collect());
        let OnlineFit { description, parameters } = self.estimator.fitted(&order)?;
        Ok(Snapshot {
            encoder,
            labels: Labels::None,
            description,
            parameters,
            moments: vec![],
            steps: self.steps,
        })
    }

    fn is_ready(&self) -> bool {
        self.estimator.is_ready()
    }

    fn save(&self) -> Result<(LearnerState, Vec<u8>)> {
        let saved = LearnerState {
            running: self.features.state(),
            capacity: self.capacity,
            outputs: 0,
            progressive: self.progressive.state(),
            target: None,
            counts: (self.rows, self.steps),
        };
        Ok((saved, self.estimator.save()?))
    }

    fn resume(&mut self, saved: &LearnerState, state: &[u8], _: Vec<ScalarValue>) -> Result<()> {
        self.features.restore(saved.running.as_ref())?;
        self.scales = self.current_scales();
        self.capacity = saved.capacity;
        self.estimator.restore(state)?;
        self.reserve()?;
        self.progressive = Progressive::restore(&saved.progressive);
        (self.rows, self.steps) = saved.counts;
        Ok(())
    }

    fn progressive(&self) -> &Progressive {
        &self.progressive
    }

    fn counts(&self) -> (u64, u64) {
        (self.rows, self.steps)
    }

    fn is_finite(&self) -> bool {
        // (What it learns from is finite, and it averages.)
        true
    }

    fn loss(&self) -> Option<Loss> {
        None
    }
}
