//! Input columns and how they are encoded: kinds, scales, shapes, fields of a row.

use arrow::datatypes::DataType;

use super::{Categories, list_shape};
use crate::batch::{Element, FieldSpec};

/// Dense inputs of a timestamp: the time itself and three cycles of sine and cosine.
pub const TIMESTAMP_INPUTS: [&str; 7] =
    ["", ".hour_sin", ".hour_cos", ".weekday_sin", ".weekday_cos", ".month_sin", ".month_cos"];

/// One input column and its encoding. A struct's fields are columns of their own, `struct.field`.
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

/// `encoded = (value - center) / stddev` of one dense number, within one unit in the last place of
/// float32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Mean of the training rows' values: it replaces NULL.
    pub mean: f64,
    /// Subtracted from the value: `mean` when standardised, else 0.
    pub center: f64,
    /// The value is divided by it: the population standard deviation with NULLs counted at the mean
    /// (as scikit-learn's `SimpleImputer` before `StandardScaler`); 1 where there is no variance or
    /// no standardisation.
    pub stddev: f64,
    /// Smallest value of the training rows.
    pub min: f64,
    /// Largest value of the training rows.
    pub max: f64,
}

impl Scale {
    /// The encoded value. (It multiplies by the inverse, which the compiler computes once for many
    /// values: a division per value takes longer than everything else.)
    #[inline(always)]
    pub fn encode(&self, value: f64) -> f32 {
        ((value - self.center) * (1.0 / self.stddev)) as f32
    }
}

/// `encoded = byte / divisor` of all elements of a `uint8` vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByteScale {
    /// Number of elements.
    pub length: usize,
    /// The largest element of the training rows, at least 1.
    pub divisor: f64,
    /// Mean of all elements; rounded, it replaces NULL.
    pub mean: f64,
    /// Smallest element of the training rows.
    pub min: f64,
    /// Largest element of the training rows.
    pub max: f64,
}

impl ByteScale {
    /// The byte that replaces NULL.
    pub fn fill(&self) -> u8 {
        self.mean.round() as u8
    }

    /// The encoded value.
    #[inline(always)]
    pub fn encode(&self, value: f64) -> f32 {
        (value / self.divisor) as f32
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
    Category(Categories),
    /// Unix seconds, then cycles: see [`TIMESTAMP_INPUTS`].
    Timestamp(Scale),
    /// A vector: one dense input per element.
    Vector(Vec<Scale>),
    /// A vector of `uint8`: one dense input per element, a byte in encoded rows.
    Bytes(ByteScale),
}

impl Feature {
    /// The shape of its dense inputs: that of nested lists of fixed length, else `[n]`.
    pub fn shape(&self) -> Vec<usize> {
        let n = self.kind.dense();
        let shape = list_shape(&self.data_type);
        if shape.len() > 1 && shape.iter().product::<usize>() == n { shape } else { vec![n] }
    }
}

impl FeatureKind {
    /// Its name in the tables of a model.
    pub fn name(&self) -> &'static str {
        match self {
            FeatureKind::Number(_) => "number",
            FeatureKind::Boolean(_) => "boolean",
            FeatureKind::Category(_) => "category",
            FeatureKind::Timestamp(_) => "timestamp",
            FeatureKind::Vector(_) => "vector",
            FeatureKind::Bytes(_) => "bytes",
        }
    }

    /// Dense inputs that it becomes.
    pub fn dense(&self) -> usize {
        match self {
            FeatureKind::Number(_) | FeatureKind::Boolean(_) => 1,
            FeatureKind::Category(_) => 0,
            FeatureKind::Timestamp(_) => TIMESTAMP_INPUTS.len(),
            FeatureKind::Vector(scales) => scales.len(),
            FeatureKind::Bytes(scale) => scale.length,
        }
    }
}

/// The fields of rows with these features: adjacent numbers are one field, and so are all
/// categories.
pub(super) fn fields(features: &[Feature]) -> Vec<FieldSpec> {
    let (mut fields, mut columns): (Vec<FieldSpec>, usize) = (vec![], 0);
    for feature in features {
        match &feature.kind {
            FeatureKind::Category(_) => columns += 1,
            FeatureKind::Bytes(scale) => {
                let element = Element::U8 { divisor: scale.divisor as f32 };
                fields.push(FieldSpec::new(&feature.name, element, vec![scale.length]));
            }
            kind => match fields.last_mut() {
                Some(FieldSpec { element: Element::F32, shape, .. }) => shape[0] += kind.dense(),
                _ => fields.push(FieldSpec::new("features", Element::F32, vec![kind.dense()])),
            },
        }
    }
    fields.push(FieldSpec::new("categories", Element::U32, vec![columns]));
    fields
}
