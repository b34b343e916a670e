//! Converts batches of another schema to the schema of the table: by column name, without loss.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use gradlake_udfs::Names;

use crate::files::integer;

use super::exact::{Misfit, cast_exactly, may_hold};

/// How strictly columns must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// Exactly the columns of the table; floating-point columns are refused for integers and
    /// decimals.
    Same,
    /// Extra columns are ignored, and a missing nullable column is filled with NULL.
    Overlapping,
}

/// Turns batches of one schema into batches of the table's.
#[derive(Clone, Debug)]
pub(super) struct Adapter {
    table: SchemaRef,
    /// The position of each column of the table in the batches; None if it is missing.
    places: Vec<Option<Place>>,
    /// The sender of the batches, for error messages.
    whose: String,
}

/// A column of the batches.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: usize,
    /// Whether it may have values that the table's type cannot hold, or NULLs where the table
    /// allows none.
    is_checked: bool,
}

/// The index of a column by its exact name or, if there is none, by a name that differs in case
/// only.
///
/// # Errors
/// When the name is ambiguous.
pub(super) fn position(
    name: &str,
    names: &Names<'_>,
) -> std::result::Result<Option<usize>, String> {
    if let Ok(place) = names.find(name) {
        return Ok(place);
    }
    let same = |is: &dyn Fn(&str) -> bool| -> Vec<&str> {
        names.all().iter().copied().filter(|other| is(other)).collect()
    };
    match same(&|other| other == name).as_slice() {
        [] => {
            let meant = same(&|other| other.to_lowercase() == name.to_lowercase());
            Err(format!("no column {name}, but {}, which differ in case alone", meant.join(", ")))
        }
        several => Err(format!("{} columns {name}", several.len())),
    }
}

impl Adapter {
    /// An adapter for batches of the schema `theirs`, whose columns are matched by name.
    ///
    /// # Errors
    /// When a column is missing, is not in the table, or has a type whose values the table's type
    /// cannot hold.
    pub(super) fn new(
        theirs: &Schema,
        table: &SchemaRef,
        whose: impl Into<String>,
        columns: Columns,
    ) -> Result<Self> {
        let whose = whose.into();
        let mut places = Vec::with_capacity(table.fields().len());
        let names = Names::of(theirs.fields());
        for field in table.fields() {
            let index = match position(field.name(), &names) {
                Ok(Some(index)) => index,
                Ok(None) if columns == Columns::Overlapping && field.is_nullable() => {
                    places.push(None);
                    continue;
                }
                Ok(None) => {
                    let has = names.all();
                    return exec_err!(
                        "{whose} has no column {}, which the table has; it has {}",
                        field.name(),
                        if has.is_empty() { "none".to_owned() } else { has.join(", ") }
                    );
                }
                Err(what) => return exec_err!("{whose} has {what}"),
            };
            let other = theirs.field(index);
            let is_lossless = is_lossless(other.data_type(), field.data_type());
            if !is_lossless && !columns.allow(other, field) {
                return exec_err!(
                    "{whose} has column {} as {}, whose values {}, the type of the table's \
                     column, does not hold in full",
                    field.name(),
                    other.data_type(),
                    field.data_type()
                );
            }
            let is_checked = !is_lossless || (other.is_nullable() && !field.is_nullable());
            places.push(Some(Place { index, is_checked }));
        }
        if columns == Columns::Same {
            let taken: HashSet<usize> = places.iter().flatten().map(|own| own.index).collect();
            let mut fields = theirs.fields().iter().enumerate();
            if let Some((_, extra)) = fields.find(|(index, _)| !taken.contains(index)) {
                return exec_err!("{whose} has column {}, which the table has not", extra.name());
            }
        } else if !table.fields().is_empty() && places.iter().all(Option::is_none) {
            return exec_err!("{whose} has none of the columns of the table");
        }
        Ok(Self { table: Arc::clone(table), places, whose })
    }

    /// The columns of the batches that are read, in ascending order.
    pub(super) fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self.places.iter().flatten().map(|p| p.index).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// The adapter for batches that have only [`Adapter::columns`].
    pub(super) fn projected(self) -> Self {
        let columns = self.columns();
        let place = |place: Place| {
            let index = columns.partition_point(|column| *column < place.index);
            Place { index, ..place }
        };
        let places = self.places.iter().map(|own| own.map(place)).collect();
        Self { places, ..self }
    }

    /// An adapter for only the columns that may have a value that does not fit; None if all values
    /// fit.
    pub(super) fn checks(&self) -> Option<Self> {
        let checked = |i: &usize| self.places[*i].is_some_and(|place| place.is_checked);
        let columns: Vec<usize> = (0..self.places.len()).filter(checked).collect();
        if columns.is_empty() {
            return None;
        }
        let fields: Vec<_> = columns.iter().map(|i| Arc::clone(&self.table.fields()[*i])).collect();
        let places = columns.iter().map(|i| self.places[*i]).collect();
        Some(Self { table: Arc::new(Schema::new(fields)), places, whose: self.whose.clone() })
    }

    /// The batch in the table's schema; `row` is the number of its first row, from 0.
    ///
    /// # Errors
    /// When a column that is NOT NULL has NULLs, or a value does not fit its type.
    pub(super) fn adapt(&self, batch: &RecordBatch, row: u64) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(self.places.len());
        for (field, place) in self.table.fields().iter().zip(&self.places) {
            let column = match place {
                None => new_null_array(field.data_type(), rows),
                Some(place) => self.column(batch.column(place.index), field, row)?,
            };
            if !field.is_nullable() && column.logical_null_count() > 0 {
                return exec_err!(
                    "{} has NULL in column {}, which is NOT NULL in the table",
                    self.whose,
                    field.name()
                );
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.table), columns, &options)?)
    }

    fn column(&self, column: &ArrayRef, field: &Field, row: u64) -> Result<ArrayRef> {
        let (name, to) = (field.name(), field.data_type());
        if column.data_type() == to {
            return Ok(Arc::clone(column));
        }
        if is_lossless(column.data_type(), to) {
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            return cast_with_options(column, to, &strict).map_err(|error| {
                exec_datafusion_err!(
                    "{} has a value in column {name} that {to} does not hold: {error}",
                    self.whose
                )
            });
        }
        match cast_exactly(column, to)? {
            Ok(column) => Ok(column),
            Err(Misfit { row: within, value }) => exec_err!(
                "{} has {value} in column {name}, row {}, which is {} and not {to}, the type of the \
                 table's column",
                self.whose,
                row + within as u64 + 1,
                column.data_type()
            ),
        }
    }
}

impl Columns {
    /// Whether a column may have values of the table's type, so that each value is checked.
    fn allow(self, theirs: &Field, own: &Field) -> bool {
        let (from, to) = (theirs.data_type(), own.data_type());
        let drops_fractions = from.is_floating() && (to.is_integer() || to.is_decimal());
        may_hold(from, to) && !(self == Columns::Same && drops_fractions)
    }
}

/// Whether `to` holds every value of `from`. (For times: every value in the years that `to` spans.
/// A cast of a time outside of them fails and never makes another value.)
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    let held = match (from, to) {
        _ if from == to => true,
        (Null, _) => true,
        (Dictionary(_, values), _) => is_lossless(values, to),
        (RunEndEncoded(_, values), _) => is_lossless(values.data_type(), to),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
            Binary | LargeBinary | BinaryView,
        ) => true,
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (Date32, Date64 | Timestamp(_, None)) => true,
        (Timestamp(from, from_zone), Timestamp(to, to_zone)) => {
            from_zone == to_zone && digits_of(*from) <= digits_of(*to)
        }
        (
            Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s),
            Decimal32(to_p, to_s)
            | Decimal64(to_p, to_s)
            | Decimal128(to_p, to_s)
            | Decimal256(to_p, to_s),
        ) => to_s >= s && i16::from(*to_p) - i16::from(*to_s) >= i16::from(*p) - i16::from(*s),
        (List(from) | LargeList(from) | FixedSizeList(from, _), List(to) | LargeList(to)) => {
            is_lossless(from.data_type(), to.data_type())
        }
        (FixedSizeList(from, length), FixedSizeList(to, to_length)) => {
            length == to_length && is_lossless(from.data_type(), to.data_type())
        }
        _ => match (integer(from), to) {
            (Some((signed, bits)), _) if integer(to).is_some() => {
                integer(to).is_some_and(|(to_signed, to_bits)| match (signed, to_signed) {
                    (true, false) => false,
                    (false, true) => bits < to_bits,
                    _ => bits <= to_bits,
                })
            }
            // The mantissas of IEEE 754 have 11, 24 and 53 bits; a sign is extra.
            (Some((_, bits)), Float16) => bits <= 8,
            (Some((_, bits)), Float32) => bits <= 16,
            (Some((_, bits)), Float64) => bits <= 32,
            _ => false,
        },
    };
    held && (from == to || can_cast_types(from, to))
}

/// Decimal digits after the second.
fn digits_of(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, StringViewArray,
    };
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let fields = fields.iter().map(|(n, t, nullable)| Field::new(*n, t.clone(), *nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    #[test]
    fn what_a_type_holds() {
        use DataType::*;
        let at = |unit| Timestamp(unit, None);
        for (from, to) in [
            (Int32, Int64),
            (UInt32, Int64),
            (Int32, Float64),
            (Int16, Float32),
            (Float32, Float64),
            (Utf8, Utf8View),
            (LargeUtf8, Utf8),
            (Dictionary(Box::new(Int32), Box::new(Utf8)), Utf8View),
            (Date32, at(TimeUnit::Nanosecond)),
            (at(TimeUnit::Second), at(TimeUnit::Millisecond)),
            (Decimal128(5, 2), Decimal128(7, 3)),
            (Null, Float64),
            (
                List(Arc::new(Field::new("item", Int32, true))),
                LargeList(Arc::new(Field::new("e", Int64, true))),
            ),
        ] {
            assert!(is_lossless(&from, &to), "{from} {to}");
        }
        for (from, to) in [
            (Int64, Int32),
            (Int32, UInt64),
            (UInt64, Int64),
            (Int64, Float64),
            (Int32, Float32),
            (Float64, Float32),
            (Float64, Int64),
            (Utf8, Int64),
            (Int64, Utf8),
            (Boolean, Int8),
            (at(TimeUnit::Microsecond), at(TimeUnit::Millisecond)),
            (at(TimeUnit::Second), Timestamp(TimeUnit::Second, Some("UTC".into()))),
            (Decimal128(5, 2), Decimal128(5, 3)),
            (Decimal128(5, 2), Decimal128(9, 1)),
        ] {
            assert!(!is_lossless(&from, &to), "{from} {to}");
        }
    }

    #[test]
    fn columns_are_matched_by_name() {
        let theirs = schema(&[("b", DataType::Utf8, true), ("a", DataType::Int32, true)]);
        let table = schema(&[
            ("a", DataType::Float64, false),
            ("b", DataType::Utf8View, true),
            ("c", DataType::Int64, true),
        ]);
        let adapter = Adapter::new(&theirs, &table, "file x", Columns::Overlapping).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["p", "q"])),
            Arc::new(Int32Array::from(vec![1, 2])),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&theirs), columns).unwrap();
        let expected: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![1.0, 2.0])),
            Arc::new(StringViewArray::from(vec!["p", "q"])),
            Arc::new(Int64Array::from(vec![None, None])),
        ];
        let expected = RecordBatch::try_new(Arc::clone(&table), expected).unwrap();
        assert_eq!(adapter.adapt(&batch, 0).unwrap(), expected);

        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["p"])), Arc::new(Int32Array::from(vec![None]))];
        let batch = RecordBatch::try_new(theirs, columns).unwrap();
        let error = adapter.adapt(&batch, 0).unwrap_err().strip_backtrace();
        assert_eq!(
            error,
            "Execution error: file x has NULL in column a, which is NOT NULL in the table"
        );
    }

    /// Types that are wider than the table's are checked value by value, and first as a whole.
    #[test]
    fn values_are_looked_at() {
        let theirs = schema(&[("other", DataType::Utf8, true), ("A", DataType::Int64, true)]);
        let table = schema(&[("a", DataType::Float64, true), ("b", DataType::Utf8View, true)]);
        let adapter = Adapter::new(&theirs, &table, "file x", Columns::Overlapping).unwrap();
        assert_eq!(adapter.columns(), [1]);
        let adapter = adapter.projected();
        let checks = adapter.checks().unwrap();
        assert_eq!(checks.columns(), [0]);
        let batch = |values: Vec<i64>| {
            let column: ArrayRef = Arc::new(Int64Array::from(values));
            RecordBatch::try_from_iter([("A", column)]).unwrap()
        };
        let adapted = adapter.adapt(&batch(vec![5, -6]), 0).unwrap();
        let expected: ArrayRef = Arc::new(Float64Array::from(vec![5.0, -6.0]));
        assert_eq!(adapted.column(0), &expected);
        for adapter in [&adapter, &checks] {
            let error = adapter.adapt(&batch(vec![1, (1 << 53) + 1]), 100).unwrap_err();
            assert_eq!(
                error.message(),
                "file x has 9007199254740993 in column a, row 102, which is Int64 and not Float64, \
                 the type of the table's column"
            );
        }
        let table = schema(&[("a", DataType::Int64, true)]);
        let same = Adapter::new(&theirs, &table, "file x", Columns::Overlapping).unwrap();
        assert!(same.checks().is_none());
    }

    #[test]
    fn differences_are_named() {
        let table = schema(&[("a", DataType::Int32, true), ("b", DataType::Utf8View, true)]);
        let refused = |fields: &[(&str, DataType, bool)], columns| {
            let error = Adapter::new(&schema(fields), &table, "producer 1", columns).unwrap_err();
            error.strip_backtrace().trim_start_matches("Execution error: ").to_owned()
        };
        let (a, b) = (("a", DataType::Int32, true), ("b", DataType::Utf8, true));
        let c = ("c", DataType::Utf8, true);
        assert_eq!(
            refused(std::slice::from_ref(&a), Columns::Same),
            "producer 1 has no column b, which the table has; it has a"
        );
        assert_eq!(
            refused(&[a, b.clone(), c.clone()], Columns::Same),
            "producer 1 has column c, which the table has not"
        );
        assert_eq!(
            refused(&[("a", DataType::Utf8, true), b.clone()], Columns::Overlapping),
            "producer 1 has column a as Utf8, whose values Int32, the type of the table's column, \
             does not hold in full"
        );
        assert_eq!(
            refused(&[c], Columns::Overlapping),
            "producer 1 has none of the columns of the table"
        );
        let fractions = ("a", DataType::Float64, true);
        assert!(refused(&[fractions, b.clone()], Columns::Same).contains("column a as Float64"));
        let twice = ("a", DataType::Int32, true);
        assert_eq!(
            refused(&[twice.clone(), twice, b.clone()], Columns::Overlapping),
            "producer 1 has 2 columns a"
        );
        let (upper, lower) = (("B", DataType::Utf8, true), ("bB", DataType::Utf8, true));
        let table = schema(&[("bb", DataType::Utf8, true)]);
        let error = Adapter::new(
            &schema(&[("BB", DataType::Utf8, true), lower, upper]),
            &table,
            "it",
            Columns::Same,
        );
        assert_eq!(
            error.unwrap_err().message(),
            "it has no column bb, but BB, bB, which differ in case alone"
        );
    }
}
