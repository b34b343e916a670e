//! Numbers the distinct values of one or more columns of any type: the classes of a target, the
//! keys of groups.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::row::{Row, RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_err};
use gradlake_udfs::OneShot;

/// Gives every distinct row of some columns a number, in the order of their first occurrence.
#[derive(Debug)]
pub struct LabelEncoder {
    what: String,
    limit: usize,
    converter: RowConverter,
    codes: HashMap<Box<[u8]>, u32, BuildHasherDefault<OneShot>>,
    keys: Vec<Box<[u8]>>,
    /// The values that the numbers stand for, one per column; decoded when first needed.
    values: OnceLock<Vec<Vec<ScalarValue>>>,
    /// The numbers of small integers if the only column is one of integers: [`UNKNOWN`] until one
    /// occurs.
    small: Vec<u32>,
}

/// Integers below this are numbered by a table, without a lookup of the row.
const SMALL: usize = 1 << 16;
/// Keys that are decoded at a time.
const DECODED: usize = 1 << 12;
/// An integer that has no number yet.
const UNKNOWN: u32 = u32::MAX;

impl LabelEncoder {
    /// An encoder of no rows yet; more than `limit` distinct rows are an error that names `what`.
    pub fn new(types: &[DataType], what: String, limit: usize) -> Result<Self> {
        let fields = types.iter().map(|t| SortField::new(plain(t).clone())).collect();
        Ok(Self {
            what,
            limit,
            converter: RowConverter::new(fields)?,
            codes: HashMap::default(),
            keys: vec![],
            values: OnceLock::new(),
            small: vec![],
        })
    }

    /// The number of every row.
    pub fn intern(&mut self, columns: &[ArrayRef]) -> Result<UInt32Array> {
        if let [column] = columns
            && column.data_type().is_integer()
            && column.null_count() == 0
        {
            return self.intern_integers(column);
        }
        self.intern_rows(columns)
    }

    /// The number of every integer: classes and keys of groups are often small ones.
    fn intern_integers(&mut self, column: &ArrayRef) -> Result<UInt32Array> {
        // (A value that Int64 cannot hold becomes NULL, which is not small either.)
        let values = cast(column, &DataType::Int64)?;
        let values = values.as_primitive::<Int64Type>();
        self.small.resize(SMALL, UNKNOWN);
        let is_small = |value: &i64| (0..SMALL as i64).contains(value);
        if values.null_count() > 0 || !values.values().iter().all(is_small) {
            return self.intern_rows(std::slice::from_ref(column));
        }
        let mut codes = Vec::with_capacity(values.len());
        for (row, value) in values.values().iter().enumerate() {
            let mut code = self.small[*value as usize];
            if code == UNKNOWN {
                code = self.intern_rows(&[column.slice(row, 1)])?.value(0);
                self.small[*value as usize] = code;
            }
            codes.push(code);
        }
        Ok(codes.into())
    }

    fn intern_rows(&mut self, columns: &[ArrayRef]) -> Result<UInt32Array> {
        if let [column] = columns
            && let Some(dictionary) = column.as_any_dictionary_opt()
            && dictionary.null_count() == 0
            && !dictionary.values().is_empty()
        {
            // Values that no row uses get a number too, which is harmless: only rows count.
            let known = self.intern(&[Arc::clone(dictionary.values())])?;
            let keys = dictionary.normalized_keys();
            return Ok(keys.into_iter().map(|key| known.value(key)).collect());
        }
        let plain = columns
            .iter()
            .map(|c| {
                if plain(c.data_type()) == c.data_type() {
                    Ok(Arc::clone(c))
                } else {
                    cast(c, plain(c.data_type()))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let rows = self.converter.convert_columns(&plain)?;
        let mut codes = Vec::with_capacity(rows.num_rows());
        // Two classes often repeat, and so do the keys of sorted files.
        let mut recent: [Option<(Row<'_>, u32)>; 2] = [None, None];
        for row in &rows {
            let same = recent.iter().flatten().find(|(other, _)| *other == row);
            if let Some((_, code)) = same {
                codes.push(*code);
                continue;
            }
            let code = match self.codes.get(row.as_ref()) {
                Some(code) => *code,
                None => {
                    if self.keys.len() >= self.limit {
                        return exec_err!(
                            "{} has more than {} distinct values",
                            self.what,
                            self.limit
                        );
                    }
                    let code = self.keys.len() as u32;
                    self.values.take();
                    self.codes.insert(row.as_ref().into(), code);
                    self.keys.push(row.as_ref().into());
                    code
                }
            };
            recent = [Some((row, code)), recent[0]];
            codes.push(code);
        }
        Ok(codes.into())
    }

    /// The number of distinct rows.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The numbers in ascending order of what they stand for (NULL first).
    pub fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        order.sort_by(|a, b| self.keys[*a as usize].cmp(&self.keys[*b as usize]));
        order
    }

    /// A hash of what each number stands for.
    pub fn hashes(&self) -> Vec<u64> {
        self.keys.iter().map(|key| xxhash_rust::xxh3::xxh3_64(key)).collect()
    }

    /// The values that a number stands for, one per column; None if there is no such number.
    ///
    /// # Errors
    /// Never in practice: the keys are rows of the columns.
    pub fn value(&self, code: u32) -> Result<Option<Vec<ScalarValue>>> {
        let key = self.keys.get(code as usize).map(std::slice::from_ref);
        Ok(self.decoded(key.unwrap_or_default())?.pop())
    }

    /// The values that each number stands for; decoded once and cached, for callers that ask for
    /// all of them repeatedly.
    ///
    /// # Errors
    /// As for [`LabelEncoder::value`].
    pub fn values(&self) -> Result<&[Vec<ScalarValue>]> {
        if let Some(values) = self.values.get() {
            return Ok(values);
        }
        let values = self.decoded(&self.keys)?;
        Ok(self.values.get_or_init(|| values))
    }

    /// The same, but consumes the encoder.
    ///
    /// # Errors
    /// As for [`LabelEncoder::value`].
    pub fn into_values(self) -> Result<Vec<Vec<ScalarValue>>> {
        self.decoded(&self.keys)
    }

    fn decoded(&self, keys: &[Box<[u8]>]) -> Result<Vec<Vec<ScalarValue>>> {
        let parser = self.converter.parser();
        let mut values = Vec::with_capacity(keys.len());
        for keys in keys.chunks(DECODED) {
            let rows = keys.iter().map(|key| parser.parse(key));
            let columns = self.converter.convert_rows(rows)?;
            for row in 0..keys.len() {
                let own = columns.iter().map(|column| ScalarValue::try_from_array(column, row));
                values.push(own.collect::<Result<_>>()?);
            }
        }
        Ok(values)
    }
}

/// The type of a dictionary's values, or the type itself.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => value,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn numbers_follow_first_occurrence_and_sort_by_value() {
        let types = [DataType::Utf8, DataType::Int64];
        let mut distinct = LabelEncoder::new(&types, "key".to_owned(), 10).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")])),
            Arc::new(Int64Array::from(vec![2, 1, -1, 2])),
        ];
        assert_eq!(distinct.intern(&columns).unwrap().values().to_vec(), [0, 1, 2, 0]);
        assert_eq!(distinct.sorted(), [1, 2, 0]);
        let of = |text: &str, number: i64| vec![text.into(), number.into()];
        let null = vec![ScalarValue::Utf8(None), 1i64.into()];
        assert_eq!(distinct.values().unwrap(), [of("b", 2), null.clone(), of("a", -1)]);
        // A row is added after the values were decoded.
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["c"])), Arc::new(Int64Array::from(vec![3]))];
        assert_eq!(distinct.intern(&columns).unwrap().values().to_vec(), [3]);
        let all = [of("b", 2), null, of("a", -1), of("c", 3)];
        assert_eq!(distinct.values().unwrap(), all);
        assert_eq!(distinct.value(3).unwrap().as_ref(), all.last());
        assert_eq!(distinct.value(4).unwrap(), None);
        assert_eq!(distinct.into_values().unwrap(), all);
    }

    /// Small and large integers, alone and mixed, with NULL: the same numbers as rows.
    #[test]
    fn integers_are_numbered_as_rows() {
        let batches: [Vec<Option<i64>>; 5] = [
            vec![Some(7), Some(0), Some(7), Some(65_535)],
            vec![Some(65_536), Some(7), Some(-1)],
            vec![Some(1), None, Some(0)],
            vec![Some(-1), Some(i64::MIN), Some(1)],
            vec![Some(1), Some(65_535), Some(2)],
        ];
        let new = || LabelEncoder::new(&[DataType::Int64], "key".to_owned(), 10).unwrap();
        let (mut own, mut rows) = (new(), new());
        for batch in batches {
            let column: ArrayRef = Arc::new(Int64Array::from(batch));
            let truth = rows.intern_rows(&[Arc::clone(&column)]).unwrap();
            assert_eq!(own.intern(&[column]).unwrap(), truth);
        }
        assert_eq!(own.sorted(), rows.sorted());
        let unsigned: ArrayRef =
            Arc::new(datafusion::arrow::array::UInt64Array::from(vec![u64::MAX, 3]));
        let mut own = LabelEncoder::new(&[DataType::UInt64], "key".to_owned(), 10).unwrap();
        assert_eq!(own.intern(&[unsigned]).unwrap().values().to_vec(), [0, 1]);
        let many: ArrayRef = Arc::new(Int64Array::from_iter_values(0..11));
        let error = new().intern(&[many]).unwrap_err().to_string();
        assert!(error.contains("key has more than 10 distinct values"), "{error}");
    }

    #[test]
    fn dictionaries_count_by_value() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "x"]));
        let packed = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let mut distinct =
            LabelEncoder::new(std::slice::from_ref(&packed), "class".to_owned(), 2).unwrap();
        let codes = distinct.intern(&[cast(&text, &packed).unwrap()]).unwrap();
        assert_eq!(codes.values().to_vec(), [0, 1, 0]);
        let more: ArrayRef = Arc::new(StringArray::from(vec!["z"]));
        let error = distinct.intern(&[more]).unwrap_err().to_string();
        assert!(error.contains("class has more than 2 distinct values"), "{error}");
    }
}
