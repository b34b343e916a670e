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

/// [`forward`] of one output: `z[r] += sum_j table[codes[r, j]]`.
pub fn single_forward(codes: &[u32], table: &[f32], z: &mut [f32], c: usize) {
    if c == 0 {
        return;
    }
    // (An unknown category has a code beyond the end of the table. The sum is a local variable: a
    // sum in memory would wait for its own last store.)
    for (z, codes) in z.iter_mut().zip(codes.chunks_exact(c)) {
        let mut sum = *z;
        for code in codes {
            if let Some(weight) = table.get(*code as usize) {
                sum += weight;
            }
        }
        *z = sum;
    }
}

/// [`backward`] of one output: `gradient[codes[r, j]] += dz[r]` for every row and column.
pub fn single_backward(codes: &[u32], dz: &[f32], gradient: &mut [f32], c: usize) {
    if c == 0 {
        return;
    }
    for (codes, dz) in codes.chunks_exact(c).zip(dz) {
        for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
            gradient[*code as usize] += dz;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_and_scatters_equal_the_loop() {
        let codes = [0, 3, NO_CATEGORY, 2, 3, 3];
        let mut z = [0.5, 0.5, 0.5];
        single_forward(&codes, &[1.0, 2.0, 4.0, 8.0], &mut z, 2);
        assert_eq!(z, [9.5, 4.5, 16.5]);
        let mut gradient = [0.0; 4];
        single_backward(&codes, &[1.0, 2.0, 4.0], &mut gradient, 2);
        assert_eq!(gradient, [1.0, 0.0, 2.0, 9.0]);
    }
}
