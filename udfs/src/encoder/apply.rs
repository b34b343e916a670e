//! Applies an encoder to columns: what training and PREDICT both run.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float32Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, UInt8Type,
};
use datafusion_common::{Result, exec_err};

use super::columns::{Numbers, encode_numbers};
use super::interner::for_each_text;
use super::vectors::Vectors;
use super::{Categories, CodeMap, Encoder, Feature, FeatureKind, Lookup, Scale};
use crate::batch::{NO_CATEGORY, RowsMut};

/// A column to encode.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// An array of the query.
    Array(&'a ArrayRef),
    /// A category column as provisional codes.
    Codes {
        /// Codes of an interner; NULL is NULL.
        codes: &'a UInt32Array,
        /// The encoder's codes for them.
        map: &'a CodeMap,
    },
}

impl Encoder {
    /// Encodes `rows` rows: `columns` in the order of the features, into `dense[rows, d]` and
    /// `codes[rows, c]`, row-major, of [`Encoder::width`].
    ///
    /// # Errors
    /// When a column does not have a type that its feature accepts, or a list has another length.
    pub fn encode(
        &self,
        columns: &[Column<'_>],
        rows: usize,
        dense: &mut [f32],
        codes: &mut [u32],
    ) -> Result<()> {
        self.encode_into(columns, rows, Target { dense, bytes: None, codes })
    }

    /// The same for rows whose bytes stay bytes: the width of [`Encoder::schema`].
    ///
    /// # Errors
    /// Those of [`Encoder::encode`], and where a value of such a column is no byte.
    pub fn encode_stored(
        &self,
        columns: &[Column<'_>],
        rows: usize,
        to: &mut RowsMut<'_>,
    ) -> Result<()> {
        let RowsMut { dense, bytes, codes, .. } = to;
        self.encode_into(columns, rows, Target { dense, bytes: Some(bytes), codes })
    }

    fn encode_into(&self, columns: &[Column<'_>], rows: usize, to: Target<'_>) -> Result<()> {
        let Target { dense, mut bytes, codes } = to;
        if columns.len() != self.features.len() {
            return exec_err!(
                "{} columns were given to an encoder of {}",
                columns.len(),
                self.features.len()
            );
        }
        let (width, places) = match &bytes {
            None => (self.width(), &self.places),
            Some(_) => (self.schema.width(), &self.stored),
        };
        let (d, c) = (width.dense, width.columns);
        let mut scaled = vec![];
        for (i, (feature, column)) in self.features.iter().zip(columns).enumerate() {
            let place = places[i];
            match (&feature.kind, column) {
                (FeatureKind::Category(_), Column::Codes { codes: own, map }) => {
                    let place = self.places[i];
                    for (out, code) in codes.iter_mut().skip(place).step_by(c).zip(own.iter()) {
                        *out = match code {
                            Some(code) => map.codes[code as usize],
                            None => map.null,
                        };
                    }
                }
                (FeatureKind::Category(_), Column::Array(array)) => {
                    if let Some((lookup, categories)) = self.lookup(i) {
                        let out = codes.iter_mut().skip(self.places[i]).step_by(c);
                        encode_categories((lookup, categories), array, out)?;
                    }
                }
                (FeatureKind::Vector(scales), Column::Array(array)) => {
                    encode_vectors(feature, scales, array, &mut dense[place..], d)?;
                }
                (FeatureKind::Bytes(scale), Column::Array(array)) => {
                    let vectors = Vectors::new(&feature.name, array, scale.length)?;
                    match &mut bytes {
                        None => vectors.decoded(scale, &mut dense[place..], d)?,
                        Some(bytes) => vectors.stored(scale, &mut bytes[place..], width.bytes)?,
                    }
                }
                (
                    FeatureKind::Number(scale) | FeatureKind::Boolean(scale),
                    Column::Array(array),
                ) => scaled.push((place, scale, Numbers::new(&feature.name, array)?)),
                (FeatureKind::Timestamp(scale), Column::Array(array)) => {
                    let seconds = unix_seconds(array)?;
                    let out = dense[place..].chunks_mut(d).take(rows);
                    encode_timestamps(scale, &seconds, out);
                }
                (_, Column::Codes { .. }) => {
                    return exec_err!("column {} is no category", feature.name);
                }
            }
        }
        encode_numbers(&scaled, rows, dense, d);
        Ok(())
    }
}

/// What is encoded into: all inputs as numbers, or bytes as bytes where there is a slice for them.
struct Target<'a> {
    dense: &'a mut [f32],
    bytes: Option<&'a mut [u8]>,
    codes: &'a mut [u32],
}

/// A column of numbers, decimals or booleans as float64.
pub(super) fn numbers(name: &str, array: &ArrayRef) -> Result<Float64Array> {
    // Arrow's cast would check each value of these common types for overflow, which cannot occur.
    Ok(match array.data_type() {
        DataType::Float64 => array.as_primitive().clone(),
        DataType::Float32 => array.as_primitive::<Float32Type>().unary(f64::from),
        DataType::Int8 => array.as_primitive::<Int8Type>().unary(f64::from),
        DataType::Int16 => array.as_primitive::<Int16Type>().unary(f64::from),
        DataType::Int32 => array.as_primitive::<Int32Type>().unary(f64::from),
        DataType::Int64 => array.as_primitive::<Int64Type>().unary(|value| value as f64),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().unary(f64::from),
        _ => match cast(array, &DataType::Float64) {
            Ok(values) => values.as_primitive().clone(),
            Err(_) => {
                return exec_err!("column {name} is {}, which is no number", array.data_type());
            }
        },
    })
}

/// A column of timestamps as seconds since the epoch.
pub(super) fn unix_seconds(array: &ArrayRef) -> Result<Float64Array> {
    let unit = match array.data_type() {
        DataType::Timestamp(unit, _) => *unit,
        DataType::Dictionary(_, value) => {
            let plain = cast(array, value)?;
            return unix_seconds(&plain);
        }
        _ => TimeUnit::Second,
    };
    let per_second: i64 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let ticks = cast(array, &DataType::Int64)?;
    let ticks = ticks.as_primitive::<Int64Type>();
    // Whole seconds are converted separately: nanoseconds since 1970 exceed the exact range of
    // float64, and the same instant must be the same number in every unit.
    let seconds = |t: i64| {
        t.div_euclid(per_second) as f64 + t.rem_euclid(per_second) as f64 / per_second as f64
    };
    Ok(ticks.unary(seconds))
}

/// Seconds of a day, a week, an average Gregorian year.
const DAY: f64 = 86_400.0;

fn encode_timestamps<'a>(
    scale: &Scale,
    seconds: &Float64Array,
    out: impl Iterator<Item = &'a mut [f32]>,
) {
    for (out, value) in out.zip(seconds.iter()) {
        let [time, rest @ ..] = out else { return };
        *time = scale.encode(value.unwrap_or(scale.mean));
        for (out, cycle) in rest.iter_mut().zip(cycles(value)) {
            *out = cycle;
        }
    }
}

/// Sine and cosine of hour, weekday and month of an instant in seconds since the epoch.
pub(super) fn cycles(seconds: Option<f64>) -> [f32; 6] {
    // The middle of the circle has the same distance from every time of day.
    let Some(s) = seconds else { return [0.0; 6] };
    let days = (s / DAY).floor();
    let hour = ((s - days * DAY) / 3600.0).floor() / 24.0;
    // The epoch was a Thursday; Monday is 0.
    let weekday = (days + 3.0).rem_euclid(7.0) / 7.0;
    let month = f64::from(month_of(days as i64)) / 12.0;
    let mut cycles = [0.0; 6];
    for (pair, phase) in cycles.chunks_exact_mut(2).zip([hour, weekday, month]) {
        let (sin, cos) = (std::f64::consts::TAU * phase).sin_cos();
        (pair[0], pair[1]) = (sin as f32, cos as f32);
    }
    cycles
}

/// The month (0 to 11) of a day since the epoch in the Gregorian calendar (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn month_of(days: i64) -> u32 {
    let day_of_era = (days + 719_468).rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    ((from_march + 2) % 12) as u32
}

fn encode_categories<'a>(
    (lookup, categories): (&Lookup, &Categories),
    array: &ArrayRef,
    mut out: impl Iterator<Item = &'a mut u32>,
) -> Result<()> {
    let mut put = |code: u32| {
        if let Some(out) = out.next() {
            *out = code;
        }
    };
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        if dictionary.values().is_empty() {
            (0..array.len()).for_each(|_| put(lookup.null));
            return Ok(());
        }
        let mut known = vec![NO_CATEGORY; dictionary.values().len()];
        let mut next = known.iter_mut();
        for_each_text(dictionary.values(), |text| {
            if let Some(code) = next.next() {
                *code = text.map_or(lookup.null, |text| lookup.find(categories, text));
            }
        })?;
        for (row, key) in dictionary.normalized_keys().into_iter().enumerate() {
            let is_null = dictionary.keys().is_null(row);
            put(if is_null { lookup.null } else { known[key] });
        }
        return Ok(());
    }
    for_each_text(array, |text| put(text.map_or(lookup.null, |text| lookup.find(categories, text))))
}

fn encode_vectors(
    feature: &Feature,
    scales: &[Scale],
    array: &ArrayRef,
    out: &mut [f32],
    d: usize,
) -> Result<()> {
    let n = scales.len();
    let vectors = Vectors::new(&feature.name, array, n)?;
    let values = numbers(&feature.name, &vectors.values)?;
    for (out, start) in out.chunks_mut(d).zip(&vectors.starts) {
        let Some(start) = start else {
            means(scales, &mut out[..n]);
            continue;
        };
        for (i, (out, scale)) in out[..n].iter_mut().zip(scales).enumerate() {
            let at = start + i;
            let value = if values.is_valid(at) { values.value(at) } else { f64::NAN };
            *out = scale.encode(if value.is_finite() { value } else { scale.mean });
        }
    }
    Ok(())
}

fn means(scales: &[Scale], out: &mut [f32]) {
    for (out, scale) in out.iter_mut().zip(scales) {
        *out = scale.encode(scale.mean);
    }
}
