//! The thread pool for slices of mini-batches and chunks of tables: one for all trainings of a
//! session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use datafusion::common::{Result, exec_datafusion_err};
use gradlake_udfs::ParallelFor;
use rayon::Yield;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

/// Runs tasks on threads of its own. Which thread takes which task does not matter: tasks are
/// independent, and the caller sums their results in their order.
#[derive(Debug)]
pub struct ThreadPool {
    pool: rayon::ThreadPool,
    /// Trainings that are inside [`ParallelFor::enter`].
    entered: AtomicUsize,
}

impl ThreadPool {
    /// A pool of `threads` threads.
    pub fn new(threads: usize) -> Result<Arc<Self>> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("gradlake-{i}"))
            .build()
            .map_err(|e| exec_datafusion_err!("cannot start {threads} threads: {e}"))?;
        Ok(Arc::new(Self { pool, entered: AtomicUsize::new(0) }))
    }
}

impl ParallelFor for ThreadPool {
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        match n {
            1 => task(0),
            _ => self.pool.install(|| (0..n).into_par_iter().with_max_len(1).for_each(task)),
        }
    }

    fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on a thread of the pool, while the other threads poll for tasks without
    /// sleeping: a step submits tasks every hundred microseconds, and waking a thread takes ten.
    ///
    /// The other threads poll for one training only. With two trainings, they would take tasks of
    /// the other that last as long as a chunk, so threads sleep as usual if there is another
    /// training.
    fn enter(&self, threads: usize, work: &mut (dyn FnMut() + Send)) {
        // The trainings of small groups run on the pool itself, and keep it busy.
        if self.pool.current_thread_index().is_some() {
            return work();
        }
        let entry = Entry::new(&self.entered);
        if !entry.is_alone() {
            return self.pool.install(work);
        }
        let has_ended = AtomicBool::new(false);
        self.pool.scope(|scope| {
            // (Helpers are spawned before any task: a thread that waits for a task takes the newest
            // one, so that helpers that no thread has taken yet are not in the way.)
            for _ in 1..threads.min(self.threads()) {
                scope.spawn(|_| {
                    while !has_ended.load(Ordering::Acquire) && entry.is_alone() {
                        if rayon::yield_now() != Some(Yield::Executed) {
                            std::hint::spin_loop();
                        }
                    }
                });
            }
            let _end = End(&has_ended);
            work();
        });
    }
}

/// Counts a training while it is inside.
struct Entry<'a>(&'a AtomicUsize);

impl<'a> Entry<'a> {
    fn new(entered: &'a AtomicUsize) -> Self {
        entered.fetch_add(1, Ordering::AcqRel);
        Self(entered)
    }

    /// Whether there is no other training.
    fn is_alone(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Signals that the work has ended, also by a panic.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Concurrent trainings, from outside and from inside the pool, and one that panics.
    #[test]
    fn every_task_runs_once_and_threads_go_back_to_others() {
        for threads in [1, 2, 3] {
            let pool = ThreadPool::new(threads).unwrap();
            let done = AtomicUsize::new(0);
            let count = |_: usize| {
                done.fetch_add(1, Ordering::Relaxed);
            };
            let train = || {
                pool.enter(3, &mut || {
                    for _ in 0..50 {
                        pool.run(3, &count);
                    }
                });
            };
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(train);
                }
            });
            assert_eq!(done.swap(0, Ordering::Relaxed), 4 * 50 * 3);
            pool.run(5, &|_| train());
            assert_eq!(done.swap(0, Ordering::Relaxed), 5 * 50 * 3);
            let failing = || pool.enter(3, &mut || panic!("a step failed"));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(failing)).unwrap_err();
            assert_eq!(pool.entered.load(Ordering::Relaxed), 0);
            train();
            assert_eq!(done.into_inner(), 50 * 3);
        }
    }
}
