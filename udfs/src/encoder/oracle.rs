//! Encoders against scikit-learn, on columns of every kind that `tests/oracle/encoder.py` wrote,
//! and the laws that statistics and row hashes obey.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    FixedSizeListArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
    TimestampMicrosecondArray, UInt8Array, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{Field, Fields, Int8Type, TimeUnit};
use serde::Deserialize;

use super::*;
use crate::batch::NO_CATEGORY;

/// The file of `encoder.py`.
#[derive(Deserialize)]
struct Oracle {
    train: usize,
    columns: HashMap<String, Vec<Option<f64>>>,
    flag: Vec<Option<bool>>,
    vector: Vec<Vec<Option<f64>>>,
    vector_null: Vec<bool>,
    struct_null: Vec<bool>,
    micros: Vec<Option<i64>>,
    text: Vec<Option<String>>,
    full: Vec<Option<String>>,
    day: Vec<Option<i32>>,
    expected: HashMap<String, Vec<f64>>,
    parts: Vec<[f64; 6]>,
    scales: HashMap<String, [f64; 2]>,
    codes: HashMap<String, Vec<i64>>,
    categories: HashMap<String, Vec<Option<String>>>,
}

fn oracle() -> Oracle {
    let text = include_str!("../../tests/oracle/encoder.json");
    serde_json::from_str(text).expect("encoder.py wrote it")
}

/// A missing number is NULL, NaN or an infinity, in turn.
fn missing(row: usize) -> Option<f64> {
    [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)][row % 4]
}

fn list_field() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

impl Oracle {
    fn number(&self, name: &str) -> Vec<Option<f64>> {
        let values = self.columns[name].iter().enumerate();
        values.map(|(row, value)| value.or_else(|| missing(row))).collect()
    }

    fn floats(&self, name: &str) -> ArrayRef {
        Arc::new(Float64Array::from(self.number(name)))
    }

    /// The columns as a query gives them, the last one a struct in a struct.
    fn columns(&self) -> (Fields, Vec<ArrayRef>) {
        let integers = self.columns["integer"].iter().map(|v| v.map(|v| v as i32));
        let cents = self.columns["cents"].iter().map(|v| v.map(|v| v as i128));
        let cents: Decimal128Array = cents.collect();
        // The elements of a row, row after row; elements of a NULL list do not count.
        let elements = (0..3 * self.flag.len())
            .map(|i| self.vector[i % 3][i / 3].or_else(|| missing(i)))
            .collect::<Float64Array>();
        let is_list = NullBuffer::from_iter(self.vector_null.iter().map(|null| !null));
        let vector = FixedSizeListArray::new(list_field(), 3, Arc::new(elements), Some(is_list));
        let time = TimestampMicrosecondArray::from(self.micros.clone());
        let inside = Fields::from(vec![
            Field::new("inner", DataType::Float64, true),
            Field::new("deep", DataType::Utf8, true),
        ]);
        let text: ArrayRef = Arc::new(StringArray::from(self.text.clone()));
        let is_inside = NullBuffer::from_iter(self.struct_null.iter().map(|null| !null));
        let inside_columns = vec![self.floats("inner"), Arc::clone(&text)];
        let inside = StructArray::new(inside, inside_columns, Some(is_inside));
        let outside = Fields::from(vec![Field::new("b", inside.data_type().clone(), true)]);
        let outside = StructArray::new(outside, vec![Arc::new(inside)], None);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", text),
            ("number", self.floats("number")),
            ("offset", self.floats("offset")),
            ("constant", self.floats("constant")),
            ("empty", self.floats("empty")),
            ("integer", Arc::new(integers.collect::<Int32Array>())),
            ("cents", Arc::new(cents.with_precision_and_scale(10, 2).unwrap())),
            ("full", Arc::new(StringArray::from(self.full.clone()))),
            ("flag", Arc::new(BooleanArray::from(self.flag.clone()))),
            ("vector", Arc::new(vector)),
            ("time", Arc::new(time)),
            ("day", Arc::new(Date32Array::from(self.day.clone()))),
            ("a", Arc::new(outside)),
        ];
        let field =
            |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
        (columns.iter().map(field).collect(), columns.into_iter().map(|(_, a)| a).collect())
    }

    fn table(&self) -> Table {
        let (fields, columns) = self.columns();
        let inputs = flatten_fields(&fields).unwrap();
        let columns = flatten_columns(&columns, &inputs).unwrap();
        let inputs = inputs.into_iter().map(|input| (input.name, input.data_type)).collect();
        Table::new(inputs, columns)
    }

    fn mask(&self) -> BooleanBuffer {
        (0..self.flag.len()).map(|row| row < self.train).collect()
    }
}

/// Flat columns, category columns also as provisional codes.
struct Table {
    inputs: Vec<(String, DataType)>,
    columns: Vec<ArrayRef>,
    interners: Vec<Option<Interner>>,
    codes: Vec<Option<UInt32Array>>,
}

impl Table {
    fn new(inputs: Vec<(String, DataType)>, columns: Vec<ArrayRef>) -> Self {
        let (mut interners, mut codes) = (vec![], vec![]);
        for ((name, data_type), column) in inputs.iter().zip(&columns) {
            let is_category = InputKind::of(name, data_type).unwrap() == InputKind::Category;
            let mut interner = is_category.then(Interner::default);
            codes.push(interner.as_mut().map(|interner| interner.intern(column).unwrap()));
            interners.push(interner);
        }
        Self { inputs, columns, interners, codes }
    }

    fn rows(&self) -> usize {
        self.columns[0].len()
    }

    fn values(&self) -> Vec<Values<'_>> {
        let pairs = self.columns.iter().zip(&self.codes);
        pairs
            .map(|(array, codes)| codes.as_ref().map_or(Values::Array(array), Values::Codes))
            .collect()
    }

    /// Statistics of the rows `from..to` that are marked.
    fn statistics(&self, from: usize, to: usize, mask: &BooleanBuffer) -> Statistics {
        let mut statistics = Statistics::new(&self.inputs, true).unwrap();
        let n = to - from;
        let columns: Vec<ArrayRef> = self.columns.iter().map(|a| a.slice(from, n)).collect();
        let codes: Vec<_> =
            self.codes.iter().map(|c| c.as_ref().map(|c| c.slice(from, n))).collect();
        let values: Vec<Values<'_>> = columns
            .iter()
            .zip(&codes)
            .map(|(array, codes)| codes.as_ref().map_or(Values::Array(array), Values::Codes))
            .collect();
        statistics.update(&values, Some(&mask.slice(from, n))).unwrap();
        statistics
    }

    fn finish(&self, statistics: &Statistics) -> Encoder {
        let interners: Vec<_> = self.interners.iter().map(Option::as_ref).collect();
        statistics.finish(&interners).unwrap()
    }

    /// Encoded rows, categories from the arrays themselves or from their provisional codes.
    fn encode(&self, encoder: &Encoder, from_codes: bool) -> (Vec<f32>, Vec<u32>) {
        let maps: Vec<Option<CodeMap>> = (self.interners.iter().enumerate())
            .map(|(i, interner)| interner.as_ref().map(|own| encoder.code_map(i, own).unwrap()))
            .collect();
        let columns: Vec<Column<'_>> = (self.columns.iter().zip(&self.codes).zip(&maps))
            .map(|((array, codes), map)| match (codes, map) {
                (Some(codes), Some(map)) if from_codes => Column::Codes { codes, map },
                _ => Column::Array(array),
            })
            .collect();
        let (rows, width) = (self.rows(), encoder.width());
        let mut dense = vec![f32::NAN; rows * width.dense];
        let mut codes = vec![7_000; rows * width.columns];
        encoder.encode(&columns, rows, &mut dense, &mut codes).unwrap();
        (dense, codes)
    }

    fn hashes(&self) -> Vec<u64> {
        let values = self.values();
        let columns: Vec<_> = (self.inputs.iter().zip(values).zip(&self.interners))
            .map(|(((name, _), values), interner)| (name.as_str(), values, interner.as_ref()))
            .collect();
        let mut out = vec![1; self.rows()];
        hash_rows(&columns, &mut out).unwrap();
        out
    }
}

/// The dense inputs in order, as the oracle names them.
const DENSE: [&str; 8] =
    ["number", "offset", "constant", "empty", "integer", "cents", "flag", "vector0"];

#[test]
fn features_are_those_of_scikit_learn() {
    let oracle = oracle();
    let table = oracle.table();
    let encoder = table.finish(&table.statistics(0, table.rows(), &oracle.mask()));
    assert_eq!(
        encoder.width(),
        Width { dense: 8 + 2 + 7 + 1, columns: 4, categories: 7 + 3 + 7 + 7, ..Width::default() }
    );
    for from_codes in [false, true] {
        let (dense, codes) = table.encode(&encoder, from_codes);
        for row in 0..table.rows() {
            let mut truth: Vec<f64> =
                DENSE.iter().map(|name| oracle.expected[*name][row]).collect();
            truth.extend(["vector1", "vector2", "time"].map(|name| oracle.expected[name][row]));
            truth.extend(oracle.parts[row]);
            truth.push(oracle.expected["inner"][row]);
            let own = &dense[row * truth.len()..][..truth.len()];
            for (i, (found, truth)) in own.iter().zip(&truth).enumerate() {
                // For values near 1e9 with a deviation of 1, float64 keeps 7 decimal places.
                let tolerance = if i == 1 { 3e-6 } else { 1e-6 };
                let error = (f64::from(*found) - truth).abs();
                assert!(error < tolerance, "row {row}, input {i}: {found} instead of {truth}");
            }
            let mut offset = 0;
            for (i, name) in ["text", "full", "day", "deep"].into_iter().enumerate() {
                let truth = match oracle.codes[name][row] {
                    -1 => NO_CATEGORY,
                    code => (offset + code) as u32,
                };
                assert_eq!(codes[4 * row + i], truth, "row {row}, {name}");
                offset += oracle.categories[name].len() as i64;
            }
        }
    }
    for feature in encoder.features() {
        let name = feature.name.trim_start_matches("a.b.");
        let near = |name: &str, scale: &Scale| {
            let Some([mean, stddev]) = oracle.scales.get(name) else {
                assert_eq!((name, scale.mean, scale.stddev), ("empty", 0.0, 1.0));
                assert!(scale.min.is_nan() && scale.max.is_nan());
                return;
            };
            // serde_json reads numbers to within a unit in the last place.
            let unit = 2.0 * f64::EPSILON * mean.abs();
            let errors = [scale.mean - mean, scale.stddev - stddev];
            let is_near = errors.iter().all(|e| e.abs() < 1e-12 * stddev + unit);
            assert!(is_near, "{name}: {scale:?} {mean} {stddev}");
            assert_eq!(scale.center, scale.mean);
        };
        match &feature.kind {
            FeatureKind::Number(s) | FeatureKind::Boolean(s) | FeatureKind::Timestamp(s) => {
                near(name, s);
            }
            FeatureKind::Vector(scales) => {
                for (i, s) in scales.iter().enumerate() {
                    near(&format!("vector{i}"), s);
                }
            }
            FeatureKind::Bytes(scale) => panic!("{name}: {scale:?}"),
            FeatureKind::Category(found) => {
                let truth = oracle.categories[name].iter().map(Option::as_deref);
                assert!(found.iter().eq(truth), "{name}: {found:?}");
            }
        }
        if let Some(values) = oracle.columns.get(name).filter(|_| name != "inner") {
            let nulls = values[..oracle.train].iter().filter(|v| v.is_none()).count();
            assert_eq!(feature.null_count, nulls as u64, "{name}");
        }
    }
}

#[test]
fn without_standardisation_numbers_stay_and_missing_ones_are_the_mean() {
    let oracle = oracle();
    let table = oracle.table();
    let mut statistics = Statistics::new(&table.inputs, false).unwrap();
    statistics.update(&table.values(), Some(&oracle.mask())).unwrap();
    let encoder = table.finish(&statistics);
    let (dense, _) = table.encode(&encoder, false);
    let mean = oracle.scales["number"][0];
    for (row, value) in oracle.columns["number"].iter().enumerate() {
        assert_eq!(dense[row * encoder.width().dense], value.unwrap_or(mean) as f32, "{row}");
    }
}

#[test]
fn statistics_of_parts_in_any_order_are_those_of_the_whole() {
    let oracle = oracle();
    let (table, mask) = (oracle.table(), oracle.mask());
    let rows = table.rows();
    let whole = table.finish(&table.statistics(0, rows, &mask));
    let (dense, codes) = table.encode(&whole, true);
    let parts: Vec<Statistics> = [0, 1, 1, 8, 9, 23, 30, 33, rows]
        .windows(2)
        .map(|pair| table.statistics(pair[0], pair[1], &mask))
        .collect();
    // Empty statistics, then all parts starting from each one, forwards and backwards.
    for first in 0..parts.len() {
        for step in [1, parts.len() - 1] {
            let mut sum = Statistics::new(&table.inputs, true).unwrap();
            for i in 0..parts.len() {
                sum.merge(&parts[(first + i * step) % parts.len()]).unwrap();
            }
            let encoder = table.finish(&sum);
            let own = table.encode(&encoder, true);
            assert_eq!(own.1, codes);
            for (found, truth) in own.0.iter().zip(&dense) {
                assert!((found - truth).abs() < 1e-5, "{found} {truth}");
            }
            for (own, whole) in encoder.features().iter().zip(whole.features()) {
                assert_eq!(own.null_count, whole.null_count, "{}", own.name);
                if let (FeatureKind::Number(a), FeatureKind::Number(b)) = (&own.kind, &whole.kind) {
                    assert!((a.mean - b.mean).abs() <= 1e-14 * b.mean.abs(), "{a:?} {b:?}");
                    // The means of parts are rounded.
                    let unit = 2.0 * f64::EPSILON * b.mean.abs();
                    assert!((a.stddev - b.stddev).abs() <= 1e-12 * b.stddev + unit, "{a:?} {b:?}");
                    assert!(a.min == b.min && a.max == b.max || a.min.is_nan() && b.min.is_nan());
                }
            }
        }
    }
    // Empty is the identity, bit for bit. (Compared as text: NaN, the bound of no values, is not
    // equal to itself.)
    let text = format!("{:?}", whole.features());
    let mut sum = Statistics::new(&table.inputs, true).unwrap();
    sum.merge(&table.statistics(0, rows, &mask)).unwrap();
    assert_eq!(format!("{:?}", table.finish(&sum).features()), text);
    sum.merge(&table.statistics(4, 4, &mask)).unwrap();
    assert_eq!(format!("{:?}", table.finish(&sum).features()), text);
}

/// Every representation of the same texts, dates, times and numbers.
fn twins(oracle: &Oracle) -> Vec<Vec<ArrayRef>> {
    let text: ArrayRef = Arc::new(StringArray::from(oracle.text.clone()));
    // A dictionary with a value twice, one NULL and one that no row has.
    let words = ["", "NULL", "ä", "no row", "Zug", "auto", "z z", "never seen", "ä"];
    let values = StringArray::from_iter(words.map(Some).into_iter().chain([None]));
    let key = |(row, text): (usize, &Option<String>)| match text.as_deref() {
        None => (row % 2 == 0).then_some(words.len() as i8),
        Some("ä") if row % 2 == 0 => Some(8),
        Some(text) => words.iter().position(|word| *word == text).map(|i| i as i8),
    };
    let keys = oracle.text.iter().enumerate().map(key).collect();
    let dictionary = DictionaryArray::<Int8Type>::new(keys, Arc::new(values));
    let to = |array: &ArrayRef, data_type: &DataType| cast(array, data_type).unwrap();
    let dictionary_of = |value| DataType::Dictionary(Box::new(DataType::Int32), Box::new(value));
    let texts = vec![
        Arc::clone(&text),
        to(&text, &DataType::LargeUtf8),
        to(&text, &DataType::Utf8View),
        to(&text, &dictionary_of(DataType::Utf8)),
        to(&text, &dictionary_of(DataType::LargeUtf8)),
        Arc::new(dictionary),
    ];
    let day: ArrayRef = Arc::new(Date32Array::from(oracle.day.clone()));
    let days = vec![Arc::clone(&day), to(&day, &DataType::Date64)];
    // Whole milliseconds, within the 292 years that nanoseconds reach.
    let micros =
        oracle.micros.iter().map(|t| t.map(|t| (t / 1000 * 1000).clamp(-2e15 as i64, 3e15 as i64)));
    let micros: TimestampMicrosecondArray = micros.collect();
    // The same instants, in another time zone.
    let zoned: ArrayRef = Arc::new(micros.clone().with_timezone("+05:30"));
    let time: ArrayRef = Arc::new(micros);
    let unit = |unit| to(&time, &DataType::Timestamp(unit, None));
    let times =
        vec![Arc::clone(&time), unit(TimeUnit::Millisecond), unit(TimeUnit::Nanosecond), zoned];
    let integers = oracle.columns["integer"].iter().map(|v| v.map(|v| v as i64));
    let integer: ArrayRef = Arc::new(integers.collect::<Int64Array>());
    let numbers =
        [DataType::Int32, DataType::Float32, DataType::Float64, DataType::Decimal128(12, 3)];
    let mut numbers: Vec<ArrayRef> = numbers.iter().map(|t| to(&integer, t)).collect();
    numbers.push(integer);
    vec![texts, days, times, numbers]
}

#[test]
fn rows_hash_and_encode_alike_in_every_representation() {
    let oracle = oracle();
    for arrays in twins(&oracle) {
        let tables: Vec<Table> = arrays
            .iter()
            .map(|a| Table::new(vec![("x".into(), a.data_type().clone())], vec![Arc::clone(a)]))
            .collect();
        let first = &tables[0];
        let encoder = first.finish(&first.statistics(0, first.rows(), &oracle.mask()));
        let (encoded, hashes) = (first.encode(&encoder, false), first.hashes());
        let mut distinct = hashes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 5);
        for table in &tables {
            let name = &table.inputs[0].1;
            assert_eq!(table.hashes(), hashes, "{name}");
            // An encoder fitted on one representation accepts the others.
            assert_eq!(table.encode(&encoder, false), encoded, "{name}");
            assert_eq!(table.encode(&encoder, true), encoded, "{name}");
            let own = table.finish(&table.statistics(0, table.rows(), &oracle.mask()));
            assert_eq!(own.features()[0].kind, encoder.features()[0].kind, "{name}");
        }
    }
}

#[test]
fn a_hash_is_of_the_row_and_not_of_its_place() {
    let oracle = oracle();
    let table = oracle.table();
    let hashes = table.hashes();
    let backwards = UInt32Array::from_iter_values((0..table.rows() as u32).rev());
    let columns = table.columns.iter().map(|a| arrow::compute::take(a, &backwards, None).unwrap());
    let other = Table::new(table.inputs.clone(), columns.collect());
    let mut again = other.hashes();
    again.reverse();
    assert_eq!(hashes, again);
    let mut distinct = hashes;
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), table.rows());
}

#[test]
fn a_dictionary_without_values_is_all_null() {
    let empty: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
    let keys = arrow::array::Int8Array::from(vec![None; 3]);
    let array: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(keys, empty));
    let table = Table::new(vec![("x".into(), array.data_type().clone())], vec![array]);
    let mask = BooleanBuffer::new_set(3);
    let encoder = table.finish(&table.statistics(0, 3, &mask));
    assert_eq!(encoder.features()[0].kind, FeatureKind::Category([None].into_iter().collect()));
    assert_eq!(table.encode(&encoder, false).1, [0, 0, 0]);
    assert_eq!(table.encode(&encoder, true).1, [0, 0, 0]);
    let plain: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; 3]));
    let plain = Table::new(vec![("x".into(), DataType::Utf8)], vec![plain]);
    assert_eq!(plain.hashes(), table.hashes());
}

#[test]
fn vectors_are_alike_in_every_list_and_the_largest_byte_is_one() {
    let items: ArrayRef = Arc::new(UInt8Array::from_iter_values([0, 255, 51, 102, 9, 9, 153, 204]));
    let field = Arc::new(Field::new_list_field(DataType::UInt8, true));
    let is_valid = || Some(NullBuffer::from(vec![true, true, false, true]));
    let fixed: ArrayRef =
        Arc::new(FixedSizeListArray::new(Arc::clone(&field), 2, Arc::clone(&items), is_valid()));
    let offsets = OffsetBuffer::from_lengths([2, 2, 2, 2]);
    let list: ArrayRef = Arc::new(ListArray::new(field, offsets, items, is_valid()));
    // One row at the beginning is sliced off, as in a slice of a batch.
    for array in [fixed, list] {
        let floats = match array.data_type() {
            DataType::FixedSizeList(..) => DataType::FixedSizeList(list_field(), 2),
            _ => DataType::List(list_field()),
        };
        for (data_type, truth) in [
            // Bytes divided by the largest of the training rows, 204 (the 255 is sliced off); NULL
            // is the byte nearest to their mean, (51 + 102 + 153 + 204) / 4 = 127.5 ...
            (array.data_type().clone(), [0.25f32, 0.5, 128.0 / 204.0, 128.0 / 204.0, 0.75, 1.0]),
            // ... and deviations with NULL at the mean: sqrt(2 * 51^2 / 3).
            (floats, [-1.2247449, -1.2247449, 0.0, 0.0, 1.2247449, 1.2247449]),
        ] {
            let array = cast(&array, &data_type).unwrap().slice(1, 3);
            let table = Table::new(vec![("x".into(), data_type)], vec![array]);
            let encoder = table.finish(&table.statistics(0, 3, &BooleanBuffer::new_set(3)));
            let (dense, _) = table.encode(&encoder, false);
            for (found, truth) in dense.iter().zip(truth) {
                assert!((found - truth).abs() < 1e-6, "{dense:?}");
            }
        }
    }
}
