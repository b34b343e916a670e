//! The cells of recurrent layers, one row of one step, in PyTorch's order of the gates.
//!
//! ```text
//! lstm   i, f, o = sigmoid(..)   g = tanh(..)   c = f c' + i g   h = o tanh(c)
//! gru    r, z = sigmoid(..)      n = tanh(W x + b + r (U h' + u))   h = (1 - z) n + z h'
//! ```

use crate::kernels::math::{sigmoid, tanh, vectorized};

/// A kind of cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Lstm,
    Gru,
}

impl Cell {
    /// Gates of a unit.
    pub(super) fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    /// `gates` holds `W x + b` and becomes the gates; `products` is `U h' + u`. `before` is the
    /// state before (and the cell's own value), None for zeros; `to` the state and own value: `c`
    /// of an LSTM, `U h' + u` of the new value `n` of a GRU.
    pub(super) fn forward(
        self,
        gates: &mut [f32],
        products: &[f32],
        before: (Option<&[f32]>, Option<&[f32]>),
        to: (&mut [f32], &mut [f32]),
    ) {
        let (state, own) = to;
        let h = state.len();
        let zero = |values: Option<&[f32]>, i: usize| values.map_or(0.0, |values| values[i]);
        match self {
            Cell::Lstm => vectorized(
                #[inline(always)]
                || {
                    let (before, products) = (before.1, &products[..4 * h]);
                    let (i, rest) = gates.split_at_mut(h);
                    let (f, rest) = rest.split_at_mut(h);
                    let (g, o) = rest.split_at_mut(h);
                    for k in 0..h {
                        i[k] = sigmoid(i[k] + products[k]);
                        f[k] = sigmoid(f[k] + products[h + k]);
                        g[k] = tanh(g[k] + products[2 * h + k]);
                        o[k] = sigmoid(o[k] + products[3 * h + k]);
                    }
                    for k in 0..h {
                        own[k] = i[k] * g[k] + f[k] * zero(before, k);
                        state[k] = o[k] * tanh(own[k]);
                    }
                },
            ),
            Cell::Gru => vectorized(
                #[inline(always)]
                || {
                    let (before, products) = (before.0, &products[..3 * h]);
                    let (r, rest) = gates.split_at_mut(h);
                    let (z, n) = rest.split_at_mut(h);
                    for k in 0..h {
                        r[k] = sigmoid(r[k] + products[k]);
                        z[k] = sigmoid(z[k] + products[h + k]);
                        own[k] = products[2 * h + k];
                        n[k] = tanh(n[k] + r[k] * own[k]);
                    }
                    for k in 0..h {
                        state[k] = (1.0 - z[k]) * n[k] + z[k] * zero(before, k);
                    }
                },
            ),
        }
    }

    /// Given the gradients `d` by the state and `dc` by the own value, writes those by `W x + b`
    /// and by `U h' + u`, and leaves in `d` and `dc` what reaches the step before without `U`.
    pub(super) fn backward(
        self,
        (gates, own): (&[f32], &[f32]),
        before: Option<(&[f32], &[f32])>,
        (d, dc): (&mut [f32], &mut [f32]),
        (of_input, of_state): (&mut [f32], &mut [f32]),
    ) {
        let h = d.len();
        match self {
            Cell::Lstm => vectorized(
                #[inline(always)]
                || {
                    let (i, rest) = gates.split_at(h);
                    let (f, rest) = rest.split_at(h);
                    let (g, o) = rest.split_at(h);
                    for k in 0..h {
                        let top = tanh(own[k]);
                        let of_c = dc[k] + d[k] * o[k] * (1.0 - top * top);
                        let c = before.map_or(0.0, |(_, c)| c[k]);
                        of_input[k] = of_c * g[k] * i[k] * (1.0 - i[k]);
                        of_input[h + k] = of_c * c * f[k] * (1.0 - f[k]);
                        of_input[2 * h + k] = of_c * i[k] * (1.0 - g[k] * g[k]);
                        of_input[3 * h + k] = d[k] * top * o[k] * (1.0 - o[k]);
                        dc[k] = of_c * f[k];
                        d[k] = 0.0;
                    }
                    of_state.copy_from_slice(of_input);
                },
            ),
            Cell::Gru => vectorized(
                #[inline(always)]
                || {
                    let (r, rest) = gates.split_at(h);
                    let (z, n) = rest.split_at(h);
                    for k in 0..h {
                        let state = before.map_or(0.0, |(state, _)| state[k]);
                        let of_n = d[k] * (1.0 - z[k]) * (1.0 - n[k] * n[k]);
                        let of_r = of_n * own[k] * r[k] * (1.0 - r[k]);
                        let of_z = d[k] * (state - n[k]) * z[k] * (1.0 - z[k]);
                        (of_input[k], of_state[k]) = (of_r, of_r);
                        (of_input[h + k], of_state[h + k]) = (of_z, of_z);
                        of_input[2 * h + k] = of_n;
                        of_state[2 * h + k] = of_n * r[k];
                        d[k] *= z[k];
                    }
                },
            ),
        }
    }
}
