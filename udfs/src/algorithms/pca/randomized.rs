//! The first principal components by random projections (Halko, Martinsson and Tropp 2011): power
//! iterations of a random subspace, without the covariance matrix.
//!
//! ```text
//!   mean ──► Q ──pass──► C Q ──Rayleigh-Ritz──► components
//!            └───────────── orthonormal ◄────────┘ until they change no more
//! ```

use std::sync::Arc;

use datafusion_common::{Result, exec_err, internal_err};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use serde::{Deserialize, Serialize};

use super::estimator::Finder;
use super::spectrum::{Spectrum, bytes_of, count, numbers_of};
use crate::batch::Width;
use crate::estimator::record::{pack, unpack};
use crate::estimator::{Request, RoundRows};
use crate::exact::{
    PassSum, ProjectionShape, Spread, SpreadSum, SubspaceSum, eigen, orthonormalize, projection,
};
use crate::kernels::rng::mix;
use crate::options::Components;
use crate::round::{Buffers, Interrupt, PassRound};

/// Vectors beside the wanted ones.
const OVERSAMPLING: usize = 10;
/// Passes over the rows at most: the first one, and seven power iterations, as scikit-learn has
/// them for few components.
const MOST_PASSES: u64 = 8;
/// Residual `|C v - lambda v|` over the largest eigenvalue at which the passes end.
const CONVERGED: f64 = 1e-9;
/// Stream of the random numbers of the first vectors.
const DRAWS: u64 = 0x9c4a;

/// A subspace that turns to the first components from pass to pass.
#[derive(Debug)]
pub struct RandomizedFinder {
    width: Width,
    wanted: Components,
    seed: u64,
    interrupt: Arc<Interrupt>,
    buffers: Arc<Buffers<<SubspaceSum as PassSum>::Scratch>>,
    /// Nothing before the first pass, which takes it.
    spread: Option<Spread>,
    /// Components to find, `k`.
    count: usize,
    /// `[l, n]`: orthonormal vectors, `l = k + 10` where there are so many inputs.
    basis: Vec<f64>,
    passes: u64,
    is_stopped: bool,
    found: Option<Spectrum>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    rows: u64,
    count: usize,
    passes: u64,
}

impl RandomizedFinder {
    /// A finder before the first pass.
    ///
    /// # Errors
    /// When a share of the variance is wanted.
    pub fn new(
        width: Width,
        wanted: Components,
        seed: u64,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self> {
        if let Components::Share(share) = wanted {
            return internal_err!("random projections cannot find a share of {share}");
        }
        Ok(Self {
            width,
            wanted,
            seed,
            interrupt,
            buffers: Arc::default(),
            spread: None,
            count: 0,
            basis: vec![],
            passes: 0,
            is_stopped: false,
            found: None,
        })
    }

    fn inputs(&self) -> usize {
        self.width.inputs()
    }

    fn vectors(&self) -> usize {
        self.basis.len() / self.inputs().max(1)
    }

    /// Takes the mean, and draws the first vectors.
    fn begin(&mut self, spread: Spread) -> Result<()> {
        let n = self.inputs();
        match count(self.wanted, n, spread.rows, spread.variance)? {
            Some(count) => self.count = count,
            None => return internal_err!("random projections need a number of components"),
        }
        let vectors = (self.count + OVERSAMPLING).min(n);
        self.basis = (0..vectors * n).map(|i| normal(self.seed, i as u64)).collect();
        orthonormalize(&mut self.basis, n);
        self.spread = Some(spread);
        Ok(())
    }

    /// The best components within the subspace `Q [l, n]` from `C Q`, the product of the last pass;
    /// then the subspace of the next pass.
    fn advance(&mut self, product: &[f64]) -> Result<()> {
        let (n, l, k) = (self.inputs(), self.vectors(), self.count);
        let basis = MatRef::from_row_major_slice(&self.basis, l, n);
        let product = MatRef::from_row_major_slice(product, n, l);
        let mut small = vec![0.0; l * l];
        multiply(MatMut::from_column_major_slice_mut(&mut small, l, l), basis, product);
        let (values, turns) = eigen(&small, l)?;
        // Descending, as rows.
        let turns = turns.as_ref().reverse_cols().transpose();
        let mut images = vec![0.0; l * n];
        multiply(MatMut::from_row_major_slice_mut(&mut images, l, n), turns, product.transpose());
        let mut vectors = vec![0.0; k * n];
        let first = turns.subrows(0, k);
        multiply(MatMut::from_row_major_slice_mut(&mut vectors, k, n), first, basis);
        let variances: Vec<f64> = (0..k).map(|j| values[l - 1 - j].max(0.0)).collect();
        self.passes += 1;
        let largest = variances.first().copied().unwrap_or(0.0);
        let rows = images.chunks_exact(n).zip(vectors.chunks_exact(n)).zip(&variances);
        let is_exact = rows.into_iter().all(|((image, vector), variance)| {
            let differences = image.iter().zip(vector).map(|(c, v)| (c - variance * v).powi(2));
            differences.sum::<f64>().sqrt() <= CONVERGED * largest
        });
        if is_exact || self.is_stopped || self.passes >= MOST_PASSES {
            let Some(spread) = &self.spread else {
                return internal_err!("random projections have lost the mean");
            };
            self.found = Some(Spectrum::of_directions(spread, variances, vectors));
            self.basis = vec![];
        } else {
            orthonormalize(&mut images, n);
            self.basis = images;
        }
        Ok(())
    }

    fn parameters(&self, spread: &Spread) -> Vec<f64> {
        projection(self.width, &spread.mean, &self.basis)
    }

    fn shape(&self) -> ProjectionShape {
        ProjectionShape { width: self.width, vectors: self.vectors() }
    }
}

impl Finder for RandomizedFinder {
    fn pass(&self) -> Request {
        let interrupt = Arc::clone(&self.interrupt);
        let Some(spread) = &self.spread else {
            let round = PassRound::<SpreadSum> {
                shape: self.width,
                parameters: Arc::default(),
                buffers: Arc::default(),
                interrupt,
            };
            let name = "randomized/mean".to_owned();
            return Request { round: Arc::new(round), rows: RoundRows::Training, name };
        };
        let round = PassRound::<SubspaceSum> {
            shape: self.shape(),
            parameters: Arc::new(self.parameters(spread)),
            buffers: Arc::clone(&self.buffers),
            interrupt,
        };
        let name = format!("randomized/{}", self.passes + 1);
        Request { round: Arc::new(round), rows: RoundRows::Training, name }
    }

    fn take(&mut self, sums: &[u8]) -> Result<()> {
        let Some(spread) = &self.spread else {
            return self.begin(SpreadSum::from_bytes(sums)?.spread()?);
        };
        let product = SubspaceSum::from_bytes(sums)?.product(&self.parameters(spread))?;
        if product.len() != self.basis.len() {
            return internal_err!("a pass of random projections is of another shape");
        }
        self.advance(&product)
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn found(&self) -> Option<&Spectrum> {
        self.found.as_ref()
    }

    fn passes(&self) -> u64 {
        self.passes
    }

    fn bytes(&self) -> usize {
        let n = self.inputs();
        let count = match self.wanted {
            Components::Count(count) => count,
            Components::Auto | Components::Share(_) => Components::DEFAULT,
        };
        // Vectors, parameters, sums and images.
        let vectors = (count + OVERSAMPLING).min(n);
        5 * vectors.saturating_mul(n).saturating_mul(size_of::<f64>())
    }

    fn save(&self) -> Result<Vec<u8>> {
        let (rows, numbers) = match &self.spread {
            Some(spread) => (spread.rows, [&spread.mean[..], &[spread.variance]].concat()),
            None => (0, vec![]),
        };
        let header = Header { rows, count: self.count, passes: self.passes };
        let found = self.found.as_ref().map_or(Ok(vec![]), Spectrum::to_bytes)?;
        pack(&header, &[&bytes_of(&numbers), &bytes_of(&self.basis), &found])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (Header { rows, count, passes }, parts) = unpack::<Header>(bytes)?;
        let [spread, basis, found] = parts.as_slice() else {
            return exec_err!("the state of a pca is damaged: it has {} parts", parts.len());
        };
        let (n, mut mean, basis) = (self.inputs(), numbers_of(spread)?, numbers_of(basis)?);
        let (variance, found) = (mean.pop(), *found);
        let found = if found.is_empty() { None } else { Some(Spectrum::from_bytes(found)?) };
        if variance.is_some() && mean.len() != n || !basis.len().is_multiple_of(n.max(1)) {
            return exec_err!(
                "the state of a pca is damaged: {} numbers for vectors of {n} inputs",
                basis.len()
            );
        }
        self.spread = variance.map(|variance| Spread { mean, variance, rows });
        (self.count, self.passes, self.basis, self.found) = (count, passes, basis, found);
        Ok(())
    }
}

/// `to = a b`.
fn multiply(to: MatMut<'_, f64>, a: MatRef<'_, f64>, b: MatRef<'_, f64>) {
    matmul(to, Accum::Replace, a, b, 1.0, Par::Seq);
}

/// A standard normal number, by the transform of Box and Muller.
fn normal(seed: u64, counter: u64) -> f64 {
    // 53 bits, which `f64` holds exactly; the first one above 0.
    let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) * (1.0 / (1_u64 << 53) as f64);
    let (radius, angle) = (unit(mix(seed, DRAWS, counter)), unit(mix(seed, DRAWS + 1, counter)));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
