//! Statistics of columns over training rows, mergeable, from which an encoder is made.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Float32Type, UInt8Type};
use datafusion_common::{Result, exec_err};

use super::apply::{numbers, unix_seconds, vectors};
use super::{Encoder, Feature, FeatureKind, Interner, Kind, Scale};
use crate::kernels::math::vectorized;

/// Running sums of [`Moments::of`]: their number is fixed, so that every machine gives the same bits.
const LANES: usize = 16;

/// Count, mean and squared deviations of numbers, by the pairwise update of Chan, Golub and
/// LeVeque 1983: as exact as two passes, but for the rounding of the parts' means.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moments {
    count: u64,
    nulls: u64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Moments {
            count: 0,
            nulls: 0,
            mean: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

impl Moments {
    /// The moments of some values; what is not finite counts as NULL.
    fn of(values: &[f64]) -> Self {
        let mut m = vectorized(
            #[inline(always)]
            || Self::sums(values),
        );
        m.nulls = values.len() as u64 - m.count;
        if m.count > 0 {
            m.mean /= m.count as f64;
            m.squares = vectorized(
                #[inline(always)]
                || squared_deviations(values, m.mean),
            );
        }
        m
    }

    /// Count, smallest and largest of the values that are finite, and their sum in place of the mean.
    #[inline(always)]
    fn sums(values: &[f64]) -> Self {
        let mut count = [0u64; LANES];
        let mut sum = [0.0; LANES];
        let mut min = [f64::INFINITY; LANES];
        let mut max = [f64::NEG_INFINITY; LANES];
        for_each_window(
            values,
            #[inline(always)]
            |window| {
                for i in 0..LANES {
                    let v = window[i];
                    let finite = v.abs() < f64::INFINITY;
                    count[i] += u64::from(finite);
                    sum[i] += if finite { v } else { 0.0 };
                    min[i] = if finite & (v < min[i]) { v } else { min[i] };
                    max[i] = if finite & (v > max[i]) { v } else { max[i] };
                }
            },
        );
        Moments {
            count: count.iter().sum(),
            mean: sum.iter().sum(),
            min: min.into_iter().fold(f64::INFINITY, f64::min),
            max: max.into_iter().fold(f64::NEG_INFINITY, f64::max),
            ..Moments::default()
        }
    }

    fn merge(&mut self, other: &Moments) {
        self.nulls += other.nulls;
        if other.count == 0 {
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * (b / (a + b));
        self.squares += other.squares + delta * delta * (a * b / (a + b));
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn scale(&self, standardize: bool) -> Scale {
        let rows = (self.count + self.nulls) as f64;
        let variance = if self.count == 0 { 0.0 } else { self.squares / rows };
        let stddev = variance.sqrt();
        // Rounding leaves a constant column a tiny variance: what is below the resolution of its
        // values is none.
        let noise = f64::EPSILON * self.mean.abs() * 8.0;
        let varies = stddev > noise && self.min < self.max;
        let (min, max) = if self.count == 0 { (f64::NAN, f64::NAN) } else { (self.min, self.max) };
        if !standardize {
            return Scale { mean: self.mean, center: 0.0, stddev: 1.0, min, max };
        }
        // Squares beyond float64 stay what they are, so that the encoder refuses the column.
        let stddev = if varies || !stddev.is_finite() { stddev } else { 1.0 };
        Scale { mean: self.mean, center: self.mean, stddev, min, max }
    }
}

/// Calls `f` with the values in windows; the last is filled up with NaN.
#[inline(always)]
fn for_each_window(values: &[f64], mut f: impl FnMut(&[f64; LANES])) {
    let (windows, rest) = values.as_chunks::<LANES>();
    windows.iter().for_each(&mut f);
    if !rest.is_empty() {
        let mut last = [f64::NAN; LANES];
        last[..rest.len()].copy_from_slice(rest);
        f(&last);
    }
}

/// The sum of squared deviations of the values that are finite.
#[inline(always)]
fn squared_deviations(values: &[f64], mean: f64) -> f64 {
    let mut squares = [0.0; LANES];
    for_each_window(
        values,
        #[inline(always)]
        |window| {
            for i in 0..LANES {
                let v = window[i];
                let deviation = v - mean;
                squares[i] += if v.abs() < f64::INFINITY { deviation * deviation } else { 0.0 };
            }
        },
    );
    squares.iter().sum()
}

/// Statistics of one column.
#[derive(Clone, Debug, PartialEq)]
enum ColumnStatistics {
    Numbers(Moments),
    /// Rows by provisional code, and NULLs.
    Categories {
        counts: Vec<u64>,
        nulls: u64,
    },
    /// One per element; the length is known from the first list on.
    Vectors {
        elements: Option<Vec<Moments>>,
        nulls: u64,
        bytes: bool,
    },
}

/// Statistics of the feature columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    inputs: Arc<[(String, DataType, Kind)]>,
    columns: Vec<ColumnStatistics>,
    standardize: bool,
}

/// A column to gather statistics of.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers, booleans, timestamps or vectors.
    Array(&'a ArrayRef),
    /// A category column by the provisional codes of an interner.
    Codes(&'a UInt32Array),
}

impl Statistics {
    /// Of no rows yet. `inputs` are flattened columns.
    ///
    /// # Errors
    /// When a type cannot be a feature.
    pub fn new(inputs: &[(String, DataType)], standardize: bool) -> Result<Self> {
        let mut columns = vec![];
        let mut kinds = vec![];
        for (name, data_type) in inputs {
            let kind = Kind::of(name, data_type)?;
            columns.push(match kind {
                Kind::Number | Kind::Boolean | Kind::Timestamp => {
                    ColumnStatistics::Numbers(Moments::default())
                }
                Kind::Category => ColumnStatistics::Categories { counts: vec![], nulls: 0 },
                Kind::Vector => {
                    let bytes = matches!(data_type,
                        DataType::FixedSizeList(item, _)
                        | DataType::List(item)
                        | DataType::LargeList(item) if *item.data_type() == DataType::UInt8);
                    ColumnStatistics::Vectors { elements: None, nulls: 0, bytes }
                }
            });
            kinds.push((name.clone(), data_type.clone(), kind));
        }
        Ok(Self { inputs: kinds.into(), columns, standardize })
    }

    /// Takes in the rows of a chunk that `train` marks (all without).
    ///
    /// # Errors
    /// When lists differ in length.
    pub fn update(&mut self, columns: &[Values<'_>], train: Option<&BooleanBuffer>) -> Result<()> {
        self.update_numbers(columns, train)?;
        self.update_categories(columns, train);
        Ok(())
    }

    /// [`Statistics::update`] of numbers and vectors alone, whose sums depend on the order in which
    /// chunks come.
    ///
    /// # Errors
    /// When lists differ in length.
    pub fn update_numbers(
        &mut self,
        columns: &[Values<'_>],
        train: Option<&BooleanBuffer>,
    ) -> Result<()> {
        let mut scratch = vec![];
        for ((values, (name, _, kind)), own) in
            columns.iter().zip(self.inputs.iter()).zip(&mut self.columns)
        {
            match (own, values) {
                (ColumnStatistics::Numbers(moments), Values::Array(array)) => {
                    if *kind == Kind::Number
                        && train.is_none()
                        && array.null_count() == 0
                        && let Some(floats) = array.as_primitive_opt::<Float32Type>()
                    {
                        scratch.clear();
                        scratch.extend(floats.values().iter().map(|value| f64::from(*value)));
                        moments.merge(&Moments::of(&scratch));
                        continue;
                    }
                    let numbers = match kind {
                        Kind::Timestamp => unix_seconds(array)?,
                        _ => numbers(name, array)?,
                    };
                    moments.merge(&Moments::of(taken(&numbers, train, &mut scratch)));
                }
                (ColumnStatistics::Vectors { elements, nulls, .. }, Values::Array(array)) => {
                    update_vectors(name, elements, nulls, array, train)?;
                }
                (ColumnStatistics::Categories { .. }, Values::Codes(_)) => {}
                _ => return exec_err!("column {name} came in another form than its type says"),
            }
        }
        Ok(())
    }

    /// [`Statistics::update`] of categories alone, in whatever order chunks come.
    pub fn update_categories(&mut self, columns: &[Values<'_>], train: Option<&BooleanBuffer>) {
        for (values, own) in columns.iter().zip(&mut self.columns) {
            if let (ColumnStatistics::Categories { counts, nulls }, Values::Codes(codes)) =
                (own, values)
            {
                count_codes(codes, train, counts, nulls);
            }
        }
    }

    /// Takes in the statistics of other rows, which come after these.
    ///
    /// # Errors
    /// When lists differ in length.
    pub fn merge(&mut self, other: &Statistics) -> Result<()> {
        for ((own, other), (name, _, _)) in
            self.columns.iter_mut().zip(&other.columns).zip(self.inputs.iter())
        {
            match (own, other) {
                (ColumnStatistics::Numbers(a), ColumnStatistics::Numbers(b)) => a.merge(b),
                (
                    ColumnStatistics::Categories { counts, nulls },
                    ColumnStatistics::Categories { counts: more, nulls: more_nulls },
                ) => {
                    if counts.len() < more.len() {
                        counts.resize(more.len(), 0);
                    }
                    counts.iter_mut().zip(more).for_each(|(a, b)| *a += b);
                    *nulls += more_nulls;
                }
                (
                    ColumnStatistics::Vectors { elements, nulls, .. },
                    ColumnStatistics::Vectors { elements: more, nulls: more_nulls, .. },
                ) => {
                    *nulls += more_nulls;
                    merge_elements(name, elements, more.as_deref())?;
                }
                _ => return exec_err!("statistics of other columns cannot be merged"),
            }
        }
        Ok(())
    }

    /// The encoder that these statistics make; `interners` give the texts behind the codes of
    /// category columns, by column.
    ///
    /// # Errors
    /// When a category column has no interner.
    pub fn finish(&self, interners: &[Option<&Interner>]) -> Result<Encoder> {
        let mut features = vec![];
        for (i, ((name, data_type, kind), column)) in
            self.inputs.iter().zip(&self.columns).enumerate()
        {
            let (kind, null_count) = match (column, kind) {
                (ColumnStatistics::Numbers(m), Kind::Boolean) => {
                    (FeatureKind::Boolean(m.scale(self.standardize)), m.nulls)
                }
                (ColumnStatistics::Numbers(m), Kind::Timestamp) => {
                    // Seconds since 1970 are no scale to learn on, so it is always standardised.
                    (FeatureKind::Timestamp(m.scale(true)), m.nulls)
                }
                (ColumnStatistics::Numbers(m), _) => {
                    (FeatureKind::Number(m.scale(self.standardize)), m.nulls)
                }
                (ColumnStatistics::Categories { counts, nulls }, _) => {
                    let Some(Some(interner)) = interners.get(i) else {
                        return exec_err!("column {name} has no interner");
                    };
                    let mut texts = vec![];
                    texts.extend((*nulls > 0).then_some(None));
                    let is_met =
                        |code: &&u32| counts.get(**code as usize).is_some_and(|count| *count > 0);
                    let met = interner.sorted().iter().filter(is_met);
                    texts.extend(met.map(|code| interner.value(*code).map(str::to_owned)));
                    (FeatureKind::Category(texts), *nulls)
                }
                (ColumnStatistics::Vectors { elements, nulls, bytes }, _) => {
                    let Some(elements) = elements else {
                        return exec_err!("column {name} has no list that is not NULL");
                    };
                    // 255 of images; small counts in bytes get the whole range too.
                    let most = elements.iter().map(|m| m.max).fold(1.0, f64::max);
                    let scales = elements.iter().map(|m| {
                        // NULL lists count like NULL numbers, at the mean.
                        let m = Moments { nulls: m.nulls + nulls, ..*m };
                        match bytes {
                            true => Scale { center: 0.0, stddev: most, ..m.scale(false) },
                            false => m.scale(self.standardize),
                        }
                    });
                    (FeatureKind::Vector(scales.collect()), *nulls)
                }
            };
            features.push(Feature {
                name: name.clone(),
                data_type: data_type.clone(),
                kind,
                null_count,
            });
        }
        Encoder::new(features)
    }
}

/// The values of the rows that `train` marks, NULL as NaN; in `scratch` unless they are all.
fn taken<'a>(
    values: &'a Float64Array,
    train: Option<&BooleanBuffer>,
    scratch: &'a mut Vec<f64>,
) -> &'a [f64] {
    let all = values.values();
    if values.null_count() == 0 && train.is_none() {
        return all;
    }
    scratch.clear();
    let value = |row: usize| if values.is_valid(row) { all[row] } else { f64::NAN };
    match train {
        Some(train) if values.null_count() == 0 => {
            train.set_slices().for_each(|(from, to)| scratch.extend_from_slice(&all[from..to]));
        }
        Some(train) => scratch.extend(train.set_indices().map(value)),
        None => scratch.extend((0..all.len()).map(value)),
    }
    scratch
}

fn count_codes(
    codes: &UInt32Array,
    train: Option<&BooleanBuffer>,
    counts: &mut Vec<u64>,
    nulls: &mut u64,
) {
    let mut count = |row: usize| {
        if codes.is_null(row) {
            *nulls += 1;
            return;
        }
        let code = codes.value(row) as usize;
        if counts.len() <= code {
            counts.resize(code + 1, 0);
        }
        counts[code] += 1;
    };
    match train {
        Some(train) => train.set_indices().for_each(count),
        None => (0..codes.len()).for_each(&mut count),
    }
}

fn update_vectors(
    name: &str,
    elements: &mut Option<Vec<Moments>>,
    nulls: &mut u64,
    array: &ArrayRef,
    train: Option<&BooleanBuffer>,
) -> Result<()> {
    let (values, starts, length) = vectors(name, array)?;
    let is_taken = |row: usize| train.is_none_or(|train| train.value(row));
    let own = starts.iter().enumerate().filter(|(row, _)| is_taken(*row));
    let begins: Vec<usize> = own.clone().filter_map(|(_, start)| *start).collect();
    *nulls += own.filter(|(_, start)| start.is_none()).count() as u64;
    let Some(n) = length else { return Ok(()) };
    let moments = match values.data_type() {
        DataType::UInt8 if values.null_count() == 0 => {
            element_moments(values.as_primitive::<UInt8Type>().values(), &begins, n)
        }
        DataType::Float32 if values.null_count() == 0 => {
            element_moments(values.as_primitive::<Float32Type>().values(), &begins, n)
        }
        _ => {
            let values = numbers(name, &values)?;
            element_moments(taken(&values, None, &mut vec![]), &begins, n)
        }
    };
    merge_elements(name, elements, Some(&moments))
}

/// The moments of each of the `n` elements of rows that begin at these values. Rows go by as they lie
/// in memory: first for the sums, then for the squared deviations.
fn element_moments<T: Copy + Into<f64>>(values: &[T], begins: &[usize], n: usize) -> Vec<Moments> {
    let (mut count, mut nulls) = (vec![0u64; n], vec![0u64; n]);
    let (mut mean, mut squares) = (vec![0.0; n], vec![0.0; n]);
    let (mut min, mut max) = (vec![f64::INFINITY; n], vec![f64::NEG_INFINITY; n]);
    vectorized(
        #[inline(always)]
        || {
            let (count, nulls, mean) = (&mut count[..n], &mut nulls[..n], &mut mean[..n]);
            let (min, max) = (&mut min[..n], &mut max[..n]);
            for begin in begins {
                let row = &values[*begin..begin + n];
                for i in 0..n {
                    let v: f64 = row[i].into();
                    let finite = v.abs() < f64::INFINITY;
                    count[i] += u64::from(finite);
                    nulls[i] += u64::from(!finite);
                    mean[i] += if finite { v } else { 0.0 };
                    min[i] = if finite & (v < min[i]) { v } else { min[i] };
                    max[i] = if finite & (v > max[i]) { v } else { max[i] };
                }
            }
        },
    );
    mean.iter_mut().zip(&count).for_each(|(mean, count)| *mean /= (*count).max(1) as f64);
    vectorized(
        #[inline(always)]
        || {
            let (mean, squares) = (&mean[..n], &mut squares[..n]);
            for begin in begins {
                let row = &values[*begin..begin + n];
                for i in 0..n {
                    let v: f64 = row[i].into();
                    let deviation = v - mean[i];
                    let finite = v.abs() < f64::INFINITY;
                    squares[i] += if finite { deviation * deviation } else { 0.0 };
                }
            }
        },
    );
    let moments = |i: usize| Moments {
        count: count[i],
        nulls: nulls[i],
        mean: mean[i],
        squares: squares[i],
        min: min[i],
        max: max[i],
    };
    (0..n).map(moments).collect()
}

fn merge_elements(
    name: &str,
    own: &mut Option<Vec<Moments>>,
    more: Option<&[Moments]>,
) -> Result<()> {
    let Some(more) = more else { return Ok(()) };
    let own = own.get_or_insert_with(|| vec![Moments::default(); more.len()]);
    if own.len() != more.len() {
        return exec_err!(
            "the lists of column {name} must have one length, but some have {} and some {} \
             elements",
            own.len(),
            more.len()
        );
    }
    own.iter_mut().zip(more).for_each(|(a, b)| a.merge(b));
    Ok(())
}
