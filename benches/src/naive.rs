//! Each kernel as the plain loop that its definition is: what the fast one must equal before it is
//! timed, and what it must beat.

use gradlake_udfs::{Activation, MiniBatch, NO_CATEGORY, Width};

/// `out[r, u] = x[r, d] w[d, u]`.
pub fn forward(x: &[f32], w: &[f32], out: &mut [f32], d: usize, u: usize) {
    for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(u)) {
        for (unit, out) in out.iter_mut().enumerate() {
            *out = x.iter().enumerate().map(|(i, x)| x * w[i * u + unit]).sum();
        }
    }
}

/// `out[d, u] = x[r, d]^T dz[r, u]`.
pub fn weight_gradient(x: &[f32], dz: &[f32], out: &mut [f32], d: usize, u: usize) {
    for (i, out) in out.chunks_exact_mut(u).enumerate() {
        for (unit, out) in out.iter_mut().enumerate() {
            let rows = x.chunks_exact(d).zip(dz.chunks_exact(u));
            *out = rows.map(|(x, dz)| x[i] * dz[unit]).sum();
        }
    }
}

/// `out[r, d] = dz[r, u] w[d, u]^T`.
pub fn backward(dz: &[f32], w: &[f32], out: &mut [f32], d: usize, u: usize) {
    for (dz, out) in dz.chunks_exact(u).zip(out.chunks_exact_mut(d)) {
        for (w, out) in w.chunks_exact(u).zip(out) {
            *out = dz.iter().zip(w).map(|(dz, w)| dz * w).sum();
        }
    }
}

/// The gradient `[d + 1]` of the mean logistic loss of a linear model, intercept last.
pub fn logistic_gradient(parameters: &[f32], batch: &MiniBatch<'_>, gradient: &mut [f32]) {
    let d = parameters.len() - 1;
    gradient.fill(0.0);
    for (x, y) in batch.dense.chunks_exact(d).zip(batch.label) {
        let z = parameters[d] + x.iter().zip(parameters).map(|(x, w)| x * w).sum::<f32>();
        let dz = (1.0 / (1.0 + (-z).exp()) - y) / batch.rows as f32;
        for (g, x) in gradient.iter_mut().zip(x.iter().chain([&1.0])) {
            *g += dz * x;
        }
    }
}

/// The sum of logistic losses of logits `z[r]`, and in their place its derivative.
pub fn logistic_loss(z: &mut [f32], label: &[f32]) -> f64 {
    let mut sum = 0.0;
    for (z, y) in z.iter_mut().zip(label) {
        sum += f64::from(z.exp().ln_1p() - y * *z);
        *z = 1.0 / (1.0 + (-*z).exp()) - y;
    }
    sum
}

/// The sum of softmax losses of logits `z[r, k]`, and in their place its derivative.
pub fn softmax_loss(z: &mut [f32], k: usize, label: &[f32]) -> f64 {
    let mut sum = 0.0;
    for (z, y) in z.chunks_exact_mut(k).zip(label) {
        let total: f32 = z.iter().map(|z| z.exp()).sum();
        let own = *y as usize;
        sum += f64::from(total.ln() - z[own]);
        for (class, z) in z.iter_mut().enumerate() {
            *z = z.exp() / total - if class == own { 1.0 } else { 0.0 };
        }
    }
    sum
}

/// The activation of one number, by the standard library; of GELU, which that lacks, the
/// approximation by tanh (Hendrycks and Gimpel 2016), within 5e-4.
pub fn activation(f: Activation, x: f32) -> f32 {
    match f {
        Activation::Relu => x.max(0.0),
        Activation::Gelu => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Elu if x > 0.0 => x,
        Activation::Elu => x.exp_m1(),
        Activation::Identity => x,
    }
}

/// `one_hot[r, t]` of `codes[r, c]`: what a gather spares.
pub fn one_hot(codes: &[u32], width: Width) -> Vec<f32> {
    let Width { columns: c, categories: t, .. } = width;
    let mut hot = vec![0.0; codes.len() / c * t];
    for (codes, hot) in codes.chunks_exact(c).zip(hot.chunks_exact_mut(t)) {
        for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
            hot[*code as usize] += 1.0;
        }
    }
    hot
}

/// One step of Adam (Kingma and Ba 2015, algorithm 1), its bias corrections as in PyTorch.
pub fn adam(rate: f32, step: i32, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let (beta1, beta2, epsilon) = (0.9f32, 0.999f32, 1e-8);
    for i in 0..w.len() {
        m[i] = beta1 * m[i] + (1.0 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1.0 - beta2) * g[i] * g[i];
        let first = m[i] / (1.0 - beta1.powi(step));
        let second = v[i] / (1.0 - beta2.powi(step));
        w[i] -= rate * first / (second.sqrt() + epsilon);
    }
}

/// Adds `[x, y, 1] [x, y, 1]^T` of each row to `sum[a, a]`, `a = d + 2`, lower triangle.
pub fn gram(batch: &MiniBatch<'_>, d: usize, sum: &mut [f64]) {
    for (x, y) in batch.dense.chunks_exact(d).zip(batch.label) {
        let value = |i: usize| {
            f64::from(if i < d {
                x[i]
            } else if i == d {
                *y
            } else {
                1.0
            })
        };
        for i in 0..d + 2 {
            for j in 0..=i {
                sum[i * (d + 2) + j] += value(i) * value(j);
            }
        }
    }
}
