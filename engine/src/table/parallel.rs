//! Runs units of work on all cores and consumes their results in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::common::Result;

use super::Resources;

/// The results of units so far.
struct InOrder<T, F> {
    /// The unit whose result is taken next.
    next: usize,
    /// Results that arrived before those of earlier units.
    early: BTreeMap<usize, T>,
    take: F,
    outcome: Result<()>,
}

/// Calls `work` once with every number below `units`, on all cores, and `take` with the results in
/// the order of the numbers.
///
/// The outcome of `take` does not depend on the number of threads. Each thread passes a state of
/// its own (made by `state`) from unit to unit; all states are returned.
///
/// # Errors
/// The first error of `work` or `take`, after which no unit is started; or an error that says that
/// the training was interrupted.
pub(super) fn in_order<S: Send, T: Send>(
    resources: &Resources,
    units: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
    take: impl FnMut(T) -> Result<()> + Send,
) -> Result<Vec<S>> {
    in_order_by(resources.pool().threads(), resources, units, state, work, take)
}

/// The same on `workers` threads at most, for units that need much memory.
///
/// # Errors
/// As for [`in_order`].
pub(super) fn in_order_by<S: Send, T: Send>(
    workers: usize,
    resources: &Resources,
    units: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
    take: impl FnMut(T) -> Result<()> + Send,
) -> Result<Vec<S>> {
    let begun = AtomicUsize::new(0);
    let filter = Mutex::new(InOrder { next: 0, early: BTreeMap::new(), take, outcome: Ok(()) });
    let states = Mutex::new(vec![]);
    let worker = |_: usize| {
        let mut own = state();
        loop {
            let unit = begun.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                break;
            }
            let result = resources.check_interrupt().and_then(|()| work(&mut own, unit));
            if !lock(&filter).give(unit, result) {
                break;
            }
        }
        lock(&states).push(own);
    };
    match workers.min(units) {
        0 => {}
        1 => worker(0),
        workers => resources.pool().run(workers, &worker),
    }
    let InOrder { outcome, .. } = unlock(filter);
    outcome?;
    Ok(unlock(states))
}

impl<T, F: FnMut(T) -> Result<()>> InOrder<T, F> {
    /// Accepts the result of a unit, consumes all results that are next in order, and returns
    /// whether to go on.
    fn give(&mut self, unit: usize, result: Result<T>) -> bool {
        if self.outcome.is_err() {
            return false;
        }
        match result {
            Ok(result) => {
                self.early.insert(unit, result);
            }
            Err(error) => self.outcome = Err(error),
        }
        while let (Ok(()), Some(result)) = (&self.outcome, self.early.remove(&self.next)) {
            self.outcome = (self.take)(result);
            self.next += 1;
        }
        self.outcome.is_ok()
    }
}

/// Locks a mutex and ignores poisoning: a thread that panicked has already failed the work that it
/// was part of.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of an owned mutex; ignores poisoning too.
pub(super) fn unlock<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use datafusion::common::exec_err;

    use super::*;
    use crate::thread_pool::ThreadPool;

    fn resources(threads: usize) -> Resources {
        let state = datafusion::prelude::SessionContext::new().state();
        Resources::new(&state, Arc::default(), ThreadPool::new(threads).unwrap())
    }

    #[test]
    fn results_come_in_order_at_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let mut taken = vec![];
            let states = in_order(
                &resources(threads),
                1000,
                || 0usize,
                |own, unit| {
                    *own += 1;
                    if unit % 7 == 0 {
                        std::thread::yield_now();
                    }
                    Ok(unit)
                },
                |unit| {
                    taken.push(unit);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(taken, (0..1000).collect::<Vec<_>>());
            assert_eq!(states.iter().sum::<usize>(), 1000);
        }
    }

    #[test]
    fn an_error_ends_it() {
        let later = AtomicBool::new(false);
        let error = in_order(
            &resources(2),
            100_000,
            || (),
            |(), unit| {
                later.fetch_or(unit == 99_999, Ordering::Relaxed);
                if unit == 5 { exec_err!("unit five") } else { Ok(unit) }
            },
            |unit| if unit > 5 { exec_err!("taken after the error") } else { Ok(()) },
        )
        .unwrap_err();
        assert!(error.to_string().contains("unit five"), "{error}");
        assert!(!later.load(Ordering::Relaxed), "units go on after an error");
    }

    #[test]
    fn an_interrupt_ends_it() {
        let interrupt = Arc::new(gradlake_udfs::Interrupt::default());
        let state = datafusion::prelude::SessionContext::new().state();
        let resources = Resources::new(&state, Arc::clone(&interrupt), ThreadPool::new(2).unwrap());
        interrupt.request();
        let error = in_order(&resources, 3, || (), |(), _| Ok(()), |()| Ok(())).unwrap_err();
        assert!(error.to_string().contains("interrupted"), "{error}");
    }
}
