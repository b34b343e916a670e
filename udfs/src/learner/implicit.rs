//! Implicit updates: how far raw outputs move along the gradient flow `dz/dt = -dl/dz` in a given
//! time, in closed form (Karampatziakis and Langford, "Online Importance Weight Aware Updates", UAI
//! 2011, table 1; Huber and squared hinge by the same calculation).
//!
//! A gradient step of length `t` moves by `-t dl/dz`, even past the minimum. The implicit update
//! never passes the minimum, and two updates of time `t` are one update of time `2 t`: a row of
//! weight 2 is the same as that row twice.

use super::Loss;

impl Loss {
    /// Replaces each element of `time` `[outputs]`, at least 0, by the distance that the raw output
    /// of `z` `[outputs]` moves in that time, under label `y`.
    ///
    /// With several outputs, each is updated independently. That is exact for hinge losses, which
    /// are one loss per output. Each logit of a softmax is updated against the old values of the
    /// others: the update is the same at first order, and bounded for any time.
    pub(crate) fn implicit_update(self, z: &[f32], y: f32, time: &mut [f64]) {
        if self == Loss::Softmax {
            return softmax(z, y as usize, time);
        }
        let outputs = z.len();
        let y0 = f64::from(y);
        for (i, (z, t)) in z.iter().zip(time).enumerate() {
            let z = f64::from(*z);
            let is_own = if outputs == 1 { y > 0.5 } else { i == y as usize };
            let sign = if is_own { 1.0 } else { -1.0 };
            *t = match self {
                Loss::Squared => (z - y0) * (-2.0 * *t).exp_m1(),
                Loss::Absolute => (y0 - z).max(-*t).min(*t),
                Loss::Quantile => (y0 - z).max(-0.5 * *t).min(0.5 * *t),
                Loss::Huber => huber(z - y0, *t),
                Loss::Poisson => poisson(z, y0, *t),
                Loss::Logistic | Loss::Softmax => sign * logistic(sign * z, *t),
                // (Not `max`: it would turn NaN into a distance of 0.)
                Loss::Hinge | Loss::SquaredHinge if 1.0 - sign * z <= 0.0 => 0.0,
                Loss::Hinge => sign * (1.0 - sign * z).min(*t),
                Loss::SquaredHinge => sign * (sign * z - 1.0) * (-2.0 * *t).exp_m1(),
            };
        }
    }
}

/// The update for a residual `r = z - y`: at constant speed while `|r| > 1`, then `r` decays.
fn huber(r: f64, t: f64) -> f64 {
    let straight = (r.abs() - 1.0).max(0.0).min(t);
    let left = r - straight.copysign(r);
    left * (straight - t).exp_m1() - straight.copysign(r)
}

/// Below it, `e^z` vanishes beside 1; above it, `e^-z` does not overflow for long times.
const FAR: f64 = -300.0;

/// `dz/dt = y - e^z`: `e^-z(t) = e^-z e^-yt + (1 - e^-yt) / y`, or `e^-z + t` at `y = 0`.
fn poisson(z: f64, y: f64, t: f64) -> f64 {
    if y == 0.0 {
        return -(z.exp() * t).ln_1p();
    }
    let straight = (FAR - z).max(0.0).min(y * t);
    let (e, gone) = ((z + straight).exp(), -(straight - y * t).exp_m1());
    let shrinks = gone * (e / y - 1.0);
    // Near 1 and near 0 the logarithm needs a different form each to keep its digits.
    let flown = if shrinks > -0.5 { shrinks.ln_1p() } else { ((1.0 - gone) + gone * (e / y)).ln() };
    straight - flown
}

/// The update for the margin `m` of the right class: the root `d` of `d + e^m (e^d - 1) = t`, which
/// is the paper's `W(exp(t + m + e^m)) - t - e^m` without its cancellation. Newton's method
/// converges to it from above: the left side is convex, and both bounds are above the root.
fn logistic(m: f64, t: f64) -> f64 {
    let straight = (FAR - m).max(0.0).min(t);
    let (e, t) = ((m + straight).exp(), t - straight);
    if e.is_infinite() {
        return t / e;
    }
    let mut d = t.min((t / e).ln_1p());
    for _ in 0..50 {
        let step = (d + e * d.exp_m1() - t) / (1.0 + e * d.exp());
        d -= step;
        // The next step would be about the square of this one.
        if step.abs() <= 1e-9 * d.abs() {
            break;
        }
    }
    straight + d
}

/// The update of each logit against `ln sum exp` of the others; its probability is then a logistic
/// function.
fn softmax(z: &[f32], y: usize, time: &mut [f64]) {
    let mut top = 0;
    for (i, value) in z.iter().enumerate() {
        if *value > z[top] {
            top = i;
        }
    }
    let Some(highest) = z.get(top).copied().map(f64::from) else { return };
    let e = |z: f32| (f64::from(z) - highest).exp();
    // The largest term is left out of the sum from the start: subtracting it later would lose all
    // digits.
    let rest: f64 = z.iter().enumerate().filter(|(i, _)| *i != top).map(|(_, z)| e(*z)).sum();
    for (i, (z, t)) in z.iter().zip(time).enumerate() {
        let others = if i == top { rest } else { 1.0 + (rest - e(*z)).max(0.0) };
        let against = f64::from(*z) - highest - others.ln();
        let sign = if i == y { 1.0 } else { -1.0 };
        *t = sign * logistic(sign * against, *t);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `dl/dz` in float64, written independently.
    fn slope(loss: Loss, z: &[f64], y: usize, output: usize) -> f64 {
        let (r, target) =
            (z[output] - y as f64, if z.len() == 1 { y } else { usize::from(y == output) });
        let s = 2.0 * target as f64 - 1.0;
        let slack = 1.0 - s * z[output];
        match loss {
            Loss::Squared => 2.0 * r,
            Loss::Absolute if r == 0.0 => 0.0,
            Loss::Absolute => r.signum(),
            Loss::Quantile => 0.5 * if r == 0.0 { 0.0 } else { r.signum() },
            Loss::Huber => r.clamp(-1.0, 1.0),
            Loss::Poisson => z[output].exp() - y as f64,
            Loss::Logistic => 1.0 / (1.0 + (-z[0]).exp()) - y as f64,
            Loss::Softmax => {
                let total: f64 = z.iter().map(|z| z.exp()).sum();
                z[output].exp() / total - target as f64
            }
            Loss::Hinge if slack > 0.0 => -s,
            Loss::SquaredHinge if slack > 0.0 => -2.0 * s * slack,
            Loss::Hinge | Loss::SquaredHinge => 0.0,
        }
    }

    /// Against the same path in 20,000 small steps, the others held.
    #[test]
    fn flows_are_many_small_steps() {
        const STEPS: usize = 20_000;
        for loss in Loss::ALL {
            let starts: &[&[f32]] = match loss {
                Loss::Softmax => &[&[0.0, 0.0, 0.0], &[3.0, -1.0, 0.5]],
                Loss::Hinge | Loss::SquaredHinge => &[&[0.3], &[-2.0], &[0.5, 1.5, -0.5]],
                _ => &[&[0.3], &[-2.0], &[2.5], &[4.0]],
            };
            for (start, y, time) in starts.iter().flat_map(|start| {
                [0, 1].into_iter().flat_map(move |y| [0.01, 0.7, 5.0].map(|t| (*start, y, t)))
            }) {
                let mut found = vec![time; start.len()];
                loss.implicit_update(start, y as f32, &mut found);
                for (output, found) in found.iter().enumerate() {
                    let mut z: Vec<f64> = start.iter().map(|z| f64::from(*z)).collect();
                    let (from, step) = (z[output], time / STEPS as f64);
                    for _ in 0..STEPS {
                        // The midpoint of a step, so that its error is of second order.
                        let begin = z[output];
                        z[output] -= 0.5 * step * slope(loss, &z, y, output);
                        z[output] = begin - step * slope(loss, &z, y, output);
                    }
                    let truth = z[output] - from;
                    let has_kink = matches!(loss, Loss::Absolute | Loss::Hinge);
                    let allowed = if has_kink { 2.0 * step } else { 1e-6 };
                    assert!(
                        (found - truth).abs() < allowed,
                        "{loss:?} {start:?} {y} {time} {output}: {found}, not {truth}"
                    );
                }
            }
        }
    }

    /// Twice for `t` is once for `2 t`, and short times are gradient steps.
    #[test]
    fn weights_are_repetitions() {
        for loss in Loss::ALL.into_iter().filter(|loss| *loss != Loss::Softmax) {
            for (z, y) in [(0.25, 1.0), (-1.5, 0.0), (-3.0, 1.0), (6.0, 0.0), (-30.0, 1.0)] {
                for t in [1e-12, 1e-3, 0.125, 2.0] {
                    let mut once = [2.0 * t];
                    loss.implicit_update(&[z], y, &mut once);
                    let mut first = [t];
                    loss.implicit_update(&[z], y, &mut first);
                    let mut second = [t];
                    let between = f64::from(z) + first[0];
                    loss.implicit_update(&[between as f32], y, &mut second);
                    // The two results converge: the rounding error of the intermediate point to
                    // float32 does not grow.
                    let lost = (between - f64::from(between as f32)).abs();
                    let gap = (first[0] + second[0] - once[0]).abs();
                    assert!(gap <= 2.5 * lost + 1e-12, "{loss:?} {z} {t}: {gap}");
                    if t == 1e-12 {
                        let slope = slope(loss, &[f64::from(z)], y as usize, 0);
                        assert!((first[0] + t * slope).abs() <= 1e-8 * t * slope.abs());
                    }
                }
            }
        }
    }

    #[test]
    fn far_outputs_and_long_times_stay_finite() {
        for loss in Loss::ALL {
            for z in [-1e4f32, -90.0, 90.0, 1e4] {
                for y in [0.0, 1.0] {
                    for t in [0.0, 1e-30, 1.0, 1e30] {
                        let (mut z, mut time) = (vec![z, 0.0, 0.0], vec![t; 3]);
                        let outputs = if loss == Loss::Softmax { 3 } else { 1 };
                        z.truncate(outputs);
                        time.truncate(outputs);
                        loss.implicit_update(&z, y, &mut time);
                        if loss != Loss::Poisson || z[0] < 700.0 {
                            assert!(
                                time.iter().all(|d| d.is_finite()),
                                "{loss:?} {z:?} {y} {t}: {time:?}"
                            );
                        }
                    }
                }
            }
        }
        let mut time = [1.0];
        Loss::Logistic.implicit_update(&[f32::NAN], 1.0, &mut time);
        assert!(time[0].is_nan());
    }
}
