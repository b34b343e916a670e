//! Comma separated values: one record a line, or over several lines within quotes if asked for.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::reader::{Decoder, ReaderBuilder};
use datafusion::arrow::datatypes::SchemaRef;

use super::lines::{LineFormat, NoRow, reason};

/// How CSV is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct CsvOptions {
    /// Whether the first line of a producer names the columns.
    pub(in super::super) has_header: bool,
    /// Between values.
    pub(in super::super) delimiter: u8,
    /// Around values.
    pub(in super::super) quote: u8,
    /// Whether lines go on within quotes. If not, a quote that nobody closed costs one line.
    pub(in super::super) newlines_in_values: bool,
}

/// Lines of CSV as rows of a schema.
pub(super) struct Csv {
    schema: SchemaRef,
    options: CsvOptions,
    quotes: Quotes,
    /// Without any row; made anew after an error, which leaves it in the middle of one, and for
    /// more lines than ever: it takes up memory for as many as it may be given.
    decoder: Option<Decoder>,
}

/// Where in a record the next byte stands (RFC 4180: quotes open at the start of a value).
#[derive(Clone, Copy, Debug)]
enum Quotes {
    Start,
    Outside,
    Within,
    /// After a quote within quotes: the end of them, or with a second one the character itself.
    After,
}

impl Csv {
    pub(super) fn new(schema: &SchemaRef, options: CsvOptions) -> Self {
        let schema = SchemaRef::clone(schema);
        Self { schema, options, quotes: Quotes::Start, decoder: None }
    }

    fn decoder(&self, lines: usize) -> Decoder {
        ReaderBuilder::new(SchemaRef::clone(&self.schema))
            .with_delimiter(self.options.delimiter)
            .with_quote(self.options.quote)
            // A carriage return within a line is a character; at its end it is cut off.
            .with_terminator(b'\n')
            // One more than are given, so that it never stops in the middle of a line.
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

    fn header(&mut self, line: &[u8]) -> (bool, Option<String>) {
        if !self.options.has_header {
            return (false, None);
        }
        let text = String::from_utf8_lossy(line);
        let (delimiter, quote) = (char::from(self.options.delimiter), self.options.quote);
        let names: Vec<_> =
            text.split(delimiter).map(|name| name.trim().trim_matches(char::from(quote))).collect();
        let columns: Vec<_> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        let warning = (names != columns).then(|| {
            format!(
                "the header names {} and the table has {}; columns are taken in their order",
                names.join(", "),
                columns.join(", ")
            )
        });
        (true, warning)
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

    const PLAIN: CsvOptions =
        CsvOptions { has_header: false, delimiter: b',', quote: b'"', newlines_in_values: false };

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
        // Of one kind by their form, of the other by their values, in runs of growing length.
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
        let options = CsvOptions { has_header: true, delimiter: b';', ..PLAIN };
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
    }
}
