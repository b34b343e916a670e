//! The categories of a feature: any number of texts in one array.

use std::hash::BuildHasher;

use arrow::array::{Array, StringArray, StringBuilder};
use hashbrown::HashTable;

use super::TextHasher;

/// The categories of a feature in order; NULL may be one. Clones share them.
#[derive(Clone, Debug, PartialEq)]
pub struct Categories(StringArray);

impl Categories {
    /// Copies texts; NULL comes first if it is one of them. None if they have more bytes than a
    /// string array can hold.
    pub fn copied<'a>(
        has_null: bool,
        texts: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<Self> {
        let (rows, bytes) =
            texts.clone().fold((0, 0), |(rows, bytes), text| (rows + 1, bytes + text.len()));
        i32::try_from(bytes).ok()?;
        let mut copies = StringBuilder::with_capacity(rows + usize::from(has_null), bytes);
        if has_null {
            copies.append_null();
        }
        texts.for_each(|text| copies.append_value(text));
        Some(Self(copies.finish()))
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The texts, None for NULL.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.0.iter()
    }

    /// Bytes of all texts.
    pub fn bytes(&self) -> usize {
        // (The array may be a slice of a longer one.)
        let offsets = self.0.value_offsets();
        match (offsets.first(), offsets.last()) {
            (Some(first), Some(last)) => (last - first) as usize,
            _ => 0,
        }
    }

    /// The categories as an array.
    pub fn array(&self) -> &StringArray {
        &self.0
    }

    /// Whether each category is greater than the one before; NULL sorts first.
    pub(super) fn is_ascending(&self) -> bool {
        self.iter().is_sorted_by(|a, b| a < b)
    }
}

impl From<StringArray> for Categories {
    fn from(texts: StringArray) -> Self {
        Self(texts)
    }
}

impl<'a> FromIterator<Option<&'a str>> for Categories {
    fn from_iter<I: IntoIterator<Item = Option<&'a str>>>(texts: I) -> Self {
        Self(texts.into_iter().collect())
    }
}

/// A map from a text to its index among categories; the texts are not copied.
#[derive(Debug)]
pub(super) struct Places(HashTable<u32>);

impl Places {
    /// Maps each text to its first index.
    pub(super) fn new(categories: &Categories) -> Self {
        let hasher = TextHasher::default();
        let texts = categories.array();
        let mut places = Self(HashTable::with_capacity(texts.len()));
        for (place, text) in texts.iter().enumerate() {
            let Some(text) = text.filter(|text| places.find(categories, text).is_none()) else {
                continue;
            };
            let hash = |place: &u32| hasher.hash_one(texts.value(*place as usize));
            places.0.insert_unique(hasher.hash_one(text), place as u32, hash);
        }
        places
    }

    /// Number of distinct texts.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The index of a text among the same categories.
    #[inline]
    pub(super) fn find(&self, categories: &Categories, text: &str) -> Option<u32> {
        let hash = TextHasher::default().hash_one(text);
        let is_same = |place: &u32| categories.0.value(*place as usize) == text;
        self.0.find(hash, is_same).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_at_their_first_place() {
        let categories: Categories =
            [Some("b"), None, Some(""), Some("a"), Some("b")].into_iter().collect();
        let places = Places::new(&categories);
        assert_eq!(places.len(), 3);
        let find = |text| places.find(&categories, text);
        assert_eq!(["b", "", "a", "c"].map(find), [Some(0), Some(2), Some(3), None]);
        assert!(!categories.is_ascending());
        let sorted = Categories::copied(true, ["a", "b"].into_iter()).unwrap();
        assert_eq!(sorted, [None, Some("a"), Some("b")].into_iter().collect());
        assert!(sorted.is_ascending() && !sorted.is_empty());
        let part = Categories::from(categories.array().slice(1, 3));
        assert_eq!((part.len(), part.bytes(), categories.bytes()), (3, 1, 3));
        assert_eq!(part, [None, Some(""), Some("a")].into_iter().collect());
        assert_eq!(Places::new(&part).find(&part, "a"), Some(2));
    }
}
