//! The pinball loss of several quantiles of one number (Koenker and Bassett 1978): for quantile `q`
//! and residual `r = y - z`, `q r` where `r > 0`, else `(q - 1) r`. Its minimum over constants is
//! the quantile `q` of the labels.

use crate::learner::LossSum;

/// The pinball loss of a residual `y - z`; NaN of NaN.
#[inline(always)]
pub(crate) fn pinball(q: f64, residual: f64) -> f64 {
    if residual > 0.0 { q * residual } else { (q - 1.0) * residual }
}

/// Returns the weighted sum of losses of rows with one raw output for each of `quantiles [k]`, and
/// replaces the raw outputs `z [r, k]` by `scale * weight` times the derivative of the row's loss.
/// The loss of a row is the sum over its quantiles. `label [r]`, `weight [r]`.
pub fn differentiate(
    quantiles: &[f32],
    z: &mut [f32],
    label: &[f32],
    weight: &[f32],
    scale: f32,
) -> LossSum {
    let found = sum(quantiles, z, label, weight);
    for ((z, y), w) in z.chunks_exact_mut(quantiles.len().max(1)).zip(label).zip(weight) {
        let factor = scale * w;
        for (z, q) in z.iter_mut().zip(quantiles) {
            let r = y - *z;
            // (A residual of 0 has the derivative 0, one that is no number stays so.)
            let slope = if r > 0.0 {
                -q
            } else if r < 0.0 {
                1.0 - q
            } else {
                r
            };
            *z = factor * slope;
        }
    }
    found
}

/// The weighted sum of the losses of rows with raw outputs `z [r, k]` for `quantiles [k]`.
pub fn sum(quantiles: &[f32], z: &[f32], label: &[f32], weight: &[f32]) -> LossSum {
    let mut sum = LossSum { rows: weight.len() as u64, ..LossSum::default() };
    for ((z, y), w) in z.chunks_exact(quantiles.len().max(1)).zip(label).zip(weight) {
        let own = z.iter().zip(quantiles);
        let own = own.map(|(z, q)| pinball(f64::from(*q), f64::from(y - z)));
        sum.loss += f64::from(*w) * own.sum::<f64>();
        sum.weight += f64::from(*w);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTILES: [f32; 3] = [0.125, 0.5, 0.75];

    #[test]
    fn slopes_are_differences_of_sums() {
        let (label, weight) = ([0.5, -1.0], [2.0, 0.5]);
        let z = [0.25, 0.75, -1.5, -3.0, 2.0, -1.25];
        let mut slopes = z;
        let found = differentiate(&QUANTILES, &mut slopes, &label, &weight, 0.5);
        assert_eq!(found, sum(&QUANTILES, &z, &label, &weight));
        // 2 (0.125 * 0.25 + 0.5 * 0.25 + 0.75 * 2) + 0.5 (0.125 * 2 + 0.5 * 3 + 0.75 * 0.25)
        assert_eq!((found.loss, found.weight, found.rows), (3.3125 + 0.96875, 2.5, 2));
        for i in 0..z.len() {
            let at = |by: f32| {
                let mut moved = z;
                moved[i] += by;
                sum(&QUANTILES, &moved, &label, &weight).loss
            };
            let slope = 0.5 * (at(0.0625) - at(-0.0625)) / 0.125;
            assert_eq!(f64::from(slopes[i]), slope, "{i}");
        }
    }

    #[test]
    fn residuals_of_zero_have_no_slope_and_outputs_that_are_no_numbers_no_finite_loss() {
        let mut z = [1.0, f32::NAN, 1.0];
        let found = differentiate(&QUANTILES, &mut z, &[1.0], &[1.0], 1.0);
        assert!(found.loss.is_nan() && z[0] == 0.0 && z[1].is_nan() && z[2] == 0.0);
    }

    /// Half the absolute error, as the loss without quantiles has it.
    #[test]
    fn the_median_is_the_loss_without_quantiles() {
        use crate::learner::Loss;
        let (label, weight) = ([0.5, -1.0, 3.0], [2.0, 0.5, 1.0]);
        let (mut ours, mut theirs) = ([0.25, 0.75, 3.0], [0.25, 0.75, 3.0]);
        let own = differentiate(&[0.5], &mut ours, &label, &weight, 0.25);
        let other = Loss::Quantile.differentiate(&mut theirs, 1, &label, &weight, 0.25);
        assert_eq!((own, ours), (other, theirs));
    }
}
