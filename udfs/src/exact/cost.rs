//! What an exact solver costs, so that `solver = 'auto'` can decide.

use super::moments::Moments;
use crate::batch::Width;

/// Parameters up to which one Newton system is solved in well under a second on one core.
const PARAMETERS: usize = 1500;

/// Operations of one pass over the rows up to which a Newton step is worth its time.
const PASS: f64 = 5e10;

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

/// Floating-point operations of adding one row to moments of `columns` dense columns.
fn row_flops(columns: usize, width: Width) -> f64 {
    let (a, c) = (columns as f64, width.columns as f64);
    a * a + c * a + c * (c + 1.0) / 2.0
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

/// Whether Newton steps are the right solver.
pub fn fits(width: Width, outputs: usize, rows: u64) -> bool {
    let parameters = (width.inputs() + 1).saturating_mul(outputs);
    parameters <= PARAMETERS && newton_flops(width, outputs, rows) <= PASS
}
