//! Weighted k-means++ on points in memory (Arthur and Vassilvitskii 2007), with some trials for
//! each centroid of which the best is kept, as scikit-learn does.

use super::points::Points;
use super::sample::above_zero;
use crate::kernels::rng::mix;
use crate::options::Distance;

/// Centroids up to which each is the best of some trials. Beyond, trials would take longer than the
/// rounds that they save.
const MANY: usize = 1000;

/// The numbers of `k` points, each drawn in proportion to weight times squared distance to those
/// before; fewer where no other point has a distance.
pub(super) fn plus_plus(
    points: &Points,
    weights: &[f64],
    distance: Distance,
    k: usize,
    key: u64,
) -> Vec<usize> {
    let trials = if k <= MANY { 2 + (k as f64).ln() as u64 } else { 1 };
    let mut draws = 0;
    let mut draw = |shares: &[f64]| {
        draws += 1;
        pick(shares, above_zero(mix(key, 1, draws)))
    };
    let Some(first) = draw(weights) else { return vec![] };
    let mut chosen = vec![first];
    let mut nearest: Vec<f64> =
        (0..points.len()).map(|i| points.apart(distance, i, first)).collect();
    while chosen.len() < k {
        let shares: Vec<f64> = nearest.iter().zip(weights).map(|(d, w)| d * w).collect();
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for _ in 0..trials {
            let Some(candidate) = draw(&shares) else { return chosen };
            let own: Vec<f64> = nearest
                .iter()
                .enumerate()
                .map(|(i, d)| d.min(points.apart(distance, i, candidate)))
                .collect();
            let potential: f64 = own.iter().zip(weights).map(|(d, w)| d * w).sum();
            if best.as_ref().is_none_or(|(least, ..)| potential < *least) {
                best = Some((potential, candidate, own));
            }
        }
        let Some((_, candidate, own)) = best else { return chosen };
        chosen.push(candidate);
        nearest = own;
    }
    chosen
}

/// The number of a share, drawn in proportion to the shares by `random` in `(0, 1]`; None where all
/// are 0.
fn pick(shares: &[f64], random: f64) -> Option<usize> {
    let total: f64 = shares.iter().sum();
    let last = shares.iter().rposition(|share| *share > 0.0)?;
    let mut rest = random * total;
    for (i, share) in shares.iter().enumerate().take(last) {
        rest -= share;
        if rest <= 0.0 && *share > 0.0 {
            return Some(i);
        }
    }
    Some(last)
}
