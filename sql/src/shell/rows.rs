//! Rows of a result, written batch by batch.

use std::io::{self, Write};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json;
use datafusion::arrow::json::writer::{JsonArray, LineDelimited};
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use gradlake_engine::CsvText;

use super::args::Format;
use super::output::Output;
use super::text::{count, rows};

/// Writes one result in one format.
///
/// csv, json and ndjson hold one batch at a time. The widths of a table depend on its cells, so at
/// most [`TABLE_ROWS`] rows (or [`TABLE_BYTES`]) are held; the rows that follow are printed in
/// further tables of the same form.
pub struct RowWriter {
    form: Form,
    output: Output,
    rows: u64,
}

/// Maximum rows of one table.
const TABLE_ROWS: usize = 10_000;
/// Maximum bytes of Arrow data in one table.
const TABLE_BYTES: usize = 32 << 20;

enum Form {
    /// The statement returns no columns (CREATE TABLE and such).
    Nothing,
    Table(Table),
    Csv(CsvText),
    Json(json::Writer<Output, JsonArray>),
    Ndjson(json::Writer<Output, LineDelimited>),
}

impl RowWriter {
    /// A writer for rows of this schema; `max_rows` applies to tables only.
    pub fn new(
        format: Format,
        max_rows: Option<usize>,
        schema: &SchemaRef,
        output: &Output,
    ) -> Result<Self, ArrowError> {
        let json = || json::WriterBuilder::new().with_explicit_nulls(true);
        let form = if schema.fields().is_empty() {
            Form::Nothing
        } else {
            match format {
                Format::Table => Form::Table(Table::new(max_rows, schema.clone())),
                Format::Csv => {
                    let (csv, mut text) = (CsvText::default(), vec![]);
                    // The header, also when there are no rows.
                    csv.header(schema, &mut text);
                    output.clone().write_all(&text)?;
                    Form::Csv(csv)
                }
                Format::Json => Form::Json(json().build(output.clone())),
                Format::Ndjson => Form::Ndjson(json().build(output.clone())),
            }
        };
        Ok(Self { form, output: output.clone(), rows: 0 })
    }

    /// Writes a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows() as u64;
        match &mut self.form {
            Form::Nothing => {}
            Form::Table(table) => table.write(batch, &mut self.output)?,
            Form::Csv(csv) => {
                let mut text = vec![];
                csv.rows(batch, &mut text)?;
                self.output.write_all(&text)?;
            }
            Form::Json(writer) => writer.write(batch)?,
            Form::Ndjson(writer) => writer.write(batch)?,
        }
        // The reader of the output sees the rows of a slow query as they arrive.
        Ok(self.output.flush()?)
    }

    /// Writes what is left and returns the number of rows, or None for a statement without columns.
    pub fn finish(mut self) -> Result<Option<u64>, ArrowError> {
        match self.form {
            Form::Nothing => return Ok(None),
            Form::Table(table) => table.finish(&mut self.output)?,
            Form::Csv(_) => {}
            Form::Json(mut writer) => {
                writer.finish()?;
                self.output.write_all(b"\n")?;
            }
            Form::Ndjson(mut writer) => writer.finish()?,
        }
        self.output.flush()?;
        Ok(Some(self.rows))
    }
}

struct Table {
    schema: SchemaRef,
    held: Vec<RecordBatch>,
    held_rows: usize,
    held_bytes: usize,
    /// Number of rows that may still be added.
    room: usize,
    unlimited: bool,
    printed: bool,
    more: u64,
}

impl Table {
    fn new(max_rows: Option<usize>, schema: SchemaRef) -> Self {
        Self {
            schema,
            held: vec![],
            held_rows: 0,
            held_bytes: 0,
            room: max_rows.unwrap_or(usize::MAX),
            unlimited: max_rows.is_none(),
            printed: false,
            more: 0,
        }
    }

    fn write(&mut self, batch: &RecordBatch, output: &mut Output) -> io::Result<()> {
        let mut start = 0;
        while start < batch.num_rows() && self.room > 0 {
            let take = (batch.num_rows() - start).min(self.room).min(TABLE_ROWS - self.held_rows);
            self.held.push(batch.slice(start, take));
            self.held_rows += take;
            start += take;
            if !self.unlimited {
                self.room -= take;
            }
            if self.held_rows == TABLE_ROWS {
                self.print(output)?;
            }
        }
        // Slices share their buffers, so a batch is counted as a whole and once.
        self.held_bytes += batch.get_array_memory_size();
        let rest = batch.num_rows() - start;
        self.more += rest as u64;
        let full = self.held_bytes >= TABLE_BYTES && !self.held.is_empty();
        if full || (rest > 0 && !self.printed) {
            self.print(output)?;
        }
        Ok(())
    }

    fn print(&mut self, output: &mut Output) -> io::Result<()> {
        if self.held.is_empty() {
            // Only the header, which shows the columns.
            self.held.push(RecordBatch::new_empty(self.schema.clone()));
        }
        let options = FormatOptions::default().with_display_error(true).with_null("NULL");
        let table =
            pretty_format_batches_with_options(&self.held, &options).map_err(io::Error::other)?;
        writeln!(output, "{table}")?;
        self.held.clear();
        self.held_rows = 0;
        self.held_bytes = 0;
        self.printed = true;
        Ok(())
    }

    fn finish(mut self, output: &mut Output) -> io::Result<()> {
        if !self.held.is_empty() || !self.printed {
            self.print(output)?;
        }
        if self.more > 0 {
            let what = if self.more == 1 { "1 more row".to_owned() } else { more(self.more) };
            writeln!(output, "... {what} (--maxrows N or inf shows more)")?;
        }
        Ok(())
    }
}

fn more(n: u64) -> String {
    format!("{} more rows", count(n))
}

/// `3 rows in set. Elapsed 0.012 s.`, or `Done. ...` for a statement without columns.
pub fn summary(n: Option<u64>, seconds: f64) -> String {
    match n {
        Some(n) => format!("{} in set. Elapsed {seconds:.3} s.", rows(n)),
        None => format!("Done. Elapsed {seconds:.3} s."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::super::output::memory::{Failing, Memory};
    use super::*;

    fn batch(ids: std::ops::Range<i64>) -> RecordBatch {
        let names: StringArray =
            ids.clone().map(|i| (i % 2 == 0).then(|| format!("n{i}"))).collect();
        let xs: Float64Array = ids.clone().map(|i| Some(i as f64 / 2.0)).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from_iter_values(ids)) as ArrayRef, false),
            ("name", Arc::new(names), true),
            ("x", Arc::new(xs), true),
        ])
        .unwrap()
    }

    fn written(format: Format, max_rows: Option<usize>, batches: &[RecordBatch]) -> String {
        let memory = Memory::default();
        let schema = batch(0..0).schema();
        let mut writer = RowWriter::new(format, max_rows, &schema, &memory.output()).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(writer.finish().unwrap(), Some(rows as u64));
        memory.text()
    }

    #[test]
    fn csv_has_one_header() {
        let text = written(Format::Csv, None, &[batch(0..2), batch(2..2), batch(2..3)]);
        assert_eq!(text, "id,name,x\n0,n0,0.0\n1,,0.5\n2,n2,1.0\n");
    }

    #[test]
    fn json_is_one_array_and_ndjson_one_object_a_line() {
        let batches = [batch(0..1), batch(1..2)];
        let text = written(Format::Json, None, &batches);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!([
            {"id": 0, "name": "n0", "x": 0.0}, {"id": 1, "name": null, "x": 0.5}
        ]);
        assert_eq!(value, expected);
        assert!(text.ends_with("]\n"));
        let text = written(Format::Ndjson, None, &batches);
        assert_eq!(
            text,
            "{\"id\":0,\"name\":\"n0\",\"x\":0.0}\n{\"id\":1,\"name\":null,\"x\":0.5}\n"
        );
    }

    #[test]
    fn an_empty_result_shows_its_columns() {
        assert_eq!(written(Format::Csv, None, &[]), "id,name,x\n");
        assert_eq!(written(Format::Json, None, &[]), "[]\n");
        assert_eq!(written(Format::Ndjson, None, &[]), "");
        assert_eq!(
            written(Format::Table, Some(40), &[]),
            "+----+------+---+\n| id | name | x |\n+----+------+---+\n+----+------+---+\n"
        );
    }

    #[test]
    fn a_table_stops_at_maxrows_and_says_so() {
        let text = written(Format::Table, Some(3), &[batch(0..2), batch(2..4), batch(4..1004)]);
        assert_eq!(
            text,
            "+----+------+-----+\n\
             | id | name | x   |\n\
             +----+------+-----+\n\
             | 0  | n0   | 0.0 |\n\
             | 1  | NULL | 0.5 |\n\
             | 2  | n2   | 1.0 |\n\
             +----+------+-----+\n\
             ... 1,001 more rows (--maxrows N or inf shows more)\n"
        );
        assert!(!written(Format::Table, Some(3), &[batch(0..3)]).contains("more"));
        assert!(written(Format::Table, Some(3), &[batch(0..4)]).contains("... 1 more row ("));
        assert!(written(Format::Table, Some(0), &[batch(0..4)]).contains("... 4 more rows"));
    }

    #[test]
    fn an_unlimited_table_is_written_in_pieces() {
        let rows = TABLE_ROWS as i64;
        let text = written(Format::Table, None, &[batch(0..rows), batch(rows..2 * rows + 1)]);
        assert_eq!(text.matches("| id ").count(), 3);
        assert_eq!(text.lines().filter(|l| l.starts_with("| ")).count(), 2 * TABLE_ROWS + 1 + 3);
        let one = written(Format::Table, None, &[batch(0..50), batch(50..100)]);
        assert_eq!(one.matches("| id ").count(), 1);
    }

    #[test]
    fn a_statement_without_columns_writes_nothing() {
        for format in [Format::Table, Format::Csv, Format::Json, Format::Ndjson] {
            let memory = Memory::default();
            let schema = Arc::new(Schema::empty());
            let writer = RowWriter::new(format, None, &schema, &memory.output()).unwrap();
            assert_eq!(writer.finish().unwrap(), None);
            assert_eq!(memory.text(), "");
        }
    }

    #[test]
    fn a_reader_that_went_away_is_an_error_here_and_told_apart_by_the_output() {
        for format in [Format::Table, Format::Csv, Format::Json, Format::Ndjson] {
            let output = Output::new(Failing(40, ErrorKind::BrokenPipe));
            let schema = batch(0..0).schema();
            let result = RowWriter::new(format, None, &schema, &output).and_then(|mut writer| {
                writer.write(&batch(0..100))?;
                writer.finish()
            });
            assert!(result.is_err(), "{format:?}");
            assert!(output.is_broken_pipe(), "{format:?}");
        }
    }

    #[test]
    fn summaries_count() {
        assert_eq!(summary(Some(1), 0.0123), "1 row in set. Elapsed 0.012 s.");
        assert_eq!(summary(Some(1200), 1.5), "1,200 rows in set. Elapsed 1.500 s.");
        assert_eq!(summary(None, 0.0), "Done. Elapsed 0.000 s.");
    }

    #[test]
    fn nested_columns_of_csv_are_json() {
        let field = Field::new_list("v", Field::new_list_field(DataType::Int64, true), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let list =
            ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(list)]).unwrap();
        let memory = Memory::default();
        let mut writer = RowWriter::new(Format::Csv, None, &schema, &memory.output()).unwrap();
        writer.write(&batch).unwrap();
        assert_eq!(writer.finish().unwrap(), Some(2));
        assert_eq!(memory.text(), "v\n\"[1,null]\"\n\n");
    }
}
