//! How far rows are from their projection on a subspace.

use datafusion_common::Result;

use super::bytes::{Reader, Writer};
use super::moments::BLOCK;
use super::projection::{Projection, ProjectionScratch, ProjectionShape};
use super::{PassSum, check_inputs, check_same, check_weights};
use crate::batch::{MiniBatch, Width};
use crate::kernels::double::dot;

const TAG: [u8; 4] = *b"GLRS";
const VERSION: u32 = 1;

/// Weighted sums over rows: `w`, `w |x - mean|^2` and `w |x - mean - P (x - mean)|^2` for the
/// projection `P` on orthonormal vectors (see `projection.rs`).
#[derive(Clone, Debug)]
pub struct ResidualSum {
    shape: ProjectionShape,
    /// The sum of weights.
    pub weight: f64,
    /// The sum of squared distances from the mean.
    pub total: f64,
    /// The sum of squared distances from the subspace.
    pub residual: f64,
    scratch: ProjectionScratch,
}

impl PassSum for ResidualSum {
    type Shape = ProjectionShape;
    type Scratch = ProjectionScratch;
    const KIND: &'static str = "residual";

    fn empty(shape: ProjectionShape, scratch: ProjectionScratch) -> Result<Self> {
        Ok(Self { shape, weight: 0.0, total: 0.0, residual: 0.0, scratch })
    }

    fn width_of(shape: ProjectionShape) -> Width {
        shape.width
    }

    fn memory(shape: ProjectionShape) -> usize {
        BLOCK * (shape.width.dense + shape.vectors) * size_of::<f64>()
    }

    fn add(&mut self, parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()> {
        let width = self.shape.width;
        check_inputs(width, rows)?;
        check_weights(rows.weight)?;
        let projection = Projection::new(self.shape, parameters)?;
        let (stride, l, c) = (projection.stride(), self.shape.vectors, width.columns);
        for start in (0..rows.rows).step_by(BLOCK) {
            let block = rows.slice(start, rows.rows.min(start + BLOCK), width);
            projection.project(&block, &mut self.scratch);
            for (row, weight) in block.weight.iter().enumerate().filter(|(_, w)| **w != 0.0) {
                let values = &self.scratch.values[row * stride..row * stride + width.dense];
                let scores = &self.scratch.scores[row * l..(row + 1) * l];
                let total = projection.distance(values, &block.codes[row * c..(row + 1) * c]);
                let explained = dot(scores, scores);
                let weight = f64::from(*weight);
                self.weight += weight;
                self.total += weight * total;
                // (By rounding, a row of the subspace may seem to be closer than 0.)
                self.residual += weight * (total - explained).max(0.0);
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(Self::KIND, self.shape, other.shape)?;
        self.weight += other.weight;
        self.total += other.total;
        self.residual += other.residual;
        Ok(())
    }

    fn take_scratch(&mut self) -> ProjectionScratch {
        std::mem::take(&mut self.scratch)
    }

    /// `"GLRS"`, `u32` version 1; `u64` d, c, t, l; `f64` weight, total, residual; little-endian.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        writer.width(self.shape.width);
        writer.integers(&[self.shape.vectors as u64]);
        writer.numbers(&[self.weight, self.total, self.residual]);
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "residual sum")?;
        let shape = ProjectionShape { width: reader.width()?, vectors: reader.dimension()? };
        let (weight, total) = (reader.number()?, reader.number()?);
        let residual = reader.number()?;
        reader.finish()?;
        Ok(Self { shape, weight, total, residual, scratch: ProjectionScratch::default() })
    }
}
