//! The threads that run statements, and replacements for those that do not return.

use std::io;

use tokio::runtime::{Handle, Runtime};

/// Where statements run.
pub struct Workers {
    handle: Handle,
    /// The runtimes that took over; the caller owns the first one.
    others: Vec<Runtime>,
    make: Box<dyn Fn() -> io::Result<Runtime>>,
}

impl Workers {
    /// Runs statements on a runtime; `make` makes a replacement.
    pub fn new(handle: Handle, make: impl Fn() -> io::Result<Runtime> + 'static) -> Self {
        Self { handle, others: vec![], make: Box::new(make) }
    }

    /// Where the next statement runs.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Lets other threads run the next statements. A stopped statement keeps its threads, since a
    /// single call (a function over a batch of rows, say) cannot be stopped. They are free when the
    /// call ends, and their other work, such as watching a folder, continues then.
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
