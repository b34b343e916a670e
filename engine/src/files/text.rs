//! Values that are written as texts in files: what counts as missing, and what is a number.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::FormatOptions;

use super::widen::integer;

/// What R, pandas, SQL and people write where a number is missing. In a column of texts they are
/// texts: `NA` is a country, `-` an answer.
const MISSING: [&str; 13] =
    ["NA", "N/A", "n/a", "na", "#N/A", "NULL", "null", "Null", "None", "\\N", "-", "?", "."];

/// Whether a text stands for a missing number.
pub(crate) fn is_missing(text: &str) -> bool {
    text.is_empty() || MISSING.contains(&text)
}

/// A value that is not of its column's type.
#[derive(Debug)]
pub(crate) struct NoValue {
    /// Its row, from 0.
    pub(crate) row: usize,
    pub(crate) text: String,
}

/// A column of texts as one of another type: white space around values is left out, missing ones
/// are NULL, `1.0` and `1e3` are whole numbers. With `decimal_comma`, `1,5` is one and a half.
///
/// # Errors
/// The first value that is not of the type.
pub(crate) fn parse(
    texts: &ArrayRef,
    data_type: &DataType,
    decimal_comma: bool,
) -> Result<ArrayRef, NoValue> {
    let failed = |row: usize, text: &str| NoValue { row, text: text.to_owned() };
    let Some(texts) = texts.as_string_opt::<i32>() else {
        return Err(failed(0, "a value that is no text"));
    };
    let clean = |text: &str| -> Option<String> {
        let text = text.trim();
        (!is_missing(text)).then(|| match decimal_comma {
            true => text.replacen(',', ".", 1),
            false => text.strip_prefix('+').unwrap_or(text).to_owned(),
        })
    };
    let cleaned: StringArray = texts.iter().map(|text| clean(text?)).collect();
    let cleaned: ArrayRef = Arc::new(cleaned);
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    let Ok(parsed) = cast_with_options(&cleaned, data_type, &options) else {
        return Err(failed(0, texts.value(0)));
    };
    if parsed.null_count() == cleaned.null_count() {
        return Ok(parsed);
    }
    // Whole numbers may be written as fractions.
    let rewritten = match integer(data_type) {
        Some(_) => {
            let texts = cleaned.as_string::<i32>().iter();
            let whole: StringArray = texts.map(|text| text.map(whole)).collect();
            let whole: ArrayRef = Arc::new(whole);
            cast_with_options(&whole, data_type, &options).unwrap_or(parsed)
        }
        None => parsed,
    };
    let bad = (0..cleaned.len()).find(|row| rewritten.is_null(*row) && cleaned.is_valid(*row));
    match bad {
        Some(row) => Err(failed(row, texts.value(row))),
        None => Ok(rewritten),
    }
}

/// `1.0`, `-3.` and `1e3` as whole numbers; other texts as they are.
pub(crate) fn whole(text: &str) -> Cow<'_, str> {
    /// Beyond it, neighbouring whole numbers are one fraction.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !text.contains(['.', 'e', 'E']) {
        return Cow::Borrowed(text);
    }
    match text.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() <= EXACT => {
            Cow::Owned(format!("{value:.0}"))
        }
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float64Array, Int64Array};

    use super::*;

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<StringArray>())
    }

    #[test]
    fn numbers_as_people_write_them() {
        let column = texts(&[Some(" 1.5"), Some("NA"), None, Some("+2"), Some("-"), Some("1e3")]);
        let parsed = parse(&column, &DataType::Float64, false).unwrap();
        let expected: Float64Array =
            [Some(1.5), None, None, Some(2.0), None, Some(1000.0)].into_iter().collect();
        assert_eq!(parsed.as_ref(), &expected);
        let parsed = parse(&texts(&[Some("1,5"), Some("3")]), &DataType::Float64, true).unwrap();
        assert_eq!(parsed.as_ref(), &Float64Array::from(vec![1.5, 3.0]));
        let column = texts(&[Some("1.0"), Some("1e3"), Some("-7"), Some("9007199254740993")]);
        let parsed = parse(&column, &DataType::Int64, false).unwrap();
        assert_eq!(parsed.as_ref(), &Int64Array::from(vec![1, 1000, -7, 9_007_199_254_740_993]));
    }

    #[test]
    fn what_is_no_value_is_told() {
        let bad = |values: &[Option<&str>], data_type| {
            let bad = parse(&texts(values), &data_type, false).unwrap_err();
            (bad.row, bad.text)
        };
        assert_eq!(bad(&[Some("1"), Some("1.9")], DataType::Int64), (1, "1.9".to_owned()));
        assert_eq!(bad(&[None, Some("x")], DataType::Float64), (1, "x".to_owned()));
        assert_eq!(bad(&[Some("300")], DataType::Int8), (0, "300".to_owned()));
    }
}
