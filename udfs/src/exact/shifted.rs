//! Moments of rows relative to the first of them: what Gram and covariance matrices have in common.

use datafusion_common::Result;

use super::bytes::{Reader, Writer};
use super::moments::{BLOCK, Block, Moments, flushes_at};
use crate::batch::{MiniBatch, Width};

/// Weighted sums over rows, `w`, `w v`, `w v v^T` of `v = [x, y]`, the `n = d + t` inputs and the
/// `k` numbers of the target.
///
/// Merging is addition; where references differ the other sums are translated first.
#[derive(Clone, Debug)]
pub(super) struct ShiftedMoments {
    width: Width,
    /// `[d + k]`: dense numbers and targets; nothing before the first row with a weight.
    reference: Option<Vec<f64>>,
    /// Dense columns `[x - r, y - r_y, 1]`, `d + k + 1` of them.
    moments: Moments,
    block: Block,
    weights: Vec<f64>,
}

impl ShiftedMoments {
    /// Sums over no rows; the first row with a positive weight becomes the reference.
    pub(super) fn new(width: Width) -> Self {
        Self {
            width,
            reference: None,
            moments: Moments::new(width.dense + width.targets + 1, width.categories),
            block: Block::default(),
            weights: Vec::new(),
        }
    }

    /// Sums over no rows with a given reference `[d + k]`.
    pub(super) fn with_reference(width: Width, reference: Vec<f64>) -> Self {
        Self { reference: Some(reference), ..Self::new(width) }
    }

    /// The width of the rows.
    pub(super) fn width(&self) -> Width {
        self.width
    }

    /// `[d + k]`, where there is one.
    pub(super) fn reference(&self) -> Option<&[f64]> {
        self.reference.as_deref()
    }

    /// The moments of `[x - r, y - r_y, 1]` and the categories.
    pub(super) fn moments(&self) -> &Moments {
        &self.moments
    }

    /// The sum of weights.
    pub(super) fn weight(&self) -> f64 {
        let one = self.width.dense + self.width.targets;
        self.moments.dense(one, one)
    }

    /// Adds rows, whose shape has been checked. Rows of weight 0 change nothing, whatever their
    /// values are; a negative weight has no meaning here and makes the sums NaN.
    pub(super) fn update(&mut self, batch: &MiniBatch<'_>) {
        let Width { dense: d, columns: c, targets: k, .. } = self.width;
        if self.reference.is_none() {
            let Some(row) = batch.weight.iter().position(|&weight| weight != 0.0) else { return };
            let dense = batch.dense[row * d..(row + 1) * d].iter();
            let values = dense.chain(&batch.label[row * k..(row + 1) * k]);
            self.reference = Some(values.map(|&x| f64::from(x)).collect());
        }
        let Some(reference) = &self.reference else { return };
        self.weights.resize(BLOCK, 0.0);
        for start in (0..batch.rows).step_by(BLOCK) {
            let rows = BLOCK.min(batch.rows - start);
            self.block.reset(rows, d + k + 1);
            let weight = &batch.weight[start..start + rows];
            self.block.fill(&batch.dense[start * d..(start + rows) * d], &reference[..d], weight);
            for (own, weight) in self.weights.iter_mut().zip(weight) {
                *own = if *weight < 0.0 { f64::NAN } else { f64::from(*weight) };
            }
            let label = &batch.label[start * k..(start + rows) * k];
            let is_there = |row: usize| weight[row] != 0.0;
            for (i, origin) in reference[d..].iter().enumerate() {
                self.block.fill_column(d + i, |row| {
                    if is_there(row) { f64::from(label[row * k + i]) - origin } else { 0.0 }
                });
            }
            self.block.fill_column(d + k, |row| if is_there(row) { 1.0 } else { 0.0 });
            let codes = &batch.codes[start * c..(start + rows) * c];
            self.moments.add_block(&mut self.block, codes, &self.weights[..rows]);
            if flushes_at(start + rows, batch.rows) {
                self.moments.flush(&mut self.block);
            }
        }
    }

    /// Adds the sums over other rows of the same width.
    pub(super) fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.reference else { return };
        match &self.reference {
            None => {
                self.reference = Some(theirs.clone());
                self.moments = other.moments.clone();
            }
            Some(ours) if ours == theirs => self.moments.merge(&other.moments),
            Some(_) if other.weight() == 0.0 => {}
            Some(ours) => {
                let shifts = theirs.iter().zip(ours).map(|(theirs, ours)| theirs - ours);
                let delta: Vec<f64> = shifts.chain([0.0]).collect();
                let mut moved = other.moments.clone();
                moved.translate(&delta);
                self.moments.merge(&moved);
            }
        }
    }

    /// Follows a change of scale: dense numbers `x` become `factor x + shift`. There is no target.
    pub(super) fn rescale(&mut self, factor: &[f64], shift: &[f64]) {
        let all: Vec<f64> = factor.iter().copied().chain([1.0]).collect();
        self.moments.rescale(&all);
        let reference = self.reference.iter_mut().flatten().zip(factor).zip(shift);
        reference.for_each(|((own, factor), shift)| *own = factor * *own + shift);
    }

    /// Takes rows with so many categories from now on, more than before.
    pub(super) fn grow(&mut self, categories: usize) {
        self.width.categories = categories;
        self.moments.grow(categories);
    }

    /// `f64` reference `[d + k]`, 0 where there is none; then, with `a = d + k + 1` dense columns,
    /// the lower triangle of `[a, a]` column by column, the sums by category `[t, a]`, and the
    /// lower triangle of the counts by pairs of categories `[t, t]` row by row.
    pub(super) fn write(&self, writer: &mut Writer) {
        match &self.reference {
            Some(reference) => writer.numbers(reference),
            None => writer.numbers(&vec![0.0; self.width.dense + self.width.targets]),
        }
        self.moments.values().for_each(|values| writer.numbers(values));
    }

    /// What [`Self::write`] wrote of rows of this width; `known` where there is a reference.
    pub(super) fn read(reader: &mut Reader<'_>, width: Width, known: bool) -> Result<Self> {
        let numbers = width.dense + width.targets;
        let reference = reader.numbers(numbers)?;
        let values = reader.numbers(Moments::packed_len(numbers + 1, width.categories))?;
        Ok(Self {
            reference: known.then_some(reference),
            moments: Moments::from_values(numbers + 1, width.categories, &values),
            ..Self::new(width)
        })
    }
}
