//! Workers that stay awake between two rounds.
//!
//! Between the end of a round and the replicas of the next lie some hundred microseconds in which
//! one worker folds and plans. The others would go to sleep, and to wake one takes as long again;
//! so they wait in a loop, as threads of OpenMP do between two parallel regions, though no longer
//! than a round's end takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// How long a worker waits at most.
const MOST: Duration = Duration::from_micros(200);

/// Counts the rounds that have begun.
#[derive(Clone, Debug, Default)]
pub struct Awake(Arc<AtomicU64>);

impl Awake {
    /// Lets those workers of the runtime that so many replicas keep busy wait until the next round
    /// begins; called on one of them when a round has ended.
    pub fn wait(&self, replicas: usize) {
        let workers = waiting_workers(Handle::current().metrics().num_workers(), replicas);
        let rounds = self.0.load(Ordering::Acquire);
        for _ in 0..workers {
            let own = self.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                while own.0.load(Ordering::Acquire) == rounds && begun.elapsed() < MOST {
                    std::hint::spin_loop();
                }
            });
        }
    }

    /// Says that a round has begun, once its replicas are there to be taken.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Workers that replicas keep busy, but for the one that folds and plans.
fn waiting_workers(workers: usize, replicas: usize) -> usize {
    workers.min(replicas).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two workers one waits, whatever the number of replicas; of one, none.
    #[test]
    fn no_more_wait_than_others_there_are() {
        for (workers, replicas, waiting) in
            [(1, 8, 0), (2, 1, 0), (2, 2, 1), (2, 1024, 1), (3, 2, 1), (8, 4, 3)]
        {
            assert_eq!(waiting_workers(workers, replicas), waiting, "{workers} {replicas}");
        }
    }
}
