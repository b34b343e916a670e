//! Mean and variance of each input: one pass over the rows.

use datafusion_common::{Result, exec_err};

use super::bytes::{Reader, Writer};
use super::{PassSum, check_inputs, check_same, check_weights};
use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::kernels::math::vectorized;

const TAG: [u8; 4] = *b"GLPS";
const VERSION: u32 = 1;

/// Weighted sums over rows: `w`, `w (x - r)`, `w (x - r)^2` of the dense numbers with the first row
/// `r` as reference (see `moments.rs`), and `w` by category.
#[derive(Clone, Debug)]
pub struct SpreadSum {
    width: Width,
    /// Rows with a weight.
    rows: u64,
    weight: f64,
    /// `[d]`; nothing before the first row with a weight.
    reference: Option<Vec<f64>>,
    /// `[d]`
    sums: Vec<f64>,
    /// `[d]`
    squares: Vec<f64>,
    /// `[t]`
    categories: Vec<f64>,
}

/// Mean and variance of the rows with a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// `[n]`: dense numbers, then categories.
    pub mean: Vec<f64>,
    /// The sum of the variances of all inputs, `sum w |x - mean|^2 / sum w`.
    pub variance: f64,
    /// Rows with a weight.
    pub rows: u64,
}

impl SpreadSum {
    /// Mean and variance.
    ///
    /// # Errors
    /// When there is no row with a weight, or the inputs are not finite.
    pub fn spread(&self) -> Result<Spread> {
        let weight = self.weight;
        let Some(reference) = self.reference.as_ref().filter(|_| weight > 0.0) else {
            return exec_err!("there is no row with a weight to take the covariance of");
        };
        let dense = self.sums.iter().zip(reference).map(|(sum, r)| r + sum / weight);
        let categories = self.categories.iter().map(|sum| sum / weight);
        let mean: Vec<f64> = dense.chain(categories.clone()).collect();
        let dense = self.sums.iter().zip(&self.squares);
        let dense = dense.map(|(sum, square)| square / weight - (sum / weight).powi(2));
        let variance = dense.chain(categories.map(|share| share * (1.0 - share)));
        let variance: f64 = variance.map(|variance| variance.max(0.0)).sum();
        if !variance.is_finite() {
            return exec_err!("a covariance needs finite inputs, but some are too large or NaN");
        }
        Ok(Spread { mean, variance, rows: self.rows })
    }
}

/// They do not depend on parameters.
impl PassSum for SpreadSum {
    type Shape = Width;
    type Scratch = ();
    const KIND: &'static str = "spread";

    fn empty(width: Width, (): ()) -> Result<Self> {
        Ok(Self {
            width,
            rows: 0,
            weight: 0.0,
            reference: None,
            sums: vec![0.0; width.dense],
            squares: vec![0.0; width.dense],
            categories: vec![0.0; width.categories],
        })
    }

    fn width_of(width: Width) -> Width {
        width
    }

    fn memory(width: Width) -> usize {
        (3 * width.dense + width.categories) * size_of::<f64>()
    }

    fn add(&mut self, _parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()> {
        check_inputs(self.width, rows)?;
        check_weights(rows.weight)?;
        let Width { dense: d, columns: c, .. } = self.width;
        for (row, weight) in rows.weight.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let dense = &rows.dense[row * d..(row + 1) * d];
            let reference =
                self.reference.get_or_insert_with(|| dense.iter().map(|x| f64::from(*x)).collect());
            let weight = f64::from(*weight);
            self.rows += 1;
            self.weight += weight;
            let sums = self.sums.iter_mut().zip(&mut self.squares);
            let numbers = dense.iter().zip(reference.iter()).zip(sums);
            vectorized(
                #[inline(always)]
                || {
                    for ((x, r), (sum, square)) in numbers {
                        let x = f64::from(*x) - r;
                        *sum += weight * x;
                        *square += weight * x * x;
                    }
                },
            );
            let codes = rows.codes[row * c..(row + 1) * c].iter();
            for code in codes.filter(|code| **code != NO_CATEGORY) {
                self.categories[*code as usize] += weight;
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(Self::KIND, self.width, other.width)?;
        let Some(theirs) = &other.reference else { return Ok(()) };
        let reference = self.reference.get_or_insert_with(|| theirs.clone());
        for j in 0..self.width.dense {
            // `(x - theirs) + delta = x - ours`
            let delta = theirs[j] - reference[j];
            self.sums[j] += other.sums[j] + other.weight * delta;
            self.squares[j] +=
                other.squares[j] + 2.0 * delta * other.sums[j] + other.weight * delta * delta;
        }
        self.rows += other.rows;
        self.weight += other.weight;
        super::moments::add(&mut self.categories, &other.categories);
        Ok(())
    }

    fn take_scratch(&mut self) {}

    /// `"GLPS"`, `u32` version 1; `u64` d, c, t, rows and 1 where there is a reference, else 0;
    /// `f64` weight, reference `[d]`, sums `[d]`, squares `[d]`, categories `[t]`; little-endian.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        writer.width(self.width);
        writer.integers(&[self.rows, u64::from(self.reference.is_some())]);
        writer.numbers(&[self.weight]);
        match &self.reference {
            Some(reference) => writer.numbers(reference),
            None => writer.numbers(&vec![0.0; self.width.dense]),
        }
        for numbers in [&self.sums, &self.squares, &self.categories] {
            writer.numbers(numbers);
        }
        writer.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "spread sum")?;
        let width = reader.width()?;
        let rows = reader.integer()?;
        let known = reader.integer()? == 1;
        let weight = reader.number()?;
        let reference = known.then_some(reader.numbers(width.dense)?);
        let (sums, squares) = (reader.numbers(width.dense)?, reader.numbers(width.dense)?);
        let categories = reader.numbers(width.categories)?;
        reader.finish()?;
        Ok(Self { width, rows, weight, reference, sums, squares, categories })
    }
}
