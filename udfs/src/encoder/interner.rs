//! Provisional codes of a category column: the first value seen is 0, the next new one 1, ...
//!
//! Codes depend on the order in which batches arrive, so nothing that is kept may depend on them:
//! an encoder's own codes follow the sorted categories.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt32Builder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};

use super::TextHasher;

/// Gives every distinct text of a column a code.
#[derive(Debug, Default)]
pub struct Interner {
    codes: HashMap<Arc<str>, u32, TextHasher>,
    values: Vec<Arc<str>>,
    text_bytes: usize,
}

/// From provisional codes to an encoder's.
#[derive(Clone, Debug)]
pub struct CodeMap {
    /// The encoder's code (or [`crate::batch::NO_CATEGORY`]) of each provisional code.
    pub codes: Vec<u32>,
    /// The encoder's code of NULL.
    pub null: u32,
}

impl Interner {
    /// The codes of a column; NULL stays NULL.
    pub fn intern(&mut self, array: &ArrayRef) -> Result<UInt32Array> {
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            if dictionary.values().is_empty() {
                return Ok(UInt32Array::new_null(array.len()));
            }
            // Every distinct value once, however often it occurs.
            let values = self.intern(dictionary.values())?;
            let mut codes = UInt32Builder::with_capacity(array.len());
            let keys = dictionary.normalized_keys();
            for (row, key) in keys.iter().enumerate() {
                let is_null = dictionary.keys().is_null(row) || values.is_null(*key);
                codes.append_option((!is_null).then(|| values.value(*key)));
            }
            return Ok(codes.finish());
        }
        let mut codes = UInt32Builder::with_capacity(array.len());
        for_each_text(array, |text| {
            codes.append_option(text.map(|text| self.code(text)));
        })?;
        if self.values.len() > u32::MAX as usize / 2 {
            return exec_err!("a column has more than {} categories", u32::MAX / 2);
        }
        Ok(codes.finish())
    }

    fn code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.codes.get(text) {
            return *code;
        }
        let code = self.values.len() as u32;
        let value: Arc<str> = text.into();
        self.text_bytes += text.len();
        self.codes.insert(Arc::clone(&value), code);
        self.values.push(value);
        code
    }

    /// The text of a code.
    pub fn value(&self, code: u32) -> Option<&str> {
        self.values.get(code as usize).map(AsRef::as_ref)
    }

    /// The texts in the order of their codes.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.iter().map(AsRef::as_ref)
    }

    /// Bytes that it holds: texts, and about 64 bytes a value for table and pointers.
    pub fn memory_size(&self) -> usize {
        self.text_bytes + 64 * self.values.len()
    }
}

/// Calls `f` with every value of a column of strings or dates (by their ISO text).
pub(super) fn for_each_text(array: &ArrayRef, mut f: impl FnMut(Option<&str>)) -> Result<()> {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().for_each(f),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().for_each(f),
        DataType::Utf8View => array.as_string_view().iter().for_each(f),
        DataType::Date32 | DataType::Date64 => {
            // Date64 as a day: its text would have the time of day behind it.
            let days = cast(array, &DataType::Date32)?;
            cast(&days, &DataType::Utf8)?.as_string::<i32>().iter().for_each(f);
        }
        DataType::Null => (0..array.len()).for_each(|_| f(None)),
        other => return exec_err!("{other} is no type of categories"),
    }
    Ok(())
}
