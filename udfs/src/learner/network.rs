//! A chain of dense layers; with no hidden layer, a linear model.
//!
//! ```text
//! x[r, d] ─┐                                    dropout
//!          ├─► z0 = x W0 + gather(codes) + b0 ─► a0 = f(z0) ─► z1 = a0 W1 + b1 ─► ... ─► loss
//! codes ───┘
//! ```
//! The first weight is `[d + t, units]`: its last `t` rows are the weight table of categories.

use super::{Activation, Layout, Learner, Loss, LossSum, Role, Scratch, StepKey, Table};
use crate::batch::{MiniBatch, Width};
use crate::kernels::{activation, gather, linear, matmul, quantile, rng, row};
use crate::model::NetworkSpec;

/// One dense layer: the ranges of its tensors in the flat parameters.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) inputs: usize,
    pub(super) units: usize,
    pub(super) weight: std::ops::Range<usize>,
    pub(super) bias: std::ops::Range<usize>,
}

/// A chain of dense layers.
#[derive(Clone, Debug)]
pub struct Network {
    width: Width,
    pub(super) activation: Activation,
    loss: Loss,
    /// Quantiles of the outputs; empty of losses without.
    quantiles: Vec<f32>,
    pub(super) dropout: f32,
    pub(super) layers: Vec<Layer>,
    layout: Layout,
}

/// Streams of random numbers: initial weights of a layer, dropout of a layer.
const INIT_STREAM: u64 = 1 << 32;
const DROPOUT_STREAM: u64 = 2 << 32;

impl Network {
    /// The network of a specification for rows of a width.
    pub fn new(spec: &NetworkSpec, width: Width) -> Self {
        let mut layout = Layout::default();
        let mut layers = vec![];
        let mut inputs = width.inputs();
        let units = spec.hidden.iter().copied().chain([spec.outputs]);
        for (i, units) in units.enumerate() {
            let is_output = i == spec.hidden.len();
            let start = layout.len();
            layout.push(i, "weight", vec![inputs, units], Role::Weight);
            let weight = start..layout.len();
            if !is_output {
                layout.push(i, "bias", vec![units], Role::Bias);
            } else if spec.intercept {
                layout.push(i, "bias", vec![units], Role::Intercept);
            }
            let bias = weight.end..layout.len();
            layers.push(Layer { inputs, units, weight, bias });
            inputs = units;
        }
        Self {
            width,
            activation: spec.activation,
            loss: spec.loss,
            quantiles: spec.quantiles.iter().map(|q| *q as f32).collect(),
            dropout: spec.dropout,
            layers,
            layout,
        }
    }

    /// The loss of a row.
    pub fn loss_function(&self) -> Loss {
        self.loss
    }

    /// Whether one output is linear in the inputs: this hottest loop of all has its own code path.
    fn is_single_linear(&self) -> bool {
        matches!(self.layers.as_slice(), [only] if only.units == 1) && self.quantiles.is_empty()
    }

    /// Returns the weighted sum of losses of some rows, and replaces the raw outputs
    /// `z[r, outputs]` by `scale * weight` times the derivative of the row's loss. Labels are as
    /// [`Loss::differentiate`] has them; for quantiles, `[r]`.
    pub(super) fn differentiate(
        &self,
        z: &mut [f32],
        label: &[f32],
        weight: &[f32],
        scale: f32,
    ) -> LossSum {
        match self.quantiles.as_slice() {
            [] => self.loss.differentiate(z, self.outputs(), label, weight, scale),
            quantiles => quantile::differentiate(quantiles, z, label, weight, scale),
        }
    }

    /// `z = x W + gather + b` of the first layer.
    fn first_layer(&self, parameters: &[f32], batch: &MiniBatch<'_>, z: &mut [f32]) {
        let Some(layer) = self.layers.first() else { return };
        let (d, u) = (self.width.dense, layer.units);
        let weight = &parameters[layer.weight.clone()];
        matmul::forward(batch.dense, weight, z, batch.rows, d, u, false);
        gather::forward(batch.codes, &weight[d * u..], z, self.width.columns, u);
    }

    /// All layers forward. `scratch` afterwards holds, per layer, z and (hidden) a after dropout;
    /// see [`Network::buffers`].
    fn forward(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        dropout: Option<StepKey>,
        scratch: &mut Scratch,
    ) {
        let r = batch.rows;
        let last = self.layers.len() - 1;
        for (i, layer) in self.layers.iter().enumerate() {
            let n = r * layer.units;
            let bias = &parameters[layer.bias.clone()];
            let (before, rest) = scratch.buffers.split_at_mut(2 * i);
            let [z, a, ..] = rest else { return };
            let z = &mut z[..n];
            match before.last() {
                None => self.first_layer(parameters, batch, z),
                Some(input) => {
                    let weight = &parameters[layer.weight.clone()];
                    matmul::forward(input, weight, z, r, layer.inputs, layer.units, false);
                }
            }
            if i == last {
                activation::add_bias(z, bias, layer.units);
                return;
            }
            let a = &mut a[..n];
            activation::forward(self.activation, z, bias, a, layer.units);
            if let (Some(key), true) = (dropout, self.dropout > 0.0) {
                self.drop(key, i, batch.first_row * layer.units, a);
            }
        }
    }

    /// Inverted dropout (Srivastava et al. 2014, as PyTorch): drops values with probability `p`
    /// and scales the others by `1 / (1 - p)`. The mask is a function of seed, step, layer and
    /// position, so backward draws it again instead of keeping it. `first` is the position of the
    /// first value in the `[rows, units]` of the mini-batch.
    pub(super) fn drop(&self, key: StepKey, layer: usize, first: usize, values: &mut [f32]) {
        let keep = 1.0 / (1.0 - self.dropout);
        let stream = DROPOUT_STREAM + layer as u64;
        let seed = rng::mix(key.seed, stream, key.step);
        let base = first as u64;
        for (i, value) in values.iter_mut().enumerate() {
            let draw = rng::unit(rng::mix(seed, stream, base + i as u64));
            *value = if draw < self.dropout { 0.0 } else { *value * keep };
        }
    }

    /// The gradient of a linear model with one output: per row a dot product, the derivative of
    /// the loss, and an update of the sum.
    fn single_linear_gradient(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        scale: f32,
        scratch: &mut Scratch,
        gradient: &mut [f32],
    ) -> LossSum {
        let (d, c) = (self.width.dense, self.width.columns);
        let (weights, of_bias) = gradient.split_at_mut(self.layers[0].weight.end);
        let (dense, table) = weights.split_at_mut(d);
        let (bias, sum) = if batch.rows == 1 {
            let (w, categories, bias) = self.single_linear_parameters(parameters);
            let row = row::Row { loss: self.loss, scale, w, table: categories, bias };
            row::gradient(&row, batch, dense, table)
        } else {
            let z = &mut scratch.buffers[0][..batch.rows];
            self.single_linear_scores(parameters, batch, z);
            let sum = self.loss.differentiate(z, 1, batch.label, batch.weight, scale);
            linear::weight_gradient_prefetching(batch.dense, z, dense, batch.prefetch.part(1, 2));
            gather::single_backward(batch.codes, z, table, c);
            (linear::bias_gradient(z), sum)
        };
        if let Some(of_bias) = of_bias.first_mut() {
            *of_bias = bias;
        }
        sum
    }

    /// Weights, the table of categories and the bias.
    #[inline(always)]
    fn single_linear_parameters<'a>(&self, parameters: &'a [f32]) -> (&'a [f32], &'a [f32], f32) {
        let layer = &self.layers[0];
        let (dense, table) = parameters[layer.weight.clone()].split_at(self.width.dense);
        (dense, table, parameters[layer.bias.clone()].first().copied().unwrap_or(0.0))
    }

    fn single_linear_scores(&self, parameters: &[f32], batch: &MiniBatch<'_>, z: &mut [f32]) {
        let (dense, table, bias) = self.single_linear_parameters(parameters);
        linear::scores_prefetching(batch.dense, dense, bias, z, batch.prefetch.part(0, 2));
        gather::single_forward(batch.codes, table, z, self.width.columns);
    }
}

impl Learner for Network {
    fn width(&self) -> Width {
        self.width
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn table(&self) -> Table {
        let units = self.layers.first().map_or(0, |layer| layer.units);
        let Width { dense, categories, .. } = self.width;
        Table { offset: dense * units, categories, units }
    }

    fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.units)
    }

    fn network(&self) -> Option<&Network> {
        (self.layers.len() > 1).then_some(self)
    }

    fn linear_loss(&self) -> Option<Loss> {
        (self.layers.len() == 1 && self.quantiles.is_empty()).then_some(self.loss)
    }

    fn flops_per_row(&self) -> u64 {
        // Forward, and backward by weights and by inputs: 2 operations a parameter each. In the
        // category table a row reads only its own rows.
        let first = self.layers.first().map_or(0, |layer| layer.units);
        let touched = (self.width.dense + self.width.columns) * first;
        let rest: usize = self.layers.iter().skip(1).map(|l| l.inputs * l.units).sum();
        6 * (touched + rest) as u64
    }

    /// Zeros for a linear model. Otherwise weights uniform in `[-b, b]` with `b = sqrt(6 / fan_in)`
    /// for rectified units (He et al. 2015) and `sqrt(6 / (fan_in + fan_out))` for others (Glorot
    /// and Bengio 2010), biases zero. One-hot columns count as one input each.
    fn initialize(&self, seed: u64, parameters: &mut [f32]) {
        parameters.fill(0.0);
        if self.layers.len() == 1 {
            return;
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let fan_in =
                if i == 0 { self.width.dense + self.width.columns } else { layer.inputs } as f32;
            let rectified =
                matches!(self.activation, Activation::Relu | Activation::Elu | Activation::Gelu);
            let bound = if rectified {
                (6.0 / fan_in).sqrt()
            } else {
                (6.0 / (fan_in + layer.units as f32)).sqrt()
            };
            for (j, w) in parameters[layer.weight.clone()].iter_mut().enumerate() {
                let draw = rng::unit(rng::mix(seed, INIT_STREAM + i as u64, j as u64));
                *w = bound * (2.0 * draw - 1.0);
            }
        }
    }

    /// Per layer z and a `[rows, units]`, then two buffers for gradients of the widest layer.
    fn scratch(&self, rows: usize) -> Scratch {
        let mut buffers: Vec<Vec<f32>> = vec![];
        for layer in &self.layers {
            buffers.push(vec![0.0; rows * layer.units]);
            buffers.push(vec![0.0; rows * layer.units]);
        }
        let widest = self.layers.iter().map(|layer| layer.units).max().unwrap_or(0);
        buffers.push(vec![0.0; rows * widest]);
        buffers.push(vec![0.0; rows * widest]);
        Scratch { buffers, own: None }
    }

    fn sparse_gradient(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        key: StepKey,
        scale: f32,
        scratch: &mut Scratch,
        gradient: &mut [f32],
    ) -> LossSum {
        if batch.rows == 0 {
            let table = self.table().range();
            gradient[..table.start].fill(0.0);
            gradient[table.end..].fill(0.0);
            return LossSum::default();
        }
        if self.is_single_linear() {
            return self.single_linear_gradient(parameters, batch, scale, scratch, gradient);
        }
        self.forward(parameters, batch, Some(key), scratch);
        let r = batch.rows;
        let n = self.layers.len();
        let (layers, pair) = scratch.buffers.split_at_mut(2 * n);
        let [above, below] = pair else { return LossSum::default() };
        let outputs = self.outputs();
        let dz = &mut above[..r * outputs];
        dz.copy_from_slice(&layers[2 * (n - 1)][..r * outputs]);
        let sum = self.differentiate(dz, batch.label, batch.weight, scale);
        // `above` holds dz of the current layer, `below` becomes that of the layer before.
        let (mut above, mut below) = (above, below);
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let u = layer.units;
            let dz = &above[..r * u];
            if i == n - 1 {
                activation::column_sums(dz, &mut gradient[layer.bias.clone()], u);
            }
            let weight_gradient = &mut gradient[layer.weight.clone()];
            if i == 0 {
                let d = self.width.dense;
                let (dense, table) = weight_gradient.split_at_mut(d * u);
                matmul::weight_gradient(batch.dense, dz, dense, r, d, u);
                gather::backward(batch.codes, dz, table, self.width.columns, u);
                break;
            }
            let input = &layers[2 * i - 1][..r * layer.inputs];
            matmul::weight_gradient(input, dz, weight_gradient, r, layer.inputs, u);
            let da = &mut below[..r * layer.inputs];
            matmul::backward(dz, &parameters[layer.weight.clone()], da, r, layer.inputs, u);
            let z = &layers[2 * i - 2][..r * layer.inputs];
            let bias_gradient = &mut gradient[self.layers[i - 1].bias.clone()];
            if self.dropout > 0.0 {
                // The mask that forward multiplied by is drawn again. The derivative then needs the
                // activations before dropout, which are recomputed from z.
                self.drop(key, i - 1, batch.first_row * layer.inputs, da);
                let (before, rest) = layers.split_at_mut(2 * i - 1);
                let (z, a) = (&before[2 * i - 2], &mut rest[0]);
                let (z, a) = (&z[..r * layer.inputs], &mut a[..r * layer.inputs]);
                activation::apply(self.activation, z, a);
                activation::backward(self.activation, z, a, da, bias_gradient, layer.inputs);
            } else {
                activation::backward(self.activation, z, input, da, bias_gradient, layer.inputs);
            }
            std::mem::swap(&mut above, &mut below);
        }
        sum
    }

    fn loss(&self, parameters: &[f32], batch: &MiniBatch<'_>, scratch: &mut Scratch) -> LossSum {
        if batch.rows == 0 {
            return LossSum::default();
        }
        let outputs = self.outputs();
        self.forward(parameters, batch, None, scratch);
        let z = &scratch.buffers[2 * (self.layers.len() - 1)][..batch.rows * outputs];
        match self.quantiles.as_slice() {
            [] => self.loss.sum(z, outputs, batch.label, batch.weight),
            quantiles => quantile::sum(quantiles, z, batch.label, batch.weight),
        }
    }

    fn scores(
        &self,
        parameters: &[f32],
        batch: &MiniBatch<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        if batch.rows == 0 {
            return;
        }
        if self.is_single_linear() {
            self.single_linear_scores(parameters, batch, &mut out[..batch.rows]);
            return;
        }
        self.forward(parameters, batch, None, scratch);
        let n = batch.rows * self.outputs();
        out[..n].copy_from_slice(&scratch.buffers[2 * (self.layers.len() - 1)][..n]);
    }
}
