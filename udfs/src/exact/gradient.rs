//! Loss and gradient of a linear model at given parameters, in one pass over rows.
//!
//! Scores are `z_k = w_k x + b_k` for `K` outputs; the loss is any of [`Loss`]. All sums are
//! float64 over inputs that are float32.

use datafusion_common::{Result, exec_err, internal_err, plan_err};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::bytes::{Reader, Writer};
use super::losses::{differentiate, differentiate_logits};
use super::moments::{Block, add, stride_of};
use super::{PassSum, check_batch, check_rows, check_same};
use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::kernels::double::sum;
use crate::learner::Loss;

const TAG: [u8; 4] = *b"GLGR";
const VERSION: u32 = 1;

/// Numbers of a block of rows: 256 KB, which fit the L2 cache.
const BLOCK_NUMBERS: usize = 1 << 15;
/// Rows of a block: the maximum, and the minimum below.
const MOST_ROWS: usize = 256;
const LEAST_ROWS: usize = 16;

/// The shape of a linear model: the width of its rows, its outputs, its intercepts, its loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Width of the rows.
    pub width: Width,
    /// Outputs `K`.
    pub outputs: usize,
    /// Whether each output has an intercept.
    pub intercept: bool,
    /// The loss of a row.
    pub loss: Loss,
}

impl LinearShape {
    /// Weights `(d + t) K`: parameters that are penalised, before the intercepts.
    pub fn weights(&self) -> usize {
        self.width.inputs() * self.outputs
    }

    /// Parameters: weights `[d + t, K]`, row-major, then `[K]` intercepts where there are any.
    pub fn parameters(&self) -> usize {
        self.weights() + if self.intercept { self.outputs } else { 0 }
    }
}

/// Sums over rows at one set of parameters. Merging is addition.
#[derive(Clone, Debug)]
pub struct GradientSum {
    shape: LinearShape,
    rows: u64,
    weight: f64,
    loss: f64,
    /// Rows with a weight that are not strictly on the side of their class; all rows where there
    /// are no probabilities of classes.
    wrong: u64,
    /// `[d + 1, K]`: sums of `w dL/dz_k [x, 1]`.
    dense: Vec<f64>,
    /// `[t, K]`: sums of `w dL/dz_k` over the rows of each category.
    categories: Vec<f64>,
    scratch: GradientScratch,
}

/// Buffers of an update, which are not part of the sum. The buffers of one sum can be used for the
/// next.
#[derive(Clone, Debug, Default)]
pub struct GradientScratch {
    block: Block,
    /// Weights of dense numbers and of the 1: `[stride]` of one output, `[d + 1, K]` of more.
    parameters: Vec<f64>,
    /// `[rows, K]`: scores, then `w dL/dz`.
    scores: Vec<f64>,
    /// `[rows]`
    losses: Vec<f64>,
    /// `[stride]`: the gradient of a block by the parameters of one output.
    gradient: Vec<f64>,
    /// `[d]`: no shift.
    origin: Vec<f64>,
}

impl GradientSum {
    /// Sums over no row.
    ///
    /// # Errors
    /// When the shape has no output, or a loss of quantiles.
    pub fn new(shape: LinearShape) -> Result<Self> {
        if shape.loss == Loss::Quantile {
            return internal_err!("a gradient sum has no quantiles");
        }
        if shape.outputs == 0 {
            return internal_err!("a linear model has at least one output, not 0");
        }
        Ok(Self {
            shape,
            rows: 0,
            weight: 0.0,
            loss: 0.0,
            wrong: 0,
            dense: vec![0.0; (shape.width.dense + 1) * shape.outputs],
            categories: vec![0.0; shape.width.categories * shape.outputs],
            scratch: GradientScratch::default(),
        })
    }

    /// The shape of the linear model.
    pub fn shape(&self) -> LinearShape {
        self.shape
    }

    /// Rows seen, with or without weight.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Weighted mean loss, without a penalty; NaN without rows.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.weight
    }

    /// Whether every row is strictly on the side of its class, so that a hyperplane separates them.
    pub fn is_separated(&self) -> bool {
        self.wrong == 0
    }

    /// The gradient of the mean loss, as long as the parameters and in their order.
    ///
    /// # Errors
    /// When no row has a weight.
    pub fn gradient(&self) -> Result<Vec<f64>> {
        if self.weight == 0.0 {
            return exec_err!("there is no row with a weight to fit a linear model to");
        }
        let split = self.shape.width.dense * self.shape.outputs;
        let mut gradient = Vec::with_capacity(self.shape.parameters());
        gradient.extend_from_slice(&self.dense[..split]);
        gradient.extend_from_slice(&self.categories);
        if self.shape.intercept {
            gradient.extend_from_slice(&self.dense[split..]);
        }
        gradient.iter_mut().for_each(|g| *g /= self.weight);
        Ok(gradient)
    }

    /// Adds rows at `parameters`, as [`LinearShape::parameters`] lays them out. All sums that are
    /// merged must have been taken at the same parameters. Rows of weight 0 only count in `rows`.
    ///
    /// # Errors
    /// When a label is not a class of a model of classes, or a weight is negative or not finite.
    pub fn update(&mut self, parameters: &[f64], batch: &MiniBatch) -> Result<()> {
        check_batch(self.shape.width, batch)?;
        if parameters.len() != self.shape.parameters() {
            return internal_err!(
                "{} parameters were given to a linear model of {}",
                parameters.len(),
                self.shape.parameters()
            );
        }
        check_rows(batch, self.classes())?;
        self.lay_out(parameters);
        let Width { dense: d, categories: t, .. } = self.shape.width;
        let table = &parameters[d * self.shape.outputs..(d + t) * self.shape.outputs];
        let most = (BLOCK_NUMBERS / stride_of(d + 1)).clamp(LEAST_ROWS, MOST_ROWS);
        self.rows += batch.rows as u64;
        for start in (0..batch.rows).step_by(most) {
            let end = batch.rows.min(start + most);
            let part = batch.slice(start, end, self.shape.width);
            self.score(table, &part);
            self.differentiate(&part);
            self.add_gradient(&part);
        }
        Ok(())
    }

    /// Classes of the labels; None if they are numbers.
    fn classes(&self) -> Option<usize> {
        let LinearShape { loss, outputs, .. } = self.shape;
        loss.is_of_classes().then(|| outputs.max(2))
    }

    /// Lays out the weights of dense numbers, then those of the 1, as the products read them.
    fn lay_out(&mut self, parameters: &[f64]) {
        let LinearShape { width, outputs, intercept, .. } = self.shape;
        let dense = width.dense * outputs;
        let own = &mut self.scratch.parameters;
        own.clear();
        own.extend_from_slice(&parameters[..dense]);
        match intercept {
            true => own.extend_from_slice(&parameters[self.shape.weights()..]),
            false => own.resize(dense + outputs, 0.0),
        }
        if outputs == 1 {
            own.resize(stride_of(width.dense + 1), 0.0);
        }
    }

    /// Fills the block with rows and `scores [rows, K]` with their scores.
    fn score(&mut self, table: &[f64], part: &MiniBatch) {
        let LinearShape { width: Width { dense: d, columns: c, .. }, outputs, .. } = self.shape;
        let GradientScratch { block, parameters, scores, origin, .. } = &mut self.scratch;
        origin.resize(d, 0.0);
        grow(scores, part.rows * outputs);
        block.reset(part.rows, d + 1);
        block.fill(part.dense, origin, part.weight);
        block.fill_column(d, |_| 1.0);
        let scores = &mut scores[..part.rows * outputs];
        if outputs == 1 {
            block.rows().scores(parameters, scores);
        } else {
            matmul(
                MatMut::from_row_major_slice_mut(scores, part.rows, outputs),
                Accum::Replace,
                block.matrix(),
                MatRef::from_row_major_slice(&parameters[..(d + 1) * outputs], d + 1, outputs),
                1.0,
                Par::Seq,
            );
        }
        for (scores, codes) in
            scores.chunks_exact_mut(outputs).zip(part.codes.chunks_exact(c.max(1)))
        {
            for &code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                add(scores, &table[code as usize * outputs..][..outputs]);
            }
        }
    }

    /// Turns scores into derivatives, and adds loss and weight.
    fn differentiate(&mut self, part: &MiniBatch) {
        let LinearShape { outputs, loss, .. } = self.shape;
        let GradientScratch { scores, losses, .. } = &mut self.scratch;
        let scores = &mut scores[..part.rows * outputs];
        grow(losses, part.rows);
        let losses = &mut losses[..part.rows];
        if loss == Loss::Logistic && outputs == 1 {
            self.wrong += differentiate_logits(scores, part.label, part.weight, losses);
        } else {
            let labels = part.label.chunks_exact(self.shape.width.targets.max(1));
            let rows = labels.zip(part.weight).zip(losses.iter_mut());
            for (z, ((label, &weight), value)) in scores.chunks_exact_mut(outputs).zip(rows) {
                if weight == 0.0 {
                    z.fill(0.0);
                    *value = 0.0;
                    continue;
                }
                let own = z.get(label[0] as usize).copied();
                let is_right =
                    loss == Loss::Softmax && z.iter().filter(|z| Some(**z) >= own).count() == 1;
                self.wrong += u64::from(!is_right);
                let weight = f64::from(weight);
                *value = weight * differentiate(loss, z, label);
                z.iter_mut().for_each(|z| *z *= weight);
            }
        }
        self.loss += sum(losses);
        self.weight += sum(part.weight);
    }

    fn add_gradient(&mut self, part: &MiniBatch) {
        let LinearShape { width: Width { dense: d, columns: c, .. }, outputs, .. } = self.shape;
        let GradientScratch { block, scores, gradient, .. } = &mut self.scratch;
        let slopes = &scores[..part.rows * outputs];
        if outputs == 1 {
            gradient.clear();
            gradient.resize(block.stride(), 0.0);
            block.rows().add_sums(slopes, gradient);
            add(&mut self.dense, gradient);
        } else {
            matmul(
                MatMut::from_row_major_slice_mut(&mut self.dense, d + 1, outputs),
                Accum::Add,
                block.matrix().transpose(),
                MatRef::from_row_major_slice(slopes, part.rows, outputs),
                1.0,
                Par::Seq,
            );
        }
        for (slopes, codes) in slopes.chunks_exact(outputs).zip(part.codes.chunks_exact(c.max(1))) {
            for &code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                add(&mut self.categories[code as usize * outputs..][..outputs], slopes);
            }
        }
    }
}

impl PassSum for GradientSum {
    type Shape = LinearShape;
    type Scratch = GradientScratch;
    const KIND: &'static str = "gradient";

    fn empty(shape: LinearShape, scratch: GradientScratch) -> Result<Self> {
        Ok(Self { scratch, ..Self::new(shape)? })
    }

    fn width_of(shape: LinearShape) -> Width {
        shape.width
    }

    fn memory(shape: LinearShape) -> usize {
        size_of::<f64>() * 2 * shape.parameters()
    }

    fn add(&mut self, parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()> {
        self.update(parameters, rows)
    }

    fn take_scratch(&mut self) -> GradientScratch {
        std::mem::take(&mut self.scratch)
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(Self::KIND, self.shape, other.shape)?;
        self.rows += other.rows;
        self.weight += other.weight;
        self.loss += other.loss;
        self.wrong += other.wrong;
        add(&mut self.dense, &other.dense);
        add(&mut self.categories, &other.categories);
        Ok(())
    }

    /// The sums in little-endian bytes: `"GLGR"`, `u32` version 1; `u64` d, c, t, K, 1 with
    /// intercept, the loss by its index in [`Loss::ALL`], rows, wrong rows; `f64` weight, loss,
    /// dense gradient `[d + 1, K]`, category gradient `[t, K]`.
    fn to_bytes(&self) -> Vec<u8> {
        let LinearShape { width, outputs, intercept, loss } = self.shape;
        let place = Loss::ALL.iter().position(|other| *other == loss).unwrap_or(0);
        let mut writer = Writer::new(TAG, VERSION);
        writer.width(width);
        writer.integers(&[outputs as u64, u64::from(intercept), place as u64]);
        writer.integers(&[self.rows, self.wrong]);
        writer.numbers(&[self.weight, self.loss]);
        writer.reserve(self.dense.len() + self.categories.len());
        writer.numbers(&self.dense);
        writer.numbers(&self.categories);
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a gradient sum")?;
        let (width, outputs) = (reader.width()?, reader.dimension()?);
        let intercept = reader.integer()? == 1;
        let Some(&loss) = Loss::ALL.get(reader.dimension()?) else {
            return plan_err!("a gradient sum has a loss that this build does not know");
        };
        let targets = if loss.is_of_classes() { 1 } else { outputs };
        let width = Width { targets, ..width };
        let (rows, wrong) = (reader.integer()?, reader.integer()?);
        let (weight, loss_sum) = (reader.number()?, reader.number()?);
        let dense = reader.numbers((width.dense + 1) * outputs)?;
        let categories = reader.numbers(width.categories * outputs)?;
        reader.finish()?;
        let shape = LinearShape { width, outputs, intercept, loss };
        let sum = Self::new(shape)?;
        Ok(Self { rows, weight, loss: loss_sum, wrong, dense, categories, ..sum })
    }
}

/// Makes the buffer hold at least so many numbers.
fn grow(numbers: &mut Vec<f64>, count: usize) {
    if numbers.len() < count {
        numbers.resize(count, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::oracle::{adult, close, iris};
    use super::*;

    /// The naive loss and gradient, row by row.
    fn naive(shape: LinearShape, parameters: &[f64], batch: &MiniBatch) -> (f64, Vec<f64>) {
        let LinearShape { width, outputs, intercept, loss } = shape;
        let (mut total, mut weights) = (0.0, 0.0);
        let mut gradient = vec![0.0; parameters.len()];
        for row in 0..batch.rows {
            let mut inputs: Vec<(usize, f64)> = batch.dense[row * width.dense..][..width.dense]
                .iter()
                .enumerate()
                .map(|(j, x)| (j, f64::from(*x)))
                .collect();
            let codes = &batch.codes[row * width.columns..][..width.columns];
            let known = codes.iter().filter(|code| **code != NO_CATEGORY);
            inputs.extend(known.map(|code| (width.dense + *code as usize, 1.0)));
            let of_bias = shape.weights();
            let mut z: Vec<f64> = (0..outputs)
                .map(|k| {
                    let own = inputs.iter().map(|(j, x)| parameters[j * outputs + k] * x);
                    own.sum::<f64>() + if intercept { parameters[of_bias + k] } else { 0.0 }
                })
                .collect();
            let weight = f64::from(batch.weight[row]);
            total += weight * differentiate(loss, &mut z, &batch.label[row..=row]);
            weights += weight;
            for (k, slope) in z.iter().enumerate() {
                for (j, x) in &inputs {
                    gradient[j * outputs + k] += weight * slope * x;
                }
                if intercept {
                    gradient[of_bias + k] += weight * slope;
                }
            }
        }
        gradient.iter_mut().for_each(|g| *g /= weights);
        (total / weights, gradient)
    }

    #[test]
    fn sums_are_those_of_one_row_after_another_however_they_are_cut() {
        for (case, classes) in [(adult(), 1), (iris(), 3)] {
            let codes = case.codes();
            let (width, batch) = (case.width(), case.batch(&codes));
            for loss in Loss::ALL {
                let outputs = match loss {
                    Loss::Softmax | Loss::SquaredHinge | Loss::Hinge => classes,
                    _ => 1,
                };
                if (loss == Loss::Logistic && classes > 1)
                    || (loss == Loss::Softmax && classes == 1)
                {
                    continue;
                }
                for intercept in [true, false] {
                    let shape = LinearShape { width, outputs, intercept, loss };
                    let at: Vec<f64> =
                        (0..shape.parameters()).map(|i| 0.1 * (i as f64 * 1.7).sin()).collect();
                    let (loss_of, truth) = naive(shape, &at, &batch);
                    for cuts in [vec![0, case.rows], vec![0, 1, 17, 100, case.rows]] {
                        let mut whole = GradientSum::new(shape).unwrap();
                        for pair in cuts.windows(2) {
                            let mut part = GradientSum::new(shape).unwrap();
                            part.update(&at, &batch.slice(pair[0], pair[1], width)).unwrap();
                            let bytes = part.to_bytes();
                            whole.merge(&GradientSum::from_bytes(&bytes).unwrap()).unwrap();
                        }
                        assert_eq!(whole.rows(), case.rows as u64);
                        close("loss", &[whole.mean_loss()], &[loss_of], 1e-13);
                        close("gradient", &whole.gradient().unwrap(), &truth, 1e-12);
                    }
                }
            }
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_refused_in_one_sentence() {
        let width = Width { dense: 1, ..Width::default() };
        let shape = LinearShape { width, outputs: 3, intercept: true, loss: Loss::Softmax };
        let row = |label, weight| MiniBatch {
            rows: 1,
            dense: &[1.0],
            label,
            weight,
            ..MiniBatch::default()
        };
        let update = |batch: &MiniBatch| {
            let mut sum = GradientSum::new(shape).unwrap();
            sum.update(&[0.0; 6], batch).map_err(|e| e.to_string())?;
            sum.gradient().map_err(|e| e.to_string())
        };
        assert!(
            update(&row(&[3.0], &[1.0])).unwrap_err().contains("class index 3 is out of range")
        );
        assert!(update(&row(&[1.0], &[-1.0])).unwrap_err().contains("finite and at least 0"));
        assert!(update(&row(&[9.0], &[0.0])).unwrap_err().contains("no row with a weight"));
        let bytes = GradientSum::new(shape).unwrap().to_bytes();
        for cut in [0, 4, 20, bytes.len() - 1] {
            assert!(GradientSum::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
