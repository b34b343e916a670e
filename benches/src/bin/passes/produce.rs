//! A producer: the rows of a Parquet file, encoded ahead of time, again and again to a TCP port.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use arrow::ipc::writer::StreamWriter;
use gradlake_benches::Result;
use serde_json::json;

use crate::statement::read_parquet;

/// How long to wait for somebody who listens.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub struct Args {
    /// Where the learner listens, such as 127.0.0.1:9000
    #[arg(long)]
    address: String,
    /// The rows; they are sent again from the beginning when they are through
    #[arg(long)]
    file: String,
    /// Rows of a message
    #[arg(long, default_value_t = 8192)]
    batch: usize,
    /// Rows after which to stop
    #[arg(long, default_value_t = u64::MAX)]
    rows: u64,
    /// Seconds after which to stop
    #[arg(long, default_value_t = f64::MAX)]
    seconds: f64,
    /// Rows a second at most; as fast as the socket takes them if absent
    #[arg(long)]
    rate: Option<f64>,
    /// Numbers of rows at which to print a line
    #[arg(long, value_delimiter = ',')]
    marks: Vec<u64>,
}

/// Prints a line when it is connected, one at each mark, and one with all rows and seconds, the
/// time that the socket took to take them.
///
/// # Errors
/// When nobody listens, or the learner goes away.
pub fn run(args: &Args) -> Result<()> {
    let messages = messages(&args.file, args.batch)?;
    let mut socket = connect(&args.address)?;
    crate::print(&json!({ "connected": args.address }))?;
    let begun = Instant::now();
    let (mut rows, mut bytes) = (0u64, 0u64);
    let mut marks = args.marks.iter().copied().peekable();
    socket.write_all(&messages.schema)?;
    'all: loop {
        for (message, n) in &messages.batches {
            if rows >= args.rows || begun.elapsed().as_secs_f64() >= args.seconds {
                break 'all;
            }
            if let Some(rate) = args.rate {
                let due = Duration::from_secs_f64((rows + n) as f64 / rate);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            socket.write_all(message)?;
            rows += n;
            bytes += message.len() as u64;
            while marks.next_if(|mark| *mark <= rows).is_some() {
                crate::print(&json!({ "mark": rows, "seconds": begun.elapsed().as_secs_f64() }))?;
            }
        }
    }
    socket.write_all(&messages.end)?;
    socket.shutdown(std::net::Shutdown::Write)?;
    let seconds = begun.elapsed().as_secs_f64();
    crate::print(&json!({ "rows": rows, "bytes": bytes, "seconds": seconds }))
}

/// An Arrow IPC stream in pieces.
pub struct Messages {
    pub schema: Vec<u8>,
    /// A batch and its rows.
    pub batches: Vec<(Vec<u8>, u64)>,
    pub end: Vec<u8>,
}

/// The rows of a file as messages of `rows` rows.
pub fn messages(file: &str, rows: usize) -> Result<Messages> {
    let batches = read_parquet(file, rows)?;
    let Some(first) = batches.first() else { return Err("the file has no rows".into()) };
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
    let schema = std::mem::take(writer.get_mut());
    let mut encoded = vec![];
    for batch in &batches {
        writer.write(batch)?;
        encoded.push((std::mem::take(writer.get_mut()), batch.num_rows() as u64));
    }
    writer.finish()?;
    Ok(Messages { schema, batches: encoded, end: std::mem::take(writer.get_mut()) })
}

/// Connects to somebody who may not listen yet.
pub fn connect(address: &str) -> Result<TcpStream> {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(format!("nobody listens on {address}: {error}").into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
