//! A round of Lloyd's algorithm: the sums of the rows of each cluster.

use std::sync::Arc;

use datafusion_common::{Result, internal_err};

use super::block::Block;
use super::centroids::Centroids;
use super::kept::{Kept, KeptRow, copy};
use super::points::{hash, row};
use super::round::{Pass, Place, Sums};
use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::exact::bytes::{Reader, Writer};
use crate::kernels::aligned::Aligned;

const TAG: [u8; 4] = *b"GLKL";
const VERSION: u32 = 1;
/// Rows that are kept for clusters without rows, at most: if more clusters are empty, the others
/// follow in the next round.
const FARTHEST: usize = 1024;

/// Assigns rows to centroids and sums them.
#[derive(Debug)]
pub(super) struct LloydPass {
    pub(super) centroids: Arc<Centroids>,
    /// Whether the farthest rows are kept.
    pub(super) keeps_far: bool,
}

/// The sums of the clusters. Rows are `x - m` with the mean `m` of the centroids of the pass.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LloydSums {
    width: Width,
    /// Numbers from one cluster to the next in `dense`.
    stride: usize,
    pub(super) rows: u64,
    /// Sum of weights.
    pub(super) weight: f64,
    /// Weighted sum of squared distances, or of `1 - cos`.
    pub(super) loss: f64,
    /// Weighted sum of `|x - m|^2`.
    pub(super) square: f64,
    /// `[k]`: sums of weights.
    pub(super) weights: Vec<f64>,
    /// `[k, stride]`: weighted sums of dense numbers.
    dense: Aligned<f64>,
    /// `[k, t]`: weighted sums of the one-hot categories.
    categories: Vec<f64>,
    /// The rows that are farthest from their centroids.
    pub(super) far: Kept,
}

impl LloydSums {
    /// `[d + t]` sums of a cluster.
    pub(super) fn of(&self, cluster: usize) -> impl Iterator<Item = f64> {
        let Width { dense: d, categories: t, .. } = self.width;
        let dense = &self.dense[cluster * self.stride..][..d];
        dense.iter().chain(&self.categories[cluster * t..(cluster + 1) * t]).copied()
    }
}

impl Pass for LloydPass {
    type Sums = LloydSums;
    type Scratch = (Block, Vec<u8>);
    const KIND: &'static str = "lloyd";

    fn width(&self) -> Width {
        self.centroids.width
    }

    fn start(&self) -> (LloydSums, (Block, Vec<u8>)) {
        let Centroids { width, k, stride, .. } = *self.centroids;
        let far = if self.keeps_far { (k - 1).min(FARTHEST) } else { 0 };
        let sums = LloydSums {
            width,
            stride,
            rows: 0,
            weight: 0.0,
            loss: 0.0,
            square: 0.0,
            weights: vec![0.0; k],
            dense: Aligned::zeros(k * stride),
            categories: vec![0.0; k * width.categories],
            far: Kept::new(width, far),
        };
        (sums, Default::default())
    }

    fn add(
        &self,
        sums: &mut LloydSums,
        (block, spare): &mut (Block, Vec<u8>),
        rows: &MiniBatch<'_>,
        _at: Place,
    ) {
        block.assign(&self.centroids, rows);
        block.add_dense(sums.stride, rows.weight, &mut sums.dense);
        let Width { columns: c, categories: t, .. } = sums.width;
        sums.rows += rows.rows as u64;
        let (mut weight, mut loss, mut square) = (0.0, 0.0, 0.0);
        for (i, own) in rows.weight.iter().enumerate() {
            let own = f64::from(*own);
            let cluster = block.nearest[i] as usize;
            weight += own;
            loss += own * block.distance[i];
            square += own * block.square[i];
            sums.weights[cluster] += own;
            let value = own * f64::from(block.scale[i]);
            for code in &rows.codes[i * c..(i + 1) * c] {
                if *code != NO_CATEGORY {
                    sums.categories[cluster * t + *code as usize] += value;
                }
            }
        }
        sums.weight += weight;
        sums.loss += loss;
        sums.square += square;
        if !self.keeps_far {
            return;
        }
        let mut last = sums.far.last();
        for (i, weight) in rows.weight.iter().enumerate() {
            // (Positive numbers have the order of their bits.)
            let place = u64::MAX - block.distance[i].to_bits();
            if place <= last && *weight > 0.0 && block.distance[i] > 0.0 {
                let own = row(rows, sums.width, i);
                let key = hash(own.0, own.1, spare);
                let cluster = block.nearest[i];
                sums.far.offer(place, key, || KeptRow {
                    cluster,
                    ..copy(own, block.scale[i], f64::from(*weight))
                });
                last = sums.far.last();
            }
        }
    }

    fn bytes(&self) -> usize {
        let Centroids { width, k, stride, .. } = *self.centroids;
        let far = if self.keeps_far { k.min(FARTHEST) } else { 0 };
        8 * k * (stride + width.categories + 1) + far * (4 * (width.dense + width.columns) + 200)
    }
}

impl Sums for LloydSums {
    fn merge(&mut self, other: &Self) -> Result<()> {
        if (self.width, self.weights.len()) != (other.width, other.weights.len()) {
            return internal_err!(
                "the sums of {} clusters of width {:?} cannot be added to those of {} of width {:?}",
                other.weights.len(),
                other.width,
                self.weights.len(),
                self.width
            );
        }
        self.rows += other.rows;
        self.weight += other.weight;
        self.loss += other.loss;
        self.square += other.square;
        for (own, other) in [
            (&mut self.weights[..], &other.weights[..]),
            (&mut self.dense, &other.dense),
            (&mut self.categories, &other.categories),
        ] {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        }
        self.far.merge(&other.far);
        Ok(())
    }

    /// `"GLKL"`, `u32` version 1; `u64` d, c, t, k, stride, rows; `f64` weight, loss, square,
    /// weights `[k]`, dense `[k, stride]`, categories `[k, t]`; then the farthest rows.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        let categories = self.width.categories;
        writer.reserve(8 + self.weights.len() * (1 + self.stride + categories));
        writer.width(self.width);
        writer.integers(&[self.weights.len() as u64, self.stride as u64, self.rows]);
        writer.numbers(&[self.weight, self.loss, self.square]);
        writer.numbers(&self.weights);
        writer.numbers(&self.dense);
        writer.numbers(&self.categories);
        self.far.write(&mut writer);
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a sum of clusters")?;
        let width = reader.width()?;
        let (k, stride, rows) = (reader.dimension()?, reader.dimension()?, reader.integer()?);
        let (weight, loss, square) = (reader.number()?, reader.number()?, reader.number()?);
        let sums = Self {
            width,
            stride,
            rows,
            weight,
            loss,
            square,
            weights: reader.numbers(k)?,
            dense: Aligned::from(&reader.numbers(k * stride)?[..]),
            categories: reader.numbers(k * width.categories)?,
            far: Kept::read(&mut reader, width)?,
        };
        reader.finish()?;
        if stride < width.dense {
            let dense = width.dense;
            return internal_err!("a sum of clusters has rows of {stride} numbers, not of {dense}");
        }
        Ok(sums)
    }
}
