//! The readable tables of principal components, with the columns of BigQuery's
//! `ML.PRINCIPAL_COMPONENTS` and `ML.PRINCIPAL_COMPONENT_INFO`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::Result;

use super::description::Tensors;
use crate::encoder::{Encoder, FeatureKind};

/// The loading of each input on each component.
pub(super) const COMPONENTS: &str = "components";
/// The variance of each component.
pub(super) const INFO: &str = "component_info";

const ID: &str = "principal_component_id";

/// One row for each component and input; inputs of numbers have no category, nor has the category
/// of NULL.
pub(super) fn components(tensors: Tensors<'_>, encoder: &Encoder) -> Result<RecordBatch> {
    let (n, k) = (tensors.mean.len(), tensors.variances.len());
    let (mut features, mut categories) = (StringBuilder::new(), StringBuilder::new());
    let dense = encoder.dense_names();
    for _ in 0..k {
        for input in &dense {
            features.append_value(&input.name);
            categories.append_null();
        }
        for feature in encoder.features() {
            let FeatureKind::Category(own) = &feature.kind else { continue };
            for category in own.iter() {
                features.append_value(&feature.name);
                categories.append_option(category);
            }
        }
    }
    let ids = (0..k * n).map(|i| (i / n) as i64 + 1);
    let values = tensors.components.iter().map(|value| f64::from(*value));
    table(vec![
        (ID, false, Arc::new(Int64Array::from_iter_values(ids))),
        ("feature", false, Arc::new(features.finish())),
        ("category", true, Arc::new(categories.finish())),
        ("value", false, Arc::new(Float64Array::from_iter_values(values))),
    ])
}

/// One row for each component.
pub(super) fn info(tensors: Tensors<'_>) -> Result<RecordBatch> {
    let (k, total) = (tensors.variances.len(), f64::from(tensors.total));
    let eigenvalues: Vec<f64> = tensors.variances.iter().map(|value| f64::from(*value)).collect();
    let ratios: Vec<f64> = eigenvalues.iter().map(|value| value / total).collect();
    let mut sum = 0.0;
    let cumulative = eigenvalues.iter().map(|value| {
        sum += value;
        (sum / total).min(1.0)
    });
    let cumulative = Float64Array::from_iter_values(cumulative);
    table(vec![
        (ID, false, Arc::new(Int64Array::from_iter_values((1..=k).map(|id| id as i64)))),
        ("eigenvalue", false, Arc::new(Float64Array::from(eigenvalues))),
        ("explained_variance_ratio", false, Arc::new(Float64Array::from(ratios))),
        ("cumulative_explained_variance_ratio", false, Arc::new(cumulative)),
    ])
}

/// A table of columns: name, whether it may be NULL, values.
fn table(columns: Vec<(&str, bool, ArrayRef)>) -> Result<RecordBatch> {
    let field = |(name, is_nullable, values): &(&str, bool, ArrayRef)| -> Field {
        let data_type: &DataType = values.data_type();
        Field::new(*name, data_type.clone(), *is_nullable)
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let values = columns.into_iter().map(|(_, _, values)| values).collect();
    Ok(RecordBatch::try_new(Arc::new(schema), values)?)
}
