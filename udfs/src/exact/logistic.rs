//! Loss, gradient and Hessian of logistic regression at given parameters, in one pass over rows.
//!
//! With scores `z_k = w_k x + b_k`, one output is the log loss of two classes with
//! `p = 1 / (1 + exp(-z))`, and `K >= 2` outputs are the log loss of the softmax. The derivative by
//! `z_k` is `p_k - [y = k]`, the second derivative by `z_a, z_b` is `p_a ([a = b] - p_b)` (Hastie,
//! Tibshirani and Friedman, The Elements of Statistical Learning, 4.4.1 and exercise 4.4). So the
//! Hessian is `K (K + 1) / 2` weighted Gram matrices of the rows.
//!
//! Internally, dense inputs are `x - r` with a reference row `r`, and the intercept is `b + w r`:
//! the same model in coordinates in which means far from 0 do not make the Hessian ill-conditioned.

mod derivatives;
mod pass;

use datafusion_common::{Result, internal_err};

use super::losses::Logit;
use super::moments::{BLOCK, Block, Moments, add, flushes_at, stride_of};
use super::{check_batch, check_rows};
use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::kernels::double::sum;
use crate::kernels::math::vectorized;

/// Sums over rows at one set of parameters: loss, gradient `[n + 1, K]`, Hessian.
#[derive(Clone, Debug)]
pub struct NewtonSum {
    width: Width,
    outputs: usize,
    intercept: bool,
    rows: u64,
    weight: f64,
    loss: f64,
    /// Rows with a weight whose own class does not have the strictly highest score.
    wrong: u64,
    /// `[d]`; nothing before the first row with a weight. All 0 without an intercept.
    reference: Option<Vec<f64>>,
    /// `[K, d + 1]`: sums of `w dL/dz_k [x - r, 1]`.
    dense_gradient: Vec<f64>,
    /// `[t, K]`: sums of `w dL/dz_k` over the rows of each category.
    category_gradient: Vec<f64>,
    /// Blocks `(a, b)`, `b <= a`, at `a (a + 1) / 2 + b`.
    hessian: Vec<Moments>,
    scratch: Scratch,
}

/// Buffers of an update, which are not part of the sum. The buffers of one sum can be used for the
/// next.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    block: Block,
    /// `[K, stride of the block]`: the weights of dense numbers and the shifted intercept.
    parameters: Vec<f64>,
    /// `[stride of the block]`: the gradient of some rows by these parameters.
    gradient: Vec<f64>,
    /// `[K, BLOCK]`: scores, then probabilities.
    scores: Vec<f64>,
    /// `[K, BLOCK]`: row weight times `dL/dz`.
    residuals: Vec<f64>,
    /// `[K]`: scores, then probabilities, of one row.
    row: Vec<f64>,
    /// `[rows]`: the weights of a block of the Hessian.
    h: Vec<f64>,
}

impl NewtonSum {
    /// Sums over no row. `outputs` is 1 for two classes (labels 0 and 1), else the number of
    /// classes (labels `0..K`).
    pub fn new(width: Width, outputs: usize, intercept: bool) -> Result<Self> {
        if outputs == 0 {
            return internal_err!("logistic regression has at least one output, not 0");
        }
        let columns = width.dense + 1;
        Ok(Self {
            width,
            outputs,
            intercept,
            rows: 0,
            weight: 0.0,
            loss: 0.0,
            wrong: 0,
            reference: (!intercept).then(|| vec![0.0; width.dense]),
            dense_gradient: vec![0.0; outputs * columns],
            category_gradient: vec![0.0; outputs * width.categories],
            hessian: vec![Moments::new(columns, width.categories); outputs * (outputs + 1) / 2],
            scratch: Scratch::default(),
        })
    }

    /// The width of the rows.
    pub fn width(&self) -> Width {
        self.width
    }

    /// 1 for two classes, else the number of classes.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether the model has intercepts.
    pub fn intercept(&self) -> bool {
        self.intercept
    }

    /// Rows seen, with or without weight.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The sum of weights.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Rows with a weight that the parameters do not put strictly into their own class. If there
    /// are 0, a hyperplane separates the classes.
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Parameters of the model: `(d + t + 1) K`, or `(d + t) K` without intercept.
    pub fn parameter_count(&self) -> usize {
        (self.width.inputs() + usize::from(self.intercept)) * self.outputs
    }

    /// Adds rows at `parameters`: `[d + t, K]` weights, row-major, then `[K]` intercepts where the
    /// model has them. All sums that are merged must have been taken at the same parameters. Rows
    /// of weight 0 only count in `rows`.
    pub fn update(&mut self, parameters: &[f64], batch: &MiniBatch) -> Result<()> {
        check_batch(self.width, batch)?;
        if parameters.len() != self.parameter_count() {
            return internal_err!(
                "{} parameters were given to a logistic regression of {}",
                parameters.len(),
                self.parameter_count()
            );
        }
        let Width { dense: d, columns: c, categories: t, .. } = self.width;
        let outputs = self.outputs;
        check_rows(batch, Some(outputs.max(2)))?;
        self.rows += batch.rows as u64;
        if self.reference.is_none() {
            let Some(row) = batch.weight.iter().position(|&weight| weight != 0.0) else {
                return Ok(());
            };
            let values = &batch.dense[row * d..(row + 1) * d];
            self.reference = Some(values.iter().map(|&x| f64::from(x)).collect());
        }
        self.shift_parameters(parameters);
        for start in (0..batch.rows).step_by(BLOCK) {
            let rows = BLOCK.min(batch.rows - start);
            let part = batch.slice(start, start + rows, self.width);
            self.score(&parameters[d * outputs..(d + t) * outputs], &part);
            self.differentiate(&part);
            self.add_gradient(&part);
            // With one output, the block continues its sum of the Gram matrix until the chain ends.
            let is_end = flushes_at(start + rows, batch.rows);
            let Scratch { block, scores, h, .. } = &mut self.scratch;
            for a in 0..outputs {
                for b in 0..=a {
                    let same = if a == b { 1.0 } else { 0.0 };
                    vectorized(
                        #[inline(always)]
                        || {
                            let (own, other) = (&scores[a * BLOCK..], &scores[b * BLOCK..]);
                            let (own, other) = (&own[..rows], &other[..rows]);
                            let (h, weight) = (&mut h[..rows], &part.weight[..rows]);
                            for i in 0..rows {
                                h[i] = f64::from(weight[i]) * own[i] * (same - other[i]);
                            }
                        },
                    );
                    let codes = &part.codes[..rows * c];
                    let sums = &mut self.hessian[a * (a + 1) / 2 + b];
                    sums.add_block(block, codes, &h[..rows]);
                    if is_end || outputs > 1 {
                        sums.flush(block);
                    }
                }
            }
        }
        Ok(())
    }

    /// `[d + 1, K]` parameters for rows `[x - r, 1]`, output by output.
    fn shift_parameters(&mut self, parameters: &[f64]) {
        let Width { dense: d, categories: t, .. } = self.width;
        let outputs = self.outputs;
        let stride = stride_of(d + 1);
        let shifted = &mut self.scratch.parameters;
        shifted.clear();
        shifted.resize(outputs * stride, 0.0);
        for (k, own) in shifted.chunks_exact_mut(stride).enumerate() {
            let (weights, rest) = own.split_at_mut(d);
            for (j, weight) in weights.iter_mut().enumerate() {
                *weight = parameters[j * outputs + k];
            }
            if self.intercept {
                rest[0] = parameters[(d + t) * outputs + k];
            }
            for (weight, r) in weights.iter().zip(self.reference.iter().flatten()) {
                rest[0] += weight * r;
            }
        }
    }

    /// Fills the block with rows and `scores` with their scores.
    fn score(&mut self, categories: &[f64], part: &MiniBatch) {
        let Width { dense: d, columns: c, .. } = self.width;
        let outputs = self.outputs;
        let Scratch { block, parameters, scores, residuals, h, row, .. } = &mut self.scratch;
        scores.resize(BLOCK * outputs, 0.0);
        residuals.resize(BLOCK * outputs, 0.0);
        h.resize(BLOCK, 0.0);
        row.resize(outputs, 0.0);
        block.reset(part.rows, d + 1);
        let Some(reference) = &self.reference else { return };
        block.fill(part.dense, reference, part.weight);
        block.fill_column(d, |_| 1.0);
        let parameters = parameters.chunks_exact(block.stride());
        for (scores, parameters) in scores.chunks_exact_mut(BLOCK).zip(parameters) {
            block.rows().scores(parameters, &mut scores[..part.rows]);
        }
        for (row, codes) in part.codes.chunks_exact(c.max(1)).enumerate() {
            for &code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                let weights = &categories[code as usize * outputs..][..outputs];
                for (k, weight) in weights.iter().enumerate() {
                    scores[k * BLOCK + row] += weight;
                }
            }
        }
    }

    /// Turns scores into probabilities, fills the residuals, and adds loss and weight.
    fn differentiate(&mut self, part: &MiniBatch) {
        let outputs = self.outputs;
        if outputs == 1 {
            return self.differentiate_one(part);
        }
        let Scratch { scores, residuals, row: z, .. } = &mut self.scratch;
        for (row, (&label, &weight)) in part.label.iter().zip(part.weight).enumerate() {
            if weight == 0.0 {
                for k in 0..outputs {
                    (scores[k * BLOCK + row], residuals[k * BLOCK + row]) = (0.0, 0.0);
                }
                continue;
            }
            let weight = f64::from(weight);
            let class = label as usize;
            for (k, z) in z.iter_mut().enumerate() {
                *z = scores[k * BLOCK + row];
            }
            let (loss, right) = softmax(z, class);
            self.loss += weight * loss;
            self.weight += weight;
            self.wrong += u64::from(!right);
            for (k, p) in z.iter().enumerate() {
                scores[k * BLOCK + row] = *p;
                residuals[k * BLOCK + row] = weight * (p - f64::from(u8::from(class == k)));
            }
        }
    }

    /// The same for one output, over all rows at once: the probability of class 1, and the loss
    /// `log(1 + exp(z)) - y z`.
    fn differentiate_one(&mut self, part: &MiniBatch) {
        let n = part.rows;
        let Scratch { scores, residuals, h, .. } = &mut self.scratch;
        self.wrong += vectorized(
            #[inline(always)]
            || {
                // (As variables of the closure, the slices have lengths that cannot change, so the
                // loop needs no bounds checks.)
                let (z, residual, loss) = (&mut scores[..n], &mut residuals[..n], &mut h[..n]);
                let (label, weight) = (&part.label[..n], &part.weight[..n]);
                let mut wrong = 0;
                for i in 0..n {
                    let row = Logit::of(z[i], label[i], weight[i]);
                    (loss[i], residual[i]) = (row.loss, row.derivative);
                    z[i] = if weight[i] == 0.0 { 0.0 } else { row.probability };
                    wrong += u64::from(row.is_wrong);
                }
                wrong
            },
        );
        self.loss += sum(&h[..n]);
        self.weight += sum(part.weight);
    }

    fn add_gradient(&mut self, part: &MiniBatch) {
        let Width { dense: d, columns: c, .. } = self.width;
        let outputs = self.outputs;
        let Scratch { block, residuals, gradient, .. } = &mut self.scratch;
        let gradients = self.dense_gradient.chunks_exact_mut(d + 1);
        for (sums, residuals) in gradients.zip(residuals.chunks_exact(BLOCK)) {
            gradient.clear();
            gradient.resize(block.stride(), 0.0);
            block.rows().add_sums(residuals, gradient);
            add(sums, gradient);
        }
        for (row, codes) in part.codes.chunks_exact(c.max(1)).enumerate() {
            for &code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                let gradient = &mut self.category_gradient[code as usize * outputs..][..outputs];
                for (k, gradient) in gradient.iter_mut().enumerate() {
                    *gradient += residuals[k * BLOCK + row];
                }
            }
        }
    }
}

/// Replaces `z` by the probabilities. Returns the loss `log sum exp(z) - z_y`, and whether class
/// `y` has the strictly highest score.
fn softmax(z: &mut [f64], class: usize) -> (f64, bool) {
    let own = z[class];
    let rivals = z.iter().enumerate().filter(|(k, _)| *k != class);
    let rival = rivals.fold(f64::NEG_INFINITY, |most, (_, z)| most.max(*z));
    let highest = own.max(rival);
    let mut total = 0.0;
    for z in &mut *z {
        *z = (*z - highest).exp();
        total += *z;
    }
    z.iter_mut().for_each(|z| *z /= total);
    (total.ln() + (highest - own), own > rival)
}
