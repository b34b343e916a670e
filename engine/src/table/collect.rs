//! Reads a query into a [`RawTable`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, UInt32Array,
};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{
    DataType, Field, Fields, Float32Type, Float64Type, Schema, SchemaRef,
};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::StreamExt;
use gradlake_udfs::encoder::{Input, Interner, Kind, flatten_columns, flatten_fields};
use tokio::sync::mpsc;

use super::chunks::Chunks;
use super::classes::Distinct;
use super::groups::{chunk_ends, part_groups};
use super::parallel::{lock, unlock};
use super::pieces::Pieces;
use super::raw::{Group, Place, RawData, RawTable, Skipped, Subset};
use super::{Resources, Roles, TargetKind};

/// Share of the memory limit up to which raw rows stay in memory. A reader of Parquet holds the
/// compressed columns of a row group for each partition beside them, which no pool counts: 300 MB of
/// two groups of a million rows of 62 numbers.
const RAW_SHARE: f64 = 0.25;
/// Batches of a partition that wait to be taken in.
const AHEAD: usize = 2;
/// Classes at most: a target with more is a number or an identifier taken for a class.
const MAX_CLASSES: usize = 10_000;
/// Groups at most.
const MAX_GROUPS: usize = 1_000_000;

/// How columns of the query become columns of chunks; shared by all partitions.
struct Plan {
    roles: Roles,
    inputs: Vec<Input>,
    /// Which inputs are categories.
    categories: Vec<Option<Mutex<Interner>>>,
    classes: Option<Mutex<Distinct>>,
    groups: Option<Mutex<Distinct>>,
    schema: SchemaRef,
    interned: Mutex<(MemoryReservation, usize)>,
    resources: Resources,
    rows: AtomicU64,
}

/// What one partition of the query gave.
struct Part {
    chunks: Chunks,
    pieces: Pieces,
    /// The group of each row, by chunk; empty without PARTITION BY.
    groups: Vec<UInt32Array>,
    /// Rows left out, by group and cause.
    skipped: BTreeMap<u32, Skipped>,
}

impl RawTable {
    /// Reads the partitions of a query, and tells `progress` how many rows there are so far.
    ///
    /// # Errors
    /// When the query fails, a column has a type that cannot be used, or the training is
    /// interrupted.
    pub async fn collect(
        streams: Vec<SendableRecordBatchStream>,
        roles: &Roles,
        resources: &Resources,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Self> {
        let Some(schema) = streams.first().map(|stream| stream.schema()) else {
            return exec_err!("the query has no partitions");
        };
        let plan = Arc::new(Plan::new(roles, &schema, resources)?);
        let mut tasks = vec![];
        for stream in streams {
            tasks.push(AbortOnDrop(tokio::spawn(read(Arc::clone(&plan), stream))));
        }
        let mut parts = vec![];
        for mut task in tasks {
            let mut told = tokio::time::interval(std::time::Duration::from_millis(200));
            let part = loop {
                tokio::select! {
                    part = &mut task.0 => break part,
                    _ = told.tick() => progress(plan.rows.load(Ordering::Relaxed)),
                }
            };
            parts.push(part.map_err(|e| exec_datafusion_err!("reading failed: {e}"))??);
        }
        progress(plan.rows.load(Ordering::Relaxed));
        match Arc::into_inner(plan) {
            Some(plan) => plan.finish(parts),
            None => exec_err!("a partition of the query is still being read"),
        }
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(plan: Arc<Plan>, mut stream: SendableRecordBatchStream) -> Result<Part> {
    let mut part = Part {
        chunks: Chunks::new(&plan.resources, "raw training rows", RAW_SHARE),
        pieces: Pieces::default(),
        groups: vec![],
        skipped: BTreeMap::new(),
    };
    // The stream is read on while a few batches wait: one partition alone keeps two cores busy, one
    // that decodes and one that takes in.
    let (send, mut batches) = mpsc::channel(AHEAD);
    let mut reader = AbortOnDrop(tokio::spawn(async move {
        while let Some(batch) = stream.next().await {
            // Nobody waits for the rest if the other end is gone.
            if send.send(batch).await.is_err() {
                break;
            }
        }
    }));
    while let Some(batch) = batches.recv().await {
        plan.resources.check_interrupt()?;
        let batch = batch?;
        if batch.num_rows() > 0 {
            plan.take(&batch, &mut part)?;
            plan.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        }
    }
    // No more batches come, perhaps because the reader broke.
    (&mut reader.0).await.map_err(|e| exec_datafusion_err!("reading failed: {e}"))?;
    for rows in part.pieces.finish()? {
        part.chunks.push(rows)?;
    }
    Ok(part)
}

impl Plan {
    fn new(roles: &Roles, schema: &Schema, resources: &Resources) -> Result<Self> {
        let mut columns = vec![];
        for (name, data_type) in &roles.inputs {
            let mut field = schema.field_with_name(name)?.clone();
            // Texts may come as dictionaries, but a model takes them as the query has them.
            if matches!(field.data_type(), DataType::Dictionary(_, _)) {
                field = field.with_data_type(data_type.clone());
            }
            columns.push(field);
        }
        let inputs = flatten_fields(&Fields::from(columns))?;
        let mut categories = vec![];
        let mut fields = vec![];
        for input in &inputs {
            let is_category = Kind::of(&input.name, &input.data_type)? == Kind::Category;
            categories.push(is_category.then(Mutex::default));
            let data_type = if is_category { DataType::UInt32 } else { input.data_type.clone() };
            fields.push(Field::new(&input.name, data_type, true));
        }
        let target = schema.field_with_name(&roles.target)?.data_type();
        let classes = match roles.kind {
            TargetKind::Class => {
                check_class_type(roles, target)?;
                let what = format!("the target {} of {}", roles.target, roles.algorithm);
                let distinct = Distinct::new(std::slice::from_ref(target), what, MAX_CLASSES)?;
                fields.push(Field::new("target", DataType::UInt32, true));
                Some(Mutex::new(distinct))
            }
            TargetKind::Number => {
                check_number_type(roles, target)?;
                fields.push(Field::new("target", DataType::Float64, true));
                None
            }
        };
        if roles.weight.is_some() {
            fields.push(Field::new("weight", DataType::Float32, true));
        }
        if roles.split.is_some() {
            fields.push(Field::new("split", DataType::Boolean, true));
        }
        let groups = if roles.partition_by.is_empty() {
            None
        } else {
            let mut types = vec![];
            for name in &roles.partition_by {
                types.push(schema.field_with_name(name)?.data_type().clone());
            }
            Some(Mutex::new(Distinct::new(&types, "PARTITION BY".to_owned(), MAX_GROUPS)?))
        };
        Ok(Self {
            roles: roles.clone(),
            inputs,
            categories,
            classes,
            groups,
            schema: Arc::new(Schema::new(fields)),
            interned: Mutex::new((resources.reservation("categories"), 0)),
            resources: resources.clone(),
            rows: AtomicU64::new(0),
        })
    }

    /// Takes the rows of a batch that can be learned from.
    fn take(&self, batch: &RecordBatch, part: &mut Part) -> Result<()> {
        let column = |name: &str| -> Result<ArrayRef> {
            Ok(Arc::clone(batch.column(batch.schema().index_of(name)?)))
        };
        let features =
            self.roles.inputs.iter().map(|(name, _)| column(name)).collect::<Result<Vec<_>>>()?;
        let groups = match &self.groups {
            Some(groups) => {
                let names = self.roles.partition_by.iter();
                let columns = names.map(|name| column(name)).collect::<Result<Vec<_>>>()?;
                Some(lock(groups).intern(&columns)?)
            }
            None => None,
        };
        let mut columns = flatten_columns(&features, &self.inputs)?;
        for (values, interner) in columns.iter_mut().zip(&self.categories) {
            if let Some(interner) = interner {
                *values = Arc::new(lock(interner).intern(values)?);
            }
        }
        let target = column(&self.roles.target)?;
        columns.push(match &self.classes {
            Some(classes) => {
                let codes = lock(classes).intern(std::slice::from_ref(&target))?;
                let nulls = target.logical_nulls();
                Arc::new(UInt32Array::new(codes.values().clone(), nulls))
            }
            None => cast(&target, &DataType::Float64)?,
        });
        if let Some(weight) = &self.roles.weight {
            columns.push(cast(&column(weight)?, &DataType::Float32)?);
        }
        if let Some(split) = &self.roles.split {
            columns.push(column(split)?);
        }
        let mut rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let mut groups = groups;
        if let Some(keep) = self.keep(&rows, &target, groups.as_ref(), &mut part.skipped) {
            rows = filter_record_batch(&rows, &keep)?;
            groups = match groups {
                Some(codes) => {
                    let kept = datafusion::arrow::compute::filter(&codes, &keep)?;
                    Some(kept.as_primitive().clone())
                }
                None => None,
            };
        }
        self.reserve_interned()?;
        if rows.num_rows() > 0 {
            // Rows of groups are brought together first.
            let rows = if groups.is_some() { vec![rows] } else { part.pieces.push(rows)? };
            for rows in rows {
                part.chunks.push(compact(rows)?)?;
            }
            part.groups.extend(groups);
        }
        Ok(())
    }

    /// Which rows can be learned from (None: all), counting the others by cause.
    fn keep(
        &self,
        rows: &RecordBatch,
        given: &ArrayRef,
        groups: Option<&UInt32Array>,
        skipped: &mut BTreeMap<u32, Skipped>,
    ) -> Option<BooleanArray> {
        let n = self.inputs.len();
        let target = rows.column(n);
        let numbers = target.as_primitive_opt::<Float64Type>();
        let floats = is_not_finite(given);
        let weight = self
            .roles
            .weight
            .as_ref()
            .and_then(|_| rows.column(n + 1).as_primitive_opt::<Float32Type>());
        let clean = target.null_count() == 0
            && numbers.is_none_or(|t| t.values().iter().all(|v| v.is_finite()))
            && floats.is_none()
            && weight.is_none_or(|w| {
                w.null_count() == 0 && w.values().iter().all(|v| v.is_finite() && *v >= 0.0)
            });
        if clean {
            return None;
        }
        let mut keep = BooleanBufferBuilder::new(rows.num_rows());
        for row in 0..rows.num_rows() {
            let cause = if target.is_null(row) {
                Some("the target is NULL")
            } else if numbers.is_some_and(|t| !t.value(row).is_finite())
                || floats.as_ref().is_some_and(|f| f[row])
            {
                Some("the target is not finite")
            } else if let Some(weight) = weight {
                let value = weight.value(row);
                if weight.is_null(row) {
                    Some("the weight is NULL")
                } else if !value.is_finite() || value < 0.0 {
                    Some("the weight is negative or not finite")
                } else {
                    None
                }
            } else {
                None
            };
            let group = skipped.entry(groups.map_or(0, |g| g.value(row))).or_default();
            if let Some(cause) = cause {
                *group.entry(cause.to_owned()).or_default() += 1;
            }
            keep.append(cause.is_none());
        }
        Some(BooleanArray::new(keep.finish(), None))
    }

    /// Reserves the memory that category texts have grown to.
    fn reserve_interned(&self) -> Result<()> {
        let bytes: usize = self.categories.iter().flatten().map(|i| lock(i).memory_size()).sum();
        let mut held = lock(&self.interned);
        if bytes > held.1 {
            self.resources.reserve(&held.0, bytes - held.1, "the list of categories")?;
            held.1 = bytes;
        }
        Ok(())
    }

    fn finish(self, parts: Vec<Part>) -> Result<RawTable> {
        let codes = match &self.groups {
            Some(groups) => lock(groups).sorted(),
            None => vec![0],
        };
        let mut skipped = vec![Skipped::new(); codes.len()];
        let mut partitions = vec![];
        let mut group_of = vec![];
        let mut first = 0;
        for part in parts {
            for (group, causes) in part.skipped {
                for (cause, n) in causes {
                    *skipped[group as usize].entry(cause).or_default() += n;
                }
            }
            let chunks = part.chunks.len();
            partitions.push((part.chunks, first));
            group_of.extend(part.groups);
            first += chunks;
        }
        let mut data = RawData {
            inputs: self.inputs,
            interners: self.categories.into_iter().map(|i| i.map(closed)).collect(),
            kind: self.roles.kind,
            classes: self.classes.map(unlock),
            has_weight: self.roles.weight.is_some(),
            schema: self.schema,
            chunk_ends: chunk_ends(&partitions),
            partitions,
            resources: self.resources,
        };
        let mut groups = vec![];
        match self.groups.map(unlock) {
            None => {
                let rows = data.chunk_ends.last().copied().unwrap_or(0);
                let skipped = skipped.pop().unwrap_or_default();
                let subset = Subset { place: Place::Range(0), rows, skipped };
                groups.push(Group { key: vec![], subset });
            }
            Some(distinct) => {
                let places = part_groups(&mut data, &group_of, &codes)?;
                for (code, (place, rows)) in codes.into_iter().zip(places) {
                    let skipped = std::mem::take(&mut skipped[code as usize]);
                    let subset = Subset { place, rows, skipped };
                    groups.push(Group { key: distinct.values(code)?, subset });
                }
            }
        }
        Ok(RawTable::new(data, groups))
    }
}

/// A batch whose buffers hold no more than its rows: slices of a page would keep the whole page.
fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| {
            let exact = column.to_data().get_slice_memory_size()?;
            if column.get_buffer_memory_size() <= 2 * exact + 4096 {
                return Ok(Arc::clone(column));
            }
            let rows = UInt32Array::from_iter_values(0..column.len() as u32);
            Ok(datafusion::arrow::compute::take(column, &rows, None)?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// Which values of a float column are not finite, if any is; for classes that are floats.
fn is_not_finite(column: &ArrayRef) -> Option<Vec<bool>> {
    if !column.data_type().is_floating() {
        return None;
    }
    let values = cast(column, &DataType::Float64).ok()?;
    let values = values.as_primitive::<Float64Type>();
    let bad: Vec<bool> =
        values.iter().map(|value| value.is_some_and(|value| !value.is_finite())).collect();
    bad.contains(&true).then_some(bad)
}

/// Refuses targets that are no numbers.
pub fn check_number_type(roles: &Roles, data_type: &DataType) -> Result<()> {
    let plain = match data_type {
        DataType::Dictionary(_, value) => value,
        other => other,
    };
    if plain.is_numeric() || matches!(plain, DataType::Boolean | DataType::Null) {
        return Ok(());
    }
    plan_err!(
        "the target {} of {} must be a number, but is {data_type}; a classifier \
         (logistic_regression, linear_svm, mlp_classifier) takes it as a class",
        roles.target,
        roles.algorithm
    )
}

/// Refuses targets that are no classes.
pub fn check_class_type(roles: &Roles, data_type: &DataType) -> Result<()> {
    let plain = match data_type {
        DataType::Dictionary(_, value) => value,
        other => other,
    };
    let fits = plain.is_numeric()
        || matches!(
            plain,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Boolean
                | DataType::Null
                | DataType::Date32
                | DataType::Date64
        );
    if fits {
        return Ok(());
    }
    plan_err!(
        "the target {} of {} must be a string, boolean, date or number, but is {data_type}",
        roles.target,
        roles.algorithm
    )
}

fn closed(interner: Mutex<Interner>) -> Interner {
    let mut interner = unlock(interner);
    interner.close();
    interner
}
