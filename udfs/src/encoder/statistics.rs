//! Statistics of columns over training rows, mergeable, from which an encoder is made.

use arrow::array::{Array, ArrayRef, Float64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};

use super::apply::{numbers, unix_seconds, vectors};
use super::{Encoder, Feature, FeatureKind, Interner, Kind, Scale};

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
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let mut m = Moments::default();
        let mut sum = 0.0;
        for value in values.clone() {
            if value.is_finite() {
                m.count += 1;
                sum += value;
                m.min = m.min.min(value);
                m.max = m.max.max(value);
            } else {
                m.nulls += 1;
            }
        }
        if m.count > 0 {
            m.mean = sum / m.count as f64;
            m.squares = values.filter(|v| v.is_finite()).map(|v| (v - m.mean) * (v - m.mean)).sum();
        }
        m
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
    inputs: Vec<(String, DataType, Kind)>,
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
        Ok(Self { inputs: kinds, columns, standardize })
    }

    /// Takes in the rows of a chunk that `train` marks (all without).
    ///
    /// # Errors
    /// When lists differ in length.
    pub fn update(&mut self, columns: &[Values<'_>], train: Option<&BooleanBuffer>) -> Result<()> {
        for ((values, (name, _, kind)), own) in
            columns.iter().zip(&self.inputs).zip(&mut self.columns)
        {
            match (own, values) {
                (ColumnStatistics::Numbers(moments), Values::Array(array)) => {
                    let numbers = match kind {
                        Kind::Timestamp => unix_seconds(array)?,
                        _ => numbers(name, array)?,
                    };
                    moments.merge(&Moments::of(taken(&numbers, train)));
                }
                (ColumnStatistics::Categories { counts, nulls }, Values::Codes(codes)) => {
                    for (row, code) in codes.iter().enumerate() {
                        if train.is_some_and(|train| !train.value(row)) {
                            continue;
                        }
                        match code {
                            Some(code) => {
                                let code = code as usize;
                                if counts.len() <= code {
                                    counts.resize(code + 1, 0);
                                }
                                counts[code] += 1;
                            }
                            None => *nulls += 1,
                        }
                    }
                }
                (ColumnStatistics::Vectors { elements, nulls, .. }, Values::Array(array)) => {
                    update_vectors(name, elements, nulls, array, train)?;
                }
                _ => return exec_err!("column {name} came in another form than its type says"),
            }
        }
        Ok(())
    }

    /// Takes in the statistics of other rows, which come after these.
    ///
    /// # Errors
    /// When lists differ in length.
    pub fn merge(&mut self, other: &Statistics) -> Result<()> {
        for ((own, other), (name, _, _)) in
            self.columns.iter_mut().zip(&other.columns).zip(&self.inputs)
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
                    let mut texts: Vec<Option<String>> = interner
                        .values()
                        .zip(counts)
                        .filter(|(_, count)| **count > 0)
                        .map(|(text, _)| Some(text.to_owned()))
                        .collect();
                    texts.sort_unstable();
                    if *nulls > 0 {
                        texts.insert(0, None);
                    }
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

/// The values of the rows that `train` marks, NULL as NaN.
fn taken<'a>(
    values: &'a Float64Array,
    train: Option<&'a BooleanBuffer>,
) -> impl Iterator<Item = f64> + Clone + 'a {
    (0..values.len())
        .filter(move |row| train.is_none_or(|train| train.value(*row)))
        .map(move |row| if values.is_valid(row) { values.value(row) } else { f64::NAN })
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
    let values = numbers(name, &values)?;
    // Rows outermost, as they lie in memory: first sums, then squared deviations.
    let mut chunk = vec![Moments::default(); n];
    let at = |i: usize| if values.is_valid(i) { values.value(i) } else { f64::NAN };
    for begin in &begins {
        for (i, m) in chunk.iter_mut().enumerate() {
            let value = at(begin + i);
            if value.is_finite() {
                m.count += 1;
                m.mean += value;
                m.min = m.min.min(value);
                m.max = m.max.max(value);
            } else {
                m.nulls += 1;
            }
        }
    }
    chunk.iter_mut().for_each(|m| m.mean /= m.count.max(1) as f64);
    for begin in &begins {
        for (i, m) in chunk.iter_mut().enumerate() {
            let value = at(begin + i);
            if value.is_finite() {
                m.squares += (value - m.mean) * (value - m.mean);
            }
        }
    }
    merge_elements(name, elements, Some(&chunk))
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
