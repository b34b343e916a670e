//! The pass over rows: forward, the loss, and backward to the derivatives of every layer.

use super::{Block, Hidden, Kind, LOSS_ROWS, Part, Share, rows_of};
use crate::batch::{Gather, MiniBatch, NO_CATEGORY};
use crate::kernels::activation;
use crate::kernels::math::add;
use crate::kernels::math::{dot, vectorized};
use crate::kernels::panels::{LANES, PANEL, Panels};
use crate::kernels::prefetch::Prefetch;
use crate::kernels::tiles::{self, ByRows, Out, Segment, Start};
use crate::learner::network::{Layer, Network};
use crate::learner::{Learner, StepKey};

/// The pass over rows.
pub(super) struct RowPass<'a> {
    pub(super) network: &'a Network,
    pub(super) parts: &'a [Part],
    pub(super) parameters: &'a [f32],
    pub(super) key: StepKey,
}

impl RowPass<'_> {
    /// Gathers the rows of a share. Their dense numbers go into panels if the share has these.
    pub(super) fn gather_rows(&self, share: &mut Share, rows: &Gather<'_>) {
        let width = self.network.width();
        if let Some(batch) = rows.slice(&share.rows, width) {
            return share.x.copy_from(batch.dense);
        }
        let own_width = share.own_width(width);
        rows.gather(&share.rows, own_width, &mut share.own);
        if own_width != width {
            rows.gather_dense(&share.rows, width, &mut share.x);
        }
    }

    /// From hidden layer `first` to the loss, and back.
    pub(super) fn run(&self, share: &mut Share, first: usize, rows: &Gather<'_>, scale: f32) {
        share.sums.clear();
        if share.rows.is_empty() {
            return;
        }
        let own = std::mem::take(&mut share.own);
        let width = self.network.width();
        let batch = rows_of(rows, &share.rows, &own, (width, share.own_width(width)));
        self.scores(share, first, &batch);
        self.differentiate(share, &batch, scale);
        for i in (1..self.network.layers.len()).rev() {
            self.backward(i, share, &batch);
        }
        share.own = own;
    }

    /// The raw outputs of some rows, and the values of all layers from hidden layer `first` on. The
    /// dense numbers are in panels if the share has these.
    pub(super) fn scores(&self, share: &mut Share, first: usize, batch: &MiniBatch<'_>) {
        for i in first..self.network.layers.len() - 1 {
            self.hidden(i, share, batch);
        }
        self.outputs(share, batch.rows);
    }

    fn blocks(&self, layer: usize) -> impl Iterator<Item = &Block> {
        self.parts.iter().filter(move |part| part.layer == layer).filter_map(|part| {
            match &part.kind {
                Kind::Rows(block) => Some(block.as_ref()),
                _ => None,
            }
        })
    }

    fn bias(&self, layer: &Layer, panel: usize) -> Start<'_> {
        match &self.parameters[layer.bias.clone()] {
            [] => Start::Zero,
            bias => Start::Row(&bias[panel * PANEL..]),
        }
    }

    /// A hidden layer forward.
    fn hidden(&self, i: usize, share: &mut Share, batch: &MiniBatch<'_>) {
        let (before, rest) = share.hidden.split_at_mut(i);
        let input = before.last().map_or(&share.x, |hidden| &hidden.a);
        let Hidden { z, a, .. } = &mut rest[0];
        for j in 0..a.panels() {
            let z = z.as_mut().map(|z| z.panel_mut(j));
            self.hidden_panel((i, j), input, batch, z, a.panel_mut(j));
        }
    }

    /// Panel `j` of hidden layer `i` forward.
    pub(super) fn hidden_panel(
        &self,
        (i, j): (usize, usize),
        input: &Panels,
        batch: &MiniBatch<'_>,
        z: Option<&mut [f32]>,
        a: &mut [f32],
    ) {
        let (units, f) = (self.network.layers[i].units, self.network.activation);
        let width = (units - j * PANEL).min(PANEL);
        let stride = width.next_multiple_of(LANES);
        let n = batch.rows * stride;
        let out = &mut a[..n];
        if let Some(z) = z {
            let z = &mut z[..n];
            self.before_activation((i, j), input, batch, z, (width, stride));
            activation::apply(f, z, out);
        } else {
            self.before_activation((i, j), input, batch, out, (width, stride));
            activation::apply_in_place(f, out);
        }
        if self.network.dropout > 0.0 {
            self.drop(i, batch.first_row, units, j, out, stride);
        }
    }

    /// The argument of the activation of hidden layer `i`, panel `j`.
    fn before_activation(
        &self,
        (i, j): (usize, usize),
        input: &Panels,
        batch: &MiniBatch<'_>,
        out: &mut [f32],
        (width, stride): (usize, usize),
    ) {
        let target = Out { values: &mut *out, stride, rows: batch.rows, width };
        self.forward(i, j, input, batch, target);
        if i == 0 {
            self.gather(batch, j, out, stride);
        }
    }

    /// `input W + b`, the columns of panel `j`.
    fn forward(&self, i: usize, j: usize, input: &Panels, batch: &MiniBatch<'_>, out: Out<'_>) {
        let d = self.network.width().dense;
        let blocks = self.blocks(i).filter(|block| block.panels.contains(&j));
        let segments = blocks.map(|block| {
            let (left, from) = match input.columns() {
                0 => (ByRows { values: batch.dense, stride: d }, block.from),
                _ => {
                    let panel = block.from / PANEL;
                    (ByRows { values: input.panel(panel), stride: input.stride(panel) }, 0)
                }
            };
            let to = from + block.to - block.from;
            let (right, stride) = block.panel(j);
            Segment { left, from, to, right, stride }
        });
        tiles::sum(segments, self.bias(&self.network.layers[i], j), out);
    }

    /// Adds the weights of the categories of each row.
    fn gather(&self, batch: &MiniBatch<'_>, j: usize, out: &mut [f32], stride: usize) {
        let (columns, table) = (self.network.width().columns, self.network.table());
        if columns == 0 {
            return;
        }
        let rows = batch.codes.chunks_exact(columns).zip(out.chunks_exact_mut(stride));
        for (codes, out) in rows {
            for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                let row = &self.parameters[table.row(*code)][j * PANEL..];
                add(&mut out[..row.len().min(PANEL)], row);
            }
        }
    }

    /// The raw outputs.
    fn outputs(&self, share: &mut Share, rows: usize) {
        let last = self.network.layers.len() - 1;
        let layer = &self.network.layers[last];
        let (outputs, z) = (layer.units, &mut share.z);
        let Some(input) = share.hidden.last() else { return };
        if outputs == 1 {
            let bias = self.parameters[layer.bias.clone()].first().copied().unwrap_or(0.0);
            let weights = &self.parameters[layer.weight.clone()];
            return dots(&input.a, weights, bias, &mut z[..rows]);
        }
        for j in 0..outputs.div_ceil(PANEL) {
            let (values, width) = (&mut z[j * PANEL..], (outputs - j * PANEL).min(PANEL));
            let out = Out { values, stride: outputs, rows, width };
            self.forward(last, j, &input.a, &NO_ROWS, out);
        }
    }

    /// Losses; their derivatives replace the raw outputs.
    fn differentiate(&self, share: &mut Share, batch: &MiniBatch<'_>, scale: f32) {
        let outputs = self.network.outputs();
        let z = &mut share.z[..batch.rows * outputs];
        let numbers = batch.label.len() / batch.rows.max(1);
        let labels = batch.label.chunks(LOSS_ROWS * numbers.max(1));
        let rows = labels.zip(batch.weight.chunks(LOSS_ROWS));
        for (z, (label, weight)) in z.chunks_mut(LOSS_ROWS * outputs).zip(rows) {
            let sum = self.network.differentiate(z, label, weight, scale);
            share.sums.push(sum);
        }
        if outputs > 1 {
            share.dz.copy_from(z);
        }
    }

    /// From the derivatives by the outputs of layer `i` to those of the layer before.
    fn backward(&self, i: usize, share: &mut Share, batch: &MiniBatch<'_>) {
        let layer = &self.network.layers[i];
        let rows = batch.rows;
        let (before, after) = share.hidden.split_at_mut(i);
        let Some(Hidden { z, a, undropped, dz: below }) = before.last_mut() else { return };
        let above = after.first().map_or(&share.dz, |hidden| &hidden.dz);
        let f = self.network.activation;
        for block in self.blocks(i) {
            let j = block.from / PANEL;
            let (width, stride) = (below.width(j), below.stride(j));
            let n = rows * stride;
            let d = &mut below.panel_mut(j)[..n];
            if layer.units == 1 && after.is_empty() {
                let weights = &self.parameters[layer.weight.clone()][block.from..block.to];
                outer(&share.z[..rows], weights, d, stride);
            } else if let Some(transposed) = &block.transposed {
                let right_stride = transposed.stride(0);
                let panels = (0..above.panels()).map(|k| Segment {
                    left: ByRows { values: above.panel(k), stride: above.stride(k) },
                    from: 0,
                    to: above.width(k),
                    right: &transposed.panel(0)[k * PANEL * right_stride..],
                    stride: right_stride,
                });
                tiles::sum(panels, Start::Zero, Out { values: d, stride, rows, width });
            }
            if self.network.dropout > 0.0 {
                // The mask that forward multiplied by, drawn again.
                self.drop(i - 1, batch.first_row, layer.inputs, j, d, stride);
            }
            let a = match (&*z, &mut *undropped) {
                (Some(z), Some(undropped)) => {
                    activation::apply(f, &z.panel(j)[..n], &mut undropped.panel_mut(j)[..n]);
                    undropped.panel(j)
                }
                _ => a.panel(j),
            };
            let z = z.as_ref().map_or(a, |z| z.panel(j));
            activation::backward(f, &z[..n], &a[..n], d, &mut [], n);
        }
    }

    /// Dropout of a panel.
    fn drop(
        &self,
        layer: usize,
        first_row: usize,
        units: usize,
        panel: usize,
        values: &mut [f32],
        stride: usize,
    ) {
        let width = (units - panel * PANEL).min(PANEL);
        for (r, row) in values.chunks_exact_mut(stride).enumerate() {
            let first = (first_row + r) * units + panel * PANEL;
            self.network.drop(self.key, layer, first, &mut row[..width]);
        }
    }
}

/// For calls that need no rows.
const NO_ROWS: MiniBatch<'static> = MiniBatch {
    rows: 0,
    first_row: 0,
    dense: &[],
    bytes: &[],
    codes: &[],
    label: &[],
    weight: &[],
    prefetch: Prefetch::NONE,
};

/// `z[r] = bias + a[r, ..] w`.
fn dots(a: &Panels, w: &[f32], bias: f32, z: &mut [f32]) {
    z.fill(bias);
    for (j, w) in w.chunks(PANEL).enumerate() {
        let (a, stride) = (a.panel(j), a.stride(j));
        vectorized(
            #[inline(always)]
            || {
                for (r, z) in z.iter_mut().enumerate() {
                    *z += dot(&a[r * stride..][..w.len()], w);
                }
            },
        );
    }
}

/// `out[r, i] = z[r] w[i]`.
fn outer(z: &[f32], w: &[f32], out: &mut [f32], stride: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (out, z) in out.chunks_exact_mut(stride).zip(z) {
                for (out, w) in out.iter_mut().zip(w) {
                    *out = z * w;
                }
            }
        },
    );
}
