//! Bytes of a blocking input, read by a thread of its own.
//!
//! It is a thread and not a task: reads of pipes and sockets may block forever, and at its end the
//! runtime waits for blocking tasks, but not for threads.

use std::io::{ErrorKind, Read, Result};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Maximum bytes of a read.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that are prefetched. When the queue is full, nothing is read and the producer waits.
const CHUNKS_AHEAD: usize = 4;
/// A non-blocking input is polled again after the first of these times, then after double that, up
/// to the second.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// What arrives on an input, in order.
#[derive(Debug)]
pub(super) struct Feed {
    chunks: Receiver<Result<Bytes>>,
    /// Standard input outlives a query, so its feed is returned on drop.
    is_standard_input: bool,
}

/// What is available right now.
#[derive(Debug)]
pub(super) enum Now {
    /// Some bytes.
    Bytes(Bytes),
    /// Nothing yet.
    Nothing,
    /// The end of the input.
    End,
}

impl Feed {
    /// Reads an input to its end, or until the feed is dropped. A read may fail with `WouldBlock`:
    /// it is then tried again soon.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(input: impl Read + Send + 'static) -> Result<Self> {
        Ok(Self { chunks: start(input)?, is_standard_input: false })
    }

    /// The process's standard input, which one query at a time can read. What an earlier query
    /// has not taken from the feed comes first.
    ///
    /// # Errors
    /// When another query reads it.
    pub(super) fn standard_input() -> Result<Self> {
        let mut state = standard_input();
        let chunks = match std::mem::replace(&mut *state, StandardInput::Taken) {
            StandardInput::Idle(chunks) => chunks,
            StandardInput::Unopened => match start(std::io::stdin()) {
                Ok(chunks) => chunks,
                Err(error) => {
                    *state = StandardInput::Unopened;
                    return Err(error);
                }
            },
            StandardInput::Taken => return Err(ErrorKind::ResourceBusy.into()),
        };
        Ok(Self { chunks, is_standard_input: true })
    }

    /// What is available right now, without waiting.
    pub(super) fn now(&mut self) -> Result<Now> {
        match self.chunks.try_recv() {
            Ok(bytes) => Ok(Now::Bytes(bytes?)),
            Err(TryRecvError::Empty) => Ok(Now::Nothing),
            Err(TryRecvError::Disconnected) => Ok(Now::End),
        }
    }

    /// The next bytes; None at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        self.chunks.recv().await.transpose()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if self.is_standard_input {
            let chunks = std::mem::replace(&mut self.chunks, channel(1).1);
            *standard_input() = StandardInput::Idle(chunks);
        }
    }
}

enum StandardInput {
    Unopened,
    Idle(Receiver<Result<Bytes>>),
    Taken,
}

fn standard_input() -> std::sync::MutexGuard<'static, StandardInput> {
    static STATE: Mutex<StandardInput> = Mutex::new(StandardInput::Unopened);
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(input: impl Read + Send + 'static) -> Result<Receiver<Result<Bytes>>> {
    let (sender, chunks) = channel(CHUNKS_AHEAD);
    std::thread::Builder::new()
        .name("gradlake-feed".to_owned())
        .spawn(move || read_all(input, &sender))?;
    Ok(chunks)
}

fn read_all(mut input: impl Read, chunks: &Sender<Result<Bytes>>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut pause = LOOK_AGAIN.0;
    loop {
        let chunk = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(bytes) => Ok(Bytes::copy_from_slice(&buffer[..bytes])),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if chunks.is_closed() {
                    return;
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(LOOK_AGAIN.1);
                continue;
            }
            Err(error) => Err(error),
        };
        pause = LOOK_AGAIN.0;
        let is_last = chunk.is_err();
        if chunks.blocking_send(chunk).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Error;

    use super::*;

    /// Answers reads from a list of results.
    struct Script(VecDeque<Result<Vec<u8>>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let bytes = self.0.pop_front().unwrap_or_else(|| Ok(vec![]))?;
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    #[tokio::test]
    async fn bytes_come_in_order_and_an_error_last() {
        let script = [
            Ok(b"a".to_vec()),
            Err(ErrorKind::Interrupted.into()),
            Err(ErrorKind::WouldBlock.into()),
            Ok(b"b".to_vec()),
            Err(Error::other("broken")),
            Ok(b"never".to_vec()),
        ];
        let mut feed = Feed::start(Script(script.into())).unwrap();
        assert_eq!(feed.next().await.unwrap().unwrap(), "a");
        assert_eq!(feed.next().await.unwrap().unwrap(), "b");
        assert_eq!(feed.next().await.unwrap_err().to_string(), "broken");
        assert!(feed.next().await.unwrap().is_none());
        assert!(matches!(feed.now().unwrap(), Now::End));
    }

    #[tokio::test]
    async fn little_is_read_ahead() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        struct Endless(Arc<AtomicUsize>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
                self.0.fetch_add(1, Ordering::SeqCst);
                Ok(buffer.len())
            }
        }
        let reads = Arc::new(AtomicUsize::new(0));
        let mut feed = Feed::start(Endless(Arc::clone(&reads))).unwrap();
        for _ in 0..20 {
            assert!(feed.next().await.unwrap().is_some());
        }
        // Those that were taken, those that wait, and the one that does not fit into the queue.
        assert!(reads.load(Ordering::SeqCst) <= 20 + CHUNKS_AHEAD + 1);
    }
}
