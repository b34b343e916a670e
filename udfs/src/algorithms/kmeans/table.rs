//! The table `centroids`: the values of each feature at each centroid, in the feature's own units.
//!
//! Of a category, the value is the share of the cluster's rows that have it. (With cosines, values
//! are those of the centroid of unit length.)

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::Result;

use super::description::KmeansSpec;
use crate::encoder::FeatureKind;
use crate::model::Trained;

/// One row for each centroid and feature: `centroid_id` from 1, `feature`, `category` (of features
/// with categories; NULL there is the category of missing values), `value`, and `count`, the sum of
/// weights of the centroid's rows.
pub(super) fn centroids(spec: KmeansSpec, trained: &Trained) -> Result<RecordBatch> {
    let width = trained.encoder.width();
    let (centroids, counts) = spec.split(&trained.parameters, width)?;
    let rows = centroids.len();
    let (mut ids, mut of_rows) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let mut values = Vec::with_capacity(rows);
    let (mut features, mut categories) = (StringBuilder::new(), StringBuilder::new());
    let names = trained.encoder.dense_names();
    let of_centroid = centroids.chunks_exact(width.inputs().max(1)).zip(counts);
    for (id, (centroid, count)) in (1..).zip(of_centroid) {
        let (dense, rest) = centroid.split_at(width.dense);
        for (name, value) in names.iter().zip(dense) {
            features.append_value(&name.name);
            categories.append_null();
            values.push(f64::from(*value) * name.stddev + name.center);
        }
        let mut rest = rest.iter();
        for feature in trained.encoder.features() {
            let FeatureKind::Category(own) = &feature.kind else { continue };
            for (category, value) in own.iter().zip(rest.by_ref()) {
                features.append_value(&feature.name);
                categories.append_option(category);
                values.push(f64::from(*value));
            }
        }
        ids.resize(values.len(), id);
        of_rows.resize(values.len(), f64::from(*count));
    }
    let schema = Arc::new(Schema::new(vec![
        Field::new("centroid_id", DataType::Int64, false),
        Field::new("feature", DataType::Utf8, false),
        Field::new("category", DataType::Utf8, true),
        Field::new("value", DataType::Float64, false),
        Field::new("count", DataType::Float64, false),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(features.finish()),
        Arc::new(categories.finish()),
        Arc::new(Float64Array::from(values)),
        Arc::new(Float64Array::from(of_rows)),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}
