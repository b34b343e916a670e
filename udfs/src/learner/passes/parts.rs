//! The parts of the parameters: their gradients, from the rows of a mini-batch.

use std::ops::Range;

use super::Share;
use crate::batch::Gather;
use crate::kernels::math::add;
use crate::kernels::panels::{LANES, PANEL, Panels};
use crate::kernels::tiles::{self, ByColumns, ByRows, Out, Segment, Start};
use crate::learner::network::Network;
use crate::learner::{Learner, Role};

/// Parameters of a part of the table of categories.
const TABLE_PART: usize = 1 << 16;

/// Parameters that are updated at once.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) layer: usize,
    /// Their range in the flat parameters; for a packed block, the range of its rows with all
    /// columns.
    pub(super) range: Range<usize>,
    pub(super) role: Role,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Rows of a weight, as many as the panel of its inputs has columns.
    Rows(Box<Block>),
    /// Categories of the table.
    Categories(Range<usize>),
    Bias,
}

/// Rows `from..to` of a weight `[inputs, units]` in the layout that products read, or some of their
/// columns.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The panels of the columns.
    pub(super) panels: Range<usize>,
    /// `[to - from, columns]`; empty where products read the flat parameters in place.
    pub(super) weights: Panels,
    /// The optimizer's moments of each weight, while the block is updated here.
    pub(super) moments: [Panels; 2],
    /// `[units, to - from]`, where the backward part of the pass over rows needs it.
    pub(super) transposed: Option<Panels>,
}

impl Block {
    /// Allocates the transpose, except for the first layer, whose inputs have no derivatives, and
    /// for weights that are not in panels.
    pub(super) fn make_transposed(&mut self, layer: usize) {
        let units = self.weights.columns();
        if layer > 0 && self.is_packed() {
            self.transposed = Some(Panels::new(units, self.to - self.from));
        }
    }

    /// Whether weights and moments are stored in this block.
    pub(super) fn is_packed(&self) -> bool {
        self.weights.columns() > 0
    }

    /// Packs weights and moments, each `[to - from, units]`, row-major, into panels.
    pub(super) fn take_from(&mut self, weights: &[f32], moments: &[&[f32]], units: usize) {
        let first = self.panels.start * PANEL;
        self.weights.copy_rows(&weights[first..], units);
        for (own, moments) in self.moments.iter_mut().zip(moments) {
            *own = Panels::new(self.to - self.from, self.weights.columns());
            own.copy_rows(&moments[first..], units);
        }
        self.has_stepped();
    }

    /// Unpacks them.
    pub(super) fn unpack<'a>(
        &self,
        weights: &mut [f32],
        moments: impl Iterator<Item = &'a mut [f32]>,
        units: usize,
    ) {
        let first = self.panels.start * PANEL;
        self.weights.copy_to(&mut weights[first..], units);
        for (own, moments) in self.moments.iter().zip(moments) {
            own.copy_to(&mut moments[first..], units);
        }
    }

    /// The weights of a panel of the columns, and their stride.
    pub(super) fn panel(&self, panel: usize) -> (&[f32], usize) {
        let own = panel - self.panels.start;
        (self.weights.panel(own), self.weights.stride(own))
    }

    /// Brings the transpose up to date after the weights have changed.
    pub(super) fn has_stepped(&mut self) {
        if let Some(transposed) = &mut self.transposed {
            transposed.transpose_from(&self.weights);
        }
    }
}

/// The number of groups of columns into which the weights of the first layer are cut, for a number
/// of threads. Where rows are wide, each thread has some of the units, whose weights stay in its
/// cache.
pub(super) fn columns_cut(network: &Network, threads: usize) -> usize {
    let (dense, units) = (network.width().dense, network.layers[0].units);
    let panels = units.div_ceil(PANEL);
    let is_even = panels.is_multiple_of(threads) && units.is_multiple_of(PANEL);
    if dense > PANEL && is_even { threads } else { 1 }
}

/// The parts of the parameters, in the order of the flat ones. The weights of the first layer are
/// cut into `columns_cut` groups of columns.
pub(super) fn parts(network: &Network, columns_cut: usize) -> Vec<Part> {
    let mut parts = vec![];
    let last = network.layers.len() - 1;
    for (i, layer) in network.layers.iter().enumerate() {
        let u = layer.units;
        let start = layer.weight.start;
        let dense = if i == 0 { network.width().dense } else { layer.inputs };
        // (A weight of few inputs and many units is cut finer, so that all threads get some of it.)
        let is_cut = i == 0 && dense <= PANEL && dense * u > PANEL * PANEL;
        let rows = if is_cut { PANEL / 4 } else { PANEL };
        for from in (0..dense).step_by(rows) {
            let to = dense.min(from + rows);
            let groups = if i == 0 { columns_cut } else { 1 };
            let cut = |group: usize| u.div_ceil(PANEL) * group / groups;
            for group in 0..groups {
                let panels = cut(group)..cut(group + 1);
                let columns = (panels.end * PANEL).min(u) - panels.start * PANEL;
                let is_packed = i < last || u > 1;
                let weights =
                    if is_packed { Panels::new(to - from, columns) } else { Panels::default() };
                let moments = Default::default();
                let block = Block { from, to, panels, weights, moments, transposed: None };
                let range = start + from * u..start + to * u;
                parts.push(Part {
                    layer: i,
                    range,
                    role: Role::Weight,
                    kind: Kind::Rows(Box::new(block)),
                });
            }
        }
        if i == 0 {
            let categories = network.width().categories;
            let rows = TABLE_PART.div_ceil(u.max(1));
            for from in (0..categories).step_by(rows) {
                let to = categories.min(from + rows);
                let range = start + (dense + from) * u..start + (dense + to) * u;
                let kind = Kind::Categories(from..to);
                parts.push(Part { layer: i, range, role: Role::Weight, kind });
            }
        }
        if !layer.bias.is_empty() {
            let role = if i == last { Role::Intercept } else { Role::Bias };
            parts.push(Part { layer: i, range: layer.bias.clone(), role, kind: Kind::Bias });
        }
    }
    parts
}

impl Part {
    /// Numbers of its gradient, which is in panels if the weights are.
    pub(super) fn gradient_len(&self) -> usize {
        match &self.kind {
            Kind::Rows(block) if block.is_packed() => {
                (block.to - block.from) * block.weights.columns().next_multiple_of(LANES)
            }
            _ => self.range.len(),
        }
    }

    /// The gradient of these parameters.
    pub(super) fn gradient(
        &self,
        network: &Network,
        shares: &[Share],
        rows: &Gather<'_>,
        out: &mut [f32],
    ) {
        let units = network.layers[self.layer].units;
        let is_single = units == 1 && self.layer == network.layers.len() - 1;
        match &self.kind {
            Kind::Rows(block) if is_single => self.single(block, shares, out),
            Kind::Rows(block) => self.rows(block, network, shares, rows, out),
            Kind::Categories(range) => self.categories(range, network, shares, rows, out),
            Kind::Bias if is_single => {
                let rows = shares.iter().flat_map(|share| &share.z[..share.rows.len()]);
                out[0] = rows.sum();
            }
            Kind::Bias => self.bias(units, shares, out),
        }
    }

    fn rows(
        &self,
        block: &Block,
        network: &Network,
        shares: &[Share],
        rows: &Gather<'_>,
        out: &mut [f32],
    ) {
        let width = network.width();
        for j in block.panels.clone() {
            let segments = shares.iter().map(|share| {
                let dz = share.dz(self.layer);
                let input = match self.layer.checked_sub(1) {
                    None => &share.x,
                    Some(before) => &share.hidden[before].a,
                };
                let left = match input.columns() {
                    0 => {
                        let values = share.batch(rows, width).dense;
                        ByColumns { values, stride: width.dense, first: block.from }
                    }
                    _ => {
                        let panel = block.from / PANEL;
                        let (values, stride) = (input.panel(panel), input.stride(panel));
                        ByColumns { values, stride, first: 0 }
                    }
                };
                let (right, stride) = (dz.panel(j), dz.stride(j));
                Segment { left, from: 0, to: share.rows.len(), right, stride }
            });
            let own = j - block.panels.start;
            let (width, stride) = (block.weights.width(own), block.weights.stride(own));
            let values = &mut out[block.weights.offset(own)..];
            if width < stride {
                // The padding of the rows is updated with them.
                values.fill(0.0);
            }
            let out = Out { values, stride, rows: block.to - block.from, width };
            tiles::sum(segments, Start::Zero, out);
        }
    }

    /// With one output: the transpose, `dz^T a`.
    fn single(&self, block: &Block, shares: &[Share], out: &mut [f32]) {
        let segments = shares.iter().map(|share| {
            let (a, panel) = (&share.hidden[self.layer - 1].a, block.from / PANEL);
            Segment {
                left: ByRows { values: &share.z, stride: 0 },
                from: 0,
                to: share.rows.len(),
                right: a.panel(panel),
                stride: a.stride(panel),
            }
        });
        let width = out.len();
        tiles::sum(segments, Start::Zero, Out { values: out, stride: width, rows: 1, width });
    }

    fn categories(
        &self,
        range: &Range<usize>,
        network: &Network,
        shares: &[Share],
        rows: &Gather<'_>,
        out: &mut [f32],
    ) {
        out.fill(0.0);
        let (width, u) = (network.width(), network.layers[0].units);
        for share in shares {
            let dz = share.dz(0);
            let codes = share.batch(rows, width).codes.chunks_exact(width.columns.max(1));
            for (i, codes) in codes.enumerate() {
                for code in codes {
                    let code = *code as usize;
                    if !range.contains(&code) {
                        continue;
                    }
                    let out = &mut out[(code - range.start) * u..][..u];
                    for (j, out) in out.chunks_mut(PANEL).enumerate() {
                        add(out, &dz.panel(j)[i * dz.stride(j)..]);
                    }
                }
            }
        }
    }

    /// The sums of columns, as a product with ones.
    fn bias(&self, units: usize, shares: &[Share], out: &mut [f32]) {
        const ONES: [f32; 256] = [1.0; 256];
        for j in 0..units.div_ceil(PANEL) {
            let segments = shares.iter().flat_map(|share| {
                let dz = share.dz(self.layer);
                let (n, stride) = (share.rows.len(), dz.stride(j));
                (0..n).step_by(ONES.len()).map(move |row| Segment {
                    left: ByRows { values: &ONES, stride: 0 },
                    from: 0,
                    to: (n - row).min(ONES.len()),
                    right: &dz.panel(j)[row * stride..],
                    stride,
                })
            });
            let (values, width) = (&mut out[j * PANEL..], (units - j * PANEL).min(PANEL));
            tiles::sum(segments, Start::Zero, Out { values, stride: units, rows: 1, width });
        }
    }
}
