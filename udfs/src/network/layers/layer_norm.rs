//! Layer normalisation over the last axis (Ba et al. 2016), PyTorch's `LayerNorm`:
//! `y = (x - mean) / sqrt(var + epsilon) scale + shift`, with mean and variance of each place's own
//! channels.

use datafusion_common::Result;

use crate::kernels::math::vectorized;
use crate::learner::Role;
use crate::network::definition::{Arguments, Default, Definition, Kind, given};
use crate::network::layer::{
    Built, Incoming, Initial, Layer, Parameter, Pass, Reads, misfit, only_numbers,
};

pub(crate) const LAYER_NORM: Definition = Definition {
    name: "layer_norm",
    doc: "mean 0 and variance 1 of the channels of each place, then a factor and a shift",
    arguments: &[given(
        "epsilon",
        Kind::Number(0.0, 1.0),
        Default::Number(1e-5),
        "added to the variance",
    )],
    build: Some(build),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    let (shape, mask) = only_numbers(arguments.node, inputs, "numbers [.., channels]")?;
    let Some((channels, outer)) = shape.split_last() else {
        return misfit(arguments.node, inputs, "numbers [.., channels]");
    };
    let places = outer.iter().product();
    let norm = LayerNorm { places, channels: *channels, epsilon: arguments.number("epsilon") };
    Ok(Built::new(norm, shape, mask.cloned()))
}

/// A layer normalisation.
#[derive(Debug)]
struct LayerNorm {
    places: usize,
    channels: usize,
    epsilon: f32,
}

/// The sum of `f(x_i, y_i)`, in 16 running sums.
#[inline(always)]
fn sum(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let ((x, rest_x), (y, rest_y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            sums[i] += f(x[i], y[i]);
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(rest_x).zip(rest_y) {
        *sum += f(*x, *y);
    }
    crate::kernels::math::tree_sum(&mut sums)
}

impl Layer for LayerNorm {
    fn parameters(&self) -> Vec<Parameter> {
        let shape = [self.channels];
        vec![
            Parameter::new("weight", &shape, Role::Scale, Initial::Constant(1.0)),
            Parameter::new("bias", &shape, Role::Bias, Initial::Constant(0.0)),
        ]
    }

    fn multiply_adds(&self) -> u64 {
        (2 * self.places * self.channels) as u64
    }

    /// Mean and `1 / sqrt(var + epsilon)` of each place.
    fn kept(&self) -> usize {
        2 * self.places
    }

    fn reads(&self) -> Reads {
        Reads::INPUT
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], kept: &mut [f32], _: &mut [f32]) {
        let c = self.channels;
        let share = 1.0 / c as f32;
        let (weight, bias) = pass.parameters.split_at(c);
        vectorized(
            #[inline(always)]
            || {
                let places = y.chunks_exact_mut(c).zip(pass.x(0).chunks_exact(c));
                for ((y, x), kept) in places.zip(kept.chunks_exact_mut(2)) {
                    let mean = share
                        * sum(
                            x,
                            x,
                            #[inline(always)]
                            |x, _| x,
                        );
                    let variance = share
                        * sum(
                            x,
                            x,
                            #[inline(always)]
                            |x, _| (x - mean) * (x - mean),
                        );
                    let root = 1.0 / (variance + self.epsilon).sqrt();
                    (kept[0], kept[1]) = (mean, root);
                    let (y, x, weight, bias) = (&mut y[..c], &x[..c], &weight[..c], &bias[..c]);
                    for i in 0..c {
                        y[i] = (x[i] - mean) * root * weight[i] + bias[i];
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
        _: &mut [f32],
    ) {
        let c = self.channels;
        let share = 1.0 / c as f32;
        let weight = &pass.parameters[..c];
        let (of_weight, of_bias) = gradient.split_at_mut(c);
        vectorized(
            #[inline(always)]
            || {
                let places = pass.x(0).chunks_exact(c).zip(pass.dy().chunks_exact(c));
                let places = places.zip(pass.kept().chunks_exact(2)).enumerate();
                for (at, ((x, dy), kept)) in places {
                    let (mean, root) = (kept[0], kept[1]);
                    let (x, dy, weight) = (&x[..c], &dy[..c], &weight[..c]);
                    let (of_weight, of_bias) = (&mut of_weight[..c], &mut of_bias[..c]);
                    for i in 0..c {
                        of_weight[i] += (x[i] - mean) * root * dy[i];
                        of_bias[i] += dy[i];
                    }
                    let Some(dx) = dx.as_deref_mut() else { continue };
                    let dx = &mut dx[at * c..(at + 1) * c];
                    // `dx` holds `weight dy` meanwhile.
                    for i in 0..c {
                        dx[i] = weight[i] * dy[i];
                    }
                    let first = share
                        * sum(
                            dx,
                            x,
                            #[inline(always)]
                            |d, _| d,
                        );
                    let second = share
                        * sum(
                            dx,
                            x,
                            #[inline(always)]
                            |d, x| d * (x - mean) * root,
                        );
                    for i in 0..c {
                        dx[i] = root * (dx[i] - first - (x[i] - mean) * root * second);
                    }
                }
            },
        );
    }
}
