//! Formats of files by the endings of their names.

use std::fmt;

use datafusion::common::parsers::CompressionTypeVariant;

/// The endings that are known, as errors list them.
pub const ENDINGS: &str = ".parquet, .csv, .tsv, .json, .ndjson, .jsonl or .arrow, and of texts \
                           .gz, .bz2, .xz or .zst behind it";

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Format {
    Parquet,
    Csv,
    /// CSV with tabs.
    Tsv,
    /// Objects line by line, or one array of objects.
    Json,
    Arrow,
}

impl Format {
    /// Its name in STORED AS and among DataFusion's formats.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv | Self::Tsv => "csv",
            Self::Json => "json",
            Self::Arrow => "arrow",
        }
    }

    /// The format that STORED AS names.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "parquet" => Self::Parquet,
            "csv" => Self::Csv,
            "json" | "ndjson" => Self::Json,
            "arrow" => Self::Arrow,
            _ => return None,
        })
    }
}

/// The kind of content that the name of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) format: Format,
    pub(crate) compression: CompressionTypeVariant,
}

impl Kind {
    /// The kind of a file by the end of its name, in any case; None where it is none of them.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
        let mut parts = name.rsplit('.');
        let last = parts.next()?;
        let compression = match last {
            "gz" | "gzip" => CompressionTypeVariant::GZIP,
            "bz2" => CompressionTypeVariant::BZIP2,
            "xz" => CompressionTypeVariant::XZ,
            "zst" | "zstd" => CompressionTypeVariant::ZSTD,
            _ => CompressionTypeVariant::UNCOMPRESSED,
        };
        let is_compressed = compression != CompressionTypeVariant::UNCOMPRESSED;
        let ending = if is_compressed { parts.next()? } else { last };
        // A name is more than its ending.
        parts.next()?;
        let format = match ending {
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            "json" | "ndjson" | "jsonl" => Format::Json,
            "parquet" | "parq" if !is_compressed => Format::Parquet,
            "arrow" | "feather" if !is_compressed => Format::Arrow,
            _ => return None,
        };
        Some(Self { format, compression })
    }
}

impl fmt::Display for Kind {
    /// As an ending: `.csv.gz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            Format::Tsv => "tsv",
            format => format.name(),
        };
        let compression = match self.compression {
            CompressionTypeVariant::UNCOMPRESSED => "",
            CompressionTypeVariant::GZIP => ".gz",
            CompressionTypeVariant::BZIP2 => ".bz2",
            CompressionTypeVariant::XZ => ".xz",
            CompressionTypeVariant::ZSTD => ".zst",
        };
        write!(f, ".{format}{compression}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_ending() {
        for (name, expected) in [
            ("a/b.parquet", ".parquet"),
            ("part-0.snappy.parquet", ".parquet"),
            ("X.CSV", ".csv"),
            ("x.tsv.gz", ".tsv.gz"),
            ("x.ndjson", ".json"),
            ("x.jsonl.zst", ".json.zst"),
            ("x.feather", ".arrow"),
        ] {
            assert_eq!(Kind::of_file(name).unwrap().to_string(), expected, "{name}");
        }
        for name in ["x", "x.md", "x.parquet.gz", "x.csv.zip", "_SUCCESS", "x.parquet.tmp", "csv"] {
            assert_eq!(Kind::of_file(name), None, "{name}");
        }
    }
}
