//! Layers and executor against PyTorch, finite differences and each other.

use super::*;
use crate::batch::{MiniBatch, NO_CATEGORY, Rows};
use crate::learner::{LossSum, StepKey};
use crate::parallel::{ParallelFor, Sequential};

mod hostile;
mod oracle;
mod properties;
mod speed;
mod training;

const KEY: StepKey = StepKey { seed: 7, step: 3 };

/// `n` numbers in `[-1, 1)`: the formula `value` of `tests/oracle/layers.py`.
fn values(tag: i64, n: usize) -> Vec<f32> {
    let value = |i: i64| (i * 7919 + tag * 104_729 + (i * i) % 1013 * 31) % 2003;
    (0..n as i64).map(|i| (value(i) as f64 / 1001.5 - 1.0) as f32).collect()
}

/// The parameters that the oracles begin with.
fn parameters(executor: &Executor) -> Vec<f32> {
    let layout = executor.layout();
    let mut all = values(1, layout.len());
    all.iter_mut().for_each(|value| *value *= 0.5);
    for tensor in layout.tensors().iter().filter(|tensor| tensor.name == "running_var") {
        all[tensor.range()].iter_mut().for_each(|value| *value = value.abs() + 0.5);
    }
    all
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// The largest difference, in parts of the largest value.
fn error(found: &[f32], truth: &[f64]) -> f64 {
    error_beside(found, truth, 1e-2)
}

/// The same, in parts of `least` if that is more.
fn error_beside(found: &[f32], truth: &[f64], least: f64) -> f64 {
    assert_eq!(found.len(), truth.len());
    let top = truth.iter().fold(least, |top, x| top.max(x.abs()));
    let worst = found.iter().zip(truth).fold(0.0f64, |worst, (found, truth)| {
        let difference = (f64::from(*found) - truth).abs();
        if difference.is_nan() { f64::INFINITY } else { worst.max(difference) }
    });
    worst / top
}

/// Real threads, which take tasks in any order.
#[derive(Debug)]
struct Pool(usize);

impl ParallelFor for Pool {
    fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            loop {
                let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if i >= n {
                    break;
                }
                task(i);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.0 {
                scope.spawn(work);
            }
            work();
        });
    }

    fn threads(&self) -> usize {
        self.0
    }
}
