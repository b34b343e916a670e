//! The cores for the shards of a mini-batch: one small pool for all trainings of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::{Result, exec_datafusion_err};
use gradlake_udfs::shards::Shards;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, Yield};

/// Runs shards on threads of its own. Which thread takes which shard does not matter: shards
/// are independent, and whoever asked sums them in shard order.
#[derive(Debug)]
pub struct Pool {
    pool: ThreadPool,
}

impl Pool {
    /// A pool of so many threads.
    pub fn new(threads: usize) -> Result<Arc<Self>> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("gradlake-shard-{i}"))
            .build()
            .map_err(|e| exec_datafusion_err!("cannot start {threads} threads: {e}"))?;
        Ok(Arc::new(Self { pool }))
    }
}

impl Shards for Pool {
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        self.pool.install(|| (0..n).into_par_iter().with_max_len(1).for_each(task));
    }

    fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// On a thread of the pool, while the others look for shards without going to sleep: a step hands
    /// some over every hundred microseconds, and to wake a thread takes ten.
    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        let others = self.threads() - 1;
        let has_ended = AtomicBool::new(false);
        self.pool.scope(|scope| {
            for _ in 0..others {
                scope.spawn(|_| help_until(&has_ended));
            }
            let _end = End(&has_ended);
            work();
        });
    }
}

/// Takes shards of others until there are no more.
fn help_until(has_ended: &AtomicBool) {
    while !has_ended.load(Ordering::Acquire) {
        if rayon::yield_now() != Some(Yield::Executed) {
            std::hint::spin_loop();
        }
    }
}

/// Says that work has ended, by a panic too.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Shards from inside and from outside, several trainings at once on few threads, and a panic.
    #[test]
    fn every_shard_runs_once_and_threads_go_back_to_others() {
        let pool = Pool::new(2).unwrap();
        let done = AtomicUsize::new(0);
        let train = || {
            pool.enter(&mut || {
                for _ in 0..50 {
                    pool.run(3, &|_| {
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(train);
            }
        });
        assert_eq!(done.swap(0, Ordering::Relaxed), 4 * 50 * 3);
        let failing = || pool.enter(&mut || panic!("a step failed"));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(failing)).unwrap_err();
        train();
        pool.run(5, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 50 * 3 + 5);
    }
}
