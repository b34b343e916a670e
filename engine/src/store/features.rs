//! The table `features`: how each input is preprocessed.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, Float64Builder, ListArray, RecordBatch, StringArray,
    StringBuilder, UInt32Builder, UInt64Builder, new_empty_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use gradlake_udfs::{ByteScale, Categories, Feature, FeatureKind, Model, Scale};
use serde::Deserialize;

use super::tables::{trained, with_keys};

/// A row of `features` without its categories.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct FeatureRow {
    pub feature: String,
    pub element: Option<u32>,
    pub kind: String,
    pub data_type: String,
    pub mean: Option<f64>,
    pub center: Option<f64>,
    pub stddev: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Elements of a vector of bytes (format 3).
    #[serde(default)]
    pub length: Option<u32>,
    pub null_count: u64,
}

/// The columns of `features` as they are written. (Writing uses builders, not records: there may be
/// a row for each feature of a million groups, or a million categories. Reading gets records of one
/// model at a time.)
#[derive(Default)]
struct FeatureColumns {
    feature: StringBuilder,
    element: UInt32Builder,
    kind: StringBuilder,
    data_type: StringBuilder,
    /// Mean, center, standard deviation, smallest, largest.
    scale: [Float64Builder; 5],
    length: UInt32Builder,
    null_count: UInt64Builder,
    categories: Vec<Option<StringArray>>,
}

impl FeatureColumns {
    fn push(&mut self, feature: &Feature, element: Option<u32>, scale: Option<Scale>) {
        self.feature.append_value(&feature.name);
        self.element.append_option(element);
        self.kind.append_value(feature.kind.name());
        self.data_type.append_value(feature.data_type.to_string());
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        let values = match scale {
            Some(s) => [Some(s.mean), Some(s.center), Some(s.stddev), finite(s.min), finite(s.max)],
            None => [None; 5],
        };
        self.scale.iter_mut().zip(values).for_each(|(column, value)| column.append_option(value));
        self.length.append_option(match &feature.kind {
            FeatureKind::Bytes(scale) => Some(scale.length as u32),
            _ => None,
        });
        self.null_count.append_value(feature.null_count);
        self.categories.push(match &feature.kind {
            FeatureKind::Category(own) => Some(own.array().clone()),
            _ => None,
        });
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let float = |name: &str| Field::new(name, DataType::Float64, true);
        let schema = Arc::new(Schema::new(vec![
            Field::new("feature", DataType::Utf8, false),
            Field::new("element", DataType::UInt32, true),
            Field::new("kind", DataType::Utf8, false),
            Field::new("data_type", DataType::Utf8, false),
            float("mean"),
            float("center"),
            float("stddev"),
            float("min"),
            float("max"),
            Field::new("length", DataType::UInt32, true),
            Field::new("null_count", DataType::UInt64, false),
            Field::new("categories", DataType::new_list(DataType::Utf8, true), true),
        ]));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.feature.finish()),
            Arc::new(self.element.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.data_type.finish()),
        ];
        columns.extend(self.scale.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(self.length.finish()));
        columns.push(Arc::new(self.null_count.finish()));
        columns.push(Arc::new(lists(&self.categories)?));
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// Turns arrays into a column of lists, which are NULL where there is no array.
fn lists(arrays: &[Option<StringArray>]) -> Result<ListArray> {
    let lengths = arrays.iter().map(|array| array.as_ref().map_or(0, Array::len));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let known: Vec<&dyn Array> = arrays.iter().flatten().map(|array| array as _).collect();
    let values = match known.as_slice() {
        [] => new_empty_array(&DataType::Utf8),
        known => concat(known)?,
    };
    let nulls = arrays.iter().map(Option::is_some).collect();
    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    Ok(ListArray::try_new(item, offsets, values, Some(nulls))?)
}

/// The categories of each feature, as [`lists`] wrote them.
///
/// # Errors
/// When they are no lists of texts.
pub(super) fn categories(batch: &RecordBatch) -> Result<Vec<Option<Categories>>> {
    let Some(column) = batch.column_by_name("categories") else {
        return exec_err!("the table features has no column categories");
    };
    let lists = cast(column, &DataType::new_list(DataType::Utf8, true)).map_err(|_| {
        let found = column.data_type();
        exec_datafusion_err!("the categories of the table features are {found}, not lists of texts")
    })?;
    let texts = |list: ArrayRef| Categories::from(list.as_string::<i32>().clone());
    Ok(lists.as_list::<i32>().iter().map(|list| list.map(texts)).collect())
}

/// The table.
pub(super) fn features(model: &Model) -> Result<RecordBatch> {
    let mut columns = FeatureColumns::default();
    let mut member = vec![];
    for (index, trained) in trained(model) {
        for feature in trained.encoder.features() {
            match &feature.kind {
                FeatureKind::Number(s) | FeatureKind::Boolean(s) | FeatureKind::Timestamp(s) => {
                    columns.push(feature, None, Some(*s));
                }
                FeatureKind::Vector(scales) => {
                    if scales.is_empty() {
                        columns.push(feature, None, None);
                    }
                    for (element, scale) in scales.iter().enumerate() {
                        columns.push(feature, Some(element as u32), Some(*scale));
                    }
                }
                FeatureKind::Bytes(ByteScale { divisor, mean, min, max, .. }) => {
                    let (mean, min, max) = (*mean, *min, *max);
                    let scale = Scale { mean, center: 0.0, stddev: *divisor, min, max };
                    columns.push(feature, None, Some(scale));
                }
                FeatureKind::Category(_) => columns.push(feature, None, None),
            }
            member.resize(columns.feature.len(), index);
        }
    }
    with_keys(model, &member, &columns.finish()?)
}
