//! Kernels of one output against sums in their order, on every vector width.

use super::gradient::{Total, WeightGradient};
use super::*;
use crate::kernels::lanes::on_every_width;
use crate::kernels::prefetch::Prefetch;
use crate::kernels::rng::{mix, unit};

/// Lengths that end inside, at and after every window.
fn widths() -> impl Iterator<Item = usize> {
    (0..71).chain([127, 128, 129, 200])
}

/// Numbers of rows that end inside, at and after every block.
const ROWS: [usize; 11] = [0, 1, 2, 3, 4, 5, 15, 16, 17, 33, 50];

fn draws(what: u64, n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| 4.0 * unit(mix(3, what, i)) - 2.0).collect()
}

/// A score summed in the documented order: lanes, then sums of neighbours.
fn score(x: &[f32], w: &[f32], bias: f32) -> f32 {
    let d = x.len();
    let product = |i: usize| x[i] * w[i];
    if d < 4 {
        return if d == 0 { bias } else { bias + (0..d).map(product).fold(0.0, |s, p| s + p) };
    }
    let whole = if d < LANES { d } else { d - d % LANES };
    let mut lanes = [0.0f32; LANES];
    (0..whole).for_each(|i| lanes[i % LANES] += product(i));
    (whole..d).for_each(|i| lanes[i + LANES - d] += product(i));
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        (0..n).for_each(|i| lanes[i] = lanes[2 * i] + lanes[2 * i + 1]);
    }
    bias + lanes[0]
}

#[test]
fn scores_are_their_sums_in_order_on_every_vector_width() {
    for (d, rows) in widths().flat_map(|d| ROWS.map(|rows| (d, rows))) {
        let (x, w) = (draws(1, rows * d), draws(2, d));
        let mut z = vec![f32::NAN; rows];
        scores(&x, &w, 0.5, &mut z);
        for (r, z) in z.iter().enumerate() {
            let own = &x[r * d..(r + 1) * d];
            assert_eq!(*z, score(own, &w, 0.5), "{rows} x {d}, {r}");
            let truth: f64 = own.iter().zip(&w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            assert!((f64::from(*z) - truth - 0.5).abs() < 1e-4, "{rows} x {d}: {z} {truth}");
        }
        if d > 3 {
            on_every_width(|width| {
                let mut other = vec![f32::NAN; rows];
                width.run(Scores {
                    x: &x,
                    w: &w,
                    bias: 0.5,
                    z: &mut other,
                    prefetch: Prefetch::NONE,
                });
                assert_eq!(other, z, "{rows} x {d}");
            });
        }
    }
}

#[test]
fn gradients_are_their_sums_in_order_on_every_vector_width() {
    for (d, rows) in widths().flat_map(|d| ROWS.map(|rows| (d, rows))) {
        let (x, dz) = (draws(1, rows * d), draws(4, rows));
        let mut gradient = vec![f32::NAN; d];
        weight_gradient(&x, &dz, &mut gradient);
        for (i, g) in gradient.iter().enumerate() {
            let product = |r: usize| dz[r] * x[r * d + i];
            let every_fourth =
                |k: usize| (k..rows).step_by(4).map(product).fold(0.0, |sum, p| sum + p);
            let [a, b, c, e] = [0, 1, 2, 3].map(every_fourth);
            assert_eq!(*g, (a + b) + (c + e), "{rows} x {d}, {i}");
            let truth: f64 = (0..rows).map(|r| f64::from(dz[r]) * f64::from(x[r * d + i])).sum();
            assert!((f64::from(*g) - truth).abs() < 1e-4, "{rows} x {d}: {g} {truth}");
        }
        on_every_width(|width| {
            let mut other = vec![f32::NAN; d];
            width.run(WeightGradient {
                x: &x,
                dz: &dz,
                gradient: &mut other,
                prefetch: Prefetch::NONE,
            });
            assert_eq!(other, gradient, "{rows} x {d}");
            assert_eq!(width.run(Total(&dz)), bias_gradient(&dz), "{rows}");
        });
        let truth: f64 = dz.iter().map(|dz| f64::from(*dz)).sum();
        assert!((f64::from(bias_gradient(&dz)) - truth).abs() < 1e-5, "{rows}");
    }
}

#[test]
fn what_is_no_number_stays_where_it_is() {
    for (d, at) in
        [(1, 0), (3, 1), (5, 0), (5, 4), (7, 5), (12, 6), (15, 14), (28, 13), (28, 27), (70, 64)]
    {
        for (rows, own) in [(3, 1), (16, 15), (17, 0), (17, 16), (40, 20), (40, 39)] {
            let (mut x, w) = (draws(1, rows * d), draws(2, d));
            for value in [f32::INFINITY, f32::NAN] {
                x[own * d + at] = value;
                let mut z = vec![0.0; rows];
                scores(&x, &w, 0.0, &mut z);
                let truth = value * w[at];
                assert!(z[own] == truth || truth.is_nan() && z[own].is_nan(), "{d}: {z:?}");
                let wrong = |(r, z): (usize, &f32)| z.is_finite() == (r == own);
                assert!(!z.iter().enumerate().any(wrong), "{rows} x {d}: {z:?}");
                let mut gradient = vec![0.0; d];
                weight_gradient(&x, &vec![1.0; rows], &mut gradient);
                let wrong = |(i, g): (usize, &f32)| g.is_finite() == (i == at);
                assert!(!gradient.iter().enumerate().any(wrong), "{gradient:?}");
            }
        }
    }
}
