//! FTRL-Proximal (McMahan et al. 2013, algorithm 1), per coordinate:
//!
//! ```text
//! sigma = (sqrt(n + g^2) - sqrt(n)) / alpha
//! z += g - sigma w;  n += g^2
//! w = 0 where |z| <= l1, else -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha + l2)
//! ```
//! The paper's objective sums losses; here `alpha` is the learning rate and the gradient is that of
//! a mini-batch's mean loss, so that `l1` and `l2` count against the sum over all steps made.
//!
//! The paper's `alpha` is constant. Its `sigma` is the growth of
//! `1 / eta = (beta + sqrt(n)) / alpha` (McMahan 2011, eq. 4), in which `beta` cancels. Under a
//! schedule `sigma` is `(beta + sqrt(n + g^2)) / alpha - (beta + sqrt(n)) / previous alpha`;
//! otherwise every change of the rate would scale the weights. At a rate of 0 the weights do not
//! change. A training that continues another may have other `alpha`, `l1` and `l2`: its first step
//! fits `z` to the weights it starts from.

use super::{TensorStep, shrink};

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
    let TensorStep { learning_rate: alpha, previous, l1, l2, .. } = step;
    if alpha == 0.0 {
        return;
    }
    if previous.is_none() {
        fit(step, beta, w, z, n);
    }
    // The growth of 1 / alpha since the step before: 0 at a constant rate.
    let growth = (1.0 - 1.0 / previous.unwrap_or(1.0)) / alpha;
    for (((w, g), z), n) in w.iter_mut().zip(g).zip(z).zip(n) {
        let next = *n + g * g;
        let sigma = (next.sqrt() - n.sqrt()) / alpha + (beta + n.sqrt()) * growth;
        *z += g - sigma * *w;
        *n = next;
        *w = weight(alpha, beta, l1, l2, *z, next);
    }
}

/// Computes the weights from the moments.
pub(super) fn weights(step: TensorStep, beta: f32, w: &mut [f32], z: &[f32], n: &[f32]) {
    let TensorStep { learning_rate: alpha, l1, l2, .. } = step;
    if alpha == 0.0 {
        return;
    }
    for ((w, z), n) in w.iter_mut().zip(z).zip(n) {
        *w = weight(alpha, beta, l1, l2, *z, *n);
    }
}

/// Sets `z` to the value that gives the weights `w`; for weights of 0, to the nearest such value.
#[inline(always)]
pub(super) fn fit(step: TensorStep, beta: f32, w: &[f32], z: &mut [f32], n: &[f32]) {
    let TensorStep { learning_rate: alpha, l1, l2, .. } = step;
    if alpha == 0.0 {
        return;
    }
    for ((w, z), n) in w.iter().zip(z).zip(n) {
        let z_of_w = -w * ((beta + n.sqrt()) / alpha + l2);
        *z = if *w == 0.0 { z.max(-l1).min(l1) } else { z_of_w + l1.copysign(z_of_w) };
    }
}

#[inline(always)]
fn weight(alpha: f32, beta: f32, l1: f32, l2: f32, z: f32, n: f32) -> f32 {
    // Minus 0.0 would be a weight of its own when bits are compared.
    0.0 - shrink(z, l1) / ((beta + n.sqrt()) / alpha + l2)
}
