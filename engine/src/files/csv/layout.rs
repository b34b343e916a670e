//! How a CSV file is written: delimiter, comments, header, and what its columns hold.

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::config::CsvOptions;
use datafusion::common::{Result, plan_err};

use super::cells::{Cells, is_number};

/// Number of rows that are inspected to find the delimiter.
const SNIFF_ROWS: usize = 20;
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// The byte order mark that Excel and other Windows programs begin a text with.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How a file is written.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) delimiter: u8,
    pub(super) comment: Option<u8>,
    /// The columns in the order of the file.
    pub(super) columns: Vec<CsvColumn>,
    /// Whether a quoted value has a line break.
    pub(super) has_line_breaks: bool,
}

/// A column of a file.
#[derive(Clone, Debug)]
pub(super) struct CsvColumn {
    pub(super) name: String,
    /// The type of what was seen.
    pub(super) data_type: DataType,
    /// Whether all cells were seen, and arrow's reader takes them as they are written.
    pub(super) is_strict: bool,
    pub(super) has_decimal_comma: bool,
}

/// The options of a statement that describe how files are written.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    pub(super) options: CsvOptions,
    /// Whether the delimiter is given, or found in each file.
    pub(super) is_delimiter_given: bool,
    /// Whether there is a header, if the statement says so; else there is one.
    pub(super) has_header: Option<bool>,
}

impl Layout {
    /// Looks at the beginning of a file, or at all of it (`is_whole`).
    ///
    /// # Errors
    /// When it is no text, or has no header; `file` is named.
    pub(super) fn of(file: &str, bytes: &[u8], is_whole: bool, dialect: &Dialect) -> Result<Self> {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
            return plan_err!("{file} is written in UTF-16; convert it to UTF-8");
        }
        // The last line may be incomplete.
        let last = bytes.iter().rposition(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
        let bytes = if is_whole { bytes } else { &bytes[..last] };
        let comment = dialect.options.comment.or_else(|| comment(bytes));
        let delimiter = match dialect.is_delimiter_given {
            true => dialect.options.delimiter,
            false => delimiter(bytes, comment, dialect),
        };
        let mut layout = Self { delimiter, comment, columns: vec![], has_line_breaks: false };
        layout.read(file, bytes, is_whole, dialect)?;
        Ok(layout)
    }

    fn read(&mut self, file: &str, bytes: &[u8], is_whole: bool, dialect: &Dialect) -> Result<()> {
        let mut header: Option<Vec<String>> = None;
        let mut cells: Vec<Cells> = vec![];
        let mut reader = reader(bytes, self.delimiter, self.comment, dialect);
        let mut record = csv::ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return plan_err!("{file} cannot be read as CSV: {error}"),
            }
            let line = record.position().map_or(0, csv::Position::line);
            let mut texts = vec![];
            for cell in &record {
                match std::str::from_utf8(cell) {
                    Ok(text) => texts.push(text),
                    Err(_) => {
                        return plan_err!(
                            "line {line} of {file} is no UTF-8; convert the file (iconv -t UTF-8)"
                        );
                    }
                }
            }
            self.has_line_breaks |= texts.iter().any(|text| text.contains('\n'));
            let Some(names) = &header else {
                header = Some(self.header(file, &texts, dialect)?);
                cells = vec![Cells::default(); texts.len()];
                if dialect.has_header == Some(false) {
                    cells.iter_mut().zip(&texts).for_each(|(all, cell)| all.add(cell));
                }
                continue;
            };
            if texts.len() != names.len() && !dialect.options.truncated_rows.unwrap_or(false) {
                return plan_err!(
                    "line {line} of {file} has {} fields, and {} has {}",
                    texts.len(),
                    if dialect.has_header.unwrap_or(true) { "its header" } else { "the first" },
                    names.len()
                );
            }
            if texts.len() > 1
                && dialect.has_header.unwrap_or(true)
                && texts.iter().eq(names.iter())
            {
                return plan_err!(
                    "line {line} of {file} repeats the header; leave it out where files are put \
                     together"
                );
            }
            cells.iter_mut().zip(&texts).for_each(|(all, cell)| all.add(cell));
        }
        let column = |(name, cells): (String, Cells)| CsvColumn {
            name,
            data_type: cells.data_type(self.delimiter),
            is_strict: is_whole && cells.is_strict(),
            has_decimal_comma: cells.has_decimal_comma(),
        };
        self.columns = header.unwrap_or_default().into_iter().zip(cells).map(column).collect();
        Ok(())
    }

    /// The names of the columns; `first` is the first line.
    fn header(&self, file: &str, first: &[&str], dialect: &Dialect) -> Result<Vec<String>> {
        if dialect.has_header == Some(false) {
            return Ok((1..=first.len()).map(|i| format!("column_{i}")).collect());
        }
        // Unless the statement says that there is a header, a first line of numbers is a row. The
        // exception is a header of column numbers from 0 or 1, which some tools write.
        let is_numbering = |from: usize| first.iter().zip(from..).all(|(n, i)| *n == i.to_string());
        let is_row = dialect.has_header.is_none()
            && !first.is_empty()
            && first.iter().all(|cell| is_number(cell))
            && !is_numbering(0)
            && !is_numbering(1);
        if is_row {
            return plan_err!(
                "the first line of {file}, {}, is a row and no header; say so: CREATE EXTERNAL \
                 TABLE t (...) STORED AS CSV LOCATION '{file}' OPTIONS ('has_header' 'false')",
                super::super::listing::one_line(
                    &first.join(&char::from(self.delimiter).to_string())
                )
            );
        }
        let mut names: Vec<String> = first.iter().map(|name| name.trim().to_owned()).collect();
        // A header that begins as a comment does.
        if let Some(name) = names.first_mut()
            && self.comment.is_none()
            && let Some(bare) = name.strip_prefix('#')
        {
            *name = bare.trim_start().to_owned();
        }
        Ok(names)
    }

    /// The columns as a schema.
    pub(super) fn schema(&self) -> Schema {
        let field = |column: &CsvColumn| Field::new(&column.name, column.data_type.clone(), true);
        Schema::new(self.columns.iter().map(field).collect::<Vec<_>>())
    }
}

fn reader<'a>(
    bytes: &'a [u8],
    delimiter: u8,
    comment: Option<u8>,
    dialect: &Dialect,
) -> csv::Reader<&'a [u8]> {
    let mut builder = csv::ReaderBuilder::new();
    builder
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .quote(dialect.options.quote)
        .escape(dialect.options.escape)
        .comment(comment);
    if let Some(terminator) = dialect.options.terminator {
        builder.terminator(csv::Terminator::Any(terminator));
    }
    builder.from_reader(bytes)
}

/// `#` where lines before the header begin with it. One such line before a line of as many fields
/// is a header itself, as some tools write it.
fn comment(bytes: &[u8]) -> Option<u8> {
    let mut lines = bytes.split(|b| *b == b'\n').take(SNIFF_ROWS * 10);
    let first = lines.next()?;
    if !first.starts_with(b"#") {
        return None;
    }
    let fields = |line: &[u8]| DELIMITERS.map(|d| line.iter().filter(|b| **b == d).count());
    let next = lines.next().unwrap_or_default();
    let is_header = !next.starts_with(b"#")
        && fields(first) == fields(next)
        && fields(first).iter().any(|n| *n > 0);
    (!is_header).then_some(b'#')
}

/// The delimiter by which the first lines have the same number of fields, more than one.
fn delimiter(bytes: &[u8], comment: Option<u8>, dialect: &Dialect) -> u8 {
    let fits = |delimiter: &&u8| {
        let mut reader = reader(bytes, **delimiter, comment, dialect);
        let mut counts = reader.byte_records().take(SNIFF_ROWS).map_while(Result::ok);
        let Some(first) = counts.next().map(|record| record.len()) else { return false };
        first > 1 && counts.all(|record| record.len() == first)
    };
    DELIMITERS.iter().find(fits).copied().unwrap_or(dialect.options.delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(has_header: Option<bool>) -> Dialect {
        Dialect { options: CsvOptions::default(), is_delimiter_given: false, has_header }
    }

    fn layout(text: &str) -> Result<Layout> {
        Layout::of("x.csv", text.as_bytes(), true, &dialect(None))
    }

    fn columns(text: &str) -> String {
        let layout = layout(text).unwrap();
        let of = |c: &CsvColumn| format!("{} {}", c.name, c.data_type);
        layout.columns.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn how_files_are_written_is_found_out() {
        assert_eq!(columns("x,y\n1,a\n"), "x Int64, y Utf8");
        assert_eq!(columns("x;y\n1,5;a,b\n2;c\n"), "x Float64, y Utf8");
        assert_eq!(columns("x\ty\n1\t2\n"), "x Int64, y Int64");
        assert_eq!(columns("\u{feff}x|y\r\n1|2\r\n"), "x Int64, y Int64");
        assert_eq!(
            columns("# made by a tool, in 2024\n# see there\nx, y\n1, 2\n"),
            "x Int64, y Int64"
        );
        assert_eq!(columns("#x,y\n1,2\n"), "x Int64, y Int64");
        assert_eq!(columns("x,y\n"), "x Null, y Null");
        assert_eq!(columns("0,1,2\n5,6,7\n"), "0 Int64, 1 Int64, 2 Int64");
        assert_eq!(columns("x\n1\n"), "x Int64");
        assert!(layout("x,y\n\"a\nb\",1\n").unwrap().has_line_breaks);
    }

    #[test]
    fn a_type_is_that_of_all_rows() {
        let mut text = "x\n".to_owned();
        (0..5000).for_each(|i| text.push_str(&format!("{i}\n")));
        text.push_str("0.5\n");
        assert_eq!(columns(&text), "x Float64");
        assert!(layout(&text).unwrap().columns[0].is_strict);
        let head = Layout::of("x.csv", text.as_bytes(), false, &dialect(None)).unwrap();
        assert!(!head.columns[0].is_strict);
    }

    #[test]
    fn what_would_change_in_silence_is_refused() {
        let error = |text: &str| layout(text).unwrap_err().strip_backtrace().to_string();
        assert!(error("1.5,2\n3,4\n").contains("the first line of x.csv, 1.5,2, is a row"));
        assert!(error("x,y\n1,2\nx,y\n3,4\n").contains("line 3 of x.csv repeats the header"));
        assert!(error("x,y\n1,2,3\n").contains("line 2 of x.csv has 3 fields"));
    }
}
