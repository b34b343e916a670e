//! Batch normalisation over the last axis (Ioffe and Szegedy 2015), PyTorch's `BatchNorm1d` and
//! `BatchNorm2d`: `y = (x - mean) / sqrt(var + epsilon) scale + shift`, with mean and variance over
//! all rows and places of a mini-batch (valid steps, in a sequence with a length).
//!
//! Scoring takes running statistics, which training averages with `momentum`; the running variance
//! is the unbiased one. Rows count alike, whatever their weights.
//!
//! ```text
//! dx = scale / sqrt(var + epsilon) (dy - mean(dy) - xhat mean(dy xhat))
//! ```

use datafusion_common::Result;

use crate::kernels::math::vectorized;
use crate::learner::Role;
use crate::network::definition::{Arguments, Default, Definition, Kind, given};
use crate::network::layer::{
    Built, Incoming, Initial, Layer, Parameter, Pass, Reads, misfit, only_numbers,
};

pub(crate) const BATCH_NORM: Definition = Definition {
    name: "batch_norm",
    doc: "mean 0 and variance 1 of each channel over a mini-batch, then a factor and a shift",
    arguments: &[
        given(
            "momentum",
            Kind::Number(0.0, 1.0),
            Default::Number(0.1),
            "share of a mini-batch in the running statistics",
        ),
        given("epsilon", Kind::Number(0.0, 1.0), Default::Number(1e-5), "added to the variance"),
    ],
    build: Some(build),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    let (shape, mask) = only_numbers(arguments.node, inputs, "numbers [.., channels]")?;
    let Some((channels, outer)) = shape.split_last() else {
        return misfit(arguments.node, inputs, "numbers [.., channels]");
    };
    let norm = BatchNorm {
        places: outer.iter().product(),
        channels: *channels,
        momentum: f64::from(arguments.number("momentum")),
        epsilon: f64::from(arguments.number("epsilon")),
    };
    Ok(Built::new(norm, shape, mask.cloned()))
}

/// A batch normalisation.
#[derive(Debug)]
struct BatchNorm {
    places: usize,
    channels: usize,
    momentum: f64,
    epsilon: f64,
}

/// Sums over a mini-batch, of `c` channels: the count, then `x`, `x^2`, `dy` and `dy x`.
struct Sums<'a> {
    n: f64,
    forward: [&'a [f64]; 2],
    backward: [&'a [f64]; 2],
}

impl BatchNorm {
    fn split<'a>(&self, sums: &'a [f64]) -> Sums<'a> {
        let c = self.channels;
        let part = |i: usize| sums.get(1 + i * c..1 + (i + 1) * c).unwrap_or_default();
        let n = sums.first().copied().unwrap_or(0.0).max(1.0);
        Sums { n, forward: [part(0), part(1)], backward: [part(2), part(3)] }
    }

    /// Places of a row that count.
    fn valid(&self, pass: &Pass<'_>, row: usize) -> usize {
        pass.length(row, self.places).min(self.places)
    }

    /// Mean and variance of a channel in a mini-batch.
    fn moments(&self, sums: &Sums<'_>, c: usize) -> (f64, f64) {
        let mean = sums.forward[0][c] / sums.n;
        // (A difference that rounds below 0 is 0; NaN stays.)
        let variance = sums.forward[1][c] / sums.n - mean * mean;
        (mean, if variance < 0.0 { 0.0 } else { variance })
    }

    /// Writes per channel `mean` and `1 / sqrt(var + epsilon)`.
    fn statistics(&self, pass: &Pass<'_>, to: &mut [f32]) {
        let c = self.channels;
        let (means, roots) = to.split_at_mut(c);
        let sums = self.split(pass.sums);
        let running = &pass.parameters[2 * c..];
        for i in 0..c {
            let (mean, variance) = match pass.draws {
                Some(_) => self.moments(&sums, i),
                None => (f64::from(running[i]), f64::from(running[c + i])),
            };
            means[i] = mean as f32;
            roots[i] = (1.0 / (variance + self.epsilon).sqrt()) as f32;
        }
    }
}

impl Layer for BatchNorm {
    fn parameters(&self) -> Vec<Parameter> {
        let shape = [self.channels];
        vec![
            Parameter::new("weight", &shape, Role::Scale, Initial::Constant(1.0)),
            Parameter::new("bias", &shape, Role::Bias, Initial::Constant(0.0)),
            Parameter::new("running_mean", &shape, Role::Buffer, Initial::Constant(0.0)),
            Parameter::new("running_var", &shape, Role::Buffer, Initial::Constant(1.0)),
        ]
    }

    fn multiply_adds(&self) -> u64 {
        (self.places * self.channels) as u64
    }

    fn scratch(&self, _: usize) -> usize {
        4 * self.channels
    }

    fn reads(&self) -> Reads {
        Reads::INPUT
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], scratch: &mut [f32]) {
        let c = self.channels;
        let (statistics, line) = scratch.split_at_mut(2 * c);
        self.statistics(pass, statistics);
        let (means, roots) = statistics.split_at(c);
        // y = x factor + shift
        let (factors, shifts) = line[..2 * c].split_at_mut(c);
        for i in 0..c {
            factors[i] = pass.parameters[i] * roots[i];
            shifts[i] = pass.parameters[c + i];
        }
        vectorized(
            #[inline(always)]
            || {
                let (means, factors, shifts) = (&means[..c], &factors[..c], &shifts[..c]);
                for (y, x) in y.chunks_exact_mut(c).zip(pass.x(0).chunks_exact(c)) {
                    let (y, x) = (&mut y[..c], &x[..c]);
                    for i in 0..c {
                        y[i] = (x[i] - means[i]) * factors[i] + shifts[i];
                    }
                }
            },
        );
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        mut dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        scratch: &mut [f32],
    ) {
        let c = self.channels;
        let (statistics, line) = scratch.split_at_mut(2 * c);
        self.statistics(pass, statistics);
        let (means, roots) = statistics.split_at(c);
        let (of_dy, of_product) = line[..2 * c].split_at_mut(c);
        let sums = self.split(pass.sums);
        for i in 0..c {
            let (mean, variance) = self.moments(&sums, i);
            let centred = sums.backward[1][i] - mean * sums.backward[0][i];
            of_dy[i] = (sums.backward[0][i] / sums.n) as f32;
            of_product[i] = (centred / (variance + self.epsilon).sqrt() / sums.n) as f32;
        }
        let weight = &pass.parameters[..c];
        let (of_weight, rest) = gradient.split_at_mut(c);
        let of_bias = &mut rest[..c];
        let of_row = self.places * c;
        for row in 0..pass.rows {
            let range = row * of_row..(row + 1) * of_row;
            let (x, dy) = (&pass.x(0)[range.clone()], &pass.dy()[range.clone()]);
            let n = self.valid(pass, row);
            vectorized(
                #[inline(always)]
                || {
                    let (of_weight, of_bias) = (&mut of_weight[..c], &mut of_bias[..c]);
                    let (means, roots) = (&means[..c], &roots[..c]);
                    for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)).take(n) {
                        let (x, dy) = (&x[..c], &dy[..c]);
                        for i in 0..c {
                            of_weight[i] += (x[i] - means[i]) * roots[i] * dy[i];
                            of_bias[i] += dy[i];
                        }
                    }
                    let Some(dx) = dx.as_deref_mut().map(|dx| &mut dx[range.clone()]) else {
                        return;
                    };
                    let (of_dy, of_product) = (&of_dy[..c], &of_product[..c]);
                    let weight = &weight[..c];
                    let places = dx.chunks_exact_mut(c).zip(x.chunks_exact(c));
                    for ((dx, x), dy) in places.zip(dy.chunks_exact(c)).take(n) {
                        let (dx, x, dy) = (&mut dx[..c], &x[..c], &dy[..c]);
                        for i in 0..c {
                            let xhat = (x[i] - means[i]) * roots[i];
                            let own = dy[i] - of_dy[i] - xhat * of_product[i];
                            dx[i] = weight[i] * roots[i] * own;
                        }
                    }
                    dx[n * c..].fill(0.0);
                },
            );
        }
    }

    fn sums(&self) -> usize {
        1 + 4 * self.channels
    }

    fn add_sums(&self, pass: &Pass<'_>, forward: bool, sums: &mut [f64]) {
        let c = self.channels;
        let of_row = self.places * c;
        let (count, sums) = sums.split_at_mut(1);
        let (of_forward, of_backward) = sums.split_at_mut(2 * c);
        let to = if forward { of_forward } else { of_backward };
        let (first, second) = to.split_at_mut(c);
        for row in 0..pass.rows {
            let n = self.valid(pass, row);
            let range = row * of_row..row * of_row + n * c;
            let x = &pass.x(0)[range.clone()];
            if forward {
                count[0] += n as f64;
                vectorized(
                    #[inline(always)]
                    || {
                        let (first, second) = (&mut first[..c], &mut second[..c]);
                        for x in x.chunks_exact(c) {
                            let x = &x[..c];
                            for i in 0..c {
                                let x = f64::from(x[i]);
                                first[i] += x;
                                second[i] += x * x;
                            }
                        }
                    },
                );
                continue;
            }
            let dy = &pass.dy()[range];
            vectorized(
                #[inline(always)]
                || {
                    let (first, second) = (&mut first[..c], &mut second[..c]);
                    for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                        let (x, dy) = (&x[..c], &dy[..c]);
                        for i in 0..c {
                            let own = f64::from(dy[i]);
                            first[i] += own;
                            second[i] += own * f64::from(x[i]);
                        }
                    }
                },
            );
        }
    }

    fn update(&self, sums: &[f64], parameters: &mut [f32]) {
        let c = self.channels;
        let sums = self.split(sums);
        let (means, variances) = parameters[2 * c..].split_at_mut(c);
        let unbiased = sums.n / (sums.n - 1.0).max(1.0);
        let blend = |old: &mut f32, new: f64| {
            *old = ((1.0 - self.momentum) * f64::from(*old) + self.momentum * new) as f32;
        };
        for i in 0..c {
            let (mean, variance) = self.moments(&sums, i);
            blend(&mut means[i], mean);
            blend(&mut variances[i], variance * unbiased);
        }
    }
}
