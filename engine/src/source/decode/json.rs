//! Newline-delimited JSON: one object a line.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::reader::{Decoder, ReaderBuilder};
use datafusion::common::Result;

use super::lines::{LineFormat, NoRow, reason};
use super::numbers::Checks;

/// Lines of JSON as rows of a schema; keys that are no columns are ignored.
pub(super) struct Json {
    schema: SchemaRef,
    numbers: Checks,
    /// The maximum number of lines, and a decoder that holds no row. It is created anew after an
    /// error, which leaves it in the middle of a row, and for more lines than ever before.
    decoder: Option<(usize, Decoder)>,
}

impl Json {
    pub(super) fn try_new(schema: &SchemaRef) -> Result<Self> {
        let numbers = Checks::of(schema.fields().iter().map(|field| field.as_ref()));
        let decoder = Some((1, decoder(schema, 1)?));
        Ok(Self { schema: SchemaRef::clone(schema), numbers, decoder })
    }
}

fn decoder(schema: &SchemaRef, lines: usize) -> Result<Decoder, ArrowError> {
    // One more than the lines of the call, so that it never stops in the middle of a line.
    ReaderBuilder::new(SchemaRef::clone(schema)).with_batch_size(lines + 1).build_decoder()
}

impl LineFormat for Json {
    fn rows(&mut self, lines: &[&[u8]]) -> Result<RecordBatch, NoRow> {
        let whole = |error| NoRow { line: None, reason: reason(error) };
        let (most, mut decoder) = match self.decoder.take() {
            Some((most, decoder)) if most >= lines.len() => (most, decoder),
            _ => (lines.len(), decoder(&self.schema, lines.len()).map_err(whole)?),
        };
        for (index, line) in lines.iter().enumerate() {
            let no_row = |reason: &str| NoRow { line: Some(index), reason: reason.to_owned() };
            let start = line.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
            if line.get(start) != Some(&b'{') {
                return Err(no_row("the line is no JSON object"));
            }
            decoder.decode(line).map_err(|error| no_row(&reason(error)))?;
            if decoder.has_partial_record() {
                return Err(no_row("the JSON object does not end on its line"));
            }
            if decoder.len() != index + 1 {
                return Err(no_row("the line has more than one JSON object"));
            }
            self.numbers.look(&line[start..]).map_err(|reason| no_row(&reason))?;
        }
        let batch = decoder.flush().map_err(whole)?;
        self.decoder = Some((most, decoder));
        batch.ok_or_else(|| NoRow { line: None, reason: "the line is empty".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::Report;
    use super::super::Format;
    use super::super::tests::{decode, text};

    const LINES: &str = "\u{feff}{\"x\": 1, \"s\": \"a\"}\n\
        {\"x\": 2, \"other\": [1, {}]}\r\n\
        \n\
        rubbish\n\
        {\"x\": \"three\"}\n\
        {\"x\": 4, \"s\": \"}{\"}\n\
        {\"x\": 5} {\"x\": 6}\n\
        {\"x\":\n\
        7}\n\
        {\"s\": \"\u{fc}\u{e4}\"}\n\
        [1, 2]\n\
        {\"x\": {}}\n\
        {\"x\": 9";

    #[test]
    fn the_same_rows_and_rejects_however_bytes_arrive() {
        for step in [1, 2, 7, 64, 10_000] {
            let report = Arc::new(Report::default());
            let (batches, end) = decode(&Format::Json, LINES.as_bytes(), step, &report);
            end.unwrap();
            assert_eq!(
                text(&batches),
                "| 1 | a  |\n| 2 |    |\n| 4 | }{ |\n|   | \u{fc}\u{e4} |",
                "{step}"
            );
            let rejected = report.first_rejected();
            let lines: Vec<_> = rejected.iter().map(|line| line.line.as_deref().unwrap()).collect();
            assert_eq!(
                lines,
                [
                    "rubbish",
                    "{\"x\": \"three\"}",
                    "{\"x\": 5} {\"x\": 6}",
                    "{\"x\":",
                    "7}",
                    "[1, 2]",
                    "{\"x\": {}}",
                    "{\"x\": 9"
                ]
            );
            assert_eq!(report.rejected(), 8);
            assert_eq!(rejected[0].reason, "the line is no JSON object");
            assert_eq!(rejected[2].reason, "the line has more than one JSON object");
            assert_eq!(rejected[7].reason, "the JSON object does not end on its line");
            assert!(rejected.iter().all(|line| line.producer == "p"));
        }
    }

    #[test]
    fn numbers_are_no_others() {
        let lines = "{\"x\": 1.9}\n{\"x\": -2.0}\n{\"x\": 1e3}\n{\"x\": 9223372036854775808}\n\
                     {\"x\": true}\n{\"x\": \"7\"}\n{\"x\": \"1.9\"}\n{\"x\": 0.5, \"s\": \"a\"}";
        for step in [1, 1000] {
            let report = Arc::new(Report::default());
            let (batches, end) = decode(&Format::Json, lines.as_bytes(), step, &report);
            end.unwrap();
            assert_eq!(text(&batches), "| -2   |   |\n| 1000 |   |\n| 7    |   |");
            let rejected = report.first_rejected();
            let numbers: Vec<_> = rejected.iter().map(|line| line.number.unwrap()).collect();
            assert_eq!(numbers, [1, 4, 5, 7, 8]);
            assert_eq!(
                rejected[0].reason,
                "whilst decoding field 'x': 1.9 is no whole number, and the column is Int64"
            );
        }
    }

    #[test]
    fn invalid_text_is_no_row() {
        let report = Arc::new(Report::default());
        let mut bytes = b"{\"s\": \"a\"}\n{\"s\": \"".to_vec();
        bytes.extend([0xff, 0xfe]);
        bytes.extend(b"\"}\n{\"s\": \"b\"}\n");
        let (batches, end) = decode(&Format::Json, &bytes, 1000, &report);
        end.unwrap();
        assert_eq!(text(&batches), "|   | a |\n|   | b |");
        assert_eq!(report.rejected(), 1);
    }

    #[test]
    fn many_lines_are_batches_of_8192() {
        let lines: String = (0..20_000).map(|i| format!("{{\"x\": {i}}}\n")).collect();
        let report = Arc::new(Report::default());
        let (batches, end) = decode(&Format::Json, lines.as_bytes(), 65_536, &report);
        end.unwrap();
        let rows: Vec<_> = batches.iter().map(|batch| batch.num_rows()).collect();
        assert_eq!(rows, [8192, 8192, 3616]);
        assert_eq!(report.rejected(), 0);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mut bytes = vec![b'{'; (16 << 20) + 100];
        bytes.extend(b"\n{\"x\": 1}\n");
        let report = Arc::new(Report::default());
        let (batches, end) = decode(&Format::Json, &bytes, 65_536, &report);
        end.unwrap();
        assert_eq!(text(&batches), "| 1 |   |");
        assert_eq!(report.first_rejected()[0].reason, "the line is longer than 16 MiB");
    }
}
