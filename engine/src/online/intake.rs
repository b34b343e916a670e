//! The row filter: turns batches of the query into training rows, in order and numbered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array,
};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{
    DataType, Field, Fields, Float32Type, Float64Type, Schema, SchemaRef, UInt32Type, UInt64Type,
};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use gradlake_udfs::{Input, flatten_columns, flatten_fields};

use crate::source::ROW_COLUMN;
use crate::table::{LabelEncoder, RolePlaces, Roles, TargetKind, Usable};

/// Maximum number of classes, as on tables.
const MAX_CLASSES: usize = 10_000;

/// The row filter: keeps the rows of the query that can be trained on. Its output has one column
/// per (flattened) input, then the target (float64, or codes of classes), the weight, and the
/// ordinal of the row.
#[derive(Debug)]
pub struct Intake {
    places: RolePlaces,
    inputs: Vec<Input>,
    distinct: Option<LabelEncoder>,
    /// Type of a class.
    class_type: DataType,
    /// Index of the class by code; None for a class that is not learned.
    class_of: Vec<Option<u32>>,
    /// Codes in the order of first appearance.
    arrived: Vec<u32>,
    /// Whether classes that appear later are accepted.
    is_open: bool,
    schema: SchemaRef,
    /// The ordinal of the next row; assigned here if the query has no ordinal column.
    next: u64,
    /// Rows that were filtered out after the last row that was trained on.
    skipped: VecDeque<(u64, &'static str)>,
    counted: BTreeMap<String, u64>,
}

impl Intake {
    /// For a query with this schema, whose rows are numbered from `next` on.
    ///
    /// # Errors
    /// When a column cannot serve its purpose.
    pub fn new(roles: &Roles, schema: &Schema, next: u64, is_open: bool) -> Result<Self> {
        let places = RolePlaces::new(roles, schema)?;
        let columns = places.inputs.iter().map(|place| Arc::clone(&schema.fields()[*place]));
        let inputs = flatten_fields(&columns.collect::<Fields>())?;
        let mut fields: Vec<Field> =
            inputs.iter().map(|i| Field::new(&i.name, i.data_type.clone(), true)).collect();
        let (mut distinct, mut class_type) = (None, DataType::Null);
        for (place, name) in places.targets.iter().zip(&roles.targets) {
            let target = schema.field(*place).data_type();
            if roles.kind == TargetKind::Class {
                crate::table::check_class_type(roles, name, target)?;
                let what = format!("the target {name} of {}", roles.algorithm);
                fields.push(target_field(DataType::UInt32));
                distinct =
                    Some(LabelEncoder::new(std::slice::from_ref(target), what, MAX_CLASSES)?);
                class_type = match target {
                    DataType::Dictionary(_, value) => value.as_ref().clone(),
                    other => other.clone(),
                };
            } else {
                crate::table::check_number_type(roles, name, target)?;
                if target.is_nested() {
                    return plan_err!(
                        "the target {name} is a vector, which is not possible with rows that are \
                         learned from as they come; name one of its elements, such as {name}[1]"
                    );
                }
                fields.push(target_field(DataType::Float64));
            }
        }
        fields.push(Field::new("weight", DataType::Float32, true));
        fields.push(Field::new("row", DataType::UInt64, false));
        Ok(Self {
            places,
            inputs,
            distinct,
            class_type,
            class_of: vec![],
            arrived: vec![],
            is_open,
            schema: Arc::new(Schema::new(fields)),
            next,
            skipped: VecDeque::new(),
            counted: BTreeMap::new(),
        })
    }

    /// The flattened inputs with their types.
    pub fn inputs(&self) -> Vec<(String, DataType)> {
        self.inputs.iter().map(|i| (i.name.clone(), i.data_type.clone())).collect()
    }

    /// The schema of [`Intake::take`]'s rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Counts, by cause, of rows that were filtered out before the ordinal that was last passed to
    /// [`Intake::count_skipped`].
    pub fn counted(&self) -> &BTreeMap<String, u64> {
        &self.counted
    }

    /// Restores the counts and classes of a checkpoint.
    ///
    /// # Errors
    /// When a class is not of the target's type.
    pub fn restore(
        &mut self,
        counted: BTreeMap<String, u64>,
        classes: &[ScalarValue],
    ) -> Result<()> {
        self.counted = counted;
        self.know(classes)
    }

    /// Fixes the index of some classes.
    ///
    /// # Errors
    /// When a class is not of the target's type.
    pub fn know(&mut self, classes: &[ScalarValue]) -> Result<()> {
        for class in classes {
            let Some(distinct) = &mut self.distinct else { return Ok(()) };
            let codes = distinct.intern(&[cast(&class.to_array()?, &self.class_type)?])?;
            self.arrived.push(codes.value(0));
        }
        for index in 0..classes.len() {
            let code = self.arrived[index];
            self.name_class(code, index as u32);
        }
        Ok(())
    }

    /// Sets the index of a class.
    pub fn name_class(&mut self, code: u32, index: u32) {
        let code = code as usize;
        if self.class_of.len() <= code {
            self.class_of.resize(code + 1, None);
        }
        self.class_of[code] = Some(index);
    }

    /// The index of the class with a code.
    pub fn class_of(&self, code: u32) -> Option<u32> {
        self.class_of.get(code as usize).copied().flatten()
    }

    /// Codes of the classes in the order of first appearance.
    pub fn arrived(&self) -> &[u32] {
        &self.arrived
    }

    /// The class with a code.
    ///
    /// # Errors
    /// When there is none.
    pub fn class(&self, code: u32) -> Result<ScalarValue> {
        match &self.distinct {
            Some(distinct) => {
                match distinct.value(code)?.and_then(|value| value.into_iter().next()) {
                    Some(class) => Ok(class),
                    None => exec_err!("class {code} is not known"),
                }
            }
            None => exec_err!("a regression has no classes"),
        }
    }

    /// The ordinal after the last row that was taken.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Skips rows up to and including this one, which were consumed before.
    pub fn pass(&mut self, row: u64) {
        self.next = self.next.max(row + 1);
    }

    /// Counts the rows that were filtered out before an ordinal.
    pub fn count_skipped(&mut self, ordinal: u64) {
        while let Some((_, cause)) = self.skipped.pop_front_if(|(row, _)| *row < ordinal) {
            *self.counted.entry(cause.to_owned()).or_default() += 1;
        }
    }

    /// Filters a batch to the rows that can be trained on.
    ///
    /// # Errors
    /// When lists of a vector differ in length, or there are too many classes.
    pub fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = |place: &usize| Arc::clone(batch.column(*place));
        let features: Vec<ArrayRef> = self.places.inputs.iter().map(column).collect();
        let mut columns = flatten_columns(&features, &self.inputs)?;
        let n = batch.num_rows();
        let targets: Vec<ArrayRef> = self.places.targets.iter().map(column).collect();
        let codes = match &mut self.distinct {
            Some(distinct) => Some(distinct.intern(&targets)?),
            None => None,
        };
        let mut numbers = vec![];
        if codes.is_none() {
            for target in &targets {
                numbers.push(cast(target, &DataType::Float64)?);
            }
        }
        let weight = self.places.weight.as_ref().map(column);
        let usable = Usable::new(&targets, &numbers, weight.as_ref())?;
        let ordinals: ArrayRef = match batch.column_by_name(ROW_COLUMN) {
            Some(ordinals) => Arc::clone(ordinals),
            None => Arc::new(UInt64Array::from_iter_values(self.next..self.next + n as u64)),
        };
        let rows = ordinals.as_primitive::<UInt64Type>().values().clone();
        self.next = rows.last().map_or(self.next, |row| row + 1);
        let keep = self.keep(&usable, codes.as_ref(), &rows);
        columns.extend(codes.map(|codes| Arc::new(codes) as ArrayRef));
        columns.extend(numbers);
        columns.push(match weight {
            Some(weight) => cast(&weight, &DataType::Float32)?,
            None => Arc::new(datafusion::arrow::array::Float32Array::from_value(1.0, n)),
        });
        columns.push(ordinals);
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        match keep {
            Some(keep) => Ok(filter_record_batch(&rows, &keep)?),
            None => Ok(rows),
        }
    }

    /// Which rows can be trained on; None means all.
    fn keep(
        &mut self,
        usable: &Usable,
        codes: Option<&UInt32Array>,
        rows: &[u64],
    ) -> Option<BooleanArray> {
        let mut keep = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            let cause = usable.cause(i).or_else(|| match is_held(usable.weight(i)) {
                // (The mean weight is not known before the end, so weights are not normalised.)
                false => Some("float32 does not hold the weight"),
                true => codes.and_then(|codes| self.meet(codes.value(i))),
            });
            if let Some(cause) = cause {
                self.skipped.push_back((*row, cause));
            }
            keep.push(cause.is_none());
        }
        keep.contains(&false).then(|| BooleanArray::from(keep))
    }

    /// Records the class of a row; returns the cause if the row is filtered out.
    #[inline]
    fn meet(&mut self, code: u32) -> Option<&'static str> {
        if self.class_of(code).is_some() || self.arrived.contains(&code) {
            return None;
        }
        if self.is_open || self.arrived.len() < 2 {
            self.arrived.push(code);
            return None;
        }
        Some("the target is a class that the model does not know")
    }
}

/// The columns of rows that [`Intake::take`] returned.
#[derive(Debug)]
pub struct FilteredRows<'a> {
    /// Features by input.
    pub features: &'a [ArrayRef],
    /// Codes of classes.
    pub codes: Option<&'a [u32]>,
    /// Numbers to estimate.
    pub numbers: Option<&'a [f64]>,
    /// Row weights.
    pub weight: &'a [f32],
    /// Ordinals.
    pub rows: &'a [u64],
}

impl<'a> FilteredRows<'a> {
    /// The parts of a batch.
    pub fn of(batch: &'a RecordBatch) -> Self {
        let n = batch.num_columns();
        let columns = batch.columns();
        // (Before weight and row; a feature may have its name.)
        let target = (n > 2 && batch.schema_ref().field(n - 3).metadata().contains_key(TARGET))
            .then(|| &columns[n - 3]);
        let (codes, numbers) = match target {
            Some(own) => {
                (own.as_primitive_opt::<UInt32Type>(), own.as_primitive_opt::<Float64Type>())
            }
            None => (None, None),
        };
        Self {
            features: &columns[..n - 2 - usize::from(target.is_some())],
            codes: codes.map(|codes| &codes.values()[..]),
            numbers: numbers.map(|numbers| &numbers.values()[..]),
            weight: columns[n - 2].as_primitive::<Float32Type>().values(),
            rows: columns[n - 1].as_primitive::<UInt64Type>().values(),
        }
    }
}

/// The name of the column of the target, and the key of its metadata.
const TARGET: &str = "target";

/// The column of the target.
fn target_field(data_type: DataType) -> Field {
    let metadata = [(TARGET.to_owned(), String::new())].into();
    Field::new(TARGET, data_type, true).with_metadata(metadata)
}

/// Whether float32 can hold a weight, possibly with fewer digits.
fn is_held(weight: f64) -> bool {
    let held = weight as f32;
    held.is_finite() && (held > 0.0 || weight == 0.0)
}
