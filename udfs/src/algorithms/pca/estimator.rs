//! Principal components as an estimator: passes over the training rows, then the evaluation rows.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use datafusion_common::{Result, exec_err, internal_err};
use serde::{Deserialize, Serialize};

use super::PcaDescription;
use super::spectrum::Spectrum;
use crate::batch::Width;
use crate::estimator::record::{Bits, HistoryBits, milliseconds, pack, unpack};
use crate::estimator::{Estimator, Fitted, Next, Request, RoundRows};
use crate::exact::{PassSum, ProjectionShape, ResidualSum, projection};
use crate::model::HistoryEntry;
use crate::round::{Interrupt, PassRound, Progress};

/// Inputs up to which an eigenvalue decomposition takes less time than handing it to a thread.
const QUICK_INPUTS: usize = 16;

/// A way to find principal components, between two passes over the rows.
pub trait Finder: Debug + Send + Sync {
    /// The request of the next pass; called before they are found.
    fn pass(&self) -> Request;

    /// Takes the sums of the pass.
    ///
    /// # Errors
    /// When the rows have no such components.
    fn take(&mut self, sums: &[u8]) -> Result<()>;

    /// Asks it to end as soon as it has any components.
    fn stop(&mut self);

    /// The components, once they are final.
    fn found(&self) -> Option<&Spectrum>;

    /// Passes that found or improved them.
    fn passes(&self) -> u64;

    /// Bytes that it allocates between passes.
    fn bytes(&self) -> usize;

    /// Its state.
    ///
    /// # Errors
    /// Never in practice.
    fn save(&self) -> Result<Vec<u8>>;

    /// Continues from a saved state.
    ///
    /// # Errors
    /// When the bytes are damaged.
    fn restore(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Settings of every way.
#[derive(Clone, Debug)]
pub struct PcaSettings {
    /// Width of the rows.
    pub width: Width,
    /// Whether scores are divided by their standard deviation.
    pub whiten: bool,
    /// Training rows.
    pub rows: u64,
    /// Whether there are evaluation rows.
    pub has_evaluation: bool,
    /// Ends the rounds early.
    pub interrupt: Arc<Interrupt>,
}

/// A running search for principal components.
#[derive(Debug)]
pub struct PcaEstimator {
    settings: PcaSettings,
    finder: Box<dyn Finder>,
    progress: Arc<Progress>,
    /// One line, once the components are found.
    history: Vec<HistoryEntry>,
    elapsed: Duration,
    eval_loss: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    history: Vec<HistoryBits>,
    elapsed_ms: u64,
    eval_loss: Option<Bits>,
}

impl PcaEstimator {
    /// An estimator before the first pass.
    pub fn new(settings: PcaSettings, finder: Box<dyn Finder>) -> Self {
        Self {
            settings,
            finder,
            progress: Arc::default(),
            history: vec![],
            elapsed: Duration::ZERO,
            eval_loss: None,
        }
    }

    /// The pass over the evaluation rows.
    fn evaluation(&self, found: &Spectrum) -> Request {
        let width = self.settings.width;
        let round = PassRound::<ResidualSum> {
            shape: ProjectionShape { width, vectors: found.components() },
            parameters: Arc::new(projection(width, &found.mean, &found.vectors)),
            buffers: Arc::default(),
            interrupt: Arc::clone(&self.settings.interrupt),
        };
        let name = "eval".to_owned();
        Request { round: Arc::new(round), rows: RoundRows::Evaluation, name }
    }
}

impl Estimator for PcaEstimator {
    fn next(&mut self) -> Result<Next> {
        let Some(found) = self.finder.found() else { return Ok(Next::Run(self.finder.pass())) };
        match self.settings.has_evaluation && self.eval_loss.is_none() {
            true => Ok(Next::Run(self.evaluation(found))),
            false => Ok(Next::Done),
        }
    }

    fn take(&mut self, result: Vec<u8>, elapsed: Duration) -> Result<Option<HistoryEntry>> {
        if self.finder.found().is_some() {
            let sum = ResidualSum::from_bytes(&result)?;
            let loss = sum.residual / sum.weight;
            self.eval_loss = Some(loss);
            if let Some(last) = self.history.last_mut() {
                last.eval_loss = Some(loss);
            }
            return Ok(None);
        }
        self.elapsed += elapsed;
        self.finder.take(&result)?;
        let Some(found) = self.finder.found() else { return Ok(None) };
        let entry = HistoryEntry {
            epoch: 1,
            loss: found.loss(),
            eval_loss: None,
            learning_rate: f64::NAN,
            rows: self.settings.rows,
            duration_ms: milliseconds(std::mem::take(&mut self.elapsed)),
        };
        self.history.push(entry.clone());
        Ok(Some(entry))
    }

    fn stop(&mut self) {
        self.finder.stop();
    }

    fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    fn is_quick(&self) -> bool {
        self.settings.width.inputs() <= QUICK_INPUTS
    }

    fn bytes(&self) -> usize {
        self.finder.bytes()
    }

    fn save(&self) -> Result<Vec<u8>> {
        let header = Header {
            history: HistoryBits::of(&self.history),
            elapsed_ms: milliseconds(self.elapsed),
            eval_loss: self.eval_loss.map(Into::into),
        };
        pack(&header, &[&self.finder.save()?])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (header, parts) = unpack::<Header>(bytes)?;
        let [finder] = parts.as_slice() else {
            return exec_err!("the state of a pca is damaged: it has {} parts", parts.len());
        };
        self.finder.restore(finder)?;
        if self.finder.found().is_some_and(|f| f.mean.len() != self.settings.width.inputs()) {
            return exec_err!("the state of a pca is of a training with other inputs");
        }
        self.history = HistoryBits::history(header.history);
        self.elapsed = Duration::from_millis(header.elapsed_ms);
        self.eval_loss = header.eval_loss.map(f64::from);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Fitted> {
        let Some(found) = self.finder.found() else {
            return internal_err!("a pca was finished before its components were found");
        };
        let description =
            PcaDescription { components: Some(found.components()), whiten: self.settings.whiten };
        Ok(Fitted {
            parameters: found.parameters()?,
            moments: vec![],
            steps: self.finder.passes(),
            loss: found.loss(),
            eval_loss: self.eval_loss,
            history: self.history,
            warning: None,
            description: Some(Arc::new(description)),
        })
    }
}
