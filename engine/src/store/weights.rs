//! The table `weights`: a linear model for people, on the scale of the columns and on the
//! standardised one.
//!
//! With `x' = (x - center) / stddev` and `z = sum w' x' + b'`, the raw weight is
//! `w = s w' / stddev` and the raw intercept `s (b' - sum w' center / stddev) + mean`, where `s` and
//! `mean` take a standardised target back (1 and 0 elsewhere).

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, ScalarValue};
use gradlake_udfs::learner::Learner;
use gradlake_udfs::model::{Labels, Model};
use serde::Serialize;

use super::records::to_batch;
use super::tables::{trained, with_keys};

/// What the intercept is called.
pub const INTERCEPT: &str = "__INTERCEPT__";

#[derive(Serialize)]
struct Row {
    processed_input: String,
    category: Option<String>,
    class_label: Option<String>,
    weight: f64,
    standardized_weight: f64,
}

/// The table; without rows where the model has hidden layers.
pub(super) fn weights(model: &Model) -> Result<RecordBatch> {
    let mut rows = vec![];
    let mut member = vec![];
    for (index, trained) in trained(model) {
        if !trained.network.hidden.is_empty() {
            continue;
        }
        let network = trained.network.network(trained.encoder.width());
        let k = network.outputs();
        let inputs = trained.encoder.input_names();
        let (scale, mean) = match trained.labels {
            Labels::Numbers { mean, stddev } => (stddev, mean),
            Labels::Classes(_) => (1.0, 0.0),
        };
        for output in 0..k {
            let class_label = match &trained.labels {
                // The one output of two classes speaks for the larger.
                Labels::Classes(classes) if k == 1 => classes.last().map(ScalarValue::to_string),
                Labels::Classes(classes) => classes.get(output).map(ScalarValue::to_string),
                Labels::Numbers { .. } => None,
            };
            let mut shift = 0.0;
            for (i, input) in inputs.iter().enumerate() {
                let own = f64::from(trained.parameters[i * k + output]);
                shift += own * input.center / input.stddev;
                rows.push(Row {
                    processed_input: input.name.clone(),
                    category: input
                        .category
                        .as_ref()
                        .map(|c| c.clone().unwrap_or_else(|| "NULL".to_owned())),
                    class_label: class_label.clone(),
                    weight: scale * own / input.stddev,
                    standardized_weight: own,
                });
            }
            let intercept = trained.parameters.get(inputs.len() * k + output);
            let intercept = intercept.map_or(0.0, |b| f64::from(*b));
            rows.push(Row {
                processed_input: INTERCEPT.to_owned(),
                category: None,
                class_label,
                weight: scale * (intercept - shift) + mean,
                standardized_weight: intercept,
            });
        }
        member.resize(rows.len(), index);
    }
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let schema = Arc::new(Schema::new(vec![
        text("processed_input", false),
        text("category", true),
        text("class_label", true),
        Field::new("weight", DataType::Float64, false),
        Field::new("standardized_weight", DataType::Float64, false),
    ]));
    with_keys(model, &member, &to_batch(schema, &rows)?)
}
