//! The fitted preprocessing from input columns to encoded rows.
//!
//! | input | encoded as |
//! |---|---|
//! | integers, floats, decimals | one dense number, NULL as the mean, standardised |
//! | booleans | 0 or 1, NULL as the mean, standardised |
//! | strings, dictionaries of strings, dates | one category; NULL is a category of its own |
//! | timestamps | unix seconds standardised; sine and cosine of hour, weekday and month |
//! | lists of numbers of one length | one dense number per element, standardised |
//! | lists of `uint8` of one length | one dense number per element, see below |
//! | structs | field by field |
//!
//! Lists of `uint8` are scaled to 0..1 by the largest element of the training rows, and stay bytes
//! in encoded rows until they are learned from.
//!
//! [`Statistics`] are gathered over training rows and give an [`Encoder`], which both training and
//! PREDICT apply.

mod apply;
mod bytes;
mod categories;
mod columns;
mod feature;
mod input;
mod interner;
mod moments;
#[cfg(test)]
mod oracle;
mod plain;
mod rowhash;
mod running;
mod statistics;
mod text_hash;
mod vectors;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err, plan_err};

pub use apply::Column;
pub use categories::Categories;
pub use feature::{ByteScale, Feature, FeatureKind, Scale, TIMESTAMP_INPUTS};
pub use input::{Input, InputKind, flatten_columns, flatten_fields};
pub(crate) use input::{item_type, list_shape};
pub use interner::{CodeMap, Interner};
pub use plain::{is_plain, is_single, plain_rows};
pub use rowhash::hash_rows;
pub use running::{RawRows, RunningEncoder, RunningState};
pub use statistics::{Statistics, Values};
pub use text_hash::OneShot;
pub(crate) use text_hash::TextHasher;

use crate::batch::{NO_CATEGORY, RowSchema, Width};
use categories::Places;
use feature::fields;

/// One dense input of the first layer, for display.
#[derive(Clone, Debug, PartialEq)]
pub struct InputName {
    /// `carat`, `time.hour_sin` or `image[3]`.
    pub name: String,
    /// From the standardised scale to the raw one: `(value - center) / stddev`; 0 and 1 for cycles.
    pub center: f64,
    /// See `center`.
    pub stddev: f64,
    /// The kind of the feature, [`FeatureKind::name`]: a column may also be named `time.hour_sin`.
    pub kind: &'static str,
}

/// A map from the text of a category to its global index.
#[derive(Debug)]
struct Lookup {
    /// Index of the first category, and that of NULL.
    offset: u32,
    null: u32,
    /// Whether each category is greater than the one before; NULL sorts first.
    is_ascending: bool,
    /// Made on the first lookup of a text: a training knows its categories by number.
    places: OnceLock<Places>,
}

/// The fitted preprocessing from input columns to encoded rows. Clones share their data.
#[derive(Clone, Debug)]
pub struct Encoder {
    features: Arc<[Feature]>,
    /// The fields of encoded rows, without a target.
    schema: RowSchema,
    /// Per feature: the index of its first dense input, or of its category column.
    places: Arc<[usize]>,
    /// Per feature: the index of its first number or byte in a row where bytes stay bytes.
    stored: Arc<[usize]>,
    /// Per feature: its lookup, if it is a category.
    lookups: Arc<[Option<Lookup>]>,
}

impl PartialEq for Encoder {
    fn eq(&self, other: &Self) -> bool {
        self.features == other.features
    }
}

impl Encoder {
    /// The encoder of given features, fitted or loaded.
    ///
    /// # Errors
    /// When a feature's kind does not fit its type, a scale is not finite, or a category occurs
    /// twice.
    pub fn new(features: Vec<Feature>) -> Result<Self> {
        Self::with(features, false)
    }

    /// The same; with `is_sorted`, the categories of the features are known to ascend.
    fn with(features: Vec<Feature>, is_sorted: bool) -> Result<Self> {
        let mut width = Width::default();
        let (mut places, mut stored) = (vec![], vec![]);
        let mut lookups = vec![];
        for feature in &features {
            let kind = InputKind::of(&feature.name, &feature.data_type)?;
            let fits = matches!(
                (&feature.kind, kind),
                (FeatureKind::Number(_), InputKind::Number)
                    | (FeatureKind::Boolean(_), InputKind::Boolean)
                    | (FeatureKind::Category(_), InputKind::Category)
                    | (FeatureKind::Timestamp(_), InputKind::Timestamp)
                    | (FeatureKind::Vector(_) | FeatureKind::Bytes(_), InputKind::Vector)
            );
            if !fits {
                return exec_err!(
                    "feature {} of type {} cannot be encoded as stored",
                    feature.name,
                    feature.data_type
                );
            }
            let scales: &[Scale] = match &feature.kind {
                FeatureKind::Number(s) | FeatureKind::Boolean(s) | FeatureKind::Timestamp(s) => {
                    std::slice::from_ref(s)
                }
                FeatureKind::Vector(scales) => scales,
                FeatureKind::Category(_) | FeatureKind::Bytes(_) => &[],
            };
            let is_sound = |s: &Scale| {
                s.mean.is_finite() && s.center.is_finite() && s.stddev.is_finite() && s.stddev > 0.0
            };
            if !scales.iter().all(is_sound) {
                return exec_err!(
                    "feature {} has a scale that is not finite; its values are too large",
                    feature.name
                );
            }
            // (`dense` counts decoded inputs here.)
            stored.push(match &feature.kind {
                FeatureKind::Bytes(_) => width.bytes,
                _ => width.dense - width.bytes,
            });
            match &feature.kind {
                FeatureKind::Category(categories) => {
                    places.push(width.columns);
                    let is_ascending = is_sorted || categories.is_ascending();
                    let first = width.categories;
                    lookups.push(Some(Lookup::new(
                        &feature.name,
                        categories,
                        first,
                        is_ascending,
                    )?));
                    width.columns += 1;
                    width.categories += categories.len();
                }
                kind => {
                    places.push(width.dense);
                    lookups.push(None);
                    width.dense += kind.dense();
                }
            }
            if let FeatureKind::Bytes(scale) = &feature.kind {
                if !(scale.divisor.is_finite() && scale.divisor > 0.0) {
                    return exec_err!("feature {} has no divisor above 0", feature.name);
                }
                width.bytes += scale.length;
            }
        }
        Ok(Self {
            schema: RowSchema::new(fields(&features), width.categories, 0),
            features: features.into(),
            places: places.into(),
            stored: stored.into(),
            lookups: lookups.into(),
        })
    }

    /// The features in the order of their columns.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The width of an encoded row whose bytes are decoded.
    pub fn width(&self) -> Width {
        Width { targets: 1, ..self.schema.width().decoded() }
    }

    /// The fields of an encoded row with so many numbers of the target.
    pub fn schema(&self, targets: usize) -> RowSchema {
        self.schema.with_targets(targets)
    }

    /// The encoder that rows of these (flattened) columns would have, with two categories each;
    /// None where the types do not say how long lists are.
    ///
    /// # Errors
    /// When a type cannot be a feature.
    pub fn of_types(inputs: &[(String, DataType)]) -> Result<Option<Self>> {
        let scale = Scale { mean: 0.0, center: 0.0, stddev: 1.0, min: 0.0, max: 1.0 };
        let mut features = vec![];
        for (name, data_type) in inputs {
            let kind = match InputKind::of(name, data_type)? {
                InputKind::Number => FeatureKind::Number(scale),
                InputKind::Boolean => FeatureKind::Boolean(scale),
                InputKind::Timestamp => FeatureKind::Timestamp(scale),
                InputKind::Category => {
                    FeatureKind::Category([Some("a"), Some("b")].into_iter().collect())
                }
                InputKind::Vector => match list_shape(data_type).iter().product() {
                    0 => return Ok(None),
                    length if item_type(data_type) == Some(&DataType::UInt8) => {
                        let (divisor, mean, min, max) = (255.0, 0.0, 0.0, 255.0);
                        FeatureKind::Bytes(ByteScale { length, divisor, mean, min, max })
                    }
                    length => FeatureKind::Vector(vec![scale; length]),
                },
            };
            let (name, data_type) = (name.clone(), data_type.clone());
            features.push(Feature { name, data_type, kind, null_count: 0 });
        }
        Self::new(features).map(Some)
    }

    /// The index of the first dense input of a feature, or of its category column.
    pub fn place(&self, feature: usize) -> usize {
        self.places[feature]
    }

    /// The first category of each column.
    pub fn first_categories(&self) -> Arc<[u32]> {
        self.lookups.iter().flatten().map(|lookup| lookup.offset).collect()
    }

    /// The dense inputs of the first layer in order; the inputs of the categories of all features
    /// follow them.
    pub fn dense_names(&self) -> Vec<InputName> {
        let mut dense = vec![];
        for feature in self.features.iter() {
            let (name, kind) = (feature.name.as_str(), feature.kind.name());
            let mut push = |name: String, center: f64, stddev: f64| {
                dense.push(InputName { name, center, stddev, kind });
            };
            match &feature.kind {
                FeatureKind::Number(s) | FeatureKind::Boolean(s) => {
                    push(name.to_owned(), s.center, s.stddev);
                }
                FeatureKind::Timestamp(s) => {
                    for (i, suffix) in TIMESTAMP_INPUTS.iter().enumerate() {
                        let (center, stddev) =
                            if i == 0 { (s.center, s.stddev) } else { (0.0, 1.0) };
                        push(format!("{name}{suffix}"), center, stddev);
                    }
                }
                FeatureKind::Vector(scales) => {
                    for (i, s) in scales.iter().enumerate() {
                        push(format!("{name}[{i}]"), s.center, s.stddev);
                    }
                }
                FeatureKind::Bytes(scale) => {
                    for i in 0..scale.length {
                        push(format!("{name}[{i}]"), 0.0, scale.divisor);
                    }
                }
                FeatureKind::Category(_) => {}
            }
        }
        dense
    }

    /// Refuses columns that it cannot encode: `given` are the (flattened) columns by name.
    ///
    /// # Errors
    /// When a column does not fit; the error names it, the type found and the type that the model
    /// needs.
    pub fn check<'a>(
        &self,
        given: impl IntoIterator<Item = (&'a str, &'a DataType)>,
    ) -> Result<()> {
        let given: HashMap<&str, &DataType> = given.into_iter().collect();
        for feature in self.features.iter() {
            let Some(&found) = given.get(feature.name.as_str()) else {
                return plan_err!(
                    "the model needs column {} ({}), which is missing",
                    feature.name,
                    feature.data_type
                );
            };
            let wanted = InputKind::of(&feature.name, &feature.data_type)?;
            let fits = match InputKind::of(&feature.name, found) {
                Ok(kind) => kind == wanted,
                // A column that is all NULL fits every feature.
                Err(_) => matches!(found, DataType::Null),
            };
            if !fits {
                return plan_err!(
                    "column {} is {found}, but the model was trained on {}",
                    feature.name,
                    feature.data_type
                );
            }
        }
        Ok(())
    }

    /// Maps the provisional codes of an interner to this encoder's categories, for the feature with
    /// that index.
    pub fn code_map(&self, feature: usize, interner: &Interner) -> Result<CodeMap> {
        let (Some(Some(lookup)), FeatureKind::Category(categories)) =
            (self.lookups.get(feature), &self.features[feature].kind)
        else {
            return exec_err!("feature {feature} is no category");
        };
        let codes = match lookup.is_ascending {
            true => lookup.codes_of(categories, interner),
            false => interner.values().map(|value| lookup.find(categories, value)).collect(),
        };
        Ok(CodeMap { codes, null: lookup.null })
    }

    /// The lookup of a category feature, and its categories.
    fn lookup(&self, feature: usize) -> Option<(&Lookup, &Categories)> {
        match (self.lookups.get(feature)?, &self.features[feature].kind) {
            (Some(lookup), FeatureKind::Category(categories)) => Some((lookup, categories)),
            _ => None,
        }
    }
}

impl Lookup {
    fn new(name: &str, categories: &Categories, offset: usize, is_ascending: bool) -> Result<Self> {
        let (Ok(offset), Ok(_)) = (u32::try_from(offset), u32::try_from(offset + categories.len()))
        else {
            return exec_err!("feature {name} has too many categories");
        };
        let null = categories.iter().position(|category| category.is_none());
        let null = null.map_or(NO_CATEGORY, |i| offset + i as u32);
        let lookup = Lookup { offset, null, is_ascending, places: OnceLock::new() };
        if !is_ascending {
            let nulls = categories.iter().filter(Option::is_none).count();
            if lookup.places(categories).len() + nulls != categories.len() || nulls > 1 {
                return exec_err!("feature {name} has a category twice");
            }
        }
        Ok(lookup)
    }

    fn places(&self, categories: &Categories) -> &Places {
        self.places.get_or_init(|| Places::new(categories))
    }

    #[inline]
    fn find(&self, categories: &Categories, text: &str) -> u32 {
        let place = self.places(categories).find(categories, text);
        place.map_or(NO_CATEGORY, |place| self.offset + place)
    }

    /// The index of each text of an interner among ascending categories: a merge of the two in
    /// order.
    fn codes_of(&self, categories: &Categories, interner: &Interner) -> Vec<u32> {
        let mut codes = vec![NO_CATEGORY; interner.values().len()];
        let mut known = (self.offset..).zip(categories.iter()).peekable();
        for code in interner.sorted() {
            let text = interner.value(*code);
            while let Some((found, category)) = known.peek() {
                match category.cmp(&text) {
                    Ordering::Less => known.next(),
                    Ordering::Equal => {
                        codes[*code as usize] = *found;
                        break;
                    }
                    Ordering::Greater => break,
                };
            }
        }
        codes
    }
}
