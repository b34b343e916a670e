//! Columns whose values are in the names of folders: `year=2024/month=01/x.parquet`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::datasource::physical_plan::{
    wrap_partition_type_in_dict, wrap_partition_value_in_dict,
};
use object_store::ObjectMeta;
use percent_encoding::percent_decode_str;

use super::location::Location;

/// What Hive and Spark write for NULL.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The names and values in the folders of a file; a value that is NULL is None.
fn pairs<'a>(location: &Location, file: &'a ObjectMeta) -> Vec<(&'a str, Option<String>)> {
    let relative = location.relative(&file.location).unwrap_or_default();
    let folders = relative.len().saturating_sub(1);
    let pair = |folder: &'a str| {
        let (name, value) = folder.split_once('=')?;
        let value = (value != NULL).then(|| percent_decode_str(value).decode_utf8_lossy());
        Some((name, value.map(std::borrow::Cow::into_owned)))
    };
    relative.into_iter().take(folders).filter_map(pair).collect()
}

/// The columns that the folders of some files name: whole numbers, numbers, or texts.
///
/// # Errors
/// When files are in folders of different columns.
pub(crate) fn infer(location: &Location, files: &[ObjectMeta]) -> Result<Vec<FieldRef>> {
    let Some(first) = files.first() else { return Ok(vec![]) };
    let names: Vec<&str> = pairs(location, first).into_iter().map(|(name, _)| name).collect();
    let mut kinds = vec![Numbers::Whole; names.len()];
    let mut is_empty = vec![true; names.len()];
    for file in files {
        let pairs = pairs(location, file);
        if !pairs.iter().map(|(name, _)| *name).eq(names.iter().copied()) {
            return plan_err!(
                "{} and {} are in folders of different columns; name the files of one of them",
                first.location,
                file.location
            );
        }
        for (i, (_, value)) in pairs.iter().enumerate() {
            if let Some(value) = value {
                kinds[i] = kinds[i].max(Numbers::of(value));
                is_empty[i] = false;
            }
        }
    }
    let field = |((name, kind), is_empty): ((&str, Numbers), bool)| {
        let data_type = match kind {
            _ if is_empty => wrap_partition_type_in_dict(DataType::Utf8),
            Numbers::Whole => DataType::Int64,
            Numbers::Fraction => DataType::Float64,
            Numbers::None => wrap_partition_type_in_dict(DataType::Utf8),
        };
        Arc::new(Field::new(name, data_type, true))
    };
    Ok(names.into_iter().zip(kinds).zip(is_empty).map(field).collect())
}

/// The type of all values of a column, each wider than the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Numbers {
    Whole,
    Fraction,
    None,
}

impl Numbers {
    fn of(text: &str) -> Self {
        let is_number = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
        match is_number {
            true if text.parse::<i64>().is_ok() => Self::Whole,
            true if text.parse::<f64>().is_ok() => Self::Fraction,
            _ => Self::None,
        }
    }
}

/// The values of the columns of a file.
///
/// # Errors
/// When its folders do not name a column, or a value is not of the column's type.
pub(crate) fn values(
    location: &Location,
    file: &ObjectMeta,
    columns: &[FieldRef],
) -> Result<Vec<ScalarValue>> {
    let pairs = pairs(location, file);
    let value = |column: &FieldRef| {
        let own = pairs.iter().find(|(name, _)| name == column.name());
        let Some((_, value)) = own else {
            return exec_err!(
                "{} is in no folder that names {}; it should be below {}=...",
                file.location,
                column.name(),
                column.name()
            );
        };
        let (data_type, is_wrapped) = match column.data_type() {
            DataType::Dictionary(_, value) => (value.as_ref(), true),
            data_type => (data_type, false),
        };
        let scalar = match value {
            None => ScalarValue::try_from(data_type)?,
            Some(text) => match ScalarValue::try_from_string(text.clone(), data_type) {
                Ok(scalar) => scalar,
                Err(_) => {
                    return exec_err!(
                        "{} has {} = '{text}', which is no {data_type}",
                        file.location,
                        column.name()
                    );
                }
            },
        };
        Ok(if is_wrapped { wrap_partition_value_in_dict(scalar) } else { scalar })
    };
    columns.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> ObjectMeta {
        ObjectMeta {
            location: object_store::path::Path::parse(path).unwrap(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        }
    }

    #[test]
    fn numbers_are_numbers_and_the_default_partition_is_null() {
        let location = Location::parse("s3://bucket/t/").unwrap();
        let files = [
            file("t/month=01/city=a%20b/share=0.5/x.parquet"),
            file("t/month=__HIVE_DEFAULT_PARTITION__/city=7/share=1/x.parquet"),
        ];
        let columns = infer(&location, &files).unwrap();
        let types: Vec<_> = columns.iter().map(|c| c.data_type().to_string()).collect();
        assert_eq!(types, ["Int64", "Dictionary(UInt16, Utf8)", "Float64"]);
        let first = values(&location, &files[0], &columns).unwrap();
        assert_eq!(first[0], ScalarValue::Int64(Some(1)));
        assert_eq!(first[1].to_string(), "a b");
        let second = values(&location, &files[1], &columns).unwrap();
        assert!(second[0].is_null() && second[1].to_string() == "7");
        let mixed = [file("t/a=1/x.csv"), file("t/x.csv")];
        let error = infer(&location, &mixed).unwrap_err().to_string();
        assert!(error.contains("t/a=1/x.csv and t/x.csv are in folders of different"), "{error}");
    }
}
