//! Runs every `.slt` file of `tests/slt`, each on a fresh warehouse.
//!
//! `cargo test -p gradlake-sql --test slt -- --complete` writes what the statements returned into
//! the files. Files named `shared_*` need the data sets beside the repository and are skipped,
//! visibly, where those are absent. In the files, statements run in the folder `sql/`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use futures::TryStreamExt;
use gradlake_sql::{Session, SessionOptions, sentence};
use sqllogictest::harness::{Arguments, Failed, Trial};
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Runner, default_column_validator, default_normalizer,
    default_validator,
};

/// A session whose rows are text.
struct Database {
    session: Session,
    _warehouse: tempfile::TempDir,
}

/// The one sentence of an error.
#[derive(Debug)]
struct Sentence(String);

impl std::fmt::Display for Sentence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Sentence {}

impl Database {
    async fn open() -> Result<Self, Sentence> {
        let warehouse = tempfile::tempdir().map_err(|e| Sentence(e.to_string()))?;
        let options = SessionOptions {
            warehouse: Some(warehouse.path().join("warehouse").display().to_string()),
            threads: Some(2),
            ..SessionOptions::default()
        };
        let session = Session::open(options).await.map_err(|e| Sentence(sentence(&e)))?;
        Ok(Self { session, _warehouse: warehouse })
    }
}

fn text_rows(batch: &RecordBatch) -> Result<Vec<Vec<String>>, arrow::error::ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows())
        .map(|row| {
            let cell = |column: &ArrayFormatter| match column.value(row).to_string() {
                empty if empty.is_empty() => "(empty)".to_owned(),
                text => text.replace('\n', " | "),
            };
            columns.iter().map(cell).collect()
        })
        .collect())
}

#[async_trait]
impl AsyncDB for Database {
    type Error = Sentence;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Sentence> {
        let error = |e: datafusion::error::DataFusionError| Sentence(sentence(&e));
        let stream = self.session.execute(sql, Arc::new(|_| {})).await.map_err(error)?;
        let schema = stream.schema();
        let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(error)?;
        if schema.fields().is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let mut rows = vec![];
        for batch in &batches {
            rows.extend(text_rows(batch).map_err(|e| Sentence(e.to_string()))?);
        }
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; schema.fields().len()], rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "gradlake"
    }
}

fn run(path: &Path, complete: bool) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut runner = Runner::new(|| async { Database::open().await });
        if complete {
            return runner
                .update_test_file(
                    path,
                    " ",
                    default_validator,
                    default_normalizer,
                    default_column_validator,
                )
                .await
                .map_err(|e| Failed::from(e.to_string()));
        }
        runner.run_file_async(path).await.map_err(|e| Failed::from(e.display(false).to_string()))
    })
}

fn main() {
    let mut given: Vec<String> = std::env::args().collect();
    let complete = given.iter().any(|a| a == "--complete");
    given.retain(|a| a != "--complete");
    let arguments = Arguments::from_iter(given);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").is_dir();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "tests/slt has no .slt files");
    let trials = files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let skip = name.starts_with("shared_") && !shared;
            Trial::test(name, move || run(&path, complete)).with_ignored_flag(skip)
        })
        .collect();
    sqllogictest::harness::run(&arguments, trials).exit();
}
