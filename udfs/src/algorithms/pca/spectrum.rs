//! What was found: mean, variances and directions in float64, and the parameters of the model.

use datafusion_common::{Result, exec_err, plan_err};
use serde::{Deserialize, Serialize};

use crate::estimator::record::{pack, unpack};
use crate::exact::{Covariance, Spread, eigen};
use crate::options::Components;

/// Part of a loading's absolute value by which another one must exceed it to decide on the sign:
/// loadings that are equal but for rounding do not.
const TIE: f64 = 1e-9;

/// Principal components in float64.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// `[n]`: the weighted mean of the inputs.
    pub mean: Vec<f64>,
    /// `[k]`, descending: the mean of the squared scores.
    pub variances: Vec<f64>,
    /// `[k, n]`: orthonormal directions; the largest loading of each is positive.
    pub vectors: Vec<f64>,
    /// The mean of `|x - mean|^2`.
    pub total: f64,
    /// Rows with a weight.
    pub rows: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    inputs: usize,
    components: usize,
    rows: u64,
}

impl Spectrum {
    /// The eigenvectors of a covariance matrix.
    ///
    /// # Errors
    /// When there are fewer rows than components, or no variance.
    pub fn of_covariance(covariance: Covariance, wanted: Components) -> Result<Self> {
        let Covariance { mean, matrix, rows } = covariance;
        let n = mean.len();
        let total = (0..n).map(|i| matrix[i * n + i].max(0.0)).sum();
        let count = count(wanted, n, rows, total)?;
        let (values, columns) = eigen(&matrix, n)?;
        let descending: Vec<f64> = (0..n).rev().map(|j| values[j].max(0.0)).collect();
        let count = match (count, wanted) {
            (Some(count), _) => count,
            (None, Components::Share(share)) => reaching(share, &descending),
            (None, _) => n,
        };
        let directions = (n - count..n).rev();
        let vectors = directions.flat_map(|j| (0..n).map(move |i| (i, j)));
        let mut vectors: Vec<f64> = vectors.map(|at| columns[at]).collect();
        vectors.chunks_exact_mut(n).for_each(turn);
        Ok(Self { mean, variances: descending[..count].to_vec(), vectors, total, rows })
    }

    /// From directions `[k, n]` and their variances.
    pub fn of_directions(spread: &Spread, variances: Vec<f64>, mut vectors: Vec<f64>) -> Self {
        vectors.chunks_exact_mut(spread.mean.len().max(1)).for_each(turn);
        let (mean, total, rows) = (spread.mean.clone(), spread.variance, spread.rows);
        Self { mean, variances, vectors, total, rows }
    }

    /// Number of components.
    pub fn components(&self) -> usize {
        self.variances.len()
    }

    /// The mean squared distance of the rows from the subspace.
    pub fn loss(&self) -> f64 {
        // (Adding 0.0 turns -0.0 into 0.0.)
        (self.total - self.variances.iter().sum::<f64>()).max(0.0) + 0.0
    }

    /// Flat parameters in the layout of the description; variances are those of a sample.
    ///
    /// # Errors
    /// When float32 does not hold them.
    pub fn parameters(&self) -> Result<Vec<f32>> {
        let rows = self.rows as f64;
        let sample = if self.rows > 1 { rows / (rows - 1.0) } else { 0.0 };
        let variances = self.variances.iter().chain([&self.total]).map(|v| sample * v);
        let numbers = self.vectors.iter().chain(&self.mean).copied().chain(variances);
        let parameters: Vec<f32> = numbers.map(|number| number as f32).collect();
        let total = parameters.last().copied().unwrap_or(0.0);
        if total <= 0.0 || parameters.iter().any(|number| !number.is_finite()) {
            return plan_err!(
                "the variance of the inputs of pca is {:e}, which float32 does not hold; leave \
                 standardize TRUE, or scale the columns in the query",
                self.total
            );
        }
        Ok(parameters)
    }

    /// As bytes, bit by bit.
    ///
    /// # Errors
    /// Never in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let header =
            Header { inputs: self.mean.len(), components: self.components(), rows: self.rows };
        let numbers = [&self.mean[..], &self.variances, &self.vectors, &[self.total]].concat();
        pack(&header, &[&bytes_of(&numbers)])
    }

    /// From the bytes that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (Header { inputs, components, rows }, parts) = unpack::<Header>(bytes)?;
        let numbers = parts.first().map_or(Ok(vec![]), |part| numbers_of(part))?;
        let wanted =
            components.checked_mul(inputs).and_then(|n| n.checked_add(inputs + components));
        if wanted.and_then(|n| n.checked_add(1)) != Some(numbers.len()) {
            return exec_err!(
                "the components of a training are damaged: {} numbers for {components} of \
                 {inputs} inputs",
                numbers.len()
            );
        }
        let (mean, rest) = numbers.split_at(inputs);
        let (variances, rest) = rest.split_at(components);
        let (vectors, total) = rest.split_at(components * inputs);
        Ok(Self {
            mean: mean.to_vec(),
            variances: variances.to_vec(),
            vectors: vectors.to_vec(),
            total: total[0],
            rows,
        })
    }
}

/// The number of components of `inputs` inputs and `rows` rows with the variance `total`; None
/// where the eigenvalues decide.
///
/// # Errors
/// When there cannot be so many, or there is no variance.
pub fn count(wanted: Components, inputs: usize, rows: u64, total: f64) -> Result<Option<usize>> {
    if rows < 2 {
        return plan_err!(
            "pca needs at least 2 rows with a weight, but there {}",
            if rows == 1 { "is 1" } else { "is none" }
        );
    }
    if total <= 0.0 {
        return plan_err!(
            "all {rows} rows have the same inputs, so that there is no variance to explain; pca \
             needs rows that differ"
        );
    }
    let most = inputs.min(usize::try_from(rows - 1).unwrap_or(usize::MAX));
    match wanted {
        Components::Auto => Ok(Some(most.min(Components::DEFAULT))),
        Components::Share(_) => Ok(None),
        Components::Count(count) if count > inputs => {
            plan_err!("components is {count}, but there are only {inputs} inputs")
        }
        Components::Count(count) if count as u64 > rows => {
            plan_err!("components is {count}, but there are only {rows} rows with a weight")
        }
        Components::Count(count) => Ok(Some(count)),
    }
}

/// The smallest number of eigenvalues, which descend, whose sum is at least this share of all.
fn reaching(share: f64, eigenvalues: &[f64]) -> usize {
    let goal = share * eigenvalues.iter().sum::<f64>();
    let mut sum = 0.0;
    let reaches = eigenvalues.iter().position(|value| {
        sum += value;
        sum >= goal
    });
    reaches.map_or(eigenvalues.len(), |last| last + 1)
}

/// Turns a direction so that its largest loading is positive, the first one of those that are equal
/// but for rounding. (scikit-learn's `svd_flip` by the rows of `V`, which rounding may decide.)
fn turn(vector: &mut [f64]) {
    let most = vector.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let first = vector.iter().find(|value| value.abs() >= most * (1.0 - TIE));
    if first.is_some_and(|value| *value < 0.0) {
        vector.iter_mut().for_each(|value| *value = -*value);
    }
}

/// Numbers as little-endian bytes.
pub fn bytes_of(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The numbers of [`bytes_of`].
///
/// # Errors
/// When a number is cut off.
pub fn numbers_of(bytes: &[u8]) -> Result<Vec<f64>> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return exec_err!("the state of a training is damaged: a number is cut off");
    }
    Ok(numbers.iter().map(|number| f64::from_le_bytes(*number)).collect())
}
