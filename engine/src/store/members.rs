//! The table `members`: the trained model of each group, without its tensors.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, UInt32Array, new_empty_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, ScalarValue, exec_err};
use gradlake_udfs::{
    Activation, Algorithm, Description, LabelScale, Labels, Loss, Member, Model, NetworkSpec,
    Optimizer, Trained,
};
use serde::{Deserialize, Serialize};

use super::records::{from_batch, to_batch};
use super::tables::{Count, count_type, counts, plain, portable, with_keys};

/// A row of `members` without its classes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct MemberRow {
    /// Why there is no model; all other fields are empty in that case.
    pub reason: Option<String>,
    pub label_mean: Option<f64>,
    pub label_stddev: Option<f64>,
    /// Means and deviations of the numbers of several targets.
    #[serde(default)]
    pub label_means: Vec<f64>,
    #[serde(default)]
    pub label_stddevs: Vec<f64>,
    pub hidden: Vec<u64>,
    pub activation: Option<Activation>,
    pub loss_function: Option<Loss>,
    /// Quantiles of the outputs; models of before there were quantiles lack the column.
    #[serde(default)]
    pub quantiles: Vec<f64>,
    pub outputs: u64,
    pub intercept: bool,
    pub dropout: f64,
    /// The optimizer and its hyper-parameters, as JSON.
    pub optimizer: Option<String>,
    pub steps: u64,
    pub rows: u64,
    pub skipped_rows: Vec<Count>,
    pub loss: Option<f64>,
    pub eval_loss: Option<f64>,
    pub metrics_on: String,
    /// What was learned, where it is no network, as JSON.
    pub description: Option<String>,
}

/// Name of the column of classes.
const CLASSES: &str = "classes";

impl MemberRow {
    fn of(member: &Member) -> Self {
        let trained = match &member.outcome {
            Ok(trained) => trained,
            Err(reason) => return Self { reason: Some(reason.clone()), ..Self::default() },
        };
        let scales = match &trained.labels {
            Labels::Numbers(scales) => scales.as_slice(),
            Labels::Classes(_) | Labels::None => &[],
        };
        let (one, several) = match scales {
            [one] => (Some(one), &[][..]),
            several => (None, several),
        };
        let network = trained.description.network();
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        Self {
            reason: None,
            label_mean: one.map(|own| own.mean),
            label_stddev: one.map(|own| own.stddev),
            label_means: several.iter().map(|own| own.mean).collect(),
            label_stddevs: several.iter().map(|own| own.stddev).collect(),
            hidden: network.iter().flat_map(|own| &own.hidden).map(|n| *n as u64).collect(),
            activation: network.map(|own| own.activation),
            loss_function: network.map(|own| own.loss),
            quantiles: network.map_or_else(Vec::new, |own| own.quantiles.clone()),
            outputs: trained.description.outputs() as u64,
            intercept: network.is_some_and(|own| own.intercept),
            dropout: network.map_or(0.0, |own| f64::from(own.dropout)),
            optimizer: trained.optimizer.and_then(|o| serde_json::to_string(&o).ok()),
            steps: trained.steps,
            rows: trained.rows,
            skipped_rows: counts(&trained.skipped_rows),
            loss: finite(trained.loss),
            eval_loss: trained.eval_loss.and_then(finite),
            metrics_on: trained.metrics_on.clone(),
            description: network.is_none().then(|| trained.description.to_json()),
        }
    }

    /// What was learned.
    pub fn description(&self, algorithm: Algorithm) -> Result<Arc<dyn Description>> {
        if let Some(json) = &self.description {
            return (algorithm.spec().read)(json);
        }
        let (Some(activation), Some(loss)) = (self.activation, self.loss_function) else {
            return exec_err!("a member of the model has no network");
        };
        Ok(Arc::new(NetworkSpec {
            hidden: self.hidden.iter().map(|n| *n as usize).collect(),
            activation,
            loss,
            quantiles: self.quantiles.clone(),
            outputs: self.outputs as usize,
            intercept: self.intercept,
            dropout: self.dropout as f32,
        }))
    }

    /// The encoding of labels that are numbers; None of others.
    pub fn label_scales(&self) -> Option<Vec<LabelScale>> {
        let several = self.label_means.iter().zip(&self.label_stddevs);
        let one = self.label_mean.iter().zip(&self.label_stddev);
        let scale = |(mean, stddev): (&f64, &f64)| LabelScale { mean: *mean, stddev: *stddev };
        let all: Vec<LabelScale> = one.chain(several).map(scale).collect();
        Some(all).filter(|all| !all.is_empty())
    }

    /// The optimizer.
    pub fn optimizer(&self) -> Result<Option<Optimizer>> {
        match &self.optimizer {
            None => Ok(None),
            Some(json) => match serde_json::from_str(json) {
                Ok(optimizer) => Ok(Some(optimizer)),
                Err(error) => exec_err!("the model's optimizer {json} is not known: {error}"),
            },
        }
    }
}

/// The table.
pub(super) fn members(model: &Model) -> Result<RecordBatch> {
    let rows: Vec<MemberRow> = model.members.iter().map(MemberRow::of).collect();
    let float = |name: &str| Field::new(name, DataType::Float64, true);
    let int = |name: &str| Field::new(name, DataType::UInt64, false);
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let schema = Schema::new(vec![
        text("reason"),
        float("label_mean"),
        float("label_stddev"),
        Field::new("label_means", DataType::new_list(DataType::Float64, false), false),
        Field::new("label_stddevs", DataType::new_list(DataType::Float64, false), false),
        Field::new("hidden", DataType::new_list(DataType::UInt64, false), false),
        text("activation"),
        text("loss_function"),
        Field::new("quantiles", DataType::new_list(DataType::Float64, false), false),
        int("outputs"),
        Field::new("intercept", DataType::Boolean, false),
        Field::new("dropout", DataType::Float64, false),
        text("optimizer"),
        int("steps"),
        int("rows"),
        Field::new("skipped_rows", count_type(), false),
        float("loss"),
        float("eval_loss"),
        Field::new("metrics_on", DataType::Utf8, false),
        text("description"),
    ]);
    let batch = to_batch(Arc::new(schema), &rows)?;
    let classes = classes(model)?;
    let mut fields: Vec<Field> =
        batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new(CLASSES, classes.data_type().clone(), true));
    let columns = batch.columns().iter().cloned().chain([classes]).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let all: Vec<u32> = (0..model.members.len() as u32).collect();
    with_keys(model, &all, &batch)
}

/// The classes of each member, in the target's own type if every reader knows it; an empty list if
/// there are none.
fn classes(model: &Model) -> Result<ArrayRef> {
    let mut values: Vec<ScalarValue> = vec![];
    let mut lengths = vec![];
    for member in &model.members {
        let before = values.len();
        if let Ok(Trained { labels: Labels::Classes(classes), .. }) = member.outcome.as_deref() {
            values.extend(classes.iter().cloned());
        }
        lengths.push(values.len() - before);
    }
    let target = model.target().map_or(&DataType::Null, |target| &target.data_type);
    let values = match values.first() {
        Some(_) => ScalarValue::iter_to_array(values)?,
        None => new_empty_array(plain(target)),
    };
    let values = cast(&values, &portable(target))?;
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, None)?))
}

/// Reads the rows of the table, and the classes of each in the target's own type.
pub(super) fn read_members(
    batch: &RecordBatch,
    keys: usize,
    target: &DataType,
) -> Result<Vec<(MemberRow, Vec<ScalarValue>)>> {
    let all: Vec<usize> = (keys..batch.num_columns()).collect();
    let own = batch.project(&all)?;
    let Some(classes) = own.column_by_name(CLASSES).cloned() else {
        return exec_err!("the table members has no column classes");
    };
    let others: Vec<usize> =
        (0..own.num_columns()).filter(|i| own.schema().field(*i).name() != CLASSES).collect();
    let rows: Vec<MemberRow> = from_batch(&own.project(&others)?, "the table members")?;
    let Some(classes) = classes.as_list_opt::<i32>() else {
        return exec_err!("the column classes of the table members is no list");
    };
    rows.into_iter()
        .enumerate()
        .map(|(i, row)| {
            let values = cast(&classes.value(i), plain(target))?;
            let values = (0..values.len())
                .map(|j| ScalarValue::try_from_array(&values, j))
                .collect::<Result<Vec<_>>>()?;
            Ok((row, values))
        })
        .collect()
}

/// Numbers of rows as an array, for filter.
pub(super) fn indices(rows: impl Iterator<Item = usize>) -> UInt32Array {
    rows.map(|row| row as u32).collect()
}
