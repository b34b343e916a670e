//! Provisional codes of a category column: the first value seen is 0, the next new one 1, ...
//!
//! Codes depend on the order in which batches arrive, so nothing that is stored may depend on them:
//! an encoder's own codes follow the sorted categories.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use arrow::array::{
    AnyDictionaryArray, Array, ArrayData, ArrayRef, AsArray, StringViewArray, UInt32Array,
    UInt32Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use datafusion_common::{Result, exec_err};
use hashbrown::HashTable;

use super::{OneShot, TextHasher};

/// Longest text, in bytes, that a key contains as a whole.
const SHORT: usize = 12;

/// The key of a text. Its length in 32 bits, then for a short text the bytes, padded with zeros (as
/// in Arrow's string views), for a long text its hash in 64 bits and its index among the long texts
/// in 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key([u8; 16]);

/// Gives every distinct text of a column a code.
#[derive(Debug, Default)]
pub struct Interner {
    /// By code.
    keys: Vec<Key>,
    /// From a key or a long text to its code.
    codes: HashTable<u32>,
    /// The long texts, one after another, and where each ends.
    long: String,
    long_ends: Vec<usize>,
    /// The codes in the order of their texts, computed on first use.
    order: OnceLock<Vec<u32>>,
    /// The most recent dictionaries, with the codes of their values: many batches share one.
    recent: VecDeque<(ArrayData, UInt32Array)>,
}

/// Number of dictionaries whose codes are kept: batches of as many partitions may alternate.
const RECENT: usize = 8;

/// A map from provisional codes to an encoder's codes.
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
            // Each distinct value is interned once, however often it occurs.
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
        if self.count() > u32::MAX as usize / 2 {
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
            // (The key at a NULL may have any value.)
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

    /// The codes of the values of a dictionary, which may have been seen before.
    ///
    /// # Errors
    /// When the values are not categories, or there are too many.
    pub fn dictionary_codes(&mut self, values: &ArrayRef) -> Result<UInt32Array> {
        let own = values.to_data();
        if let Some((_, codes)) = self.recent.iter().find(|(other, _)| other.ptr_eq(&own)) {
            return Ok(codes.clone());
        }
        if self.keys.is_empty() {
            // Most values are new, as each occurs once.
            self.keys.reserve(values.len());
            self.codes.reserve(values.len(), hash_of_code(&self.keys));
        }
        let codes = self.intern(values)?;
        self.recent.truncate(RECENT - 1);
        self.recent.push_front((own, codes.clone()));
        Ok(codes)
    }

    /// Forgets the recent dictionaries, when no more follow.
    pub fn close(&mut self) {
        self.recent.clear();
    }

    /// Short texts are looked up in place, as views of the column.
    fn intern_views(&mut self, texts: &StringViewArray) -> UInt32Array {
        let mut codes = Vec::with_capacity(texts.len());
        for (row, view) in texts.views().iter().enumerate() {
            codes.push(if texts.is_null(row) {
                0
            } else if *view as u32 as usize <= SHORT {
                self.short_code(Key(view.to_le_bytes()))
            } else {
                self.code(texts.value(row))
            });
        }
        UInt32Array::new(codes.into(), texts.nulls().cloned())
    }

    fn code(&mut self, text: &str) -> u32 {
        if let Some(key) = Key::short(text) {
            return self.short_code(key);
        }
        let hash = TextHasher::default().hash_one(text);
        let key = Key::long(text, hash, self.long_ends.len());
        let is_same = |code: &u32| {
            let other = self.keys[*code as usize];
            // (All bytes except those of the index.)
            other.0[..12] == key.0[..12] && self.text(&other) == text
        };
        if let Some(code) = self.codes.find(hash, is_same) {
            return *code;
        }
        self.long.push_str(text);
        self.long_ends.push(self.long.len());
        self.add(key, hash)
    }

    #[inline]
    fn short_code(&mut self, key: Key) -> u32 {
        let hash = key.hash();
        match self.codes.find(hash, |code| self.keys[*code as usize] == key) {
            Some(code) => *code,
            None => self.add(key, hash),
        }
    }

    fn add(&mut self, key: Key, hash: u64) -> u32 {
        let code = self.keys.len() as u32;
        self.order.take();
        self.keys.push(key);
        self.codes.insert_unique(hash, code, hash_of_code(&self.keys));
        code
    }

    fn text<'a>(&'a self, key: &'a Key) -> &'a str {
        if let Some(bytes) = key.short_text() {
            return std::str::from_utf8(bytes).unwrap_or_default();
        }
        let place = key.place();
        let start = place.checked_sub(1).map_or(0, |before| self.long_ends[before]);
        &self.long[start..self.long_ends[place]]
    }

    /// The codes in the order of their texts.
    pub fn sorted(&self) -> &[u32] {
        self.order.get_or_init(|| {
            let keys = self.keys.iter().zip(0..);
            let mut order: Vec<(u128, u32)> =
                keys.map(|(key, code)| (self.beginning(key), code)).collect();
            order.sort_unstable_by(|a, b| {
                let text = |code: u32| self.text(&self.keys[code as usize]);
                // (Short texts with equal beginnings are equal.)
                let is_long = |beginning: u128| beginning as u8 as usize > SHORT;
                a.0.cmp(&b.0).then_with(|| match is_long(a.0) {
                    true => text(a.1).cmp(text(b.1)),
                    false => std::cmp::Ordering::Equal,
                })
            });
            order.into_iter().map(|(_, code)| code).collect()
        })
    }

    /// A number that sorts as the text does, up to [`SHORT`] bytes: the first bytes, then how many
    /// there are.
    fn beginning(&self, key: &Key) -> u128 {
        let mut bytes = [0; 16];
        let (first, length) = bytes.split_at_mut(SHORT);
        match key.short_text() {
            Some(_) => first.copy_from_slice(&key.0[4..]),
            None => first.copy_from_slice(&self.text(key).as_bytes()[..SHORT]),
        }
        length[3] = key.length().min(SHORT + 1) as u8;
        u128::from_be_bytes(bytes)
    }

    /// Number of texts.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The text of a code.
    pub fn value(&self, code: u32) -> Option<&str> {
        self.keys.get(code as usize).map(|key| self.text(key))
    }

    /// The texts in the order of their codes.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(|key| self.text(key))
    }

    /// Bytes that it holds.
    pub fn memory_size(&self) -> usize {
        size_of::<Key>() * self.keys.capacity()
            + self.codes.allocation_size()
            + self.long.capacity()
            + size_of::<usize>() * self.long_ends.capacity()
            + size_of_val(self.order.get().map_or(&[][..], Vec::as_slice))
    }
}

impl Key {
    /// The key of a short text; None if the text is long.
    fn short(text: &str) -> Option<Self> {
        let mut key = [0; 16];
        key[4..].get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        key[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
        Some(Self(key))
    }

    /// The key of a long text.
    fn long(text: &str, hash: u64, place: usize) -> Self {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        key[4..12].copy_from_slice(&hash.to_le_bytes());
        key[12..].copy_from_slice(&(place as u32).to_le_bytes());
        Self(key)
    }

    fn length(&self) -> usize {
        u128::from_le_bytes(self.0) as u32 as usize
    }

    /// The text, if it is short.
    fn short_text(&self) -> Option<&[u8]> {
        self.0[4..].get(..self.length())
    }

    /// The index of a long text.
    fn place(&self) -> usize {
        (u128::from_le_bytes(self.0) >> 96) as usize
    }

    fn hash(&self) -> u64 {
        let key = u128::from_le_bytes(self.0);
        if self.length() > SHORT {
            return (key >> 32) as u64;
        }
        let mut hasher = OneShot::default();
        hasher.write_u128(key);
        hasher.finish()
    }
}

/// The hash of a known code, for when the table grows.
fn hash_of_code(keys: &[Key]) -> impl Fn(&u32) -> u64 {
    |code| keys[*code as usize].hash()
}

/// Calls `f` with every value of a column of strings or dates (by their ISO text).
pub(super) fn for_each_text(array: &ArrayRef, mut f: impl FnMut(Option<&str>)) -> Result<()> {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().for_each(f),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().for_each(f),
        DataType::Utf8View => array.as_string_view().iter().for_each(f),
        DataType::Date32 | DataType::Date64 => {
            // Date64 as a day: the text of a Date64 would include the time of day.
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
    use std::sync::Arc;

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

    #[test]
    fn texts_keep_their_codes_as_the_table_grows() {
        // Long texts with the same beginning, short ones that are the beginning of others, two-byte
        // letters; texts of 12 bytes, texts of 13 that begin with them, and a letter across the
        // twelfth byte.
        let text = |i: usize| match i % 6 {
            0 => format!("https://example.org/{i}"),
            1 => format!("{i}"),
            2 => format!("ä{i}"),
            3 => format!("{i:012}"),
            4 => format!("{:012}!", i - 1),
            _ => format!("{:011}ä", i - 2),
        };
        let mut interner = Interner::default();
        for n in [10, 3000] {
            let texts: ArrayRef = Arc::new((0..n).map(text).map(Some).collect::<StringArray>());
            let codes = interner.intern(&texts).unwrap();
            assert!(codes.values().iter().copied().eq(0..n as u32));
        }
        assert!(interner.values().eq((0..3000).map(text)));
        assert_eq!(interner.value(3000), None);
        let sorted: Vec<_> = interner.sorted().iter().filter_map(|c| interner.value(*c)).collect();
        assert!(sorted.len() == 3000 && sorted.is_sorted());
        let bytes: usize = interner.values().map(str::len).sum();
        assert!((bytes..60 * 3000 + bytes).contains(&interner.memory_size()));
    }

    /// Alternating dictionaries, with NULL among keys and values, give the codes of their texts.
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
        // More dictionaries than are kept.
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
