//! Independent pieces of one step on the cores, though kernels start no threads.

use std::fmt::Debug;

/// Runs independent closures, supplied by the engine.
pub trait Shards: Debug + Send + Sync {
    /// Calls `task(0)` to `task(n - 1)`, each once, in any order or at the same time, and
    /// returns when all have returned.
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync));
}

/// One after another, on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl Shards for Sequential {
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..n).for_each(task);
    }
}
