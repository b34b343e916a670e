//! Files of streams as they are met in the field: names in any order, files that come while nobody
//! reads, that cannot be read, and paths that are no files.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.
#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{gradlake, run, succeed};

/// Writes rows `x = from..to, y = 2 x` of a type, and puts them into their place at once.
fn put(folder: &Path, name: &str, (from, to): (i64, i64), of: &str) {
    let sql = format!(
        "COPY (SELECT CAST(value AS {of}) AS x, value * 2.0 AS y FROM generate_series({from}, {})) \
         TO 'new.parquet'",
        to - 1
    );
    succeed(folder, &[&sql]);
    let place = folder.join("in").join(name);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::rename(folder.join("new.parquet"), place).unwrap();
}

const CREATE: &str = "CREATE UNBOUNDED EXTERNAL TABLE s (x DOUBLE, y DOUBLE) STORED AS PARQUET \
    LOCATION 'in/' OPTIONS ('poll' '10 ms')";
const TRAIN: &str = "TRAIN OR REPLACE MODEL m USING linear_regression TARGET y WITH (batch_size = 10, \
    publish_every = '50 rows', checkpoint_every = 0) FROM s";

/// Runs a training until a version of so many rows is published, then ends it; what it said.
fn train_until(folder: &Path, rows: usize, signal: &str) -> String {
    let said = folder.join("said");
    let mut child = gradlake(folder)
        .args(["-c", CREATE, "-c", TRAIN])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let wanted = format!(": {rows} rows, ");
    while !std::fs::read_to_string(&said).unwrap().contains(&wanted) {
        let text = || std::fs::read_to_string(&said).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "no {rows} rows: {}", text());
        assert!(child.try_wait().unwrap().is_none(), "it ended: {}", text());
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    child.wait().unwrap();
    std::fs::read_to_string(&said).unwrap()
}

#[test]
fn names_that_sort_before_what_was_read_are_learned_from_once() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    put(folder, "batch-9.parquet", (0, 50), "DOUBLE");
    train_until(folder, 50, "-9");
    // While it is down: one name before, one that cannot be read, whole numbers.
    put(folder, "batch-10.parquet", (50, 100), "DOUBLE");
    put(folder, "batch-1.parquet", (0, 50), "VARCHAR");
    let said = train_until(folder, 100, "-9");
    assert!(said.contains("resumed from the checkpoint after 50 rows"), "{said}");
    let skipped = "warning: file batch-1.parquet is skipped: it has column x as Utf8";
    assert!(said.contains(skipped), "{said}");
    put(folder, "a.parquet", (100, 150), "BIGINT");
    // What was read and has changed is reported.
    put(folder, "batch-9.parquet", (0, 60), "DOUBLE");
    let said = train_until(folder, 150, "-INT");
    assert!(said.contains("warning: file batch-9.parquet has changed since it was read"), "{said}");
    // A file that is put right is read, as are the others no more.
    put(folder, "batch-1.parquet", (150, 200), "INT");
    let said = train_until(folder, 200, "-INT");
    assert!(!said.contains("batch-1.parquet"), "{said}");
    let learned = "SELECT max(rows) FROM model.m.versions";
    assert!(succeed(folder, &[learned]).ends_with("200\n"));
    let found = succeed(folder, &["SELECT sum(rows) FROM model.m.history"]);
    assert!(found.ends_with("200\n"), "{found}");
}

/// COPY goes by its footers alone, whatever the order of names.
#[test]
fn a_copy_takes_late_files_once() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let create = CREATE.replace("'poll'", "'end' 'when_empty', 'poll'");
    let copy = "COPY (SELECT x, lag(x) OVER () AS before FROM s) TO 'out/' STORED AS PARQUET \
                OPTIONS ('commit_every' '20 rows')";
    let mut expected = vec![];
    for (name, from) in [("m", 0), ("z", 30), ("b", 60), ("a", 90)] {
        put(folder, &format!("{name}.parquet"), (from, from + 30), "DOUBLE");
        for place in ["copy-before-file:0", "copy-after-file:1"] {
            let output = gradlake(folder)
                .args(["-q", "-c", &create, "-c", copy])
                .env(gradlake_engine::failpoints::VARIABLE, place)
                .output()
                .unwrap();
            assert!(output.status.code().is_none() || place.ends_with(":1"), "{place}");
        }
        succeed(folder, &[&create, copy]);
        expected.extend((from..from + 30).map(|x| {
            let before = if x == 0 { String::new() } else { format!("{}.0", x - 1) };
            format!("{x}.0,{before}")
        }));
    }
    let sql = "SELECT * FROM 'out/' ORDER BY x";
    let found = succeed(folder, &[sql]);
    assert_eq!(found.lines().skip(1).collect::<Vec<_>>(), expected);
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// A FIFO is refused wherever a file is named, without being opened: its rows are still there.
#[test]
fn a_fifo_is_no_file() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    assert!(Command::new("mkfifo").arg(path(folder, "f.csv")).status().unwrap().success());
    let refused = |sql: &str| {
        let output = run(folder, &[sql]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{sql}: {text}");
        let expected = "f.csv is a FIFO, whose bytes come once; CREATE UNBOUNDED EXTERNAL TABLE t (x \
                        DOUBLE, ...) STORED AS CSV LOCATION 'f.csv' reads it";
        assert!(text.contains(expected), "{sql}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    };
    put(folder, "a.parquet", (0, 20), "DOUBLE");
    succeed(folder, &["TRAIN MODEL m USING linear_regression TARGET y FROM 'in/a.parquet'"]);
    for sql in [
        "SELECT * FROM 'f.csv'",
        "SELECT (SELECT max(x) FROM 'f.csv') FROM 'in/a.parquet'",
        "EXPLAIN SELECT * FROM 'f.csv'",
        "COPY (SELECT * FROM 'f.csv') TO 'out.parquet'",
        "TRAIN MODEL n USING linear_regression TARGET y FROM 'f.csv'",
        "TRAIN MODEL n USING linear_regression TARGET y AS SELECT * FROM 'f.csv' WHERE x > 1",
        "PREDICT MODEL m FROM 'f.csv'",
        "SELECT * FROM (PREDICT MODEL m FROM 'f.csv') AS p",
        "EVALUATE MODEL m FROM 'f.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'f.csv'",
        "CREATE EXTERNAL TABLE t (x DOUBLE, y DOUBLE) STORED AS CSV LOCATION 'f.csv'",
    ] {
        refused(sql);
    }
    // Substitutions of the shell, and standard input.
    let binary = env!("CARGO_BIN_EXE_gradlake");
    for place in ["/dev/fd/3", "/dev/stdin"] {
        let script = format!("echo x | {binary} -q -c \"SELECT * FROM '{place}'\" 3< <(echo x)");
        let output =
            Command::new("bash").current_dir(folder).args(["-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(" is a FIFO, whose bytes come once"), "{place}: {text}");
    }
    // Of its own name a table is found before the path, and its rows come.
    let writer = std::thread::spawn({
        let fifo = path(folder, "f.csv");
        move || std::fs::write(fifo, "y,x\n1,2\n3,4\n").unwrap()
    });
    let create = "CREATE UNBOUNDED EXTERNAL TABLE \"f.csv\" (x DOUBLE, y DOUBLE) STORED AS CSV \
                  LOCATION 'f.csv'";
    assert_eq!(succeed(folder, &[create, "SELECT * FROM \"f.csv\""]), "x,y\n2.0,1.0\n4.0,3.0\n");
    writer.join().unwrap();
}
