//! Each loss of a row with one raw output, value and derivative.

use crate::kernels::math::{exp, logistic};

/// The loss of one row with one output.
pub(super) trait Rule {
    /// The intermediate result that gives the value, and the derivative.
    fn row(z: f32, y: f32) -> (f32, f32);

    /// The value from the intermediate result.
    fn value(part: f32) -> f64;
}

pub(super) struct Squared;
impl Rule for Squared {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        (z - y, 2.0 * (z - y))
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part) * f64::from(part)
    }
}

pub(super) struct Absolute;
impl Rule for Absolute {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let r = z - y;
        (r.abs(), if r == 0.0 { 0.0 } else { r.signum() })
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

/// The quantile loss where no levels are known: other levels are of `quantile.rs`.
pub(super) struct Median;
impl Rule for Median {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let (value, slope) = Absolute::row(z, y);
        (0.5 * value, 0.5 * slope)
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

pub(super) struct Huber;
impl Rule for Huber {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        ((z - y).abs(), (z - y).clamp(-1.0, 1.0))
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        let a = f64::from(part);
        if a <= 1.0 { 0.5 * a * a } else { a - 0.5 }
    }
}

pub(super) struct Poisson;
impl Rule for Poisson {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let e = exp(z);
        (e - y * z, e - y)
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

pub(super) struct Logistic;
impl Rule for Logistic {
    /// `ln(1 + e^z) - y z`; its part `max(z, 0) - y z` is exact for the labels 0 and 1.
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let (bent, p) = logistic(z);
        (z.max(0.0) - y * z + bent, p - y)
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

/// The sign of the label and `1 - s z` where positive (or NaN), else 0.
#[inline(always)]
fn slack(z: f32, y: f32) -> (f32, f32) {
    let s = if y > 0.5 { 1.0 } else { -1.0 };
    let slack = 1.0 - s * z;
    // (Not `max`: it would turn NaN into a loss of 0.)
    (s, if slack <= 0.0 { 0.0 } else { slack })
}

pub(super) struct Hinge;
impl Rule for Hinge {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let (s, slack) = slack(z, y);
        (slack, if slack == 0.0 { 0.0 } else { -s })
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part)
    }
}

pub(super) struct SquaredHinge;
impl Rule for SquaredHinge {
    #[inline(always)]
    fn row(z: f32, y: f32) -> (f32, f32) {
        let (s, slack) = slack(z, y);
        (slack, -2.0 * s * slack)
    }

    #[inline(always)]
    fn value(part: f32) -> f64 {
        f64::from(part) * f64::from(part)
    }
}
