//! Comma separated values: one record a line, or over several lines within quotes if asked for.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::reader::{Decoder, ReaderBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use gradlake_udfs::Names;

use super::super::adapt::position;
use super::lines::{First, LineFormat, NoRow, reason};
use super::numbers::Check;

/// Whether the first line of a producer names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Header {
    /// Its names decide: a line that names the columns is a header, any other line is a row.
    IfNamed,
    /// It does.
    Always,
    /// It is a row.
    Never,
}

/// The dialect of CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct CsvOptions {
    /// Whether the first line of a producer names the columns.
    pub(in super::super) header: Header,
    /// Between values.
    pub(in super::super) delimiter: u8,
    /// Around values.
    pub(in super::super) quote: u8,
    /// Whether quoted values may contain line breaks. If not, an unclosed quote costs one line.
    pub(in super::super) newlines_in_values: bool,
}

/// Lines of CSV as rows of a schema.
pub(super) struct Csv {
    schema: SchemaRef,
    options: CsvOptions,
    quotes: Quotes,
    /// The columns of a line, and the indices of the schema's columns among them.
    columns: (SchemaRef, Vec<usize>),
    /// Decimals among the columns of a line, whose digits arrow would cut off.
    decimals: Vec<(usize, Check)>,
    /// Holds no row between calls. It is created anew after an error, which leaves it in the middle
    /// of a row, and for more lines than ever before: it allocates memory for its maximum number of
    /// lines.
    decoder: Option<Decoder>,
}

/// The position of the next byte in a record (RFC 4180: quotes open at the start of a value).
#[derive(Clone, Copy, Debug)]
enum Quotes {
    Start,
    Outside,
    Within,
    /// After a quote within quotes: it ends them or, if a second one follows, is the character
    /// itself.
    After,
}

impl Csv {
    pub(super) fn new(schema: &SchemaRef, options: CsvOptions) -> Self {
        let schema = SchemaRef::clone(schema);
        let columns = (SchemaRef::clone(&schema), (0..schema.fields().len()).collect());
        let mut csv = Self {
            schema,
            options,
            quotes: Quotes::Start,
            columns,
            decimals: vec![],
            decoder: None,
        };
        csv.find_decimals();
        csv
    }

    fn decoder(&self, lines: usize) -> Decoder {
        let (columns, places) = &self.columns;
        ReaderBuilder::new(SchemaRef::clone(columns))
            .with_projection(places.clone())
            .with_delimiter(self.options.delimiter)
            .with_quote(self.options.quote)
            // A carriage return within a line is a character; at its end it is cut off.
            .with_terminator(b'\n')
            // One more than the lines of the call, so that it never stops in the middle of a line.
            .with_batch_size(lines + 1)
            .build_decoder()
    }
}

impl LineFormat for Csv {
    fn rows(&mut self, lines: &[&[u8]]) -> Result<RecordBatch, NoRow> {
        let known = self.decoder.take().filter(|decoder| decoder.capacity() > lines.len());
        let mut decoder = known.unwrap_or_else(|| self.decoder(lines.len()));
        let empty = decoder.capacity();
        for (index, line) in lines.iter().enumerate() {
            let no_row = |reason| NoRow { line: Some(index), reason };
            if let Some(reason) = self.cut_decimal(line) {
                return Err(no_row(reason));
            }
            for bytes in [line, b"\n".as_slice()] {
                decoder.decode(bytes).map_err(|error| no_row(reason(error)))?;
            }
            if empty - decoder.capacity() != index + 1 {
                return Err(no_row("a quote is not closed on the line".to_owned()));
            }
        }
        let whole = |reason| NoRow { line: None, reason };
        let batch = decoder.flush().map_err(|error| whole(reason(error)))?;
        self.decoder = Some(decoder);
        batch.ok_or_else(|| whole("the line is empty".to_owned()))
    }

    fn line_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let CsvOptions { delimiter, quote, newlines_in_values, .. } = self.options;
        if !newlines_in_values {
            return bytes.iter().position(|byte| *byte == b'\n');
        }
        bytes.iter().position(|&byte| {
            self.quotes = match self.quotes {
                Quotes::Start | Quotes::After if byte == quote => Quotes::Within,
                Quotes::Within if byte == quote => Quotes::After,
                Quotes::Within => Quotes::Within,
                _ if byte == delimiter || byte == b'\n' => Quotes::Start,
                _ => Quotes::Outside,
            };
            byte == b'\n' && matches!(self.quotes, Quotes::Start)
        })
    }

    fn first(&mut self, line: &[u8]) -> Result<First, String> {
        if self.options.header == Header::Never {
            return Ok(First::Row(None));
        }
        let names = self.values(line);
        let mut places = vec![];
        let mut missing = vec![];
        let mut twice = None;
        let schema = SchemaRef::clone(&self.schema);
        let own = Names::new(names.iter().map(String::as_str));
        for field in schema.fields() {
            match position(field.name(), &own) {
                Ok(Some(place)) => places.push(place),
                Ok(None) => missing.push(field.name().as_str()),
                Err(what) => twice = twice.or(Some(what)),
            }
        }
        let listed = names.join(", ");
        if missing.is_empty() && twice.is_none() {
            self.take_columns(&names, places);
            return Ok(First::Header(None));
        }
        // A line whose values parse as numbers, times and the like is a row, whatever the options
        // say.
        let is_row = self.rows(&[line]).is_ok_and(|row| {
            let typed = |i: &usize| !schema.field(*i).data_type().is_string();
            let has_value = |i: &usize| row.column(*i).null_count() == 0;
            (0..row.num_columns()).any(|i| typed(&i) && has_value(&i))
        });
        let is_declared = self.options.header == Header::Always;
        let no_header = "OPTIONS ('has_header' 'false') says that there is no header";
        if is_row {
            return Ok(First::Row(is_declared.then(|| {
                format!(
                    "the first line, {listed}, names no columns and is taken as a row; {no_header}"
                )
            })));
        }
        if let Some(what) = twice {
            return Err(format!("has a header with {what}, which the table has once"));
        }
        if !places.is_empty() {
            return Err(format!(
                "has a header, {listed}, without {}, which the table has; {no_header}",
                missing.join(", ")
            ));
        }
        let columns = missing.join(", ");
        if !is_declared {
            // A line that is not a row is rejected, and reported that way.
            let is_text = schema.fields().iter().all(|field| field.data_type().is_string());
            return Ok(First::Row(is_text.then(|| {
                format!(
                    "the first line, {listed}, names none of the columns {columns} and is taken as a \
                     row; OPTIONS ('has_header' 'true') says that it is a header"
                )
            })));
        }
        if names.len() != schema.fields().len() {
            return Err(format!(
                "has a header of {} names, {listed}, none of which the table has",
                names.len()
            ));
        }
        Ok(First::Header(Some(format!(
            "the header names {listed} and the table has {columns}; columns are taken in their order"
        ))))
    }
}

impl Csv {
    fn find_decimals(&mut self) {
        let (schema, places) = &self.columns;
        let check =
            |place: &usize| Some((*place, Check::of_decimal(schema.field(*place).data_type())?));
        self.decimals = places.iter().filter_map(check).collect();
    }

    /// What is wrong with a decimal of a line that has more digits than its column.
    fn cut_decimal(&self, line: &[u8]) -> Option<String> {
        if self.decimals.is_empty() {
            return None;
        }
        let values = self.values(line);
        self.decimals.iter().find_map(|(place, check)| check.fault(values.get(*place)?))
    }

    /// The values of a line as texts.
    fn values(&self, line: &[u8]) -> Vec<String> {
        let CsvOptions { delimiter, quote, .. } = self.options;
        let mut values = vec![vec![]];
        let mut is_quoted = false;
        for byte in line {
            match *byte {
                byte if byte == quote => is_quoted = !is_quoted,
                byte if byte == delimiter && !is_quoted => values.push(vec![]),
                byte => {
                    if let Some(value) = values.last_mut() {
                        value.push(byte);
                    }
                }
            }
        }
        values.iter().map(|value| String::from_utf8_lossy(value).trim().to_owned()).collect()
    }

    /// Sets the columns of the lines that follow, and the indices of the table's columns among
    /// them.
    fn take_columns(&mut self, names: &[String], places: Vec<usize>) {
        let mut fields: Vec<Field> =
            names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        for (field, place) in self.schema.fields().iter().zip(&places) {
            fields[*place] = field.as_ref().clone();
        }
        self.columns = (SchemaRef::new(Schema::new(fields)), places);
        self.find_decimals();
        self.decoder = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;

    use super::super::super::Report;
    use super::super::Format;
    use super::super::tests::{decode, text};
    use super::*;

    const PLAIN: CsvOptions = CsvOptions {
        header: Header::Never,
        delimiter: b',',
        quote: b'"',
        newlines_in_values: false,
    };

    fn rows(options: CsvOptions, bytes: &str, step: usize) -> (String, Arc<Report>) {
        let report = Arc::new(Report::default());
        let (batches, end) = decode(&Format::Csv(options), bytes.as_bytes(), step, &report);
        end.unwrap();
        let text = if batches.is_empty() { String::new() } else { text(&batches) };
        (text, report)
    }

    #[test]
    fn lines_that_are_no_rows_are_skipped() {
        let lines = "1,a\r\n2,\"b,c\"\nthree,c\n\n4\n5,e,f\n6,\"g\n7,h\n,\n8,\"i\"\"\"";
        for step in [1, 3, 1000] {
            let (text, report) = rows(PLAIN, lines, step);
            assert_eq!(
                text, "| 1 | a   |\n| 2 | b,c |\n| 7 | h   |\n|   |     |\n| 8 | i\"  |",
                "{step}"
            );
            let rejected = report.first_rejected();
            let lines: Vec<_> =
                rejected.iter().map(|r| (r.number.unwrap(), r.line.as_deref().unwrap())).collect();
            assert_eq!(lines, [(3, "three,c"), (5, "4"), (6, "5,e,f"), (7, "6,\"g")]);
            assert_eq!(
                rejected[0].reason,
                "Error while parsing value 'three' as type 'Int64' for column 0"
            );
            assert_eq!(rejected[1].reason, "incorrect number of fields, expected 2 got 1");
            assert_eq!(rejected[3].reason, "a quote is not closed on the line");
        }
    }

    #[test]
    fn many_lines_that_are_no_rows() {
        // Lines of a wrong form and lines of wrong values, in runs of growing length.
        let mut lines = String::new();
        let (mut good, mut run) = (0, 1);
        while lines.len() < 100_000 {
            for _ in 0..run % 7 {
                lines.push_str("1,2,3\n");
            }
            for _ in 0..run % 11 {
                lines.push_str("a,b\n");
            }
            for _ in 0..run % 13 {
                lines.push_str(&format!("{good},s\n"));
                good += 1;
            }
            run += 1;
        }
        for step in [1000, usize::MAX] {
            let report = Arc::new(Report::default());
            let (batches, end) = decode(&Format::Csv(PLAIN), lines.as_bytes(), step, &report);
            end.unwrap();
            let values: Vec<i64> = batches
                .iter()
                .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
                .collect();
            assert_eq!(values, (0..good).collect::<Vec<_>>());
            assert_eq!(report.rejected(), lines.lines().count() as u64 - good as u64);
        }
    }

    #[test]
    fn newlines_within_quotes_if_asked_for() {
        let options = CsvOptions { newlines_in_values: true, ..PLAIN };
        for step in [1, 2, 1000] {
            let report = Arc::new(Report::default());
            let bytes = b"1,\"a\nb\"\"\n\"\n2,c\"\n3,\"\"\n";
            let (batches, end) = decode(&Format::Csv(options), bytes, step, &report);
            end.unwrap();
            assert_eq!(report.rejected(), 0, "{:?}", report.first_rejected());
            assert_eq!(batches.len(), 1);
            let values: Vec<_> = batches[0].column(1).as_string_view().iter().collect();
            assert_eq!(values, [Some("a\nb\"\n"), Some("c\""), None]);
        }
    }

    #[test]
    fn a_header_is_no_row_and_other_names_are_told() {
        let options = CsvOptions { header: Header::Always, delimiter: b';', ..PLAIN };
        let (text, report) = rows(options, "x;\"s\"\n1;a\n", 1);
        assert_eq!(text, "| 1 | a |");
        assert!(report.take_warnings().is_empty());
        let (text, report) = rows(options, "\n a ;b\n1;a\n", 1000);
        assert_eq!(text, "| 1 | a |");
        assert_eq!(
            report.take_warnings(),
            ["p: the header names a, b and the table has x, s; columns are taken in their order"]
        );
        assert_eq!(report.rejected(), 0);
        // The options say that there is a header, but the line is a row.
        let (text, report) = rows(options, "7;b\n1;a\n", 1000);
        assert_eq!(text, "| 7 | b |\n| 1 | a |");
        assert_eq!(
            report.take_warnings(),
            ["p: the first line, 7, b, names no columns and is taken as a row; OPTIONS \
              ('has_header' 'false') says that there is no header"]
        );
    }

    #[test]
    fn columns_are_those_that_the_header_names() {
        for header in [Header::IfNamed, Header::Always] {
            let options = CsvOptions { header, ..PLAIN };
            for step in [1, 1000] {
                let lines = "\u{feff}s,\"more, or less\",X\r\na,\"q,\",1\n b ,,2\n1,a\n,,\n";
                let (text, report) = rows(options, lines, step);
                assert_eq!(text, "| 1 | a   |\n| 2 |  b  |\n|   |     |", "{header:?}");
                assert_eq!(report.rejected(), 1, "{:?}", report.first_rejected());
                assert_eq!(report.first_rejected()[0].number, Some(4));
            }
        }
    }

    #[test]
    fn a_first_line_that_names_no_column_is_a_row() {
        let options = CsvOptions { header: Header::IfNamed, ..PLAIN };
        let (text, report) = rows(options, "1,a\n2,s\n", 1000);
        assert_eq!(text, "| 1 | a |\n| 2 | s |");
        assert!(report.take_last_warnings().is_empty());
        // (A value that equals the name of a column.)
        assert_eq!(rows(options, "1,s\n", 1000).0, "| 1 | s |");
        // A line that is not a row is reported.
        let (text, report) = rows(options, "a,b\n1,a\n", 1000);
        assert_eq!((text.as_str(), report.rejected()), ("| 1 | a |", 1));
        assert!(report.take_last_warnings()[0].starts_with("a line is no row of the table"));
    }

    #[test]
    fn a_header_of_half_the_columns_is_refused() {
        let report = Arc::new(Report::default());
        for header in [Header::IfNamed, Header::Always] {
            let format = Format::Csv(CsvOptions { header, ..PLAIN });
            for (line, part) in [
                ("x,t", "p has a header, x, t, without s, which the table has"),
                ("s", "p has a header, s, without x, which the table has"),
                ("x,s,x", "p has a header with 2 columns x, which the table has once"),
                ("s,X,x ,X", "p has a header"),
            ] {
                let lines = format!("{line}\n1,a\n");
                let (batches, end) = decode(&format, lines.as_bytes(), 1000, &report);
                if line == "s,X,x ,X" {
                    assert!(end.is_ok() && batches.is_empty(), "by its exact name");
                    continue;
                }
                let error = end.unwrap_err().to_string();
                assert!(error.contains(part), "{error}");
                assert!(batches.is_empty());
            }
        }
        let format = Format::Csv(CsvOptions { header: Header::Always, ..PLAIN });
        let (_, end) = decode(&format, b"a,b,c\n", 1000, &report);
        assert!(end.unwrap_err().to_string().contains("none of which the table has"));
    }

    #[test]
    fn digits_of_decimals_are_not_cut_off() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("s", DataType::Utf8View, true),
            Field::new("m", DataType::Decimal128(5, 2), true),
        ]));
        let mut csv = Csv::new(&schema, CsvOptions { header: Header::IfNamed, ..PLAIN });
        csv.first(b"m,s").unwrap();
        let rows = csv.rows(&[b"1.25,\"a,1.255\"", b"-3.500,b", b",c"]).unwrap();
        assert_eq!(rows.num_rows(), 3);
        let error = csv.rows(&[b"1.25,a", b"1.255,b"]).unwrap_err();
        assert_eq!(error.line, Some(1));
        assert!(error.reason.contains("more digits behind the point"), "{}", error.reason);
    }

    /// Where all columns are texts, a header of other names looks like a row.
    #[test]
    fn a_first_line_of_texts_is_told() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Utf8View, true),
            Field::new("b", DataType::Utf8View, true),
        ]));
        let first = |header, line: &str| {
            Csv::new(&schema, CsvOptions { header, ..PLAIN }).first(line.as_bytes())
        };
        let Ok(First::Row(Some(warning))) = first(Header::IfNamed, "name,city") else { panic!() };
        assert_eq!(
            warning,
            "the first line, name, city, names none of the columns a, b and is taken as a row; \
             OPTIONS ('has_header' 'true') says that it is a header"
        );
        assert!(matches!(first(Header::Always, "name,city"), Ok(First::Header(Some(_)))));
        assert!(matches!(first(Header::IfNamed, "B,A"), Ok(First::Header(None))));
        assert!(matches!(first(Header::Never, "a,b"), Ok(First::Row(None))));
        assert!(first(Header::IfNamed, "a,city").is_err());
    }
}
