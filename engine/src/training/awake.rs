//! Workers that stay awake between two rounds.
//!
//! Between the end of a round and the replicas of the next lie some hundred microseconds in which one worker
//! folds and plans. The others would go to sleep, and to wake one takes as long again; so they wait in a loop,
//! as threads of OpenMP do between two parallel regions, though no longer than a round's end takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a worker waits at most.
const MOST: Duration = Duration::from_micros(200);

/// Counts the rounds that have begun.
#[derive(Clone, Debug, Default)]
pub struct Awake(Arc<AtomicU64>);

impl Awake {
    /// Lets `workers` of the runtime wait until the next round begins; called when one has ended.
    pub fn wait(&self, workers: usize) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// On the only worker there is, waiting holds nothing up for longer than it may.
    #[tokio::test]
    async fn waiting_ends() {
        let awake = Awake::default();
        let begun = Instant::now();
        awake.wait(3);
        awake.begin();
        awake.wait(1);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
