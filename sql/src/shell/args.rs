//! The command line.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  gradlake                                        open the interactive shell
  gradlake -c 'SELECT count(*) FROM \"rides.parquet\"'
  gradlake -c \"TRAIN MODEL tips USING linear_regression TARGET tip FROM 'rides.parquet'\"
  gradlake -c \"PREDICT MODEL tips FROM 'new.parquet'\" --format csv > predictions.csv
  gradlake -f train.sql -c 'EVALUATE MODEL tips' --format json
  gradlake --warehouse /data/models --memory-limit 4GiB -f nightly.sql
  echo 'SHOW MODELS' | gradlake --format ndjson

Results go to standard output; progress, notes and errors go to standard error.
Exit status: 0 all statements ran, 1 a statement failed or was interrupted, 2 wrong usage.";

/// Trains models where the data lies: SQL over Parquet files, models stored as Parquet tables.
///
/// Without -c and -f the statements are read from the terminal, or from standard input if that
/// is no terminal.
#[derive(Clone, Debug, Parser)]
#[command(name = "gradlake", version, after_help = EXAMPLES)]
pub struct Args {
    /// Run the statements and backslash commands of this text; may be given several times, also
    /// mixed with -f
    // (A comment begins with two hyphens, as an option does.)
    #[arg(short = 'c', long = "command", value_name = "SQL", allow_hyphen_values = true)]
    commands: Vec<String>,

    /// Run the statements and backslash commands of this file ('-': standard input); may be given
    /// several times
    #[arg(short = 'f', long = "file", value_name = "FILE", value_parser = script_file)]
    files: Vec<PathBuf>,

    /// Form of the results
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,

    /// Rows of a table to show at most: a number, or 'inf' for all [default: 40 on a terminal,
    /// otherwise inf]
    #[arg(long, value_name = "N|inf")]
    pub maxrows: Option<MaxRows>,

    /// No progress, notes, row counts and timings; warnings and errors stay
    #[arg(short, long)]
    pub quiet: bool,

    /// Folder or object-store URL that holds the models (s3://, gs://, az:// need a build with the
    /// feature aws, gcp or azure) [default: ./gradlake-warehouse]
    #[arg(long, value_name = "FOLDER|URL", value_parser = non_empty)]
    pub warehouse: Option<String>,

    /// Memory for queries and training, such as 512MB (10^6 bytes), 2GiB (2^30 bytes) or 8g
    /// (as GiB); what does not fit is spilled to disk [default: 70 % of the machine's memory]
    #[arg(short, long, value_name = "SIZE")]
    pub memory_limit: Option<Bytes>,

    /// Threads for queries and training [default: the machine's cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// The form of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A drawn table, for people
    Table,
    /// Comma-separated values with a header; nested values as JSON text
    Csv,
    /// One JSON array of objects for each statement
    Json,
    /// One JSON object a line
    Ndjson,
}

/// Maximum rows of a table; None means all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxRows(pub Option<usize>);

impl FromStr for MaxRows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ["inf", "infinite", "none"].contains(&text.to_ascii_lowercase().as_str()) {
            return Ok(Self(None));
        }
        let rows = text.parse().map_err(|_| "a number of rows or 'inf' is wanted".to_owned())?;
        Ok(Self(Some(rows)))
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub usize);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
        let unit = text.get(digits.len()..).unwrap_or_default().trim();
        let factor: f64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024f64.powi(2),
            "g" | "gib" => 1024f64.powi(3),
            "t" | "tib" => 1024f64.powi(4),
            _ => {
                return Err(format!(
                    "unknown unit '{unit}', known are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB and k, m, g, t"
                ));
            }
        };
        let number: f64 =
            digits.parse().map_err(|_| "a size such as 512MB or 2GiB is wanted".to_owned())?;
        let bytes = number * factor;
        // 2^53: float64 holds whole numbers exactly up to there, and no machine has as much memory.
        if !(1.0..=9_007_199_254_740_992.0).contains(&bytes) || bytes > usize::MAX as f64 {
            return Err("the size must be at least one byte and at most 8192 TiB".to_owned());
        }
        Ok(Self(bytes as usize))
    }
}

/// A piece of SQL to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The text of `-c`.
    Command(String),
    /// The file of `-f`.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Args {
    /// Reads the command line; on `--help`, `--version` and wrong usage the process ends.
    pub fn read() -> (Self, Vec<Source>) {
        let matches = Self::command().get_matches();
        match Self::from_arg_matches(&matches) {
            Ok(args) => {
                let sources = args.sources(&matches);
                (args, sources)
            }
            Err(error) => error.exit(),
        }
    }

    /// What `-c` and `-f` name, in the order of the command line.
    fn sources(&self, matches: &ArgMatches) -> Vec<Source> {
        let places = |id| matches.indices_of(id).into_iter().flatten();
        let commands = self.commands.iter().cloned().map(Source::Command);
        let files = self.files.iter().cloned().map(|path| match path.as_os_str() == "-" {
            true => Source::Stdin,
            false => Source::File(path),
        });
        let mut sources: Vec<(usize, Source)> =
            places("commands").zip(commands).chain(places("files").zip(files)).collect();
        sources.sort_by_key(|(place, _)| *place);
        sources.into_iter().map(|(_, source)| source).collect()
    }
}

fn script_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.as_os_str() == OsStr::new("-") {
        return Ok(path);
    }
    match std::fs::metadata(&path) {
        Ok(data) if data.is_dir() => Err("it is a folder, not a file".to_owned()),
        Ok(_) => Ok(path),
        Err(error) => Err(error.to_string()),
    }
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a folder or URL is wanted".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<(Args, Vec<Source>), clap::Error> {
        let words = ["gradlake"].iter().chain(words);
        let matches = Args::command().try_get_matches_from(words)?;
        let args = Args::from_arg_matches(&matches)?;
        let sources = args.sources(&matches);
        Ok((args, sources))
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn commands_and_files_keep_their_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let (_, sources) = parse(&["-c", "a", "-f", path, "-q", "-c", "b", "-f", "-"]).unwrap();
        assert_eq!(
            sources,
            [
                Source::Command("a".to_owned()),
                Source::File(file.path().to_owned()),
                Source::Command("b".to_owned()),
                Source::Stdin,
            ]
        );
        assert_eq!(parse(&[]).unwrap().1, []);
        let (_, sources) = parse(&["-c", "-- a comment", "-q"]).unwrap();
        assert_eq!(sources, [Source::Command("-- a comment".to_owned())]);
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        for (text, bytes) in [
            ("512MB", 512_000_000),
            ("2GiB", 2 << 30),
            ("2 gib", 2 << 30),
            ("10g", 10 << 30),
            ("1.5k", 1536),
            ("1TB", 1_000_000_000_000),
            ("4096", 4096),
            ("7b", 7),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "MB", "0", "0.1", "-1MB", "12 parsecs", "9e99", "99999999TB", "1..5k"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn maxrows_is_a_number_or_inf() {
        assert_eq!("10".parse(), Ok(MaxRows(Some(10))));
        assert_eq!("0".parse(), Ok(MaxRows(Some(0))));
        assert_eq!("inf".parse(), Ok(MaxRows(None)));
        assert!("-1".parse::<MaxRows>().is_err());
        assert!("many".parse::<MaxRows>().is_err());
    }

    #[test]
    fn wrong_usage_is_refused() {
        for words in [
            &["--format", "xml"][..],
            &["--threads", "0"],
            &["--threads", "1025"],
            &["--maxrows", "x"],
            &["--memory-limit", "much"],
            &["--warehouse", ""],
            &["-f", "/no/such/file.sql"],
            &["-f", "/"],
            &["-c"],
            &["stray"],
            &["--nonsense"],
        ] {
            let error = parse(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
        assert_eq!(parse(&["--help"]).unwrap_err().exit_code(), 0);
        assert_eq!(parse(&["--version"]).unwrap_err().exit_code(), 0);
    }
}
