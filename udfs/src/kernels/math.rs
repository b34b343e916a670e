//! Elementary functions on `f32` in a form that compilers vectorise: no calls, no branches.
//!
//! Loops over them run under `pulp`'s dispatch, so that they use the widest instructions of the
//! machine that runs them and not those of the machine that compiled them.

use pulp::Arch;

/// Runs a closure compiled for the widest vector instructions of this machine. The closure must
/// behave as `#[inline(always)]`: it must be small and call only inlined functions.
#[inline]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}

/// `e^x` within 2 units in the last place: Cody-Waite reduction by ln 2 in two parts and a
/// polynomial of degree 6 (Cephes `expf`, Moshier). Saturates to 0 and infinity like `exp`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-104.0, 89.0);
    let n = (clamped * LOG2_E).round_ties_even();
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    // By pairs of terms (Estrin): for a single row this takes half the time of one term after
    // another.
    let square = r * r;
    let high = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let middle = 8.333_452e-3 * r + 4.166_579_6e-2;
    let low = 1.666_666_5e-1 * r + 5.000_000_3e-1;
    let p = (high * square + middle) * square + low;
    let e = p * square + r + 1.0;
    // After 1.5 * 2^23 is added, a float that is a whole number below 2^22 is in the last bits of
    // the sum. A conversion that checks for values that no integer holds would keep the loop
    // scalar.
    const MAGIC: f32 = 12_582_912.0;
    let n = (n + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    // 2^n in two factors, so that subnormal results and the largest ones are correct.
    let half = n >> 1;
    let rest = n.wrapping_sub(half);
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
    let result = e * power(half) * power(rest);
    if x.is_nan() { x } else { result }
}

/// `1 / x` of a positive `x` from 1e-37 to 1e37, within 2 units in the last place. For a larger `x`
/// the result is that of 1e37: a gradient that overflows leaves its weight where it is.
///
/// The square root that precedes it keeps the division unit busy. So this uses Newton iterations
/// from an initial guess by the exponent (after Blinn 1997, "Floating-point tricks"); each
/// iteration doubles the number of correct bits.
#[inline(always)]
pub fn reciprocal(x: f32) -> f32 {
    // (NaN stays NaN; with `min` it would not.)
    let x = if x > 1e37 { 1e37 } else { x };
    let mut y = f32::from_bits(0x7ef3_11c7u32.wrapping_sub(x.to_bits()));
    y *= 2.0 - x * y;
    y *= 2.0 - x * y;
    y * (2.0 - x * y)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent: `1 - 2 / (e^2|x| + 1)` with the sign of x, a polynomial near 0 (Cephes
/// `tanhf`).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let far = 1.0 - 2.0 / (exp(2.0 * a) + 1.0);
    let s = x * x;
    let mut p = -5.704_988_5e-3f32;
    p = p * s + 2.063_909e-2;
    p = p * s - 5.373_972_5e-2;
    p = p * s + 1.333_144_2e-1;
    p = p * s - 3.333_328e-1;
    let near = p * s * x + x;
    if a < 0.625 { near } else { far.copysign(x) }
}

/// The error function within 2e-7: an odd polynomial below 1 (Cephes `erff`, Moshier), beyond it
/// `erf(x) = 1 - t exp(-x^2 + P(t))` with `t = 1 / (1 + |x| / 2)` (Numerical Recipes, `erfc`,
/// Chebyshev fit with fractional error below 1.2e-7), which near 0 would lose its digits in `1 -`.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.5 * a);
    let mut p = 0.170_872_77f32;
    p = p * t - 0.822_152_23;
    p = p * t + 1.488_515_9;
    p = p * t - 1.135_204;
    p = p * t + 0.278_868_07;
    p = p * t - 0.186_288_06;
    p = p * t + 0.096_784_18;
    p = p * t + 0.374_091_96;
    p = p * t + 1.000_023_7;
    let far = 1.0 - t * exp(-a * a - 1.265_512_2 + t * p);
    let s = x * x;
    let mut p = 7.853_861_4e-5f32;
    p = p * s - 8.010_193_6e-4;
    p = p * s + 5.188_327_7e-3;
    p = p * s - 2.685_381_2e-2;
    p = p * s + 1.128_358_5e-1;
    p = p * s - 3.761_262_6e-1;
    p = p * s + std::f32::consts::FRAC_2_SQRT_PI;
    if a < 1.0 { x * p } else { far.copysign(x) }
}

/// `ln(1 + e^-|x|)`, the part of a logistic loss that is not linear, and `1 / (1 + e^-x)`, from one
/// exponential: within 5e-7 and 4e-7 of their size.
///
/// `ln(1 + e) = 2 artanh(s)` with `s = e / (2 + e)`, at most 1/3: the Taylor series up to `s^15`,
/// which leaves 4e-9.
#[inline(always)]
pub fn logistic(x: f32) -> (f32, f32) {
    let e = exp(-x.abs());
    let s = e / (2.0 + e);
    let q = s * s;
    let mut p = 1.0 / 15.0f32;
    p = p * q + 1.0 / 13.0;
    p = p * q + 1.0 / 11.0;
    p = p * q + 1.0 / 9.0;
    p = p * q + 1.0 / 7.0;
    p = p * q + 1.0 / 5.0;
    p = p * q + 1.0 / 3.0;
    let bent = 2.0 * (s + s * (q * p));
    let small = 1.0 / (1.0 + e);
    (bent, if x < 0.0 { e * small } else { small })
}

/// `ln(1 + e^x)` without overflow in float64, for single losses.
#[inline]
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `sum_i x_i y_i` in 16 running sums, which vectorise; of fewer numbers than that, in 8 or 4.
///
/// The numbers after the last whole window are summed by a window that ends with the last number;
/// those that are summed already are left out. A loop over them would cost more than the windows.
/// The order of the sums depends on the length alone, not on the vectors of the machine.
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let n = x.len().min(y.len());
    let (x, y) = (&x[..n], &y[..n]);
    match n {
        16.. => windowed_dot::<16>(x, y),
        8.. => windowed_dot::<8>(x, y),
        4.. => windowed_dot::<4>(x, y),
        _ => x.iter().zip(y).fold(0.0, |sum, (x, y)| sum + x * y),
    }
}

/// [`dot`] of at least `L` numbers, a power of 2.
#[inline(always)]
fn windowed_dot<const L: usize>(x: &[f32], y: &[f32]) -> f32 {
    let n = x.len();
    let mut sums = [0.0f32; L];
    let mut at = 0;
    while at + L <= n {
        let (x, y) = (&x[at..at + L], &y[at..at + L]);
        for i in 0..L {
            sums[i] += x[i] * y[i];
        }
        at += L;
    }
    if at < n {
        let seen = at + L - n;
        let (x, y) = (&x[n - L..], &y[n - L..]);
        for i in 0..L {
            sums[i] += if i >= seen { x[i] * y[i] } else { 0.0 };
        }
    }
    tree_sum(&mut sums)
}

/// The sum of an array whose length is a power of 2: halves are added to each other.
#[inline(always)]
pub fn tree_sum<T: Copy + std::ops::AddAssign, const L: usize>(sums: &mut [T; L]) -> T {
    let mut width = L / 2;
    while width > 0 {
        for i in 0..width {
            let other = sums[i + width];
            sums[i] += other;
        }
        width /= 2;
    }
    sums[0]
}

/// `y += a x`.
#[inline(always)]
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// `sum += other`, for the length of `sum`.
pub fn add(sum: &mut [f32], other: &[f32]) {
    let other = &other[..sum.len()];
    vectorized(
        #[inline(always)]
        || axpy(1.0, other, sum),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> impl Iterator<Item = f32> {
        (-20_000..=20_000).map(|i| i as f32 * 0.005)
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for x in grid() {
            let truth = f64::from(x).exp();
            let error = ((f64::from(exp(x)) - truth) / truth.max(1e-37)).abs();
            assert!(!(-86.0..=88.0).contains(&x) || error < 2.4e-7, "exp({x}): {error}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn reciprocals_are_within_two_units_in_the_last_place() {
        for i in 0..200_000 {
            let x = (1e-37 * 10f64.powf(74.0 * f64::from(i) / 200_000.0)) as f32;
            let error = (f64::from(reciprocal(x)) * f64::from(x) - 1.0).abs();
            assert!(error < 2.4e-7, "1 / {x}: {error}");
        }
        assert!(reciprocal(f32::NAN).is_nan());
        for x in [2e37, f32::MAX, f32::INFINITY] {
            assert!((0.0..1e-36).contains(&reciprocal(x)), "1 / {x}");
        }
    }

    #[test]
    fn tanh_sigmoid_and_erf_are_close() {
        for x in grid() {
            let y = f64::from(x);
            assert!((f64::from(tanh(x)) - y.tanh()).abs() < 2e-7, "tanh({x})");
            let s = 1.0 / (1.0 + (-y).exp());
            assert!((f64::from(sigmoid(x)) - s).abs() < 2e-7, "sigmoid({x})");
        }
        // Wolfram Alpha: erf(0.5), erf(1), erf(2), erf(3).
        for (x, truth) in
            [(0.5, 0.520_499_88), (1.0, 0.842_700_79), (2.0, 0.995_322_27), (3.0, 0.999_977_91)]
        {
            assert!((f64::from(erf(x)) - truth).abs() < 4e-7, "erf({x})");
            assert_eq!(erf(-x), -erf(x));
        }
    }

    #[test]
    fn dot_equals_the_naive_sum() {
        for n in [0, 1, 15, 16, 17, 40, 100] {
            let x: Vec<f32> = (0..n).map(|i| (i % 7) as f32 - 3.0).collect();
            let y: Vec<f32> = (0..n).map(|i| (i % 5) as f32 * 0.5).collect();
            let naive: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(x * y)).sum();
            assert!((f64::from(dot(&x, &y)) - naive).abs() < 1e-4, "{n}");
        }
    }
}
