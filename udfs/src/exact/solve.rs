//! Symmetric systems whose columns have very different scales, or depend on each other.
//!
//! Every system is first brought to a unit diagonal (`R = S A S`, `S = diag(A)^-1/2`), so that
//! a feature in billions does not push one in thousandths below the cutoff.

use datafusion_common::{Result, exec_err};
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::cholesky::llt::factor::{
    LltRegularization, cholesky_in_place, cholesky_in_place_scratch,
};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Col, Mat, MatMut, MatRef, Par};

/// Eigenvalues of `R [n, n]` up to `n` times this count as 0.
///
/// Inputs are float32: two columns that are equal but for rounding differ by up to 2^-24 of their
/// spread, an eigenvalue of about 2^-48 with a unit diagonal. Four times that is 1.4e-14.
const DEPENDENT: f64 = 1.0 / (1_u64 << 46) as f64;

/// Without a ridge, a Cholesky pivot of `R` below this leads to an eigenvalue decomposition: an
/// unpivoted pivot bounds the smallest eigenvalue only from above.
const SUSPICIOUS: f64 = 1e-8;

/// A column whose variance is below this part of its second moment is constant but for rounding.
const CONSTANT: f64 = 1e-14;

/// The solution of a semidefinite system.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Solution {
    /// `[n]`
    pub(super) x: Vec<f64>,
    /// Columns that are independent.
    pub(super) rank: usize,
}

fn workspace(need: StackReq) -> Result<MemBuffer> {
    match MemBuffer::try_new(need) {
        Ok(memory) => Ok(memory),
        Err(_) => {
            exec_err!("a solver needs {} more bytes than there are", need.size_bytes())
        }
    }
}

/// Factors the lower triangle of the column-major `a [n, n]` in place as `L L^T`. Returns the
/// smallest pivot of `L^2`, or None where `a` is not positive definite.
fn cholesky(a: &mut [f64], n: usize) -> Result<Option<f64>> {
    if n == 0 {
        return Ok(Some(1.0));
    }
    let parameters = Default::default();
    let mut memory = workspace(cholesky_in_place_scratch::<f64>(n, Par::Seq, parameters))?;
    let stack = MemStack::new(&mut memory);
    let view = MatMut::from_column_major_slice_mut(a, n, n);
    if cholesky_in_place(view, LltRegularization::default(), Par::Seq, stack, parameters).is_err() {
        return Ok(None);
    }
    let smallest = (0..n).map(|i| a[i * n + i].powi(2)).fold(f64::INFINITY, f64::min);
    Ok((smallest.is_finite() && smallest > 0.0).then_some(smallest))
}

/// Solves `L L^T x = b` in place, `L` as [`cholesky`] leaves it, column by column: each column is
/// read once forward and once backward. (With one right-hand side, nothing else takes time.)
fn substitute(factor: &[f64], n: usize, b: &mut [f64]) {
    for (j, column) in factor.chunks_exact(n.max(1)).enumerate() {
        let (own, rest) = b[j..].split_at_mut(1);
        own[0] /= column[j];
        rest.iter_mut().zip(&column[j + 1..]).for_each(|(b, l)| *b -= own[0] * l);
    }
    for (j, column) in factor.chunks_exact(n.max(1)).enumerate().rev() {
        let (own, rest) = b[j..].split_at_mut(1);
        own[0] -= rest.iter().zip(&column[j + 1..]).map(|(b, l)| b * l).sum::<f64>();
        own[0] /= column[j];
    }
}

/// `diag(a)^-1/2`, and 1 where the diagonal is not positive.
fn scales(a: &[f64], n: usize) -> Vec<f64> {
    (0..n)
        .map(|i| a[i * n + i])
        .map(|x| if x > 0.0 && x.is_finite() { x.sqrt().recip() } else { 1.0 })
        .collect()
}

/// `S A S` in place, lower triangle.
fn equilibrate(a: &mut [f64], scales: &[f64]) {
    let n = scales.len();
    for (j, column) in a.chunks_exact_mut(n.max(1)).enumerate() {
        for i in j..n {
            column[i] *= scales[i] * scales[j];
        }
    }
}

/// Solves `(A + ridge I) x = b` for a positive semidefinite `A [n, n]` (column-major, lower
/// triangle) and each of some `b [n]`. Where columns depend on each other, the solution is the one
/// of least `|x|`, as scikit-learn's `LinearRegression` gives it; a `ridge` below the cutoff is
/// treated as its limit
/// 0.
///
/// `moments [n]` are the second moments that the diagonal of `A` was centred from: the solution is
/// 0 for columns that are constant but for rounding.
pub(super) fn solve_semidefinite(
    a: &[f64],
    right: &[Vec<f64>],
    moments: &[f64],
    ridge: f64,
) -> Result<Vec<Solution>> {
    let total = moments.len();
    let varies = |&i: &usize| a[i * total + i] > CONSTANT * moments[i];
    let active: Vec<usize> = (0..total).filter(varies).collect();
    let n = active.len();
    let mut matrix = vec![0.0; n * n];
    for (j, &from_j) in active.iter().enumerate() {
        for (i, &from_i) in active.iter().enumerate().skip(j) {
            matrix[j * n + i] = a[from_j * total + from_i];
        }
        matrix[j * n + j] += ridge;
    }
    let scales = scales(&matrix, n);
    equilibrate(&mut matrix, &scales);
    let mut factor = matrix.clone();
    let cutoff = n as f64 * DEPENDENT;
    let enough = if ridge > 0.0 { cutoff } else { cutoff.max(SUSPICIOUS) };
    let is_regular = cholesky(&mut factor, n)?.is_some_and(|pivot| pivot > enough);
    let solve = |b: &Vec<f64>| {
        let mut y: Vec<f64> = active.iter().zip(&scales).map(|(&i, scale)| b[i] * scale).collect();
        let rank = if is_regular {
            substitute(&factor, n, &mut y);
            y.iter_mut().zip(&scales).for_each(|(y, scale)| *y *= scale);
            n
        } else {
            least_norm(&matrix, &scales, cutoff, &mut y)?
        };
        let mut x = vec![0.0; total];
        active.iter().zip(&y).for_each(|(&i, &y)| x[i] = y);
        if x.iter().any(|x| !x.is_finite()) {
            return exec_err!("the normal equations have no finite solution: inputs are too large");
        }
        Ok(Solution { x, rank })
    };
    right.iter().map(solve).collect()
}

/// Eigenvalues `[n]`, ascending, and eigenvectors `[n, n]`, a column each, of the symmetric
/// `matrix [n, n]` (column-major, lower triangle).
///
/// # Errors
/// When the matrix is not finite or there is too little memory.
pub(crate) fn eigen(matrix: &[f64], n: usize) -> Result<(Col<f64>, Mat<f64>)> {
    let parameters = Default::default();
    let mut memory = workspace(self_adjoint_evd_scratch::<f64>(
        n,
        ComputeEigenvectors::Yes,
        Par::Seq,
        parameters,
    ))?;
    let mut values = Col::<f64>::zeros(n);
    let mut vectors = Mat::<f64>::zeros(n, n);
    let found = self_adjoint_evd(
        MatRef::from_column_major_slice(matrix, n, n),
        values.as_diagonal_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        parameters,
    );
    if found.is_err() {
        return exec_err!("the eigenvalues of a matrix of {n} columns did not converge");
    }
    Ok((values, vectors))
}

/// Solves `R u = y` by eigenvalues above `cutoff`, then removes the dependent directions from
/// `x = S u`. Returns the rank; `y` becomes `x`.
fn least_norm(matrix: &[f64], scales: &[f64], cutoff: f64, y: &mut [f64]) -> Result<usize> {
    let n = y.len();
    let (values, vectors) = eigen(matrix, n)?;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let subtract = |from: &mut [f64], direction: &[f64], times: f64| {
        from.iter_mut().zip(direction).for_each(|(from, direction)| *from -= times * direction);
    };
    let mut x = vec![0.0; n];
    let mut free: Vec<Vec<f64>> = Vec::new();
    for j in 0..n {
        let vector: Vec<f64> = (0..n).map(|i| vectors[(i, j)]).collect();
        if values[j] > cutoff {
            subtract(&mut x, &vector, -dot(&vector, y) / values[j]);
        } else {
            free.push(vector.iter().zip(scales).map(|(value, scale)| value * scale).collect());
        }
    }
    x.iter_mut().zip(scales).for_each(|(x, scale)| *x *= scale);
    // Gram-Schmidt, twice for orthogonality to rounding.
    for at in 0..free.len() {
        let (done, rest) = free.split_at_mut(at);
        let direction = &mut rest[0];
        for _ in 0..2 {
            let length = dot(direction, direction).sqrt();
            direction.iter_mut().for_each(|value| *value /= length);
            for done in &*done {
                let along = dot(direction, done);
                subtract(direction, done, along);
            }
        }
        let length = dot(direction, direction).sqrt();
        direction.iter_mut().for_each(|value| *value /= length);
        let along = dot(&x, direction);
        subtract(&mut x, direction, along);
    }
    y.copy_from_slice(&x);
    Ok(n - free.len())
}

/// Solves `H x = b` for the step of a damped Newton method, in place of `b`; overwrites `h [n, n]`,
/// column-major, lower triangle. Where `H` is singular to working precision, a multiple of its
/// diagonal is added, small at first: steps stay descent directions and the minimum is the same.
/// Returns that multiple.
pub(super) fn solve_damped(h: &mut [f64], b: &mut [f64]) -> Result<f64> {
    let n = b.len();
    let scales = scales(h, n);
    equilibrate(h, &scales);
    for i in 0..n {
        if h[i * n + i] <= 0.0 {
            // A parameter that occurs in no row: its gradient is 0, and so is its step.
            h[i * n + i] = 1.0;
        }
    }
    b.iter_mut().zip(&scales).for_each(|(b, scale)| *b *= scale);
    let cutoff = n as f64 * DEPENDENT;
    let mut damping = 0.0;
    loop {
        let mut factor = h.to_vec();
        for i in 0..n {
            factor[i * n + i] += damping;
        }
        if cholesky(&mut factor, n)?.is_some_and(|pivot| pivot > cutoff) {
            substitute(&factor, n, b);
            break;
        }
        damping = if damping == 0.0 { 64.0 * cutoff } else { damping * 64.0 };
        if damping > 1e6 {
            return exec_err!("the Hessian is not finite: inputs or parameters are too large");
        }
    }
    b.iter_mut().zip(&scales).for_each(|(b, scale)| *b *= scale);
    Ok(damping)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x3 = x1 + x2`, and `x4` constant but for rounding.
    ///
    /// ```text
    /// import numpy as np
    /// A = np.array([[2., .5, 2.5, 0], [.5, 1., 1.5, 0], [2.5, 1.5, 4., 0], [0, 0, 0, 0]])
    /// print(np.linalg.lstsq(A, np.array([1., 2., 3., 0.]), rcond=1e-12))
    /// # [-0.66666667  1.33333333  0.66666667  0.        ]  rank 2
    /// ```
    #[test]
    fn dependent_columns_give_the_least_norm() {
        let a = [2., 0.5, 2.5, 0., 0.5, 1., 1.5, 0., 2.5, 1.5, 4., 0., 0., 0., 0., 1e-17];
        let found = solve_semidefinite(&a, &[vec![1., 2., 3., 0.]], &[2., 1., 4., 1.], 0.0);
        let found = &found.expect("solvable")[0];
        assert_eq!(found.rank, 2);
        for (x, expected) in found.x.iter().zip([-2. / 3., 4. / 3., 2. / 3., 0.]) {
            assert!((x - expected).abs() < 1e-12, "{x} {expected}");
        }
    }

    #[test]
    fn scales_do_not_change_the_answer() {
        // Two independent columns, one 1e12 times the other.
        let a = [1e24, 0.5e12, 0.5e12, 1.0];
        let found =
            solve_semidefinite(&a, &[vec![1e12, 1.0]], &[1e24, 1.0], 0.0).expect("solvable");
        let found = &found[0];
        assert_eq!(found.rank, 2);
        assert!((found.x[0] * 1e12 - 2. / 3.).abs() < 1e-12);
        assert!((found.x[1] - 2. / 3.).abs() < 1e-12);
    }

    #[test]
    fn a_singular_hessian_still_gives_a_descent_direction() {
        let mut h = [1., 1., 1., 1.];
        let mut b = [1., 1.];
        let damping = solve_damped(&mut h, &mut b).expect("solvable");
        assert!(damping > 0.0 && damping < 1e-10, "{damping}");
        assert!((b[0] + b[1] - 1.0).abs() < 1e-9, "{b:?}");
        assert!(solve_damped(&mut [f64::NAN], &mut [1.0]).is_err());
    }
}
