//! Principal components of a stream: the covariance matrix of the rows so far.
//!
//! Sums over mini-batches equal the sums over a table of the same rows, so a stream finds what the
//! table would, whatever the mini-batches are. (Updates of the components alone, as in Ross et al.
//! 2008, forget the directions that they leave out.)

use std::sync::Arc;

use datafusion_common::{Result, exec_err, plan_err};
use serde::{Deserialize, Serialize};

use super::spectrum::{Spectrum, bytes_of, numbers_of};
use super::{PcaDescription, check_inputs};
use crate::batch::{MiniBatch, Width};
use crate::description::Description;
use crate::estimator::record::{pack, unpack};
use crate::exact::{
    CovarianceSum, PassSum, ProjectionShape, ResidualSum, covariance_memory, projection,
};
use crate::options::Components;

/// Inputs at most: the matrix then takes 34 MB, and a mini-batch of 1,000 rows a tenth of a second.
const MOST_INPUTS: usize = 2048;
/// New rows, for each input, before the components by which the loss is measured are found again:
/// that takes about as many operations as adding the rows.
const ROWS_PER_INPUT: u64 = 8;

/// Principal components of the rows so far.
#[derive(Clone, Debug)]
pub struct OnlinePca {
    width: Width,
    wanted: Components,
    whiten: bool,
    sum: CovarianceSum,
    /// The projection by which the loss is measured, some rows old: see [`projection`].
    current: Vec<f64>,
    /// Its number of components.
    components: usize,
    /// The number of rows at which it is found again.
    due: u64,
}

/// What an [`OnlinePca`] has found.
#[derive(Clone, Debug)]
pub struct PcaFit {
    /// Flat parameters in the layout of the description.
    pub parameters: Vec<f32>,
    /// What they mean.
    pub description: Arc<dyn Description>,
    /// Mean squared distance of the rows so far from the space of the components.
    pub loss: f64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    components: usize,
    due: u64,
}

impl OnlinePca {
    /// Of no row.
    ///
    /// # Errors
    /// When there are more components than inputs, or too many inputs.
    pub fn new(width: Width, wanted: Components, whiten: bool) -> Result<Self> {
        check_inputs(wanted, width)?;
        let n = width.inputs();
        if n > MOST_INPUTS {
            return plan_err!(
                "pca on a stream keeps the covariance matrix of its inputs, at most {MOST_INPUTS}, \
                 but there are {n}; leave some out"
            );
        }
        Ok(Self {
            width,
            wanted,
            whiten,
            sum: CovarianceSum::new(width),
            current: projection(width, &vec![0.0; n], &[]),
            components: 0,
            due: ROWS_PER_INPUT * n as u64,
        })
    }

    /// Rows with a weight so far.
    pub fn rows(&self) -> u64 {
        self.sum.rows()
    }

    /// Bytes that it allocates.
    pub fn bytes(&self) -> usize {
        2 * covariance_memory(self.width)
    }

    /// Adds the rows. Returns the weighted sum of their squared distances from the space of the
    /// components that were known before (at first of the origin), and the sum of their weights.
    ///
    /// # Errors
    /// When the rows are of another shape or a weight is negative or not finite.
    pub fn learn(&mut self, rows: &MiniBatch<'_>) -> Result<(f64, f64)> {
        let shape = ProjectionShape { width: self.width, vectors: self.components };
        let mut before = ResidualSum::empty(shape, Default::default())?;
        before.add(&self.current, rows)?;
        self.sum.update(rows)?;
        if self.rows() >= self.due {
            self.refresh()?;
        }
        Ok((before.residual, before.weight))
    }

    /// Whether there are rows that differ and at least as many as components, so that
    /// [`Self::fitted`] has a result.
    pub fn is_ready(&self) -> bool {
        let enough = match self.wanted {
            Components::Count(count) => (count as u64).max(2),
            Components::Auto | Components::Share(_) => 2,
        };
        self.rows() >= enough && self.sum.has_variance()
    }

    /// Finds the components of the rows so far, the same as those of a table of these rows.
    ///
    /// # Errors
    /// When there are too few rows, or they are all equal.
    pub fn fitted(&self) -> Result<PcaFit> {
        let found = self.find()?;
        let components = Some(found.components());
        Ok(PcaFit {
            parameters: found.parameters(),
            description: Arc::new(PcaDescription { components, whiten: self.whiten }),
            loss: found.loss(),
        })
    }

    fn find(&self) -> Result<Spectrum> {
        Spectrum::of_covariance(self.sum.covariance()?, self.wanted)
    }

    fn refresh(&mut self) -> Result<()> {
        if self.is_ready() {
            let found = self.find()?;
            self.components = found.components();
            self.current = projection(self.width, &found.mean, &found.vectors);
        }
        let fresh = ROWS_PER_INPUT * self.width.inputs() as u64;
        self.due = self.rows() + (self.rows() / 4).max(fresh);
        Ok(())
    }

    /// The bytes with which [`Self::from_bytes`] continues as if nothing had happened, bit for bit.
    ///
    /// # Errors
    /// Never in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let header = Header { components: self.components, due: self.due };
        pack(&header, &[&self.sum.to_bytes(), &bytes_of(&self.current)])
    }

    /// Continues from the bytes of an analysis of the same width and options.
    ///
    /// # Errors
    /// When the bytes are damaged or of another width.
    pub fn from_bytes(
        width: Width,
        wanted: Components,
        whiten: bool,
        bytes: &[u8],
    ) -> Result<Self> {
        let (Header { components, due }, parts) = unpack::<Header>(bytes)?;
        let [sum, current] = parts.as_slice() else {
            return exec_err!("the state of a pca is damaged: it has {} parts", parts.len());
        };
        let (sum, current) = (CovarianceSum::from_bytes(sum)?, numbers_of(current)?);
        if sum.width() != width {
            return exec_err!(
                "the state of a pca is of rows of {:?}, but these are of {width:?}",
                sum.width()
            );
        }
        Ok(Self { sum, current, components, due, ..Self::new(width, wanted, whiten)? })
    }
}
