//! The frozen preprocessing from input columns to encoded rows.

use arrow::datatypes::DataType;

use crate::batch::Width;

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

/// `encoded = (value - mean) / stddev` of one dense number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Weighted? No: plain mean of the training rows; what replaces NULL.
    pub mean: f64,
    /// Population standard deviation; 1 where there is no variance or no standardisation.
    pub stddev: f64,
    /// What is subtracted: `mean` when standardised, else 0.
    pub center: f64,
    /// Smallest value of the training rows.
    pub min: f64,
    /// Largest value of the training rows.
    pub max: f64,
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
    /// Unix seconds, then sin/cos of the hour of the day, the weekday and the month: 7 inputs.
    Timestamp(Scale),
    /// A vector: one dense input per element.
    Vector(Vec<Scale>),
}

/// The frozen preprocessing from input columns to encoded rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    features: Vec<Feature>,
    width: Width,
}
