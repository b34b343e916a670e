//! Centroids in the layout that the kernels read.
//!
//! With `m` the mean of the centroids, rounded to float32, rows and centroids are compared as
//! `x - m` and `c - m`, so that a common offset costs no digits. (Unit vectors have none: `m = 0`.)
//! The nearest centroid has the least `|c|^2 / 2 - x c`.

use crate::batch::Width;
use crate::kernels::aligned::Aligned;
use crate::kernels::lanes::LANES;
use crate::kernels::nearest::TILE;
use crate::options::Distance;

/// Centroids, ready for blocks of rows.
#[derive(Debug)]
pub(super) struct Centroids {
    pub(super) width: Width,
    pub(super) k: usize,
    pub(super) distance: Distance,
    /// Numbers from one dense row to the next: `d` in whole vectors.
    pub(super) stride: usize,
    /// `[stride]`: `m`.
    pub(super) shift: Vec<f32>,
    /// `[k, stride]`: `c - m`.
    pub(super) dense: Aligned<f32>,
    /// `[tiles, d, TILE]`: `m - c`, for products.
    pub(super) tiles: Vec<f32>,
    /// `[tiles * TILE]`: `|c|^2 / 2`, infinite of the padding; 0 of unit vectors.
    pub(super) starts: Vec<f32>,
    /// `[t, padded]`: the categories' part, by category.
    pub(super) categories: Aligned<f32>,
    /// `[tiles * TILE]`: squared length of the categories' part, for the kernels.
    pub(super) category_starts: Vec<f32>,
    /// `[k]`: the same, exactly.
    pub(super) category_squares: Vec<f64>,
    /// `[k]`: whether a centroid is 0, which has no angle.
    pub(super) is_zero: Vec<bool>,
}

impl Centroids {
    /// Of `centroids` `[k, d + t]`.
    pub(super) fn new(width: Width, distance: Distance, centroids: &[f64]) -> Self {
        let Width { dense: d, categories: t, .. } = width;
        let inputs = width.inputs().max(1);
        let k = centroids.len() / inputs;
        let (stride, padded) = (d.next_multiple_of(LANES), padded(k));
        let shift = shift(centroids, width, distance, stride);
        let mut own = Self {
            width,
            k,
            distance,
            stride,
            dense: Aligned::zeros(k * stride),
            tiles: vec![0.0; padded.next_multiple_of(TILE) * d],
            starts: vec![f32::INFINITY; padded.next_multiple_of(TILE)],
            categories: Aligned::zeros(t * padded),
            category_starts: vec![0.0; padded.next_multiple_of(TILE)],
            category_squares: vec![0.0; k],
            is_zero: vec![false; k],
            shift,
        };
        for (j, centroid) in centroids.chunks_exact(inputs).enumerate() {
            own.set(j, centroid, padded);
        }
        own
    }

    fn set(&mut self, j: usize, centroid: &[f64], padded: usize) {
        let d = self.width.dense;
        let (dense, categories) = centroid.split_at(d);
        let mut square = 0.0;
        for (i, c) in dense.iter().enumerate() {
            let moved = (c - f64::from(self.shift[i])) as f32;
            self.dense[j * self.stride + i] = moved;
            self.tiles[(j / TILE * d + i) * TILE + j % TILE] = -moved;
            square += f64::from(moved) * f64::from(moved);
        }
        for (code, c) in categories.iter().enumerate() {
            let c = *c as f32;
            self.categories[code * padded + j] = c;
            self.category_squares[j] += f64::from(c) * f64::from(c);
        }
        self.category_starts[j] = self.category_squares[j] as f32;
        square += self.category_squares[j];
        self.is_zero[j] = self.distance == Distance::Cosine && square == 0.0;
        self.starts[j] = match self.distance {
            Distance::Euclidean => (square / 2.0) as f32,
            Distance::Cosine => 0.0,
        };
    }

    /// Number of tiles.
    pub(super) fn tiles(&self) -> usize {
        self.k.div_ceil(TILE)
    }

    /// Numbers from one category to the next in `categories`.
    pub(super) fn padded(&self) -> usize {
        padded(self.k)
    }

    /// Bytes of centroids of this shape.
    pub(super) fn bytes(width: Width, k: usize) -> usize {
        4 * padded(k) * (2 * width.dense.next_multiple_of(LANES) + width.categories + 4)
    }
}

/// The number of centroids in whole vectors.
fn padded(k: usize) -> usize {
    k.next_multiple_of(LANES)
}

/// The mean of the centroids; 0 of unit vectors.
fn shift(centroids: &[f64], width: Width, distance: Distance, stride: usize) -> Vec<f32> {
    let mut mean = vec![0.0; stride];
    if distance == Distance::Euclidean {
        let inputs = width.inputs().max(1);
        let k = (centroids.len() / inputs).max(1) as f64;
        for centroid in centroids.chunks_exact(inputs) {
            for (mean, c) in mean.iter_mut().zip(&centroid[..width.dense]) {
                *mean += c / k;
            }
        }
    }
    mean.iter().map(|mean| *mean as f32).collect()
}

/// Makes unit vectors of `[k, n]` vectors; those of zeros stay.
pub(super) fn normalise(centroids: &mut [f64], n: usize) {
    for centroid in centroids.chunks_exact_mut(n.max(1)) {
        let length = centroid.iter().map(|c| c * c).sum::<f64>().sqrt();
        if length > 0.0 {
            centroid.iter_mut().for_each(|c| *c /= length);
        }
    }
}
