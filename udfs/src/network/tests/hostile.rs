//! Errors of clauses and architectures, and rows that do not fit.

use super::*;
use crate::learner::{Loss, Role};

fn input(shape: &[usize]) -> Input {
    let kind = InputKind::Numbers { offset: 0, shape: shape.to_vec(), length: None };
    Input { name: "photo".to_string(), kind }
}

fn build(input: Input, layers: &[LayerSpec]) -> Result<Architecture, String> {
    let message = |error: datafusion_common::DataFusionError| error.strip_backtrace();
    let mut builder = Builder::new(Architecture::new(vec![input])).map_err(message)?;
    let end = builder.chain(layers, &[Origin::Input(0)]).map_err(message)?;
    builder.output(2, true, &[end]).map_err(message)?;
    Ok(builder.finish())
}

fn spec(name: &str) -> LayerSpec {
    LayerSpec::new(name)
}

#[test]
fn errors_say_what_was_wrong_and_what_would_be_right() {
    let image = || input(&[8, 8, 3]);
    let conv = || spec("conv").with(4usize).with(3usize);
    for (input, layers, parts) in [
        (image(), vec![spec("cnov")], &["no layer cnov", "did you mean conv?"][..]),
        (image(), vec![spec("fancy")], &["no layer fancy", "dense, conv"]),
        (image(), vec![spec("conv").with(4usize)], &["conv needs argument kernel", "conv(filters"]),
        (image(), vec![conv().named("strid", 2usize)], &["no argument strid", "stride?"]),
        (image(), vec![conv().named("kernel", 2usize)], &["kernel", "given twice"]),
        (image(), vec![conv().named("stride", 0usize)], &["stride", "from 1", "but is 0"]),
        (image(), vec![conv().named("padding", "some")], &["'valid', 'same'", "'some'"]),
        (image(), vec![spec("dense").with(1.5)], &["units", "whole number", "1.5"]),
        (image(), vec![spec("relu").with(3usize)], &["relu takes 0 arguments"]),
        (
            image(),
            vec![spec("dense").with(3usize).around(vec![spec("relu")])],
            &["takes no layers"],
        ),
        (image(), vec![spec("flatten"), conv()], &["conv_1", "[192]", "reshape(height"]),
        (image(), vec![spec("conv").with(4usize).with(9usize)], &["conv_1", "[9, 9]", "[8, 8, 3]"]),
        (image(), vec![conv().named("groups", 2usize)], &["2 groups", "3 channels"]),
        (image(), vec![spec("reshape").with(7usize)], &["reshape_1", "[7]", "192 numbers"]),
        (image(), vec![spec("gru").with(3usize)], &["gru_1", "[steps, channels]", "[8, 8, 3]"]),
        (image(), vec![spec("embedding").with(3usize)], &["embedding_1", "tokens", "[8, 8, 3]"]),
        (image(), vec![spec("residual")], &["residual needs layers"]),
        (image(), vec![spec("residual").around(vec![spec("flatten")])], &["cannot add", "[192]"]),
        (image(), vec![spec("transformer").with(3usize)], &["transformer_1", "[8, 8, 3]"]),
        (image(), vec![spec("dot")], &["dot_1", "two inputs"]),
        (
            image(),
            vec![spec("max_pool").with(2usize).named("padding", 2usize)],
            &["padding of 2", "half of its size 2"],
        ),
        (input(&[6, 4]), vec![spec("attention").with(3usize)], &["3 heads", "4 channels"]),
        (
            image(),
            vec![spec("relu").named_as("a"), spec("relu").named_as("a")],
            &["two layers are named a"],
        ),
        (input(&[]), vec![], &["photo", "too large"]),
        (input(&[3, 0]), vec![], &["photo", "without numbers"]),
        (input(&[usize::MAX, 7]), vec![], &["photo", "too large"]),
        (
            image(),
            vec![spec("dense").with(16_000_000usize), spec("dense").with(16_000_000usize)],
            &["too large"],
        ),
        (input(&[1 << 30, 1]), vec![spec("gru").with(10_000usize)], &["too large"]),
    ] {
        let found = build(input, &layers).unwrap_err();
        for part in parts {
            assert!(found.contains(part), "{layers:?}: {found}");
        }
        assert!(!found.contains('\n') && !found.trim_end_matches('?').ends_with('.'), "{found}");
    }
}

#[test]
fn layers_are_named_printed_and_stored() {
    let block = spec("residual").around(vec![
        spec("conv").with(6usize).with(3usize).named("padding", "same").named("stride", 2usize),
        spec("batch_norm"),
        spec("relu"),
    ]);
    let layers = [
        spec("conv").with(4usize).with(3usize).named("padding", "same").named_as("stem"),
        spec("leaky_relu").with(0.2),
        block,
        spec("dropout").with(0.5),
    ];
    let architecture = build(input(&[8, 8, 3]), &layers).unwrap();
    let rows = architecture.summary().unwrap();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let inputs = row.inputs.join(" ");
            let (shape, work) = (&row.shape, row.multiply_adds);
            format!(
                "{} | {} | {inputs} | {shape:?} | {} | {work}",
                row.name, row.layer, row.parameters
            )
        })
        .collect();
    let conv = 4 * 4 * 9 * 4 * 6;
    assert_eq!(
        lines,
        [
            "stem | conv(4, 3, padding => 'same') | photo | [8, 8, 4] | 112 | 6912".to_string(),
            "leaky_relu_1 | leaky_relu(0.2) | stem | [8, 8, 4] | 0 | 0".to_string(),
            format!(
                "conv_1 | conv(6, 3, stride => 2, padding => 'same') | leaky_relu_1 | [4, 4, 6] | \
                 222 | {conv}"
            ),
            "batch_norm_1 | batch_norm | conv_1 | [4, 4, 6] | 24 | 96".to_string(),
            "relu_1 | relu | batch_norm_1 | [4, 4, 6] | 0 | 0".to_string(),
            "residual_1_projection | conv(6, 1, stride => [2, 2]) | leaky_relu_1 | [4, 4, 6] | 30 \
             | 384"
                .to_string(),
            "residual_1 | add | residual_1_projection relu_1 | [4, 4, 6] | 0 | 0".to_string(),
            "dropout_1 | dropout | residual_1 | [4, 4, 6] | 0 | 0".to_string(),
            "flatten_1 | flatten | dropout_1 | [96] | 0 | 0".to_string(),
            "output | dense(2) | flatten_1 | [2] | 194 | 192".to_string(),
        ]
    );
    let json = serde_json::to_string(&architecture).unwrap();
    assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), architecture);
    let executor = Executor::new(&architecture, Loss::Squared, 4).unwrap();
    let last = executor.layout().tensors().last().unwrap();
    assert_eq!((last.node.as_deref(), last.role), (Some("output"), Role::Intercept));
    assert_eq!(architecture.outputs().unwrap(), 2);
}

/// What is written is read as the same call, for every layer with arguments that are not defaults.
#[test]
fn printed_layers_are_the_layers() {
    for own in DEFINITIONS {
        let mut spec = LayerSpec::new(own.name);
        for argument in own.arguments {
            let value: Value = match argument.kind {
                ArgumentKind::Flag => (argument.default != ArgumentDefault::Flag(true)).into(),
                ArgumentKind::Word(words) | ArgumentKind::WordOrIntegers(words, ..) => {
                    words[words.len() - 1].into()
                }
                ArgumentKind::Number(low, high) => (low + (high - low) / 4.0).into(),
                _ => 3usize.into(),
            };
            spec = spec.named(argument.name, value);
        }
        let call = own.call(&spec).unwrap();
        let printed = own.spec(&call);
        assert_eq!(own.call(&printed).unwrap(), call, "{printed}");
        assert!(!own.doc.is_empty() && !own.doc.ends_with('.'));
    }
}

#[test]
fn stored_architectures_are_checked() {
    let good = build(input(&[4]), &[spec("dense").with(3usize)]).unwrap();
    let wrongs: [fn(&mut Architecture); 8] = [
        |a| a.nodes[0].call.layer = "dens".to_string(),
        |a| a.nodes[0].call.arguments[0].1 = Value::Number(-1.0),
        |a| a.nodes[0].call.arguments[0].1 = Value::Number(f64::NAN),
        |a| a.nodes[0].inputs = vec![Origin::Node(0)],
        |a| a.nodes[0].inputs = vec![Origin::Input(9)],
        |a| a.nodes[0].inputs = vec![],
        |a| a.nodes[1].name = a.nodes[0].name.clone(),
        |a| a.nodes[1].inputs = vec![Origin::Input(0)],
    ];
    assert!(Executor::new(&good, Loss::Squared, 4).is_ok());
    for (i, wrong) in wrongs.iter().enumerate() {
        let mut own = good.clone();
        wrong(&mut own);
        assert!(Executor::new(&own, Loss::Squared, 4).is_err(), "{i}");
    }
    assert!(Executor::new(&Architecture::default(), Loss::Squared, 4).is_err());
    // (Several booleans have a logistic loss each.)
    assert!(Executor::new(&good, Loss::Logistic, 4).is_ok());
    let quantiles = Objective { quantiles: vec![0.5], ..Objective::from(Loss::Quantile) };
    assert!(Executor::new(&good, quantiles, 4).is_err());
}

/// Rows that are narrower than what is read, without labels or weights, or with codes of no row.
#[test]
fn rows_that_do_not_fit_give_no_numbers_and_no_panic() {
    let kind = InputKind::Tokens { offset: 1, steps: 3, vocabulary: 5, length: Some(0) };
    let words = Input { name: "words".to_string(), kind };
    let layers = [spec("embedding").with(4usize), spec("gru").with(3usize)];
    let architecture = build(words, &layers).unwrap();
    let mut executor = Executor::new(&architecture, Loss::Squared, 4).unwrap();
    let mut at = parameters(&executor);
    let mut gradient = vec![1.0; at.len()];
    let whole = Rows {
        bytes: vec![],
        dense: vec![],
        codes: vec![u32::MAX, 7, u32::MAX, 4, 3, 0, 1, 2],
        label: vec![0.5; 4],
        weight: vec![1.0; 2],
    };
    let sum = executor.gradient(&Sequential, &mut at, &whole.batch(), KEY, 1.0, &mut gradient);
    assert!(sum.loss.is_finite() && gradient.iter().all(|g| g.is_finite()));
    let cuts: [fn(&mut Rows); 4] = [
        |rows| rows.codes.truncate(6),
        |rows| rows.codes.truncate(5),
        |rows| rows.label.truncate(2),
        |rows| rows.label.clear(),
    ];
    for (i, cut) in cuts.iter().enumerate() {
        let mut rows = whole.clone();
        cut(&mut rows);
        gradient.fill(1.0);
        let sum = executor.gradient(&Sequential, &mut at, &rows.batch(), KEY, 1.0, &mut gradient);
        assert!(sum.loss.is_nan() && gradient.iter().all(|g| *g == 0.0), "{i}");
        assert!(executor.loss(&Sequential, &at, &rows.batch()).loss.is_nan(), "{i}");
        let mut out = [0.0; 4];
        executor.scores(&Sequential, &at, &rows.batch(), &mut out);
        assert_eq!(out.iter().all(|z| z.is_nan()), i < 2, "{i}");
    }
    let none =
        executor.gradient(&Sequential, &mut at, &MiniBatch::default(), KEY, 1.0, &mut gradient);
    assert_eq!(none, LossSum::default());
    let mut out = [7.0; 1];
    executor.scores(&Sequential, &at, &whole.batch(), &mut out);
    executor.scores(&Sequential, &at[1..], &whole.batch(), &mut [0.0; 4]);
    assert_eq!(out, [7.0]);
}
