//! Rows as CSV, as psql writes them: NULL is an empty field and the empty text is `""`, so that
//! they can be told apart. Lists and structs, which CSV lacks, are JSON text.

use arrow::csv::{QuoteStyle, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;

use super::nested;

/// Writes batches as CSV text. Takes the options of arrow's writer.
#[derive(Clone, Debug, Default)]
pub struct CsvText {
    options: WriterBuilder,
}

impl CsvText {
    /// With options other than the defaults.
    pub fn new(options: WriterBuilder) -> Self {
        Self { options }
    }

    /// Appends the names of the columns, if the options ask for them.
    pub fn header(&self, schema: &SchemaRef, text: &mut Vec<u8>) {
        if self.options.header() {
            for (i, field) in schema.fields().iter().enumerate() {
                self.separate(i, text);
                self.field(field.name(), false, text);
            }
            text.push(b'\n');
        }
    }

    /// Appends rows.
    ///
    /// # Errors
    /// When a value cannot be written as text.
    pub fn rows(&self, batch: &RecordBatch, text: &mut Vec<u8>) -> Result<(), ArrowError> {
        let options = &self.options;
        let format = FormatOptions::default()
            .with_date_format(options.date_format())
            .with_datetime_format(options.datetime_format())
            .with_timestamp_format(options.timestamp_format())
            .with_timestamp_tz_format(options.timestamp_tz_format())
            .with_time_format(options.time_format());
        let flat = nested::flat(batch)?;
        let mut columns = vec![];
        for column in flat.columns() {
            let formatter = ArrayFormatter::try_new(column.as_ref(), &format)?;
            let data_type = column.data_type();
            columns.push((formatter, column.logical_nulls(), is_text(data_type), data_type));
        }
        let mut cell = String::new();
        for row in 0..flat.num_rows() {
            for (i, (formatter, nulls, is_text, data_type)) in columns.iter().enumerate() {
                self.separate(i, text);
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    self.null(text);
                    continue;
                }
                cell.clear();
                formatter.value(row).write(&mut cell)?;
                let value = if *is_text { self.trimmed(&cell) } else { &cell };
                self.field(value, data_type.is_numeric(), text);
            }
            text.push(b'\n');
        }
        Ok(())
    }

    fn separate(&self, column: usize, text: &mut Vec<u8>) {
        if column > 0 {
            text.push(self.options.delimiter());
        }
    }

    fn null(&self, text: &mut Vec<u8>) {
        let null = self.options.null();
        match self.is_special(null) {
            true => self.quoted(null, text),
            false => text.extend_from_slice(null.as_bytes()),
        }
    }

    fn field(&self, value: &str, is_number: bool, text: &mut Vec<u8>) {
        let quotes = match self.options.quote_style() {
            QuoteStyle::Always => true,
            QuoteStyle::NonNumeric => !is_number,
            QuoteStyle::Never => false,
            // (A text that is spelled like NULL must not be read as NULL.)
            _ => value == self.options.null() || self.is_special(value),
        };
        match quotes {
            true => self.quoted(value, text),
            false => text.extend_from_slice(value.as_bytes()),
        }
    }

    /// Whether a value needs quotes.
    fn is_special(&self, value: &str) -> bool {
        let (delimiter, quote) = (self.options.delimiter(), self.options.quote());
        value.bytes().any(|b| b == delimiter || b == quote || b == b'\n' || b == b'\r')
    }

    fn quoted(&self, value: &str, text: &mut Vec<u8>) {
        let (quote, doubles) = (self.options.quote(), self.options.double_quote());
        let escape = if doubles { quote } else { self.options.escape() };
        text.push(quote);
        for byte in value.bytes() {
            if byte == quote || byte == escape {
                text.push(escape);
            }
            text.push(byte);
        }
        text.push(quote);
    }

    fn trimmed<'a>(&self, value: &'a str) -> &'a str {
        let value = match self.options.ignore_leading_whitespace() {
            true => value.trim_start(),
            false => value,
        };
        match self.options.ignore_trailing_whitespace() {
            true => value.trim_end(),
            false => value,
        }
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    fn written(options: WriterBuilder, columns: Vec<(&str, ArrayRef)>) -> String {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let (csv, mut text) = (CsvText::new(options), vec![]);
        csv.header(&batch.schema(), &mut text);
        csv.rows(&batch, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn null_and_the_empty_text_differ() {
        let c = texts(&[Some("a"), Some(""), None, Some("NULL")]);
        let x: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-0.25), None]));
        let columns = || vec![("c", Arc::clone(&c)), ("x", Arc::clone(&x))];
        assert_eq!(written(WriterBuilder::new(), columns()), "c,x\na,1.5\n\"\",\n,-0.25\nNULL,\n");
        // Also where something else stands for NULL.
        let options = WriterBuilder::new().with_null("NULL".to_owned()).with_header(false);
        assert_eq!(written(options, columns()), "a,1.5\n,NULL\nNULL,-0.25\n\"NULL\",NULL\n");
        assert_eq!(written(WriterBuilder::new(), vec![("c", c)]), "c\na\n\"\"\n\nNULL\n");
    }

    #[test]
    fn what_would_be_taken_for_something_else_is_quoted() {
        let c = texts(&[Some("a,b"), Some("say \"x\""), Some("two\nlines"), Some(" ä;")]);
        let columns = || vec![("a;b", Arc::clone(&c))];
        assert_eq!(
            written(WriterBuilder::new(), columns()),
            "a;b\n\"a,b\"\n\"say \"\"x\"\"\"\n\"two\nlines\"\n ä;\n"
        );
        let options = WriterBuilder::new()
            .with_delimiter(b';')
            .with_quote(b'\'')
            .with_double_quote(false)
            .with_ignore_leading_whitespace(true);
        assert_eq!(written(options, columns()), "'a;b'\na,b\nsay \"x\"\n'two\nlines'\n'ä;'\n");
        let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let columns = || vec![("n", Arc::clone(&n)), ("c", texts(&[Some("a"), None]))];
        let options = WriterBuilder::new().with_quote_style(QuoteStyle::Always);
        assert_eq!(written(options, columns()), "\"n\",\"c\"\n\"1\",\"a\"\n,\n");
        let options = WriterBuilder::new().with_quote_style(QuoteStyle::NonNumeric);
        assert_eq!(written(options, columns()), "\"n\",\"c\"\n1,\"a\"\n,\n");
    }

    #[test]
    fn lists_are_json() {
        let list =
            ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![("v", Arc::new(list))];
        assert_eq!(written(WriterBuilder::new(), columns), "v\n\"[1,null]\"\n\n");
    }
}
