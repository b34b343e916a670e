//! The table `weights`: a readable linear model, on the scale of the columns and on the
//! standardised scale.
//!
//! With `x' = (x - center) / stddev` and `z = sum w' x' + b'`, the raw weight is `w = s w' /
//! stddev` and the raw intercept `s (b' - sum w' center / stddev) + mean`, where `s` and `mean`
//! invert the standardisation of the target (1 and 0 elsewhere).
//!
//! `kind` says what a weight belongs to: `number`, `boolean`, `timestamp` or `vector` (of the
//! feature, as the table `features` has it), a `category`, `missing` (rows whose category is NULL),
//! or the `intercept`. Names alone are not enough, since a column may have the name of the
//! intercept.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, ScalarValue};
use gradlake_udfs::{
    Categories, FeatureKind, LabelScale, Labels, Model, NetworkSpec, Trained, target_names,
};

use super::tables::{trained, with_keys};

/// The name of the intercept, and its kind.
const INTERCEPT: (&str, &str) = ("__INTERCEPT__", "intercept");
/// The kind of a category.
const CATEGORY: &str = "category";
/// The kind of the category of rows without one.
const MISSING: &str = "missing";

/// Builders of the columns of the table.
struct Columns {
    processed_input: StringBuilder,
    kind: StringBuilder,
    category: StringBuilder,
    class_label: StringBuilder,
    weight: Vec<f64>,
    standardized_weight: Vec<f64>,
}

impl Columns {
    fn push(
        &mut self,
        (input, kind): (&str, &str),
        class_label: Option<&str>,
        weight: f64,
        standardized_weight: f64,
    ) {
        self.processed_input.append_value(input);
        self.kind.append_value(kind);
        self.category.append_null();
        self.class_label.append_option(class_label);
        self.weight.push(weight);
        self.standardized_weight.push(standardized_weight);
    }

    /// The categories of a feature, whose raw and standardised weights differ by the factor `scale`
    /// only.
    fn push_categories(
        &mut self,
        (input, categories): (&str, &Categories),
        class_label: Option<&str>,
        scale: f64,
        weights: impl Iterator<Item = f64> + Clone,
    ) -> Result<()> {
        let n = categories.len();
        self.processed_input.append_value_n(input, n);
        self.category.append_array(categories.array())?;
        if categories.array().null_count() == 0 {
            self.kind.append_value_n(CATEGORY, n);
        } else {
            let kind = |own: Option<&str>| if own.is_some() { CATEGORY } else { MISSING };
            categories.iter().for_each(|own| self.kind.append_value(kind(own)));
        }
        match class_label {
            Some(label) => self.class_label.append_value_n(label, n),
            None => self.class_label.append_nulls(n),
        }
        self.weight.extend(weights.clone().map(|weight| scale * weight));
        self.standardized_weight.extend(weights);
        Ok(())
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let schema = Arc::new(Schema::new(vec![
            text("processed_input", false),
            text("kind", false),
            text("category", true),
            text("class_label", true),
            Field::new("weight", DataType::Float64, false),
            Field::new("standardized_weight", DataType::Float64, false),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.processed_input.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.category.finish()),
            Arc::new(self.class_label.finish()),
            Arc::new(Float64Array::from(self.weight)),
            Arc::new(Float64Array::from(self.standardized_weight)),
        ];
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// Columns of the table, without those of PARTITION BY.
const OWN_COLUMNS: usize = 6;

/// Whether a table was written before weights had a kind.
pub(super) fn lacks_kind(table: &RecordBatch) -> bool {
    let schema = table.schema();
    let first = schema.fields().len().checked_sub(OWN_COLUMNS - 1);
    first.is_some_and(|first| schema.field(first).name() == "processed_input")
}

/// Approximate bytes of the name of a column.
const NAME_BYTES: usize = 16;

/// The network of a linear model; None of others.
fn linear(trained: &Trained) -> Option<&NetworkSpec> {
    trained.description.network().filter(|network| network.hidden.is_empty())
}

/// Columns with capacity for the rows of a model: growing into fresh memory takes longer than
/// filling it.
fn with_capacity(model: &Model) -> Columns {
    let (mut rows, mut inputs, mut categories, mut labels) = (0, 0, 0, 0);
    for (_, trained) in trained(model) {
        let Some(network) = linear(trained) else { continue };
        let width = trained.encoder.width();
        let outputs = network.outputs;
        let own_rows = (width.inputs() + 1) * outputs;
        rows += own_rows;
        inputs += (width.dense + 1) * outputs * NAME_BYTES;
        labels += own_rows;
        for feature in trained.encoder.features() {
            if let FeatureKind::Category(own) = &feature.kind {
                inputs += feature.name.len() * own.len() * outputs;
                categories += own.bytes() * outputs;
            }
        }
    }
    Columns {
        processed_input: StringBuilder::with_capacity(rows, inputs),
        kind: StringBuilder::with_capacity(rows, rows * CATEGORY.len()),
        category: StringBuilder::with_capacity(rows, categories),
        class_label: StringBuilder::with_capacity(rows, labels),
        weight: Vec::with_capacity(rows),
        standardized_weight: Vec::with_capacity(rows),
    }
}

/// The table; it has no rows if the model is not linear.
pub(super) fn weights(model: &Model) -> Result<RecordBatch> {
    let mut rows = with_capacity(model);
    let mut member = vec![];
    for (index, trained) in trained(model) {
        let Some(network) = linear(trained) else { continue };
        let k = network.outputs;
        let inputs = trained.encoder.width().inputs();
        let targets = model.targets.iter().map(|target| target.name.as_str());
        let targets = target_names(targets, trained.labels.targets());
        for output in 0..k {
            let LabelScale { mean, stddev: scale } = match &trained.labels {
                // (Quantiles are outputs of one target.)
                Labels::Numbers(scales) if !network.quantiles.is_empty() => scales[0],
                Labels::Numbers(scales) => scales[output],
                Labels::Classes(_) | Labels::None => LabelScale::NONE,
            };
            let class_label = match &trained.labels {
                // With two classes, the one output is the logit of the larger class.
                Labels::Classes(classes) if k == 1 => classes.last().map(ScalarValue::to_string),
                Labels::Classes(classes) => classes.get(output).map(ScalarValue::to_string),
                Labels::Numbers(_) if !network.quantiles.is_empty() => {
                    network.quantiles.get(output).map(f64::to_string)
                }
                Labels::Numbers(scales) if scales.len() > 1 => targets.get(output).cloned(),
                Labels::Numbers(_) | Labels::None => None,
            };
            let mut shift = 0.0;
            let weights = trained.parameters[..inputs * k].iter().skip(output).step_by(k);
            let mut weights = weights.map(|weight| f64::from(*weight));
            for (input, own) in trained.encoder.dense_names().iter().zip(weights.by_ref()) {
                shift += own * input.center / input.stddev;
                let name = (input.name.as_str(), input.kind);
                rows.push(name, class_label.as_deref(), scale * own / input.stddev, own);
            }
            for feature in trained.encoder.features() {
                let FeatureKind::Category(categories) = &feature.kind else { continue };
                let own = weights.clone().take(categories.len());
                let name = (feature.name.as_str(), categories);
                rows.push_categories(name, class_label.as_deref(), scale, own)?;
                weights.by_ref().take(categories.len()).for_each(drop);
            }
            let intercept = trained.parameters.get(inputs * k + output);
            let intercept = intercept.map_or(0.0, |b| f64::from(*b));
            let raw = scale * (intercept - shift) + mean;
            rows.push(INTERCEPT, class_label.as_deref(), raw, intercept);
        }
        member.resize(rows.weight.len(), index);
    }
    with_keys(model, &member, &rows.finish()?)
}
