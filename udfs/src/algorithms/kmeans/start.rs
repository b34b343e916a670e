//! The first centroids of a start: passes that sample rows.

use std::sync::Arc;

use datafusion_common::{Result, plan_err};

use super::centroids::Centroids;
use super::lloyd::{LloydPass, LloydSums};
use super::points::Points;
use super::round::{PassOver, Sums};
use super::sample::{SamplePass, SampleSums};
use super::seeding::plus_plus;
use crate::batch::Width;
use crate::kernels::rng::mix;
use crate::options::{Distance, Init};
use crate::round::{Interrupt, Round};

/// Passes of k-means|| that sample rows by their distance, and rows of each of them per cluster:
/// with these, Spark's k-means|| comes to the same potential as more passes do.
const PASSES: u64 = 2;
const ROWS_PER_CLUSTER: usize = 2;
/// Rows up to which a pass chooses all of them: k-means++ among all rows ends in a bad minimum less
/// often, and costs little where they are few.
const FEW_ROWS: u64 = 2048;
/// Stream of the random numbers.
const STREAM: u64 = 0x6b6d_6561_6e73;

/// What all starts of a training have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartSettings {
    pub(super) width: Width,
    pub(super) k: usize,
    pub(super) distance: Distance,
    pub(super) init: Init,
    pub(super) seed: u64,
    /// Training rows.
    pub(super) rows: u64,
}

/// The choice of the first centroids, between two passes.
#[derive(Clone, Debug)]
pub(super) struct Starting {
    settings: StartSettings,
    restart: u64,
    /// Passes made.
    pub(super) passes: u64,
    /// Rows chosen so far.
    pub(super) chosen: Points,
    /// Whether the next pass weighs the chosen rows.
    pub(super) is_weighing: bool,
}

impl Starting {
    /// Before the first pass of a start.
    pub(super) fn new(settings: StartSettings, restart: u64) -> Self {
        let chosen = Points::new(settings.width);
        Self { settings, restart, passes: 0, chosen, is_weighing: false }
    }

    fn key(&self, purpose: u64) -> u64 {
        mix(self.settings.seed, STREAM ^ self.restart, purpose)
    }

    /// Ends with the next pass: any rows are the first centroids.
    pub(super) fn hurry(&mut self) {
        self.settings.init = Init::Random;
        self.chosen = Points::new(self.settings.width);
        self.is_weighing = false;
    }

    /// The next pass.
    pub(super) fn round(&self, interrupt: &Arc<Interrupt>) -> Arc<dyn Round> {
        let StartSettings { width, k, distance, init, rows, .. } = self.settings;
        let interrupt = Arc::clone(interrupt);
        let centroids = (self.chosen.len() > 0)
            .then(|| Arc::new(Centroids::new(width, distance, &self.chosen.expanded())));
        if let (true, Some(centroids)) = (self.is_weighing, &centroids) {
            let pass = LloydPass { centroids: Arc::clone(centroids), keeps_far: false };
            return Arc::new(PassOver { pass: Arc::new(pass), interrupt });
        }
        let size = match (init, self.passes) {
            (Init::Random, _) => k,
            (Init::PlusPlus, _) | (Init::Scalable, 0) => 1,
            (Init::Scalable, _) if rows <= FEW_ROWS => (ROWS_PER_CLUSTER * k).max(rows as usize),
            (Init::Scalable, _) => ROWS_PER_CLUSTER * k,
        };
        let key = self.key(self.passes);
        let pass = SamplePass { width, distance, centroids, size, key };
        Arc::new(PassOver { pass: Arc::new(pass), interrupt })
    }

    /// Takes the sums of the pass. Returns the centroids `[k, d + t]` once they are chosen.
    ///
    /// # Errors
    /// When there are fewer distinct rows than centroids.
    pub(super) fn take(&mut self, sums: &[u8]) -> Result<Option<Vec<f64>>> {
        let StartSettings { k, distance, init, .. } = self.settings;
        if self.is_weighing {
            let weights = LloydSums::from_bytes(sums)?.weights;
            let own = plus_plus(&self.chosen, &weights, distance, k, self.key(u64::MAX));
            if own.len() < k {
                return too_few(k, own.len());
            }
            let mut centroids = vec![];
            own.iter().for_each(|i| self.chosen.expand(*i, &mut centroids));
            return Ok(Some(centroids));
        }
        let sums = SampleSums::from_bytes(sums)?;
        if sums.rows == 0 {
            return plan_err!("there is no row with a weight to make clusters of");
        }
        self.passes += 1;
        self.chosen.append(&sums.kept.points());
        let is_last = match init {
            Init::Random => true,
            Init::PlusPlus => self.chosen.len() >= k,
            Init::Scalable => self.passes > PASSES && self.chosen.len() >= k,
        };
        // (A pass that finds no row has no row left that is not chosen.)
        if (is_last || sums.kept.len() == 0) && self.chosen.len() < k {
            return too_few(k, self.chosen.len());
        }
        if self.chosen.len() == k && (is_last || sums.kept.len() == 0) {
            return Ok(Some(self.chosen.expanded()));
        }
        self.is_weighing = is_last || sums.kept.len() == 0;
        Ok(None)
    }
}

/// The error of too few rows.
pub(super) fn too_few<T>(k: usize, distinct: usize) -> Result<T> {
    match distinct {
        1 => plan_err!("k is {k}, but there is only 1 distinct row"),
        n => plan_err!("k is {k}, but there are only {n} distinct rows"),
    }
}
