//! Every kernel against a plain float64 loop, over all short lengths and at the edges of `f32`.

use super::math::{axpy, dot, erf, exp, sigmoid, softplus, tanh, vectorized};
use super::rng::{mix, unit};
use super::{activation, gather, matmul};
use crate::batch::NO_CATEGORY;
use crate::learner::Activation;

/// Lengths that end inside, at and after every vector width.
const LENGTHS: std::ops::Range<usize> = 0..71;

/// Numbers in `[-2, 2)`.
fn draws(what: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| 4.0 * unit(mix(9, what as u64, i as u64)) - 2.0).collect()
}

/// `erf` and `erfc` in float64: the Taylor series up to 2, the continued fraction beyond.
fn erfc64(x: f64) -> f64 {
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return if x < -2.0 { 2.0 - erfc64(-x) } else { 1.0 - sum * 2.0 / PI.sqrt() };
    }
    let fraction = (1..300).rev().fold(x, |f, k| x + 0.5 * f64::from(k) / f);
    (-x * x).exp() / (fraction * PI.sqrt())
}

const PI: f64 = std::f64::consts::PI;

/// Sums of up to 70 products of up to 4: float32 rounds each.
const SUM_TOLERANCE: f64 = 70.0 * 4.0 * 6e-8 * 4.0;

#[track_caller]
fn near(name: &str, found: f32, truth: f64, tolerance: f64) {
    if truth.is_nan() {
        assert!(found.is_nan(), "{name}: {found} instead of NaN");
    } else if (truth as f32).is_infinite() {
        assert_eq!(f64::from(found), f64::from(truth as f32), "{name}");
    } else {
        let error = (f64::from(found) - truth).abs();
        assert!(error <= tolerance, "{name}: {found} instead of {truth}");
    }
}

#[test]
fn products_of_matrices_equal_the_loop() {
    // One dimension runs through all lengths while the others stay odd or at an edge.
    let shapes = LENGTHS.flat_map(|n| {
        [(1, 1), (3, 7), (0, 5), (5, 0), (8, 17)]
            .into_iter()
            .flat_map(move |(a, b)| [(n, a, b), (a, n, b), (a, b, n)])
    });
    for (r, d, u) in shapes {
        // Buffers may be longer than the matrices in them.
        let (x, w, dz) = (draws(1, r * d + 3), draws(2, d * u + 3), draws(3, r * u + 3));
        let wide = |v: &[f32], i: usize| f64::from(v[i]);
        let name = format!("{r} {d} {u}");
        for add in [false, true] {
            let mut out = vec![if add { 0.5 } else { f32::NAN }; r * u + 1];
            out[r * u] = -7.0;
            matmul::forward(&x, &w, &mut out, r, d, u, add);
            for (row, unit) in (0..r).flat_map(|row| (0..u).map(move |unit| (row, unit))) {
                let sum: f64 = (0..d).map(|i| wide(&x, row * d + i) * wide(&w, i * u + unit)).sum();
                let truth = sum + if add { 0.5 } else { 0.0 };
                near(&name, out[row * u + unit], truth, SUM_TOLERANCE);
            }
            assert_eq!(out[r * u], -7.0, "{name}: what lies behind stays");
        }
        let mut out = vec![f32::NAN; d * u];
        matmul::weight_gradient(&x, &dz, &mut out, r, d, u);
        for (i, unit) in (0..d).flat_map(|i| (0..u).map(move |unit| (i, unit))) {
            let truth = (0..r).map(|row| wide(&x, row * d + i) * wide(&dz, row * u + unit)).sum();
            near(&name, out[i * u + unit], truth, SUM_TOLERANCE);
        }
        let mut out = vec![f32::NAN; r * d];
        matmul::backward(&dz, &w, &mut out, r, d, u);
        for (row, i) in (0..r).flat_map(|row| (0..d).map(move |i| (row, i))) {
            let truth = (0..u).map(|unit| wide(&dz, row * u + unit) * wide(&w, i * u + unit)).sum();
            near(&name, out[row * d + i], truth, SUM_TOLERANCE);
        }
    }
}

#[test]
fn what_is_no_number_stays_in_its_row_of_a_product() {
    for (r, d, u) in [(5, 3, 1), (17, 33, 9), (4, 1, 70)] {
        let (mut x, w, dz) = (draws(1, r * d), draws(2, d * u), draws(3, r * u));
        x[d] = f32::NAN;
        x[3 * d] = f32::INFINITY;
        let mut out = vec![0.0; r * u];
        matmul::forward(&x, &w, &mut out, r, d, u, false);
        for row in 0..r {
            let own = &out[row * u..][..u];
            match row {
                1 => assert!(own.iter().all(|v| v.is_nan()), "{own:?}"),
                3 => assert!(own.iter().all(|v| v.is_infinite()), "{own:?}"),
                _ => assert!(own.iter().all(|v| v.is_finite()), "{own:?}"),
            }
        }
        let mut out = vec![0.0; d * u];
        matmul::weight_gradient(&x, &dz, &mut out, r, d, u);
        assert!(out[..u].iter().all(|v| v.is_nan()));
        assert!(out[u..].iter().all(|v| v.is_finite()));
    }
}

#[test]
fn dot_and_axpy_equal_the_loop() {
    for n in LENGTHS {
        let (x, mut y) = (draws(4, n), draws(5, n));
        let truth: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        near(&format!("dot of {n}"), dot(&x, &y), truth, SUM_TOLERANCE);
        near("vectorized", vectorized(|| dot(&x, &y)), truth, SUM_TOLERANCE);
        for at in 0..n {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = x.clone();
                x[at] = value;
                near("dot", dot(&x, &y), f64::from(value) * f64::from(y[at]), 0.0);
            }
        }
        let before = y.clone();
        axpy(-1.5, &x, &mut y);
        for ((y, x), before) in y.iter().zip(&x).zip(&before) {
            near("axpy", *y, f64::from(*before) - 1.5 * f64::from(*x), 1e-6);
        }
        axpy(0.0, &x, &mut y);
    }
    // Values below the normal range add up as they are.
    let tiny = f32::from_bits(3);
    assert_eq!(dot(&[tiny; 70], &[1.0; 70]), f32::from_bits(210));
    let mut y = [tiny; 70];
    axpy(2.0, &[tiny; 70], &mut y);
    assert_eq!(y, [f32::from_bits(9); 70]);
}

#[test]
fn gathers_equal_the_product_with_one_hot_columns() {
    for r in LENGTHS {
        for (c, t, u) in [(1, 1, 1), (2, 5, 3), (3, 40, 17), (0, 0, 4), (2, 7, 0)] {
            let code = |i: usize| match mix(6, c as u64, i as u64) % (t as u64 + 1) {
                code if code == t as u64 => NO_CATEGORY,
                code => code as u32,
            };
            let codes: Vec<u32> = (0..r * c).map(code).collect();
            let (table, start, dz) = (draws(7, t * u), draws(8, r * u), draws(10, r * u));
            let mut out = start.clone();
            gather::forward(&codes, &table, &mut out, c, u);
            let hot = |row: usize, k: usize| {
                codes[row * c..][..c].iter().filter(|code| **code == k as u32).count() as f64
            };
            for (i, found) in out.iter().enumerate() {
                let (row, unit) = (i / u, i % u);
                let sum: f64 = (0..t).map(|k| hot(row, k) * f64::from(table[k * u + unit])).sum();
                near("gather", *found, f64::from(start[i]) + sum, 2e-6);
            }
            let mut gradient = vec![0.25; t * u];
            gather::backward(&codes, &dz, &mut gradient, c, u);
            for (i, found) in gradient.iter().enumerate() {
                let (k, unit) = (i / u, i % u);
                let sum: f64 = (0..r).map(|row| hot(row, k) * f64::from(dz[row * u + unit])).sum();
                near("scatter", *found, 0.25 + sum, SUM_TOLERANCE);
            }
        }
    }
}

/// -110 to 110, and the edges of `f32`.
fn points() -> Vec<f32> {
    let grid = (-44_000..=44_000).map(|i| i as f32 * 0.0025);
    let edges = [0.0, 1e-3, 1e-10, f32::MIN_POSITIVE, f32::from_bits(1), 87.4, 88.72, 88.73, 100.0];
    let far = [103.0, 104.0, 150.0, 1e4, 1e20, f32::MAX, f32::INFINITY];
    grid.chain(edges.into_iter().chain(far).flat_map(|x| [x, -x])).chain([f32::NAN]).collect()
}

#[test]
fn elementary_functions_are_those_of_float64() {
    for x in points() {
        let y = f64::from(x);
        let truth = y.exp();
        // Two units in the last place, or one of the subnormal numbers.
        near(&format!("exp {x}"), exp(x), truth, (2.4e-7 * truth).max(1.5e-45));
        let truth = 1.0 / (1.0 + (-y).exp());
        // Beyond exp(89) = infinity it is 0.
        near(&format!("sigmoid {x}"), sigmoid(x), truth, (4e-7 * truth).max(4e-39));
        near(&format!("tanh {x}"), tanh(x), y.tanh(), 2e-7 * y.tanh().abs().max(1e-38));
        near(&format!("erf {x}"), erf(x), 1.0 - erfc64(y), 2e-7);
        let truth = if y > 30.0 { y + (-y).exp() } else { y.exp().ln_1p() };
        let error = (softplus(y) - truth).abs();
        let close = softplus(y) == truth || error <= 1e-14 * truth.abs();
        assert!(
            close || (y.is_nan() && softplus(y).is_nan()),
            "softplus {x}: {} {truth}",
            softplus(y)
        );
    }
    assert_eq!([erf(f32::INFINITY), erf(f32::NEG_INFINITY)], [1.0, -1.0]);
    near("erf 1e-6", erf(1e-6), 1.128_379_167e-6, 2e-13);
    assert!(erf(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
}

/// `f(x)` and `f'(x)` in float64.
fn reference(f: Activation, x: f64) -> (f64, f64) {
    let phi = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
    let below = 0.5 * erfc64(-x / 2f64.sqrt());
    let s = 1.0 / (1.0 + (-x).exp());
    match f {
        _ if x.is_nan() => (x, x),
        Activation::Relu if x > 0.0 => (x, 1.0),
        Activation::Relu => (0.0, 0.0),
        Activation::Gelu => (x * below, below + x * phi),
        Activation::Tanh => (x.tanh(), 1.0 / x.cosh() / x.cosh()),
        Activation::Sigmoid => (s, s * (1.0 - s)),
        Activation::Elu if x > 0.0 => (x, 1.0),
        Activation::Elu => (x.exp_m1(), x.exp()),
        Activation::Identity => (x, 1.0),
    }
}

#[test]
fn activations_and_their_derivatives_are_those_of_float64() {
    for f in Activation::ALL {
        let points = points();
        let finite: Vec<f32> = points.iter().copied().filter(|x| !x.is_infinite()).collect();
        let mut a = vec![0.5; finite.len()];
        let mut d = vec![2.0; finite.len()];
        activation::apply(f, &finite, &mut a);
        activation::backward(f, &finite, &a, &mut d, &mut [], finite.len());
        for ((x, a), d) in finite.iter().zip(&a).zip(&d) {
            let (truth, derivative) = reference(f, f64::from(*x));
            let size = f64::from(x.abs()).max(1.0);
            let name = format!("{f:?} {x}");
            if f == Activation::Gelu && *x < -3.0 {
                // 1 + erf cancels.
                near(&name, *a, truth, 2e-7 * size);
            } else {
                near(&name, *a, truth, 4e-7 * truth.abs().max(1.0));
            }
            if !x.is_nan() {
                near(&name, *d, 2.0 * derivative, 3e-6);
            }
        }
        for x in points.iter().filter(|x| x.is_infinite()) {
            let (mut a, x) = ([0.5], *x);
            activation::apply(f, &[x], &mut a);
            // 0 times infinity is NaN in the formula of GELU, as in PyTorch's.
            let truth = match f {
                Activation::Gelu if x < 0.0 => f64::NAN,
                _ => reference(f, f64::from(x)).0,
            };
            near(&format!("{f:?} {x}"), a[0], truth, 0.0);
        }
    }
}

#[test]
fn activations_of_all_lengths_equal_those_of_single_values() {
    for n in LENGTHS {
        for u in [1, 3, n.max(1)] {
            let rows = n / u;
            let (z, bias) = (draws(11, rows * u), draws(12, u));
            for f in Activation::ALL {
                let (mut sums, mut a) = (z.clone(), vec![f32::NAN; rows * u]);
                activation::forward(f, &mut sums, &bias, &mut a, u);
                let mut d = draws(13, rows * u);
                let mut columns = vec![f32::NAN; u];
                activation::column_sums(&d, &mut columns, u);
                for (unit, found) in columns.iter().enumerate() {
                    let truth = (0..rows).map(|row| f64::from(d[row * u + unit])).sum();
                    near("column sums", *found, truth, SUM_TOLERANCE);
                }
                activation::backward(f, &sums, &a, &mut d, &mut columns, u);
                for (unit, found) in columns.iter().enumerate() {
                    // Row by row is the order of the sums: the same bits.
                    let truth = (0..rows).fold(0.0, |sum, row| sum + d[row * u + unit]);
                    assert_eq!(*found, truth);
                }
                for (i, own) in draws(13, rows * u).into_iter().enumerate() {
                    let sum = z[i] + bias[i % u];
                    let (truth, derivative) = reference(f, f64::from(sum));
                    assert_eq!(sums[i], sum);
                    near("forward", a[i], truth, 5e-7);
                    near("backward", d[i], derivative * f64::from(own), 3e-6);
                }
                // No bias, as of a layer without.
                let mut same = z.clone();
                activation::forward(f, &mut same, &[], &mut a, u);
                assert_eq!(same, z);
            }
        }
    }
}
