//! Some rows as points: candidates for centroids, far rows, samples.

use datafusion_common::Result;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::exact::bytes::{Reader, Writer};
use crate::kernels::math::{dot, vectorized};
use crate::options::Distance;

/// Squared distance between unit vectors up to which they have the same direction: rounding to
/// float32 moves each of them by less.
const SAME_DIRECTION: f64 = 2e-13;

/// Points. The one-hot part of a point has the value `scale` at its categories.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Points {
    pub(super) width: Width,
    /// `[n, d]`
    pub(super) dense: Vec<f32>,
    /// `[n, c]`
    pub(super) codes: Vec<u32>,
    /// `[n]`: 1, or the inverse of the length of a row that was made a unit vector.
    pub(super) scale: Vec<f32>,
}

/// A row of a mini-batch: its dense numbers and its categories.
pub(super) fn row<'a>(rows: &MiniBatch<'a>, width: Width, i: usize) -> (&'a [f32], &'a [u32]) {
    let Width { dense: d, columns: c, .. } = width;
    (&rows.dense[i * d..(i + 1) * d], &rows.codes[i * c..(i + 1) * c])
}

/// The factor that makes a point of a row: 1, or the inverse of its length; 0 of a row of zeros.
#[inline(always)]
pub(super) fn scale_of(distance: Distance, dense: &[f32], codes: &[u32]) -> f32 {
    if distance == Distance::Euclidean {
        return 1.0;
    }
    let square = f64::from(dot(dense, dense)) + known(codes) as f64;
    if square > 0.0 { square.sqrt().recip() as f32 } else { 0.0 }
}

/// Categories that the encoder knows.
#[inline(always)]
pub(super) fn known(codes: &[u32]) -> usize {
    codes.iter().filter(|code| **code != NO_CATEGORY).count()
}

/// A hash of the content of a row; 0 and -0 are equal.
pub(super) fn hash(dense: &[f32], codes: &[u32], spare: &mut Vec<u8>) -> u64 {
    spare.clear();
    dense.iter().for_each(|x| spare.extend((x + 0.0).to_bits().to_le_bytes()));
    codes.iter().for_each(|code| spare.extend(code.to_le_bytes()));
    xxh3_64_with_seed(spare, 0x6b6d)
}

impl Points {
    pub(super) fn new(width: Width) -> Self {
        Self { width, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.scale.len()
    }

    /// Appends a row.
    pub(super) fn push(&mut self, dense: &[f32], codes: &[u32], scale: f32) {
        match scale {
            1.0 => self.dense.extend_from_slice(dense),
            scale => self.dense.extend(dense.iter().map(|x| x * scale)),
        }
        self.codes.extend_from_slice(codes);
        self.scale.push(scale);
    }

    /// Appends all points of another.
    pub(super) fn append(&mut self, other: &Self) {
        self.dense.extend_from_slice(&other.dense);
        self.codes.extend_from_slice(&other.codes);
        self.scale.extend_from_slice(&other.scale);
    }

    /// Dense numbers of a point.
    pub(super) fn dense_of(&self, i: usize) -> &[f32] {
        &self.dense[i * self.width.dense..(i + 1) * self.width.dense]
    }

    /// Categories of a point.
    pub(super) fn codes_of(&self, i: usize) -> &[u32] {
        &self.codes[i * self.width.columns..(i + 1) * self.width.columns]
    }

    /// Appends `[d + t]` numbers of a point to `to`.
    pub(super) fn expand(&self, i: usize, to: &mut Vec<f64>) {
        to.extend(self.dense_of(i).iter().map(|x| f64::from(*x)));
        let start = to.len();
        to.resize(start + self.width.categories, 0.0);
        for code in self.codes_of(i).iter().filter(|code| **code != NO_CATEGORY) {
            to[start + *code as usize] += f64::from(self.scale[i]);
        }
    }

    /// `[n, d + t]` numbers of all points.
    pub(super) fn expanded(&self) -> Vec<f64> {
        let mut all = Vec::with_capacity(self.len() * self.width.inputs());
        (0..self.len()).for_each(|i| self.expand(i, &mut all));
        all
    }

    /// The squared distance between two points; of unit vectors, 1 - the cosine of their angle.
    pub(super) fn apart(&self, distance: Distance, i: usize, j: usize) -> f64 {
        let (x, y) = (self.dense_of(i), self.dense_of(j));
        let dense = vectorized(
            #[inline(always)]
            || squared_distance(x, y),
        );
        let (a, b) = (f64::from(self.scale[i]), f64::from(self.scale[j]));
        let mut square = f64::from(dense);
        for (x, y) in self.codes_of(i).iter().zip(self.codes_of(j)) {
            square += match (*x, *y) {
                (x, y) if x == y && x != NO_CATEGORY => (a - b) * (a - b),
                (NO_CATEGORY, NO_CATEGORY) => 0.0,
                (NO_CATEGORY, _) => b * b,
                (_, NO_CATEGORY) => a * a,
                _ => a * a + b * b,
            };
        }
        match distance {
            Distance::Euclidean => square,
            Distance::Cosine if a == 0.0 && b == 0.0 => 0.0,
            Distance::Cosine if a == 0.0 || b == 0.0 => 1.0,
            Distance::Cosine => cosine(square),
        }
    }

    /// Appends the points to a record.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.integers(&[self.len() as u64]);
        writer.numbers(&widened(&self.dense));
        writer.integers(&self.codes.iter().map(|code| u64::from(*code)).collect::<Vec<_>>());
        writer.numbers(&widened(&self.scale));
    }

    /// Reads points of this width from a record.
    pub(super) fn read(reader: &mut Reader<'_>, width: Width) -> Result<Self> {
        let n = reader.dimension()?;
        let dense = narrowed(&reader.numbers(n.saturating_mul(width.dense))?);
        // (Integers have as many bytes as numbers.)
        let codes = reader.numbers(n.saturating_mul(width.columns))?;
        let codes = codes.iter().map(|code| code.to_bits() as u32).collect();
        Ok(Self { width, dense, codes, scale: narrowed(&reader.numbers(n)?) })
    }
}

/// `1 - cos` of unit vectors from their squared distance.
#[inline(always)]
pub(super) fn cosine(square: f64) -> f64 {
    if square <= SAME_DIRECTION { 0.0 } else { square / 2.0 }
}

pub(super) fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

pub(super) fn narrowed(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// `sum_i (x_i - y_i)^2` in 16 running sums.
#[inline(always)]
fn squared_distance(x: &[f32], y: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            sums[i] += (x[i] - y[i]) * (x[i] - y[i]);
        }
    }
    for (i, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
        sums[i] += (x - y) * (x - y);
    }
    sums.iter().sum()
}
