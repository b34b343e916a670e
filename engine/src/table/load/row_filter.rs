//! From batches of the query to raw rows: categories, classes and groups become numbers, and rows
//! that cannot be learned from are left out.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, UInt32Array,
};
use datafusion::arrow::compute::{cast, filter, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::{InputKind, Interner, flatten_columns, flatten_fields};

use crate::table::load::columns::RawColumns;
use crate::table::load::label_encoder::LabelEncoder;
use crate::table::load::raw::Skipped;
use crate::table::load::targets::{
    ListLength, check_class_type, check_number_type, number_type, numbers_of,
};
use crate::table::load::usable::Usable;
use crate::table::parallel::lock;
use crate::table::{Resources, RolePlaces, Roles, TargetKind};

/// Classes at most; a target with more is a number or an identifier taken for a class.
const MAX_CLASSES: usize = 10_000;
/// Groups at most.
const MAX_GROUPS: usize = 1_000_000;

/// How columns of the query become columns of raw rows; shared by all partitions.
pub(in crate::table) struct RowFilter {
    places: RolePlaces,
    pub(in crate::table) columns: RawColumns,
    /// The interners of inputs that are categories.
    pub(in crate::table) categories: Vec<Option<Mutex<Interner>>>,
    pub(in crate::table) classes: Option<Mutex<LabelEncoder>>,
    pub(in crate::table) groups: Option<Mutex<LabelEncoder>>,
    /// Of each target.
    lengths: Vec<ListLength>,
    interned: Mutex<(MemoryReservation, usize)>,
    /// Rows so far.
    pub(in crate::table) seen: AtomicU64,
    pub(in crate::table) resources: Resources,
}

/// The rows of a batch, before those that cannot be learned from are left out.
pub(in crate::table) struct FilteredRows {
    /// By [`RawColumns`].
    pub rows: RecordBatch,
    /// The group of each, with PARTITION BY.
    pub groups: Option<UInt32Array>,
    /// Which of them can be learned from.
    usable: Usable,
}

impl FilteredRows {
    /// Whether all rows can be learned from.
    pub(in crate::table) fn is_usable(&self) -> bool {
        self.usable.all()
    }

    /// Which rows can be learned from, counting the others by group and cause.
    fn keep(&self, skipped: &mut BTreeMap<u32, Skipped>) -> BooleanArray {
        let mut keep = BooleanBufferBuilder::new(self.rows.num_rows());
        for row in 0..self.rows.num_rows() {
            let cause = self.usable.cause(row);
            if let Some(cause) = cause {
                let group = self.groups.as_ref().map_or(0, |groups| groups.value(row));
                *skipped.entry(group).or_default().entry(cause.to_owned()).or_default() += 1;
            }
            keep.append(cause.is_none());
        }
        BooleanArray::new(keep.finish(), None)
    }
}

impl RowFilter {
    /// For the columns of a query.
    ///
    /// # Errors
    /// When one has a type that it cannot be used as.
    pub(in crate::table) fn new(
        roles: &Roles,
        schema: &Schema,
        resources: &Resources,
    ) -> Result<Self> {
        let places = RolePlaces::new(roles, schema)?;
        let mut columns = vec![];
        for (place, (_, data_type)) in places.inputs.iter().zip(&roles.inputs) {
            let mut field = schema.field(*place).clone();
            // Texts may arrive as dictionaries, but the model records the type that the query has.
            if matches!(field.data_type(), DataType::Dictionary(_, _)) {
                field = field.with_data_type(data_type.clone());
            }
            columns.push(field);
        }
        let inputs = flatten_fields(&Fields::from(columns))?;
        let mut is_category = vec![];
        let mut fields = vec![];
        for input in &inputs {
            let own = InputKind::of(&input.name, &input.data_type)? == InputKind::Category;
            is_category.push(own);
            let data_type = if own { DataType::UInt32 } else { input.data_type.clone() };
            fields.push(Field::new(&input.name, data_type, true));
        }
        let mut classes = None;
        for (place, name) in places.targets.iter().zip(&roles.targets) {
            let target = schema.field(*place).data_type();
            let own = match roles.kind {
                TargetKind::Class => {
                    check_class_type(roles, name, target)?;
                    let what = format!("the target {name} of {}", roles.algorithm);
                    let types = std::slice::from_ref(target);
                    classes = Some(Mutex::new(LabelEncoder::new(types, what, MAX_CLASSES)?));
                    DataType::UInt32
                }
                TargetKind::Number | TargetKind::None => {
                    check_number_type(roles, name, target)?;
                    number_type(target)
                }
            };
            fields.push(Field::new(name, own, true));
        }
        if roles.weight.is_some() {
            // (Their scale does not matter, and may be beyond the range of float32.)
            fields.push(Field::new("weight", DataType::Float64, true));
        }
        if roles.split.is_some() {
            fields.push(Field::new("split", DataType::Boolean, true));
        }
        let groups = if roles.partition_by.is_empty() {
            None
        } else {
            let types = places.partition_by.iter();
            let types: Vec<DataType> =
                types.map(|place| schema.field(*place).data_type().clone()).collect();
            Some(Mutex::new(LabelEncoder::new(&types, "PARTITION BY".to_owned(), MAX_GROUPS)?))
        };
        Ok(Self {
            places,
            categories: is_category.iter().map(|own| own.then(Mutex::default)).collect(),
            columns: RawColumns {
                inputs,
                is_category,
                kind: roles.kind,
                targets: roles.targets.clone(),
                has_weight: roles.weight.is_some(),
                schema: Arc::new(Schema::new(fields)),
            },
            classes,
            groups,
            lengths: roles.targets.iter().map(|name| ListLength::new(name)).collect(),
            interned: Mutex::new((resources.reservation("categories"), 0)),
            seen: AtomicU64::new(0),
            resources: resources.clone(),
        })
    }

    /// The rows of a batch, all of them.
    pub(in crate::table) fn rows(&self, batch: &RecordBatch) -> Result<FilteredRows> {
        let places = &self.places;
        let column = |place: &usize| Arc::clone(batch.column(*place));
        let features: Vec<ArrayRef> = places.inputs.iter().map(column).collect();
        let groups = match &self.groups {
            Some(groups) => {
                let columns: Vec<ArrayRef> = places.partition_by.iter().map(column).collect();
                Some(lock(groups).intern(&columns)?)
            }
            None => None,
        };
        let mut columns = flatten_columns(&features, &self.columns.inputs)?;
        self.intern(&mut columns)?;
        let targets: Vec<ArrayRef> = places.targets.iter().map(column).collect();
        let own: Vec<ArrayRef> = match &self.classes {
            Some(classes) => {
                let codes = lock(classes).intern(&targets)?;
                let nulls = targets.first().and_then(|target| target.logical_nulls());
                vec![Arc::new(UInt32Array::new(codes.values().clone(), nulls))]
            }
            None => {
                let numbers = targets.iter().zip(&self.lengths);
                numbers.map(|(target, length)| numbers_of(target, length)).collect::<Result<_>>()?
            }
        };
        let weight = match &places.weight {
            Some(weight) => Some(cast(&column(weight), &DataType::Float64)?),
            None => None,
        };
        let numbers = if self.classes.is_none() { own.as_slice() } else { &[] };
        let usable = Usable::new(&targets, numbers, weight.as_ref())?;
        columns.extend(own);
        columns.extend(weight);
        columns.extend(places.split.as_ref().map(column));
        let rows = RecordBatch::try_new(Arc::clone(&self.columns.schema), columns)?;
        self.reserve_interned()?;
        Ok(FilteredRows { rows, groups, usable })
    }

    /// Replaces the values of category columns by codes.
    fn intern(&self, columns: &mut [ArrayRef]) -> Result<()> {
        // Columns that another thread has locked come last: new dictionaries take long.
        let (mut later, mut codes) = (vec![], vec![]);
        for (column, interner) in self.categories.iter().enumerate() {
            let Some(interner) = interner else { continue };
            match interner.try_lock() {
                Ok(mut interner) => {
                    codes.push((column, own_codes(&mut interner, &columns[column])?))
                }
                Err(_) => later.push((column, interner)),
            }
        }
        for (column, interner) in later {
            codes.push((column, own_codes(&mut lock(interner), &columns[column])?));
        }
        for (column, codes) in codes {
            let codes = match columns[column].as_any_dictionary_opt() {
                Some(dictionary) => Interner::codes_of_keys(dictionary, &codes),
                None => codes,
            };
            columns[column] = Arc::new(codes);
        }
        Ok(())
    }

    /// The rows that can be learned from; the others are counted by group and cause.
    pub(in crate::table) fn usable(
        &self,
        taken: FilteredRows,
        skipped: &mut BTreeMap<u32, Skipped>,
    ) -> Result<(RecordBatch, Option<UInt32Array>)> {
        if taken.is_usable() {
            return Ok((taken.rows, taken.groups));
        }
        let keep = taken.keep(skipped);
        let groups = match taken.groups {
            Some(codes) => Some(filter(&codes, &keep)?.as_primitive().clone()),
            None => None,
        };
        Ok((filter_record_batch(&taken.rows, &keep)?, groups))
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
}

/// The codes of the rows, or those of the dictionary's values if the rows are keys.
fn own_codes(interner: &mut Interner, values: &ArrayRef) -> Result<UInt32Array> {
    match values.as_any_dictionary_opt() {
        Some(dictionary) => interner.dictionary_codes(dictionary.values()),
        None => interner.intern(values),
    }
}
