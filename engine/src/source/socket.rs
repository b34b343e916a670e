//! TCP and Unix sockets: several producers at once, which connect and disconnect.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::decode::{Decoding, Format};
use super::feed::Feed;
use super::{Cursor, Reader, Report, Rows, Source};

/// Batches of all producers that wait for the query.
const BATCHES_AHEAD: usize = 2;
/// Maximum concurrent producers; further ones wait until one leaves. Each has a thread that reads.
const MOST_PRODUCERS: usize = 256;
/// How often to look for a new producer.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long to wait until a query that has just ended releases the address.
const LETTING_GO: Duration = Duration::from_millis(500);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A socket that producers connect to while a query reads it.
#[derive(Debug)]
pub struct SocketSource {
    address: Address,
    location: String,
    format: Format,
    schema: SchemaRef,
    producers: Option<usize>,
    report: Arc<Report>,
}

impl SocketSource {
    /// A socket whose input ends after `producers` have come and gone, or never if that is None.
    pub(super) fn new(
        address: Address,
        location: &str,
        format: Format,
        schema: SchemaRef,
        producers: Option<usize>,
    ) -> Self {
        let (location, report) = (location.to_owned(), Arc::default());
        Self { address, location, format, schema, producers, report }
    }
}

#[async_trait]
impl Source for SocketSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self) -> usize {
        1
    }

    fn is_replayable(&self) -> bool {
        false
    }

    async fn open(&self, _: usize, from: Option<&Cursor>) -> Result<Box<dyn Reader>> {
        let listener = self.listen().await?;
        let (sender, batches) = channel(BATCHES_AHEAD);
        let host = Host {
            format: self.format.clone(),
            schema: self.schema(),
            report: self.report(),
            batches: sender,
        };
        let host = SpawnedTask::spawn(Arc::new(host).receive(listener, self.producers));
        let row = from.map_or(0, |cursor| cursor.row);
        Ok(Box::new(SocketReader { batches, row, _host: host }))
    }

    fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report)
    }

    fn kind(&self) -> &'static str {
        match self.address {
            Address::Tcp(_) => "tcp",
            Address::Unix(_) => "unix",
        }
    }

    fn location(&self) -> &str {
        &self.location
    }
}

impl SocketSource {
    async fn listen(&self) -> Result<Listener> {
        let began = Instant::now();
        loop {
            match Listener::bind(&self.address) {
                Ok(listener) => return Ok(listener),
                Err(error) if error.kind() != ErrorKind::AddrInUse => {
                    return Err(exec_datafusion_err!(
                        "{} cannot be listened on: {error}",
                        self.location
                    ));
                }
                Err(_) if began.elapsed() > LETTING_GO => {
                    return exec_err!(
                        "{} is in use by another query or program; one at a time can listen on it",
                        self.location
                    );
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }
}

struct SocketReader {
    batches: Receiver<RecordBatch>,
    row: u64,
    /// Ends with the reader, and ends all connections.
    _host: SpawnedTask<()>,
}

#[async_trait]
impl Reader for SocketReader {
    async fn next(&mut self) -> Result<Option<Rows>> {
        let Some(batch) = self.batches.recv().await else { return Ok(None) };
        let first = Cursor::new("", self.row);
        self.row += batch.num_rows() as u64;
        Ok(Some(Rows::new(batch, first)))
    }
}

/// Accepts the producers.
struct Host {
    format: Format,
    schema: SchemaRef,
    report: Arc<Report>,
    batches: Sender<RecordBatch>,
}

impl Host {
    /// Accepts producers until `most` have come and gone. A connection that sends no byte does not
    /// count: it only checks whether the socket is alive.
    async fn receive(self: Arc<Self>, listener: Listener, most: Option<usize>) {
        let mut producers: JoinSet<bool> = JoinSet::new();
        let (mut arrived, mut gone, mut has_warned) = (0_u64, 0, false);
        while most.is_none_or(|most| gone < most) {
            let room = most.map_or(MOST_PRODUCERS, |most| (most - gone).min(MOST_PRODUCERS));
            let has_room = producers.len() < room;
            if has_room {
                match listener.accept() {
                    Ok((connection, peer)) => {
                        arrived += 1;
                        has_warned = false;
                        let name = peer.unwrap_or_else(|| format!("producer {arrived}"));
                        producers.spawn(Arc::clone(&self).serve(connection, name));
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // The producer is gone again, or descriptors are scarce: others may come later.
                    Err(error) => {
                        if !std::mem::replace(&mut has_warned, true) {
                            self.report.warn(format!("a producer could not connect: {error}"));
                        }
                    }
                }
            }
            tokio::select! {
                Some(left) = producers.join_next() => {
                    gone += usize::from(left.unwrap_or(true));
                }
                () = tokio::time::sleep(LOOK_AGAIN), if has_room => {}
            }
        }
    }

    /// Reads one producer to its end; returns whether it sent anything.
    async fn serve(self: Arc<Self>, connection: Connection, name: String) -> bool {
        let decoding = connection
            .feed()
            .map_err(|error| exec_datafusion_err!("{name} could not be read: {error}"))
            .and_then(|feed| {
                let decoder = self.format.decoder(&self.schema, &name, &self.report)?;
                Ok(Decoding::new(feed, decoder))
            });
        let mut decoding = match decoding {
            Ok(decoding) => decoding,
            Err(error) => {
                self.report.producer_dropped(&name, &why(&name, &error));
                return false;
            }
        };
        let mut is_first = true;
        loop {
            let next = decoding.next().await;
            if decoding.bytes() > 0 && std::mem::replace(&mut is_first, false) {
                self.report.producer_connected();
            }
            match next {
                Ok(Some(batch)) => {
                    if self.batches.send(batch).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.report.producer_dropped(&name, &why(&name, &error));
                    break;
                }
            }
        }
        decoding.bytes() > 0
    }
}

/// Why a producer is dropped: a sentence that begins with `it` where the error names the producer.
fn why(name: &str, error: &datafusion::error::DataFusionError) -> String {
    let error = error.message();
    match error.strip_prefix(name) {
        Some(what) => format!("it{what}"),
        None => error.to_string(),
    }
}

/// A listening socket. The file of a Unix socket is removed when it is dropped.
enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

impl Listener {
    fn bind(address: &Address) -> std::io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let listener = bind_unix(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, path.clone()))
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// The next producer and, where it has one, its address.
    fn accept(&self) -> std::io::Result<(Connection, Option<String>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(false)?;
                Ok((Connection::Tcp(stream), Some(peer.to_string())))
            }
            #[cfg(unix)]
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                Ok((Connection::Unix(stream), None))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Self::Unix(_, path) = self {
            // If the file stays, the next listener finds it unused and removes it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Listens at a path; a stale socket file, on which no process listens, is removed first.
#[cfg(unix)]
fn bind_unix(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    let error = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => error,
        result => return result,
    };
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        let what = "there is a file of that name, which is no socket";
        return Err(std::io::Error::new(ErrorKind::AlreadyExists, what));
    }
    match UnixStream::connect(path) {
        Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        _ => Err(error),
    }
}

/// A producer's connection. Dropping it wakes the thread that reads it.
enum Connection {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Connection {
    fn feed(&self) -> std::io::Result<Feed> {
        match self {
            Self::Tcp(stream) => Feed::start(stream.try_clone()?),
            #[cfg(unix)]
            Self::Unix(stream) => Feed::start(stream.try_clone()?),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}
