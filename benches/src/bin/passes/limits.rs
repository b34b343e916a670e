//! What the machine can do: reading float32 from memory, and faer's products of float32 matrices.

use std::hint::black_box;
use std::time::Instant;

use gradlake_benches::{Result, numbers};
use gradlake_udfs::kernels::math::vectorized;
use gradlake_udfs::kernels::matmul;
use serde_json::json;

/// Floats of a thread's buffer: 512 MB, far beyond any cache.
const FLOATS: usize = 1 << 27;
/// Side of the square products.
const SIDE: usize = 1024;
/// Timings of which the median counts.
const PASSES: usize = 5;

#[derive(clap::Args)]
pub struct Args {
    /// Threads of the second figure of each limit
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Units of layers from input to output: also measures the products of a training step of this
    /// network, such as 28,1024,1024,1
    #[arg(long, value_delimiter = ',')]
    layers: Vec<usize>,
    /// Rows of the step
    #[arg(long, default_value_t = 256)]
    batch: usize,
}

/// Prints GB/s and GFLOP/s of one thread and of all threads together.
///
/// # Errors
/// When standard output is closed.
pub fn run(args: &Args) -> Result<()> {
    let n = args.threads.max(1);
    if args.layers.is_empty() {
        let reading =
            |threads| together(threads, || vec![1.0; FLOATS], |data: &mut Vec<f32>| read(data));
        let products = |threads| together(threads, square, Step::pass);
        return crate::print(&json!({
            "threads": n,
            "read_gb_s": [reading(1), reading(n)],
            "faer_gflop_s": [products(1), products(n)],
        }));
    }
    // One thread takes the whole mini-batch; several share its rows, as shards do.
    let step = |threads: usize| {
        together(threads, || Step::of(&args.layers, args.batch / threads), Step::pass)
    };
    crate::print(&json!({ "layers": args.layers, "faer_gflop_s": [step(1), step(n)] }))
}

/// Giga-units a second of `threads` threads that each make a state and time passes over it: the sum
/// of their medians. `pass` returns units of work.
fn together<S>(
    threads: usize,
    state: impl Fn() -> S + Sync,
    pass: impl Fn(&mut S) -> f64 + Sync,
) -> f64 {
    let barrier = std::sync::Barrier::new(threads);
    let one = || {
        let mut state = state();
        pass(&mut state);
        barrier.wait();
        let mut rates: Vec<f64> = (0..PASSES)
            .map(|_| {
                // At least 0.1 s a timing.
                let (begun, mut units) = (Instant::now(), 0.0);
                while begun.elapsed().as_secs_f64() < 0.1 {
                    units += pass(&mut state);
                }
                units / begun.elapsed().as_secs_f64() / 1e9
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[PASSES / 2]
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).sum()
    })
}

/// Sums a buffer; bytes read.
fn read(data: &[f32]) -> f64 {
    const LANES: usize = 128;
    let mut sums = [0.0f32; LANES];
    let data = black_box(data);
    vectorized(
        #[inline(always)]
        || {
            for chunk in data.chunks_exact(LANES) {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum += x;
                }
            }
        },
    );
    black_box(sums);
    4.0 * data.len() as f64
}

/// The matrices of the products of one training step.
struct Step {
    rows: usize,
    /// Inputs and units of each layer.
    layers: Vec<(usize, usize)>,
    /// `[rows, units]` from the input to the output.
    values: Vec<Vec<f32>>,
    weights: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    /// Room for the gradient of inputs, `[rows, widest]`.
    below: Vec<f32>,
    square: bool,
}

fn square() -> Step {
    Step { square: true, ..Step::of(&[SIDE, SIDE], SIDE) }
}

impl Step {
    fn of(units: &[usize], rows: usize) -> Self {
        let layers: Vec<_> = units.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let weights: Vec<_> = layers.iter().map(|(d, u)| numbers(2, d * u)).collect();
        let widest = units.iter().copied().max().unwrap_or(0);
        Self {
            rows,
            values: units.iter().map(|u| numbers(1, rows * u)).collect(),
            gradients: weights.clone(),
            weights,
            below: vec![0.0; rows * widest],
            layers,
            square: false,
        }
    }

    /// All products of a step (or the one square product); floating-point operations.
    fn pass(&mut self) -> f64 {
        let r = self.rows;
        let mut flops = 0;
        for (i, (d, u)) in self.layers.iter().copied().enumerate() {
            let (before, after) = self.values.split_at_mut(i + 1);
            let Some((x, z)) = before.last().zip(after.first_mut()) else { continue };
            matmul::forward(x, &self.weights[i], z, r, d, u, false);
            flops += 2 * r * d * u;
        }
        if self.square {
            return flops as f64;
        }
        for (i, (d, u)) in self.layers.iter().copied().enumerate().rev() {
            let (x, dz) = (&self.values[i], &self.values[i + 1]);
            matmul::weight_gradient(x, dz, &mut self.gradients[i], r, d, u);
            flops += 2 * r * d * u;
            if i > 0 {
                matmul::backward(dz, &self.weights[i], &mut self.below, r, d, u);
                flops += 2 * r * d * u;
            }
        }
        black_box(&self.gradients);
        flops as f64
    }
}
