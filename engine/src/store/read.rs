//! Reads a version back: as a model, or as one of its tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMillisecondArray,
    UInt64Array,
};
use datafusion::arrow::compute::{cast, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Schema, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use gradlake_udfs::{
    Algorithm, ByteScale, Encoder, Feature, FeatureKind, HistoryEntry, Labels, Member, Model,
    Scale, Target, Trained,
};

use super::features::{FeatureRow, categories};
use super::files::check;
use super::history::{HistoryRow, MetricRow};
use super::log::VersionEntry;
use super::members::{MemberRow, indices, read_members};
use super::records::{from_batch, from_parquet};
use super::tables::{Manifest, Pair, plain};
use super::weights::{lacks_kind, weights};
use super::{FORMAT_VERSION, ModelStore, ModelTable};
use crate::table::LabelEncoder;

impl ModelStore {
    /// Reads a version, or the one that PREDICT uses.
    ///
    /// # Errors
    /// When there is none, or a file of it is missing, damaged or foreign.
    pub async fn load(&self, name: &str, version: Option<u64>) -> Result<Model> {
        let entry = self.entry(name, version).await?;
        let manifest = self.file(&entry, ModelTable::Manifest).await?;
        let what = format!("the manifest of model {name} version {}", entry.version);
        // The format is checked before anything else is parsed.
        check_format(&manifest, &what)?;
        let manifests: Vec<Manifest> = from_batch(&manifest, &what)?;
        let Some(manifest) = manifests.into_iter().next() else {
            return exec_err!("{what} has no row");
        };
        let mut tables = BTreeMap::new();
        for table in [
            ModelTable::Members,
            ModelTable::Features,
            ModelTable::Parameters,
            ModelTable::Optimizer,
            ModelTable::History,
            ModelTable::Metrics,
        ] {
            tables.insert(table.name(), self.file(&entry, table).await?);
        }
        assemble(name, &entry, manifest, &tables).map_err(|e| {
            exec_datafusion_err!(
                "model {name} version {} cannot be read: {}",
                entry.version,
                e.strip_backtrace()
            )
        })
    }

    /// A table of a version, or of the one that PREDICT uses.
    ///
    /// # Errors
    /// As [`ModelStore::load`].
    pub async fn table(
        &self,
        name: &str,
        version: Option<u64>,
        table: ModelTable,
    ) -> Result<RecordBatch> {
        if table == ModelTable::Versions {
            let (versions, current) = self.versions(name).await?;
            return versions_batch(&versions, current);
        }
        let entry = self.entry(name, version).await?;
        let rows = self.file(&entry, table).await?;
        if table == ModelTable::Weights && lacks_kind(&rows) {
            // Reading returns what the current program would have written.
            return weights(&self.load(name, Some(entry.version)).await?);
        }
        Ok(rows)
    }

    /// The tables of the version that PREDICT uses.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn tables(&self, name: &str) -> Result<Vec<ModelTable>> {
        let entry = self.entry(name, None).await?;
        let has = |table: &ModelTable| match table {
            ModelTable::Own(_) => entry.files.iter().any(|noted| noted.name == table.file()),
            _ => true,
        };
        Ok(ModelTable::all().filter(has).collect())
    }

    /// A table of the version that PREDICT uses; None if models of its algorithm have none of that
    /// name.
    ///
    /// # Errors
    /// As [`ModelStore::load`].
    pub async fn table_if_any(&self, name: &str, table: ModelTable) -> Result<Option<RecordBatch>> {
        if !self.tables(name).await?.contains(&table) {
            return Ok(None);
        }
        self.table(name, None, table).await.map(Some)
    }

    async fn file(&self, entry: &VersionEntry, table: ModelTable) -> Result<RecordBatch> {
        let file = table.file();
        let path = format!("{}/{file}", entry.folder);
        let Some(noted) = entry.files.iter().find(|noted| noted.name == file) else {
            return exec_err!("version {} has no {file}", entry.version);
        };
        let Some(bytes) = self.files.read(&path).await? else {
            return exec_err!("{path} of version {} is missing", entry.version);
        };
        check(&path, &bytes, noted.crc32)?;
        from_parquet(bytes, &path)
    }
}

fn check_format(manifest: &RecordBatch, what: &str) -> Result<()> {
    let version = match manifest.column_by_name("format_version") {
        Some(column) if column.len() == 1 => ScalarValue::try_from_array(column, 0)?,
        _ => return exec_err!("{what} has no format version: it is no model of gradlake"),
    };
    match version {
        ScalarValue::UInt32(Some(version)) if version <= FORMAT_VERSION => Ok(()),
        other => exec_err!(
            "{what} has format {other}, but this program reads formats up to {FORMAT_VERSION}; \
             use a newer gradlake"
        ),
    }
}

/// A table without its partition columns, split by member.
fn by_member(
    batch: &RecordBatch,
    keys: usize,
    members: usize,
    known: &mut Option<LabelEncoder>,
) -> Result<Vec<RecordBatch>> {
    let own: Vec<usize> = (keys..batch.num_columns()).collect();
    let rows = batch.project(&own)?;
    let Some(distinct) = known else { return Ok(vec![rows]) };
    let codes = distinct.intern(&batch.columns()[..keys])?;
    (0..members as u32)
        .map(|member| {
            let own = codes.values().iter().enumerate().filter(|(_, code)| **code == member);
            Ok(take_record_batch(&rows, &indices(own.map(|(row, _)| row)))?)
        })
        .collect()
}

fn parse_types(pairs: &[Pair]) -> Result<Vec<(String, DataType)>> {
    pairs
        .iter()
        .map(|pair| match pair.value.parse() {
            Ok(data_type) => Ok((pair.name.clone(), data_type)),
            Err(_) => exec_err!("column {} has the unknown type {}", pair.name, pair.value),
        })
        .collect()
}

fn assemble(
    name: &str,
    entry: &VersionEntry,
    manifest: Manifest,
    tables: &BTreeMap<&'static str, RecordBatch>,
) -> Result<Model> {
    let Ok(algorithm) = manifest.algorithm.parse() else {
        return exec_err!("the algorithm {} is not known", manifest.algorithm);
    };
    let Ok(target_type) = manifest.target_type.parse::<DataType>() else {
        return exec_err!("the type {} of the target is not known", manifest.target_type);
    };
    let partition_by = parse_types(&manifest.partition_by)?;
    let keys = partition_by.len();
    let table = |table: ModelTable| match tables.get(table.name()) {
        Some(batch) => Ok(batch),
        None => exec_err!("the table {} is missing", table.name()),
    };
    let members = table(ModelTable::Members)?;
    let rows = read_members(members, keys, &target_type)?;
    let first = (manifest.target, target_type);
    let has_target = first.1 != DataType::Null || !first.0.is_empty();
    let mut known = None;
    if keys > 0 {
        let types: Vec<DataType> =
            members.columns()[..keys].iter().map(|c| c.data_type().clone()).collect();
        let mut distinct = LabelEncoder::new(&types, "a partition".to_owned(), usize::MAX)?;
        distinct.intern(&members.columns()[..keys])?;
        known = Some(distinct);
    }
    let mut cut = |which: ModelTable| by_member(table(which)?, keys, rows.len(), &mut known);
    let features = cut(ModelTable::Features)?;
    let parameters = cut(ModelTable::Parameters)?;
    let optimizer = cut(ModelTable::Optimizer)?;
    let history = cut(ModelTable::History)?;
    let metrics = cut(ModelTable::Metrics)?;
    let mut all = vec![];
    for (i, (row, classes)) in rows.into_iter().enumerate() {
        let key = members.columns()[..keys]
            .iter()
            .zip(&partition_by)
            .map(|(column, (_, data_type))| {
                ScalarValue::try_from_array(&cast(&column.slice(i, 1), plain(data_type))?, 0)
            })
            .collect::<Result<Vec<_>>>()?;
        let outcome = match &row.reason {
            Some(reason) => Err(reason.clone()),
            None => {
                let tables = MemberTables {
                    features: &features[i],
                    parameters: &parameters[i],
                    optimizer: &optimizer[i],
                    history: &history[i],
                    metrics: &metrics[i],
                };
                Ok(Box::new(trained(algorithm, has_target, &row, classes, &tables)?))
            }
        };
        all.push(Member { key, outcome });
    }
    Ok(Model {
        name: name.to_owned(),
        version: entry.version,
        algorithm,
        targets: has_target
            .then_some(first)
            .into_iter()
            .chain(parse_types(&manifest.more_targets)?)
            .map(|(name, data_type)| Target { name, data_type })
            .collect(),
        inputs: parse_types(&manifest.inputs)?,
        transform: manifest.transform.into_iter().map(|p| (p.name, p.value)).collect(),
        weight: manifest.weight,
        partition_by,
        options: manifest.options.into_iter().map(|p| (p.name, p.value)).collect(),
        statement: manifest.statement,
        parent: manifest.parent_model.zip(manifest.parent_version),
        seed: manifest.seed,
        rows: manifest.rows,
        skipped_rows: manifest.skipped_rows.into_iter().map(|c| (c.cause, c.rows)).collect(),
        started_ms: manifest.started_at,
        finished_ms: manifest.finished_at,
        members: all,
    })
}

/// The tables of one member.
struct MemberTables<'a> {
    features: &'a RecordBatch,
    parameters: &'a RecordBatch,
    optimizer: &'a RecordBatch,
    history: &'a RecordBatch,
    metrics: &'a RecordBatch,
}

fn trained(
    algorithm: Algorithm,
    has_target: bool,
    row: &MemberRow,
    classes: Vec<ScalarValue>,
    tables: &MemberTables<'_>,
) -> Result<Trained> {
    let MemberTables { features, parameters, optimizer, history, metrics } = *tables;
    let encoder = Encoder::new(read_features(features)?)?;
    let labels = match row.label_scales() {
        Some(scales) => Labels::Numbers(scales),
        _ if !has_target => Labels::None,
        _ => Labels::Classes(classes),
    };
    let description = row.description(algorithm)?;
    let wanted = description.layout(encoder.width()).len();
    let optimizer_kind = row.optimizer()?;
    let moments_wanted = optimizer_kind.map_or(0, |o| o.moment_values(wanted));
    let history: Vec<HistoryRow> = from_batch(history, "the table history")?;
    let metrics: Vec<MetricRow> = from_batch(metrics, "the table metrics")?;
    Ok(Trained {
        parameters: values(parameters, wanted, "parameters")?,
        moments: values(optimizer, moments_wanted, "optimizer")?,
        encoder,
        labels,
        description,
        optimizer: optimizer_kind,
        steps: row.steps,
        rows: row.rows,
        skipped_rows: row.skipped_rows.iter().map(|c| (c.cause.clone(), c.rows)).collect(),
        history: history.into_iter().map(HistoryRow::entry).collect::<Vec<HistoryEntry>>(),
        metrics: metrics.into_iter().map(MetricRow::metric).collect(),
        metrics_on: row.metrics_on.clone(),
        loss: row.loss.unwrap_or(f64::NAN),
        eval_loss: row.eval_loss,
    })
}

/// The values of all tensors, one after another.
fn values(batch: &RecordBatch, wanted: usize, what: &str) -> Result<Vec<f32>> {
    let Some(list) = batch.column_by_name("values").and_then(|c| c.as_list_opt::<i32>()) else {
        return exec_err!("the table {what} has no lists of values");
    };
    let mut all = Vec::with_capacity(wanted);
    for tensor in list.iter().flatten() {
        match tensor.as_primitive_opt::<Float32Type>() {
            Some(values) => all.extend_from_slice(values.values()),
            None => return exec_err!("the values of the table {what} are no float32"),
        }
    }
    if all.len() != wanted {
        return exec_err!("the table {what} has {} values instead of {wanted}", all.len());
    }
    Ok(all)
}

fn read_features(batch: &RecordBatch) -> Result<Vec<Feature>> {
    let mut batch = batch.clone();
    let categories = categories(&batch)?;
    if let Some((column, _)) = batch.schema().column_with_name("categories") {
        batch.remove_column(column);
    }
    let rows: Vec<FeatureRow> = from_batch(&batch, "the table features")?;
    let mut features: Vec<Feature> = vec![];
    for (row, categories) in rows.into_iter().zip(categories) {
        let Ok(data_type) = row.data_type.parse::<DataType>() else {
            return exec_err!("feature {} has the unknown type {}", row.feature, row.data_type);
        };
        let scale = match (row.mean, row.center, row.stddev) {
            (Some(mean), Some(center), Some(stddev)) => Some(Scale {
                mean,
                center,
                stddev,
                min: row.min.unwrap_or(f64::NAN),
                max: row.max.unwrap_or(f64::NAN),
            }),
            _ => None,
        };
        if let (Some(element), Some(last), Some(scale)) = (row.element, features.last_mut(), scale)
            && element > 0
            && last.name == row.feature
            && let FeatureKind::Vector(scales) = &mut last.kind
        {
            scales.push(scale);
            continue;
        }
        let kind = match (row.kind.as_str(), scale, categories, row.length) {
            ("number", Some(scale), ..) => FeatureKind::Number(scale),
            ("boolean", Some(scale), ..) => FeatureKind::Boolean(scale),
            ("timestamp", Some(scale), ..) => FeatureKind::Timestamp(scale),
            ("vector", scale, ..) => FeatureKind::Vector(scale.into_iter().collect()),
            ("bytes", Some(Scale { mean, stddev: divisor, min, max, .. }), _, Some(length)) => {
                let length = length as usize;
                FeatureKind::Bytes(ByteScale { length, divisor, mean, min, max })
            }
            ("category", _, Some(categories), _) => FeatureKind::Category(categories),
            (kind, ..) => {
                return exec_err!("feature {} of kind {kind} is not complete", row.feature);
            }
        };
        features.push(Feature { name: row.feature, data_type, kind, null_count: row.null_count });
    }
    Ok(features)
}

/// The table `versions`.
fn versions_batch(versions: &[VersionEntry], current: u64) -> Result<RecordBatch> {
    let text = |f: &dyn Fn(&VersionEntry) -> Option<String>| -> ArrayRef {
        Arc::new(versions.iter().map(f).collect::<StringArray>())
    };
    let number = |f: &dyn Fn(&VersionEntry) -> u64| -> ArrayRef {
        Arc::new(versions.iter().map(f).map(Some).collect::<UInt64Array>())
    };
    let published: TimestampMillisecondArray =
        versions.iter().map(|v| Some(v.published_at)).collect();
    let is_current: BooleanArray = versions.iter().map(|v| Some(v.version == current)).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("version", number(&|v| v.version)),
        ("is_current", Arc::new(is_current)),
        ("published_at", Arc::new(published.with_timezone("UTC"))),
        ("algorithm", text(&|v| Some(v.algorithm.clone()))),
        ("target", text(&|v| Some(v.target.clone()).filter(|target| !target.is_empty()))),
        ("rows", number(&|v| v.rows)),
        ("bytes", number(&|v| v.files.iter().map(|f| f.bytes).sum())),
        ("parent", text(&|v| v.parent.clone())),
        ("folder", text(&|v| Some(v.folder.clone()))),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    debug_assert!(matches!(fields[2].data_type(), DataType::Timestamp(TimeUnit::Millisecond, _)));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::EventSink;
    use crate::options::TrainOptions;
    use crate::request::TrainRequest;
    use crate::session::{Engine, EngineOptions};
    use crate::store::log::Action;
    use crate::store::records::to_parquet;

    /// A model whose table `weights` has no kinds, as the first versions of this program wrote it.
    #[tokio::test(flavor = "multi_thread")]
    async fn weights_of_older_programs_have_kinds_too() {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Some(folder.path().display().to_string());
        let engine = Engine::open(EngineOptions { warehouse, ..Default::default() }).unwrap();
        let query = "SELECT * FROM (VALUES ('a', 1.0, 'g'), ('NULL', 2.0, 'h'), (NULL, 5.0, 'g'), \
                     ('a', 1.0, 'h')) AS t(c, y, kind)";
        let algorithm = "linear_regression".parse().unwrap();
        for (name, partition_by) in [("m", vec![]), ("p", vec!["kind".to_owned()])] {
            let request = TrainRequest {
                name: name.to_owned(),
                or_replace: false,
                if_not_exists: false,
                algorithm,
                transform: vec![],
                targets: vec!["y".to_owned()],
                features: Some(vec!["c".to_owned()]),
                weight: None,
                partition_by,
                continue_from: None,
                layers: vec![],
                options: TrainOptions::check(algorithm, &[]).unwrap(),
                query: engine.context().sql(query).await.unwrap().into_unoptimized_plan(),
                statement: "TRAIN MODEL".to_owned(),
            };
            let events: EventSink = Arc::new(|_| {});
            engine.train(&request, &events).await.unwrap();
            let store = &engine.store;
            let table = store.table(name, None, ModelTable::Weights).await.unwrap();
            // The table as it was: without kinds, and with a text for NULL.
            let kind = table.num_columns() - 5;
            assert_eq!(table.schema().field(kind).name(), "kind");
            let mut old = table.clone();
            old.remove_column(kind);
            assert!(lacks_kind(&old) && !lacks_kind(&table));
            let bytes = to_parquet(&old).unwrap();
            let mut state = store.state(name).await.unwrap();
            let entry = &mut state.versions[0];
            let path = format!("{}/weights.parquet", entry.folder);
            for file in entry.files.iter_mut().filter(|file| file.name == "weights.parquet") {
                (file.bytes, file.crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
            }
            store.files.replace(&path, bytes).await.unwrap();
            assert!(store.commit(name, &state, &Action::new("publish"), "test").await.unwrap());
            let read = store.table(name, None, ModelTable::Weights).await.unwrap();
            assert_eq!(read, table, "{name}");
        }
    }
}
