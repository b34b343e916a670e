//! k-means of rows that come in mini-batches (Sculley 2010), for streams.

use datafusion_common::{Result, exec_err};

use super::block::Block;
use super::centroids::{Centroids, normalise};
use super::description::KmeansSpec;
use super::kept::{Kept, copy};
use super::lloyd::{LloydPass, LloydSums};
use super::points::{hash, narrowed, row, scale_of, widened};
use super::round::{Pass, Place, check_weights};
use super::seeding::plus_plus;
use super::start::too_few;
use crate::batch::{MiniBatch, Width};
use crate::exact::bytes::{Reader, Writer};
use crate::kernels::nearest::ROWS;
use crate::kernels::rng::mix;
use crate::options::{Choice, Distance};

const TAG: [u8; 4] = *b"GLKO";
const VERSION: u32 = 1;
/// Stream of the random numbers.
const STREAM: u64 = 0x6f6e_6c69_6e65;

/// Clusters that are learned from mini-batches. Its bits depend on their sequence alone.
///
/// The first mini-batches are kept until there are `k` distinct rows, of which k-means++ chooses
/// the first centroids. Then each mini-batch moves the centroids to
/// `(decay n c + sum) / (decay n + m)`, with `n` the weight of the rows of a centroid `c` so far,
/// and `sum` and `m` those of its rows in the mini-batch; `n` becomes `decay n + m`.
#[derive(Clone, Debug, PartialEq)]
pub struct OnlineKmeans {
    width: Width,
    k: usize,
    distance: Distance,
    decay: f64,
    seed: u64,
    /// `[k, d + t]`; none before there are `k` distinct rows.
    centroids: Vec<f64>,
    /// `[k]`
    counts: Vec<f64>,
    /// The distinct rows before the first centroids.
    first: Kept,
    /// Rows that were added to `first`.
    arrived: u64,
}

impl OnlineKmeans {
    /// Before the first row. `decay` is the weight of the past after each mini-batch, `[0, 1]`.
    pub fn new(width: Width, k: usize, distance: Distance, decay: f64, seed: u64) -> Self {
        Self {
            width,
            k,
            distance,
            decay,
            seed,
            centroids: vec![],
            counts: vec![],
            first: Kept::new(width, usize::MAX >> 40),
            arrived: 0,
        }
    }

    /// Continues from `centroids` `[k, d + t]` with the weights `[k]` of their rows: those of a
    /// model, or its own for rows of another width.
    ///
    /// # Errors
    /// When there are more or fewer numbers.
    pub fn set(&mut self, width: Width, mut centroids: Vec<f64>, counts: Vec<f64>) -> Result<()> {
        if centroids.len() != self.k * width.inputs() || counts.len() != self.k {
            return exec_err!(
                "{} clusters of {} inputs cannot have {} numbers and {} counts",
                self.k,
                width.inputs(),
                centroids.len(),
                counts.len()
            );
        }
        if self.distance == Distance::Cosine {
            normalise(&mut centroids, width.inputs());
        }
        (self.width, self.centroids, self.counts) = (width, centroids, counts);
        self.first = Kept::new(width, 0);
        Ok(())
    }

    /// Learns from a mini-batch. Returns the weighted sum of the squared distances of its rows (or
    /// of `1 - cos`) before the update; 0 before the first centroids.
    ///
    /// # Errors
    /// When the rows have another shape, or a weight is below 0 or not finite.
    pub fn learn(&mut self, rows: &MiniBatch<'_>) -> Result<f64> {
        let Width { dense: d, columns: c, categories: t, .. } = self.width;
        let is_known = |code: &u32| *code == crate::batch::NO_CATEGORY || (*code as usize) < t;
        let fits = rows.dense.len() == rows.rows * d
            && rows.codes.len() == rows.rows * c
            && rows.weight.len() == rows.rows
            && rows.codes.iter().all(is_known);
        if !fits {
            return exec_err!(
                "a mini-batch of {} rows does not fit clusters of {d} numbers and {c} categories",
                rows.rows
            );
        }
        check_weights(rows.weight)?;
        if !self.has_centroids() {
            self.collect(rows);
            if self.first.len() < self.k {
                return Ok(0.0);
            }
            return self.begin();
        }
        Ok(self.update(rows))
    }

    /// Width of the rows.
    pub(super) fn width(&self) -> Width {
        self.width
    }

    /// Whether there are centroids yet.
    pub fn has_centroids(&self) -> bool {
        !self.centroids.is_empty()
    }

    /// The centroids `[k, d + t]`; none before there are `k` distinct rows.
    #[cfg(test)]
    pub fn centroids(&self) -> &[f64] {
        &self.centroids
    }

    /// The weight of the rows of each centroid so far, `[k]`.
    #[cfg(test)]
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// The parameters of a model with the categories that `order` lists, in that order: centroids,
    /// then counts.
    ///
    /// # Errors
    /// When there are too few distinct rows so far.
    pub(super) fn parameters_of(&self, order: &[usize]) -> Result<Vec<f32>> {
        if !self.has_centroids() {
            return too_few(self.k, self.first.len());
        }
        let (d, inputs) = (self.width.dense, self.width.inputs());
        let mut parameters = vec![];
        for centroid in self.centroids.chunks_exact(inputs) {
            let (dense, categories) = centroid.split_at(d);
            parameters.extend(narrowed(dense));
            parameters.extend(order.iter().map(|category| categories[*category] as f32));
        }
        parameters.extend(narrowed(&self.counts));
        Ok(parameters)
    }

    /// What a model of them is.
    pub(super) fn spec(&self) -> KmeansSpec {
        KmeansSpec { k: self.k, distance: self.distance }
    }

    /// Whether another has the same options and columns.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let of = |own: &Self| (own.width.dense, own.width.columns, own.k, own.distance, own.seed);
        of(self) == of(other) && self.decay.to_bits() == other.decay.to_bits()
    }

    /// Changes the dense numbers of all centroids and kept rows.
    pub(super) fn move_inputs(&mut self, change: impl Fn(&mut [f64])) {
        let (d, inputs) = (self.width.dense, self.width.inputs().max(1));
        self.centroids.chunks_exact_mut(inputs).for_each(|centroid| change(&mut centroid[..d]));
        if self.distance == Distance::Cosine {
            self.centroids.chunks_exact_mut(inputs).for_each(|own| normalise(own, inputs));
        }
        let distance = self.distance;
        self.first.change(|row| {
            let mut dense = widened(&row.dense);
            // (Kept rows of a cosine are of unit length.)
            let length = if row.scale > 0.0 { f64::from(row.scale) } else { 1.0 };
            dense.iter_mut().for_each(|x| *x /= length);
            change(&mut dense);
            let raw = narrowed(&dense);
            row.scale = scale_of(distance, &raw, &row.codes);
            let scale = if row.scale > 0.0 { row.scale } else { 1.0 };
            row.dense = raw.iter().map(|x| x * scale).collect();
        });
    }

    /// Takes rows with so many categories from now on.
    pub(super) fn add_categories(&mut self, categories: usize) {
        let before = self.width.inputs().max(1);
        self.width.categories = categories;
        let more = self.width.inputs() - before.min(self.width.inputs());
        let grown = self.centroids.chunks_exact(before);
        let grown = grown.flat_map(|own| own.iter().copied().chain(std::iter::repeat_n(0.0, more)));
        self.centroids = grown.collect();
        self.first.set_width(self.width);
    }

    /// Keeps the rows of a mini-batch by their content, in the order in which they arrive.
    fn collect(&mut self, rows: &MiniBatch<'_>) {
        let mut spare = vec![];
        for (i, weight) in rows.weight.iter().enumerate() {
            if *weight > 0.0 {
                let (dense, codes) = row(rows, self.width, i);
                let content = hash(dense, codes, &mut spare);
                let scale = scale_of(self.distance, dense, codes);
                self.first.offer(self.arrived, content, || {
                    copy((dense, codes), scale, f64::from(*weight))
                });
                self.arrived += 1;
            }
        }
    }

    /// Chooses the first centroids among the rows so far, and learns from these.
    fn begin(&mut self) -> Result<f64> {
        let points = self.first.points();
        let weights: Vec<f64> = self.first.rows().map(|row| row.weight).collect();
        let key = mix(self.seed, STREAM, 0);
        let chosen = plus_plus(&points, &weights, self.distance, self.k, key);
        // (Rows of the same direction are one with cosines.)
        if chosen.len() < self.k {
            return Ok(0.0);
        }
        let mut centroids = vec![];
        chosen.iter().for_each(|i| points.expand(*i, &mut centroids));
        self.centroids = centroids;
        self.counts = vec![0.0; self.k];
        let first = std::mem::replace(&mut self.first, Kept::new(self.width, 0));
        let weight: Vec<f32> = weights.iter().map(|weight| *weight as f32).collect();
        let inverse = |scale: &f32| if *scale == 0.0 { 1.0 } else { scale.recip() };
        let mut dense = points.dense.clone();
        for (row, scale) in dense.chunks_exact_mut(self.width.dense.max(1)).zip(&points.scale) {
            row.iter_mut().for_each(|x| *x *= inverse(scale));
        }
        let rows = MiniBatch {
            rows: first.len(),
            dense: &dense,
            codes: &points.codes,
            weight: &weight,
            ..MiniBatch::default()
        };
        Ok(self.update(&rows))
    }

    /// Moves the centroids by the rows of a mini-batch.
    fn update(&mut self, rows: &MiniBatch<'_>) -> f64 {
        let inputs = self.width.inputs().max(1);
        let centroids = Centroids::new(self.width, self.distance, &self.centroids);
        let pass = LloydPass { centroids: centroids.into(), keeps_far: false };
        let (mut sums, mut scratch): (LloydSums, (Block, Vec<u8>)) = pass.start();
        for start in (0..rows.rows).step_by(ROWS) {
            let block = rows.slice(start, rows.rows.min(start + ROWS), self.width);
            pass.add(&mut sums, &mut scratch, &block, Place::default());
        }
        let shift = &pass.centroids.shift;
        for (j, centroid) in self.centroids.chunks_exact_mut(inputs).enumerate() {
            let (old, new) = (self.decay * self.counts[j], sums.weights[j]);
            self.counts[j] = old + new;
            if new == 0.0 {
                continue;
            }
            for (i, (c, sum)) in centroid.iter_mut().zip(sums.of(j)).enumerate() {
                // (Sums are those of x - shift.)
                let from = if i < self.width.dense { f64::from(shift[i]) } else { 0.0 };
                *c = from + (old * (*c - from) + sum) / (old + new);
            }
            if self.distance == Distance::Cosine {
                normalise(centroid, inputs);
            }
        }
        sums.loss
    }

    /// The state as bytes: `"GLKO"`, `u32` version 1; `u64` d, c, t, k, place of the distance in
    /// [`Choice::ALL`], seed, arrived rows, and 1 with centroids; `f64` decay, then centroids and
    /// counts; then the first rows.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        let distance = Distance::ALL.iter().position(|own| *own == self.distance);
        writer.width(self.width);
        writer.integers(&[self.k as u64, distance.unwrap_or_default() as u64]);
        writer.integers(&[self.seed, self.arrived]);
        writer.integers(&[u64::from(self.has_centroids())]);
        writer.numbers(&[self.decay]);
        writer.numbers(&self.centroids);
        writer.numbers(&self.counts);
        self.first.write(&mut writer);
        writer.finish()
    }

    /// The state that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are no such state.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "the state of clusters")?;
        let width = reader.width()?;
        let (k, distance) = (reader.dimension()?, reader.dimension()?);
        let Some(distance) = Distance::ALL.get(distance).copied() else {
            return exec_err!("the state of clusters has the unknown distance {distance}");
        };
        let (seed, arrived) = (reader.integer()?, reader.integer()?);
        let clusters = if reader.integer()? == 1 { k } else { 0 };
        let decay = reader.number()?;
        let centroids = reader.numbers(clusters * width.inputs())?;
        let counts = reader.numbers(clusters)?;
        let first = Kept::read(&mut reader, width)?;
        reader.finish()?;
        Ok(Self { width, k, distance, decay, seed, centroids, counts, first, arrived })
    }
}
