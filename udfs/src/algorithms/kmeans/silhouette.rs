//! The silhouette of clusters (Rousseeuw 1987).

use super::points::Points;
use crate::options::Distance;

/// The mean over the rows of `(b - a) / max(a, b)`: `a` is the mean distance of a row to the other
/// rows of its cluster, `b` the least of its mean distances to the rows of another cluster; 0 of a
/// row alone in its cluster. `rows` are the cluster and the number of copies of each point.
///
/// None of fewer than two clusters, or where each row is a cluster, as in scikit-learn.
pub(super) fn silhouette(points: &Points, rows: &[(u32, f64)], distance: Distance) -> Option<f64> {
    let mut clusters: Vec<u32> = rows.iter().map(|(cluster, _)| *cluster).collect();
    clusters.sort_unstable();
    clusters.dedup();
    let number = |cluster: u32| clusters.binary_search(&cluster).ok();
    let numbers: Vec<usize> = rows.iter().filter_map(|(own, _)| number(*own)).collect();
    let (k, n) = (clusters.len(), numbers.len());
    let total: f64 = rows.iter().map(|(_, copies)| copies).sum();
    if k < 2 || k as f64 >= total {
        return None;
    }
    let mut sizes = vec![0.0; k];
    for (own, (_, copies)) in numbers.iter().zip(rows) {
        sizes[*own] += copies;
    }
    // `[n, k]`: sums of the distances of each row to the rows of each cluster.
    let mut sums = vec![0.0; n * k];
    for i in 0..n {
        for j in i + 1..n {
            let apart = match distance {
                Distance::Euclidean => points.apart(distance, i, j).sqrt(),
                Distance::Cosine => points.apart(distance, i, j),
            };
            sums[i * k + numbers[j]] += rows[j].1 * apart;
            sums[j * k + numbers[i]] += rows[i].1 * apart;
        }
    }
    let mut score = 0.0;
    for (i, sums) in sums.chunks_exact(k).enumerate() {
        let own = numbers[i];
        if sizes[own] <= 1.0 {
            continue;
        }
        let a = sums[own] / (sizes[own] - 1.0);
        let others = (0..k).filter(|other| *other != own);
        let b = others.map(|other| sums[other] / sizes[other]).fold(f64::INFINITY, f64::min);
        let most = a.max(b);
        score += rows[i].1 * if most > 0.0 { (b - a) / most } else { 0.0 };
    }
    Some(score / total)
}
