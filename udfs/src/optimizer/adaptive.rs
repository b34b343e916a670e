//! Descent with a rate per coordinate: Adagrad, RMSprop, Adam and AdamW, as in PyTorch.

use super::{TensorStep, least, shrink, without_rests};
use crate::kernels::math::reciprocal;

/// Duchi, Hazan and Singer 2011: `a += g^2; w -= lr g / (sqrt(a) + epsilon)`.
#[inline(always)]
pub(super) fn adagrad(step: TensorStep, epsilon: f32, w: &mut [f32], g: &[f32], a: &mut [f32]) {
    let TensorStep { learning_rate, l1, l2, .. } = step;
    for ((w, g), a) in w.iter_mut().zip(g).zip(a) {
        let g = g + l2 * *w;
        *a += g * g;
        let rate = learning_rate * reciprocal(a.sqrt() + epsilon);
        *w = shrink(*w - rate * g, rate * l1);
    }
}

/// The same for one value, without L1 and L2.
#[inline(always)]
pub(super) fn free_adagrad(step: TensorStep, epsilon: f32, w: &mut f32, g: f32, a: &mut f32) {
    *a += g * g;
    *w -= step.learning_rate * reciprocal(a.sqrt() + epsilon) * g;
}

/// Hinton 2012: `a = beta2 a + (1 - beta2) g^2; w -= lr g / (sqrt(a) + epsilon)`.
#[inline(always)]
pub(super) fn rmsprop(
    step: TensorStep,
    beta2: f32,
    epsilon: f32,
    w: &mut [f32],
    g: &[f32],
    a: &mut [f32],
) {
    let TensorStep { learning_rate, l1, l2, .. } = step;
    let [_, least] = least(epsilon);
    for ((w, g), a) in w.iter_mut().zip(g).zip(a) {
        let g = g + l2 * *w;
        *a = without_rests(beta2 * *a + (1.0 - beta2) * g * g, least);
        let rate = learning_rate * reciprocal(a.sqrt() + epsilon);
        *w = shrink(*w - rate * g, rate * l1);
    }
}

/// Kingma and Ba 2015, with bias-corrected moments; `decoupled` is AdamW (Loshchilov and Hutter
/// 2019), whose decay acts on the weights and not through the gradient.
#[inline(always)]
pub(super) fn adam(
    step: TensorStep,
    (beta1, beta2, epsilon): (f32, f32, f32),
    decoupled: bool,
    w: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let TensorStep { learning_rate, l1, l2, corrections: [first, second], .. } = step;
    let rate = (f64::from(learning_rate) / first) as f32;
    let root = (1.0 / second.sqrt()) as f32;
    let (coupled, decay) = if decoupled { (0.0, 1.0 - learning_rate * l2) } else { (l2, 1.0) };
    let [least_mean, least_square] = least(epsilon);
    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        let g = g + coupled * *w;
        *m = without_rests(beta1 * *m + (1.0 - beta1) * g, least_mean);
        *v = without_rests(beta2 * *v + (1.0 - beta2) * g * g, least_square);
        let scale = reciprocal(v.sqrt() * root + epsilon);
        *w = shrink(decay * *w - rate * *m * scale, learning_rate * scale * l1);
    }
}
