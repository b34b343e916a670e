//! Distinct values of one or more columns, of any type: the classes of a target, the keys of
//! groups.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{Row, RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_err};
use gradlake_udfs::encoder::OneShot;

/// Gives every distinct row of some columns a number, in the order of their first occurrence.
#[derive(Debug)]
pub struct Distinct {
    what: String,
    limit: usize,
    converter: RowConverter,
    codes: HashMap<Box<[u8]>, u32, BuildHasherDefault<OneShot>>,
    keys: Vec<Box<[u8]>>,
}

impl Distinct {
    /// Of no rows yet; more than `limit` distinct ones are an error that names `what`.
    pub fn new(types: &[DataType], what: String, limit: usize) -> Result<Self> {
        let fields = types.iter().map(|t| SortField::new(plain(t).clone())).collect();
        Ok(Self {
            what,
            limit,
            converter: RowConverter::new(fields)?,
            codes: HashMap::default(),
            keys: vec![],
        })
    }

    /// The number of every row.
    pub fn intern(&mut self, columns: &[ArrayRef]) -> Result<UInt32Array> {
        if let [column] = columns
            && let Some(dictionary) = column.as_any_dictionary_opt()
            && dictionary.null_count() == 0
            && !dictionary.values().is_empty()
        {
            // Values that no row uses get a number too, which does no harm: rows decide.
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

    /// What a number stands for, a value per column.
    pub fn values(&self, code: u32) -> Result<Vec<ScalarValue>> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows([parser.parse(&self.keys[code as usize])])?;
        columns.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
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
        let mut distinct = Distinct::new(&types, "key".to_owned(), 10).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")])),
            Arc::new(Int64Array::from(vec![2, 1, -1, 2])),
        ];
        assert_eq!(distinct.intern(&columns).unwrap().values().to_vec(), [0, 1, 2, 0]);
        assert_eq!(distinct.sorted(), [1, 2, 0]);
        let values = distinct.values(2).unwrap();
        assert_eq!(values, [ScalarValue::from("a"), ScalarValue::from(-1i64)]);
    }

    #[test]
    fn dictionaries_count_by_value() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "x"]));
        let packed = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let mut distinct =
            Distinct::new(std::slice::from_ref(&packed), "class".to_owned(), 2).unwrap();
        let codes = distinct.intern(&[cast(&text, &packed).unwrap()]).unwrap();
        assert_eq!(codes.values().to_vec(), [0, 1, 0]);
        let more: ArrayRef = Arc::new(StringArray::from(vec!["z"]));
        let error = distinct.intern(&[more]).unwrap_err().to_string();
        assert!(error.contains("class has more than 2 distinct values"), "{error}");
    }
}
