//! Ctrl-C and SIGTERM.

use std::io;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A request to stop the running statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Ctrl-C: the statement.
    Statement,
    /// SIGTERM: the statement and the shell.
    Shell,
}

/// Listens from now on; to be called inside the runtime that waits for statements.
///
/// That runtime is not the one that runs them, so that a busy worker delays no signal.
#[cfg(unix)]
pub fn listen() -> io::Result<UnboundedReceiver<Interrupt>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (sender, receiver) = unbounded_channel();
    for (kind, interrupt) in [
        (SignalKind::interrupt(), Interrupt::Statement),
        (SignalKind::terminate(), Interrupt::Shell),
    ] {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(interrupt).is_ok() {}
        });
    }
    Ok(receiver)
}

/// Listens from now on; to be called inside the runtime that waits for statements.
#[cfg(not(unix))]
pub fn listen() -> io::Result<UnboundedReceiver<Interrupt>> {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() && sender.send(Interrupt::Statement).is_ok() {}
    });
    Ok(receiver)
}
