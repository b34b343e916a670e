//! The table `weights`: a linear model for people, on the scale of the columns and on the
//! standardised one.
//!
//! With `x' = (x - center) / stddev` and `z = sum w' x' + b'`, the raw weight is
//! `w = s w' / stddev` and the raw intercept `s (b' - sum w' center / stddev) + mean`, where `s` and
//! `mean` take a standardised target back (1 and 0 elsewhere).

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, ScalarValue};
use gradlake_udfs::learner::Learner;
use gradlake_udfs::model::{Labels, Model};

use super::tables::{trained, with_keys};

/// What the intercept is called.
pub const INTERCEPT: &str = "__INTERCEPT__";

/// The columns of the table, as they grow.
#[derive(Default)]
struct Columns {
    processed_input: StringBuilder,
    category: StringBuilder,
    class_label: StringBuilder,
    weight: Vec<f64>,
    standardized_weight: Vec<f64>,
}

impl Columns {
    fn push(
        &mut self,
        (input, category): (&str, Option<&str>),
        class_label: Option<&str>,
        weight: f64,
        standardized_weight: f64,
    ) {
        self.processed_input.append_value(input);
        self.category.append_option(category);
        self.class_label.append_option(class_label);
        self.weight.push(weight);
        self.standardized_weight.push(standardized_weight);
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let schema = Arc::new(Schema::new(vec![
            text("processed_input", false),
            text("category", true),
            text("class_label", true),
            Field::new("weight", DataType::Float64, false),
            Field::new("standardized_weight", DataType::Float64, false),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.processed_input.finish()),
            Arc::new(self.category.finish()),
            Arc::new(self.class_label.finish()),
            Arc::new(Float64Array::from(self.weight)),
            Arc::new(Float64Array::from(self.standardized_weight)),
        ];
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// The table; without rows where the model has hidden layers.
pub(super) fn weights(model: &Model) -> Result<RecordBatch> {
    let mut rows = Columns::default();
    let mut member = vec![];
    for (index, trained) in trained(model) {
        if !trained.network.hidden.is_empty() {
            continue;
        }
        let network = trained.network.network(trained.encoder.width());
        let k = network.outputs();
        let inputs = trained.encoder.width().inputs();
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
            for (i, input) in trained.encoder.input_names().enumerate() {
                let own = f64::from(trained.parameters[i * k + output]);
                shift += own * input.center / input.stddev;
                let category = input.category.map(|category| category.unwrap_or("NULL"));
                let name = (input.name.as_ref(), category);
                rows.push(name, class_label.as_deref(), scale * own / input.stddev, own);
            }
            let intercept = trained.parameters.get(inputs * k + output);
            let intercept = intercept.map_or(0.0, |b| f64::from(*b));
            let raw = scale * (intercept - shift) + mean;
            rows.push((INTERCEPT, None), class_label.as_deref(), raw, intercept);
        }
        member.resize(rows.weight.len(), index);
    }
    with_keys(model, &member, &rows.finish()?)
}
