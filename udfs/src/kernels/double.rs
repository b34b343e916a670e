//! Elementary functions on `f64` in a form that compilers vectorise: no calls, no branches.

use super::math::vectorized;

/// `e^x` of `x <= 0` within 2 units in the last place, 0 below -708: Cody-Waite reduction by ln 2
/// in two parts and the rational approximation of Cephes' `exp` (Moshier).
#[inline(always)]
pub fn exp_of_negative(x: f64) -> f64 {
    const LN2_HIGH: f64 = 6.931_457_519_531_25e-1;
    const LN2_LOW: f64 = 1.428_606_820_309_417_2e-6;
    // Results below this are subnormal; no caller distinguishes them from 0.
    let clamped = x.max(-708.0);
    let n = (clamped * std::f64::consts::LOG2_E).round_ties_even();
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let s = r * r;
    let p = r * ((1.261_771_930_748_105_9e-4 * s + 3.029_944_077_074_419_6e-2) * s + 1.0);
    let q = ((3.001_985_051_386_644_6e-6 * s + 2.524_483_403_496_841e-3) * s
        + 2.272_655_482_081_550_3e-1)
        * s
        + 2.0;
    let e = 1.0 + 2.0 * p / (q - p);
    // After 1.5 * 2^52 is added, a float that is a whole number below 2^51 is in the last bits of
    // the sum. A conversion that checks for values that no integer holds would keep the loop
    // scalar.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let n = (n + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits());
    let result = e * f64::from_bits(n.wrapping_add(1023) << 52);
    let result = if x < -708.0 { 0.0 } else { result };
    if x.is_nan() { x } else { result }
}

/// `ln(1 + e)` of `e` from 0 to 1, within 3 units in the last place: `2 atanh(e / (2 + e))` by its
/// series, whose argument is a third at most.
#[inline(always)]
pub fn ln_1p_of_unit(e: f64) -> f64 {
    /// Terms up to `u^37 / 37`, which is below 2^-62 of the first.
    const TERMS: usize = 18;
    let u = e / (2.0 + e);
    let square = u * u;
    let mut sum = 0.0;
    for k in (0..=TERMS).rev() {
        sum = sum * square + 1.0 / (2 * k + 1) as f64;
    }
    2.0 * u * sum
}

/// The sum of some numbers, by lanes.
pub fn sum<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    const LANES: usize = 16;
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    vectorized(
        #[inline(always)]
        || {
            for values in whole {
                for (lane, value) in lanes.iter_mut().zip(values) {
                    *lane += (*value).into();
                }
            }
        },
    );
    lanes.iter().sum::<f64>() + rest.iter().map(|value| (*value).into()).sum::<f64>()
}

/// `a . b`, by lanes.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 16;
    let n = a.len().min(b.len());
    let ((a, rest_a), (b, rest_b)) = (a[..n].as_chunks::<LANES>(), b[..n].as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    vectorized(
        #[inline(always)]
        || {
            for (a, b) in a.iter().zip(b) {
                for i in 0..LANES {
                    lanes[i] += a[i] * b[i];
                }
            }
        },
    );
    lanes.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_standard_library() {
        for i in 0..=1_000_000u32 {
            let e = f64::from(i) * 1e-6;
            let (own, truth) = (ln_1p_of_unit(e), e.ln_1p());
            assert!((own - truth).abs() <= 7e-16 * truth, "{e}: {own} {truth}");
        }
        for e in [0.0, 1e-300, 1e-16] {
            assert_eq!(ln_1p_of_unit(e), e);
        }
        assert!(ln_1p_of_unit(f64::NAN).is_nan());
    }

    #[test]
    fn sums_are_of_all_numbers() {
        for n in [0, 1, 15, 16, 17, 200] {
            let values: Vec<f32> = (1..=n).map(|i| i as f32).collect();
            assert_eq!(sum(&values), f64::from(n * (n + 1) / 2));
        }
    }

    #[test]
    fn products_are_of_all_numbers() {
        for n in [0, 1, 15, 16, 17, 200] {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            let twice: Vec<f64> = values.iter().map(|x| 2.0 * x).collect();
            assert_eq!(dot(&values, &twice), f64::from(n * (n + 1) * (2 * n + 1) / 3));
        }
    }

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for i in 0..2_000_000u32 {
            let x = -f64::from(i) * 3.54e-4;
            let (own, truth) = (exp_of_negative(x), x.exp());
            assert!((own - truth).abs() <= 4.5e-16 * truth, "{x}: {own} {truth}");
        }
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert_eq!(exp_of_negative(-0.0), 1.0);
        assert_eq!(exp_of_negative(-709.0), 0.0);
        assert_eq!(exp_of_negative(f64::NEG_INFINITY), 0.0);
        assert!(exp_of_negative(f64::NAN).is_nan());
    }
}
