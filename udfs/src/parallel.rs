//! Parallel loops: independent parts of one step run on several cores. Kernels start no threads.

use std::fmt::Debug;

/// Runs independent closures, supplied by the engine.
pub trait ParallelFor: Debug + Send + Sync {
    /// Calls `task(0)` to `task(n - 1)`, each once, in any order or at the same time, and returns
    /// when all have returned. A single task runs on the calling thread.
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync));

    /// Number of tasks that run at the same time. Work may be cut by this number only if its bits
    /// do not depend on how it is cut.
    fn threads(&self) -> usize {
        1
    }

    /// Calls `work`, which calls [`ParallelFor::run`] many times for up to `threads` threads, from
    /// where that costs least: meanwhile so many threads may spin instead of sleep.
    fn enter(&self, threads: usize, work: &mut (dyn FnMut() + Send)) {
        let _ = threads;
        work();
    }
}

/// Runs tasks one after another, on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl ParallelFor for Sequential {
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..n).for_each(task);
    }
}

/// For tests: claims to have so many threads, and runs tasks sequentially, from the last to the
/// first.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Threads(pub(crate) usize);

#[cfg(test)]
impl ParallelFor for Threads {
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..n).rev().for_each(task);
    }

    fn threads(&self) -> usize {
        self.0
    }
}
