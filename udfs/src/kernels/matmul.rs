//! Products of row-major matrices, by faer. With one column, by the kernels of linear models:
//! faer's matrix-vector products need contiguous columns.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::linear;
use super::math::vectorized;

/// `out[r, u] (+)= x[r, d] w[d, u]`.
///
/// # Panics
/// Never for buffers of the stated sizes: slices are cut to them first.
pub fn forward(x: &[f32], w: &[f32], out: &mut [f32], r: usize, d: usize, u: usize, add: bool) {
    if r == 0 || u == 0 {
        return;
    }
    let accum = if add { Accum::Add } else { Accum::Replace };
    if d == 0 {
        if !add {
            out[..r * u].fill(0.0);
        }
        return;
    }
    if u == 1 && !add {
        return linear::scores(&x[..r * d], &w[..d], 0.0, &mut out[..r]);
    }
    matmul(
        MatMut::from_row_major_slice_mut(&mut out[..r * u], r, u),
        accum,
        MatRef::from_row_major_slice(&x[..r * d], r, d),
        MatRef::from_row_major_slice(&w[..d * u], d, u),
        1.0f32,
        Par::Seq,
    );
}

/// `out[d, u] = x[r, d]^T dz[r, u]`.
pub fn weight_gradient(x: &[f32], dz: &[f32], out: &mut [f32], r: usize, d: usize, u: usize) {
    if d == 0 || u == 0 {
        return;
    }
    if r == 0 {
        out[..d * u].fill(0.0);
        return;
    }
    if u == 1 {
        return linear::weight_gradient(&x[..r * d], &dz[..r], &mut out[..d]);
    }
    matmul(
        MatMut::from_row_major_slice_mut(&mut out[..d * u], d, u),
        Accum::Replace,
        MatRef::from_row_major_slice(&x[..r * d], r, d).transpose(),
        MatRef::from_row_major_slice(&dz[..r * u], r, u),
        1.0f32,
        Par::Seq,
    );
}

/// `out[r, d] = dz[r, u] w[d, u]^T`.
pub fn backward(dz: &[f32], w: &[f32], out: &mut [f32], r: usize, d: usize, u: usize) {
    if r == 0 || d == 0 {
        return;
    }
    if u == 1 {
        let (w, out) = (&w[..d], &mut out[..r * d]);
        return vectorized(
            #[inline(always)]
            || {
                for (out, dz) in out.chunks_exact_mut(d).zip(dz) {
                    for (out, w) in out.iter_mut().zip(w) {
                        *out = dz * w;
                    }
                }
            },
        );
    }
    matmul(
        MatMut::from_row_major_slice_mut(&mut out[..r * d], r, d),
        Accum::Replace,
        MatRef::from_row_major_slice(&dz[..r * u], r, u),
        MatRef::from_row_major_slice(&w[..d * u], d, u).transpose(),
        1.0f32,
        Par::Seq,
    );
}
