//! The cores for the shards of a mini-batch: one small pool for all trainings of a session.

use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err};
use gradlake_udfs::shards::Shards;
use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

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

    /// On a thread of the pool: from there shards are handed to others, who have not gone to sleep yet, in
    /// a microsecond, from elsewhere in ten.
    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        self.pool.install(work);
    }
}
