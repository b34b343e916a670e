//! Provisional codes of a category column: the first value seen is 0, the next new one 1, ...
//!
//! Codes depend on the order in which batches arrive, so nothing that is kept may depend on them:
//! an encoder's own codes follow the sorted categories.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use arrow::array::{
    AnyDictionaryArray, Array, ArrayData, ArrayRef, AsArray, StringViewArray, UInt32Array,
    UInt32Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use datafusion_common::{Result, exec_err};

use super::TextHasher;

/// Bytes of a text that its view holds whole.
const SHORT: usize = 12;

/// Gives every distinct text of a column a code.
#[derive(Debug, Default)]
pub struct Interner {
    /// Of texts of at most [`SHORT`] bytes, by what Arrow's string views hold of them.
    short: HashMap<u128, u32, TextHasher>,
    long: HashMap<Arc<str>, u32, TextHasher>,
    values: Vec<Arc<str>>,
    text_bytes: usize,
    /// The codes in the order of their texts, once it was asked for.
    order: OnceLock<Vec<u32>>,
    /// Dictionaries that came last, with the codes of their values: many batches share one.
    recent: VecDeque<(ArrayData, UInt32Array)>,
}

/// Dictionaries whose codes are kept: batches of as many partitions may come in turns.
const RECENT: usize = 8;

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
            // Every distinct value once, however often it occurs.
            let codes = self.dictionary_codes(dictionary.values())?;
            return Ok(Self::codes_of_keys(dictionary, &codes));
        }
        let codes = match array.as_string_view_opt() {
            Some(texts) => self.intern_views(texts),
            None => {
                let mut codes = UInt32Builder::with_capacity(array.len());
                for_each_text(array, |text| {
                    codes.append_option(text.map(|text| self.code(text)));
                })?;
                codes.finish()
            }
        };
        if self.values.len() > u32::MAX as usize / 2 {
            return exec_err!("a column has more than {} categories", u32::MAX / 2);
        }
        Ok(codes)
    }

    /// The codes of a column whose dictionary has these codes; NULL stays NULL.
    pub fn codes_of_keys(dictionary: &dyn AnyDictionaryArray, codes: &UInt32Array) -> UInt32Array {
        let n = dictionary.len();
        if codes.is_empty() {
            return UInt32Array::new_null(n);
        }
        if let (Some(keys), None) =
            (dictionary.keys().as_primitive_opt::<Int32Type>(), codes.nulls())
        {
            // (What stands at a NULL may be any key.)
            let code = |key: &i32| codes.values().get(*key as usize).copied().unwrap_or(0);
            let own: Vec<u32> = keys.values().iter().map(code).collect();
            return UInt32Array::new(own.into(), keys.nulls().cloned());
        }
        let mut own = UInt32Builder::with_capacity(n);
        for (row, key) in dictionary.normalized_keys().iter().enumerate() {
            let is_null = dictionary.keys().is_null(row) || codes.is_null(*key);
            own.append_option((!is_null).then(|| codes.value(*key)));
        }
        own.finish()
    }

    /// The codes of the values of a dictionary, which may have come before.
    ///
    /// # Errors
    /// When they are not of categories, or too many.
    pub fn dictionary_codes(&mut self, values: &ArrayRef) -> Result<UInt32Array> {
        let own = values.to_data();
        if let Some((_, codes)) = self.recent.iter().find(|(other, _)| other.ptr_eq(&own)) {
            return Ok(codes.clone());
        }
        let codes = self.intern(values)?;
        self.recent.truncate(RECENT - 1);
        self.recent.push_front((own, codes.clone()));
        Ok(codes)
    }

    /// Forgets which dictionaries came last, when no more come.
    pub fn close(&mut self) {
        self.recent.clear();
    }

    /// Short texts are looked up as they lie in the column.
    fn intern_views(&mut self, texts: &StringViewArray) -> UInt32Array {
        let mut codes = Vec::with_capacity(texts.len());
        for (row, view) in texts.views().iter().enumerate() {
            codes.push(if texts.is_null(row) {
                0
            } else if *view as u32 as usize <= SHORT {
                self.short_code(*view)
            } else {
                self.code(texts.value(row))
            });
        }
        UInt32Array::new(codes.into(), texts.nulls().cloned())
    }

    fn code(&mut self, text: &str) -> u32 {
        if let Some(view) = short_view(text) {
            return self.short_code(view);
        }
        if let Some(code) = self.long.get(text) {
            return *code;
        }
        let (value, code) = self.add(text);
        self.long.insert(value, code);
        code
    }

    #[inline]
    fn short_code(&mut self, view: u128) -> u32 {
        if let Some(code) = self.short.get(&view) {
            return *code;
        }
        let bytes = view.to_le_bytes();
        let text = bytes.get(4..4 + view as u32 as usize).unwrap_or_default();
        let (_, code) = self.add(&String::from_utf8_lossy(text));
        self.short.insert(view, code);
        code
    }

    fn add(&mut self, text: &str) -> (Arc<str>, u32) {
        let code = self.values.len() as u32;
        let value: Arc<str> = text.into();
        self.text_bytes += text.len();
        self.order.take();
        self.values.push(Arc::clone(&value));
        (value, code)
    }

    /// The codes in the order of their texts.
    pub fn sorted(&self) -> &[u32] {
        self.order.get_or_init(|| {
            let texts = self.values.iter().zip(0..);
            let mut order: Vec<(u128, u32)> =
                texts.map(|(text, code)| (beginning(text), code)).collect();
            order.sort_unstable_by(|a, b| {
                let text = |code: u32| &self.values[code as usize];
                a.0.cmp(&b.0).then_with(|| text(a.1).cmp(text(b.1)))
            });
            order.into_iter().map(|(_, code)| code).collect()
        })
    }

    /// Number of texts.
    pub fn count(&self) -> usize {
        self.values.len()
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

/// A number whose order is that of the texts as far as they are short: the first bytes, then how many
/// there are.
fn beginning(text: &str) -> u128 {
    let mut bytes = [0; 16];
    let (first, length) = bytes.split_at_mut(SHORT);
    let n = text.len().min(SHORT);
    first[..n].copy_from_slice(&text.as_bytes()[..n]);
    length[3] = text.len().min(SHORT + 1) as u8;
    u128::from_be_bytes(bytes)
}

/// The view of a short text: its length in 32 bits, then its bytes, then zeros.
fn short_view(text: &str) -> Option<u128> {
    let mut view = [0; 16];
    let (length, bytes) = view.split_at_mut(4);
    bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    length.copy_from_slice(&(text.len() as u32).to_le_bytes());
    Some(u128::from_le_bytes(view))
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

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, StringArray};

    use super::*;

    #[test]
    fn a_text_has_one_code_in_every_form() {
        let long = "a text that is longer than a view holds";
        let texts =
            [Some("b"), None, Some(""), Some(long), Some("b"), Some("twelve bytes"), Some("b\0")];
        let plain: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let expected = [Some(0), None, Some(1), Some(2), Some(0), Some(3), Some(4)];
        let packed = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let forms = [DataType::Utf8, DataType::Utf8View, DataType::LargeUtf8, packed];
        let mut all = Interner::default();
        for form in forms {
            let column = cast(&plain, &form).unwrap();
            let mut own = Interner::default();
            for interner in [&mut own, &mut all] {
                let codes = interner.intern(&column).unwrap();
                assert_eq!(codes.iter().collect::<Vec<_>>(), expected, "{form}");
            }
            let known: Vec<&str> = own.values().collect();
            assert_eq!(known, ["b", "", long, "twelve bytes", "b\0"], "{form}");
        }
        assert_eq!(all.values().len(), 5);
        let sorted: Vec<&str> = all.sorted().iter().filter_map(|code| all.value(*code)).collect();
        assert_eq!(sorted, ["", long, "b", "b\0", "twelve bytes"]);
        let longer: ArrayRef = Arc::new(StringArray::from(vec!["twelve bytes!", "twelve bytes "]));
        all.intern(&longer).unwrap();
        let last = &all.sorted()[4..];
        assert_eq!(last, [3, 6, 5], "the order is that of before");
        let slice = cast(&plain, &DataType::Utf8View).unwrap().slice(3, 2);
        assert_eq!(all.intern(&slice).unwrap().values().to_vec(), [2, 0]);
    }

    /// Dictionaries in turns, with NULL among keys and values, give the codes of their texts.
    #[test]
    fn dictionaries_that_come_again_have_the_same_codes() {
        let mut interner = Interner::default();
        let keys = |keys: &[Option<i32>]| Int32Array::from(keys.to_vec());
        let dictionary =
            |values: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
        let (one, other) = (
            dictionary(&[Some("a"), Some("b"), Some("c")]),
            dictionary(&[Some("c"), None, Some("d")]),
        );
        for round in 0..3 {
            for (values, given, expected) in [
                (&one, [Some(2), None, Some(0)], [Some(2), None, Some(0)]),
                (&other, [Some(0), Some(1), Some(2)], [Some(2), None, Some(3)]),
                (&one, [None, None, Some(1)], [None, None, Some(1)]),
            ] {
                let column = DictionaryArray::new(keys(&given), Arc::clone(values));
                let codes = interner.intern(&(Arc::new(column) as ArrayRef)).unwrap();
                assert_eq!(codes.iter().collect::<Vec<_>>(), expected, "{round}");
            }
        }
        // Others than are kept.
        for i in 0..20 {
            let text = format!("text {i}");
            let column = DictionaryArray::new(keys(&[Some(0)]), dictionary(&[Some(&text)]));
            let codes = interner.intern(&(Arc::new(column) as ArrayRef)).unwrap();
            assert_eq!(codes.values().to_vec(), [4 + i]);
        }
        assert_eq!(interner.recent.len(), RECENT);
        interner.close();
        assert!(interner.recent.is_empty());
    }
}
