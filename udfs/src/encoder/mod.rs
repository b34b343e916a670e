//! The frozen preprocessing from input columns to encoded rows.
//!
//! | input | encoded as |
//! |---|---|
//! | integers, floats, decimals | one dense number, NULL as the mean, standardised |
//! | booleans | 0 or 1, NULL as the mean, standardised |
//! | strings, dictionaries of strings, dates | one category; NULL is a category of its own |
//! | timestamps | unix seconds standardised; sine and cosine of hour, weekday and month |
//! | lists of numbers of one length | one dense number per element; `uint8` scaled to 0..1 by the largest of the training rows |
//! | structs | field by field |
//!
//! [`Statistics`] are gathered over training rows and become an [`Encoder`], which PREDICT applies
//! as training did.

mod apply;
mod input;
mod interner;
#[cfg(test)]
mod oracle;
mod rowhash;
mod running;
mod statistics;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err, plan_err};
use xxhash_rust::xxh3::Xxh3Default;

pub use apply::Column;
pub use input::{Input, Kind, flatten_columns, flatten_fields};
pub use interner::{CodeMap, Interner};
pub use rowhash::hash_rows;
pub use running::{RawRows, RunningEncoder, RunningState};
pub use statistics::{Statistics, Values};

use crate::batch::Width;

/// Hashing of texts that does not differ from run to run.
pub(crate) type TextHasher = BuildHasherDefault<Xxh3Default>;

/// Dense inputs of a timestamp: the time itself and three cycles of sine and cosine.
pub const TIMESTAMP_INPUTS: [&str; 7] =
    ["", ".hour_sin", ".hour_cos", ".weekday_sin", ".weekday_cos", ".month_sin", ".month_cos"];

/// One input column (a struct's fields are columns of their own, `struct.field`) and what
/// becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Name of the input column.
    pub name: String,
    /// Type of the input column.
    pub data_type: DataType,
    /// How it is encoded.
    pub kind: FeatureKind,
    /// Values that were NULL or not finite in the training rows.
    pub null_count: u64,
}

/// `encoded = (value - center) / stddev` of one dense number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Mean of the training rows' values: what replaces NULL.
    pub mean: f64,
    /// What is subtracted: `mean` when standardised, else 0.
    pub center: f64,
    /// What it is divided by: the population standard deviation with NULLs counted at the mean
    /// (as scikit-learn's `SimpleImputer` before `StandardScaler`); 1 where there is no variance
    /// or no standardisation; of `uint8` vectors the largest element of the training rows.
    pub stddev: f64,
    /// Smallest value of the training rows.
    pub min: f64,
    /// Largest value of the training rows.
    pub max: f64,
}

impl Scale {
    /// The encoded value.
    #[inline(always)]
    pub fn encode(&self, value: f64) -> f32 {
        ((value - self.center) / self.stddev) as f32
    }
}

/// How a column is encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureKind {
    /// A number or decimal: one dense input.
    Number(Scale),
    /// A boolean as 0/1: one dense input.
    Boolean(Scale),
    /// Strings or dates, one-hot; sorted, the NULL category (if any) first.
    Category(Vec<Option<String>>),
    /// Unix seconds, then cycles: see [`TIMESTAMP_INPUTS`].
    Timestamp(Scale),
    /// A vector: one dense input per element.
    Vector(Vec<Scale>),
}

impl FeatureKind {
    /// Dense inputs that it becomes.
    pub fn dense(&self) -> usize {
        match self {
            FeatureKind::Number(_) | FeatureKind::Boolean(_) => 1,
            FeatureKind::Category(_) => 0,
            FeatureKind::Timestamp(_) => TIMESTAMP_INPUTS.len(),
            FeatureKind::Vector(scales) => scales.len(),
        }
    }
}

/// One input of the first layer, for people: a dense number or a category.
#[derive(Clone, Debug, PartialEq)]
pub struct InputName {
    /// `carat`, `time.hour_sin`, `image[3]`, or the column of a category.
    pub name: String,
    /// The category (`None` inside for NULL) of a one-hot input.
    pub category: Option<Option<String>>,
    /// From the standardised scale to the raw one: `(value - center) / stddev`; 0 and 1 of
    /// categories and cycles.
    pub center: f64,
    /// See `center`.
    pub stddev: f64,
}

/// From the text of a category to its global index.
#[derive(Clone, Debug, Default)]
struct Lookup {
    codes: HashMap<String, u32, TextHasher>,
    null: u32,
}

/// The frozen preprocessing from input columns to encoded rows.
#[derive(Clone, Debug)]
pub struct Encoder {
    features: Vec<Feature>,
    width: Width,
    /// Per feature: its first dense input, or the number of its category column.
    places: Vec<usize>,
    /// Per feature that is a category: its lookup.
    lookups: Vec<Option<Lookup>>,
}

impl PartialEq for Encoder {
    fn eq(&self, other: &Self) -> bool {
        self.features == other.features
    }
}

impl Encoder {
    /// The encoder of some features, fitted or read back.
    ///
    /// # Errors
    /// When a feature's kind does not fit its type, a scale is not finite, or a category occurs
    /// twice.
    pub fn new(features: Vec<Feature>) -> Result<Self> {
        let mut width = Width::default();
        let mut places = vec![];
        let mut lookups = vec![];
        for feature in &features {
            let kind = Kind::of(&feature.name, &feature.data_type)?;
            let fits = matches!(
                (&feature.kind, kind),
                (FeatureKind::Number(_), Kind::Number)
                    | (FeatureKind::Boolean(_), Kind::Boolean)
                    | (FeatureKind::Category(_), Kind::Category)
                    | (FeatureKind::Timestamp(_), Kind::Timestamp)
                    | (FeatureKind::Vector(_), Kind::Vector)
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
                FeatureKind::Category(_) => &[],
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
            match &feature.kind {
                FeatureKind::Category(categories) => {
                    places.push(width.columns);
                    lookups.push(Some(Lookup::new(&feature.name, categories, width.categories)?));
                    width.columns += 1;
                    width.categories += categories.len();
                }
                kind => {
                    places.push(width.dense);
                    lookups.push(None);
                    width.dense += kind.dense();
                }
            }
        }
        Ok(Self { features, width, places, lookups })
    }

    /// The features in the order of their columns.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The width of an encoded row.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The inputs of the first layer in order: dense ones, then categories.
    pub fn input_names(&self) -> Vec<InputName> {
        let mut dense = vec![];
        let mut categories = vec![];
        for feature in &self.features {
            let name = &feature.name;
            let mut push = |name: String, center: f64, stddev: f64| {
                dense.push(InputName { name, category: None, center, stddev });
            };
            match &feature.kind {
                FeatureKind::Number(s) | FeatureKind::Boolean(s) => {
                    push(name.clone(), s.center, s.stddev);
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
                FeatureKind::Category(values) => {
                    categories.extend(values.iter().map(|value| InputName {
                        name: name.clone(),
                        category: Some(value.clone()),
                        center: 0.0,
                        stddev: 1.0,
                    }));
                }
            }
        }
        dense.extend(categories);
        dense
    }

    /// Refuses columns that it cannot encode: `given` are the (flattened) columns by name.
    ///
    /// # Errors
    /// Names the column, the type found and the type that the model needs.
    pub fn check(&self, given: &[(&str, &DataType)]) -> Result<()> {
        for feature in &self.features {
            let Some((_, found)) = given.iter().find(|(name, _)| *name == feature.name) else {
                return plan_err!(
                    "the model needs column {} ({}), which is missing",
                    feature.name,
                    feature.data_type
                );
            };
            let wanted = Kind::of(&feature.name, &feature.data_type)?;
            let fits = match Kind::of(&feature.name, found) {
                Ok(kind) => kind == wanted,
                // A column of nothing but NULL fits everything.
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

    /// From the provisional codes of an interner to this encoder's categories, for the feature
    /// with that index.
    pub fn code_map(&self, feature: usize, interner: &Interner) -> Result<CodeMap> {
        match self.lookups.get(feature) {
            Some(Some(lookup)) => Ok(CodeMap {
                codes: interner.values().map(|value| lookup.find(value)).collect(),
                null: lookup.null,
            }),
            _ => exec_err!("feature {feature} is no category"),
        }
    }
}

impl Lookup {
    fn new(name: &str, categories: &[Option<String>], offset: usize) -> Result<Self> {
        let mut lookup = Lookup { codes: HashMap::default(), null: crate::batch::NO_CATEGORY };
        let mut nulls = 0;
        for (i, category) in categories.iter().enumerate() {
            let Ok(code) = u32::try_from(offset + i) else {
                return exec_err!("feature {name} has too many categories");
            };
            match category {
                None => {
                    nulls += 1;
                    lookup.null = code;
                }
                Some(text) => {
                    lookup.codes.insert(text.clone(), code);
                }
            }
        }
        if lookup.codes.len() + nulls != categories.len() || nulls > 1 {
            return exec_err!("feature {name} has a category twice");
        }
        Ok(lookup)
    }

    #[inline]
    fn find(&self, text: &str) -> u32 {
        self.codes.get(text).copied().unwrap_or(crate::batch::NO_CATEGORY)
    }
}
