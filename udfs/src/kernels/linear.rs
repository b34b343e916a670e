//! A linear map to one output. `r` rows, `d` numbers and `c` categories in a row.
//!
//! Sums are taken in an order that depends on the shape alone, so that every machine gives the same
//! bits.

use super::math::{dot, vectorized};
use crate::batch::NO_CATEGORY;

/// `z[r] = bias + sum_i x[r, i] w[i]`; `w[d]`.
pub fn scores(x: &[f32], w: &[f32], bias: f32, z: &mut [f32]) {
    let d = w.len();
    if d == 0 {
        return z.fill(bias);
    }
    vectorized(
        #[inline(always)]
        || {
            // (Not by chunks, whose number is a division: as long as a row takes.)
            for (r, z) in z.iter_mut().enumerate() {
                *z = bias + dot(&x[r * d..(r + 1) * d], w);
            }
        },
    );
}

/// `gradient[i] = sum_r dz[r] x[r, i]`; `gradient[d]`.
pub fn weight_gradient(x: &[f32], dz: &[f32], gradient: &mut [f32]) {
    let d = gradient.len();
    if d == 0 {
        return;
    }
    if let [dz] = dz {
        return vectorized(
            #[inline(always)]
            || {
                for (g, x) in gradient.iter_mut().zip(x) {
                    *g = dz * x;
                }
            },
        );
    }
    vectorized(
        #[inline(always)]
        || match d {
            16.. => by_windows::<16>(x, dz, gradient),
            8.. => by_windows::<8>(x, dz, gradient),
            4.. => by_windows::<4>(x, dz, gradient),
            _ => {
                gradient.fill(0.0);
                for (x, dz) in x.chunks_exact(d).zip(dz) {
                    for (g, x) in gradient.iter_mut().zip(x) {
                        *g += dz * x;
                    }
                }
            }
        },
    );
}

/// [`weight_gradient`] in windows of `L` columns, of which up to four stay in registers while the
/// rows go by. The last window ends with the row; where it overlaps the one before, both come to the
/// same.
#[inline(always)]
fn by_windows<const L: usize>(x: &[f32], dz: &[f32], gradient: &mut [f32]) {
    let last = gradient.len() - L;
    let at = |window: usize| (window * L).min(last);
    let windows = gradient.len().div_ceil(L);
    let mut w = 0;
    while w < windows {
        match windows - w {
            1 => pass::<L, 1>(x, dz, gradient, [at(w)]),
            2 => pass::<L, 2>(x, dz, gradient, [at(w), at(w + 1)]),
            3 => pass::<L, 3>(x, dz, gradient, [at(w), at(w + 1), at(w + 2)]),
            _ => pass::<L, 4>(x, dz, gradient, [at(w), at(w + 1), at(w + 2), at(w + 3)]),
        }
        w += 4;
    }
}

/// The sums of the columns `starts[k]..starts[k] + L`.
#[inline(always)]
fn pass<const L: usize, const K: usize>(
    x: &[f32],
    dz: &[f32],
    gradient: &mut [f32],
    starts: [usize; K],
) {
    let mut sums = [[0.0f32; L]; K];
    let d = gradient.len();
    for (r, dz) in dz.iter().enumerate() {
        let x = &x[r * d..(r + 1) * d];
        for k in 0..K {
            let x = &x[starts[k]..starts[k] + L];
            for i in 0..L {
                sums[k][i] += dz * x[i];
            }
        }
    }
    for k in 0..K {
        gradient[starts[k]..starts[k] + L].copy_from_slice(&sums[k]);
    }
}

/// `z[r] += sum_j table[codes[r, j]]`.
pub fn gather(codes: &[u32], table: &[f32], z: &mut [f32], c: usize) {
    if c == 0 {
        return;
    }
    for (z, codes) in z.iter_mut().zip(codes.chunks_exact(c)) {
        for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
            *z += table[*code as usize];
        }
    }
}

/// `gradient[codes[r, j]] += dz[r]` for every row and column.
pub fn scatter(codes: &[u32], dz: &[f32], gradient: &mut [f32], c: usize) {
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
    use crate::kernels::rng::{mix, unit};

    fn draws(what: u64, n: usize) -> Vec<f32> {
        (0..n as u64).map(|i| 4.0 * unit(mix(3, what, i)) - 2.0).collect()
    }

    #[test]
    fn scores_and_gradients_equal_the_loop() {
        for d in (0..71).chain([127, 128, 129, 200]) {
            for rows in [0, 1, 2, 5, 33] {
                let (x, w, dz) = (draws(1, rows * d), draws(2, d), draws(4, rows));
                let mut z = vec![f32::NAN; rows];
                scores(&x, &w, 0.5, &mut z);
                for (r, z) in z.iter().enumerate() {
                    let product = |i: usize| f64::from(x[r * d + i]) * f64::from(w[i]);
                    let truth = 0.5 + (0..d).map(product).sum::<f64>();
                    let error = (f64::from(*z) - truth).abs();
                    assert!(error < 1e-4, "{rows} x {d}: {z} {truth}");
                }
                let mut gradient = vec![f32::NAN; d];
                weight_gradient(&x, &dz, &mut gradient);
                // Row by row is the order of the sums: the same bits.
                let truth = |i: usize| (0..rows).fold(0.0, |sum, r| sum + dz[r] * x[r * d + i]);
                for (i, g) in gradient.iter().enumerate() {
                    assert_eq!(*g, truth(i), "{rows} x {d}, {i}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_where_it_is() {
        for (d, at) in [(3, 1), (7, 5), (12, 6), (28, 13), (28, 27), (70, 64)] {
            let (mut x, w) = (draws(1, 3 * d), draws(2, d));
            x[d + at] = f32::INFINITY;
            let mut z = [0.0; 3];
            scores(&x, &w, 0.0, &mut z);
            assert!(z[0].is_finite() && z[1] == f32::INFINITY * w[at] && z[2].is_finite(), "{z:?}");
            let mut gradient = vec![0.0; d];
            weight_gradient(&x, &[1.0; 3], &mut gradient);
            let wrong = |(i, g): (usize, &f32)| g.is_finite() == (i == at);
            assert!(!gradient.iter().enumerate().any(wrong), "{gradient:?}");
        }
    }

    #[test]
    fn gathers_and_scatters_equal_the_loop() {
        let codes = [0, 3, NO_CATEGORY, 2, 3, 3];
        let mut z = [0.5, 0.5, 0.5];
        gather(&codes, &[1.0, 2.0, 4.0, 8.0], &mut z, 2);
        assert_eq!(z, [9.5, 4.5, 16.5]);
        let mut gradient = [0.0; 4];
        scatter(&codes, &[1.0, 2.0, 4.0], &mut gradient, 2);
        assert_eq!(gradient, [1.0, 0.0, 2.0, 9.0]);
    }
}
