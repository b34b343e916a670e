//! From the sums of a round to the next centroids.

use datafusion_common::{Result, plan_err};

use super::centroids::{Centroids, normalise};
use super::lloyd::LloydSums;
use crate::batch::NO_CATEGORY;
use crate::options::Distance;

/// The result of a round.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// `[k, d + t]`: the next centroids.
    pub(super) centroids: Vec<f64>,
    /// `[k]`: sums of weights of the clusters.
    pub(super) counts: Vec<f64>,
    /// Weighted mean squared distance (or `1 - cos`) before the step.
    pub(super) loss: f64,
    /// The same for the next centroids and the same clusters: an upper bound of the next loss.
    pub(super) next_loss: f64,
    /// Squared movement of the centroids.
    pub(super) movement: f64,
    /// Mean variance of the inputs (of unit vectors with cosines).
    pub(super) variance: f64,
    /// Whether a centroid without rows moved to another row.
    pub(super) is_relocated: bool,
}

/// Weighted sums of the clusters that a step works on.
struct Clusters {
    /// `[k, d + t]`: sums of `x - m`.
    sums: Vec<f64>,
    /// `[k]`
    weights: Vec<f64>,
}

/// The next centroids: the mean of the rows of each cluster. A cluster without rows takes the row
/// that is farthest from its centroid, and so on, as scikit-learn does; equal rows move together.
///
/// # Errors
/// When no row has a weight, or a sum is not finite.
pub(super) fn step(sums: &LloydSums, used: &Centroids, before: &[f64]) -> Result<Step> {
    if sums.weight <= 0.0 {
        return plan_err!("there is no row with a weight to make clusters of");
    }
    let k = used.k;
    let mut clusters =
        Clusters { sums: (0..k).flat_map(|j| sums.of(j)).collect(), weights: sums.weights.clone() };
    if !(sums.loss.is_finite() && clusters.sums.iter().all(|sum| sum.is_finite())) {
        return plan_err!("the inputs of kmeans are too large: sums of their squares overflow");
    }
    let variance = variance(sums, &clusters, used);
    let is_relocated = relocate(sums, used, &mut clusters);
    let centroids = means(&clusters, used, before);
    let inputs = used.width.inputs().max(1);
    let (mut movement, mut gain) = (0.0, 0.0f64);
    let pairs = centroids.chunks_exact(inputs).zip(before.chunks_exact(inputs));
    let of_clusters = clusters.sums.chunks_exact(inputs).zip(&clusters.weights);
    for ((new, old), (sum, weight)) in pairs.zip(of_clusters) {
        let own: f64 = new.iter().zip(old).map(|(new, old)| (new - old) * (new - old)).sum();
        movement += own;
        gain += match used.distance {
            Distance::Euclidean => weight * own,
            // Of unit vectors, 1 - cos falls by the product with what the centroid moved.
            Distance::Cosine => {
                sum.iter().zip(new.iter().zip(old)).map(|(s, (n, o))| s * (n - o)).sum()
            }
        };
    }
    let next = if is_relocated { sums.loss } else { (sums.loss - gain).clamp(0.0, sums.loss) };
    Ok(Step {
        centroids,
        counts: clusters.weights,
        loss: sums.loss / sums.weight,
        next_loss: next / sums.weight,
        movement,
        variance,
        is_relocated,
    })
}

/// The mean over the inputs of their weighted variances.
fn variance(sums: &LloydSums, clusters: &Clusters, used: &Centroids) -> f64 {
    let inputs = used.width.inputs().max(1);
    let mut mean = vec![0.0; inputs];
    for sum in clusters.sums.chunks_exact(inputs) {
        mean.iter_mut().zip(sum).for_each(|(mean, sum)| *mean += sum / sums.weight);
    }
    let square: f64 = mean.iter().map(|mean| mean * mean).sum();
    (sums.square / sums.weight - square).max(0.0) / inputs as f64
}

/// Moves the farthest rows to clusters without rows. Returns whether any moved.
fn relocate(sums: &LloydSums, used: &Centroids, clusters: &mut Clusters) -> bool {
    let inputs = used.width.inputs();
    let d = used.width.dense;
    let mut empty = (0..used.k).filter(|j| sums.weights[*j] == 0.0);
    let mut target = empty.next();
    let mut is_relocated = false;
    for row in sums.far.rows() {
        let Some(to) = target else { break };
        let from = row.cluster as usize;
        // A cluster of this row alone would be empty afterwards.
        if from >= used.k || clusters.weights[from] - row.weight <= 1e-9 * row.weight {
            continue;
        }
        let mut own = vec![0.0; inputs];
        for (i, (own, x)) in own.iter_mut().zip(&row.dense).enumerate() {
            *own = row.weight * f64::from(x - used.shift[i]);
        }
        for code in row.codes.iter().filter(|code| **code != NO_CATEGORY) {
            own[d + *code as usize] += row.weight * f64::from(row.scale);
        }
        for (i, own) in own.iter().enumerate() {
            clusters.sums[from * inputs + i] -= own;
            clusters.sums[to * inputs + i] += own;
        }
        clusters.weights[from] -= row.weight;
        clusters.weights[to] += row.weight;
        is_relocated = true;
        target = empty.next();
    }
    is_relocated
}

/// The means of the clusters, of unit length with cosines; the centroid before where there is none.
fn means(clusters: &Clusters, used: &Centroids, before: &[f64]) -> Vec<f64> {
    let (inputs, d) = (used.width.inputs().max(1), used.width.dense);
    let mut centroids = before.to_vec();
    for (j, weight) in clusters.weights.iter().enumerate() {
        let own = &mut centroids[j * inputs..(j + 1) * inputs];
        let sum = &clusters.sums[j * inputs..(j + 1) * inputs];
        let is_mean = match used.distance {
            Distance::Euclidean => *weight > 0.0,
            Distance::Cosine => sum.iter().any(|sum| *sum != 0.0),
        };
        if !is_mean {
            continue;
        }
        for (i, (own, sum)) in own.iter_mut().zip(sum).enumerate() {
            *own = sum / weight + if i < d { f64::from(used.shift[i]) } else { 0.0 };
        }
        if used.distance == Distance::Cosine {
            normalise(own, inputs);
        }
    }
    centroids
}
