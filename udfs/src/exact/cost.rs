//! What an exact solver costs, so that `solver = 'auto'` can decide.

use super::moments::Moments;
use crate::batch::Width;

/// Parameters up to which a Newton system is solved in a twentieth of a second: 35 to 65 ms at 1500
/// (one core of an AMD EPYC, `benches/benches/kernels.rs`), and its matrices take 18 MB each. Time
/// grows with the third power, memory with the second.
const PARAMETERS: usize = 1500;

/// Operations of one step up to which Newton's method, which needs about ten, is worth its time.
/// Matrix products of a pass ran at 7e10 operations a second or more on one core, so a pass takes
/// at most three seconds there. Beyond that SGD is as good as done before the first step.
const STEP: f64 = 2e11;

/// What the scatter of one category number costs in operations of a matrix product: Adult (7 dense
/// columns, 8 category columns) takes 0.14 us a row, of which there are 92 scattered numbers.
const SCATTER: f64 = 80.0;

/// Blocks of the Hessian.
fn blocks(outputs: usize) -> usize {
    outputs * (outputs + 1) / 2
}

/// Memory of a Gram sum in bytes, without buffers; solving takes about four times that of the
/// matrix `[d + t, d + t]` on top.
pub fn gram_memory(width: Width) -> usize {
    Moments::len(width.dense + 2, width.categories).saturating_mul(size_of::<f64>())
}

/// Memory of a Newton sum in bytes, without buffers; a step takes two matrices of all parameters
/// squared on top.
pub fn newton_memory(width: Width, outputs: usize) -> usize {
    Moments::len(width.dense + 1, width.categories)
        .saturating_mul(blocks(outputs))
        .saturating_mul(size_of::<f64>())
}

/// Floating-point operations of adding one row to moments of `columns` dense columns; scattered
/// numbers count for what they take.
fn row_flops(columns: usize, width: Width) -> f64 {
    let (a, c) = (columns as f64, width.columns as f64);
    a * a + SCATTER * (c * a + c * (c + 1.0) / 2.0)
}

/// Floating-point operations of a Gram sum over `rows`, and of its solve.
pub fn gram_flops(width: Width, rows: u64) -> f64 {
    let inputs = width.inputs() as f64;
    rows as f64 * row_flops(width.dense + 2, width) + inputs.powi(3) / 3.0
}

/// Floating-point operations of one Newton step: a pass over `rows`, and the solve.
pub fn newton_flops(width: Width, outputs: usize, rows: u64) -> f64 {
    let parameters = (width.inputs() + 1) as f64 * outputs as f64;
    rows as f64 * row_flops(width.dense + 1, width) * blocks(outputs) as f64
        + parameters.powi(3) / 3.0
}

/// Whether Newton steps are the right solver: 1500 parameters at most, and seconds a pass at most.
pub fn fits(width: Width, outputs: usize, rows: u64) -> bool {
    let parameters = (width.inputs() + 1).saturating_mul(outputs);
    parameters <= PARAMETERS && newton_flops(width, outputs, rows) <= STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_fit_and_wide_or_long_ones_do_not() {
        let width = |dense, columns, categories| Width { dense, columns, categories };
        let adult = width(6, 8, 99);
        assert!(fits(adult, 1, 32_561) && fits(adult, 1, 20_000_000));
        assert!(!fits(adult, 1, 1_000_000_000));
        assert!(fits(width(64, 0, 0), 10, 1797));
        assert!(!fits(width(784, 0, 0), 10, 60_000));
        assert!(!fits(width(1400, 0, 0), 1, 1_000_000));
        assert_eq!(newton_memory(width(2, 1, 3), 2), (9 + 9 + 6) * 3 * 8);
        assert_eq!(gram_memory(width(2, 1, 3)), (16 + 12 + 6) * 8);
    }
}
