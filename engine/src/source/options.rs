//! OPTIONS of an unbounded table: unchecked pairs become settings, and what is unknown is refused.

use std::collections::HashMap;
use std::time::Duration;

use datafusion::common::{Result, plan_err};

use crate::names::suggestion;
use crate::options::nearest;

/// Options of CSV.
pub(super) const CSV: &[&str] = &["has_header", "delimiter", "quote", "newlines_in_values"];
/// Options of sockets.
pub(super) const SOCKET: &[&str] = &["producers", "listen.anywhere"];
/// Options of watched folders.
pub(super) const FOLDER: &[&str] = &["settle", "poll", "end"];

/// The options of one statement, by name without the prefix `format.` that DataFusion gives them.
#[derive(Debug)]
pub(super) struct Pairs {
    pairs: HashMap<String, String>,
}

impl Pairs {
    /// Options of a kind of table that knows `known`.
    ///
    /// # Errors
    /// When an option is unknown; suggests the nearest known one.
    pub(super) fn check(
        options: &HashMap<String, String>,
        known: &[&'static str],
        what: &str,
    ) -> Result<Self> {
        let bare = |key: &str| key.strip_prefix("format.").unwrap_or(key).to_lowercase();
        let pairs: HashMap<_, _> =
            options.iter().map(|(key, value)| (bare(key), value.clone())).collect();
        let mut unknown: Vec<_> =
            pairs.keys().filter(|key| !known.contains(&key.as_str())).collect();
        unknown.sort();
        let Some(key) = unknown.first() else { return Ok(Self { pairs }) };
        if let Some(whose) = whose(key) {
            return plan_err!("option {key} is for {whose}, and the table is {what}");
        }
        match (nearest(key, known.iter().copied()), known) {
            (None, []) => plan_err!("unknown option {key}; {what} has no options"),
            (None, known) => {
                plan_err!("unknown option {key}; {what} has the options {}", known.join(", "))
            }
            (near, _) => plan_err!("unknown option {key}{}", suggestion(near)),
        }
    }

    /// Whether the statement has an option.
    pub(super) fn given(&self, key: &str) -> bool {
        self.pairs.contains_key(key)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(String::as_str)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key).map(str::to_lowercase).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(value) => plan_err!("option {key} should be 'true' or 'false', but is '{value}'"),
        }
    }

    /// One character of ASCII; `\t` is the tabulator.
    pub(super) fn character(&self, key: &str, default: u8) -> Result<u8> {
        match self.get(key).map(str::as_bytes) {
            None => Ok(default),
            Some(b"\\t") => Ok(b'\t'),
            Some(&[byte]) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(byte),
            Some(value) => plan_err!(
                "option {key} should be one ASCII character, but is '{}'",
                String::from_utf8_lossy(value)
            ),
        }
    }

    /// A whole number of at least 1.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.trim().parse() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => plan_err!("option {key} should be a whole number of at least 1, but is '{value}'"),
        }
    }

    /// A time, `500 ms`, `5 seconds`, `1 minute`.
    pub(super) fn duration(&self, key: &str, default: Duration) -> Result<Duration> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match parse_duration(value) {
            Some(duration) => Ok(duration),
            None => plan_err!(
                "option {key} should be a time such as '500 ms', '5 seconds' or '1 minute', but \
                 is '{value}'"
            ),
        }
    }

    /// One of several words.
    pub(super) fn word(
        &self,
        key: &str,
        words: &[&'static str],
        default: &'static str,
    ) -> Result<&'static str> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match words.iter().find(|word| word.eq_ignore_ascii_case(value)) {
            Some(word) => Ok(word),
            None => plan_err!(
                "option {key} should be '{}', but is '{value}'{}",
                words.join("' or '"),
                suggestion(nearest(value, words.iter().copied()))
            ),
        }
    }
}

/// The kind of table that has an option.
fn whose(key: &str) -> Option<&'static str> {
    [(CSV, "CSV"), (SOCKET, "tcp:// and unix:// locations"), (FOLDER, "folders of PARQUET")]
        .into_iter()
        .find_map(|(known, whose)| known.contains(&key).then_some(whose))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let seconds = match text[end..].trim().to_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "second" | "seconds" => 1.0,
        "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(options: &[(&str, &str)], known: &[&'static str]) -> Result<Pairs> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Pairs::check(&options, known, "a socket")
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("500 ms", 500),
            ("5 seconds", 5000),
            ("1 second", 1000),
            ("1.5s", 1500),
            (" 2 MINUTES ", 120_000),
            ("1 hour", 3_600_000),
            ("0 s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "five seconds", "5 weeks", "-1 s", "1..2 s", "9e999 s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let refused = |options: &[(&str, &str)]| {
            pairs(options, SOCKET).unwrap_err().strip_backtrace().to_string()
        };
        assert_eq!(
            refused(&[("format.producer", "2")]),
            "Error during planning: unknown option producer; did you mean producers?"
        );
        assert_eq!(
            refused(&[("format.colour", "red")]),
            "Error during planning: unknown option colour; a socket has the options producers, \
             listen.anywhere"
        );
        assert_eq!(
            refused(&[("format.poll", "2 s")]),
            "Error during planning: option poll is for folders of PARQUET, and the table is a socket"
        );
    }

    #[test]
    fn values_are_checked() {
        let options = [("format.producers", "0"), ("listen.anywhere", "maybe")];
        let options = pairs(&options, SOCKET).unwrap();
        assert!(options.count("producers").unwrap_err().to_string().contains("but is '0'"));
        assert!(options.flag("listen.anywhere", false).is_err());
        let options =
            [("format.delimiter", "\\t"), ("format.quote", "ab"), ("format.has_header", "TRUE")];
        let options = pairs(&options, CSV).unwrap();
        assert_eq!(options.character("delimiter", b',').unwrap(), b'\t');
        assert!(options.character("quote", b'"').is_err());
        assert!(options.flag("has_header", false).unwrap());
        let options = [("format.end", "when_empt"), ("format.poll", "often")];
        let options = pairs(&options, FOLDER).unwrap();
        let error = options.word("end", &["never", "when_empty"], "never").unwrap_err();
        assert!(error.to_string().contains("did you mean when_empty?"), "{error}");
        assert!(options.duration("poll", Duration::ZERO).is_err());
        assert_eq!(options.duration("settle", Duration::ZERO).unwrap(), Duration::ZERO);
    }
}
