//! Batches of somebody else's schema become batches of the table's: by name, without loss.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::{Result, exec_datafusion_err, exec_err};

/// How strictly columns must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// Every column of the table is there, and no other.
    Same,
    /// Others are ignored, and a missing column that may be NULL is NULL.
    Overlapping,
}

/// Turns batches of one schema into batches of the table's.
#[derive(Debug)]
pub(super) struct Adapter {
    table: SchemaRef,
    /// Where each column of the table stands in the batches; None where it is missing.
    places: Vec<Option<usize>>,
    /// Who sends the batches, for errors.
    whose: String,
}

impl Adapter {
    /// Batches of `theirs`, whose columns are matched by name.
    ///
    /// # Errors
    /// When a column is missing, is one too many, or has a type whose values the table's type
    /// does not hold.
    pub(super) fn new(
        theirs: &SchemaRef,
        table: &SchemaRef,
        whose: impl Into<String>,
        columns: Columns,
    ) -> Result<Self> {
        let whose = whose.into();
        let mut places = Vec::with_capacity(table.fields().len());
        let own: HashMap<&str, usize> =
            theirs.fields().iter().enumerate().rev().map(|(i, f)| (f.name().as_str(), i)).collect();
        for field in table.fields() {
            let place = own.get(field.name().as_str());
            let Some((place, other)) = place.map(|place| (*place, theirs.field(*place))) else {
                if columns == Columns::Overlapping && field.is_nullable() {
                    places.push(None);
                    continue;
                }
                let has: Vec<_> = theirs.fields().iter().map(|f| f.name().as_str()).collect();
                return exec_err!(
                    "{whose} has no column {}, which the table has; it has {}",
                    field.name(),
                    if has.is_empty() { "none".to_owned() } else { has.join(", ") }
                );
            };
            if !is_lossless(other.data_type(), field.data_type()) {
                return exec_err!(
                    "{whose} has column {} as {}, whose values {}, the type of the table's \
                     column, does not hold in full",
                    field.name(),
                    other.data_type(),
                    field.data_type()
                );
            }
            places.push(Some(place));
        }
        if columns == Columns::Same {
            let known: HashSet<&String> = table.fields().iter().map(|f| f.name()).collect();
            let extra = theirs.fields().iter().find(|f| !known.contains(f.name()));
            if let Some(extra) = extra {
                return exec_err!("{whose} has column {}, which the table has not", extra.name());
            }
        } else if !table.fields().is_empty() && places.iter().all(Option::is_none) {
            return exec_err!("{whose} has none of the columns of the table");
        }
        Ok(Self { table: Arc::clone(table), places, whose })
    }

    /// The batch in the table's schema.
    ///
    /// # Errors
    /// When a column that is NOT NULL has NULLs, or a value leaves the range of its type.
    pub(super) fn adapt(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let mut columns = Vec::with_capacity(self.places.len());
        for (field, place) in self.table.fields().iter().zip(&self.places) {
            let (name, data_type) = (field.name(), field.data_type());
            let column = match place {
                None => new_null_array(data_type, rows),
                Some(place) => {
                    let column = batch.column(*place);
                    if column.data_type() == data_type {
                        Arc::clone(column)
                    } else {
                        cast_with_options(column, data_type, &strict).map_err(|error| {
                            exec_datafusion_err!(
                                "{} has a value in column {name} that {data_type} does not hold: \
                                 {error}",
                                self.whose
                            )
                        })?
                    }
                }
            };
            if !field.is_nullable() && column.logical_null_count() > 0 {
                return exec_err!(
                    "{} has NULL in column {name}, which is NOT NULL in the table",
                    self.whose
                );
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.table), columns, &options)?)
    }
}

/// Whether `to` holds every value of `from` (of times, every value of the years that it spans:
/// a cast out of them fails and makes no other value).
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

/// (whether it is signed, bits) of integer types.
fn integer(data_type: &DataType) -> Option<(bool, u8)> {
    use DataType::*;
    Some(match data_type {
        Int8 => (true, 8),
        Int16 => (true, 16),
        Int32 => (true, 32),
        Int64 => (true, 64),
        UInt8 => (false, 8),
        UInt16 => (false, 16),
        UInt32 => (false, 32),
        UInt64 => (false, 64),
        _ => return None,
    })
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
        assert_eq!(adapter.adapt(&batch).unwrap(), expected);

        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["p"])), Arc::new(Int32Array::from(vec![None]))];
        let batch = RecordBatch::try_new(theirs, columns).unwrap();
        let error = adapter.adapt(&batch).unwrap_err().strip_backtrace();
        assert_eq!(
            error,
            "Execution error: file x has NULL in column a, which is NOT NULL in the table"
        );
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
            refused(&[("a", DataType::Int64, true), b], Columns::Overlapping),
            "producer 1 has column a as Int64, whose values Int32, the type of the table's column, \
             does not hold in full"
        );
        assert_eq!(
            refused(&[c], Columns::Overlapping),
            "producer 1 has none of the columns of the table"
        );
    }
}
