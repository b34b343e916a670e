//! What a solver costs, so that `solver = 'auto'` can decide.

use super::moments::Moments;
use crate::batch::Width;

/// Parameters up to which a Newton system is solved in a twentieth of a second: 35 to 65 ms at 1500
/// (one core of an AMD EPYC, `benches/benches/kernels.rs`), and its matrices take 18 MB each. Time
/// grows with the third power, memory with the second.
const PARAMETERS: usize = 1500;

/// Operations of one step up to which Newton's method, which needs about ten steps, is worth its
/// time. Matrix products of a pass ran at 7e10 operations a second or more on one core, so a pass
/// takes at most three seconds there. Beyond that, SGD has almost converged before the first step
/// ends.
const STEP: f64 = 2e11;

/// Cost of scattering one number of a category, in operations of a matrix product: Adult (7 dense
/// columns, 8 category columns) takes 0.14 us a row and scatters 92 numbers a row.
const SCATTER: f64 = 80.0;

/// Blocks of the Hessian.
fn blocks(outputs: usize) -> usize {
    outputs * (outputs + 1) / 2
}

/// Memory of a Gram sum in bytes, without buffers. Solving takes in addition about four times the
/// memory of the matrix `[d + t, d + t]`.
pub fn gram_memory(width: Width) -> usize {
    Moments::len(width.dense + width.targets + 1, width.categories).saturating_mul(size_of::<f64>())
}

/// Memory of a covariance sum in bytes, without buffers. Eigenvectors take in addition about four
/// times the memory of the matrix `[d + t, d + t]`.
pub fn covariance_memory(width: Width) -> usize {
    Moments::len(width.dense + 1, width.categories).saturating_mul(size_of::<f64>())
}

/// Memory of a Newton sum in bytes, without buffers. A step takes in addition two matrices of the
/// number of parameters squared.
pub fn newton_memory(width: Width, outputs: usize) -> usize {
    Moments::len(width.dense + 1, width.categories)
        .saturating_mul(blocks(outputs))
        .saturating_mul(size_of::<f64>())
}

/// Floating-point operations of adding one row to moments of `columns` dense columns; scattered
/// numbers count by the time that they take.
fn row_flops(columns: usize, width: Width) -> f64 {
    let (a, c) = (columns as f64, width.columns as f64);
    a * a + SCATTER * (c * a + c * (c + 1.0) / 2.0)
}

/// Floating-point operations of one Newton step: a pass over `rows`, and the solve.
pub fn newton_flops(width: Width, outputs: usize, rows: u64) -> f64 {
    let parameters = (width.inputs() + 1) as f64 * outputs as f64;
    rows as f64 * row_flops(width.dense + 1, width) * blocks(outputs) as f64
        + parameters.powi(3) / 3.0
}

/// How many times the operations of an L-BFGS step a Newton step may take and still be the better
/// choice: it needs some eight passes where L-BFGS needs a hundred, and its products of matrices
/// run several times as many operations a second.
const NEWTON_OVER_LBFGS: f64 = 120.0;

/// Whether Newton steps are the right solver: normal equations would fit, and the Hessian is cheap
/// beside passes of L-BFGS.
pub fn newton_fits(width: Width, outputs: usize, rows: u64) -> bool {
    let most = NEWTON_OVER_LBFGS * lbfgs_flops(width, outputs, rows);
    are_few(width, outputs) && newton_flops(width, outputs, rows) <= most.min(STEP)
}

/// Whether normal equations are the right solver: 1500 parameters of a target at most, and seconds
/// a pass at most. Targets beside the first are further columns of one Gram matrix.
pub fn normal_fits(width: Width, rows: u64) -> bool {
    let all = Width { dense: width.dense + width.targets.saturating_sub(1), ..width };
    are_few(width, 1) && newton_flops(all, 1, rows) <= STEP
}

/// Whether iteratively reweighted least squares are the right solver for so many quantiles: normal
/// equations would fit for all of them together.
pub fn quantiles_fit(width: Width, quantiles: usize, rows: u64) -> bool {
    let pass = quantiles as f64 * newton_flops(width, 1, rows);
    are_few(width, quantiles) && pass <= STEP
}

/// Whether there are 1500 parameters at most.
fn are_few(width: Width, outputs: usize) -> bool {
    (width.inputs() + 1).saturating_mul(outputs) <= PARAMETERS
}

/// Operations of a pass up to which L-BFGS, which needs some hundred, is worth its time: a second
/// on one core at most.
const LBFGS_PASS: f64 = 2e10;
/// Parameters up to which L-BFGS is used: its history then takes 200 MB.
const LBFGS_PARAMETERS: usize = 1 << 20;

/// Floating-point operations of a pass of L-BFGS over `rows`, and of the step after it. Scores and
/// gradient take two operations each per number; four numbers of a category take as long as a
/// scattered one.
pub fn lbfgs_flops(width: Width, outputs: usize, rows: u64) -> f64 {
    let row = 4.0 * (width.dense + 4 * width.columns) as f64 * outputs as f64;
    let parameters = (width.inputs() + 1) as f64 * outputs as f64;
    // Two loops over ten pairs of vectors, and as much again around them.
    rows as f64 * row + 100.0 * parameters
}

/// Whether L-BFGS is the right solver: a million parameters at most, and a second a pass at most.
pub fn lbfgs_fits(width: Width, outputs: usize, rows: u64) -> bool {
    let parameters = (width.inputs() + 1).saturating_mul(outputs);
    parameters <= LBFGS_PARAMETERS && lbfgs_flops(width, outputs, rows) <= LBFGS_PASS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_fit_and_wide_or_long_ones_do_not() {
        let width =
            |dense, columns, categories| Width { dense, columns, categories, ..Width::default() };
        let adult = width(6, 8, 99);
        assert!(newton_fits(adult, 1, 32_561) && newton_fits(adult, 1, 20_000_000));
        assert!(!newton_fits(adult, 1, 1_000_000_000));
        assert!(newton_fits(width(64, 0, 0), 10, 1797));
        assert!(!newton_fits(width(784, 0, 0), 10, 60_000));
        assert!(!newton_fits(width(1400, 0, 0), 1, 1_000_000));
        assert!(normal_fits(width(500, 0, 0), 100_000));
        assert!(!newton_fits(width(500, 0, 0), 1, 100_000));
        assert!(quantiles_fit(adult, 3, 32_561) && !quantiles_fit(width(500, 0, 0), 3, 1000));
        assert!(!quantiles_fit(width(400, 0, 0), 3, 1_000_000));
        assert!(lbfgs_fits(width(784, 0, 0), 10, 60_000));
        assert!(lbfgs_fits(width(500, 0, 0), 1, 1_000_000));
        assert!(!lbfgs_fits(width(784, 0, 0), 10, 6_000_000));
        assert!(!lbfgs_fits(width(0, 1, 2_000_000), 1, 1000));
        assert_eq!(newton_memory(width(2, 1, 3), 2), (9 + 9 + 6) * 3 * 8);
        assert_eq!(gram_memory(width(2, 1, 3)), (16 + 12 + 6) * 8);
    }
}
