//! Infers the type of a column from the cells that were seen.

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};

use super::super::text::is_missing;

const BOOLEAN: u16 = 1;
const WHOLE: u16 = 1 << 1;
const FRACTION: u16 = 1 << 2;
const DATE: u16 = 1 << 3;
const SECOND: u16 = 1 << 4;
const MILLISECOND: u16 = 1 << 5;
const MICROSECOND: u16 = 1 << 6;
const NANOSECOND: u16 = 1 << 7;
const TEXT: u16 = 1 << 8;
/// A whole number beyond 64 bits.
const LARGE: u16 = 1 << 9;
/// A fraction with a comma.
const COMMA: u16 = 1 << 10;

/// The kinds of cells that were seen in a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cells {
    kinds: u16,
    /// Whether something stands for a missing number, such as `NA`.
    has_missing: bool,
    /// Whether Arrow's reader of numbers does not accept one of them as it is written.
    is_loose: bool,
}

impl Cells {
    /// Adds a cell.
    pub(super) fn add(&mut self, cell: &str) {
        if cell.is_empty() {
            return;
        }
        let text = cell.trim();
        if is_missing(text) {
            self.has_missing = true;
            self.is_loose = true;
            return;
        }
        self.is_loose |= text.len() != cell.len() || text.starts_with('+');
        self.kinds |= kind(text.strip_prefix('+').unwrap_or(text));
    }

    /// The type of the column; Null where no cell says anything.
    pub(super) fn data_type(self, delimiter: u8) -> DataType {
        const TIMES: u16 = DATE | SECOND | MILLISECOND | MICROSECOND | NANOSECOND;
        let is_only = |kinds: u16| self.kinds & !kinds == 0;
        match self.kinds {
            0 if self.has_missing => DataType::Utf8,
            0 => DataType::Null,
            BOOLEAN => DataType::Boolean,
            WHOLE => DataType::Int64,
            _ if is_only(WHOLE | LARGE) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
            _ if is_only(WHOLE | FRACTION | LARGE) => DataType::Float64,
            _ if is_only(WHOLE | COMMA) && delimiter != b',' => DataType::Float64,
            DATE => DataType::Date32,
            kinds if is_only(TIMES) => {
                let unit = match kinds {
                    _ if kinds & NANOSECOND != 0 => TimeUnit::Nanosecond,
                    _ if kinds & MICROSECOND != 0 => TimeUnit::Microsecond,
                    _ if kinds & MILLISECOND != 0 => TimeUnit::Millisecond,
                    _ => TimeUnit::Second,
                };
                DataType::Timestamp(unit, None)
            }
            _ => DataType::Utf8,
        }
    }

    /// Whether fractions have a comma.
    pub(super) fn has_decimal_comma(self) -> bool {
        self.kinds & COMMA != 0
    }

    /// Whether Arrow's reader accepts all cells that were seen as they are written.
    pub(super) fn is_strict(self) -> bool {
        !self.is_loose && self.kinds & (COMMA | LARGE) == 0
    }
}

/// Whether a cell is a number of any kind.
pub(super) fn is_number(cell: &str) -> bool {
    kind(cell.trim()) & (WHOLE | FRACTION | LARGE) != 0
}

fn kind(text: &str) -> u16 {
    let bytes = text.as_bytes();
    let Some(first) = bytes.first() else { return 0 };
    if first.is_ascii_digit() || matches!(first, b'-' | b'.') {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        return match is_whole {
            true if text.parse::<i64>().is_ok() => WHOLE,
            true if digits.len() < usize::from(DECIMAL128_MAX_PRECISION) => LARGE,
            true => TEXT,
            false if is_fraction(bytes) && text.parse::<f64>().is_ok() => FRACTION,
            false if text == "-inf" => FRACTION,
            false => comma(digits).or_else(|| moment(bytes)).unwrap_or(TEXT),
        };
    }
    match text {
        _ if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => BOOLEAN,
        "NaN" | "nan" | "inf" => FRACTION,
        _ => TEXT,
    }
}

fn is_fraction(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'))
}

fn comma(digits: &str) -> Option<u16> {
    let (whole, rest) = digits.split_once(',')?;
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (are_digits(whole) && are_digits(rest)).then_some(COMMA)
}

/// Dates as `2024-01-31`, times as `2024-01-31 23:59:59.999`, with a zone behind them or not.
fn moment(bytes: &[u8]) -> Option<u16> {
    let fits = |pattern: &[u8], bytes: &[u8]| {
        bytes.len() >= pattern.len()
            && pattern.iter().zip(bytes).all(|(p, b)| match p {
                b'0' => b.is_ascii_digit(),
                b'T' => matches!(b, b'T' | b' '),
                p => p == b,
            })
    };
    const DAY: &[u8] = b"0000-00-00";
    const TIME: &[u8] = b"0000-00-00T00:00:00";
    if bytes.len() == DAY.len() && fits(DAY, bytes) {
        return Some(DATE);
    }
    if !fits(TIME, bytes) {
        return None;
    }
    let rest = &bytes[TIME.len()..];
    match rest.split_first() {
        None => Some(SECOND),
        Some((b'.', fraction)) => {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            match digits {
                1..=3 => Some(MILLISECOND),
                4..=6 => Some(MICROSECOND),
                7..=9 => Some(NANOSECOND),
                _ => None,
            }
        }
        Some((next, _)) => (!next.is_ascii_digit()).then_some(SECOND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cells: &[&str]) -> Cells {
        let mut all = Cells::default();
        cells.iter().for_each(|cell| all.add(cell));
        all
    }

    #[test]
    fn types_of_columns() {
        use DataType::*;
        let at = |unit| Timestamp(unit, None);
        for (cells, expected) in [
            (&["1", "-2", ""][..], Int64),
            (&["1", "2.5"], Float64),
            (&["1", "1e-3", "NaN", ".5", "3."], Float64),
            (&["NA", "1", " 2"], Int64),
            (&["NA", "x"], Utf8),
            (&["NA", "-"], Utf8),
            (&["", ""], Null),
            (&["true", "False"], Boolean),
            (&["true", "1"], Utf8),
            (&["2024-01-31"], Date32),
            (&["2024-01-31", "2024-01-31T10:00:00"], at(TimeUnit::Second)),
            (&["2024-01-31 10:00:00.123Z"], at(TimeUnit::Millisecond)),
            (&["2024-01-31 10:00:00.123456"], at(TimeUnit::Microsecond)),
            (&["2024-01-31 10:00:00+02:00"], at(TimeUnit::Second)),
            (&["2024-01-31x"], Utf8),
            (&["12345678901234567890", "1"], Decimal128(38, 0)),
            (&["12345678901234567890", "1.5"], Float64),
            (&["1,5", "2"], Utf8),
            (&["1-2", "3"], Utf8),
        ] {
            assert_eq!(of(cells).data_type(b','), expected, "{cells:?}");
        }
        assert_eq!(of(&["1,5", "2"]).data_type(b';'), Float64);
        assert_eq!(of(&["1,5", "2.5"]).data_type(b';'), Utf8);
    }

    #[test]
    fn what_arrow_reads_as_it_is() {
        assert!(of(&["1", "2.5", ""]).is_strict());
        for cells in [&["1", "NA"][..], &[" 1"], &["+1"], &["1,5"]] {
            assert!(!of(cells).is_strict(), "{cells:?}");
        }
    }
}
