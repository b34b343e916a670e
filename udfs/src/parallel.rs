//! Parallel loops: independent pieces of one step on the cores, though kernels start no threads.

use std::fmt::Debug;

/// Runs independent closures, supplied by the engine.
pub trait ParallelFor: Debug + Send + Sync {
    /// Calls `task(0)` to `task(n - 1)`, each once, in any order or at the same time, and
    /// returns when all have returned. One that is alone runs where it is asked for.
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync));

    /// How many run at the same time. Only what gives the same bits however it is cut may be cut by
    /// it.
    fn threads(&self) -> usize {
        1
    }

    /// Calls `work`, which calls [`ParallelFor::run`] many times for up to so many threads, from where
    /// that costs least: meanwhile as many may wait without sleeping.
    fn enter(&self, threads: usize, work: &mut (dyn FnMut() + Send)) {
        let _ = threads;
        work();
    }
}

/// One after another, on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl ParallelFor for Sequential {
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..n).for_each(task);
    }
}

/// For tests: so many threads, which are none, from the last to the first.
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
