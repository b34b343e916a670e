//! Data and models in a bucket of an S3 server (`s3/server.py`, moto): reading, training, COPY,
//! publishing, watched folders, `kill -9`, and what goes wrong.
//!
//! The interpreter is that of the environment variable `GRADLAKE_PYTHON`, with the packages of
//! `s3/requirements.txt`. The gate sets it; without it these tests say that they skip.

// Helpers of tests are tests; what is skipped is printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A server that ends with its test.
struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// A server with the bucket `lake`; None, and a word about it, where there is no Python for it.
    fn start() -> Option<Self> {
        let Ok(python) = std::env::var("GRADLAKE_PYTHON") else {
            eprintln!("skipped: GRADLAKE_PYTHON names no Python with s3/requirements.txt");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3/server.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg(folder.path().join("faults"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("s3/requirements.txt is not installed");
        let server = Self { process, port, folder };
        server.create_bucket("lake");
        Some(server)
    }

    /// Buckets are made by a request whose signature nobody checks.
    fn create_bucket(&self, name: &str) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=key/20260101/us-east-1/s3/aws4_request\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
            self.port
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// How many of the next requests are answered 503.
    fn refuse(&self, requests: usize) {
        std::fs::write(self.folder.path().join("faults"), requests.to_string()).unwrap();
    }

    fn command(&self, warehouse: &str, sql: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gradlake"));
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1")
            .env_remove("AWS_PROFILE")
            .current_dir(self.folder.path())
            .args(["--warehouse", warehouse, "-q", "--format", "csv", "-c", sql])
            .stdin(Stdio::null());
        command
    }

    /// What statements print; they must succeed.
    fn run(&self, sql: &str) -> String {
        let output = self.command("s3://lake/models", sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The sentence of statements that must fail.
    fn fails(&self, change: impl FnOnce(&mut Command), sql: &str) -> String {
        let mut command = self.command("local", sql);
        change(&mut command);
        let output: Output = command.output().unwrap();
        assert!(!output.status.success(), "{sql}: {}", text(&output.stdout));
        text(&output.stderr)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

/// Two files of rows in the bucket.
fn write_rows(server: &Server) {
    for (file, from) in [("a", 1), ("b", 301)] {
        server.run(&format!(
            "COPY (SELECT value * 0.01 AS x, value * 0.02 AS y FROM generate_series({from}, {})) \
             TO 's3://lake/data/{file}.parquet'",
            from + 299
        ));
    }
}

#[test]
fn files_are_read_and_models_published() {
    let Some(server) = Server::start() else { return };
    write_rows(&server);
    assert_eq!(server.run("SELECT count(*) AS n FROM 's3://lake/data/'"), "n\n600\n");
    assert_eq!(server.run("SELECT count(*) AS n FROM 's3://lake/data/*.parquet'"), "n\n600\n");
    assert_eq!(server.run("SELECT count(*) AS n FROM 's3://lake/data/a.parquet'"), "n\n300\n");
    let table = "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://lake/data/'; ";
    assert_eq!(server.run(&format!("{table}SELECT count(*) AS n FROM t")), "n\n600\n");
    server.run("TRAIN MODEL m USING linear_regression TARGET y FROM 's3://lake/data/'");
    let rows =
        server.run("SELECT round(predicted_y, 3) AS p FROM (PREDICT MODEL m AS SELECT 3.0 AS x)");
    assert_eq!(rows, "p\n6.0\n");
    server.run(
        "COPY (PREDICT MODEL m FROM 's3://lake/data/') TO 's3://lake/scored/' STORED AS PARQUET",
    );
    let far = "SELECT count(*) AS n FROM 's3://lake/scored/' WHERE abs(y - predicted_y) > 0.001";
    assert_eq!(server.run(far), "n\n0\n");
    // Texts, named by their endings.
    server.run("COPY (SELECT 1 AS a, 'x' AS b) TO 's3://lake/t.csv'");
    assert_eq!(server.run("SELECT a, b FROM 's3://lake/t.csv'"), "a,b\n1,x\n");
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let Some(server) = Server::start() else { return };
    write_rows(&server);
    server.refuse(3);
    assert_eq!(server.run("SELECT count(*) AS n FROM 's3://lake/data/'"), "n\n600\n");
    server.refuse(4);
    server.run("TRAIN MODEL m USING linear_regression TARGET y FROM 's3://lake/data/'");
    assert_eq!(server.run("SELECT count(*) AS n FROM model.m.weights"), "n\n2\n");
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let Some(server) = Server::start() else { return };
    write_rows(&server);
    let select = "SELECT * FROM 's3://lake/data/'";
    let wrong = |command: &mut Command| {
        command.env("AWS_ACCESS_KEY_ID", "wrong");
    };
    let refused = server.fails(wrong, select);
    assert!(refused.contains("s3://lake/data/ must not be read with the credentials"), "{refused}");
    let refused = server.fails(|_| {}, "SELECT * FROM 's3://nowhere/data/'");
    assert!(refused.contains("there is no bucket for s3://nowhere/data/"), "{refused}");
    let refused = server.fails(|_| {}, "SELECT * FROM 's3://lake/none.parquet'");
    assert!(refused.contains("there is no file or folder s3://lake/none.parquet"), "{refused}");
    // Options of the table go before the environment.
    let table = "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://lake/data/' OPTIONS \
                 ('aws.access_key_id' 'key'); SELECT count(*) AS n FROM t";
    let output = server.command("local", table).env("AWS_ACCESS_KEY_ID", "wrong").output().unwrap();
    assert_eq!(text(&output.stdout), "n\n600\n", "{}", text(&output.stderr));
    let table = "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://lake/data/' OPTIONS \
                 ('aws.colour' 'red')";
    let refused = server.fails(|_| {}, table);
    assert!(refused.contains("the option aws.colour, which aws does not know"), "{refused}");
}

#[test]
fn a_training_that_is_killed_resumes_from_the_bucket() {
    let Some(server) = Server::start() else { return };
    server.run(
        "COPY (SELECT value AS x, value % 2 AS y FROM generate_series(1, 20000)) TO \
         's3://lake/data/a.parquet'",
    );
    let train = |name: &str| {
        format!(
            "TRAIN MODEL {name} USING mlp_classifier TARGET y WITH (epochs = 300, early_stop = \
             false, split = 'none', checkpoint_every = 0) FROM 's3://lake/data/a.parquet'"
        )
    };
    server.run(&train("whole"));
    let mut process = server
        .command("s3://lake/models", &train("killed"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let shown = server.run("SHOW TRAINING");
        if shown.contains("killed") && process.try_wait().unwrap().is_none() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{shown}");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    server.run(&train("killed"));
    let weights = |name: &str| server.run(&format!("SELECT values FROM model.{name}.parameters"));
    assert_eq!(weights("killed"), weights("whole"));
}

#[test]
fn a_folder_of_a_bucket_is_watched() {
    let Some(server) = Server::start() else { return };
    write_rows(&server);
    let stream = "CREATE UNBOUNDED EXTERNAL TABLE s (x DOUBLE, y DOUBLE) STORED AS PARQUET \
                  LOCATION 's3://lake/data/' OPTIONS ('end' 'when_empty', 'poll' '10 ms'); ";
    let train = format!("{stream}TRAIN OR REPLACE MODEL m USING linear_regression TARGET y FROM s");
    server.run(&train);
    assert_eq!(server.run("SELECT max(rows) AS n FROM model.m.versions"), "n\n600\n");
    server.run(
        "COPY (SELECT 1.0 AS x, 2.0 AS y FROM generate_series(1, 10)) TO \
         's3://lake/data/0.parquet'",
    );
    server.run(&train);
    assert_eq!(server.run("SELECT max(rows) AS n FROM model.m.versions"), "n\n610\n");
}
