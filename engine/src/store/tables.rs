//! The tables of a version: their schemas and what a model puts into them.
//!
//! Every table is for people and other programs as much as for this one: `parameters`, `features`
//! and `members` are enough to predict. A partitioned model's tables begin with the partition
//! columns.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float32Builder, Int32Builder, ListBuilder, RecordBatch, StringBuilder, UInt32Array,
};
use datafusion::arrow::compute::{cast, concat_batches, take};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use gradlake_udfs::{Algorithm, FeatureKind, Member, Model, Trained};
use serde::{Deserialize, Serialize};

use super::features::features;
use super::history::{history, metrics};
use super::members::members;
use super::records::to_batch;
use super::weights::weights;

/// A table of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelTable {
    /// One row: what was trained, on which data, and how.
    Manifest,
    /// One row per group (one in total without PARTITION BY): its labels, network and result.
    Members,
    /// One row per input feature, or per element of a vector.
    Features,
    /// One row per tensor.
    Parameters,
    /// Readable weights of linear models.
    Weights,
    /// One row per moment tensor.
    Optimizer,
    /// One row per epoch or step.
    History,
    /// One row per metric.
    Metrics,
    /// One row per version; made from the log.
    Versions,
    /// A table that some algorithms have: one of [`gradlake_udfs::AlgorithmSpec::tables`].
    Own(&'static str),
}

impl ModelTable {
    /// Every table that every model has.
    const ALL: [ModelTable; 9] = [
        ModelTable::Weights,
        ModelTable::Features,
        ModelTable::Parameters,
        ModelTable::Optimizer,
        ModelTable::History,
        ModelTable::Metrics,
        ModelTable::Members,
        ModelTable::Manifest,
        ModelTable::Versions,
    ];

    /// The tables that are files of every model, in the order in which they are written.
    const FILES: [ModelTable; 8] = [
        ModelTable::Manifest,
        ModelTable::Members,
        ModelTable::Features,
        ModelTable::Parameters,
        ModelTable::Weights,
        ModelTable::Optimizer,
        ModelTable::History,
        ModelTable::Metrics,
    ];

    /// Every table that a model may have.
    pub fn all() -> impl Iterator<Item = ModelTable> + Clone {
        let own = Algorithm::all().flat_map(|algorithm| algorithm.spec().tables);
        let mut names: Vec<&'static str> = own.copied().collect();
        names.sort_unstable();
        names.dedup();
        Self::ALL.into_iter().chain(names.into_iter().map(ModelTable::Own))
    }

    /// The tables of a model that are files, in the order in which they are written.
    pub fn files(model: &Model) -> impl Iterator<Item = ModelTable> + use<> {
        let own = model.algorithm.spec().tables.iter();
        Self::FILES.into_iter().chain(own.map(|name| ModelTable::Own(name)))
    }

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            ModelTable::Manifest => "manifest",
            ModelTable::Members => "members",
            ModelTable::Features => "features",
            ModelTable::Parameters => "parameters",
            ModelTable::Weights => "weights",
            ModelTable::Optimizer => "optimizer",
            ModelTable::History => "history",
            ModelTable::Metrics => "metrics",
            ModelTable::Versions => "versions",
            ModelTable::Own(name) => name,
        }
    }

    /// Its file in the folder of a version.
    pub fn file(self) -> String {
        format!("{}.parquet", self.name())
    }

    /// The rows of the table's file.
    pub(super) fn batch(self, model: &Model) -> Result<RecordBatch> {
        match self {
            ModelTable::Manifest => to_batch(manifest_schema(), &[Manifest::of(model)]),
            ModelTable::Members => members(model),
            ModelTable::Features => features(model),
            ModelTable::Parameters => parameters(model),
            ModelTable::Weights => weights(model),
            ModelTable::Optimizer => optimizer(model),
            ModelTable::History => history(model),
            ModelTable::Metrics => metrics(model),
            ModelTable::Versions => Ok(RecordBatch::new_empty(Arc::new(Schema::empty()))),
            ModelTable::Own(name) => own_table(model, name),
        }
    }
}

/// A name with a text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pair {
    pub name: String,
    pub value: String,
}

/// The row of `manifest`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format_version: u32,
    pub model: String,
    pub algorithm: String,
    /// The first target, of type Null if there is none.
    pub target: String,
    pub target_type: String,
    /// The other targets.
    #[serde(default)]
    pub more_targets: Vec<Pair>,
    pub inputs: Vec<Pair>,
    pub transform: Vec<Pair>,
    pub weight: Option<String>,
    pub partition_by: Vec<Pair>,
    pub options: Vec<Pair>,
    pub statement: String,
    pub parent_model: Option<String>,
    pub parent_version: Option<u64>,
    pub seed: u64,
    pub rows: u64,
    pub skipped_rows: Vec<Count>,
    pub started_at: i64,
    pub finished_at: i64,
}

/// Rows by cause.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Count {
    pub cause: String,
    pub rows: u64,
}

impl Manifest {
    fn of(model: &Model) -> Self {
        let types = |columns: &[(String, DataType)]| {
            columns
                .iter()
                .map(|(name, t)| Pair { name: name.clone(), value: t.to_string() })
                .collect()
        };
        let pair =
            |(name, value): (&String, &String)| Pair { name: name.clone(), value: value.clone() };
        let targets: Vec<(String, DataType)> =
            model.targets.iter().map(|own| (own.name.clone(), own.data_type.clone())).collect();
        let (target, target_type) = match targets.first() {
            Some((name, data_type)) => (name.clone(), data_type.to_string()),
            None => (String::new(), DataType::Null.to_string()),
        };
        // Programs that know one target and one network read what has no more than these.
        let is_plain = targets.len() == 1
            && trained(model).all(|(_, trained)| trained.description.network().is_some());
        let has_bytes = |(_, trained): (_, &Trained)| {
            let mut features = trained.encoder.features().iter();
            features.any(|feature| matches!(feature.kind, FeatureKind::Bytes(_)))
        };
        let format_version = match trained(model).any(has_bytes) {
            true => 3,
            false if is_plain => 1,
            false => 2,
        };
        Self {
            format_version,
            model: model.name.clone(),
            algorithm: model.algorithm.to_string(),
            target,
            target_type,
            more_targets: types(targets.get(1..).unwrap_or_default()),
            inputs: types(&model.inputs),
            transform: model.transform.iter().map(|(name, sql)| pair((name, sql))).collect(),
            weight: model.weight.clone(),
            partition_by: types(&model.partition_by),
            options: model.options.iter().map(pair).collect(),
            statement: model.statement.clone(),
            parent_model: model.parent.as_ref().map(|(name, _)| name.clone()),
            parent_version: model.parent.as_ref().map(|(_, version)| *version),
            seed: model.seed,
            rows: model.rows,
            skipped_rows: counts(&model.skipped_rows),
            started_at: model.started_ms,
            finished_at: model.finished_ms,
        }
    }
}

/// Rows by cause, as a list.
pub(super) fn counts(skipped: &std::collections::BTreeMap<String, u64>) -> Vec<Count> {
    skipped.iter().map(|(cause, rows)| Count { cause: cause.clone(), rows: *rows }).collect()
}

pub(super) fn count_type() -> DataType {
    let fields = Fields::from(vec![
        Field::new("cause", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
    ]);
    DataType::new_list(DataType::Struct(fields), false)
}

fn manifest_schema() -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let pairs = |name: &str| {
        let fields = Fields::from(vec![text("name"), text("value")]);
        Field::new(name, DataType::new_list(DataType::Struct(fields), false), false)
    };
    Arc::new(Schema::new(vec![
        Field::new("format_version", DataType::UInt32, false),
        text("model"),
        text("algorithm"),
        text("target"),
        text("target_type"),
        pairs("more_targets"),
        pairs("inputs"),
        pairs("transform"),
        Field::new("weight", DataType::Utf8, true),
        pairs("partition_by"),
        pairs("options"),
        text("statement"),
        Field::new("parent_model", DataType::Utf8, true),
        Field::new("parent_version", DataType::UInt64, true),
        Field::new("seed", DataType::UInt64, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("skipped_rows", count_type(), false),
        Field::new("started_at", time(), false),
        Field::new("finished_at", time(), false),
    ]))
}

/// The members that were trained, with their index.
pub(super) fn trained(model: &Model) -> impl Iterator<Item = (u32, &Trained)> {
    let trained = |(i, member): (usize, &'_ Member)| -> Option<u32> {
        member.outcome.is_ok().then_some(i as u32)
    };
    model.members.iter().enumerate().filter_map(move |(i, member)| {
        Some((trained((i, member))?, member.outcome.as_deref().ok()?))
    })
}

/// The type of a dictionary's values, or the type itself.
pub(super) fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain(value),
        other => other,
    }
}

/// The type in which values of a type are stored: one that every reader of Parquet knows.
pub(super) fn portable(data_type: &DataType) -> DataType {
    match plain(data_type) {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Timestamp(TimeUnit::Second, zone) => {
            DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
        }
        other => other.clone(),
    }
}

/// `batch` with the partition columns before it: `member` is the member of each row.
pub(super) fn with_keys(model: &Model, member: &[u32], batch: &RecordBatch) -> Result<RecordBatch> {
    if model.partition_by.is_empty() {
        return Ok(batch.clone());
    }
    let mut fields = vec![];
    let mut columns: Vec<ArrayRef> = vec![];
    let rows = UInt32Array::from(member.to_vec());
    for (i, (name, data_type)) in model.partition_by.iter().enumerate() {
        let keys = model.members.iter().filter_map(|m| m.key.get(i).cloned());
        let keys = if model.members.is_empty() {
            datafusion::arrow::array::new_empty_array(plain(data_type))
        } else {
            ScalarValue::iter_to_array(keys)?
        };
        let keys = cast(&keys, &portable(data_type))?;
        columns.push(take(&keys, &rows, None)?);
        let mut free = name.clone();
        while batch.schema().column_with_name(&free).is_some() {
            free.push_str("_1");
        }
        fields.push(Field::new(free, keys.data_type().clone(), true));
    }
    fields.extend(batch.schema().fields().iter().map(|field| field.as_ref().clone()));
    columns.extend(batch.columns().iter().cloned());
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Tensors of some kind: layer, name, (moment,) shape, values.
struct Tensors {
    member: Vec<u32>,
    layer: Int32Builder,
    name: StringBuilder,
    moment: Option<StringBuilder>,
    shape: ListBuilder<Int32Builder>,
    values: ListBuilder<Float32Builder>,
}

impl Tensors {
    fn new(with_moment: bool) -> Self {
        let item = |t: DataType| Arc::new(Field::new("item", t, false));
        Self {
            member: vec![],
            layer: Int32Builder::new(),
            name: StringBuilder::new(),
            moment: with_moment.then(StringBuilder::new),
            shape: ListBuilder::new(Int32Builder::new()).with_field(item(DataType::Int32)),
            values: ListBuilder::new(Float32Builder::new()).with_field(item(DataType::Float32)),
        }
    }

    fn push(&mut self, member: u32, trained: &Trained, moment: Option<&str>, values: &[f32]) {
        for tensor in trained.description.layout(trained.encoder.width()).tensors() {
            let (layer, values) = (tensor.layer as i32, &values[tensor.range()]);
            let name = match &tensor.node {
                Some(node) => format!("{node}.{}", tensor.name),
                None => tensor.name.to_owned(),
            };
            self.push_tensor(member, layer, &name, moment, &tensor.shape, values);
        }
    }

    fn push_tensor(
        &mut self,
        member: u32,
        layer: i32,
        name: &str,
        moment: Option<&str>,
        shape: &[usize],
        values: &[f32],
    ) {
        self.member.push(member);
        self.layer.append_value(layer);
        self.name.append_value(name);
        if let Some(builder) = &mut self.moment {
            builder.append_option(moment);
        }
        self.shape.append_value(shape.iter().map(|n| Some(*n as i32)));
        self.values.values().append_slice(values);
        self.values.append(true);
    }

    fn finish(mut self, model: &Model) -> Result<RecordBatch> {
        let mut columns: Vec<(&str, ArrayRef)> =
            vec![("layer", Arc::new(self.layer.finish())), ("name", Arc::new(self.name.finish()))];
        if let Some(mut moment) = self.moment {
            columns.push(("moment", Arc::new(moment.finish())));
        }
        columns.push(("shape", Arc::new(self.shape.finish())));
        columns.push(("values", Arc::new(self.values.finish())));
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, c)| Field::new(*name, c.data_type().clone(), false))
            .collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        with_keys(model, &self.member, &batch)
    }
}

/// A table that the algorithm of the model has beside the others.
fn own_table(model: &Model, name: &str) -> Result<RecordBatch> {
    let (mut member, mut tables) = (vec![], vec![]);
    for (index, trained) in trained(model) {
        let table = trained.description.table(trained, name)?;
        member.resize(member.len() + table.num_rows(), index);
        tables.push(table);
    }
    let Some(first) = tables.first() else {
        return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
    };
    with_keys(model, &member, &concat_batches(&first.schema(), &tables)?)
}

fn parameters(model: &Model) -> Result<RecordBatch> {
    let mut tensors = Tensors::new(false);
    for (member, trained) in trained(model) {
        tensors.push(member, trained, None, &trained.parameters);
    }
    tensors.finish(model)
}

fn optimizer(model: &Model) -> Result<RecordBatch> {
    let mut tensors = Tensors::new(true);
    for (member, trained) in trained(model) {
        let Some(optimizer) = &trained.optimizer else { continue };
        let buffers = trained.moments.chunks_exact(trained.parameters.len().max(1));
        for (name, moments) in optimizer.moment_names().iter().zip(buffers) {
            tensors.push(member, trained, Some(name), moments);
        }
        let totals = trained.moments.get(optimizer.moments() * trained.parameters.len()..);
        let totals = totals.unwrap_or_default().chunks_exact(2);
        for (name, total) in optimizer.total_names().iter().zip(totals) {
            tensors.push_tensor(member, 0, "total", Some(name), &[2], total);
        }
    }
    tensors.finish(model)
}
