//! A pass that samples rows by their distance to the centroids so far.
//!
//! Each row gets the key `-ln(u) / (w D^2)` with `u` uniform, `w` its weight and `D` its distance
//! to the nearest centroid; the rows with the least keys are a sample without replacement in which
//! each next row is drawn in proportion to `w D^2` (Efraimidis and Spirakis 2006). The random
//! number of a row depends on the seed, the pass, the row's content and its place alone.

use std::sync::Arc;

use datafusion_common::Result;

use super::block::Block;
use super::centroids::Centroids;
use super::kept::{Kept, copy};
use super::points::{hash, row, scale_of};
use super::round::{Pass, Place, Sums};
use crate::batch::{MiniBatch, Width};
use crate::exact::bytes::{Reader, Writer};
use crate::kernels::rng::mix;
use crate::options::Distance;

const TAG: [u8; 4] = *b"GLKS";
const VERSION: u32 = 1;

/// Samples rows.
#[derive(Debug)]
pub(super) struct SamplePass {
    pub(super) width: Width,
    pub(super) distance: Distance,
    /// Centroids so far; None: every distance is 1.
    pub(super) centroids: Option<Arc<Centroids>>,
    /// Rows to sample.
    pub(super) size: usize,
    /// Random bits of the training and the pass.
    pub(super) key: u64,
}

/// The sample.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SampleSums {
    width: Width,
    /// Rows with a weight.
    pub(super) rows: u64,
    /// Weighted sum of squared distances.
    pub(super) potential: f64,
    /// The sample, in the order of its keys.
    pub(super) kept: Kept,
}

/// A number above 0 and at most 1 from 64 random bits.
pub(super) fn above_zero(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 * (0.5f64).powi(53)
}

impl Pass for SamplePass {
    type Sums = SampleSums;
    type Scratch = (Block, Vec<u8>);
    const KIND: &'static str = "kmeans_start";

    fn width(&self) -> Width {
        self.width
    }

    fn start(&self) -> (SampleSums, (Block, Vec<u8>)) {
        let (width, kept) = (self.width, Kept::new(self.width, self.size));
        (SampleSums { width, rows: 0, potential: 0.0, kept }, Default::default())
    }

    fn add(
        &self,
        sums: &mut SampleSums,
        (block, spare): &mut (Block, Vec<u8>),
        rows: &MiniBatch<'_>,
        at: Place,
    ) {
        if let Some(centroids) = &self.centroids {
            block.assign(centroids, rows);
        }
        let mut potential = 0.0;
        for (i, weight) in rows.weight.iter().enumerate() {
            let weight = f64::from(*weight);
            let share = match self.centroids {
                Some(_) => weight * block.distance[i],
                None => weight,
            };
            sums.rows += u64::from(weight > 0.0);
            potential += share;
            if share <= 0.0 {
                continue;
            }
            let own = row(rows, self.width, i);
            let content = hash(own.0, own.1, spare);
            let place = (u64::from(at.replica) << 40) ^ (at.position + i as u64);
            let random = above_zero(mix(self.key, content, place));
            // (-ln(u) is at least 1 - u, which takes no logarithm.)
            let last = f64::from_bits(sums.kept.last().min(f64::INFINITY.to_bits()));
            if 1.0 - random > last * share {
                continue;
            }
            // (0 - x, since -0 has other bits than 0.)
            let order = 0.0 - random.ln() / share;
            sums.kept.offer(order.to_bits(), content, || {
                copy(own, scale_of(self.distance, own.0, own.1), weight)
            });
        }
        sums.potential += potential;
    }

    fn bytes(&self) -> usize {
        self.size * (4 * (self.width.dense + self.width.columns) + 200)
    }
}

impl Sums for SampleSums {
    fn merge(&mut self, other: &Self) -> Result<()> {
        self.rows += other.rows;
        self.potential += other.potential;
        self.kept.merge(&other.kept);
        Ok(())
    }

    /// `"GLKS"`, `u32` version 1; `u64` d, c, t, rows; `f64` potential; then the sample.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        writer.width(self.width);
        writer.integers(&[self.rows]);
        writer.numbers(&[self.potential]);
        self.kept.write(&mut writer);
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a sample of rows")?;
        let width = reader.width()?;
        let (rows, potential) = (reader.integer()?, reader.number()?);
        let kept = Kept::read(&mut reader, width)?;
        reader.finish()?;
        Ok(Self { width, rows, potential, kept })
    }
}
