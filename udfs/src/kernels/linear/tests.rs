//! Kernels of one output against sums in their order, on every vector width.

use super::gradient::{Total, WeightGradient, WideGradient};
use super::scores::WideScores;
use super::*;
use crate::kernels::lanes::on_every_width;
use crate::kernels::prefetch::Ahead;
use crate::kernels::rng::{mix, unit};

/// Lengths that end inside, at and behind every window.
fn widths() -> impl Iterator<Item = usize> {
    (0..71).chain([127, 128, 129, 200])
}

/// Numbers of rows that end inside, at and behind every block.
const ROWS: [usize; 11] = [0, 1, 2, 3, 4, 5, 15, 16, 17, 33, 50];

fn draws(what: u64, n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| 4.0 * unit(mix(3, what, i)) - 2.0).collect()
}

/// A score in its order: lanes, and neighbours that are added to each other.
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
        scores(&x, &w, 0.5, &mut z, Ahead::NONE);
        for (r, z) in z.iter().enumerate() {
            let own = &x[r * d..(r + 1) * d];
            assert_eq!(*z, score(own, &w, 0.5), "{rows} x {d}, {r}");
            let truth: f64 = own.iter().zip(&w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            assert!((f64::from(*z) - truth - 0.5).abs() < 1e-4, "{rows} x {d}: {z} {truth}");
        }
        if d >= LANES && rows > 1 {
            let order: Vec<u32> = (0..rows as u32).map(|r| r * 7 % rows as u32).collect();
            let taken: Vec<f32> =
                order.iter().flat_map(|r| &x[*r as usize * d..][..d]).copied().collect();
            for first in [0, rows.div_ceil(3)] {
                let (mut own, mut truth) = (z.clone(), z.clone());
                let places = (&taken[..first * d], AllOver { chunk: &x, order: &order[first..] });
                scattered_scores(places, &w, 0.5, &mut own, Ahead::NONE);
                scores(&taken, &w, 0.5, &mut truth, Ahead::NONE);
                assert_eq!(own, truth, "{rows} x {d}, scattered behind {first}");
                let (mut own, mut truth) = (vec![f32::NAN; d], vec![f32::NAN; d]);
                scattered_weight_gradient(places, &z, &mut own, Ahead::NONE);
                weight_gradient(&taken, &z, &mut truth, Ahead::NONE);
                assert_eq!(own, truth, "{rows} x {d}, scattered behind {first}");
            }
        }
        if d > 3 {
            on_every_width(|width| {
                let mut other = vec![f32::NAN; rows];
                width.run(Scores { x: &x, w: &w, bias: 0.5, z: &mut other, ahead: Ahead::NONE });
                assert_eq!(other, z, "{rows} x {d}");
                if d >= LANES {
                    let order: Vec<u32> = (0..rows as u32).rev().collect();
                    let own = AllOver { chunk: &x, order: &order };
                    let (bias, ahead) = (0.5, Ahead::NONE);
                    width.run(WideScores { x: own, w: &w, bias, z: &mut other, ahead });
                    other.reverse();
                    assert_eq!(other, z, "{rows} x {d}, scattered");
                    let first = rows.div_ceil(3);
                    let order: Vec<u32> = (first as u32..rows as u32).collect();
                    let own = AllOver { chunk: &x, order: &order }.behind(&x[..first * d], d);
                    width.run(WideScores { x: own, w: &w, bias, z: &mut other, ahead });
                    assert_eq!(other, z, "{rows} x {d}, scattered behind {first}");
                }
            });
        }
    }
}

#[test]
fn gradients_are_their_sums_in_order_on_every_vector_width() {
    for (d, rows) in widths().flat_map(|d| ROWS.map(|rows| (d, rows))) {
        let (x, dz) = (draws(1, rows * d), draws(4, rows));
        let mut gradient = vec![f32::NAN; d];
        weight_gradient(&x, &dz, &mut gradient, Ahead::NONE);
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
            width.run(WeightGradient { x: &x, dz: &dz, gradient: &mut other, ahead: Ahead::NONE });
            assert_eq!(other, gradient, "{rows} x {d}");
            if d >= LANES && rows > 1 {
                // Rows that lie from the last to the first.
                let back: Vec<f32> = x.chunks(d).rev().flatten().copied().collect();
                let order: Vec<u32> = (0..rows as u32).rev().collect();
                let own = AllOver { chunk: &back, order: &order };
                let ahead = Ahead::NONE;
                width.run(WideGradient { x: own, dz: &dz, gradient: &mut other, ahead });
                assert_eq!(other, gradient, "{rows} x {d}, scattered");
                let first = rows.div_ceil(3);
                let own = AllOver { chunk: &back, order: &order[first..] };
                let own = own.behind(&x[..first * d], d);
                width.run(WideGradient { x: own, dz: &dz, gradient: &mut other, ahead });
                assert_eq!(other, gradient, "{rows} x {d}, scattered behind {first}");
            }
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
                scores(&x, &w, 0.0, &mut z, Ahead::NONE);
                let truth = value * w[at];
                assert!(z[own] == truth || truth.is_nan() && z[own].is_nan(), "{d}: {z:?}");
                let wrong = |(r, z): (usize, &f32)| z.is_finite() == (r == own);
                assert!(!z.iter().enumerate().any(wrong), "{rows} x {d}: {z:?}");
                let mut gradient = vec![0.0; d];
                weight_gradient(&x, &vec![1.0; rows], &mut gradient, Ahead::NONE);
                let wrong = |(i, g): (usize, &f32)| g.is_finite() == (i == at);
                assert!(!gradient.iter().enumerate().any(wrong), "{gradient:?}");
            }
        }
    }
}
