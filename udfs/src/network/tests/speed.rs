//! Milliseconds a step of the conv net of issue 23, to be run by hand:
//!
//! ```text
//! cargo test --release -p gradlake-udfs --lib network::tests::speed -- --ignored --nocapture
//! python udfs/tests/oracle/speed.py
//! ```

use std::time::Instant;

use super::*;
use crate::learner::Loss;

fn time(name: &str, input: Input, layers: &[LayerSpec], rows: usize) {
    let (dense, columns) = input.reach();
    let mut builder = Builder::new(Architecture::new(vec![input])).unwrap();
    let end = builder.chain(layers, &[Origin::Input(0)]).unwrap();
    builder.output(10, true, &[end]).unwrap();
    let mut executor = Executor::new(&builder.finish(), Loss::Softmax, rows).unwrap();
    let rows = Rows {
        bytes: vec![],
        dense: values(2, rows * dense),
        codes: (0..rows * columns).map(|i| (i * 37 % 1000) as u32).collect(),
        label: (0..rows).map(|i| (i % 10) as f32).collect(),
        weight: vec![1.0; rows],
    };
    let mut at = vec![0.0; executor.layout().len()];
    executor.initialize(1, &mut at);
    let mut gradient = vec![0.0; at.len()];
    let mut out = vec![0.0; rows.len() * 10];
    for threads in [1, 2] {
        let pool = Pool(threads);
        let mut best = [f64::INFINITY; 2];
        for _ in 0..30 {
            let start = Instant::now();
            executor.gradient(&pool, &mut at, &rows.batch(), KEY, 1.0, &mut gradient);
            best[0] = best[0].min(start.elapsed().as_secs_f64() * 1e3);
            let start = Instant::now();
            executor.scores(&pool, &at, &rows.batch(), &mut out);
            best[1] = best[1].min(start.elapsed().as_secs_f64() * 1e3);
        }
        println!(
            "{name}, {threads} threads, {} shards, {} KB: gradient {:.2} ms, scores {:.2} ms",
            executor.shards(),
            executor.bytes() >> 10,
            best[0],
            best[1]
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let spec = LayerSpec::new;
    let conv = |filters: usize| spec("conv").with(filters).with(3usize).named("padding", "same");
    let image = |shape: &[usize]| Input {
        name: "image".to_string(),
        kind: InputKind::Numbers { offset: 0, shape: shape.to_vec(), length: None },
    };
    let (relu, pool) = (|| spec("relu"), || spec("max_pool").with(2usize));
    let cnn = [
        conv(32),
        relu(),
        pool(),
        conv(64),
        relu(),
        pool(),
        spec("flatten"),
        spec("dense").with(128usize),
        relu(),
    ];
    time("cnn", image(&[28, 28, 1]), &cnn, 128);
    let block = |filters: usize, stride: usize| {
        let first = conv(filters).named("bias", false).named("stride", stride);
        let second = conv(filters).named("bias", false);
        let inner = vec![first, spec("batch_norm"), relu(), second, spec("batch_norm")];
        [spec("residual").around(inner), relu()]
    };
    let mut resnet = vec![conv(32).named("bias", false), spec("batch_norm"), relu()];
    for (filters, stride) in [(32, 1), (64, 2), (128, 2)] {
        resnet.extend(block(filters, stride));
    }
    resnet.push(spec("global_avg_pool"));
    time("resnet", image(&[32, 32, 3]), &resnet, 128);
    time("gru", image(&[128, 6]), &[spec("gru").with(64usize)], 64);
    let kind = InputKind::Tokens { offset: 0, steps: 64, vocabulary: 20_000, length: None };
    let words = || Input { name: "words".to_string(), kind: kind.clone() };
    let embedding = || spec("embedding").with(64usize);
    let transformer = spec("transformer").with(4usize).with(128usize).named("dropout", 0.0);
    let layers = [embedding(), spec("positional_embedding"), transformer, spec("global_avg_pool")];
    time("transformer", words(), &layers, 64);
    let text = [embedding(), spec("global_avg_pool"), spec("dense").with(64usize), relu()];
    time("text", words(), &text, 64);
}
