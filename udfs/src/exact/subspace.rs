//! The product of the covariance matrix with some vectors, without the matrix: one pass.

use datafusion_common::{Result, exec_err};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::bytes::{Reader, Writer};
use super::moments::{BLOCK, add};
use super::projection::{Projection, ProjectionScratch, ProjectionShape};
use super::{PassSum, check_inputs, check_same, check_weights};
use crate::batch::{MiniBatch, NO_CATEGORY, Width};

const TAG: [u8; 4] = *b"GLUS";
const VERSION: u32 = 1;

/// Weighted sums over rows: `w`, `w z` and `w u z^T`, where `z [l]` is the projection of `x - mean`
/// (see `projection.rs`) and `u [n]` are the dense numbers minus their means, then the one-hot
/// categories.
#[derive(Clone, Debug)]
pub struct SubspaceSum {
    shape: ProjectionShape,
    weight: f64,
    /// `[l]`
    scores: Vec<f64>,
    /// `[n, l]`
    products: Vec<f64>,
    scratch: ProjectionScratch,
}

impl SubspaceSum {
    /// `C Q [n, l]` for the covariance matrix `C` and the vectors `Q` of a pass at these
    /// parameters.
    ///
    /// # Errors
    /// When there is no row with a weight, or the inputs are not finite.
    pub fn product(self, parameters: &[f64]) -> Result<Vec<f64>> {
        let mean = Projection::new(self.shape, parameters)?.mean;
        let (d, l, weight) = (self.shape.width.dense, self.shape.vectors, self.weight);
        if weight <= 0.0 {
            return exec_err!("there is no row with a weight to take the covariance of");
        }
        let mut product = self.products;
        for (i, row) in product.chunks_exact_mut(l.max(1)).enumerate() {
            // One-hot numbers are not centred yet.
            let shift = if i < d { 0.0 } else { mean[i] };
            for (value, score) in row.iter_mut().zip(&self.scores) {
                *value = (*value - shift * score) / weight;
            }
        }
        match product.iter().all(|value| value.is_finite()) {
            true => Ok(product),
            false => {
                exec_err!("a covariance needs finite inputs, but some are too large or NaN")
            }
        }
    }

    /// Adds the rows of a block, whose projection is in the buffers.
    fn add_block(&mut self, block: &MiniBatch<'_>, stride: usize) {
        let Width { dense: d, columns: c, .. } = self.shape.width;
        let (r, l) = (block.rows, self.shape.vectors);
        let ProjectionScratch { values, scores } = &mut self.scratch;
        let (values, scores) = (&values[..r * stride], &mut scores[..r * l]);
        for (row, (scores, weight)) in scores.chunks_exact_mut(l).zip(block.weight).enumerate() {
            let weight = f64::from(*weight);
            scores.iter_mut().for_each(|score| *score *= weight);
            self.weight += weight;
            if weight == 0.0 || c == 0 {
                continue;
            }
            add(&mut self.scores, scores);
            let codes = block.codes[row * c..(row + 1) * c].iter();
            for &code in codes.filter(|code| **code != NO_CATEGORY) {
                let at = (d + code as usize) * l;
                add(&mut self.products[at..at + l], scores);
            }
        }
        if d > 0 {
            matmul(
                MatMut::from_row_major_slice_mut(&mut self.products[..d * l], d, l),
                Accum::Add,
                MatRef::from_row_major_slice_with_stride(values, r, d, stride).transpose(),
                MatRef::from_row_major_slice(scores, r, l),
                1.0,
                Par::Seq,
            );
        }
    }
}

impl PassSum for SubspaceSum {
    type Shape = ProjectionShape;
    type Scratch = ProjectionScratch;
    const KIND: &'static str = "subspace";

    fn empty(shape: ProjectionShape, scratch: ProjectionScratch) -> Result<Self> {
        let (n, l) = (shape.width.inputs(), shape.vectors);
        Ok(Self { shape, weight: 0.0, scores: vec![0.0; l], products: vec![0.0; n * l], scratch })
    }

    fn width_of(shape: ProjectionShape) -> Width {
        shape.width
    }

    fn memory(shape: ProjectionShape) -> usize {
        let (n, l) = (shape.width.inputs(), shape.vectors);
        ((n + 1) * l + BLOCK * (shape.width.dense + l)) * size_of::<f64>()
    }

    fn add(&mut self, parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()> {
        let width = self.shape.width;
        check_inputs(width, rows)?;
        check_weights(rows.weight)?;
        let projection = Projection::new(self.shape, parameters)?;
        if self.shape.vectors == 0 {
            return Ok(());
        }
        for start in (0..rows.rows).step_by(BLOCK) {
            let block = rows.slice(start, rows.rows.min(start + BLOCK), width);
            projection.project(&block, &mut self.scratch);
            self.add_block(&block, projection.stride());
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(Self::KIND, self.shape, other.shape)?;
        self.weight += other.weight;
        add(&mut self.scores, &other.scores);
        add(&mut self.products, &other.products);
        Ok(())
    }

    fn take_scratch(&mut self) -> ProjectionScratch {
        std::mem::take(&mut self.scratch)
    }

    /// `"GLUS"`, `u32` version 1; `u64` d, c, t, l; `f64` weight, scores `[l]`, products `[n, l]`;
    /// little-endian.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        writer.width(self.shape.width);
        writer.integers(&[self.shape.vectors as u64]);
        writer.numbers(&[self.weight]);
        writer.numbers(&self.scores);
        writer.numbers(&self.products);
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "subspace sum")?;
        let shape = ProjectionShape { width: reader.width()?, vectors: reader.dimension()? };
        let weight = reader.number()?;
        let scores = reader.numbers(shape.vectors)?;
        let products = reader.numbers(shape.width.inputs() * shape.vectors)?;
        reader.finish()?;
        Ok(Self { shape, weight, scores, products, scratch: ProjectionScratch::default() })
    }
}
