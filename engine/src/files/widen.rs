//! How the columns of several files become those of one table.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, FieldRef, Schema, TimeUnit,
};
use datafusion::common::{Result, plan_err};

/// The columns of all files, in the order in which they are first met, each of the narrowest type
/// that holds what every file has for it. Files are given with their names.
///
/// # Errors
/// When a file has a name twice, or no type holds what two files have; both are named.
pub(crate) fn merge(files: &[(String, Schema)]) -> Result<Schema> {
    merge_by(files, wider)
}

/// The columns of files of texts: where no other type holds both, they are texts.
///
/// # Errors
/// When a file has a name twice.
pub(crate) fn merge_texts(files: &[(String, Schema)]) -> Result<Schema> {
    merge_by(files, |a, b| Some(wider(a, b).unwrap_or(DataType::Utf8)))
}

fn merge_by(
    files: &[(String, Schema)],
    wider: impl Fn(&DataType, &DataType) -> Option<DataType>,
) -> Result<Schema> {
    let mut fields: Vec<FieldRef> = vec![];
    let mut counts: Vec<usize> = vec![];
    let mut places: HashMap<String, (usize, &str)> = HashMap::new();
    for (file, schema) in files {
        refuse_duplicates(file, schema)?;
        for field in schema.fields() {
            let Some((place, first)) = places.get(field.name()) else {
                places.insert(field.name().clone(), (fields.len(), file));
                fields.push(Arc::clone(field));
                counts.push(1);
                continue;
            };
            counts[*place] += 1;
            let known = &fields[*place];
            let Some(data_type) = wider(known.data_type(), field.data_type()) else {
                return plan_err!(
                    "column {} is {} in {first} and {} in {file}, and no type holds both; declare \
                     it: CREATE EXTERNAL TABLE t ({} ..., ...) STORED AS ... LOCATION ...",
                    field.name(),
                    known.data_type(),
                    field.data_type(),
                    field.name()
                );
            };
            let is_nullable = known.is_nullable() || field.is_nullable();
            if &data_type != known.data_type() || is_nullable != known.is_nullable() {
                let field = known.as_ref().clone();
                fields[*place] =
                    Arc::new(field.with_data_type(data_type).with_nullable(is_nullable));
            }
        }
    }
    // A column that a file lacks is NULL there.
    for (field, files_with) in fields.iter_mut().zip(counts) {
        if !field.is_nullable() && files_with < files.len() {
            *field = Arc::new(field.as_ref().clone().with_nullable(true));
        }
    }
    Ok(Schema::new(fields))
}

/// Refuses a file that has a column name twice: one of the two would vanish.
pub(crate) fn refuse_duplicates(file: &str, schema: &Schema) -> Result<()> {
    let mut names = std::collections::HashSet::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if !names.insert(field.name()) {
            return plan_err!(
                "{file} has two columns that are called {}, and a query could not tell them apart; \
                 rename one where the file is written",
                field.name()
            );
        }
    }
    Ok(())
}

/// The narrowest type that holds the values of both. Whole numbers and fractions become Float64, as
/// in pandas and Spark: beyond 2^53 whole numbers are rounded.
pub(crate) fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (Dictionary(_, value), other) | (other, Dictionary(_, value)) => wider(value, other),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => Some(Utf8View),
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => Some(BinaryView),
        (FixedSizeBinary(_), Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
        | (Binary | LargeBinary | BinaryView, FixedSizeBinary(_)) => Some(BinaryView),
        (Date32, Date64) | (Date64, Date32) => Some(Date64),
        (Date32 | Date64, Timestamp(unit, zone)) | (Timestamp(unit, zone), Date32 | Date64) => {
            Some(Timestamp(finer(*unit, TimeUnit::Millisecond), zone.clone()))
        }
        (Timestamp(a, a_zone), Timestamp(b, b_zone)) => {
            // Moments of different zones are the same moments in UTC, which those without a zone
            // are taken to be in.
            let zone = if a_zone == b_zone { a_zone.clone() } else { Some("UTC".into()) };
            Some(Timestamp(finer(*a, *b), zone))
        }
        (FixedSizeList(a, length), FixedSizeList(b, other)) => {
            let item = wider_item(a, b)?;
            Some(if length == other { FixedSizeList(item, *length) } else { List(item) })
        }
        (List(a) | FixedSizeList(a, _), List(b) | FixedSizeList(b, _)) => {
            Some(List(wider_item(a, b)?))
        }
        (LargeList(a), LargeList(b) | List(b) | FixedSizeList(b, _))
        | (List(b) | FixedSizeList(b, _), LargeList(a)) => Some(LargeList(wider_item(a, b)?)),
        (Struct(a), Struct(b)) => {
            let schemas =
                [(String::new(), Schema::new(a.clone())), (String::new(), Schema::new(b.clone()))];
            Some(Struct(merge(&schemas).ok()?.fields().clone()))
        }
        _ => numbers(a, b),
    }
}

fn wider_item(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    let data_type = wider(a.data_type(), b.data_type())?;
    let is_nullable = a.is_nullable() || b.is_nullable();
    Some(Arc::new(a.as_ref().clone().with_data_type(data_type).with_nullable(is_nullable)))
}

fn numbers(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    match (integer(a), integer(b)) {
        (Some((a_signed, a_bits)), Some((b_signed, b_bits))) => {
            let signed_bits = |signed: bool, bits: u8| if signed { bits } else { bits * 2 };
            return Some(match a_signed == b_signed {
                true => of_bits(a_signed, a_bits.max(b_bits)),
                false => match signed_bits(a_signed, a_bits).max(signed_bits(b_signed, b_bits)) {
                    128.. => Decimal128(20, 0),
                    bits => of_bits(true, bits),
                },
            });
        }
        (Some((_, bits)), None) => return with_integer(b, bits),
        (None, Some((_, bits))) => return with_integer(a, bits),
        (None, None) => {}
    }
    match (a, b) {
        (Float16, Float32) | (Float32, Float16) => Some(Float32),
        _ if is_float(a) && is_float(b) => Some(Float64),
        _ => match (decimal(a), decimal(b)) {
            (Some(a), Some(b)) => wider_decimal(a, b),
            (Some(_), None) if is_float(b) => Some(Float64),
            (None, Some(_)) if is_float(a) => Some(Float64),
            _ => None,
        },
    }
}

/// A fraction or decimal type that also holds whole numbers of `bits` bits.
fn with_integer(other: &DataType, bits: u8) -> Option<DataType> {
    use DataType::*;
    match other {
        // The mantissa of Float32 has 24 bits.
        Float16 | Float32 if bits <= 16 => Some(Float32),
        Float16 | Float32 | Float64 => Some(Float64),
        _ => {
            let digits = [(8, 3), (16, 5), (32, 10), (64, 20)];
            let digits = digits.into_iter().find(|(b, _)| *b == bits)?.1;
            wider_decimal(decimal(other)?, (digits, 0))
        }
    }
}

/// (whether it is signed, bits) of integer types.
pub(crate) fn integer(data_type: &DataType) -> Option<(bool, u8)> {
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

fn of_bits(signed: bool, bits: u8) -> DataType {
    use DataType::*;
    match (signed, bits) {
        (true, 8) => Int8,
        (true, 16) => Int16,
        (true, 32) => Int32,
        (true, _) => Int64,
        (false, 8) => UInt8,
        (false, 16) => UInt16,
        (false, 32) => UInt32,
        (false, _) => UInt64,
    }
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

/// (precision, scale) of decimals.
fn decimal(data_type: &DataType) -> Option<(u8, i8)> {
    use DataType::*;
    match data_type {
        Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s) => Some((*p, *s)),
        _ => None,
    }
}

fn wider_decimal((a, a_scale): (u8, i8), (b, b_scale): (u8, i8)) -> Option<DataType> {
    let scale = a_scale.max(b_scale);
    let before = (i16::from(a) - i16::from(a_scale)).max(i16::from(b) - i16::from(b_scale));
    let precision = before + i16::from(scale);
    match u8::try_from(precision).ok()? {
        precision @ ..=DECIMAL128_MAX_PRECISION => Some(DataType::Decimal128(precision, scale)),
        precision @ ..=DECIMAL256_MAX_PRECISION => Some(DataType::Decimal256(precision, scale)),
        _ => None,
    }
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    use TimeUnit::*;
    let order = [Second, Millisecond, Microsecond, Nanosecond];
    let is_one = |unit: &&TimeUnit| **unit == a || **unit == b;
    order.iter().rev().find(is_one).copied().unwrap_or(a)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Field;

    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        let fields = fields.iter().map(|(name, t)| Field::new(*name, t.clone(), false));
        Schema::new(fields.collect::<Vec<_>>())
    }

    #[test]
    fn the_wider_type_holds_both() {
        use DataType::*;
        let at = |unit, zone: Option<&str>| Timestamp(unit, zone.map(Into::into));
        let list = |item| List(Arc::new(Field::new("item", item, true)));
        let vector = |item, n| FixedSizeList(Arc::new(Field::new("item", item, true)), n);
        let dictionary = |value| Dictionary(Box::new(Int32), Box::new(value));
        for (a, b, expected) in [
            (Int32, Int64, Int64),
            (UInt8, Int8, Int16),
            (UInt32, Int32, Int64),
            (UInt64, Int64, Decimal128(20, 0)),
            (Int64, Float64, Float64),
            (Int16, Float32, Float32),
            (Int32, Float32, Float64),
            (Float32, Float64, Float64),
            (Decimal128(5, 2), Decimal128(7, 3), Decimal128(7, 3)),
            (Decimal128(5, 2), Int32, Decimal128(12, 2)),
            (Decimal128(5, 2), Float32, Float64),
            (Decimal128(38, 0), Decimal128(38, 10), Decimal256(48, 10)),
            (Utf8, LargeUtf8, Utf8View),
            (dictionary(Utf8), Utf8, Utf8),
            (dictionary(Boolean), Boolean, Boolean),
            (Null, Float64, Float64),
            (Date32, at(TimeUnit::Second, None), at(TimeUnit::Millisecond, None)),
            (
                at(TimeUnit::Second, None),
                at(TimeUnit::Nanosecond, None),
                at(TimeUnit::Nanosecond, None),
            ),
            (
                at(TimeUnit::Microsecond, Some("UTC")),
                at(TimeUnit::Millisecond, Some("Europe/Berlin")),
                at(TimeUnit::Microsecond, Some("UTC")),
            ),
            (list(Int32), list(Float64), list(Float64)),
            (vector(Float32, 3), vector(Float64, 3), vector(Float64, 3)),
            (vector(Float32, 3), vector(Float32, 4), list(Float32)),
        ] {
            assert_eq!(wider(&a, &b), Some(expected.clone()), "{a} {b}");
            assert_eq!(wider(&b, &a), Some(expected), "{b} {a}");
        }
        for (a, b) in [(Utf8, Int64), (Boolean, Int64), (Date32, Int64), (Utf8, Boolean)] {
            assert_eq!(wider(&a, &b), None, "{a} {b}");
        }
    }

    #[test]
    fn columns_come_together_by_name() {
        let first = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
        let second =
            schema(&[("c", DataType::Boolean), ("b", DataType::Utf8), ("a", DataType::Float64)]);
        let merged = merge(&[("x".to_owned(), first), ("y".to_owned(), second)]).unwrap();
        let columns: Vec<_> = merged
            .fields()
            .iter()
            .map(|f| format!("{} {} {}", f.name(), f.data_type(), f.is_nullable()))
            .collect();
        assert_eq!(columns, ["a Float64 false", "b Utf8 false", "c Boolean true"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let files = [
            ("x.parquet".to_owned(), schema(&[("a", DataType::Utf8)])),
            ("y.parquet".to_owned(), schema(&[("a", DataType::Int64)])),
        ];
        let error = merge(&files).unwrap_err().strip_backtrace();
        let expected =
            "column a is Utf8 in x.parquet and Int64 in y.parquet, and no type holds both";
        assert!(error.contains(expected), "{error}");
        let twice = schema(&[("a", DataType::Utf8), ("a", DataType::Int64)]);
        let error = merge(&[("x.csv".to_owned(), twice)]).unwrap_err().strip_backtrace();
        assert!(error.contains("x.csv has two columns that are called a"), "{error}");
    }
}
