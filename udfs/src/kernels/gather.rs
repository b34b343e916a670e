//! Category columns: a one-hot column times a weight matrix is one row of the matrix.

use super::math::vectorized;
use crate::batch::NO_CATEGORY;

/// `out[r, u] += sum_j table[codes[r, j], u]`; `codes[r, c]`, `table[t, u]`.
pub fn forward(codes: &[u32], table: &[f32], out: &mut [f32], c: usize, u: usize) {
    if c == 0 || u == 0 {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            for (codes, out) in codes.chunks_exact(c).zip(out.chunks_exact_mut(u)) {
                for &code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                    let row = &table[code as usize * u..][..u];
                    for (o, w) in out.iter_mut().zip(row) {
                        *o += w;
                    }
                }
            }
        },
    );
}

/// `gradient[codes[r, j], u] += dz[r, u]` for every row and column.
pub fn backward(codes: &[u32], dz: &[f32], gradient: &mut [f32], c: usize, u: usize) {
    if c == 0 || u == 0 {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            for (codes, dz) in codes.chunks_exact(c).zip(dz.chunks_exact(u)) {
                for &code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                    let row = &mut gradient[code as usize * u..][..u];
                    for (g, d) in row.iter_mut().zip(dz) {
                        *g += d;
                    }
                }
            }
        },
    );
}
