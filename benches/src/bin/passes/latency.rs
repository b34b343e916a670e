//! From the arrival of a row to a prediction by a model that has learned it: rows to learn from and
//! rows to score are sent at a steady pace to two ports, and each prediction says how many rows its
//! model had learned.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures::StreamExt;
use gradlake_benches::Result;
use gradlake_sql::{Session, SessionOptions};
use serde_json::json;

use crate::produce::{connect, messages};

/// Where rows to learn from, and rows to score, arrive.
const PORTS: [u16; 2] = [19_472, 19_473];
/// Messages a second.
const TICKS: u32 = 1000;
/// Seconds at the beginning that do not count.
const WARM_UP: f64 = 1.0;

#[derive(clap::Args)]
pub struct Args {
    /// Warehouse
    #[arg(long)]
    warehouse: String,
    /// Rows of 28 numbers f0 to f27 and a label
    #[arg(long)]
    file: String,
    /// Rows a second to learn from, a multiple of 1000
    #[arg(long, default_value_t = 10_000)]
    rate: usize,
    /// Seconds of rows that count
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds after these in which the last rows must be learned
    #[arg(long, default_value_t = 2.0)]
    rest: f64,
    /// The shell that trains; the training runs in this process if absent
    #[arg(long)]
    shell: Option<String>,
    /// publish_every of the training
    #[arg(long, default_value = "1 second")]
    publish_every: String,
}

/// Prints the median, the 99th percentile and the largest latency in milliseconds.
///
/// # Errors
/// When a statement fails, or a row is not learned in time.
pub fn run(args: &Args) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    let warehouse = Some(args.warehouse.clone());
    let session = Session::open(SessionOptions { warehouse, ..Default::default() }).await?;
    let quiet = || Arc::new(|_event| {});
    let train = |options: &str, from: &str| {
        format!(
            "TRAIN OR REPLACE MODEL latency USING logistic_regression TARGET label \
             WITH ({options}, keep_versions = 3) {from}"
        )
    };
    let base = train("solver = 'newton'", &format!("AS SELECT * FROM '{}' LIMIT 10000", args.file));
    session.collect(&base, quiet()).await?;
    let version = "SELECT max(version) FROM model.latency.versions";
    let first = session.collect(version, quiet()).await?;
    let first = arrow::compute::cast(first[0].column(0), &arrow::datatypes::DataType::UInt64)?;
    let first = first.as_primitive::<UInt64Type>().value(0);

    let [lessons, probes] = [("lessons", PORTS[0]), ("probes", PORTS[1])].map(|(name, port)| {
        let features: String = (0..28).map(|i| format!("f{i} REAL, ")).collect();
        format!(
            "CREATE UNBOUNDED EXTERNAL TABLE {name} ({features}label TINYINT) STORED AS ARROW \
             LOCATION 'tcp://127.0.0.1:{port}' OPTIONS ('producers' '1')"
        )
    });
    let online = train(&format!("publish_every = '{}'", args.publish_every), "FROM lessons");
    let mut other = None;
    let own = match &args.shell {
        Some(shell) => {
            other = Some(trainer(shell, &args.warehouse, &[&lessons, &online])?);
            None
        }
        None => {
            session.collect(&lessons, quiet()).await?;
            Some(session.execute(&online, quiet()).await?)
        }
    };
    session.collect(&probes, quiet()).await?;
    let mut predictions = session.execute("PREDICT MODEL latency FROM probes", quiet()).await?;
    // Rows of publications must be taken, or the training waits for their reader.
    let training =
        own.map(|mut rows| tokio::spawn(async move { while rows.next().await.is_some() {} }));

    let sent = tokio::task::spawn_blocking({
        let (file, rate) = (args.file.clone(), args.rate);
        let ticks = ((WARM_UP + args.seconds + args.rest) * f64::from(TICKS)) as u32;
        move || produce(&file, rate, ticks).map_err(|error| error.to_string())
    });
    // When a prediction came, and how many rows its model had learned.
    let mut seen: Vec<(Instant, u64)> = vec![];
    while let Some(batch) = predictions.next().await {
        let (batch, now) = (batch?, Instant::now());
        let column =
            |name: &str| batch.column_by_name(name).map(|c| c.as_primitive::<UInt64Type>());
        let (Some(versions), Some(rows)) = (column("model_version"), column("model_rows")) else {
            return Err("predictions do not say which model made them".into());
        };
        let last = batch.num_rows() - 1;
        if versions.value(last) > first {
            seen.push((now, rows.value(last)));
        }
    }
    let sent = sent.await??;
    if let Some(training) = training {
        training.await?;
    }
    if let Some(mut other) = other {
        other.wait()?;
    }
    report(args, &sent, &seen)
}

/// A shell that trains in a process of its own.
fn trainer(shell: &str, warehouse: &str, statements: &[&str]) -> Result<Child> {
    let mut command = Command::new(shell);
    command.args(["-q", "--warehouse", warehouse]).stdout(Stdio::null());
    statements.iter().for_each(|sql| {
        command.args(["-c", sql]);
    });
    Ok(command.spawn()?)
}

/// Sends rows to learn from and a row to score at each tick; returns when each tick was.
fn produce(file: &str, rate: usize, ticks: u32) -> Result<Vec<Instant>> {
    let lessons = messages(file, rate / TICKS as usize)?;
    let probes = messages(file, 1)?;
    let [mut to_learn, mut to_score] = [
        connect(&format!("127.0.0.1:{}", PORTS[0]))?,
        connect(&format!("127.0.0.1:{}", PORTS[1]))?,
    ];
    to_learn.write_all(&lessons.schema)?;
    to_score.write_all(&probes.schema)?;
    let mut sent = Vec::with_capacity(ticks as usize);
    let begun = Instant::now();
    let rows = lessons.batches.iter().cycle().zip(probes.batches.iter().cycle());
    for (tick, ((lesson, _), (probe, _))) in (0..ticks).zip(rows) {
        let due = Duration::from_secs(1) * tick / TICKS;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        sent.push(Instant::now());
        to_learn.write_all(lesson)?;
        to_score.write_all(probe)?;
    }
    for (socket, end) in [(&mut to_learn, &lessons.end), (&mut to_score, &probes.end)] {
        socket.write_all(end)?;
        socket.shutdown(std::net::Shutdown::Write)?;
    }
    Ok(sent)
}

fn report(args: &Args, sent: &[Instant], seen: &[(Instant, u64)]) -> Result<()> {
    let of_a_tick = (args.rate / TICKS as usize) as u64;
    let ticks = |seconds: f64| (seconds * f64::from(TICKS)) as usize;
    let counted = ticks(WARM_UP)..ticks(WARM_UP + args.seconds).min(sent.len());
    let mut latencies = vec![];
    for tick in counted {
        // The last row of a tick is the last that is learned.
        let rows = (tick as u64 + 1) * of_a_tick;
        let first = seen.partition_point(|(_, learned)| *learned < rows);
        let Some((when, _)) = seen.get(first) else {
            return Err(format!("row {rows} was in no model before the end").into());
        };
        latencies.push(when.saturating_duration_since(sent[tick]).as_secs_f64() * 1000.0);
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    crate::print(&json!({
        "rows": latencies.len() as u64 * of_a_tick, "p50_ms": at(0.5), "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }))
}
