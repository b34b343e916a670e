//! Multi-head self-attention over a sequence `[t, e]` (Vaswani et al. 2017), PyTorch's
//! `MultiheadAttention`: `q, k, v = x W_in + b_in`; per head `softmax(q k^T / sqrt(e / heads)) v`;
//! then `W_out + b_out`. Steps beyond the length of a row are no keys, and give 0 as queries;
//! causal attention sees no later step. Neither is a matrix: they end the loops.
//!
//! Probabilities are computed for [`TILE`] queries at a time and not kept: backward computes them
//! again, so that memory grows with `t` and not with its square.
//!
//! `W_in` begins uniform with `b = sqrt(6 / 4 e)`, `W_out` with `1 / sqrt(e)`, biases with 0, as
//! PyTorch's.

use datafusion_common::{Result, plan_err};

use super::dropout::drop_out;
use super::softmax::{normalize, slope};
use crate::kernels::math::vectorized;
use crate::learner::Role;
use crate::network::definition::{Arguments, Default, Definition, Kind, given};
use crate::network::layer::{
    Built, Incoming, Initial, Layer, Parameter, Pass, Reads, misfit, only_numbers,
};
use crate::network::product::{
    Matrix, MatrixMut, Write, add_bias, add_column_sums, product, product_by_transposed,
    product_of_transposed,
};

pub(crate) const ATTENTION: Definition = Definition {
    name: "attention",
    doc: "multi-head self-attention over a sequence [steps, channels]",
    arguments: &[
        given("heads", Kind::Integer(1, 1 << 12), Default::Number(1.0), "parts of the channels"),
        given("causal", Kind::Flag, Default::Flag(false), "whether a step sees no later one"),
        given(
            "dropout",
            Kind::Number(0.0, 0.99),
            Default::Number(0.0),
            "in training, the share of probabilities that is set to 0",
        ),
    ],
    build: Some(build),
};

/// Queries whose probabilities are computed at a time.
const TILE: usize = 64;

fn build(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    const NEEDS: &str = "a sequence [steps, channels]";
    let (shape, mask) = only_numbers(arguments.node, inputs, NEEDS)?;
    let [steps, channels] = *shape else { return misfit(arguments.node, inputs, NEEDS) };
    let heads = arguments.integer("heads").max(1);
    if channels % heads != 0 {
        return plan_err!(
            "{} has {heads} heads, which should divide its {channels} channels",
            arguments.node
        );
    }
    let (is_causal, dropout) = (arguments.flag("causal"), arguments.number("dropout"));
    let own = Attention { steps, channels, heads, is_causal, dropout };
    Ok(Built::new(own, shape, mask.cloned()))
}

/// A self-attention.
#[derive(Debug)]
struct Attention {
    steps: usize,
    channels: usize,
    heads: usize,
    is_causal: bool,
    dropout: f32,
}

/// The tensors of the layer.
struct Tensors<'a> {
    input: &'a [f32],
    input_bias: &'a [f32],
    output: &'a [f32],
    output_bias: &'a [f32],
}

/// Some queries of a head of a row.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    head: usize,
    /// The first query, and how many.
    from: usize,
    queries: usize,
    /// Keys that the last of them may see.
    keys: usize,
}

impl Attention {
    fn split<'a>(&self, parameters: &'a [f32]) -> Tensors<'a> {
        let e = self.channels;
        let (input, rest) = parameters.split_at(3 * e * e);
        let (input_bias, rest) = rest.split_at(3 * e);
        let (output, output_bias) = rest.split_at(e * e);
        Tensors { input, input_bias, output, output_bias }
    }

    /// Channels of a head.
    fn width(&self) -> usize {
        self.channels / self.heads
    }

    /// Calls `f` with every tile of a row.
    fn for_each(&self, row: usize, valid: usize, mut f: impl FnMut(Tile)) {
        for head in 0..self.heads {
            for from in (0..valid).step_by(TILE) {
                let queries = TILE.min(valid - from);
                let keys = if self.is_causal { from + queries } else { valid };
                f(Tile { row, head, from, queries, keys });
            }
        }
    }

    /// The part of queries (0), keys (1) or values (2) of a row that a head reads.
    fn part<'a>(
        &self,
        qkv: &'a [f32],
        tile: &Tile,
        which: usize,
        (from, n): (usize, usize),
    ) -> Matrix<'a> {
        let e = self.channels;
        let start = (tile.row * self.steps + from) * 3 * e + which * e + tile.head * self.width();
        Matrix::strided(&qkv[start..], n, self.width(), 3 * e)
    }

    /// The same to be written.
    fn part_mut<'a>(
        &self,
        qkv: &'a mut [f32],
        tile: &Tile,
        which: usize,
        (from, n): (usize, usize),
    ) -> MatrixMut<'a> {
        let e = self.channels;
        let start = (tile.row * self.steps + from) * 3 * e + which * e + tile.head * self.width();
        MatrixMut::strided(&mut qkv[start..], n, self.width(), 3 * e)
    }

    /// Where the queries of a tile stand in `[r, t, e]`.
    fn start(&self, tile: &Tile) -> usize {
        (tile.row * self.steps + tile.from) * self.channels + tile.head * self.width()
    }

    /// Keys that the i-th query of a tile sees.
    fn seen(&self, tile: &Tile, i: usize) -> usize {
        if self.is_causal { tile.from + i + 1 } else { tile.keys }
    }

    /// The probabilities `[queries, keys]` of a tile, before dropout.
    fn probabilities(&self, qkv: &[f32], tile: &Tile, to: &mut [f32]) {
        let (queries, keys) = (tile.queries, tile.keys);
        let q = self.part(qkv, tile, 0, (tile.from, queries));
        let k = self.part(qkv, tile, 1, (0, keys));
        product_by_transposed(Write::Replace, MatrixMut::new(to, queries, keys), q, k);
        let scale = 1.0 / (self.width() as f32).sqrt();
        vectorized(
            #[inline(always)]
            || {
                for (i, line) in to.chunks_exact_mut(keys).enumerate().take(queries) {
                    let (seen, rest) = line.split_at_mut(self.seen(tile, i));
                    seen.iter_mut().for_each(|x| *x *= scale);
                    normalize(seen);
                    rest.fill(0.0);
                }
            },
        );
    }

    /// Drops probabilities, or their gradients, of a tile.
    fn drop_out(&self, pass: &Pass<'_>, tile: &Tile, values: &mut [f32]) {
        let of_row = (pass.position + tile.row) * self.heads + tile.head;
        for (i, line) in values.chunks_exact_mut(tile.keys).enumerate() {
            let first = (of_row * self.steps + tile.from + i) * self.steps;
            drop_out(pass, self.dropout, first as u64, line);
        }
    }
}

impl Layer for Attention {
    fn parameters(&self) -> Vec<Parameter> {
        let e = self.channels;
        let input = Initial::Uniform((6.0 / (4 * e) as f32).sqrt());
        let output = Initial::Uniform(1.0 / (e as f32).sqrt());
        let zero = Initial::Constant(0.0);
        vec![
            Parameter::new("in_proj_weight", &[e, 3 * e], Role::Weight, input),
            Parameter::new("in_proj_bias", &[3 * e], Role::Bias, zero),
            Parameter::new("out_proj_weight", &[e, e], Role::Weight, output),
            Parameter::new("out_proj_bias", &[e], Role::Bias, zero),
        ]
    }

    fn multiply_adds(&self) -> u64 {
        let (t, e) = (self.steps as u64, self.channels as u64);
        t * e * (4 * e + 2 * t)
    }

    /// Queries, keys and values, and what the output's product reads.
    fn kept(&self) -> usize {
        4 * self.steps * self.channels
    }

    fn scratch(&self, rows: usize) -> usize {
        4 * rows * self.steps * self.channels + 3 * TILE * self.steps
    }

    fn reads(&self) -> Reads {
        Reads::INPUT
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], kept: &mut [f32], scratch: &mut [f32]) {
        let (e, n) = (self.channels, pass.rows * self.steps);
        let own = self.split(pass.parameters);
        let (qkv, mixed) = kept.split_at_mut(3 * n * e);
        let weight = Matrix::new(own.input, e, 3 * e);
        let x = Matrix::new(pass.x(0), n, e);
        product(Write::Replace, MatrixMut::new(qkv, n, 3 * e), x, weight);
        add_bias(qkv, own.input_bias);
        mixed.fill(0.0);
        for row in 0..pass.rows {
            self.for_each(row, pass.length(row, self.steps), |tile| {
                let p = &mut scratch[..tile.queries * tile.keys];
                self.probabilities(qkv, &tile, p);
                self.drop_out(pass, &tile, p);
                let (queries, width) = (tile.queries, self.width());
                let to = MatrixMut::strided(&mut mixed[self.start(&tile)..], queries, width, e);
                let v = self.part(qkv, &tile, 2, (0, tile.keys));
                product(Write::Replace, to, Matrix::new(p, queries, tile.keys), v);
            });
        }
        let weight = Matrix::new(own.output, e, e);
        product(Write::Replace, MatrixMut::new(y, n, e), Matrix::new(mixed, n, e), weight);
        add_bias(y, own.output_bias);
        if pass.lengths.is_some() {
            for (row, y) in y.chunks_exact_mut(self.steps * e).enumerate() {
                y[pass.length(row, self.steps) * e..].fill(0.0);
            }
        }
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (e, n, width) = (self.channels, pass.rows * self.steps, self.width());
        let own = self.split(pass.parameters);
        let (qkv, mixed) = pass.kept().split_at(3 * n * e);
        let (of_input, rest) = gradient.split_at_mut(3 * e * e);
        let (of_input_bias, rest) = rest.split_at_mut(3 * e);
        let (of_output, of_output_bias) = rest.split_at_mut(e * e);
        let (d_mixed, rest) = scratch.split_at_mut(n * e);
        let (d_qkv, rest) = rest.split_at_mut(3 * n * e);
        let (p, rest) = rest.split_at_mut(TILE * self.steps);
        let (dropped, dp) = rest.split_at_mut(TILE * self.steps);
        let dy = Matrix::new(pass.dy(), n, e);
        let to = MatrixMut::new(of_output, e, e);
        product_of_transposed(Write::Add, to, Matrix::new(mixed, n, e), dy);
        add_column_sums(of_output_bias, pass.dy());
        let to = MatrixMut::new(d_mixed, n, e);
        product_by_transposed(Write::Replace, to, dy, Matrix::new(own.output, e, e));
        d_qkv.fill(0.0);
        let scale = 1.0 / (width as f32).sqrt();
        for row in 0..pass.rows {
            self.for_each(row, pass.length(row, self.steps), |tile| {
                let (queries, keys) = (tile.queries, tile.keys);
                let (p, dropped) = (&mut p[..queries * keys], &mut dropped[..queries * keys]);
                let dp = &mut dp[..queries * keys];
                self.probabilities(qkv, &tile, p);
                dropped.copy_from_slice(p);
                self.drop_out(pass, &tile, dropped);
                let d = Matrix::strided(&d_mixed[self.start(&tile)..], queries, width, e);
                let to = self.part_mut(d_qkv, &tile, 2, (0, keys));
                product_of_transposed(Write::Add, to, Matrix::new(dropped, queries, keys), d);
                let v = self.part(qkv, &tile, 2, (0, keys));
                product_by_transposed(Write::Replace, MatrixMut::new(dp, queries, keys), d, v);
                self.drop_out(pass, &tile, dp);
                vectorized(
                    #[inline(always)]
                    || {
                        for (p, dp) in p.chunks_exact(keys).zip(dp.chunks_exact_mut(keys)) {
                            slope(p, dp);
                            dp.iter_mut().for_each(|d| *d *= scale);
                        }
                    },
                );
                let dp = Matrix::new(dp, queries, keys);
                let to = self.part_mut(d_qkv, &tile, 0, (tile.from, queries));
                product(Write::Replace, to, dp, self.part(qkv, &tile, 1, (0, keys)));
                let to = self.part_mut(d_qkv, &tile, 1, (0, keys));
                let q = self.part(qkv, &tile, 0, (tile.from, queries));
                product_of_transposed(Write::Add, to, dp, q);
            });
        }
        let all = Matrix::new(d_qkv, n, 3 * e);
        let to = MatrixMut::new(of_input, e, 3 * e);
        product_of_transposed(Write::Add, to, Matrix::new(pass.x(0), n, e), all);
        add_column_sums(of_input_bias, d_qkv);
        if let Some(dx) = dx {
            let weight = Matrix::new(own.input, e, 3 * e);
            product_by_transposed(Write::Replace, MatrixMut::new(dx, n, e), all, weight);
        }
    }
}
