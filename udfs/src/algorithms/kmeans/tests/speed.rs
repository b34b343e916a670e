//! The time of a round: `cargo test --release -p gradlake-udfs --lib
//! kmeans::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::super::centroids::Centroids;
use super::super::lloyd::LloydPass;
use super::super::round::PassOver;
use super::*;

#[test]
#[ignore = "measures time"]
fn nanoseconds_of_a_row() {
    for (rows, d, k) in [(2_000_000, 28, 100), (2_000_000, 28, 8), (100_000, 784, 10)] {
        let data = Data::blobs(rows, d, 100);
        let centroids: Vec<f64> = data.dense[..k * d].iter().map(|x| f64::from(*x)).collect();
        for replicas in [1, 2] {
            let own = Centroids::new(data.width, Distance::Euclidean, &centroids);
            let pass = Arc::new(LloydPass { centroids: Arc::new(own), keeps_far: true });
            let round = PassOver { pass, interrupt: Arc::default() };
            let (mut best, mut least) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..5 {
                let start = Instant::now();
                let busy: f64 = std::thread::scope(|scope| {
                    let threads = (0..replicas).map(|i| {
                        let (round, data) = (&round, &data);
                        scope.spawn(move || {
                            let mut replica =
                                crate::round::Round::replica(round, i as u32).unwrap();
                            let cut = |i: usize| rows * i / replicas;
                            for at in (cut(i)..cut(i + 1)).step_by(1 << 16) {
                                let end = cut(i + 1).min(at + (1 << 16));
                                replica.update(&data.batch(at, end)).unwrap();
                            }
                            replica.finish().unwrap();
                            processor_seconds()
                        })
                    });
                    let threads: Vec<_> = threads.collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
                });
                best = best.min(start.elapsed().as_secs_f64());
                least = least.min(busy);
            }
            let each = best * 1e9 / rows as f64;
            let busy = least * 1e9 / rows as f64;
            println!(
                "{rows} x {d}, k = {k}, {replicas} threads: {each:.1} ns a row, {busy:.1} of a core"
            );
        }
    }
}

/// Processor time of this thread, where the system reports it.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok());
    first.map_or(f64::NAN, |nanoseconds| nanoseconds / 1e9)
}
