//! FTRL-Proximal (McMahan et al. 2013, algorithm 1), per coordinate:
//!
//! ```text
//! sigma = (sqrt(n + g^2) - sqrt(n)) / alpha
//! z += g - sigma w;  n += g^2
//! w = 0 where |z| <= l1, else -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha + l2)
//! ```
//! The paper's objective sums losses; here `alpha` is the learning rate and the gradient is that of
//! a mini-batch's mean loss.

use super::TensorStep;

/// One step.
#[inline(always)]
pub(super) fn ftrl(
    step: TensorStep,
    beta: f32,
    w: &mut [f32],
    g: &[f32],
    z: &mut [f32],
    n: &mut [f32],
) {
    let TensorStep { learning_rate: alpha, l1, l2, .. } = step;
    for (((w, g), z), n) in w.iter_mut().zip(g).zip(z).zip(n) {
        let next = *n + g * g;
        let sigma = (next.sqrt() - n.sqrt()) / alpha;
        *z += g - sigma * *w;
        *n = next;
        *w = weight(alpha, beta, l1, l2, *z, next);
    }
}

/// The weights that moments stand for.
pub(super) fn weights(step: TensorStep, beta: f32, w: &mut [f32], z: &[f32], n: &[f32]) {
    let TensorStep { learning_rate: alpha, l1, l2, .. } = step;
    for ((w, z), n) in w.iter_mut().zip(z).zip(n) {
        *w = weight(alpha, beta, l1, l2, *z, *n);
    }
}

/// The `z` with `n = 0` that stands for given weights.
pub(super) fn initialize(step: TensorStep, beta: f32, w: &[f32], z: &mut [f32]) {
    let TensorStep { learning_rate: alpha, l1, l2, .. } = step;
    for (w, z) in w.iter().zip(z) {
        let z_of_w = -w * (beta / alpha + l2);
        *z = if *w == 0.0 { 0.0 } else { z_of_w + l1.copysign(z_of_w) };
    }
}

#[inline(always)]
fn weight(alpha: f32, beta: f32, l1: f32, l2: f32, z: f32, n: f32) -> f32 {
    let shrunk = (z.abs() - l1).max(0.0).copysign(z);
    // -0.0 would be a weight of its own when bits are compared.
    0.0 - shrunk / ((beta + n.sqrt()) / alpha + l2)
}
