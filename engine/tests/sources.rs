//! Unbounded tables as users meet them: statements, producers who come, go and misbehave, folders
//! that fill up while they are read.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use gradlake_engine::{Cursor, Engine, EngineOptions, Lag, Ledger, Report, SourceTable};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// Beyond this a condition counts as never met.
const PATIENCE: Duration = Duration::from_secs(30);

/// An engine and a folder of its own.
struct Lake {
    folder: tempfile::TempDir,
    engine: Engine,
}

impl Lake {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = folder.path().join("warehouse").display().to_string();
        let options =
            EngineOptions { warehouse: Some(warehouse), threads: Some(2), ..Default::default() };
        Self { folder, engine: Engine::open(options).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, sql: &str) -> datafusion::common::Result<()> {
        self.engine.context().sql(sql).await?.collect().await.map(|_| ())
    }

    /// Creates table `t (x BIGINT, s VARCHAR)`.
    async fn create(&self, format: &str, location: &str, options: &str) {
        let sql = format!(
            "CREATE OR REPLACE UNBOUNDED EXTERNAL TABLE t (x BIGINT, s VARCHAR) STORED AS {format} \
             LOCATION '{location}' {options}"
        );
        if let Err(error) = self.run(&sql).await {
            panic!("{sql}: {error}");
        }
    }

    async fn refusal(&self, sql: &str) -> String {
        match self.run(sql).await {
            Ok(()) => panic!("{sql} is not refused"),
            Err(error) => error.strip_backtrace().to_string(),
        }
    }

    async fn select(&self, sql: &str) -> SendableRecordBatchStream {
        self.engine.context().sql(sql).await.unwrap().execute_stream().await.unwrap()
    }

    async fn table(&self) -> SourceTable {
        let table = self.engine.context().table_provider("t").await.unwrap();
        table.downcast_ref::<SourceTable>().unwrap().clone()
    }

    /// What was rejected, as SQL tells it: source, line, text, error, total.
    async fn rejected(&self) -> Vec<String> {
        let sql = "SELECT source, line, text, error, total FROM rejected('t')";
        let batches = self.engine.context().sql(sql).await.unwrap().collect().await.unwrap();
        let cell = |batch: &RecordBatch, column: usize, row: usize| {
            let column = batch.column(column);
            match column.is_null(row) {
                true => "NULL".to_owned(),
                false => {
                    datafusion::arrow::util::display::array_value_to_string(column, row).unwrap()
                }
            }
        };
        let rows = batches.iter().flat_map(|batch| {
            (0..batch.num_rows()).map(move |row| {
                let cells: Vec<_> = (0..5).map(|column| cell(batch, column, row)).collect();
                cells.join("|")
            })
        });
        rows.collect()
    }

    async fn report(&self) -> Arc<Report> {
        self.table().await.source().report()
    }
}

/// The values of the first column, in order of arrival, up to the end of the input.
async fn rest(stream: &mut SendableRecordBatchStream) -> Vec<i64> {
    let mut values = vec![];
    while let Some(batch) = stream.next().await {
        values.extend(first_column(&batch.unwrap()));
    }
    values
}

/// The values of the first column until there are `count`.
async fn some(stream: &mut SendableRecordBatchStream, count: usize) -> Vec<i64> {
    let mut values = vec![];
    while values.len() < count {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        values.extend(first_column(&next.expect("rows in time").expect("rows").unwrap()));
    }
    values
}

fn first_column(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Warnings, once there are `count`.
async fn warnings(report: &Report, count: usize) -> Vec<String> {
    let mut all = vec![];
    wait_for("a warning", || {
        all.extend(report.take_warnings());
        all.len() >= count
    })
    .await;
    all
}

fn connect(path: &Path) -> UnixStream {
    let began = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) if began.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn connect_tcp(port: u16) -> TcpStream {
    let began = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) if began.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn batch(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let values: Vec<i64> = values.into_iter().collect();
    let names: Vec<_> = values.iter().map(|value| format!("s{value}")).collect();
    let x: ArrayRef = Arc::new(Int64Array::from(values));
    let s: ArrayRef = Arc::new(StringArray::from(names));
    RecordBatch::try_from_iter([("x", x), ("s", s)]).unwrap()
}

fn ipc(batches: &[RecordBatch]) -> Vec<u8> {
    let mut bytes = vec![];
    let mut writer = StreamWriter::try_new(&mut bytes, &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn parquet(batch: &RecordBatch, group_rows: usize) -> Vec<u8> {
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut bytes = vec![];
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// Puts a file into its place at once, as a careful writer does.
fn put(path: &Path, bytes: &[u8]) {
    let partial = path.with_extension("tmp");
    std::fs::write(&partial, bytes).unwrap();
    std::fs::rename(partial, path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_producers_over_tcp() {
    let lake = Lake::new();
    let port = free_port();
    lake.create("JSON", &format!("tcp://127.0.0.1:{port}"), "OPTIONS ('producers' '3')").await;
    let mut stream = lake.select("SELECT x FROM t WHERE s = 'keep'").await;
    let producers: Vec<_> = (0..3)
        .map(|producer| {
            std::thread::spawn(move || {
                let mut socket = connect_tcp(port);
                for i in 0..1000 {
                    let (x, s) = (producer * 1000 + i, if i % 2 == 0 { "keep" } else { "drop" });
                    writeln!(socket, "{{\"x\": {x}, \"s\": \"{s}\"}}").unwrap();
                }
            })
        })
        .collect();
    let values = rest(&mut stream).await;
    for producer in producers {
        producer.join().unwrap();
    }
    let expected: BTreeSet<i64> = (0..3000).filter(|i| i % 2 == 0).collect();
    assert_eq!(values.len(), expected.len());
    assert_eq!(values.iter().copied().collect::<BTreeSet<_>>(), expected);
    // Rows of one producer keep their order.
    for producer in 0..3 {
        let own: Vec<_> = values.iter().filter(|value| *value / 1000 == producer).collect();
        assert!(own.is_sorted());
    }
    let report = lake.report().await;
    assert_eq!((report.connected(), report.dropped(), report.rows()), (3, 0, 3000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_sends_rubbish_or_half_a_message_is_dropped_alone() {
    let lake = Lake::new();
    let path = lake.path("x.sock");
    let location = format!("unix://{}", path.display());
    lake.create("ARROW", &location, "OPTIONS ('producers' '5')").await;
    let mut stream = lake.select("SELECT x FROM t").await;
    let first = tokio::spawn(async move {
        let values = rest(&mut stream).await;
        values.into_iter().collect::<BTreeSet<_>>()
    });
    let report = lake.report().await;
    let good = ipc(&[batch(0..10), batch(10..20)]);
    let one = ipc(&[batch(0..10)]).len() - 8;
    let mut steady = connect(&path);
    steady.write_all(&good[..one]).unwrap();
    wait_for("a producer", || report.connected() == 1).await;

    connect(&path).write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    wait_for("the drop", || report.dropped() == 1).await;
    let mut truncated = connect(&path);
    truncated.write_all(&ipc(&[batch(100..110), batch(110..120)])[..one + 50]).unwrap();
    drop(truncated);
    wait_for("the drop", || report.dropped() == 2).await;
    let other: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    let other = RecordBatch::try_from_iter([("x", Arc::clone(&other)), ("s", other)]).unwrap();
    connect(&path).write_all(&ipc(&[other])).unwrap();
    wait_for("the drop", || report.dropped() == 3).await;

    // Somebody who only looks whether the socket is alive is no producer.
    drop(connect(&path));
    steady.write_all(&good[one..]).unwrap();
    drop(steady);
    connect(&path).write_all(&ipc(&[batch(200..201)])).unwrap();
    let values = tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap();
    assert_eq!(values, (0..20).chain(100..110).chain([200]).collect());
    assert_eq!((report.connected(), report.dropped()), (5, 3));
    let warnings = warnings(&report, 3).await;
    for (warning, part) in warnings.iter().zip([
        "was dropped: it sent bytes that are no message of an Arrow IPC stream",
        "was dropped: it ended in the middle of a message, 50 bytes into it",
        "was dropped: it has column x as Float64, whose values Int64, the type of the table's \
         column, does not hold in full",
    ]) {
        assert!(warning.starts_with("producer ") && warning.contains(part), "{warning}");
    }
    assert!(!path.exists(), "the socket goes with the query");
    let rejected = lake.rejected().await;
    assert_eq!(rejected.len(), 3);
    for (line, part) in rejected.iter().zip(["no message", "in the middle", "as Float64"]) {
        assert!(line.starts_with("producer ") && line.contains(part), "{line}");
        assert!(line.contains("|NULL|NULL|it ") && line.ends_with("|3"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_line_is_skipped_counted_and_kept() {
    let lake = Lake::new();
    let path = lake.path("x.sock");
    let location = format!("unix://{}", path.display());
    lake.create("CSV", &location, "OPTIONS (has_header false, producers 1)").await;
    let mut stream = lake.select("SELECT x FROM t").await;
    let reading = tokio::spawn(async move { rest(&mut stream).await });
    connect(&path).write_all(b"1,a\ntwo,b\n3\n4,d\n5").unwrap();
    assert_eq!(reading.await.unwrap(), [1, 4]);
    let report = lake.report().await;
    assert_eq!(report.rejected(), 3);
    let lines = report.first_rejected();
    let numbered: Vec<_> = lines.iter().map(|l| (l.number, l.line.as_deref())).collect();
    assert_eq!(numbered, [(Some(2), Some("two,b")), (Some(3), Some("3")), (Some(5), Some("5"))]);
    assert_eq!(lines[1].reason, "incorrect number of fields, expected 2 got 1");
    assert_eq!(lines[0].producer, "producer 1");
}

/// Each producer of CSV has its own header, or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_of_csv_name_their_columns() {
    let lake = Lake::new();
    let path = lake.path("x.sock");
    let location = format!("unix://{}", path.display());
    lake.create("CSV", &location, "OPTIONS (producers 4)").await;
    let mut stream = lake.select("SELECT x FROM t WHERE s IS NOT NULL").await;
    let reading = tokio::spawn(async move { rest(&mut stream).await });
    let report = lake.report().await;
    for (count, lines) in
        ["x,s\n1,a\n", "more,s,X\n,b,2\n", "s,y\nc,3\n", "4,d\n5,e"].iter().enumerate()
    {
        connect(&path).write_all(lines.as_bytes()).unwrap();
        wait_for("a producer", || report.connected() == count as u64 + 1).await;
    }
    let values = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), (1..6).filter(|x| *x != 3).collect());
    assert_eq!(
        report.take_warnings(),
        ["producer 3 was dropped: it has a header, s, y, without x, which the table has; OPTIONS \
          ('has_header' 'false') says that there is no header"]
    );
    assert_eq!(report.rejected(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_makes_producers_wait() {
    let lake = Lake::new();
    let path = lake.path("x.sock");
    let location = format!("unix://{}", path.display());
    lake.create("JSON", &location, "OPTIONS ('producers' '2')").await;
    let mut stream = lake.select("SELECT x FROM t").await;
    let lines: String =
        (0..1000).map(|i| format!("{{\"x\": {i}, \"s\": \"{i:0200}\"}}\n")).collect();
    let sent = Arc::new(AtomicU64::new(0));
    let (lines, rounds) = (Arc::new(lines), 200);
    let producers: Vec<_> = (0..2)
        .map(|_| {
            let (path, lines, sent) = (path.clone(), Arc::clone(&lines), Arc::clone(&sent));
            std::thread::spawn(move || {
                let mut socket = connect(&path);
                for _ in 0..rounds {
                    for bytes in lines.as_bytes().chunks(16 * 1024) {
                        socket.write_all(bytes).unwrap();
                        sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    let mut rows = some(&mut stream, 1).await.len();
    // Nobody reads now: after a while nothing more is sent.
    let (mut before, mut still) = (0, 0);
    wait_for("a pause of the producers", || {
        let now = sent.load(Ordering::SeqCst);
        still = if now == before { still + 1 } else { 0 };
        before = now;
        still > 100
    })
    .await;
    let total = 2 * rounds * lines.len() as u64;
    assert!(before < 24 << 20, "{before} of {total} bytes are in flight");
    assert!(total > 80 << 20);
    rows += rest(&mut stream).await.len();
    assert_eq!(rows as u64, 2 * rounds * 1000);
    for producer in producers {
        producer.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_ends_lets_go_of_its_socket() {
    let lake = Lake::new();
    let port = free_port();
    lake.create("JSON", &format!("tcp://localhost:{port}"), "").await;
    for round in 0..3 {
        let stream = lake.select("SELECT x + 0 AS x FROM t LIMIT 5").await;
        let reading = tokio::spawn(async move {
            let mut stream = stream;
            rest(&mut stream).await
        });
        let producer = std::thread::spawn(move || {
            let mut socket = connect_tcp(port);
            // It goes on until it is disconnected.
            while writeln!(socket, "{{\"x\": {round}}}").is_ok() {}
        });
        let values = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
        assert_eq!(values, [round; 5]);
        producer.join().unwrap();
    }
    // Two at once cannot listen.
    let mut one = lake.select("SELECT x FROM t").await;
    let one = tokio::spawn(async move { one.next().await.is_some() });
    drop(connect_tcp(port));
    let mut two = lake.select("SELECT x FROM t").await;
    let error = two.next().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("is in use by another query or program"), "{error}");
    one.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_pass_a_filter_come_at_once() {
    let lake = Lake::new();
    let path = lake.path("x.sock");
    lake.create("JSON", &format!("unix://{}", path.display()), "").await;
    let sql = "SELECT 2 * x AS x FROM t WHERE s LIKE '%k%'";
    let mut stream = lake.select(sql).await;
    let reading = tokio::spawn(async move { (some(&mut stream, 1).await, stream) });
    let mut socket = connect(&path);
    socket.write_all(b"{\"x\": 3, \"s\": \"drop\"}\n{\"x\": 4, \"s\": \"keep\"}\n").unwrap();
    let (values, mut stream) = reading.await.unwrap();
    assert_eq!(values, [8]);
    socket.write_all(b"{\"x\": 5, \"s\": \"keep\"}\n").unwrap();
    assert_eq!(some(&mut stream, 1).await, [10]);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_no_other_file() {
    let lake = Lake::new();
    let path = lake.path("x.sock");
    let location = format!("unix://{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    lake.create("JSON", &location, "OPTIONS (producers 1)").await;
    let mut stream = lake.select("SELECT x FROM t").await;
    let producer = std::thread::spawn({
        let path = path.clone();
        move || connect(&path).write_all(b"{\"x\": 1}\n").unwrap()
    });
    assert_eq!(rest(&mut stream).await, [1]);
    producer.join().unwrap();

    let alive = UnixListener::bind(&path).unwrap();
    let error = lake.select("SELECT x FROM t").await.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("is in use by another query or program"), "{error}");
    drop(alive);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let error = lake.select("SELECT x FROM t").await.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("which is no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_ends_when_its_writers_have_closed_it() {
    let lake = Lake::new();
    let path = lake.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    lake.create("ARROW", path.to_str().unwrap(), "").await;
    let write = |bytes: Vec<u8>| {
        let path = path.clone();
        std::thread::spawn(move || {
            let mut fifo = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            // A reader that has enough closes it before all is written.
            let _ = fifo.write_all(&bytes);
        })
    };
    for round in 0..3 {
        let mut stream = lake.select("SELECT x FROM t").await;
        let bytes = [ipc(&[batch(0..1000)]), ipc(&[batch(1000..1000 + round)])].concat();
        let writer = write(bytes);
        assert_eq!(rest(&mut stream).await, (0..1000 + round).collect::<Vec<_>>());
        writer.join().unwrap();
    }
    // A query that has enough ends, though the writer goes on.
    let mut stream = lake.select("SELECT x FROM t LIMIT 3").await;
    let writer = write(ipc(&vec![batch(0..10_000); 50]));
    assert_eq!(rest(&mut stream).await, [0, 1, 2]);
    drop(stream);
    writer.join().unwrap();

    // Half a message: the rows before it, then an error.
    let mut stream = lake.select("SELECT x FROM t").await;
    let bytes = ipc(&[batch(0..10), batch(10..20)]);
    let writer = write(bytes[..bytes.len() - 20].to_vec());
    assert_eq!(first_column(&stream.next().await.unwrap().unwrap()), (0..10).collect::<Vec<_>>());
    let error = stream.next().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("ended in the middle of a message"), "{error}");
    writer.join().unwrap();
}

#[tokio::test]
async fn files_of_a_folder_are_read_once_in_the_order_of_names() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    put(&folder.join("b.parquet"), &parquet(&batch(10..20), 3));
    put(&folder.join("a.parquet"), &parquet(&batch(0..10), 4));
    put(&folder.join("_hidden.parquet"), b"no");
    put(&folder.join("notes.txt"), b"no");
    lake.create("PARQUET", folder.to_str().unwrap(), "OPTIONS (poll '2 ms')").await;
    let mut stream = lake.select("SELECT x FROM t").await;
    assert_eq!(some(&mut stream, 20).await, (0..20).collect::<Vec<_>>());
    put(&folder.join("c.parquet"), &parquet(&batch(20..30), 100));
    assert_eq!(some(&mut stream, 10).await, (20..30).collect::<Vec<_>>());

    // A name that sorts before what is read is one like others.
    put(&folder.join("aa.parquet"), &parquet(&batch(900..910), 100));
    assert_eq!(some(&mut stream, 10).await, (900..910).collect::<Vec<_>>());
    put(&folder.join("d.parquet"), &parquet(&batch(30..35), 100));
    assert_eq!(some(&mut stream, 5).await, (30..35).collect::<Vec<_>>());
    let report = lake.report().await;
    assert_eq!(report.lag(), Some(Lag::Files(0)));
    assert!(report.take_warnings().is_empty());
}

/// Names that come in any order, runs that stop at any row, and windows that look back: every row
/// has one ordinal for ever, and every file is read once.
#[tokio::test]
async fn every_row_comes_once_whenever_its_file_comes() {
    let mut seed = 1u64;
    let mut draw = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for reach in [0, 1, 7, 1000] {
        let lake = Lake::new();
        let folder = lake.path("in");
        std::fs::create_dir(&folder).unwrap();
        let options = "OPTIONS (poll '1 ms', \"end\" 'when_empty')";
        lake.create("PARQUET", folder.to_str().unwrap(), options).await;
        let table = lake.table().await;
        let context = lake.engine.context();
        let (mut made, mut files) = (0i64, 0);
        let mut seen: Vec<i64> = vec![];
        let (mut consumed, mut saved) = (0u64, (0u64, "[]".to_owned()));
        for run in 0..40 {
            for _ in 0..draw(4) {
                let rows = 1 + draw(12) as i64;
                let name = format!("{:02}-{files}.parquet", draw(50));
                put(&folder.join(name), &parquet(&batch(made..made + rows), 5));
                (made, files) = (made + rows, files + 1);
            }
            // A checkpoint is text.
            let cursors: Vec<Cursor> = serde_json::from_str(&saved.1).unwrap();
            let ledger = Arc::new(Ledger::new(saved.0, cursors.clone()));
            let from = (!cursors.is_empty()).then_some(cursors);
            let _ = context.deregister_table("n");
            context.register_table("n", table.numbered(Arc::clone(&ledger), from)).unwrap();
            let mut stream = lake.select("SELECT __gradlake_row, x FROM n").await;
            let mut batches = if run == 39 { u64::MAX } else { draw(4) };
            while batches > 0
                && let Some(batch) = stream.next().await
            {
                batches -= 1;
                let batch = batch.unwrap();
                let row =
                    batch.column(0).as_primitive::<datafusion::arrow::datatypes::UInt64Type>();
                let x = batch.column(1).as_primitive::<Int64Type>();
                // Rows of the last batch are not all consumed.
                let take = batch.num_rows() - if batches == 0 { draw(2) as usize } else { 0 };
                for (row, x) in row.values().iter().zip(x.values()).take(take) {
                    match seen.get(*row as usize) {
                        Some(known) => assert_eq!(known, x, "run {run}, row {row}"),
                        None => {
                            assert_eq!(*row, seen.len() as u64, "run {run}");
                            seen.push(*x);
                        }
                    }
                }
                consumed = seen.len() as u64;
                let from = consumed.saturating_sub(reach);
                let cursors = ledger.cursors_between(from, consumed);
                saved = (from, serde_json::to_string(&cursors).unwrap());
                if draw(2) == 0 {
                    ledger.forget_before(from);
                }
            }
        }
        assert_eq!(consumed, made as u64);
        seen.sort_unstable();
        assert_eq!(seen, (0..made).collect::<Vec<_>>(), "reach {reach}");
    }
}

/// Rows that were consumed and cannot be read again leave their ordinals free.
#[tokio::test]
async fn files_that_are_gone_or_replaced_take_no_row_of_others() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    for (name, rows) in [("b", 0..10), ("c", 10..20), ("d", 20..30)] {
        put(&folder.join(format!("{name}.parquet")), &parquet(&batch(rows), 4));
    }
    let options = "OPTIONS (poll '1 ms', \"end\" 'when_empty')";
    lake.create("PARQUET", folder.to_str().unwrap(), options).await;
    let table = lake.table().await;
    let context = lake.engine.context();
    let ledger = Arc::new(Ledger::new(0, vec![]));
    context.register_table("n", table.numbered(Arc::clone(&ledger), None)).unwrap();
    assert_eq!(rest(&mut lake.select("SELECT x FROM n").await).await, (0..30).collect::<Vec<_>>());
    // 25 rows are consumed, and windows look back to row 5.
    let text = serde_json::to_string(&ledger.cursors_between(5, 25)).unwrap();
    let again = async |lake: &Lake| {
        let from: Vec<Cursor> = serde_json::from_str(&text).unwrap();
        let ledger = Arc::new(Ledger::new(5, from.clone()));
        context.deregister_table("n").unwrap();
        context.register_table("n", table.numbered(Arc::clone(&ledger), Some(from))).unwrap();
        let mut stream = lake.select("SELECT __gradlake_row, x FROM n").await;
        let mut rows = vec![];
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            let row = batch.column(0).as_primitive::<datafusion::arrow::datatypes::UInt64Type>();
            rows.extend(
                row.values()
                    .iter()
                    .map(|row| *row as i64)
                    .zip(first_column(&batch.project(&[1]).unwrap())),
            );
        }
        rows
    };
    let same = |rows: std::ops::Range<i64>| rows.map(|row| (row, row));
    assert_eq!(again(&lake).await, same(5..30).collect::<Vec<_>>());
    let report = lake.report().await;
    assert!(report.take_warnings().is_empty());

    // A name before all others comes after them.
    put(&folder.join("a.parquet"), &parquet(&batch(30..33), 4));
    assert_eq!(again(&lake).await, same(5..33).collect::<Vec<_>>());

    std::fs::remove_file(folder.join("c.parquet")).unwrap();
    let without_c: Vec<_> = same(5..10).chain(same(20..33)).collect();
    assert_eq!(again(&lake).await, without_c);
    let gone = report.take_warnings();
    assert_eq!(
        gone,
        [
            "file c.parquet is gone, in which reading stopped after row 10; it goes on with the files \
          after it"
        ]
    );
    put(&folder.join("b.parquet"), &parquet(&batch(500..550), 4));
    assert_eq!(again(&lake).await, same(20..33).collect::<Vec<_>>());
    let other = &report.take_warnings()[0];
    let part = "file b.parquet is not what it was when reading stopped after row 10 of it";
    assert!(other.starts_with(part), "{other}");
}

#[tokio::test]
async fn a_file_that_changes_after_it_was_read_is_told_and_not_read_again() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    put(&folder.join("a.parquet"), &parquet(&batch(0..5), 10));
    lake.create("PARQUET", folder.to_str().unwrap(), "OPTIONS (poll '2 ms')").await;
    let table = lake.table().await;
    let report = lake.report().await;
    let ledger = Arc::new(Ledger::new(0, vec![]));
    let context = lake.engine.context();
    context.register_table("n", table.numbered(Arc::clone(&ledger), None)).unwrap();
    let mut stream = lake.select("SELECT x FROM n").await;
    assert_eq!(some(&mut stream, 5).await, (0..5).collect::<Vec<_>>());
    put(&folder.join("a.parquet"), &parquet(&batch(0..9), 10));
    let mut next = Box::pin(some(&mut stream, 3));
    let changed = tokio::select! {
        _ = &mut next => panic!("a file is read twice"),
        changed = warnings(&report, 1) => changed,
    };
    let told = "file a.parquet has changed since it was read and is not read again; rows that are new \
                belong into a new file";
    assert_eq!(changed, [told]);
    put(&folder.join("b.parquet"), &parquet(&batch(9..12), 10));
    assert_eq!(next.await, [9, 10, 11]);
    assert!(report.take_warnings().is_empty(), "it is told once");
    let rejected = lake.rejected().await;
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].starts_with("file a.parquet|NULL|NULL|has changed since"), "{rejected:?}");
    drop(stream);

    // A run after this one tells it again, and goes on with what is new.
    let from = ledger.cursors_at(8);
    assert!(serde_json::to_string(&from).unwrap().len() < 150);
    put(&folder.join("Z.parquet"), &parquet(&batch(12..14), 10));
    let mut reader = table.source().open(0, Some(&from[0])).await.unwrap();
    assert_eq!(first_column(&reader.next().await.unwrap().unwrap().batch), [12, 13]);
    assert_eq!(report.take_warnings(), [told]);
}

/// Checkpoints of versions that went by the order of names go on with the file that they name.
#[tokio::test]
async fn a_cursor_without_files_goes_by_names() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    for (name, rows) in [("a", 0..10), ("b", 10..20), ("c", 20..30)] {
        put(&folder.join(format!("{name}.parquet")), &parquet(&batch(rows), 4));
    }
    let options = "OPTIONS (poll '1 ms', \"end\" 'when_empty')";
    lake.create("PARQUET", folder.to_str().unwrap(), options).await;
    let table = lake.table().await;
    let from: Cursor = serde_json::from_str("{\"place\":\"b.parquet\",\"row\":7}").unwrap();
    let mut reader = table.source().open(0, Some(&from)).await.unwrap();
    let (mut values, mut last) = (vec![], None);
    while let Some(rows) = reader.next().await.unwrap() {
        values.extend(first_column(&rows.batch));
        last = Some(rows.first);
    }
    assert_eq!(values, (17..30).collect::<Vec<_>>());
    let warnings = table.source().report().take_warnings();
    assert!(
        warnings[0].contains("those that sort before b.parquet, 1 of them, count as read"),
        "{warnings:?}"
    );
    // From now on files are known.
    put(&folder.join("aa.parquet"), &parquet(&batch(40..42), 4));
    let mut reader = table.source().open(0, last.as_ref()).await.unwrap();
    let mut values = vec![];
    while let Some(rows) = reader.next().await.unwrap() {
        values.extend(first_column(&rows.batch));
    }
    assert_eq!(values, [28, 29, 40, 41]);
    assert!(table.source().report().take_warnings().is_empty());
}

#[tokio::test]
async fn a_half_written_file_and_those_after_it_are_waited_for() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    let whole = parquet(&batch(0..100), 10);
    let half = folder.join("a.parquet");
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    put(&folder.join("b.parquet"), &parquet(&batch(100..110), 10));
    let options = "OPTIONS (poll '2 ms', settle '1 hour')";
    lake.create("PARQUET", folder.to_str().unwrap(), options).await;
    let mut stream = lake.select("SELECT x FROM t").await;
    let report = lake.report().await;
    let mut rows = Box::pin(some(&mut stream, 110));
    tokio::select! {
        _ = &mut rows => panic!("a half-written file is read"),
        () = wait_for("a listing", || report.lag() == Some(Lag::Files(2))) => {}
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(&half).unwrap();
    // The magic alone makes no footer.
    file.write_all(b"PAR1").unwrap();
    drop(file);
    tokio::select! {
        _ = &mut rows => panic!("a half-written file is read"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    std::fs::write(&half, &whole).unwrap();
    assert_eq!(rows.await, (0..110).collect::<Vec<_>>());
    assert!(report.take_warnings().is_empty());
}

#[tokio::test]
async fn a_file_that_stays_broken_or_vanishes_is_skipped_with_a_warning() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    put(&folder.join("a.parquet"), b"PAR1 and no more PAR1");
    put(&folder.join("b.parquet"), &parquet(&batch(0..10), 10));
    let options = "OPTIONS (poll '2 ms', settle '50 ms', \"end\" 'when_empty')";
    lake.create("PARQUET", folder.to_str().unwrap(), options).await;
    assert_eq!(rest(&mut lake.select("SELECT x FROM t").await).await, (0..10).collect::<Vec<_>>());
    let report = lake.report().await;
    let broken = report.take_warnings();
    assert!(broken[0].starts_with("file a.parquet is skipped: it is no whole"), "{broken:?}");
    assert!(broken[0].contains("has not changed for 50ms"), "{broken:?}");
    let rejected = lake.rejected().await;
    assert_eq!(rejected.len(), 1);
    assert!(
        rejected[0].starts_with("file a.parquet|NULL|NULL|is skipped: it is no"),
        "{rejected:?}"
    );

    let options = "OPTIONS (poll '2 ms', settle '1 hour')";
    lake.create("PARQUET", folder.to_str().unwrap(), options).await;
    let mut stream = lake.select("SELECT x FROM t").await;
    let report = lake.report().await;
    let mut rows = Box::pin(some(&mut stream, 10));
    tokio::select! {
        _ = &mut rows => panic!("a broken file is read"),
        () = wait_for("a listing", || report.lag() == Some(Lag::Files(2))) => {}
    }
    std::fs::remove_file(folder.join("a.parquet")).unwrap();
    assert_eq!(rows.await, (0..10).collect::<Vec<_>>());
    assert_eq!(
        report.take_warnings(),
        ["file a.parquet vanished before it was read and is skipped"]
    );
    assert_eq!(
        lake.rejected().await,
        ["file a.parquet|NULL|NULL|vanished before it was read and is skipped|1"]
    );
}

#[tokio::test]
async fn a_folder_goes_on_at_a_cursor() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        let start = 10_000 * index as i64;
        let bytes = parquet(&batch(start..start + 10_000), 3000);
        put(&folder.join(format!("{name}.parquet")), &bytes);
    }
    lake.create("PARQUET", folder.to_str().unwrap(), "OPTIONS (\"end\" 'when_empty')").await;
    let table = lake.table().await;
    assert!(table.source().is_replayable());
    for (place, row) in
        [("", 0), ("a.parquet", 1), ("a.parquet", 10_000), ("b.parquet", 4567), ("c.parquet", 3000)]
    {
        let from = Cursor::new(place, row);
        let mut reader = table.source().open(0, Some(&from)).await.unwrap();
        let file = ["", "a.parquet", "b.parquet", "c.parquet"].iter().position(|n| *n == place);
        let mut expected = 10_000 * file.unwrap().saturating_sub(1) as i64 + row as i64;
        while let Some(rows) = reader.next().await.unwrap() {
            for (index, value) in first_column(&rows.batch).into_iter().enumerate() {
                assert_eq!(value, expected, "from {from}");
                let at = rows.first.after(index as u64);
                let name = ["a", "b", "c"][(value / 10_000) as usize];
                assert_eq!(at.to_string(), format!("row {} of {name}.parquet", value % 10_000));
                expected += 1;
            }
        }
        assert_eq!(expected, 30_000, "from {from}");
    }
    // A file of fewer rows is another one.
    let beyond = Cursor::new("b.parquet", 10_001);
    let rows = table.source().open(0, Some(&beyond)).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(first_column(&rows.batch)[0], 20_000);
    let other = table.source().report().take_warnings().concat();
    let part = "file b.parquet is not what it was when reading stopped after row 10001 of it";
    assert!(other.contains(part), "{other}");

    std::fs::remove_file(folder.join("b.parquet")).unwrap();
    let from = Cursor::new("b.parquet", 9000);
    let rows = table.source().open(0, Some(&from)).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(first_column(&rows.batch)[0], 20_000);
    let gone = table.source().report().take_warnings().concat();
    assert!(gone.contains("file b.parquet is gone, in which reading stopped"), "{gone}");
}

#[tokio::test]
async fn the_ledger_finds_the_cursor_of_any_row() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    put(&folder.join("a.parquet"), &parquet(&batch(0..20_000), 7000));
    put(&folder.join("b.parquet"), &parquet(&batch(20_000..21_000), 1000));
    lake.create("PARQUET", folder.to_str().unwrap(), "OPTIONS (\"end\" 'when_empty')").await;
    let table = lake.table().await;
    let ledger = Arc::new(Ledger::new(0, vec![Cursor::default()]));
    let context = lake.engine.context();
    context.register_table("n", table.numbered(Arc::clone(&ledger), None)).unwrap();
    let sql = "SELECT __gradlake_row, x FROM n WHERE x % 3 <> 0";
    let mut stream = lake.select(sql).await;
    let mut numbers = vec![];
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap();
        let number = batch.column(0).as_primitive::<datafusion::arrow::datatypes::UInt64Type>();
        let x = batch.column(1).as_primitive::<Int64Type>();
        numbers.extend(number.values().iter().copied().zip(x.values().iter().copied()));
    }
    assert_eq!(numbers.len(), 14_000);
    assert!(numbers.iter().all(|(number, x)| *number == *x as u64));
    assert_eq!(ledger.next(), 21_000);
    // Going on at any ordinal gives the rows from it on, with the same ordinals.
    for ordinal in [1, 8192, 12_345, 19_999, 20_000, 20_001, 20_999] {
        let from = ledger.cursors_at(ordinal);
        let again = Arc::new(Ledger::new(ordinal, from.clone()));
        context.deregister_table("n").unwrap();
        context.register_table("n", table.numbered(again, Some(from))).unwrap();
        let mut stream = lake.select(sql).await;
        let batch = stream.next().await.unwrap().unwrap();
        let number = batch.column(0).as_primitive::<datafusion::arrow::datatypes::UInt64Type>();
        let expected = numbers.iter().find(|(number, _)| *number >= ordinal).unwrap();
        let x = batch.column(1).as_primitive::<Int64Type>();
        assert_eq!((number.value(0), x.value(0)), *expected, "{ordinal}");
    }
}

#[tokio::test]
async fn files_of_other_columns() {
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    let more: ArrayRef = Arc::new(StringArray::from(vec!["more"]));
    let narrow = RecordBatch::try_from_iter([("more", more), ("x", narrow)]).unwrap();
    put(&folder.join("a.parquet"), &parquet(&narrow, 10));
    put(&folder.join("b.parquet"), &parquet(&batch(8..9), 10));
    let wide: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    let wide = RecordBatch::try_from_iter([("x", wide)]).unwrap();
    put(&folder.join("c.parquet"), &parquet(&wide, 10));
    lake.create("PARQUET", folder.to_str().unwrap(), "OPTIONS (\"end\" 'when_empty')").await;
    let mut stream = lake.select("SELECT x, s FROM t").await;
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first_column(&first), [7]);
    assert!(first.column(1).is_null(0), "the column that is missing");
    assert_eq!(first_column(&stream.next().await.unwrap().unwrap()), [8]);
    assert!(stream.next().await.is_none());
    assert_eq!(
        lake.rejected().await,
        [
            "file c.parquet|NULL|NULL|is skipped: it has 0.5 in column x, row 1, which is Float64 and not \
          Int64, the type of the table's column|1"
        ]
    );
}

fn column(name: &str, values: impl Array + 'static) -> RecordBatch {
    let values: ArrayRef = Arc::new(values);
    RecordBatch::try_from_iter([(name, values)]).unwrap()
}

/// Types that differ are read where the values fit, as a whole; a file that does not fit is left
/// out, and read when it is replaced.
#[tokio::test]
async fn files_of_other_types_are_read_if_all_their_values_fit() {
    use datafusion::arrow::array::{TimestampMicrosecondArray, TimestampMillisecondArray};
    let lake = Lake::new();
    let folder = lake.path("in");
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str| folder.join(name);
    let far: Vec<i64> = (0..9000).chain([(1 << 53) + 1]).collect();
    put(&file("a.parquet"), &parquet(&column("X", Int64Array::from(vec![1, 2])), 10));
    put(&file("b.parquet"), &parquet(&column("x", Int64Array::from(far)), 4000));
    put(&file("c.parquet"), &parquet(&column("q", Int64Array::from(vec![9])), 10));
    put(&file("d.parquet"), &parquet(&column("x", StringArray::from(vec!["9"])), 10));
    put(&file("e.parquet"), &parquet(&column("x", Int32Array::from(vec![3])), 10));
    let whole =
        parquet(&column("x", Float64Array::from_iter_values((0..9000).map(f64::from))), 3000);
    // The footer is good, the pages of the last row group are not.
    let mut torn = whole.clone();
    let footer = parquet::file::metadata::ParquetMetaDataReader::new()
        .parse_and_finish(&bytes::Bytes::from(whole))
        .unwrap();
    let (begin, _) = footer.row_group(2).column(0).byte_range();
    torn[begin as usize..begin as usize + 16].fill(0xff);
    put(&file("f.parquet"), &torn);
    put(&file("g.parquet"), &parquet(&column("x", Float64Array::from(vec![0.5])), 10));
    lake.run(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE t (x DOUBLE) STORED AS PARQUET LOCATION '{}' \
         OPTIONS (poll '2 ms')",
        folder.display()
    ))
    .await
    .unwrap();
    let mut stream = lake.select("SELECT CAST(2 * x AS BIGINT) AS x FROM t WHERE x < 3.5").await;
    assert_eq!(some(&mut stream, 8).await, [2, 4, 6, 0, 2, 4, 6, 1]);
    let report = lake.report().await;
    let rejected = lake.rejected().await;
    assert_eq!(rejected.len(), 4, "{rejected:?}");
    for (line, part) in rejected.iter().zip([
        "file b.parquet|NULL|NULL|is skipped: it has 9007199254740993 in column x, row 9001, which is \
         Int64 and not Float64",
        "file c.parquet|NULL|NULL|is skipped: it has none of the columns of the table",
        "file d.parquet|NULL|NULL|is skipped: it has column x as Utf8, whose values Float64",
        "file f.parquet|NULL|NULL|is read up to its row 6000 and no further: ",
    ]) {
        assert!(line.starts_with(part), "{line}");
    }
    assert_eq!(report.take_warnings().len(), 4);
    // The same file once more is no news, another one in its place is read.
    put(&file("b.parquet"), &parquet(&column("x", Int64Array::from(vec![1])), 10));
    assert_eq!(some(&mut stream, 1).await, [2]);
    assert!(report.take_warnings().is_empty());

    let times = lake.path("times");
    std::fs::create_dir(&times).unwrap();
    let zoned = TimestampMicrosecondArray::from(vec![1_000_000]).with_timezone("+02:00");
    put(&times.join("a.parquet"), &parquet(&column("at", zoned), 10));
    let plain = TimestampMillisecondArray::from(vec![2000]);
    put(&times.join("b.parquet"), &parquet(&column("at", plain), 10));
    let beyond = TimestampMillisecondArray::from(vec![i64::MAX / 2]);
    put(&times.join("c.parquet"), &parquet(&column("at", beyond), 10));
    for data_type in ["TIMESTAMP", "TIMESTAMP(6)", "TIMESTAMP(0)"] {
        lake.run(&format!(
            "CREATE OR REPLACE UNBOUNDED EXTERNAL TABLE t (at {data_type}) STORED AS PARQUET \
             LOCATION '{}' OPTIONS (\"end\" 'when_empty', poll '2 ms')",
            times.display()
        ))
        .await
        .unwrap();
        let sql = "SELECT CAST(CAST(at AS TIMESTAMP(0)) AS BIGINT) AS x FROM t LIMIT 2";
        // A scan of a plain query hands its batches to any thread.
        let mut rows = rest(&mut lake.select(sql).await).await;
        rows.sort_unstable();
        assert_eq!(rows, [1, 2], "{data_type}");
    }
}

#[tokio::test]
async fn a_prefix_of_an_object_store_is_a_folder() {
    use object_store::ObjectStoreExt;
    let lake = Lake::new();
    let store = Arc::new(object_store::memory::InMemory::new());
    let url = url::Url::parse("lake://bucket").unwrap();
    let context = lake.engine.context();
    context.register_object_store(&url, Arc::<object_store::memory::InMemory>::clone(&store));
    let object = |name: &str| object_store::path::Path::from(name);
    store.put(&object("in/a.parquet"), parquet(&batch(0..5), 10).into()).await.unwrap();
    store.put(&object("in/deeper/b.parquet"), parquet(&batch(5..9), 10).into()).await.unwrap();
    lake.run(
        "CREATE UNBOUNDED EXTERNAL TABLE t STORED AS PARQUET LOCATION 'lake://bucket/in' \
         OPTIONS (poll '2 ms')",
    )
    .await
    .unwrap();
    let mut stream = lake.select("SELECT x FROM t").await;
    assert_eq!(some(&mut stream, 5).await, [0, 1, 2, 3, 4]);
    store.put(&object("in/b.parquet"), parquet(&batch(5..7), 10).into()).await.unwrap();
    assert_eq!(some(&mut stream, 2).await, [5, 6]);
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let lake = Lake::new();
    let file = lake.path("x.csv");
    std::fs::write(&file, "1,a\n").unwrap();
    let create = |columns: &str, format: &str, location: &str, rest: &str| {
        format!(
            "CREATE UNBOUNDED EXTERNAL TABLE t {columns} STORED AS {format} LOCATION '{location}' \
             {rest}"
        )
    };
    let columns = "(x BIGINT)";
    let file = file.to_str().unwrap();
    let folder = lake.folder.path().to_str().unwrap();
    for (sql, part) in [
        (create("", "JSON", "-", ""), "the columns of an unbounded JSON table must be declared"),
        (create("", "PARQUET", folder, ""), "holds no Parquet file that tells the columns"),
        (
            create(columns, "JSON", "tcp://0.0.0.0:9000", ""),
            "tcp://0.0.0.0:9000 listens to other machines, and whoever connects can send rows; \
             write tcp://127.0.0.1:9000, or OPTIONS ('listen.anywhere' 'true') if that is meant",
        ),
        (
            create(columns, "CSV", file, "OPTIONS ('has_heder' 'true')"),
            "unknown option has_heder; did you mean has_header?",
        ),
        (create(columns, "JSON", "-", "OPTIONS (producers 2)"), "option producers is for tcp://"),
        (create(columns, "JSON", folder, ""), "is a folder; folders are watched for STORED AS"),
        (create(columns, "PARQUET", "-", ""), "can be STORED AS ARROW, JSON or CSV"),
        (create(columns, "PARQUET", file, ""), "is a file, and an unbounded PARQUET table watches"),
        (create(columns, "JSON", "/no/such", ""), "/no/such does not exist; make a FIFO there"),
        (
            create("(x BIGINT, __gradlake_row BIGINT)", "JSON", "-", ""),
            "a column cannot be named __gradlake_row",
        ),
        (
            create("(x BIGINT, y INTERVAL)", "JSON", "-", ""),
            "Support for Interval(MonthDayNano) in JSON reader",
        ),
    ] {
        let error = lake.refusal(&sql).await;
        assert!(error.contains(part), "{sql}\n{error}");
    }
    lake.run(&create(columns, "JSON", "tcp://0.0.0.0:9000", "OPTIONS ('listen.anywhere' 'true')"))
        .await
        .unwrap();
    let error = lake.refusal("INSERT INTO t VALUES (1)").await;
    assert!(error.contains("an unbounded table is read-only"), "{error}");
}
