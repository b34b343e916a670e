//! Solvers in float64 whose passes over the data are mergeable sums.
//!
//! ```text
//!   rows ──► GramSum ──merge──► solve            linear regression: one pass
//!   rows ──► NewtonSum ──merge──► Newton::advance ──► next trial ──► rows ...
//!                                                logistic regression: some ten passes
//!   rows ──► GradientSum ──merge──► Lbfgs::advance ──► next trial ──► rows ...
//!                                                any linear model: some hundred passes
//!   rows ──► QuantileSum ──merge──► Irls::advance ──► next trial ──► rows ...
//!                                                quantiles: some fifty passes
//!   rows ──► CovarianceSum ──merge──► eigenvectors   principal components: one pass
//!   rows ──► SpreadSum ──merge──► SubspaceSum ... ──► eigenvectors
//!                                                the first of them: some eight passes
//! ```
//!
//! Dimension letters: `d` dense numbers of a row, `c` category columns, `t` categories of all
//! columns, `n = d + t` inputs, `K` outputs. One-hot columns are never materialised: their products
//! are scatters of rows and counts.
//!
//! Objectives are weighted means over the rows plus `(l2 / 2) |w|^2`, for L-BFGS also `l1 |w|_1`;
//! intercepts are not penalised.
//! The `C` of scikit-learn's `LogisticRegression` is `l2 = 1 / (C sum of weights)`, the `alpha` of
//! its `Ridge` is `l2 = 2 alpha / (sum of weights)`.
//!
//! # Correctness
//! Sums depend on the order of the rows only through rounding. The same rows in the same batches,
//! merged in the same order, give the same bits.

pub(crate) mod bytes;
mod cost;
mod covariance;
mod gradient;
mod gram;
mod irls;
mod lbfgs;
mod logistic;
mod losses;
mod moments;
mod newton;
mod orthonormal;
mod pass;
mod projection;
mod quantile;
mod report;
mod residual;
mod shifted;
mod solve;
mod spread;
mod subspace;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod oracle;

pub use cost::{
    covariance_memory, gram_memory, lbfgs_fits, newton_fits, newton_memory, normal_fits,
    quantiles_fit,
};
pub use covariance::{Covariance, CovarianceSum};
pub use gradient::{GradientScratch, GradientSum, LinearShape};
pub use gram::GramSum;
pub use irls::{Irls, IrlsOptions};
pub use lbfgs::{Lbfgs, LbfgsOptions};
pub use logistic::{NewtonSum, Scratch as NewtonScratch};
pub use newton::{Newton, NewtonOptions};
pub use orthonormal::orthonormalize;
pub use pass::PassSum;
pub use projection::{ProjectionShape, projection};
pub use quantile::{QuantileScratch, QuantileSum};
pub use report::{Advance, Outcome, Report};
pub use residual::ResidualSum;
pub(crate) use solve::eigen;
pub use spread::{Spread, SpreadSum};
pub use subspace::SubspaceSum;

use std::fmt::Debug;

use datafusion_common::{Result, exec_err, internal_err};

use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::kernels::math::vectorized;

/// Checks the shape of a batch, so that no index in the solvers can be out of range.
fn check_batch(width: Width, batch: &MiniBatch) -> Result<()> {
    check_length("label", batch.label.len(), batch.rows, width.targets)?;
    check_inputs(width, batch)
}

fn check_length(name: &str, found: usize, rows: usize, columns: usize) -> Result<()> {
    if Some(found) == rows.checked_mul(columns) {
        return Ok(());
    }
    internal_err!(
        "the {name} buffer of an encoded batch holds {found} values, expected {rows} rows of \
         {columns}"
    )
}

/// Checks the shape of a batch whose target is not read.
fn check_inputs(width: Width, batch: &MiniBatch) -> Result<()> {
    for (name, found, columns) in [
        ("dense", batch.dense.len(), width.dense),
        ("codes", batch.codes.len(), width.columns),
        ("weight", batch.weight.len(), 1),
    ] {
        check_length(name, found, batch.rows, columns)?;
    }
    let unknown =
        batch.codes.iter().find(|&&code| code != NO_CATEGORY && code as usize >= width.categories);
    if let Some(code) = unknown {
        return internal_err!(
            "category index {code} of an encoded batch is out of range, the encoder knows {}",
            width.categories
        );
    }
    Ok(())
}

/// Refuses to merge sums of a [kind](PassSum::KIND) whose shapes differ.
fn check_same<T: PartialEq + Debug>(kind: &str, ours: T, theirs: T) -> Result<()> {
    match ours == theirs {
        true => Ok(()),
        false => internal_err!("{kind} sums of {ours:?} and {theirs:?} cannot be merged"),
    }
}

/// Checks weights.
fn check_weights(weights: &[f32]) -> Result<()> {
    let any_bad = vectorized(
        #[inline(always)]
        || weights.iter().fold(false, |bad, w| bad | !(w.is_finite() && *w >= 0.0)),
    );
    match any_bad {
        true => exec_err!("row weights should be finite and at least 0"),
        false => Ok(()),
    }
}

/// Checks weights, and the labels of rows with a weight if they are indices of `classes` classes.
fn check_rows(batch: &MiniBatch, classes: Option<usize>) -> Result<()> {
    let classes = classes.map(|classes| classes as f32);
    let is_unknown = |label: f32| {
        classes.is_some_and(|n| !((label.trunc() == label) & (label >= 0.0) & (label < n)))
    };
    let is_bad = |weight: f32| !(weight.is_finite() && weight >= 0.0);
    let (any_unknown, any_bad) = vectorized(
        #[inline(always)]
        || {
            let rows = batch.label.iter().zip(batch.weight);
            rows.fold((false, false), |(unknown, bad), (label, w)| {
                (unknown | ((*w != 0.0) & is_unknown(*label)), bad | is_bad(*w))
            })
        },
    );
    if any_bad {
        return exec_err!("row weights should be finite and at least 0");
    }
    let mut rows = batch.label.iter().zip(batch.weight);
    match rows.find(|(label, weight)| any_unknown && **weight != 0.0 && is_unknown(**label)) {
        Some((label, _)) => exec_err!(
            "the class index {label} is out of range, the model knows {} classes",
            classes.unwrap_or_default()
        ),
        None => Ok(()),
    }
}
