//! The kernels, each beside the plain loop that defines it: `cargo bench -p gradlake-benches
//! --bench kernels [-- FILTER]`.
//!
//! Before a kernel is timed it must agree with its loop. "elem/s" are what the name of the group
//! says: floating-point operations, rows, values or parameters a second.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float64Array, StringViewArray, UInt8Array};
use arrow::datatypes::{DataType, Field};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use gradlake_benches::{Result, Rows, SEED, indices, naive, numbers, quick, time};
use gradlake_udfs::kernels::activation;
use gradlake_udfs::kernels::gather;
use gradlake_udfs::kernels::matmul;
use gradlake_udfs::{
    Activation, Column, Descent, Encoder, GramSum, Interner, Learner, Loss, Network, NetworkSpec,
    NewtonSum, Optimizer, Reads, Schedule, Sequential, Statistics, StepKey, StepSize, Stepper,
    Values, Width,
};

fn main() -> Result<()> {
    let mut criterion = quick();
    products(&mut criterion)?;
    gradients(&mut criterion)?;
    losses(&mut criterion)?;
    activations(&mut criterion)?;
    gathers(&mut criterion)?;
    optimizers(&mut criterion)?;
    steps(&mut criterion)?;
    encoders(&mut criterion)?;
    sums(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// A group whose kernels do so many operations, rows or values a run.
fn group<'a>(criterion: &'a mut Criterion, name: &str, n: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(n as u64));
    group
}

/// Times a kernel that changes `out`.
fn run(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    out: &mut [f32],
    mut kernel: impl FnMut(&mut [f32]),
) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            kernel(black_box(&mut *out));
            black_box(&mut *out);
        });
    });
}

/// Times a kernel and its plain loop, which must leave the same in `out[n]`.
fn race(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    n: usize,
    mut kernel: impl FnMut(&mut [f32]),
    mut plain: impl FnMut(&mut [f32]),
) -> Result<()> {
    let (mut found, mut truth) = (vec![0.0; n], vec![0.0; n]);
    kernel(&mut found);
    plain(&mut truth);
    agree(name, &found, &truth)?;
    run(group, name, &mut found, kernel);
    run(group, &format!("{name}, plain loop"), &mut truth, plain);
    Ok(())
}

/// Refuses a kernel that computes something else than its loop.
fn agree(name: &str, found: &[f32], truth: &[f32]) -> Result<()> {
    const TOLERANCE: f32 = 1e-3;
    let differs = |(found, truth): &(&f32, &f32)| {
        let error = (*found - *truth).abs();
        error.is_nan() || error > TOLERANCE * (1.0 + truth.abs())
    };
    match found.iter().zip(truth).find(differs) {
        Some((found, truth)) => Err(format!("{name} gives {found} instead of {truth}").into()),
        None => Ok(()),
    }
}

fn products(criterion: &mut Criterion) -> Result<()> {
    for (r, d, u) in [(128, 784, 256), (128, 256, 128), (256, 28, 32)] {
        let name = format!("product {r} x {d} x {u} (flops)");
        let mut group = group(criterion, &name, 2 * r * d * u);
        let (x, w, dz) = (numbers(1, r * d), numbers(2, d * u), numbers(3, r * u));
        race(
            &mut group,
            "forward",
            r * u,
            |out| matmul::forward(&x, &w, out, r, d, u, false),
            |out| naive::forward(&x, &w, out, d, u),
        )?;
        race(
            &mut group,
            "backward",
            r * d,
            |out| matmul::backward(&dz, &w, out, r, d, u),
            |out| naive::backward(&dz, &w, out, d, u),
        )?;
        race(
            &mut group,
            "weight gradient",
            d * u,
            |out| matmul::weight_gradient(&x, &dz, out, r, d, u),
            |out| naive::weight_gradient(&x, &dz, out, d, u),
        )?;
    }
    Ok(())
}

fn network(hidden: &[usize], loss: Loss, outputs: usize, width: Width) -> Network {
    let spec = NetworkSpec {
        hidden: hidden.to_vec(),
        activation: Activation::Relu,
        loss,
        quantiles: vec![],
        outputs,
        intercept: true,
        dropout: 0.0,
    };
    spec.network(width)
}

const KEY: StepKey = StepKey { seed: SEED, step: 1 };

const STEP: StepSize = StepSize {
    learning_rate: 1e-4,
    intercept_learning_rate: 1e-4,
    previous: Some(1.0),
    l1: 0.0,
    l2: 0.0,
    step: 1,
};

fn gradients(criterion: &mut Criterion) -> Result<()> {
    let width = Width { dense: 28, ..Width::default() };
    let linear = network(&[], Loss::Logistic, 1, width);
    let n = linear.layout().len();
    let adam = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    for rows in [1, 32, 256] {
        let mut group = group(criterion, &format!("linear gradient, 28 x {rows} (rows)"), rows);
        let data = Rows::new(rows, width, 2);
        let (mut parameters, scale) = (numbers(4, n), 1.0 / rows as f32);
        let mut scratch = linear.scratch(rows);
        race(
            &mut group,
            "gradient",
            n,
            |out| {
                linear.gradient(&parameters, &data.batch(), KEY, scale, &mut scratch, out);
            },
            |out| naive::logistic_gradient(&parameters, &data.batch(), out),
        )?;
        let (mut gradient, mut moments) = (vec![0.0; n], vec![0.0; 2 * n]);
        run(&mut group, "gradient and a step of Adam", &mut parameters, |parameters| {
            let batch = data.batch();
            linear.gradient(parameters, &batch, KEY, scale, &mut scratch, &mut gradient);
            adam.step(linear.layout(), &STEP, parameters, &gradient, &mut moments);
        });
    }

    let (rows, width) = (128, Width { dense: 784, ..Width::default() });
    let deep = network(&[256], Loss::Softmax, 10, width);
    let flops = rows * deep.flops_per_row() as usize;
    let mut group = group(criterion, "network gradient, 784-256-10 x 128 (flops)", flops);
    let data = Rows::new(rows, width, 10);
    let mut parameters = vec![0.0; deep.layout().len()];
    deep.initialize(SEED, &mut parameters);
    let (mut scratch, mut gradient) = (deep.scratch(rows), vec![0.0; parameters.len()]);
    run(&mut group, "gradient", &mut gradient, |out| {
        deep.gradient(&parameters, &data.batch(), KEY, 1.0 / 128.0, &mut scratch, out);
    });
    Ok(())
}

fn losses(criterion: &mut Criterion) -> Result<()> {
    let rows = 1024;
    let mut group = group(criterion, "loss, value and derivative (rows)", rows);
    let weight = vec![1.0; rows];
    for (loss, k) in [(Loss::Logistic, 1), (Loss::Softmax, 10)] {
        let z = numbers(5, rows * k);
        let data = Rows::new(rows, Width::default(), k.max(2));
        let label = data.batch().label;
        race(
            &mut group,
            loss.name(),
            rows * k,
            |out| {
                out.copy_from_slice(&z);
                black_box(loss.differentiate(out, k, label, &weight, 1.0));
            },
            |out| {
                out.copy_from_slice(&z);
                black_box(match loss {
                    Loss::Logistic => naive::logistic_loss(out, label),
                    _ => naive::softmax_loss(out, k, label),
                });
            },
        )?;
    }
    Ok(())
}

fn activations(criterion: &mut Criterion) -> Result<()> {
    let n = 128 * 256;
    let mut group = group(criterion, "activation (values)", n);
    let z: Vec<f32> = numbers(6, n).iter().map(|x| 4.0 * x).collect();
    for f in Activation::ALL.into_iter().filter(|f| *f != Activation::Identity) {
        race(
            &mut group,
            f.name(),
            n,
            |out| activation::apply(f, &z, out),
            |out| out.iter_mut().zip(&z).for_each(|(a, z)| *a = naive::activation(f, *z)),
        )?;
        let (mut a, mut d, mut sums) = (vec![0.0; n], vec![0.0; n], vec![0.0; 256]);
        activation::apply(f, &z, &mut a);
        run(
            &mut group,
            &format!("{} backward and the gradient of the bias", f.name()),
            &mut d,
            |d| {
                d.fill(1.0);
                activation::backward(f, &z, &a, d, &mut sums, 256);
            },
        );
    }
    Ok(())
}

fn gathers(criterion: &mut Criterion) -> Result<()> {
    let (rows, u) = (1024, 64);
    let width = Width { dense: 0, columns: 8, categories: 96, ..Width::default() };
    let mut group = group(criterion, "gather, 8 of 96 categories x 64 (rows)", rows);
    let (c, t) = (width.columns, width.categories);
    let data = Rows::new(rows, width, 2);
    let codes = data.batch().codes;
    let (table, dz) = (numbers(7, t * u), numbers(8, rows * u));
    let hot = naive::one_hot(codes, width);
    race(
        &mut group,
        "forward",
        rows * u,
        |out| {
            out.fill(0.0);
            gather::forward(codes, &table, out, c, u);
        },
        |out| naive::forward(&hot, &table, out, t, u),
    )?;
    race(
        &mut group,
        "backward",
        t * u,
        |out| {
            out.fill(0.0);
            gather::backward(codes, &dz, out, c, u);
        },
        |out| naive::weight_gradient(&hot, &dz, out, t, u),
    )
}

fn optimizers(criterion: &mut Criterion) -> Result<()> {
    let (beta1, beta2, epsilon, momentum) = (0.9, 0.999, 1e-8, 0.9);
    let learner = network(&[256], Loss::Softmax, 10, Width { dense: 784, ..Width::default() });
    let layout = learner.layout();
    let n = layout.len();
    let mut group = group(criterion, "optimizer (parameters)", n);
    let gradient = numbers(9, n);
    let all = [
        Optimizer::Sgd,
        Optimizer::Momentum { momentum },
        Optimizer::Nesterov { momentum },
        Optimizer::Adagrad { epsilon },
        Optimizer::RmsProp { beta2, epsilon },
        Optimizer::Adam { beta1, beta2, epsilon },
        Optimizer::AdamW { beta1, beta2, epsilon },
        Optimizer::Ftrl { beta: 1.0 },
    ];
    for optimizer in all {
        let mut moments = vec![0.0; optimizer.moments() * n];
        let mut step = |w: &mut [f32]| optimizer.step(layout, &STEP, w, &gradient, &mut moments);
        if matches!(optimizer, Optimizer::Adam { .. }) {
            let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
            let plain = |w: &mut [f32]| {
                naive::adam(STEP.learning_rate, 1, w, &gradient, &mut m, &mut v);
            };
            race(&mut group, optimizer.name(), n, &mut step, plain)?;
        } else {
            run(&mut group, optimizer.name(), &mut vec![0.0; n], &mut step);
        }
    }
    Ok(())
}

/// Name, hidden layers, width, optimizer, L2 and rows of mini-batches.
type Training<'a> = (&'a str, &'a [usize], Width, Optimizer, f32, &'a [usize]);

/// Of columns that have as many categories each.
fn first_categories(width: Width) -> Arc<[u32]> {
    (0..width.columns).map(|i| (width.categories * i / width.columns) as u32).collect()
}

/// Whole steps of a training, gradient and optimizer: what a row costs within a round.
fn steps(criterion: &mut Criterion) -> Result<()> {
    let numbers = Width { dense: 28, ..Width::default() };
    let wide = Width { dense: 0, columns: 20, categories: 1_000_000, ..Width::default() };
    let adam = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let (adagrad, ftrl) = (Optimizer::Adagrad { epsilon: 1e-10 }, Optimizer::Ftrl { beta: 1.0 });
    let all: [Training<'_>; 8] = [
        ("28-1, sgd", &[], numbers, Optimizer::Sgd, 0.0, &[1, 32, 256]),
        ("28-64-32-1, adam", &[64, 32], numbers, adam, 0.0, &[256]),
        ("28-256-128-1, adam", &[256, 128], numbers, adam, 0.0, &[256]),
        ("28-1024-1024-1, adam", &[1024, 1024], numbers, adam, 0.0, &[256]),
        ("20 of 1,000,000 categories, sgd", &[], wide, Optimizer::Sgd, 0.0, &[32, 256]),
        ("20 of 1,000,000 categories, adagrad", &[], wide, adagrad, 0.0, &[32, 256]),
        ("20 of 1,000,000 categories, ftrl", &[], wide, ftrl, 1e-6, &[32, 256]),
        ("20 of 1,000,000 categories, adam", &[], wide, adam, 0.0, &[256]),
    ];
    for (name, hidden, width, optimizer, l2, sizes) in all {
        for &rows in sizes {
            let mut group = group(criterion, &format!("step, {name}, x {rows} (rows)"), rows);
            let descent = Descent {
                learner: Arc::new(network(hidden, Loss::Logistic, 1, width)),
                optimizer,
                schedule: Schedule::CONSTANT,
                first_step: 0,
                learning_rate: 1e-3,
                intercept_learning_rate: 1e-3,
                l1: 0.0,
                l2,
                clip_norm: None,
                seed: SEED,
                batch_size: rows,
                slices: 1,
                threads: Arc::new(Sequential),
                first_categories: first_categories(width),
                progress: Arc::default(),
                interrupt: Arc::default(),
            };
            let state = descent.initial_state();
            let mut stepper = Stepper::new(Arc::new(descent), state, 0, Reads::AtEnd);
            // Mini-batches in turn, so that they do not meet the same categories.
            let data = Rows::new(64 * rows, width, 2);
            let mut turn = 0;
            time(&mut group, "gradient and step", || {
                let mut batch = data.batch().slice(turn * rows, (turn + 1) * rows, width);
                batch.first_row = 0;
                turn = (turn + 1) % 64;
                Ok(stepper.step(&batch)?)
            })?;
        }
    }
    Ok(())
}

/// An encoder fitted to columns, as training fits it, and what interned their texts.
fn fit(columns: &[ArrayRef]) -> Result<(Encoder, Vec<Interner>)> {
    let inputs: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| (format!("c{i}"), column.data_type().clone()))
        .collect();
    let mut interners = vec![];
    let mut codes = vec![];
    for column in columns.iter().filter(|column| *column.data_type() == DataType::Utf8View) {
        let mut interner = Interner::default();
        codes.push(interner.intern(column)?);
        interners.push(interner);
    }
    let values: Vec<_> = match codes.as_slice() {
        [] => columns.iter().map(Values::Array).collect(),
        codes => codes.iter().map(Values::Codes).collect(),
    };
    let mut statistics = Statistics::new(&inputs, true)?;
    statistics.update(&values, None)?;
    let known: Vec<_> = (0..columns.len()).map(|i| interners.get(i)).collect();
    Ok((statistics.finish(&known)?, interners))
}

fn encoders(criterion: &mut Criterion) -> Result<()> {
    let mut encode = |name: &str, columns: &[ArrayRef], values: usize| -> Result<()> {
        let rows = columns.first().map_or(0, |column| column.len());
        let mut group = group(criterion, &format!("encode {name} (values)"), rows * values);
        let (encoder, mut interners) = fit(columns)?;
        let width = encoder.width();
        let mut dense = vec![0.0; rows * width.dense];
        let mut codes = vec![0; rows * width.columns];
        let arrays: Vec<_> = columns.iter().map(Column::Array).collect();
        time(&mut group, "as PREDICT does", || {
            Ok(encoder.encode(&arrays, rows, &mut dense, &mut codes)?)
        })?;
        if interners.is_empty() {
            return Ok(());
        }
        // Training interns texts as they come and maps the codes once the encoder is fitted.
        let mut interned = vec![];
        for (i, (column, interner)) in columns.iter().zip(&mut interners).enumerate() {
            interned.push((interner.intern(column)?, encoder.code_map(i, interner)?));
        }
        let interned: Vec<_> =
            interned.iter().map(|(codes, map)| Column::Codes { codes, map }).collect();
        time(&mut group, "as training does, interned", || {
            Ok(encoder.encode(&interned, rows, &mut dense, &mut codes)?)
        })
    };

    let rows = 8192;
    let number = |i: u64| -> ArrayRef {
        let values = numbers(20 + i, rows).into_iter();
        let value = |(row, x): (usize, f32)| (row % 50 != 0).then_some(f64::from(x));
        Arc::new(Float64Array::from_iter(values.enumerate().map(value)))
    };
    let numbers: Vec<_> = (0..16).map(number).collect();
    encode("16 columns of float64", &numbers, 16)?;

    let text = |i: u64| -> ArrayRef {
        let values = indices(40 + i, rows, 16).into_iter();
        Arc::new(StringViewArray::from_iter_values(values.map(|v| format!("Category-{v}"))))
    };
    let texts: Vec<_> = (0..8).map(text).collect();
    encode("8 columns of text", &texts, 8)?;

    let pixels = indices(60, 1024 * 784, 256).into_iter().map(|pixel| pixel as u8);
    let pixels: ArrayRef = Arc::new(UInt8Array::from_iter_values(pixels));
    let item = Arc::new(Field::new_list_field(DataType::UInt8, false));
    let images = FixedSizeListArray::try_new(item, 784, pixels, None)?;
    encode("images of 784 bytes", &[Arc::new(images)], 784)
}

fn sums(criterion: &mut Criterion) -> Result<()> {
    let rows = 4096;
    let dense = Width { dense: 28, ..Width::default() };
    // As of Adult.
    let mixed = Width { dense: 6, columns: 8, categories: 104, ..Width::default() };
    for (name, width) in [("28 numbers", dense), ("6 numbers and 8 categories", mixed)] {
        let mut group = group(criterion, &format!("exact sums, {name} (rows)"), rows);
        let data = Rows::new(rows, width, 2);
        let mut gram = GramSum::new(width);
        gram.update(&data.batch())?;
        let mut plain = vec![0.0; (width.dense + 2).pow(2)];
        naive::gram(&data.batch(), width.dense, &mut plain);
        // The last row of the plain sums is that of the column of ones.
        if let [.., target, ones] = *plain {
            let found = [gram.weight() as f32, gram.mean_target() as f32];
            agree("the Gram sum", &found, &[ones as f32, (target / ones) as f32])?;
        }
        time(&mut group, "Gram", || Ok(gram.update(&data.batch())?))?;
        if width.columns == 0 {
            time(&mut group, "Gram, plain loop", || {
                naive::gram(&data.batch(), width.dense, black_box(&mut plain));
                Ok(())
            })?;
        }
        for outputs in [1, 3] {
            let mut newton = NewtonSum::new(width, outputs, true)?;
            let parameters = vec![0.1; newton.parameter_count()];
            time(&mut group, &format!("Newton, {outputs} outputs"), || {
                Ok(newton.update(&parameters, &data.batch())?)
            })?;
        }
    }

    let wide = Width { dense: 256, ..Width::default() };
    let mut group = group(criterion, "exact solve, 256 numbers (systems)", 1);
    let data = Rows::new(rows, wide, 2);
    let mut gram = GramSum::new(wide);
    gram.update(&data.batch())?;
    time(&mut group, "Gram", || Ok(gram.solve(0.0, true)?))?;
    let mut newton = NewtonSum::new(wide, 1, true)?;
    let parameters = vec![0.0; newton.parameter_count()];
    newton.update(&parameters, &data.batch())?;
    time(&mut group, "Newton", || Ok(newton.step(&parameters, 1e-3)?))
}
