//! What integration tests share: sessions on fresh warehouses, and tables to learn from.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use datafusion::error::Result;
use gradlake_engine::{Event, EventSink};
use gradlake_sql::{Session, SessionOptions, sentence};

/// A session on a warehouse in a folder of its own.
pub struct Database {
    pub session: Session,
    pub folder: Arc<tempfile::TempDir>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Database {
    /// A session with default options.
    pub async fn open() -> Self {
        Self::with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await
    }

    /// A session on the warehouse in `folder`, with options changed.
    pub async fn with(
        folder: Arc<tempfile::TempDir>,
        change: impl FnOnce(&mut SessionOptions),
    ) -> Self {
        let mut options = SessionOptions {
            warehouse: Some(folder.path().join("warehouse").display().to_string()),
            threads: Some(2),
            ..SessionOptions::default()
        };
        change(&mut options);
        let session = Session::open(options).await.unwrap();
        Self { session, folder, events: Arc::default() }
    }

    fn sink(&self) -> EventSink {
        let events = Arc::clone(&self.events);
        Arc::new(move |event| events.lock().unwrap().push(event))
    }

    /// The rows of a statement as one batch.
    pub async fn try_rows(&self, sql: &str) -> Result<RecordBatch> {
        let stream = self.session.execute(sql, self.sink()).await?;
        let schema = stream.schema();
        let batches = datafusion::physical_plan::common::collect(stream).await?;
        Ok(concat_batches(&schema, &batches)?)
    }

    /// The rows of a statement that must succeed.
    pub async fn rows(&self, sql: &str) -> RecordBatch {
        self.try_rows(sql).await.unwrap_or_else(|e| panic!("{sql}: {}", sentence(&e)))
    }

    /// The sentence of a statement that must fail.
    pub async fn error(&self, sql: &str) -> String {
        match self.try_rows(sql).await {
            Ok(rows) => panic!("{sql} gave {} rows", rows.num_rows()),
            Err(error) => sentence(&error),
        }
    }

    /// The one number of a statement.
    pub async fn number(&self, sql: &str) -> f64 {
        let rows = self.rows(sql).await;
        let column = arrow::compute::cast(rows.column(0), &arrow::datatypes::DataType::Float64);
        column.unwrap().as_primitive::<arrow::datatypes::Float64Type>().value(0)
    }

    /// What happened since the last call.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// Warnings since the last call.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |event| match event {
            Event::Warning(text) => Some(text),
            _ => None,
        };
        self.events().into_iter().filter_map(warning).collect()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All values of all tensors of a model, by their bits.
    pub async fn weights(&self, model: &str) -> Vec<u32> {
        let rows = self.rows(&format!("SELECT values FROM model.{model}.parameters")).await;
        let values = rows.column(0).as_list::<i32>().values().clone();
        let values = values.as_primitive::<arrow::datatypes::Float32Type>();
        values.values().iter().map(|value| value.to_bits()).collect()
    }
}

/// Writes a table of `rows` rows to learn from, as Parquet: numbers `a`, `b`, a string `c`, a group
/// `g`, a class `y` of two, a class `k` of three, a number `z`.
pub async fn write_rows(path: &Path, rows: usize) {
    let context = datafusion::prelude::SessionContext::new();
    // A linear congruence as a source of numbers that look random and are the same everywhere.
    let sql = format!(
        "COPY (
           SELECT a, b, c, g, a + 2 * b + noise > 1.5 AS y,
                  CASE WHEN a > 0.6 THEN 'high' WHEN a + b > 0.8 THEN 'mid' ELSE 'low' END AS k,
                  3 * a - b + CASE c WHEN 'red' THEN 1 WHEN 'blue' THEN -1 ELSE 0 END + noise AS z
           FROM (SELECT ((value * 7919) % 10007) / 10007.0 AS a,
                        ((value * 104729) % 10009) / 10009.0 AS b,
                        ['red', 'green', 'blue'][value % 3 + 1] AS c,
                        concat('g', value % 4) AS g,
                        ((value * 15485863) % 1009) / 1009.0 - 0.5 AS noise
                 FROM generate_series(1, {rows}) ORDER BY value)
         ) TO '{}' STORED AS PARQUET",
        path.display()
    );
    context.sql(&sql).await.unwrap().collect().await.unwrap();
}

/// The shell's binary on the warehouse in a folder.
pub fn gradlake(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gradlake"));
    command.current_dir(folder).args(["--warehouse", "warehouse", "--threads", "2"]);
    command
}

/// Moments that look random and are the same in every run.
pub struct Draws(pub u64);

impl Draws {
    /// A time below `limit`.
    pub fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        limit.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// Columns of `write_rows`, and the number of the row.
pub const COLUMNS: &str =
    "row BIGINT, a DOUBLE, b DOUBLE, c VARCHAR, g VARCHAR, y BOOLEAN, k VARCHAR, z DOUBLE";

/// Writes `files` files of `rows` rows each into `parts/`, in the order of their names.
pub async fn write_parts(database: &Database, files: usize, rows: usize) {
    let all = database.path("all.parquet");
    write_rows(&all, files * rows).await;
    let parts = database.path("parts");
    std::fs::create_dir_all(&parts).unwrap();
    database
        .rows(&format!(
            "CREATE TABLE numbered AS SELECT row_number() OVER () - 1 AS row, * FROM '{}'",
            all.display()
        ))
        .await;
    for file in 0..files {
        database
            .rows(&format!(
                "COPY (SELECT CAST(row AS BIGINT) AS row, a, b, CAST(c AS VARCHAR) AS c, \
                 CAST(g AS VARCHAR) AS g, y, CAST(k AS VARCHAR) AS k, z FROM numbered \
                 WHERE row >= {} AND row < {} ORDER BY row) \
                 TO '{}/{file:03}.parquet' STORED AS PARQUET",
                file * rows,
                (file + 1) * rows,
                parts.display()
            ))
            .await;
    }
}

/// The statement that makes an unbounded table `parts` of them.
pub fn create_parts(folder: &Path) -> String {
    format!(
        "CREATE UNBOUNDED EXTERNAL TABLE parts ({COLUMNS}) STORED AS PARQUET LOCATION '{}/' \
         OPTIONS ('end' 'when_empty', 'poll' '10 ms')",
        folder.join("parts").display()
    )
}

/// Runs statements in the shell.
pub fn run(folder: &Path, statements: &[&str]) -> Output {
    let mut command = gradlake(folder);
    command.args(["--format", "csv", "-q"]);
    for sql in statements {
        command.args(["-c", sql]);
    }
    command.output().unwrap()
}

/// Runs statements that must succeed in the shell, and returns what it prints, as CSV.
pub fn succeed(folder: &Path, statements: &[&str]) -> String {
    let output = run(folder, statements);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{statements:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many processes a test kills: `GRADLAKE_KILLS`, or a few.
pub fn kills() -> usize {
    std::env::var("GRADLAKE_KILLS").map_or(40, |kills| kills.parse().unwrap())
}
