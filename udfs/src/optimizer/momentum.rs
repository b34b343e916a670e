//! Plain descent and descent with a velocity (`torch.optim.SGD`).
//!
//! A velocity adds up to `1 / (1 - momentum)` gradients, and with them L2, which is part of the
//! gradient. L1 acts on the weights, so it is multiplied by that factor here: only then do weights
//! converge to where `g = -l1 sign(w)`, the minimum of the objective.

use super::{LEAST, TensorStep, shrink, without_rests};

/// `w -= lr g`.
#[inline(always)]
pub(super) fn sgd(step: TensorStep, w: &mut [f32], g: &[f32]) {
    let TensorStep { learning_rate, l1, l2, .. } = step;
    if l1 == 0.0 {
        // (The same result, but a step does not wait for the weights of the previous step.)
        for (w, g) in w.iter_mut().zip(g) {
            *w -= learning_rate * (g + l2 * *w);
        }
        return;
    }
    for (w, g) in w.iter_mut().zip(g) {
        *w = shrink(*w - learning_rate * (g + l2 * *w), learning_rate * l1);
    }
}

/// `v = momentum v + g; w -= lr v`.
#[inline(always)]
pub(super) fn momentum(step: TensorStep, momentum: f32, w: &mut [f32], g: &[f32], v: &mut [f32]) {
    let TensorStep { learning_rate, l1, l2, .. } = step;
    let threshold = learning_rate * l1 / (1.0 - momentum);
    for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
        *v = without_rests(momentum * *v + (g + l2 * *w), LEAST);
        *w = shrink(*w - learning_rate * *v, threshold);
    }
}

/// `v = momentum v + g; w -= lr (g + momentum v)`.
#[inline(always)]
pub(super) fn nesterov(step: TensorStep, momentum: f32, w: &mut [f32], g: &[f32], v: &mut [f32]) {
    let TensorStep { learning_rate, l1, l2, .. } = step;
    let threshold = learning_rate * l1 / (1.0 - momentum);
    for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
        let g = g + l2 * *w;
        *v = without_rests(momentum * *v + g, LEAST);
        *w = shrink(*w - learning_rate * (g + momentum * *v), threshold);
    }
}
