//! Casts between types of which only some values fit: each value is checked, and the cast fails if
//! a value would change.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, GenericListArray, OffsetSizeTrait, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::kernels::cmp::distinct;
use datafusion::arrow::compute::{can_cast_types, cast};
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, TimeUnit};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::{Result, exec_datafusion_err};

/// A value that a type does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Its row, from 0.
    pub(super) row: usize,
    /// As text.
    pub(super) value: String,
}

/// Whether some values of `from` are values of `to`, so that [`cast_exactly`] may succeed: numbers
/// of any width, times of any unit and zone, bytes that are text, and lists and structs of such.
pub(super) fn may_hold(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        _ if from == to => true,
        (Null, _) => can_cast_types(from, to),
        (Dictionary(_, values), _) => may_hold(values, to),
        (RunEndEncoded(_, values), _) => may_hold(values.data_type(), to),
        (
            Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
            Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView,
        ) => can_cast_types(from, to),
        (Date32 | Date64 | Timestamp(_, _), Date32 | Date64 | Timestamp(_, _)) => true,
        (Time32(_) | Time64(_), Time32(_) | Time64(_)) => can_cast_types(from, to),
        _ if from.is_numeric() && to.is_numeric() => can_cast_types(from, to),
        (Struct(from), Struct(to)) => {
            from.len() == to.len()
                && from.iter().zip(to).all(|(from, to)| {
                    from.name() == to.name() && may_hold(from.data_type(), to.data_type())
                })
        }
        _ => match (element(from), element(to)) {
            (Some(from_element), Some(to_element)) => {
                may_hold(from_element.data_type(), to_element.data_type())
                    && can_cast_types(&with_element(from, to_element), to)
            }
            _ => false,
        },
    }
}

/// Casts a column to `to`, value by value.
///
/// # Errors
/// The inner one names the first value that `to` does not hold.
pub(super) fn cast_exactly(
    column: &ArrayRef,
    to: &DataType,
) -> Result<std::result::Result<ArrayRef, Misfit>> {
    use DataType::*;
    let from = column.data_type();
    match (from, to) {
        _ if from == to => Ok(Ok(Arc::clone(column))),
        (Dictionary(_, values), _) => cast_exactly(&cast(column, values)?, to),
        (RunEndEncoded(_, values), _) => cast_exactly(&cast(column, values.data_type())?, to),
        // The zone is changed in a step of its own: a round trip gives another time if there was no
        // zone before.
        (Timestamp(from_unit, zone), Timestamp(unit, _)) if from_unit != unit => {
            match there_and_back(column, &Timestamp(*unit, zone.clone()))? {
                Ok(column) => cast_exactly(&column, to),
                misfit => Ok(misfit),
            }
        }
        (Timestamp(_, _), Timestamp(_, _)) => without_new_nulls(column, cast(column, to)?),
        (Timestamp(unit, Some(_)), Date32 | Date64) => {
            there_and_back(&cast(column, &Timestamp(*unit, None))?, to)
        }
        // (By way of milliseconds, their own unit.)
        (Date64, Timestamp(_, _)) => {
            cast_exactly(&cast(column, &Timestamp(TimeUnit::Millisecond, None))?, to)
        }
        (Date32, Timestamp(_, _)) => {
            cast_exactly(&cast(column, &Timestamp(TimeUnit::Second, None))?, to)
        }
        (Struct(_), Struct(fields)) => {
            let of = column.as_struct();
            let mut columns = Vec::with_capacity(fields.len());
            for (column, field) in of.columns().iter().zip(fields) {
                match cast_exactly(column, field.data_type())? {
                    Ok(column) => columns.push(column),
                    misfit => return Ok(misfit),
                }
            }
            Ok(Ok(Arc::new(StructArray::try_new(fields.clone(), columns, of.nulls().cloned())?)))
        }
        (List(_), _) if let Some(field) = element(to) => {
            list_exactly(column.as_list::<i32>(), field, to)
        }
        (LargeList(_), _) if let Some(field) = element(to) => {
            list_exactly(column.as_list::<i64>(), field, to)
        }
        (FixedSizeList(_, length), _) if let Some(field) = element(to) => {
            let of = column.as_fixed_size_list();
            let values = match cast_exactly(of.values(), field.data_type())? {
                Ok(values) => values,
                Err(Misfit { row, value }) => {
                    return Ok(Err(Misfit { row: row / (*length).max(1) as usize, value }));
                }
            };
            let nulls = of.nulls().cloned();
            let list = datafusion::arrow::array::FixedSizeListArray::try_new(
                Arc::clone(field),
                *length,
                values,
                nulls,
            )?;
            let list: ArrayRef = Arc::new(list);
            without_new_nulls(&list, cast(&list, to)?)
        }
        _ => there_and_back(column, to),
    }
}

/// The element of a list.
fn element(list: &DataType) -> Option<&FieldRef> {
    use DataType::*;
    match list {
        List(field) | LargeList(field) | FixedSizeList(field, _) => Some(field),
        _ => None,
    }
}

/// The same kind of list, of other elements.
fn with_element(list: &DataType, element: &FieldRef) -> DataType {
    use DataType::*;
    let element = Arc::clone(element);
    match list {
        LargeList(_) => LargeList(element),
        FixedSizeList(_, length) => FixedSizeList(element, *length),
        _ => List(element),
    }
}

fn list_exactly<O: OffsetSizeTrait>(
    list: &GenericListArray<O>,
    field: &FieldRef,
    to: &DataType,
) -> Result<std::result::Result<ArrayRef, Misfit>> {
    // Of a slice, only its own elements count.
    let offsets = list.offsets();
    let (first, end) = (offsets[0].as_usize(), offsets[list.len()].as_usize());
    let values = list.values().slice(first, end - first);
    let values = match cast_exactly(&values, field.data_type())? {
        Ok(values) => values,
        Err(Misfit { row, value }) => {
            let at = first + row;
            let after = offsets.partition_point(|offset| offset.as_usize() <= at);
            return Ok(Err(Misfit { row: after.saturating_sub(1), value }));
        }
    };
    let offsets = OffsetBuffer::from_lengths(offsets.lengths());
    let nulls = list.nulls().cloned();
    let list: ArrayRef =
        Arc::new(GenericListArray::<O>::try_new(Arc::clone(field), offsets, values, nulls)?);
    without_new_nulls(&list, cast(&list, to)?)
}

/// Casts there and back: if the round trip changes a value, the type does not hold it.
fn there_and_back(
    column: &ArrayRef,
    to: &DataType,
) -> Result<std::result::Result<ArrayRef, Misfit>> {
    let there = match without_new_nulls(column, cast(column, to)?)? {
        Ok(there) => there,
        misfit => return Ok(misfit),
    };
    let back = cast(&there, column.data_type())?;
    let other = if column.data_type().is_floating() {
        let [column, back] = [column, &back].map(|array| cast(array, &DataType::Float64));
        let (column, back) = (column?, back?);
        let (column, back): (&Float64Array, &Float64Array) =
            (column.as_primitive::<Float64Type>(), back.as_primitive::<Float64Type>());
        // (All NaNs are equal, and so are both zeros.)
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        (0..column.len()).find(|i| !column.is_null(*i) && !same(column.value(*i), back.value(*i)))
    } else {
        distinct(column, &back)?.values().set_indices().next()
    };
    match other {
        None => Ok(Ok(there)),
        Some(row) => misfit(column, row),
    }
}

/// The result of a cast, unless the cast turned a value into NULL.
fn without_new_nulls(
    column: &ArrayRef,
    there: ArrayRef,
) -> Result<std::result::Result<ArrayRef, Misfit>> {
    if there.logical_null_count() == column.logical_null_count() {
        return Ok(Ok(there));
    }
    let (before, after) = (column.logical_nulls(), there.logical_nulls());
    let is_null = |nulls: &Option<datafusion::arrow::buffer::NullBuffer>, row| {
        nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    };
    match (0..column.len()).find(|row| is_null(&after, *row) && !is_null(&before, *row)) {
        None => Ok(Ok(there)),
        Some(row) => misfit(column, row),
    }
}

fn misfit(column: &ArrayRef, row: usize) -> Result<std::result::Result<ArrayRef, Misfit>> {
    let value = array_value_to_string(column, row)
        .map_err(|error| exec_datafusion_err!("a value cannot be shown: {error}"))?;
    Ok(Err(Misfit { row, value: value.chars().take(100).collect() }))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Float32Array, Int32Array, Int64Array, ListArray,
        StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
    };
    use datafusion::arrow::datatypes::{Field, Int64Type};

    use super::*;

    fn zoned(unit: TimeUnit) -> DataType {
        DataType::Timestamp(unit, Some("UTC".into()))
    }

    fn exact(column: impl Array + 'static, to: &DataType) -> std::result::Result<ArrayRef, Misfit> {
        let column: ArrayRef = Arc::new(column);
        assert!(may_hold(column.data_type(), to), "{} {to}", column.data_type());
        cast_exactly(&column, to).unwrap()
    }

    fn fits(column: impl Array + 'static, expected: impl Array + 'static) {
        let expected: ArrayRef = Arc::new(expected);
        assert_eq!(&exact(column, expected.data_type()).unwrap(), &expected);
    }

    fn fails(column: impl Array + 'static, to: &DataType, row: usize, value: &str) {
        let expected = Misfit { row, value: value.to_owned() };
        assert_eq!(exact(column, to).unwrap_err(), expected, "{to}");
    }

    #[test]
    fn numbers_that_fit_are_cast_and_others_named() {
        use DataType::*;
        let big = 1i64 << 53;
        fits(
            Int64Array::from(vec![Some(1), None, Some(big)]),
            Float64Array::from(vec![Some(1.0), None, Some(big as f64)]),
        );
        fails(Int64Array::from(vec![1, big + 1]), &Float64, 1, "9007199254740993");
        fails(Int64Array::from(vec![None, Some(i64::MAX)]), &Float64, 1, "9223372036854775807");
        fits(Int64Array::from(vec![7, -7]), Int32Array::from(vec![7, -7]));
        fails(Int64Array::from(vec![0, 3_000_000_000]), &Int32, 1, "3000000000");
        fails(Int64Array::from(vec![-1]), &UInt64, 0, "-1");
        fails(UInt64Array::from(vec![u64::MAX]), &Int64, 0, "18446744073709551615");
        fits(
            Float64Array::from(vec![0.5, f64::NAN, -0.0]),
            Float32Array::from(vec![0.5, f32::NAN, -0.0]),
        );
        fails(Float64Array::from(vec![0.5, 0.1]), &Float32, 1, "0.1");
        fails(Float64Array::from(vec![1e300]), &Float32, 0, "1e300");
        fits(
            Float64Array::from(vec![Some(2.0), None, Some(-0.0)]),
            Int64Array::from(vec![Some(2), None, Some(0)]),
        );
        fails(Float64Array::from(vec![2.0, 1.9]), &Int64, 1, "1.9");
        fails(Float64Array::from(vec![f64::NAN]), &Int64, 0, "NaN");
        fails(Float64Array::from(vec![9.3e18]), &Int64, 0, "9.3e18");
        let decimals = |values: Vec<i128>, p, s| {
            Decimal128Array::from(values).with_precision_and_scale(p, s).unwrap()
        };
        fits(decimals(vec![1250, -300], 6, 2), decimals(vec![125, -30], 6, 1));
        fails(decimals(vec![1255], 6, 2), &Decimal128(6, 1), 0, "12.55");
        fits(decimals(vec![10, 25], 6, 1), Float64Array::from(vec![1.0, 2.5]));
        fails(decimals(vec![25], 6, 1), &Int64, 0, "2.5");
        assert!(!may_hold(&Utf8, &Int64) && !may_hold(&Int64, &Utf8View));
        assert!(!may_hold(&Boolean, &Int8) && !may_hold(&Int64, &zoned(TimeUnit::Second)));
    }

    #[test]
    fn times_of_other_units_and_zones() {
        use TimeUnit::*;
        let micros = |values: Vec<i64>| TimestampMicrosecondArray::from(values);
        let nanos = |values: Vec<i64>| TimestampNanosecondArray::from(values);
        fits(micros(vec![5, -7]), nanos(vec![5000, -7000]));
        fits(micros(vec![5]).with_timezone("UTC"), nanos(vec![5000]));
        fits(micros(vec![5]), nanos(vec![5000]).with_timezone("UTC"));
        fits(micros(vec![5]).with_timezone("+02:00"), nanos(vec![5000]).with_timezone("UTC"));
        fits(nanos(vec![5000]), micros(vec![5]).with_timezone("UTC"));
        fails(nanos(vec![5000, 5001]), &zoned(Microsecond), 1, "1970-01-01T00:00:00.000005001");
        // Beyond the years that nanoseconds span.
        assert!(exact(micros(vec![i64::MAX / 2]), &DataType::Timestamp(Nanosecond, None)).is_err());
        fits(Date32Array::from(vec![1]), nanos(vec![86_400_000_000_000]).with_timezone("UTC"));
        fits(micros(vec![86_400_000_000]).with_timezone("UTC"), Date32Array::from(vec![1]));
        fails(micros(vec![86_400_000_001]), &DataType::Date32, 0, "1970-01-02T00:00:00.000001");
    }

    #[test]
    fn what_is_nested() {
        let ints = |rows: Vec<Option<Vec<Option<i64>>>>| {
            ListArray::from_iter_primitive::<Int64Type, _, _>(rows)
        };
        let rows = vec![Some(vec![Some(1), None]), None, Some(vec![Some(3), Some(1 << 60 | 1)])];
        let doubles = DataType::LargeList(Arc::new(Field::new("e", DataType::Float64, true)));
        let good = exact(ints(rows.clone()).slice(0, 2), &doubles).unwrap();
        let good = good.as_list::<i64>().value(0);
        assert_eq!(good.as_primitive::<Float64Type>(), &Float64Array::from(vec![Some(1.0), None]));
        fails(ints(rows.clone()), &doubles, 2, "1152921504606846977");
        // Of a fixed length that a row does not have.
        let pairs = DataType::FixedSizeList(Arc::new(Field::new("e", DataType::Int64, true)), 2);
        assert!(exact(ints(vec![Some(vec![Some(1), Some(2)])]), &pairs).is_ok());
        assert_eq!(exact(ints(vec![Some(vec![Some(1)])]), &pairs).unwrap_err().row, 0);

        let of = |data_type| vec![Field::new("a", data_type, true)].into();
        let point: ArrayRef = Arc::new(Int64Array::from(vec![4, (1 << 60) + 1]));
        let point = StructArray::try_new(of(DataType::Int64), vec![point], None).unwrap();
        let to = DataType::Struct(of(DataType::Float64));
        assert!(exact(point.slice(0, 1), &to).is_ok());
        fails(point, &to, 1, "1152921504606846977");

        fits(BinaryArray::from(vec![b"ab".as_slice()]), StringViewArray::from(vec!["ab"]));
        let broken = BinaryArray::from(vec![b"ab".as_slice(), &[0xff]]);
        assert_eq!(exact(broken, &DataType::Utf8View).unwrap_err().row, 1);
    }
}
