//! Laws of all layers: gradients are differences of losses, bits do not depend on threads, padding
//! does not matter, draws can be repeated.

use super::*;
use crate::batch::Width;
use crate::learner::{Loss, Role};
use crate::parallel::Threads;

/// A network with rows for it.
struct Case {
    name: &'static str,
    architecture: Architecture,
    rows: Rows,
}

fn spec(name: &str) -> LayerSpec {
    LayerSpec::new(name)
}

fn dense(units: usize) -> LayerSpec {
    spec("dense").with(units)
}

fn numbers(shape: &[usize], length: Option<usize>) -> Input {
    let kind = InputKind::Numbers { offset: 0, shape: shape.to_vec(), length };
    Input { name: "x".to_string(), kind }
}

fn case(name: &'static str, input: Input, layers: &[LayerSpec], rows: usize) -> Case {
    let (dense, columns) = input.reach();
    let mut builder = Builder::new(Architecture::new(vec![input])).unwrap();
    let end = builder.chain(layers, &[Origin::Input(0)]).unwrap();
    builder.output(2, true, &[end]).unwrap();
    let code = |i: usize| match i % 5 {
        0 => NO_CATEGORY,
        i => (i * 3 % 7) as u32,
    };
    let rows = Rows {
        bytes: vec![],
        dense: values(2, rows * dense),
        codes: (0..rows * columns).map(code).collect(),
        label: values(3, rows * 2),
        weight: values(4, rows).iter().map(|value| 0.75 + 0.5 * value).collect(),
    };
    Case { name, architecture: builder.finish(), rows }
}

fn tokens(steps: usize, vocabulary: usize) -> Input {
    let kind = InputKind::Tokens { offset: 1, steps, vocabulary, length: Some(0) };
    Input { name: "words".to_string(), kind }
}

/// Networks in which every layer occurs, those that draw at random too.
fn cases(rows: usize) -> Vec<Case> {
    let conv = |filters: usize| spec("conv").with(filters).with(3usize).named("padding", "same");
    let image = || numbers(&[6, 5, 2], None);
    let norm = || spec("batch_norm");
    vec![
        case(
            "dropout",
            numbers(&[6], None),
            &[dense(8), spec("dropout").with(0.3), spec("tanh")],
            rows,
        ),
        case("noise", numbers(&[6], None), &[dense(5), spec("gaussian_noise"), spec("silu")], rows),
        case("flip", image(), &[conv(3), spec("random_flip"), spec("gelu"), conv(2)], rows),
        case("crop", image(), &[conv(3), spec("random_crop").with(2usize), conv(2)], rows),
        case(
            "conv net",
            image(),
            &[
                spec("random_flip"),
                spec("random_crop").with(1usize),
                conv(4),
                norm(),
                spec("silu"),
                spec("residual").around(vec![conv(4), norm(), spec("elu"), spec("dropout")]),
                spec("avg_pool").with(2usize),
                conv(3).named("groups", 1usize),
                spec("max_pool").with(2usize),
                spec("flatten"),
                spec("dropout").with(0.2),
                dense(6),
                norm(),
                spec("sigmoid"),
            ],
            rows,
        ),
        case(
            "sequence",
            numbers(&[7, 3], Some(0)),
            &[
                dense(4),
                conv(6),
                norm(),
                spec("positional_embedding"),
                spec("attention").with(2usize).named("dropout", 0.2),
                spec("transformer").with(3usize).with(5usize).named("dropout", 0.3),
                spec("gru").with(4usize).named("states", "all").named("bidirectional", true),
                spec("layer_norm"),
                spec("lstm").with(3usize),
            ],
            rows,
        ),
        case(
            "text",
            tokens(6, 9),
            &[
                spec("embedding").with(5usize),
                spec("dropout").with(0.3),
                spec("residual").around(vec![
                    spec("conv").with(5usize).with(3usize).named("padding", "same"),
                    spec("tanh"),
                ]),
                spec("global_avg_pool"),
                spec("softmax"),
            ],
            rows,
        ),
    ]
}

fn lengths(case: &mut Case, of: impl Fn(usize) -> usize) {
    let n = case.rows.weight.len();
    let columns = case.rows.codes.len() / n;
    let steps = case.architecture.inputs[0].length().map(|at| (at, columns));
    if let Some((at, columns)) = steps {
        for row in 0..n {
            case.rows.codes[row * columns + at] = of(row) as u32;
        }
    }
}

fn gradient(
    executor: &mut Executor,
    threads: &dyn ParallelFor,
    rows: &MiniBatch<'_>,
    at: &[f32],
) -> (LossSum, Vec<f32>, Vec<f32>) {
    let (mut at, mut gradient) = (at.to_vec(), vec![f32::NAN; at.len()]);
    let sum = executor.gradient(threads, &mut at, rows, KEY, 0.5, &mut gradient);
    (sum, gradient, at)
}

#[test]
fn gradients_are_central_differences_with_draws_repeated() {
    for mut case in cases(9) {
        lengths(&mut case, |row| [7, 0, 1, 4][row % 4]);
        let name = case.name;
        let mut executor = Executor::new(&case.architecture, Loss::Squared, 9).unwrap();
        let at = parameters(&executor);
        let batch = case.rows.batch();
        let (first, own, _) = gradient(&mut executor, &Sequential, &batch, &at);
        assert!(own.iter().any(|g| *g != 0.0), "{name}");
        // A direction of random signs in one tensor at a time: the slope of the loss along it.
        for tensor in executor.layout().clone().tensors() {
            if tensor.role == Role::Buffer {
                continue;
            }
            let node = tensor.node.clone().unwrap_or_default();
            let name = format!("{name} {node}.{}", tensor.name);
            let range = tensor.range();
            let signs = values(11, range.len());
            let slope = |h: f32, executor: &mut Executor| {
                let ends = [h, -h].map(|h| {
                    let mut moved = at.clone();
                    for (value, sign) in moved[range.clone()].iter_mut().zip(&signs) {
                        *value += h * sign.signum();
                    }
                    gradient(executor, &Sequential, &batch, &moved).0.loss
                });
                0.5 * (ends[0] - ends[1]) / (2.0 * f64::from(h))
            };
            let truth: f64 = own[range.clone()]
                .iter()
                .zip(&signs)
                .map(|(g, sign)| f64::from(g * sign.signum()))
                .sum();
            // float32 losses of some units differ by 1e-6, over twice the distance.
            let found = slope(2e-3, &mut executor);
            let size: f64 = own[range.clone()].iter().map(|g| f64::from(g.abs())).sum();
            let tolerance = 2e-2 * size + 4e-3 * first.loss.min(1.0);
            assert!((found - truth).abs() < tolerance, "{name}: {found} {truth} of {size}");
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_and_draws_depend_on_the_key() {
    for mut case in cases(70) {
        lengths(&mut case, |row| [7, 0, 1, 4, 5][row % 5]);
        let name = case.name;
        let of = |n| Executor::with_shards(&case.architecture, Loss::Squared, 70, n).unwrap();
        let mut executor = of(5);
        let at = parameters(&executor);
        let batch = case.rows.batch();
        let (sum, truth, after) = gradient(&mut executor, &Sequential, &batch, &at);
        assert!(truth.iter().all(|g| g.is_finite()), "{name}");
        // (One shard gives the same but for rounding.)
        let (_, alone, _) = gradient(&mut of(1), &Sequential, &batch, &at);
        assert!(error(&alone, &wide(&truth)) < 1e-5, "{name}");
        let mut scores = vec![0.0; 140];
        executor.scores(&Sequential, &at, &batch, &mut scores);
        for threads in 1..=4 {
            for pool in [&Threads(threads) as &dyn ParallelFor, &Pool(threads)] {
                let (other, own, moved) = gradient(&mut executor, pool, &batch, &at);
                assert_eq!(sum, other, "{name} {threads}");
                assert!(own.iter().zip(&truth).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
                assert_eq!(moved, after, "{name}");
                let mut again = vec![f32::NAN; 140];
                executor.scores(pool, &at, &batch, &mut again);
                assert_eq!(again, scores, "{name}");
            }
        }
        let draws = |key: StepKey, executor: &mut Executor| {
            let (mut at, mut gradient) = (at.clone(), vec![0.0; at.len()]);
            executor.gradient(&Sequential, &mut at, &batch, key, 0.5, &mut gradient);
            gradient
        };
        assert_eq!(draws(KEY, &mut executor), truth, "{name}");
        assert_ne!(draws(StepKey { step: 4, ..KEY }, &mut executor), truth, "{name}");
        assert_ne!(draws(StepKey { seed: 8, ..KEY }, &mut executor), truth, "{name}");
    }
}

/// Several shards: as one, but for rounding; and the number of shards is more than one.
#[test]
fn shards_add_up() {
    let layers =
        [spec("conv").with(16usize).with(3usize), spec("relu"), spec("flatten"), dense(64)];
    let case = case("work", numbers(&[20, 20, 8], None), &layers, 64);
    let mut executor = Executor::new(&case.architecture, Loss::Squared, 64).unwrap();
    assert!(executor.shards() > 1);
    let at = parameters(&executor);
    let (sum, all, _) = gradient(&mut executor, &Threads(2), &case.rows.batch(), &at);
    let mut small = Executor::new(&case.architecture, Loss::Squared, 4).unwrap();
    assert_eq!(small.shards(), 1);
    let (mut total, mut loss) = (vec![0.0f64; all.len()], 0.0);
    let width = Width { dense: 20 * 20 * 8, targets: 2, ..Width::default() };
    for start in (0..64).step_by(4) {
        let rows = case.rows.batch().slice(start, start + 4, width);
        let (own, gradient, _) = gradient(&mut small, &Sequential, &rows, &at);
        loss += own.loss;
        total.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += f64::from(g));
    }
    assert!((loss - sum.loss).abs() < 1e-6 * loss);
    assert!(error(&all, &total) < 1e-5);
    // A mini-batch with more rows than expected is no error.
    let (again, grown, _) = gradient(&mut small, &Sequential, &case.rows.batch(), &at);
    assert!((again.loss - sum.loss).abs() < 1e-6 * loss && error(&grown, &total) < 1e-5);
}

/// An executor made for few rows cuts more of them into blocks: the same gradient but for rounding,
/// with sums over the mini-batch and tables too.
#[test]
fn more_rows_than_expected_are_cut_into_blocks() {
    for mut case in cases(23) {
        lengths(&mut case, |row| [7, 0, 1, 4, 5][row % 5]);
        let name = case.name;
        let mut whole = Executor::new(&case.architecture, Loss::Squared, 23).unwrap();
        let mut small = Executor::new(&case.architecture, Loss::Squared, 5).unwrap();
        let at = parameters(&whole);
        let (loss, truth, after) = gradient(&mut whole, &Sequential, &case.rows.batch(), &at);
        let (other, found, moved) = gradient(&mut small, &Sequential, &case.rows.batch(), &at);
        let (truth, after) = (wide(&truth), wide(&after));
        assert!((loss.loss - other.loss).abs() < 1e-5 * loss.loss, "{name}");
        assert!(error(&found, &truth) < 1e-5, "{name}: {}", error(&found, &truth));
        assert!(error(&moved, &after) < 1e-6, "{name}");
        let mut scores = [vec![0.0; 46], vec![0.0; 46]];
        for (executor, scores) in [&mut whole, &mut small].into_iter().zip(&mut scores) {
            executor.scores(&Sequential, &at, &case.rows.batch(), scores);
        }
        assert!(error(&scores[1], &wide(&scores[0])) < 1e-5, "{name}");
        let fresh = Executor::new(&case.architecture, Loss::Squared, 23).unwrap();
        assert_eq!(Executor::bytes_for(&case.architecture, 23).unwrap(), fresh.bytes(), "{name}");
    }
}

#[test]
fn what_stands_in_the_padding_does_not_matter() {
    for mut case in cases(8) {
        if case.architecture.inputs[0].length().is_none() {
            continue;
        }
        lengths(&mut case, |row| [7, 0, 1, 4][row % 4]);
        let steps = 7.min(case.rows.codes.len() / 8 + 6);
        let mut executor = Executor::new(&case.architecture, Loss::Squared, 8).unwrap();
        let at = parameters(&executor);
        let compute = |rows: &Rows, executor: &mut Executor| {
            let mut scores = vec![f32::NAN; 16];
            executor.scores(&Sequential, &at, &rows.batch(), &mut scores);
            (scores, gradient(executor, &Sequential, &rows.batch(), &at))
        };
        let truth = compute(&case.rows, &mut executor);
        assert!(truth.0.iter().all(|score| score.is_finite()));
        let mut other = case.rows.clone();
        let (of_row, columns) = (other.dense.len() / 8, other.codes.len() / 8);
        for row in 0..8 {
            let length = [7, 0, 1, 4][row % 4];
            let channels = of_row / steps;
            other.dense[row * of_row..(row + 1) * of_row]
                .iter_mut()
                .skip(length * channels)
                .for_each(|x| *x = 1e3);
            other.codes[row * columns..(row + 1) * columns]
                .iter_mut()
                .skip(1 + length)
                .for_each(|code| *code = 2);
        }
        assert!(other.dense != case.rows.dense || other.codes != case.rows.codes);
        assert_eq!(compute(&other, &mut executor), truth, "{}", case.name);
        // (And what stands elsewhere does matter.)
        other.dense.iter_mut().for_each(|x| *x += 1.0);
        other
            .codes
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| i % columns > 0)
            .for_each(|(_, c)| *c = 3);
        assert_ne!(compute(&other, &mut executor), truth, "{}", case.name);
    }
}

/// A longer padding changes nothing either: a row alone, without padding, has the same score.
#[test]
fn padded_rows_score_as_rows_alone() {
    let layers = |steps: usize, length: Option<usize>| {
        let mut builder =
            Builder::new(Architecture::new(vec![numbers(&[steps, 3], length)])).unwrap();
        let conv = spec("conv").with(4usize).with(4usize).named("padding", "same");
        let all = [
            conv.clone().named("stride", 2usize),
            spec("tanh"),
            spec("max_pool").with(2usize).named("stride", 1usize),
            spec("gru").with(4usize).named("states", "all").named("bidirectional", true),
            spec("attention").with(2usize),
            spec("conv").with(4usize).with(3usize).named("padding", "same").named("groups", 4usize),
            spec("lstm").with(3usize).named("bidirectional", true),
        ];
        let end = builder.chain(&all, &[Origin::Input(0)]).unwrap();
        builder.output(1, true, &[end]).unwrap();
        builder.finish()
    };
    let x = values(2, 9 * 3);
    let mut padded = x.clone();
    padded.resize(13 * 3, 7.0);
    let score = |architecture: &Architecture, dense: &[f32], codes: &[u32]| {
        let mut executor = Executor::for_scoring(architecture, Loss::Squared, 1).unwrap();
        let at = parameters(&executor);
        let rows = MiniBatch { rows: 1, dense, codes, ..MiniBatch::default() };
        let mut out = [f32::NAN];
        executor.scores(&Sequential, &at, &rows, &mut out);
        out[0]
    };
    let alone = score(&layers(9, None), &x, &[]);
    let found = score(&layers(13, Some(0)), &padded, &[9]);
    assert!((alone - found).abs() < 1e-6, "{alone} {found}");
    assert_ne!(alone, score(&layers(13, Some(0)), &padded, &[8]));
}

#[test]
fn nothing_random_happens_in_scoring() {
    for case in cases(6) {
        let mut executor = Executor::new(&case.architecture, Loss::Squared, 6).unwrap();
        let at = parameters(&executor);
        let compute = |executor: &mut Executor| {
            let mut scores = vec![f32::NAN; 12];
            executor.scores(&Sequential, &at, &case.rows.batch(), &mut scores);
            scores
        };
        let before = compute(&mut executor);
        gradient(&mut executor, &Sequential, &case.rows.batch(), &at);
        let alone = &mut Executor::for_scoring(&case.architecture, Loss::Squared, 6).unwrap();
        assert!(compute(&mut executor) == before && compute(alone) == before, "{}", case.name);
        assert!(alone.bytes() < executor.bytes(), "{}", case.name);
    }
}

#[test]
fn initial_parameters_are_a_function_of_the_seed() {
    for case in cases(3) {
        let executor = Executor::new(&case.architecture, Loss::Squared, 3).unwrap();
        let draw = |seed: u64| {
            let mut at = vec![f32::NAN; executor.layout().len()];
            executor.initialize(seed, &mut at);
            at
        };
        let (first, second) = (draw(1), draw(2));
        assert!(first == draw(1) && first != second);
        assert!(first.iter().all(|value| value.is_finite() && value.abs() < 6.0));
        for tensor in executor.layout().tensors() {
            let own = &first[tensor.range()];
            match (tensor.name, tensor.role) {
                ("running_var", _) | (_, Role::Scale) => assert!(own.iter().all(|v| *v == 1.0)),
                ("running_mean", _) => assert!(own.iter().all(|v| *v == 0.0)),
                (_, Role::Weight) => assert!(own.iter().any(|v| *v != own[0]), "{tensor:?}"),
                _ => {}
            }
        }
    }
}
