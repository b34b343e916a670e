//! Principal components by the covariance matrix: one pass, one eigenvalue decomposition.

use std::sync::Arc;

use datafusion_common::Result;

use super::estimator::Finder;
use super::spectrum::Spectrum;
use crate::batch::Width;
use crate::estimator::{Request, RoundRows};
use crate::exact::{CovarianceSum, PassSum, covariance_memory};
use crate::options::Components;
use crate::round::{Interrupt, PassRound};

/// The covariance matrix and its eigenvectors.
#[derive(Debug)]
pub struct CovarianceFinder {
    width: Width,
    wanted: Components,
    interrupt: Arc<Interrupt>,
    found: Option<Spectrum>,
}

impl CovarianceFinder {
    /// A finder before the pass.
    pub fn new(width: Width, wanted: Components, interrupt: Arc<Interrupt>) -> Self {
        Self { width, wanted, interrupt, found: None }
    }
}

impl Finder for CovarianceFinder {
    fn pass(&self) -> Request {
        let round = PassRound::<CovarianceSum> {
            shape: self.width,
            parameters: Arc::default(),
            buffers: Arc::default(),
            interrupt: Arc::clone(&self.interrupt),
        };
        let name = "covariance".to_owned();
        Request { round: Arc::new(round), rows: RoundRows::Training, name }
    }

    fn take(&mut self, sums: &[u8]) -> Result<()> {
        let covariance = CovarianceSum::from_bytes(sums)?.covariance()?;
        self.found = Some(Spectrum::of_covariance(covariance, self.wanted)?);
        Ok(())
    }

    fn stop(&mut self) {}

    fn found(&self) -> Option<&Spectrum> {
        self.found.as_ref()
    }

    fn passes(&self) -> u64 {
        u64::from(self.found.is_some())
    }

    fn bytes(&self) -> usize {
        4 * covariance_memory(self.width)
    }

    /// The components; empty before the pass.
    fn save(&self) -> Result<Vec<u8>> {
        self.found.as_ref().map_or(Ok(vec![]), Spectrum::to_bytes)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.found = match bytes {
            [] => None,
            bytes => Some(Spectrum::from_bytes(bytes)?),
        };
        Ok(())
    }
}
