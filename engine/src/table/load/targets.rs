//! Types of targets, and hints on how to convert columns of other types.

use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};

use crate::table::Roles;

/// Refuses targets that are not numbers.
pub fn check_number_type(roles: &Roles, target: &str, data_type: &DataType) -> Result<()> {
    let plain = match data_type {
        DataType::Dictionary(_, value) => value,
        other => other,
    };
    let is_number = |t: &DataType| t.is_numeric() || matches!(t, DataType::Boolean);
    if is_number(plain) || *plain == DataType::Null {
        return Ok(());
    }
    if let DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) =
        plain
        && is_number(item.data_type())
    {
        return Ok(());
    }
    let algorithm = roles.algorithm;
    let hint = match plain {
        other if is_class_type(other) => {
            "a classifier (logistic_regression, linear_svm, mlp_classifier) takes it as a class"
                .to_owned()
        }
        other => as_number(target, other),
    };
    plan_err!("the target {target} of {algorithm} must be a number, but is {data_type}; {hint}")
}

/// Refuses targets that are not classes.
pub fn check_class_type(roles: &Roles, target: &str, data_type: &DataType) -> Result<()> {
    let plain = match data_type {
        DataType::Dictionary(_, value) => value,
        other => other,
    };
    if is_class_type(plain) {
        return Ok(());
    }
    let algorithm = roles.algorithm;
    let hint = as_class(target, plain);
    plan_err!(
        "the target {target} of {algorithm} must be a string, boolean, date or number, but is \
         {data_type}; {hint}"
    )
}

/// The type of a numeric target in raw rows.
pub(in crate::table) fn number_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => {
            DataType::new_list(DataType::Float64, true)
        }
        _ => DataType::Float64,
    }
}

/// The length that the lists of a target have in common.
pub(in crate::table) struct ListLength {
    target: String,
    /// 0 before the first list.
    length: AtomicUsize,
}

impl ListLength {
    pub(in crate::table) fn new(target: &str) -> Self {
        Self { target: target.to_owned(), length: AtomicUsize::new(0) }
    }

    /// Notes the length of a list.
    fn note(&self, length: usize) -> Result<()> {
        let known = self.length.compare_exchange(0, length, Ordering::Relaxed, Ordering::Relaxed);
        match known {
            _ if length == 0 => {
                exec_err!("the target {} has an empty list; leave such rows out", self.target)
            }
            Err(known) if known != length => exec_err!(
                "the target {} has a list of {} numbers and one of {}; all its lists must have the \
                 same length",
                self.target,
                known.min(length),
                known.max(length)
            ),
            _ => Ok(()),
        }
    }
}

/// A numeric target as float64, or as lists of float64.
///
/// # Errors
/// When a value is no number, or lists differ in length.
pub(in crate::table) fn numbers_of(target: &ArrayRef, length: &ListLength) -> Result<ArrayRef> {
    let numbers = cast(target, &number_type(target.data_type()))?;
    if let Some(lists) = numbers.as_list_opt::<i32>() {
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            length.note(lists.value_length(row) as usize)?;
        }
    }
    Ok(numbers)
}

/// Whether values of a type are classes.
fn is_class_type(plain: &DataType) -> bool {
    plain.is_numeric()
        || matches!(
            plain,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Boolean
                | DataType::Null
                | DataType::Date32
                | DataType::Date64
        )
}

/// How to convert a target of another type to a number.
fn as_number(target: &str, plain: &DataType) -> String {
    match plain {
        DataType::Timestamp(_, _) => {
            format!("date_part('epoch', {target}) AS seconds in the query makes seconds of it")
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            format!("date_part('hour', {target}) AS hour in the query makes a number of it")
        }
        DataType::Duration(_) | DataType::Interval(_) => {
            format!("date_part('epoch', {target}) AS seconds in the query makes seconds of it")
        }
        other => one_value(target, other),
    }
}

/// How to convert a target of another type to a class.
fn as_class(target: &str, plain: &DataType) -> String {
    match plain {
        DataType::Timestamp(_, _) => format!(
            "CAST({target} AS DATE) AS day or date_part('hour', {target}) AS hour in the query makes \
             classes of it"
        ),
        DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(_) => {
            format!("CAST({target} AS VARCHAR) in the query makes a class of it")
        }
        other => one_value(target, other),
    }
}

/// How to extract one value from a target that has several.
fn one_value(target: &str, plain: &DataType) -> String {
    match plain {
        DataType::Struct(fields) => {
            let field = fields.first().map_or("field", |field| field.name());
            format!("name one of its fields in the query, such as {target}['{field}'] AS {field}")
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => {
            format!("take one of its elements in the query, such as {target}[1] AS first")
        }
        DataType::Map(_, _) => {
            format!("take one of its values in the query, such as {target}['key'][1] AS value")
        }
        _ => "cast it to one of these in the query".to_owned(),
    }
}
