//! The assignment of a block of rows to their nearest centroids.

use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::kernels::aligned::Aligned;
use crate::kernels::lanes::LANES;
use crate::kernels::math::vectorized;
use crate::kernels::nearest::{
    Operands, ROWS, Start, TILE, accumulate, apart, distances, nearest, shifted, squares, transpose,
};
use crate::kernels::panels::transpose_block;
use crate::options::Distance;

use super::centroids::Centroids;
use super::points::{cosine, known, row, scale_of};

/// Centroids whose products with categories are computed at a time: whole vectors and tiles.
const PANEL: usize = 10 * LANES * TILE / 2;

/// Sums in float64 that fill half of the L1 cache.
const CACHED: usize = 2048;

/// Buffers for a block of rows, and where the rows belong.
#[derive(Debug)]
pub(super) struct Block {
    /// `[ROWS, stride]`: `x - m`.
    packed: Aligned<f32>,
    /// `[stride, ROWS]`: the same, transposed.
    turned: Aligned<f32>,
    /// `[PANEL]` and `[PANEL, ROWS]`: products with categories.
    by_row: Aligned<f32>,
    by_centroid: Aligned<f32>,
    /// Value of a category in each row: see [`super::points::Points::scale`].
    pub(super) scale: [f32; ROWS],
    /// Number of the nearest centroid.
    pub(super) nearest: [u32; ROWS],
    /// Squared distance to it; `1 - cos` of unit vectors.
    pub(super) distance: [f64; ROWS],
    /// `|x - m|^2`.
    pub(super) square: [f64; ROWS],
}

impl Default for Block {
    fn default() -> Self {
        Self {
            packed: Aligned::default(),
            turned: Aligned::default(),
            by_row: Aligned::default(),
            by_centroid: Aligned::default(),
            scale: [1.0; ROWS],
            nearest: [0; ROWS],
            distance: [0.0; ROWS],
            square: [0.0; ROWS],
        }
    }
}

impl Block {
    /// Loads at most [`ROWS`] rows.
    fn load(&mut self, centroids: &Centroids, rows: &MiniBatch<'_>) {
        let Centroids { width, stride, .. } = *centroids;
        let d = width.dense;
        self.packed.reach(ROWS * stride);
        self.turned.reach(ROWS * stride);
        shifted(rows.dense, d, &centroids.shift, &mut self.packed);
        if centroids.distance == Distance::Cosine {
            for i in 0..rows.rows {
                let (dense, codes) = row(rows, width, i);
                let scale = scale_of(Distance::Cosine, dense, codes);
                self.scale[i] = scale;
                self.packed[i * stride..][..d].iter_mut().for_each(|x| *x *= scale);
            }
        }
        transpose(&self.packed, &mut self.turned, stride, d);
    }

    /// Finds the nearest centroid of each of at most [`ROWS`] rows.
    pub(super) fn assign(&mut self, centroids: &Centroids, rows: &MiniBatch<'_>) {
        self.load(centroids, rows);
        let mut least = [f32::INFINITY; ROWS];
        self.nearest = [0; ROWS];
        let Centroids { width, k, .. } = *centroids;
        let d = width.dense;
        if width.columns == 0 {
            let operands = Operands {
                inputs: d,
                rows: &self.turned,
                centroids: &centroids.tiles,
                start: Start::ByCentroid(&centroids.starts),
                tiles: centroids.tiles(),
            };
            nearest(operands, 0, &mut least, &mut self.nearest);
        } else {
            for first in (0..k).step_by(PANEL) {
                self.category_products(centroids, rows, first, (&centroids.starts, -1.0));
                let operands = Operands {
                    inputs: d,
                    rows: &self.turned,
                    centroids: &centroids.tiles[first * d..],
                    start: Start::ByRow(&self.by_centroid),
                    tiles: PANEL.min(k - first).div_ceil(TILE),
                };
                nearest(operands, first as u32, &mut least, &mut self.nearest);
            }
        }
        self.measure(centroids, rows);
    }

    /// `by_centroid[PANEL, ROWS] = start + factor scale sum of the centroid's values at the row's
    /// categories`, for the centroids from `first` on; `starts` are those of all centroids.
    fn category_products(
        &mut self,
        centroids: &Centroids,
        rows: &MiniBatch<'_>,
        first: usize,
        (starts, factor): (&[f32], f32),
    ) {
        let padded = centroids.padded();
        let n = PANEL.min(padded - first);
        self.by_row.reach(ROWS * PANEL);
        self.by_centroid.reach(PANEL * ROWS);
        let (own, scale, turned) = (&mut self.by_row, &self.scale, &mut self.by_centroid);
        let (c, table) = (centroids.width.columns, &centroids.categories);
        vectorized(
            #[inline(always)]
            || {
                for (i, own) in own.chunks_exact_mut(PANEL).take(rows.rows).enumerate() {
                    own[..n].copy_from_slice(&starts[first..first + n]);
                    let factor = factor * scale[i];
                    for code in &rows.codes[i * c..(i + 1) * c] {
                        if *code == NO_CATEGORY {
                            continue;
                        }
                        let from = &table[*code as usize * padded + first..][..n];
                        for (own, from) in own[..n].iter_mut().zip(from) {
                            *own += factor * from;
                        }
                    }
                }
                for row in (0..ROWS).step_by(LANES) {
                    for j in (0..n).step_by(LANES) {
                        let to = &mut turned[j * ROWS + row..];
                        transpose_block(&own[row * PANEL + j..], PANEL, to, ROWS);
                    }
                }
            },
        );
        // The last tile may end after the last whole vector.
        turned[n * ROWS..(n + TILE).min(PANEL) * ROWS].fill(f32::INFINITY);
    }

    /// The exact distance of each row to its centroid, and its length.
    fn measure(&mut self, centroids: &Centroids, rows: &MiniBatch<'_>) {
        let stride = centroids.stride;
        apart(&self.packed, &centroids.dense, stride, &self.nearest, &mut self.distance);
        let d = centroids.width.dense;
        squares(&self.turned[..d * ROWS], &mut self.square);
        if centroids.width.columns > 0 {
            self.measure_categories(centroids, rows);
        }
        if centroids.distance == Distance::Cosine {
            for i in 0..rows.rows {
                let is_zero = self.scale[i] == 0.0;
                self.nearest[i] = if is_zero { 0 } else { self.nearest[i] };
                let own = cosine(self.distance[i]);
                let has_angle = !is_zero && !centroids.is_zero[self.nearest[i] as usize];
                self.distance[i] = if has_angle { own } else { 1.0 };
            }
        }
    }

    /// Adds what categories add to distances and lengths: `|c|^2 + sum of scale^2 - 2 scale c`.
    fn measure_categories(&mut self, centroids: &Centroids, rows: &MiniBatch<'_>) {
        let (padded, c) = (centroids.padded(), centroids.width.columns);
        for i in 0..rows.rows {
            let j = self.nearest[i] as usize;
            let scale = f64::from(self.scale[i]);
            let codes = &rows.codes[i * c..(i + 1) * c];
            let mut own = centroids.category_squares[j];
            for code in codes.iter().filter(|code| **code != NO_CATEGORY) {
                let value = f64::from(centroids.categories[*code as usize * padded + j]);
                own += scale * (scale - 2.0 * value);
            }
            self.distance[i] += own.max(0.0);
            self.square[i] += scale * scale * known(codes) as f64;
        }
    }

    /// `sums[k, stride] += weight (x - m)` at the nearest centroid of each row.
    pub(super) fn add_dense(&self, stride: usize, weight: &[f32], sums: &mut [f64]) {
        // By columns whose sums stay in the L1 cache, in whole vectors.
        let k = sums.len() / stride.max(1);
        let columns = (CACHED / k.max(1) / LANES * LANES).max(4 * LANES);
        vectorized(
            #[inline(always)]
            || {
                for from in (0..stride).step_by(columns) {
                    let to = stride.min(from + columns);
                    for (i, weight) in weight.iter().enumerate() {
                        let x = &self.packed[i * stride + from..i * stride + to];
                        let at = self.nearest[i] as usize * stride;
                        accumulate(f64::from(*weight), x, &mut sums[at + from..at + to]);
                    }
                }
            },
        );
    }

    /// Writes the squared distances `[rows, k]` of at most [`ROWS`] rows to all centroids, or
    /// `1 - cos`.
    pub(super) fn distances(
        &mut self,
        centroids: &Centroids,
        rows: &MiniBatch<'_>,
        out: &mut [f32],
    ) {
        self.load(centroids, rows);
        let Centroids { width: Width { dense: d, columns: c, .. }, k, .. } = *centroids;
        let starts = &centroids.category_starts;
        let mut panel = vec![0.0; PANEL.min(k.next_multiple_of(TILE)) * ROWS];
        for first in (0..k).step_by(PANEL) {
            let n = PANEL.min(k - first);
            if c > 0 {
                self.category_products(centroids, rows, first, (starts, -2.0));
            }
            let operands = Operands {
                inputs: d,
                rows: &self.turned,
                centroids: &centroids.tiles[first * d..],
                start: match c {
                    0 => Start::ByCentroid(&starts[first..]),
                    _ => Start::ByRow(&self.by_centroid),
                },
                tiles: n.div_ceil(TILE),
            };
            distances(operands, &mut panel);
            for (i, out) in out.chunks_exact_mut(k).take(rows.rows).enumerate() {
                let codes = &rows.codes[i * c..(i + 1) * c];
                let categories = self.scale[i] * self.scale[i] * known(codes) as f32;
                for (j, own) in out[first..first + n].iter_mut().enumerate() {
                    let square = (panel[j * ROWS + i] + categories).max(0.0);
                    *own = match centroids.distance {
                        Distance::Euclidean => square,
                        _ if self.scale[i] == 0.0 || centroids.is_zero[first + j] => 1.0,
                        Distance::Cosine => cosine(f64::from(square)) as f32,
                    };
                }
            }
        }
    }
}
