//! The training of clusters between two passes over the rows.
//!
//! ```text
//!   starting ──► rounds of Lloyd ──► next start ──► ... ──► measuring ──► evaluating ──► done
//!                                                           (the best)
//! ```

use std::sync::Arc;
use std::time::Duration;

use datafusion_common::{Result, exec_err, internal_err};
use serde::{Deserialize, Serialize};

use super::centroids::{Centroids, normalise};
use super::description::{self, KmeansSpec};
use super::lloyd::{LloydPass, LloydSums};
use super::points::{narrowed, widened};
use super::round::{PassOver, Sums};
use super::start::{StartSettings, Starting};
use super::step::step;
use crate::algorithms::{Method, Setup};
use crate::estimator::record::milliseconds;
use crate::estimator::{Estimator, Fitted, Next, Request, RoundRows};
use crate::model::HistoryEntry;
use crate::options::Distance;
use crate::round::{Interrupt, Progress, Round};

/// Numbers of centroids up to which a step takes less time than handing it to another thread.
const QUICK: usize = 1 << 12;
/// Movement, as a part of the variance, that rounding alone may make: inputs are float32.
const ROUNDING: f64 = 1e-13;

/// Settings of a training.
#[derive(Clone, Debug)]
pub(super) struct KmeansSettings {
    pub(super) start: StartSettings,
    /// Starts.
    pub(super) restarts: u64,
    /// Rounds of a start at most.
    pub(super) rounds: u64,
    /// Squared movement in mean variances of the inputs up to which a start has converged.
    pub(super) tolerance: f64,
    /// Training rows.
    pub(super) rows: u64,
    /// Whether there are evaluation rows.
    pub(super) has_evaluation: bool,
}

/// What the next pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Starting,
    Lloyd,
    Measuring,
    Evaluating,
    Done,
}

/// Centroids with their loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    /// `[k, d + t]`
    pub(super) centroids: Vec<f64>,
    /// `[k]`: sums of weights of their rows.
    pub(super) counts: Vec<f64>,
    /// Weighted mean squared distance, or an upper bound of it.
    pub(super) loss: f64,
    /// Whether loss and counts are those of exactly these centroids.
    pub(super) is_exact: bool,
    pub(super) has_converged: bool,
}

/// k-means as an estimator.
#[derive(Debug)]
pub(super) struct KmeansEstimator {
    settings: KmeansSettings,
    interrupt: Arc<Interrupt>,
    progress: Arc<Progress>,
    pub(super) phase: Phase,
    /// Number of the start, and rounds that it made.
    pub(super) restart: u64,
    pub(super) round: u64,
    pub(super) starting: Starting,
    /// The result of the last round of this start; before its first round, the first centroids.
    pub(super) current: Found,
    /// The best result of the starts before.
    pub(super) best: Option<Found>,
    pub(super) history: Vec<HistoryEntry>,
    /// Time since the last round.
    pub(super) elapsed: Duration,
    pub(super) eval_loss: Option<f64>,
    /// The prepared centroids of the next pass.
    prepared: Option<Arc<Centroids>>,
    is_stopped: bool,
}

/// The estimator for prepared rows.
///
/// # Errors
/// When an option does not go with a table, or the model to continue has another shape.
pub(super) fn make(setup: &Setup<'_>) -> Result<Box<dyn Estimator>> {
    let (options, width) = (setup.options, setup.width());
    if setup.plan.method != Method::Lloyd {
        return internal_err!("clusters are not found by {}", setup.plan.method.name());
    }
    let KmeansSpec { k, distance } = description::read(&setup.description.to_json())?;
    let settings = KmeansSettings {
        start: StartSettings {
            width,
            k,
            distance,
            init: options.init,
            seed: options.seed,
            rows: setup.rows,
        },
        restarts: options.restarts,
        rounds: options.epochs,
        tolerance: options.tolerance,
        rows: setup.rows,
        has_evaluation: setup.has_evaluation,
    };
    let interrupt = Arc::clone(&setup.interrupt);
    let Some(parent) = setup.parent else {
        return Ok(Box::new(KmeansEstimator::new(settings, interrupt)));
    };
    let (centroids, _) = KmeansSpec { k, distance }.split(&parent.parameters, width)?;
    let centroids = widened(centroids);
    Ok(Box::new(KmeansEstimator::from_centroids(settings, interrupt, centroids)))
}

impl KmeansEstimator {
    /// Before the first pass.
    pub(super) fn new(settings: KmeansSettings, interrupt: Arc<Interrupt>) -> Self {
        Self {
            starting: Starting::new(settings.start, 0),
            settings,
            interrupt,
            progress: Arc::default(),
            phase: Phase::Starting,
            restart: 0,
            round: 0,
            current: Found::default(),
            best: None,
            history: vec![],
            elapsed: Duration::ZERO,
            eval_loss: None,
            prepared: None,
            is_stopped: false,
        }
    }

    /// With one start from these centroids `[k, d + t]`.
    pub(super) fn from_centroids(
        settings: KmeansSettings,
        interrupt: Arc<Interrupt>,
        mut centroids: Vec<f64>,
    ) -> Self {
        if settings.start.distance == Distance::Cosine {
            normalise(&mut centroids, settings.start.width.inputs());
        }
        let mut own = Self::new(KmeansSettings { restarts: 1, ..settings }, interrupt);
        own.begin(centroids);
        own
    }

    pub(super) fn settings(&self) -> &KmeansSettings {
        &self.settings
    }

    /// Begins the rounds of a start.
    fn begin(&mut self, centroids: Vec<f64>) {
        let counts = vec![0.0; self.settings.start.k];
        let loss = f64::INFINITY;
        self.current = Found { centroids, counts, loss, is_exact: false, has_converged: false };
        self.round = 0;
        self.phase = Phase::Lloyd;
        self.prepared = None;
    }

    /// The round that assigns rows to the current centroids.
    fn lloyd(&mut self, keeps_far: bool) -> Arc<dyn Round> {
        let StartSettings { width, distance, .. } = self.settings.start;
        let current = &self.current.centroids;
        let new = || Arc::new(Centroids::new(width, distance, current));
        let centroids = Arc::clone(self.prepared.get_or_insert_with(new));
        let pass = Arc::new(LloydPass { centroids, keeps_far });
        Arc::new(PassOver { pass, interrupt: Arc::clone(&self.interrupt) })
    }

    /// Ends the start; begins the next one, or ends the starts with the best as the current one.
    fn end_start(&mut self) {
        if self.round > 0 {
            let is_better = self.best.as_ref().is_none_or(|best| self.current.loss < best.loss);
            if is_better {
                self.best = Some(std::mem::take(&mut self.current));
            }
        }
        self.prepared = None;
        self.restart += 1;
        if self.restart < self.settings.restarts && !self.is_stopped {
            self.starting = Starting::new(self.settings.start, self.restart);
            self.phase = Phase::Starting;
            return;
        }
        self.current = self.best.take().unwrap_or_default();
        self.phase = match self.current.is_exact || self.is_stopped {
            true => self.after_measuring(),
            false => Phase::Measuring,
        };
    }

    fn after_measuring(&self) -> Phase {
        if self.settings.has_evaluation { Phase::Evaluating } else { Phase::Done }
    }

    /// Takes the sums of a round of Lloyd.
    fn take_round(&mut self, sums: &LloydSums) -> Result<HistoryEntry> {
        let Some(used) = self.prepared.take() else {
            return internal_err!("a round of kmeans ended that was not begun");
        };
        let step = step(sums, &used, &self.current.centroids)?;
        self.round += 1;
        let rest = self.settings.tolerance.max(ROUNDING) * step.variance;
        let has_converged = !step.is_relocated && step.movement <= rest;
        self.current = Found {
            centroids: step.centroids,
            counts: step.counts,
            loss: step.next_loss,
            is_exact: !step.is_relocated && step.movement == 0.0,
            has_converged,
        };
        let entry = HistoryEntry {
            epoch: self.history.len() as u64 + 1,
            loss: step.loss,
            eval_loss: None,
            learning_rate: f64::NAN,
            rows: self.settings.rows,
            duration_ms: milliseconds(std::mem::take(&mut self.elapsed)),
        };
        self.history.push(entry.clone());
        if has_converged || self.round >= self.settings.rounds {
            self.end_start();
        }
        Ok(entry)
    }

    /// The warning about how the training ended.
    fn warning(&self) -> Option<String> {
        let rounds = plural(self.history.len() as u64);
        match self.current.has_converged {
            true if self.restart < self.settings.restarts && self.is_stopped => Some(format!(
                "max_seconds is used up: kmeans stopped after {rounds}, in start {} of {}",
                self.restart, self.settings.restarts
            )),
            true => None,
            false if self.is_stopped => Some(format!(
                "max_seconds is used up: kmeans stopped after {rounds}, before the centroids came \
                 to rest"
            )),
            false => Some(format!("kmeans did not converge in {}", plural(self.settings.rounds))),
        }
    }
}

impl Estimator for KmeansEstimator {
    fn next(&mut self) -> Result<Next> {
        let has_result = self.best.is_some() || self.round > 0;
        let may_end = matches!(self.phase, Phase::Starting | Phase::Lloyd) && has_result;
        if self.is_stopped && may_end {
            self.end_start();
        }
        if self.is_stopped && self.phase == Phase::Measuring {
            self.phase = self.after_measuring();
        }
        let (round, rows, name) = match self.phase {
            Phase::Starting => {
                if self.is_stopped {
                    self.starting.hurry();
                }
                let name = format!("start/{}/{}", self.restart, self.starting.passes);
                let name = name + if self.starting.is_weighing { "/weights" } else { "" };
                (self.starting.round(&self.interrupt), RoundRows::Training, name)
            }
            Phase::Lloyd => {
                let name = format!("lloyd/{}/{}", self.restart, self.round);
                (self.lloyd(true), RoundRows::Training, name)
            }
            Phase::Measuring => (self.lloyd(false), RoundRows::Training, "measure".to_owned()),
            Phase::Evaluating => (self.lloyd(false), RoundRows::Evaluation, "eval".to_owned()),
            Phase::Done => return Ok(Next::Done),
        };
        Ok(Next::Run(Request { round, rows, name }))
    }

    fn take(&mut self, result: Vec<u8>, elapsed: Duration) -> Result<Option<HistoryEntry>> {
        self.elapsed += elapsed;
        match self.phase {
            Phase::Starting => {
                if let Some(centroids) = self.starting.take(&result)? {
                    self.begin(centroids);
                }
                Ok(None)
            }
            Phase::Lloyd => self.take_round(&LloydSums::from_bytes(&result)?).map(Some),
            Phase::Measuring => {
                let sums = LloydSums::from_bytes(&result)?;
                self.current.loss = sums.loss / sums.weight;
                self.current.counts = sums.weights;
                self.current.is_exact = true;
                self.phase = self.after_measuring();
                Ok(None)
            }
            Phase::Evaluating => {
                let sums = LloydSums::from_bytes(&result)?;
                let loss = sums.loss / sums.weight;
                self.eval_loss = Some(loss);
                if let Some(last) = self.history.last_mut() {
                    last.eval_loss = Some(loss);
                }
                self.phase = Phase::Done;
                Ok(None)
            }
            Phase::Done => exec_err!("kmeans has finished, but a round was given to it"),
        }
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    fn is_quick(&self) -> bool {
        let StartSettings { width, k, .. } = self.settings.start;
        self.phase != Phase::Starting && k * width.inputs() <= QUICK
    }

    fn bytes(&self) -> usize {
        let StartSettings { width, k, .. } = self.settings.start;
        // Centroids, sums and the best; candidates of a start, ready for blocks.
        6 * 8 * k * (width.inputs() + 1) + Centroids::bytes(width, 5 * k)
    }

    fn save(&self) -> Result<Vec<u8>> {
        super::saved::save(self)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.prepared = None;
        super::saved::restore(self, bytes)
    }

    fn finish(self: Box<Self>) -> Result<Fitted> {
        let warning = self.warning();
        let mut parameters = narrowed(&self.current.centroids);
        parameters.extend(narrowed(&self.current.counts));
        Ok(Fitted {
            parameters,
            moments: vec![],
            steps: self.history.len() as u64,
            history: self.history,
            loss: self.current.loss,
            eval_loss: self.eval_loss,
            warning,
            description: None,
        })
    }
}

fn plural(rounds: u64) -> String {
    if rounds == 1 { "1 round".to_owned() } else { format!("{rounds} rounds") }
}
