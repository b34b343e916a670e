//! Activation functions, forward fused with the bias and backward with the bias gradient.
//!
//! Forward keeps the activations `a[r, u]` and, where the derivative needs them, the
//! pre-activations `z[r, u]`.

use super::math::{erf, exp, sigmoid, tanh, vectorized};
use crate::learner::Activation;

/// `z[r, u] += bias[u]` and `a[r, u] = f(z)` in one pass. With an empty bias, nothing is added.
pub fn forward(f: Activation, z: &mut [f32], bias: &[f32], a: &mut [f32], u: usize) {
    if bias.is_empty() || u == 0 {
        return apply(f, z, a);
    }
    vectorized(
        #[inline(always)]
        || {
            for (z, a) in z.chunks_exact_mut(u).zip(a.chunks_exact_mut(u)) {
                for (z, b) in z.iter_mut().zip(bias) {
                    *z += b;
                }
                values(f, z, a);
            }
        },
    );
}

/// `a = f(z)`.
pub fn apply(f: Activation, z: &[f32], a: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || values(f, z, a),
    );
}

/// `a = f(a)`.
pub fn apply_in_place(f: Activation, a: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || match f {
            Activation::Relu => a.iter_mut().for_each(|a| *a = relu(*a)),
            Activation::Gelu => a.iter_mut().for_each(
                #[inline(always)]
                |a| *a = gelu(*a),
            ),
            Activation::Tanh => a.iter_mut().for_each(
                #[inline(always)]
                |a| *a = tanh(*a),
            ),
            Activation::Sigmoid => a.iter_mut().for_each(
                #[inline(always)]
                |a| *a = sigmoid(*a),
            ),
            Activation::Elu => a.iter_mut().for_each(
                #[inline(always)]
                |a| *a = elu(*a),
            ),
            Activation::Identity => {}
        },
    );
}

/// `d[r, u] *= f'(z)`, with `a = f(z)`, and `bias_gradient[u] = sum_r d[r, u]` over the new `d`, in
/// one pass. With an empty bias gradient, nothing is summed.
pub fn backward(
    f: Activation,
    z: &[f32],
    a: &[f32],
    d: &mut [f32],
    bias_gradient: &mut [f32],
    u: usize,
) {
    bias_gradient.fill(0.0);
    if u == 0 {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            let rows = z.chunks_exact(u).zip(a.chunks_exact(u)).zip(d.chunks_exact_mut(u));
            for ((z, a), d) in rows {
                slopes(f, z, a, d);
                for (sum, d) in bias_gradient.iter_mut().zip(d) {
                    *sum += *d;
                }
            }
        },
    );
}

/// `z[r, u] += bias[u]` for every row.
pub fn add_bias(z: &mut [f32], bias: &[f32], u: usize) {
    if bias.is_empty() || u == 0 {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            for row in z.chunks_exact_mut(u) {
                for (z, b) in row.iter_mut().zip(bias) {
                    *z += b;
                }
            }
        },
    );
}

/// `out[u] = sum_r d[r, u]`: the gradient of a bias.
pub fn column_sums(d: &[f32], out: &mut [f32], u: usize) {
    out.fill(0.0);
    if u == 0 {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            for row in d.chunks_exact(u) {
                for (sum, d) in out.iter_mut().zip(row) {
                    *sum += d;
                }
            }
        },
    );
}

#[inline(always)]
#[allow(clippy::redundant_closure, reason = "a closure is inlined here, a function's name is not")]
fn values(f: Activation, z: &[f32], a: &mut [f32]) {
    match f {
        Activation::Relu => map(
            z,
            a,
            #[inline(always)]
            |x| relu(x),
        ),
        // Closures: a named function would be called through a shim that is not inlined, and so
        // would not be compiled for the wide instructions.
        Activation::Gelu => map(
            z,
            a,
            #[inline(always)]
            |x| gelu(x),
        ),
        Activation::Tanh => map(
            z,
            a,
            #[inline(always)]
            |x| tanh(x),
        ),
        Activation::Sigmoid => map(
            z,
            a,
            #[inline(always)]
            |x| sigmoid(x),
        ),
        Activation::Elu => map(
            z,
            a,
            #[inline(always)]
            |x| elu(x),
        ),
        Activation::Identity => a.copy_from_slice(z),
    }
}

#[inline(always)]
#[allow(clippy::redundant_closure, reason = "a closure is inlined here, a function's name is not")]
fn slopes(f: Activation, z: &[f32], a: &[f32], d: &mut [f32]) {
    match f {
        // The derivative at 0 is 0, as in PyTorch.
        Activation::Relu => scale(d, z, |z| if z > 0.0 { 1.0 } else { 0.0 }),
        Activation::Gelu => scale(
            d,
            z,
            #[inline(always)]
            |z| gelu_derivative(z),
        ),
        Activation::Tanh => scale(d, a, |a| 1.0 - a * a),
        Activation::Sigmoid => scale(d, a, |a| a * (1.0 - a)),
        Activation::Elu => scale(d, a, |a| if a > 0.0 { 1.0 } else { a + 1.0 }),
        Activation::Identity => {}
    }
}

/// Not `max`: it would turn NaN into 0 and hide a training that has diverged.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

#[inline(always)]
fn elu(x: f32) -> f32 {
    if x > 0.0 { x } else { exp(x) - 1.0 }
}

/// `x Phi(x)` with the normal distribution function.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// `Phi(x) + x phi(x)`.
#[inline(always)]
fn gelu_derivative(x: f32) -> f32 {
    const INV_SQRT_2PI: f32 = 0.398_942_3;
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * INV_SQRT_2PI * exp(-0.5 * x * x)
}

#[inline(always)]
fn map(z: &[f32], a: &mut [f32], f: impl Fn(f32) -> f32) {
    for (a, z) in a.iter_mut().zip(z) {
        *a = f(*z);
    }
}

#[inline(always)]
fn scale(d: &mut [f32], of: &[f32], f: impl Fn(f32) -> f32) {
    for (d, x) in d.iter_mut().zip(of) {
        *d *= f(*x);
    }
}
