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
use crate::estimator::record::{pack, unpack};
use crate::estimator::{OnlineEstimator, OnlineFit};
use crate::exact::{
    CovarianceSum, PassSum, ProjectionShape, ResidualSum, covariance_memory, projection,
};
use crate::model::Trained;
use crate::options::{Components, TrainOptions};

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
        if width.columns == 0 {
            check_inputs(wanted, width)?;
        }
        let n = width.inputs();
        check_most(n)?;
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
}

/// Refuses more inputs than a covariance matrix may have.
fn check_most(inputs: usize) -> Result<()> {
    if inputs > MOST_INPUTS {
        return plan_err!(
            "pca on a stream keeps the covariance matrix of its inputs, at most {MOST_INPUTS}, but \
             there are {inputs}; leave some out"
        );
    }
    Ok(())
}

/// For a stream of rows of this width.
///
/// # Errors
/// See [`OnlinePca::new`]; and when a model is continued.
pub(super) fn make(
    options: &TrainOptions,
    width: Width,
    parent: Option<&Trained>,
) -> Result<Box<dyn OnlineEstimator>> {
    if parent.is_some() {
        return plan_err!(
            "a pca cannot be continued: its components do not hold the sums of its rows"
        );
    }
    Ok(Box::new(OnlinePca::new(width, options.components, options.whiten)?))
}

impl OnlineEstimator for OnlinePca {
    fn rescale(&mut self, factor: &[f64], shift: &[f64]) {
        self.sum.rescale(factor, shift);
        // (The loss is measured by components that are some rows old anyway, so that it is enough
        // to move their mean.)
        for ((mean, factor), shift) in self.current.iter_mut().zip(factor).zip(shift) {
            *mean = factor * *mean + shift;
        }
    }

    fn grow(&mut self, categories: usize) -> Result<()> {
        let before = self.width.inputs();
        check_most(self.width.dense + categories)?;
        self.width.categories = categories;
        self.sum.grow(categories);
        let n = self.width.inputs();
        let mean = self.current[..before].iter().copied().chain(vec![0.0; n - before]);
        let basis = &self.current[before..before + before * self.components];
        let vectors = (0..self.components).flat_map(|j| {
            let own = basis.iter().skip(j).step_by(self.components.max(1)).copied();
            own.chain(vec![0.0; n - before])
        });
        self.current =
            projection(self.width, &mean.collect::<Vec<_>>(), &vectors.collect::<Vec<_>>());
        Ok(())
    }

    fn learn(&mut self, rows: &MiniBatch<'_>) -> Result<(f64, f64)> {
        let shape = ProjectionShape { width: self.width, vectors: self.components };
        let is_known = self.components > 0;
        let mut before = ResidualSum::empty(shape, Default::default())?;
        before.add(&self.current, rows)?;
        self.sum.update(rows)?;
        if self.rows() >= self.due {
            self.refresh()?;
        }
        // (The first rows have neither components nor a scale yet.)
        Ok(if is_known { (before.residual, before.weight) } else { (0.0, 0.0) })
    }

    fn is_ready(&self) -> bool {
        let enough = match self.wanted {
            Components::Count(count) => (count as u64).max(2),
            Components::Auto | Components::Share(_) => 2,
        };
        self.rows() >= enough && self.sum.has_variance()
    }

    fn fitted(&self, categories: &[usize]) -> Result<OnlineFit> {
        let covariance = self.sum.covariance()?.ordered(self.width.dense, categories);
        let found = Spectrum::of_covariance(covariance, self.wanted)?;
        let components = Some(found.components());
        Ok(OnlineFit {
            parameters: found.parameters()?,
            description: Arc::new(PcaDescription { components, whiten: self.whiten }),
        })
    }

    fn bytes(&self) -> usize {
        // The sums, the matrix and its eigenvectors.
        let n = self.width.inputs();
        2 * covariance_memory(self.width) + 3 * size_of::<f64>() * n * n
    }

    fn save(&self) -> Result<Vec<u8>> {
        let header = Header { components: self.components, due: self.due };
        pack(&header, &[&self.sum.to_bytes(), &bytes_of(&self.current)])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (Header { components, due }, parts) = unpack::<Header>(bytes)?;
        let [sum, current] = parts.as_slice() else {
            return exec_err!("the state of a pca is damaged: it has {} parts", parts.len());
        };
        let (sum, current) = (CovarianceSum::from_bytes(sum)?, numbers_of(current)?);
        let width = sum.width();
        if (width.dense, width.columns) != (self.width.dense, self.width.columns) {
            return exec_err!(
                "the state of a pca is of rows of {width:?}, but these are of {:?}",
                self.width
            );
        }
        *self = Self { width, sum, current, components, due, ..self.clone() };
        Ok(())
    }
}
