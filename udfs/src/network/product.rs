//! Products of row-major matrices, part of a larger matrix or not, replacing or adding.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::kernels::math::{axpy, dot, vectorized};

/// A row-major matrix in a slice: element `(i, j)` stands at `i * stride + j`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// All of a slice.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values: &values[..rows * columns], rows, columns, stride: columns }
    }

    /// Rows that begin `stride` numbers apart.
    pub(crate) fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        let len = if rows == 0 { 0 } else { (rows - 1) * stride + columns };
        Self { values: &values[..len], rows, columns, stride }
    }

    fn faer(&self) -> MatRef<'a, f32> {
        if self.stride == self.columns {
            return MatRef::from_row_major_slice(self.values, self.rows, self.columns);
        }
        MatRef::from_row_major_slice_with_stride(self.values, self.rows, self.columns, self.stride)
    }

    fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.stride..][..self.columns]
    }
}

/// The same to be overwritten.
#[derive(Debug)]
pub(crate) struct MatrixMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// All of a slice.
    pub(crate) fn new(values: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self { values: &mut values[..rows * columns], rows, columns, stride: columns }
    }

    /// Rows that begin `stride` numbers apart.
    pub(crate) fn strided(
        values: &'a mut [f32],
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Self {
        let len = if rows == 0 { 0 } else { (rows - 1) * stride + columns };
        Self { values: &mut values[..len], rows, columns, stride }
    }

    fn faer(&mut self) -> MatMut<'_, f32> {
        let Self { values, rows, columns, stride } = self;
        if stride == columns {
            return MatMut::from_row_major_slice_mut(values, *rows, *columns);
        }
        // (faer 0.24's `from_row_major_slice_with_stride_mut` gives a matrix by columns.)
        MatMut::from_column_major_slice_with_stride_mut(values, *columns, *rows, *stride)
            .transpose_mut()
    }

    fn clear(&mut self) {
        for i in 0..self.rows {
            self.values[i * self.stride..][..self.columns].fill(0.0);
        }
    }

    /// Whether a product with sums of `terms` terms has something to sum; otherwise it is done:
    /// sums of nothing are 0.
    fn is_summed(&mut self, write: Write, terms: usize) -> bool {
        if terms == 0 && write == Write::Replace {
            self.clear();
        }
        terms > 0 && self.rows > 0 && self.columns > 0
    }
}

/// Whether a product replaces or adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Replace,
    Add,
}

impl Write {
    fn accum(self) -> Accum {
        match self {
            Write::Replace => Accum::Replace,
            Write::Add => Accum::Add,
        }
    }
}

/// `out[r, u] (+)= a[r, d] b[d, u]`.
pub(crate) fn product(write: Write, mut out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>) {
    if !out.is_summed(write, a.columns) {
        return;
    }
    // (faer's matrix-vector products need contiguous columns.)
    if out.columns == 1 && b.stride == 1 {
        return vectorized(
            #[inline(always)]
            || {
                for i in 0..out.rows {
                    let sum = dot(a.row(i), b.values);
                    let to = &mut out.values[i * out.stride];
                    *to = if write == Write::Add { *to + sum } else { sum };
                }
            },
        );
    }
    let (a, b) = (a.faer(), b.faer());
    matmul(out.faer(), write.accum(), a, b, 1.0f32, Par::Seq);
}

/// `out[d, u] (+)= a[r, d]^T b[r, u]`.
pub(crate) fn product_of_transposed(
    write: Write,
    mut out: MatrixMut<'_>,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    if !out.is_summed(write, a.rows) {
        return;
    }
    if out.columns == 1 && out.stride == 1 {
        if write == Write::Replace {
            out.clear();
        }
        return vectorized(
            #[inline(always)]
            || {
                for i in 0..a.rows {
                    axpy(b.row(i)[0], a.row(i), out.values);
                }
            },
        );
    }
    let (a, b) = (a.faer().transpose(), b.faer());
    matmul(out.faer(), write.accum(), a, b, 1.0f32, Par::Seq);
}

/// `out[r, d] (+)= a[r, u] b[d, u]^T`.
pub(crate) fn product_by_transposed(
    write: Write,
    mut out: MatrixMut<'_>,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    if !out.is_summed(write, a.columns) {
        return;
    }
    if a.columns == 1 && b.stride == 1 {
        if write == Write::Replace {
            out.clear();
        }
        return vectorized(
            #[inline(always)]
            || {
                for i in 0..out.rows {
                    let to = &mut out.values[i * out.stride..][..out.columns];
                    axpy(a.row(i)[0], b.values, to);
                }
            },
        );
    }
    let (a, b) = (a.faer(), b.faer().transpose());
    matmul(out.faer(), write.accum(), a, b, 1.0f32, Par::Seq);
}

/// `x[r, u] += bias[u]`; nothing without a bias.
pub(crate) fn add_bias(x: &mut [f32], bias: &[f32]) {
    crate::kernels::activation::add_bias(x, bias, bias.len());
}

/// `sum[u] += sum_r d[r, u]`: the gradient of a bias.
pub(crate) fn add_column_sums(sum: &mut [f32], d: &[f32]) {
    let u = sum.len();
    if u == 0 {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            for row in d.chunks_exact(u) {
                axpy(1.0, row, sum);
            }
        },
    );
}
