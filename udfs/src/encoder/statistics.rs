//! Mergeable statistics of columns over training rows, from which an encoder is made.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Float32Type};
use datafusion_common::{Result, exec_err};

use super::apply::{numbers, unix_seconds};
use super::bytes::ByteStatistics;
use super::moments::{Moments, element_moments};
use super::vectors::{different_lengths, vectors};
use super::{Categories, Encoder, Feature, FeatureKind, InputKind, Interner, item_type};
use crate::parallel::{ParallelFor, Sequential};

/// Number of categories of all columns from which on they are written on many cores.
const MANY_TEXTS: usize = 1 << 14;

/// Statistics of one column.
#[derive(Clone, Debug, PartialEq)]
enum ColumnStatistics {
    Numbers(Moments),
    /// Which provisional codes occur, and the number of NULLs.
    Categories {
        met: Vec<bool>,
        nulls: u64,
    },
    /// One per element; the length is known from the first list on.
    Vectors {
        elements: Option<Vec<Moments>>,
        nulls: u64,
    },
    /// Vectors of `uint8`.
    Bytes(ByteStatistics),
}

/// Statistics of the feature columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    inputs: Arc<[(String, DataType, InputKind)]>,
    columns: Vec<ColumnStatistics>,
    standardize: bool,
}

/// A column for the statistics.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers, booleans, timestamps or vectors.
    Array(&'a ArrayRef),
    /// A category column by the provisional codes of an interner.
    Codes(&'a UInt32Array),
}

impl Statistics {
    /// Statistics of no rows. `inputs` are flattened columns.
    ///
    /// # Errors
    /// When a type cannot be a feature.
    pub fn new(inputs: &[(String, DataType)], standardize: bool) -> Result<Self> {
        let mut columns = vec![];
        let mut kinds = vec![];
        for (name, data_type) in inputs {
            let kind = InputKind::of(name, data_type)?;
            columns.push(match kind {
                InputKind::Number | InputKind::Boolean | InputKind::Timestamp => {
                    ColumnStatistics::Numbers(Moments::default())
                }
                InputKind::Category => ColumnStatistics::Categories { met: vec![], nulls: 0 },
                InputKind::Vector => match item_type(data_type) == Some(&DataType::UInt8) {
                    true => ColumnStatistics::Bytes(ByteStatistics::default()),
                    false => ColumnStatistics::Vectors { elements: None, nulls: 0 },
                },
            });
            kinds.push((name.clone(), data_type.clone(), kind));
        }
        Ok(Self { inputs: kinds.into(), columns, standardize })
    }

    /// Adds the rows of a chunk that `train` marks (all rows if it is None).
    ///
    /// # Errors
    /// When lists differ in length.
    pub fn update(&mut self, columns: &[Values<'_>], train: Option<&BooleanBuffer>) -> Result<()> {
        self.update_numbers(columns, train)?;
        self.update_categories(columns, train);
        Ok(())
    }

    /// [`Statistics::update`] for numbers and vectors only, whose sums depend on the order of
    /// chunks.
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
                    if let (Some(floats), None) = (array.as_primitive_opt::<Float32Type>(), train)
                        && floats.null_count() == 0
                    {
                        // The common case, without a copy.
                        moments.merge(&Moments::of(floats.values()));
                        continue;
                    }
                    let numbers = match kind {
                        InputKind::Timestamp => unix_seconds(array)?,
                        _ => numbers(name, array)?,
                    };
                    moments.merge(&Moments::of(taken(&numbers, train, &mut scratch)));
                }
                (ColumnStatistics::Vectors { elements, nulls }, Values::Array(array)) => {
                    update_vectors(name, elements, nulls, array, train)?;
                }
                (ColumnStatistics::Bytes(own), Values::Array(array)) => {
                    own.update(name, array, train)?;
                }
                (ColumnStatistics::Categories { .. }, Values::Codes(_)) => {}
                _ => return exec_err!("column {name} came in another form than its type says"),
            }
        }
        Ok(())
    }

    /// [`Statistics::update`] for categories only, which may be called for chunks in any order.
    pub fn update_categories(&mut self, columns: &[Values<'_>], train: Option<&BooleanBuffer>) {
        for (values, own) in columns.iter().zip(&mut self.columns) {
            if let (ColumnStatistics::Categories { met, nulls }, Values::Codes(codes)) =
                (own, values)
            {
                meet_codes(codes, train, met, nulls);
            }
        }
    }

    /// Adds the statistics of other rows, which come after these.
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
                    ColumnStatistics::Categories { met, nulls },
                    ColumnStatistics::Categories { met: more, nulls: more_nulls },
                ) => {
                    if met.len() < more.len() {
                        met.resize(more.len(), false);
                    }
                    met.iter_mut().zip(more).for_each(|(a, b)| *a |= b);
                    *nulls += more_nulls;
                }
                (
                    ColumnStatistics::Vectors { elements, nulls },
                    ColumnStatistics::Vectors { elements: more, nulls: more_nulls },
                ) => {
                    *nulls += more_nulls;
                    merge_elements(name, elements, more.as_deref())?;
                }
                (ColumnStatistics::Bytes(own), ColumnStatistics::Bytes(more)) => {
                    own.merge(name, more)?;
                }
                _ => return exec_err!("statistics of other columns cannot be merged"),
            }
        }
        Ok(())
    }

    /// The encoder of these statistics; `interners` give the texts of the codes of category
    /// columns, by column.
    ///
    /// # Errors
    /// When a category column has no interner.
    pub fn finish(&self, interners: &[Option<&Interner>]) -> Result<Encoder> {
        self.finish_on(interners, &Sequential)
    }

    /// The same on many cores, if there are many categories.
    ///
    /// # Errors
    /// When a category column has no interner.
    pub fn finish_on(
        &self,
        interners: &[Option<&Interner>],
        pool: &dyn ParallelFor,
    ) -> Result<Encoder> {
        let texts: usize = interners.iter().flatten().map(|interner| interner.count()).sum();
        let feature =
            |column: usize| self.feature(column, interners.get(column).copied().flatten());
        let features: Vec<Mutex<Option<Result<Feature>>>> =
            self.columns.iter().map(|_| Mutex::default()).collect();
        let pool: &dyn ParallelFor = if texts < MANY_TEXTS { &Sequential } else { pool };
        pool.run(features.len(), &|column| {
            let own = Some(feature(column));
            *features[column].lock().unwrap_or_else(PoisonError::into_inner) = own;
        });
        let features = features.into_iter().enumerate().map(|(column, own)| {
            let own = own.into_inner().unwrap_or_else(PoisonError::into_inner);
            own.unwrap_or_else(|| feature(column))
        });
        Encoder::with(features.collect::<Result<_>>()?, true)
    }

    fn feature(&self, column: usize, interner: Option<&Interner>) -> Result<Feature> {
        let (name, data_type, kind) = &self.inputs[column];
        let (kind, null_count) = match (&self.columns[column], kind) {
            (ColumnStatistics::Numbers(m), InputKind::Boolean) => {
                (FeatureKind::Boolean(m.scale(self.standardize)), m.nulls)
            }
            (ColumnStatistics::Numbers(m), InputKind::Timestamp) => {
                // Seconds since 1970 have no useful scale for learning, so they are always
                // standardised.
                (FeatureKind::Timestamp(m.scale(true)), m.nulls)
            }
            (ColumnStatistics::Numbers(m), _) => {
                (FeatureKind::Number(m.scale(self.standardize)), m.nulls)
            }
            (ColumnStatistics::Categories { met, nulls }, _) => {
                let Some(interner) = interner else {
                    return exec_err!("column {name} has no interner");
                };
                let is_met = |code: &&u32| met.get(**code as usize).is_some_and(|met| *met);
                let codes = interner.sorted().iter().filter(is_met);
                let texts = codes.filter_map(|code| interner.value(*code));
                let Some(categories) = Categories::copied(*nulls > 0, texts) else {
                    return exec_err!(
                        "the different texts of column {name} have more than {} bytes together",
                        i32::MAX
                    );
                };
                (FeatureKind::Category(categories), *nulls)
            }
            (ColumnStatistics::Vectors { elements, nulls }, _) => {
                let Some(elements) = elements else {
                    return exec_err!("column {name} has no list that is not NULL");
                };
                // NULL lists count as NULL numbers do, at the mean.
                let scales = elements
                    .iter()
                    .map(|m| Moments { nulls: m.nulls + nulls, ..*m }.scale(self.standardize));
                (FeatureKind::Vector(scales.collect()), *nulls)
            }
            (ColumnStatistics::Bytes(own), _) => {
                let Some(scale) = own.scale() else {
                    return exec_err!("column {name} has no list that is not NULL");
                };
                (FeatureKind::Bytes(scale), own.nulls)
            }
        };
        Ok(Feature { name: name.clone(), data_type: data_type.clone(), kind, null_count })
    }
}

/// The values of the rows that `train` marks, NULL as NaN; copied to `scratch` unless all are used.
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

fn meet_codes(
    codes: &UInt32Array,
    train: Option<&BooleanBuffer>,
    met: &mut Vec<bool>,
    nulls: &mut u64,
) {
    let values = codes.values();
    if train.is_none() && codes.null_count() == 0 {
        let most = values.iter().fold(0, |most, code| most.max(*code)) as usize;
        if met.len() <= most && !values.is_empty() {
            met.resize(most + 1, false);
        }
        values.iter().for_each(|code| met[*code as usize] = true);
        return;
    }
    let mut meet = |row: usize| {
        if codes.is_null(row) {
            *nulls += 1;
            return;
        }
        let code = values[row] as usize;
        if met.len() <= code {
            met.resize(code + 1, false);
        }
        met[code] = true;
    };
    match train {
        Some(train) => train.set_indices().for_each(meet),
        None => (0..codes.len()).for_each(&mut meet),
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

fn merge_elements(
    name: &str,
    own: &mut Option<Vec<Moments>>,
    more: Option<&[Moments]>,
) -> Result<()> {
    let Some(more) = more else { return Ok(()) };
    let own = own.get_or_insert_with(|| vec![Moments::default(); more.len()]);
    if own.len() != more.len() {
        return Err(different_lengths(name, own.len(), more.len()));
    }
    own.iter_mut().zip(more).for_each(|(a, b)| a.merge(b));
    Ok(())
}
