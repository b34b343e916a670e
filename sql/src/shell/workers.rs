//! The threads that run statements, and others in place of those that do not come back.

use std::io;

use tokio::runtime::{Handle, Runtime};

/// Where statements run.
pub struct Workers {
    handle: Handle,
    /// Those that took over; the first belong to somebody else.
    others: Vec<Runtime>,
    make: Box<dyn Fn() -> io::Result<Runtime>>,
}

impl Workers {
    /// Runs statements on a runtime; `make` makes one to take over.
    pub fn new(handle: Handle, make: impl Fn() -> io::Result<Runtime> + 'static) -> Self {
        Self { handle, others: vec![], make: Box::new(make) }
    }

    /// Where the next statement runs.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Has other threads run what comes: a statement that was stopped keeps these, since a single
    /// call (a function over a batch of rows, say) cannot be stopped. They end when it does, and
    /// what else they do, such as watching a folder, goes on then.
    pub fn take_over(&mut self) {
        // Without more threads the next statement waits for these.
        if let Ok(other) = (self.make)() {
            self.handle = other.handle().clone();
            self.others.push(other);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.others.drain(..).for_each(Runtime::shutdown_background);
    }
}
