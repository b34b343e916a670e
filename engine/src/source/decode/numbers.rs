//! Finds numbers that a declared type does not hold. Arrow's JSON reader cuts off the fractions of
//! whole numbers, decimals and times; its CSV reader cuts off those of decimals.
//!
//! Lines of JSON are scanned once more for their numbers after arrow has accepted them as JSON, so
//! malformed JSON need not be reported here.

use datafusion::arrow::datatypes::{DataType, Field};

/// Decimal digits of an `i128`. A whole number with more digits fits no integer type.
const MOST_DIGITS: usize = 38;

/// What the numbers of a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Whole numbers.
    Whole(DataType),
    /// Whole numbers of 64 bits: units of a time.
    Units(DataType),
    /// Decimals with at most so many digits after the point.
    Decimal(DataType, i64),
    /// The checks of the keys of a struct.
    Struct(Checks),
    /// The check of each value of a list or map.
    Each(Box<Check>),
}

/// What the numbers of an object must be, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checks {
    keys: Vec<(String, Check)>,
}

impl Checks {
    /// The checks of columns; empty if every number fits every column.
    pub(super) fn of<'a>(fields: impl IntoIterator<Item = &'a Field>) -> Self {
        let check = |field: &'a Field| Some((field.name().clone(), Check::of(field.data_type())?));
        Self { keys: fields.into_iter().filter_map(check).collect() }
    }

    /// Checks the numbers of a line that is a JSON object.
    ///
    /// # Errors
    /// When a number does not fit its column's type; names the column, the number and the type.
    pub(super) fn look(&self, line: &[u8]) -> Result<(), String> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let mut text = Text { bytes: line, at: 0 };
        text.object(self)
    }
}

impl Check {
    fn of(data_type: &DataType) -> Option<Self> {
        use DataType::*;
        let each = |field: &Field| Some(Self::Each(Box::new(Self::of(field.data_type())?)));
        match data_type {
            _ if data_type.is_integer() => Some(Self::Whole(data_type.clone())),
            Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) | Duration(_) => {
                Some(Self::Units(data_type.clone()))
            }
            Decimal32(_, scale)
            | Decimal64(_, scale)
            | Decimal128(_, scale)
            | Decimal256(_, scale) => Some(Self::Decimal(data_type.clone(), i64::from(*scale))),
            Struct(fields) => {
                let checks = Checks::of(fields.iter().map(|field| field.as_ref()));
                (!checks.keys.is_empty()).then_some(Self::Struct(checks))
            }
            List(field)
            | LargeList(field)
            | ListView(field)
            | LargeListView(field)
            | FixedSizeList(field, _) => each(field),
            Map(entries, _) => match entries.data_type() {
                Struct(fields) => each(fields.get(1)?),
                _ => None,
            },
            RunEndEncoded(_, values) => Self::of(values.data_type()),
            _ => None,
        }
    }

    /// The check of a decimal; None of other types.
    pub(super) fn of_decimal(data_type: &DataType) -> Option<Self> {
        Self::of(data_type).filter(|check| matches!(check, Self::Decimal(..)))
    }

    /// What is wrong with a number.
    pub(super) fn fault(&self, text: &str) -> Option<String> {
        let number = Number::of(text)?;
        match self {
            Self::Whole(of) if number.places() > 0 => {
                Some(format!("{text} is no whole number, and the column is {of}"))
            }
            Self::Units(of) if number.places() > 0 => Some(format!(
                "{text} is no whole number, and a number in a column of {of} counts its units"
            )),
            Self::Whole(of) if !number.is_kept() => Some(format!("{text} is no {of}")),
            Self::Units(of) if !number.is_kept() || !number.has_64_bits() => {
                Some(format!("{text} is no {of}"))
            }
            Self::Decimal(of, scale) if number.places() > *scale => Some(format!(
                "{text} has more digits behind the point than the column, which is {of}"
            )),
            _ => None,
        }
    }
}

/// A number as it is written: `digits * 10^exponent`, without zeros at the ends of its digits.
struct Number<'a> {
    text: &'a str,
    digits: String,
    exponent: i64,
}

impl<'a> Number<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, power) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let power: i64 = match power.parse() {
            Ok(power) => power,
            // The exponent is so large that only its sign counts.
            Err(_) if power.starts_with('-') => i64::MIN / 4,
            Err(_) => i64::MAX / 4,
        };
        let kept = all.trim_end_matches('0');
        let exponent = power
            .saturating_sub(fraction.len() as i64)
            .saturating_add((all.len() - kept.len()) as i64);
        let digits = kept.trim_start_matches('0').to_owned();
        let exponent = if digits.is_empty() { 0 } else { exponent };
        Some(Self { text, digits, exponent })
    }

    /// Digits after the point.
    fn places(&self) -> i64 {
        self.exponent.saturating_neg().max(0)
    }

    /// The value of a whole number; None where it is far beyond 64 bits.
    fn value(&self) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let zeros = usize::try_from(self.exponent).ok()?;
        if self.digits.len().saturating_add(zeros) > MOST_DIGITS {
            return None;
        }
        let value: i128 = self.digits.parse().ok()?;
        let value = value * 10i128.pow(zeros as u32);
        Some(if self.text.starts_with('-') { -value } else { value })
    }

    /// Whether a whole number keeps its value: arrow reads one with a point or an exponent as
    /// float64. (Those without are read as they are, or refused.)
    fn is_kept(&self) -> bool {
        let is_plain = !self.text.contains(['.', 'e', 'E']);
        is_plain || self.value().is_some_and(|value| (value as f64) as i128 == value)
    }

    fn has_64_bits(&self) -> bool {
        self.value().is_some_and(|value| i64::try_from(value).is_ok())
    }
}

/// A JSON text that is read for its numbers.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Passes over a byte if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Passes over a string, and returns the text between its quotes.
    fn string(&mut self) -> &'a [u8] {
        self.take(b'"');
        let begin = self.at;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        let end = self.at.min(self.bytes.len());
        self.at = end + 1;
        &self.bytes[begin..end]
    }

    /// Passes over a number or a word, and returns it.
    fn word(&mut self) -> &'a [u8] {
        let begin = self.at;
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
        let rest = &self.bytes[begin..];
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
        &self.bytes[begin..self.at]
    }

    /// Passes over a value, however deeply it is nested.
    fn skip(&mut self) {
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    self.word();
                }
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn object(&mut self, checks: &Checks) -> Result<(), String> {
        self.take(b'{');
        while self.peek() == Some(b'"') {
            let key = self.string();
            self.take(b':');
            match checks.keys.iter().find(|(name, _)| is_name(key, name)) {
                Some((name, check)) => self
                    .value(check)
                    .map_err(|why| format!("whilst decoding field '{name}': {why}"))?,
                None => self.skip(),
            }
            self.take(b',');
        }
        self.take(b'}');
        Ok(())
    }

    fn value(&mut self, check: &Check) -> Result<(), String> {
        match (self.peek(), check) {
            (Some(b'{'), Check::Struct(checks)) => self.object(checks),
            (Some(b'{'), Check::Each(check)) => {
                self.at += 1;
                while self.peek() == Some(b'"') {
                    self.string();
                    self.take(b':');
                    self.value(check)?;
                    self.take(b',');
                }
                self.take(b'}');
                Ok(())
            }
            (Some(b'['), Check::Each(check)) => {
                self.at += 1;
                while self.peek().is_some_and(|byte| byte != b']') {
                    self.value(check)?;
                    self.take(b',');
                }
                self.take(b']');
                Ok(())
            }
            // Of numbers in strings, arrow cuts off decimals only.
            (Some(b'"'), Check::Decimal(..)) => fault(check, self.string()),
            (Some(b'-' | b'0'..=b'9'), Check::Whole(_) | Check::Units(_) | Check::Decimal(..)) => {
                fault(check, self.word())
            }
            _ => {
                self.skip();
                Ok(())
            }
        }
    }
}

fn fault(check: &Check, number: &[u8]) -> Result<(), String> {
    match std::str::from_utf8(number).ok().and_then(|text| check.fault(text)) {
        Some(why) => Err(why),
        None => Ok(()),
    }
}

/// Whether a key, as it is written in the text, equals a name.
fn is_name(key: &[u8], name: &str) -> bool {
    if !key.contains(&b'\\') {
        return key == name.as_bytes();
    }
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|key| key == name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    fn look(data_type: DataType, value: &str) -> Result<(), String> {
        let fields = [Field::new("x", data_type, true), Field::new("y", DataType::Float64, true)];
        Checks::of(&fields).look(format!("{{\"y\": 0.5, \"x\": {value}}}").as_bytes())
    }

    #[test]
    fn numbers_that_are_whole() {
        for data_type in [
            DataType::Int32,
            DataType::UInt8,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Nanosecond, None),
        ] {
            for fine in [
                "1",
                "-1",
                "1.0",
                "1e3",
                "1.50e1",
                "-120.0e-1",
                "0.0",
                "0e-9",
                "-0.000",
                "null",
                "true",
                "\"1.9\"",
                "9007199254740992.0",
                "1e18",
                "[1.9]",
                "{\"x\": 1.9}",
            ] {
                assert_eq!(look(data_type.clone(), fine), Ok(()), "{data_type} {fine}");
            }
            for wrong in
                ["1.9", "-1.9", "0.1", "1e-1", "15e-1", "1.05e1", "1e-999999999999999999999"]
            {
                let why = look(data_type.clone(), wrong).unwrap_err();
                let expected = format!("whilst decoding field 'x': {wrong} is no whole number");
                assert!(why.starts_with(&expected), "{why}");
            }
            // Whole, but arrow would make 9007199254740992 of it.
            let why = look(data_type.clone(), "9007199254740993.0").unwrap_err();
            assert!(why.contains("9007199254740993.0 is no "), "{why}");
        }
        // Arrow refuses a number that fits no integer type, but turns one that fits no time into
        // the last time.
        assert_eq!(look(DataType::Int64, "9223372036854775808"), Ok(()));
        let time = DataType::Timestamp(TimeUnit::Second, None);
        assert!(look(time.clone(), "9223372036854775807").is_ok());
        for far in ["9223372036854775808", "1e30", "1e999999999999999999999"] {
            assert!(look(time.clone(), far).unwrap_err().contains("is no Timestamp"), "{far}");
        }
        assert_eq!(look(DataType::Float64, "1.9"), Ok(()));
    }

    #[test]
    fn digits_of_decimals() {
        for fine in ["1", "1.25", "1.250", "125e-2", "\"1.25\"", "\"\"", "\"x\"", "0.00e-5"] {
            assert_eq!(look(DataType::Decimal128(5, 2), fine), Ok(()), "{fine}");
        }
        for wrong in ["1.255", "1e-3", "\"1.255\""] {
            let why = look(DataType::Decimal128(5, 2), wrong).unwrap_err();
            assert!(why.contains("has more digits behind the point than the column"), "{why}");
        }
        assert!(look(DataType::Decimal128(5, 0), "1.9").is_err());
    }

    #[test]
    fn what_is_nested_and_what_is_no_column() {
        let list = |of| DataType::List(Arc::new(Field::new("item", of, true)));
        let record = DataType::Struct(vec![Field::new("a\"b", DataType::Int64, true)].into());
        for (data_type, fine, wrong) in [
            (list(DataType::Int64), "[1, 2.0, null, []]", "[1, 2, 2.5]"),
            (list(list(DataType::Int64)), "[[1], [], null]", "[[1], [1.5]]"),
            (record.clone(), "{\"a\": 1.5, \"a\\\"b\": 1}", "{\"a\\u0022b\" : 1.5}"),
            (list(record), "[{}, {\"c\": [1.5]}]", "[{}, {\"a\\\"b\": -1.5}]"),
        ] {
            assert_eq!(look(data_type.clone(), fine), Ok(()), "{data_type} {fine}");
            assert!(look(data_type.clone(), wrong).is_err(), "{data_type} {wrong}");
        }
        let fields = [Field::new("x", DataType::Int64, true)];
        let checks = Checks::of(&fields);
        let deep = format!("{{\"a\": {}{}, \"x\": 1}}", "[".repeat(100_000), "]".repeat(100_000));
        checks.look(deep.as_bytes()).unwrap();
        let others = b"{\"s\": \"\\\"x\\\": 1.5 ,}\", \"o\": {\"x\": [1.5, {}]}, \"n\" : -1.5e3 , \"x\" : 1 }";
        checks.look(others).unwrap();
        for line in [&b"{"[..], b"", b"{\"x\"", b"{\"x\": ", b"{\"x\": \"\\", b"]]]", b"{\"x\": -}"]
        {
            checks.look(line).unwrap();
        }
        assert!(checks.look(b"{\"o\": [[], [{}]], \"x\"\t:\n1.5}").is_err());
    }
}
