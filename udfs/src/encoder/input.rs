//! Input columns: structs are flattened, types are mapped to kinds.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::{is_null, nullif};
use arrow::datatypes::{DataType, Fields};
use datafusion_common::{Result, exec_err, plan_err};

/// How a type is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Integers, floats, decimals.
    Number,
    /// Booleans.
    Boolean,
    /// Strings, dictionaries of strings, dates.
    Category,
    /// Timestamps.
    Timestamp,
    /// Lists of numbers of one length.
    Vector,
}

impl InputKind {
    /// The kind of a column's type.
    ///
    /// # Errors
    /// When the type has no kind; the error names the column and the type.
    pub fn of(name: &str, data_type: &DataType) -> Result<InputKind> {
        match data_type {
            DataType::Boolean => Ok(InputKind::Boolean),
            DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Date32
            | DataType::Date64 => Ok(InputKind::Category),
            DataType::Dictionary(_, value) => InputKind::of(name, value),
            DataType::Timestamp(_, _) => Ok(InputKind::Timestamp),
            DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item)
                if item.data_type().is_numeric() =>
            {
                Ok(InputKind::Vector)
            }
            t if item_type(t).is_some_and(DataType::is_numeric) => Ok(InputKind::Vector),
            t if t.is_numeric() => Ok(InputKind::Number),
            t => plan_err!(
                "column {name} is {t}, which cannot be a feature; name the others in FEATURES or \
                 cast it in the query"
            ),
        }
    }
}

/// The lengths of nested lists of fixed length, the outermost first; 0 where a list has no fixed
/// length.
pub(crate) fn list_shape(data_type: &DataType) -> Vec<usize> {
    match data_type {
        DataType::FixedSizeList(item, n) => {
            let mut shape = vec![*n as usize];
            shape.extend(list_shape(item.data_type()));
            shape
        }
        DataType::List(_) | DataType::LargeList(_) => vec![0],
        _ => vec![],
    }
}

/// The type of the elements of a list, or of nested lists of fixed length.
pub(crate) fn item_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::FixedSizeList(item, _) => match item.data_type() {
            nested @ DataType::FixedSizeList(_, _) => item_type(nested),
            own => Some(own),
        },
        DataType::List(item) | DataType::LargeList(item) => Some(item.data_type()),
        _ => None,
    }
}

/// A column of a query, or a field of a struct in one.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// `column`, or `column.field` of a struct.
    pub name: String,
    /// Its type, which is not a struct.
    pub data_type: DataType,
    /// The index of the column in the query.
    pub column: usize,
    /// The path of fields from that column to the input.
    pub path: Vec<String>,
}

/// The inputs that columns of these types are flattened to.
///
/// # Errors
/// When one has a type that cannot be a feature.
pub fn flatten_fields(fields: &Fields) -> Result<Vec<Input>> {
    let mut inputs = vec![];
    for (column, field) in fields.iter().enumerate() {
        push(field.name().clone(), field.data_type(), column, &[], &mut inputs)?;
    }
    Ok(inputs)
}

fn push(
    name: String,
    data_type: &DataType,
    column: usize,
    path: &[String],
    inputs: &mut Vec<Input>,
) -> Result<()> {
    if let DataType::Struct(fields) = data_type {
        for field in fields {
            let path: Vec<String> = path.iter().cloned().chain([field.name().clone()]).collect();
            push(format!("{name}.{}", field.name()), field.data_type(), column, &path, inputs)?;
        }
        return Ok(());
    }
    if *data_type != DataType::Null {
        InputKind::of(&name, data_type)?;
    }
    inputs.push(Input { name, data_type: data_type.clone(), column, path: path.to_vec() });
    Ok(())
}

/// The arrays of the inputs, from the columns of a batch. The fields of a NULL struct are NULL;
/// structs may have their fields in another order than when they were flattened.
pub fn flatten_columns(columns: &[ArrayRef], inputs: &[Input]) -> Result<Vec<ArrayRef>> {
    let mut parent = Parent::default();
    inputs
        .iter()
        .map(|input| {
            let Some(column) = columns.get(input.column) else {
                return exec_err!("column {} is missing", input.name);
            };
            match input.path.as_slice() {
                [] => Ok(Arc::clone(column)),
                [above @ .., field] => {
                    parent.enter(column, input, above)?;
                    parent.field(input, field)
                }
            }
        })
        .collect()
}

/// The current struct, whose fields are read one after another.
#[derive(Default)]
struct Parent<'a> {
    /// Its column and path.
    place: Option<(usize, &'a [String])>,
    /// Its fields by name, of which there may be many; None for a column that is all NULL.
    fields: Option<HashMap<String, ArrayRef>>,
    rows: usize,
}

impl<'a> Parent<'a> {
    /// Looks up the struct at the end of a path.
    fn enter(&mut self, column: &ArrayRef, input: &Input, path: &'a [String]) -> Result<()> {
        let place = Some((input.column, path));
        if self.place == place {
            return Ok(());
        }
        let mut array = Arc::clone(column);
        self.place = place;
        self.rows = array.len();
        self.fields = None;
        for field in path {
            let Some(own) = fields(&array, input)? else { return Ok(()) };
            let Some((_, child)) = own.into_iter().find(|(name, _)| name == field) else {
                return exec_err!("column {} is missing", input.name);
            };
            array = child;
        }
        if let Some(own) = fields(&array, input)? {
            let mut by_name = HashMap::with_capacity(own.len());
            for (name, field) in own {
                by_name.entry(name).or_insert(field);
            }
            self.fields = Some(by_name);
        }
        Ok(())
    }

    fn field(&self, input: &Input, name: &str) -> Result<ArrayRef> {
        match &self.fields {
            None => Ok(new_null_array(&input.data_type, self.rows)),
            Some(fields) => match fields.get(name) {
                Some(field) => Ok(Arc::clone(field)),
                None => exec_err!("column {} is missing", input.name),
            },
        }
    }
}

/// The fields of a struct, NULL where the struct is; None for a column that is all NULL.
fn fields(array: &ArrayRef, input: &Input) -> Result<Option<Vec<(String, ArrayRef)>>> {
    if *array.data_type() == DataType::Null {
        return Ok(None);
    }
    let Some(parent) = array.as_struct_opt() else {
        return exec_err!("column {} is no struct", input.name);
    };
    let nulls = match parent.null_count() {
        0 => None,
        _ => Some(is_null(parent)?),
    };
    let mut fields = vec![];
    for (field, child) in parent.fields().iter().zip(parent.columns()) {
        let child = match &nulls {
            None => Arc::clone(child),
            Some(nulls) => nullif(child, nulls)?,
        };
        fields.push((field.name().clone(), child));
    }
    Ok(Some(fields))
}
