//! Metrics of clusters on rows.
//!
//! - `davies_bouldin_index`: mean over the clusters of the largest `(s_i + s_j) / d_ij` (Davies and
//!   Bouldin 1979), as scikit-learn's `davies_bouldin_score`. `s_i` is the weighted mean distance
//!   of the rows of cluster i to the centroid of the model (not to their own mean, which would take a
//!   second pass), `d_ij` the distance of two centroids. Clusters without rows are left out.
//! - `mean_squared_distance`: weighted mean squared distance of the rows to their centroids; with
//!   cosines, mean of `1 - cos`.
//! - `silhouette`: scikit-learn's `silhouette_score` of at most 2,048 distinct rows, those with the
//!   least hash of their content, each as often as it occurs; of fewer rows, exactly that score.

use std::sync::Arc;

use datafusion_common::{Result, exec_err};

use super::block::Block;
use super::centroids::Centroids;
use super::kept::{Kept, copy};
use super::points::{Points, hash, row};
use super::round::check_weights;
use super::silhouette::silhouette;
use crate::batch::MiniBatch;
use crate::description::Measure;
use crate::exact::bytes::{Reader, Writer};
use crate::kernels::nearest::ROWS;
use crate::options::Distance;

/// Names of the metrics, in order.
pub(super) static METRICS: [&str; 3] =
    ["davies_bouldin_index", "mean_squared_distance", "silhouette"];

const TAG: [u8; 4] = *b"GLKM";
const VERSION: u32 = 1;
/// Rows of the silhouette.
const SAMPLE: usize = 2048;

/// Sums of rows at the centroids of a model.
#[derive(Debug)]
pub(super) struct KmeansMeasure {
    centroids: Arc<Centroids>,
    /// Weighted sum of squared distances, or of `1 - cos`.
    loss: f64,
    /// `[k]`: sums of weights.
    weights: Vec<f64>,
    /// `[k]`: weighted sums of distances.
    distances: Vec<f64>,
    kept: Kept,
    block: Block,
    spare: Vec<u8>,
}

impl KmeansMeasure {
    pub(super) fn new(centroids: Arc<Centroids>) -> Self {
        Self {
            loss: 0.0,
            weights: vec![0.0; centroids.k],
            distances: vec![0.0; centroids.k],
            kept: Kept::new(centroids.width, SAMPLE),
            block: Block::default(),
            spare: vec![],
            centroids,
        }
    }

    fn add(&mut self, rows: &MiniBatch<'_>) {
        self.block.assign(&self.centroids, rows);
        let is_cosine = self.centroids.distance == Distance::Cosine;
        for i in 0..rows.rows {
            let weight = rows.weight.get(i).map_or(1.0, |weight| f64::from(*weight));
            if weight == 0.0 {
                continue;
            }
            let (cluster, own) = (self.block.nearest[i], self.block.distance[i]);
            self.loss += weight * own;
            self.weights[cluster as usize] += weight;
            self.distances[cluster as usize] += weight * if is_cosine { own } else { own.sqrt() };
            let values = row(rows, self.centroids.width, i);
            let content = hash(values.0, values.1, &mut self.spare);
            if content <= self.kept.last() {
                let scale = self.block.scale[i];
                self.kept.offer(content, content, || super::kept::KeptRow {
                    cluster,
                    ..copy(values, scale, weight)
                });
            }
        }
    }

    /// The Davies-Bouldin index; None of fewer than two clusters with rows.
    fn davies_bouldin(&self) -> Option<f64> {
        let present: Vec<usize> =
            (0..self.centroids.k).filter(|j| self.weights[*j] > 0.0).collect();
        if present.len() < 2 {
            return None;
        }
        let centroids = self.centroids.points();
        let spread = |j: usize| self.distances[j] / self.weights[j];
        let ratio = |i: usize, j: usize| {
            let apart = centroids.apart(&self.centroids, i, j);
            let own = spread(i) + spread(j);
            if own == 0.0 || apart == 0.0 { 0.0 } else { own / apart }
        };
        let largest = |i: &usize| {
            let others = present.iter().filter(|j| *j != i);
            others.map(|j| ratio(*i, *j)).fold(0.0, f64::max)
        };
        Some(present.iter().map(largest).sum::<f64>() / present.len() as f64)
    }
}

/// Centroids to compare with each other.
struct CentroidPoints {
    /// `[k, d + t]`
    values: Vec<f64>,
}

impl Centroids {
    fn points(&self) -> CentroidPoints {
        let mut values = vec![];
        for j in 0..self.k {
            let dense = &self.dense[j * self.stride..][..self.width.dense];
            values.extend(dense.iter().map(|c| f64::from(*c)));
            let categories = self.categories.iter().skip(j).step_by(self.padded());
            values.extend(categories.map(|c| f64::from(*c)));
        }
        CentroidPoints { values }
    }
}

impl CentroidPoints {
    /// The distance of two centroids.
    fn apart(&self, of: &Centroids, i: usize, j: usize) -> f64 {
        let n = of.width.inputs();
        let pair = self.values[i * n..(i + 1) * n].iter().zip(&self.values[j * n..(j + 1) * n]);
        let square: f64 = pair.map(|(x, y)| (x - y) * (x - y)).sum();
        match of.distance {
            Distance::Euclidean => square.sqrt(),
            Distance::Cosine if of.is_zero[i] || of.is_zero[j] => 1.0,
            Distance::Cosine => square / 2.0,
        }
    }
}

impl Measure for KmeansMeasure {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        check_weights(rows.weight)?;
        let (d, c) = (self.centroids.width.dense, self.centroids.width.columns);
        if rows.dense.len() != rows.rows * d || rows.codes.len() != rows.rows * c {
            return exec_err!(
                "{} rows of {d} numbers and {c} categories cannot have {} and {}",
                rows.rows,
                rows.dense.len(),
                rows.codes.len()
            );
        }
        for start in (0..rows.rows).step_by(ROWS) {
            let end = rows.rows.min(start + ROWS);
            self.add(&MiniBatch {
                rows: end - start,
                dense: &rows.dense[start * d..end * d],
                codes: &rows.codes[start * c..end * c],
                weight: rows.weight.get(start..end).unwrap_or_default(),
                ..MiniBatch::default()
            });
        }
        Ok(())
    }

    /// `"GLKM"`, `u32` version 1; `u64` k; `f64` loss, weights `[k]`, distances `[k]`; then the
    /// sample.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        writer.integers(&[self.centroids.k as u64]);
        writer.numbers(&[self.loss]);
        writer.numbers(&self.weights);
        writer.numbers(&self.distances);
        self.kept.write(&mut writer);
        writer.finish()
    }

    fn merge(&mut self, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a measure of clusters")?;
        let k = reader.dimension()?;
        if k != self.centroids.k {
            return exec_err!(
                "a measure of {k} clusters cannot be added to one of {}",
                self.centroids.k
            );
        }
        let loss = reader.number()?;
        let (weights, distances) = (reader.numbers(k)?, reader.numbers(k)?);
        let kept = Kept::read(&mut reader, self.centroids.width)?;
        reader.finish()?;
        self.loss += loss;
        self.weights.iter_mut().zip(weights).for_each(|(own, other)| *own += other);
        self.distances.iter_mut().zip(distances).for_each(|(own, other)| *own += other);
        self.kept.merge(&kept);
        Ok(())
    }

    fn metrics(&self) -> Vec<(&'static str, Option<f64>)> {
        let weight = self.weight();
        let points: Points = self.kept.points();
        let rows: Vec<_> = self.kept.rows().map(|row| (row.cluster, row.copies)).collect();
        let values = [
            self.davies_bouldin(),
            (weight > 0.0).then(|| self.loss / weight),
            silhouette(&points, &rows, self.centroids.distance),
        ];
        METRICS.into_iter().zip(values).collect()
    }

    fn weight(&self) -> f64 {
        self.weights.iter().sum()
    }
}
