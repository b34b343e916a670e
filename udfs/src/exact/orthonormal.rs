//! Orthonormal vectors by the method of Gram and Schmidt.

use crate::kernels::double::dot;
use crate::kernels::rng::mix;

/// Part of its length that a vector must keep beside the vectors before it; what is less is
/// rounding.
const LOST: f64 = 1e-14;
/// Stream of the random numbers that replace vectors.
const DRAWS: u64 = 0x0b7f;

/// Makes the rows of `vectors [l, n]`, `l <= n`, orthonormal: each keeps the part of its direction
/// that the rows before it do not have. A row that depends on them is replaced by a random
/// direction, a function of its index alone.
///
/// Each row is freed from the ones before it twice, which is enough for orthogonality to rounding
/// (Giraud, Langou and Rozloznik 2005).
pub fn orthonormalize(vectors: &mut [f64], n: usize) {
    for at in 0..vectors.len() / n.max(1) {
        let (done, rest) = vectors.split_at_mut(at * n);
        let own = &mut rest[..n];
        let mut draw = 0;
        while !free(done, own) && draw < 8 {
            let seed = (at as u64) << 8 | draw;
            let random = |i: usize| (mix(seed, DRAWS, i as u64) >> 11) as f64;
            let scale = 2.0 / (1_u64 << 53) as f64;
            own.iter_mut().enumerate().for_each(|(i, x)| *x = scale * random(i) - 1.0);
            draw += 1;
        }
    }
}

/// Frees a vector from orthonormal ones and gives it the length 1; false where nothing is left.
fn free(done: &[f64], own: &mut [f64]) -> bool {
    let length = dot(own, own).sqrt();
    if !(length > 0.0 && length.is_finite()) {
        return false;
    }
    own.iter_mut().for_each(|x| *x /= length);
    for _ in 0..2 {
        for other in done.chunks_exact(own.len()) {
            let along = dot(own, other);
            own.iter_mut().zip(other).for_each(|(x, other)| *x -= along * other);
        }
        let left = dot(own, own).sqrt();
        if left <= LOST {
            return false;
        }
        own.iter_mut().for_each(|x| *x /= left);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_orthonormal_even_if_they_were_equal() {
        let n = 5;
        let mut vectors = vec![0.0; 4 * n];
        vectors[..n].copy_from_slice(&[3.0, 4.0, 0.0, 0.0, 0.0]);
        vectors[n..2 * n].copy_from_slice(&[3.0, 4.0, 0.0, 0.0, 0.0]);
        vectors[2 * n..3 * n].copy_from_slice(&[3.0, 4.0, 1e-9, 0.0, 0.0]);
        orthonormalize(&mut vectors, n);
        let row = |i: usize| &vectors[i * n..(i + 1) * n];
        for i in 0..4 {
            for j in 0..4 {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot(row(i), row(j)) - expected).abs() < 1e-14, "{i} {j}");
            }
        }
        assert_eq!(row(0), [0.6, 0.8, 0.0, 0.0, 0.0]);
    }
}
