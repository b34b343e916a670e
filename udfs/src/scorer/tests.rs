use arrow::array::{Float32Array, Int64Array, StringArray};

use super::*;
use crate::algorithms::Algorithm;
use crate::encoder::{Categories, Encoder, Feature, FeatureKind, Scale};
use crate::kernels::rng::{mix, unit};
use crate::learner::{Activation, Learner, Loss};
use crate::model::{Member, NetworkSpec, Target, Trained};

/// A member that has some categories and classes, with made-up parameters.
fn member(key: i64, hidden: Vec<usize>, texts: &[&str], classes: i64) -> Member {
    let scale = Scale { mean: 0.25, center: 0.25, stddev: 0.5, min: 0.0, max: 1.0 };
    let categories = Categories::copied(key == 0, texts.iter().copied()).unwrap();
    let feature = |name: &str, data_type, kind| Feature {
        name: name.to_owned(),
        data_type,
        kind,
        null_count: 0,
    };
    let encoder = Encoder::new(vec![
        feature("x", DataType::Float32, FeatureKind::Number(scale)),
        feature("s", DataType::Utf8, FeatureKind::Category(categories)),
    ]);
    let encoder = encoder.unwrap();
    let network = NetworkSpec {
        hidden,
        activation: Activation::Tanh,
        loss: if classes == 2 { Loss::Logistic } else { Loss::Softmax },
        quantiles: vec![],
        outputs: if classes == 2 { 1 } else { classes as usize },
        intercept: true,
        dropout: 0.0,
    };
    let n = network.network(encoder.width()).layout().len();
    let trained = Trained {
        encoder,
        labels: Labels::Classes((0..classes).map(|class| (10 * class).into()).collect()),
        description: Arc::new(network),
        parameters: (0..n).map(|i| 2.0 * unit(mix(3, key as u64, i as u64)) - 1.0).collect(),
        optimizer: None,
        moments: vec![],
        steps: 1,
        rows: 1,
        skipped_rows: Default::default(),
        history: vec![],
        metrics: vec![],
        metrics_on: "training".to_owned(),
        loss: 0.0,
        eval_loss: None,
    };
    Member { key: vec![key.into()], outcome: Ok(Box::new(trained)) }
}

/// Two members with different widths, networks and numbers of classes, and one that was not
/// trained.
fn model() -> Arc<Model> {
    let members = vec![
        member(0, vec![7, 5], &["a", "b", "c"], 3),
        member(1, vec![], &["b"], 2),
        Member { key: vec![2i64.into()], outcome: Err("one class only".to_owned()) },
    ];
    Arc::new(Model {
        name: "m".to_owned(),
        version: 1,
        algorithm: Algorithm::MLP_CLASSIFIER,
        targets: vec![Target { name: "y".to_owned(), data_type: DataType::Int64 }],
        inputs: vec![("x".to_owned(), DataType::Float32), ("s".to_owned(), DataType::Utf8)],
        transform: vec![],
        weight: None,
        partition_by: vec![("g".to_owned(), DataType::Int64)],
        options: Default::default(),
        statement: String::new(),
        parent: None,
        seed: 1,
        rows: 2,
        skipped_rows: Default::default(),
        started_ms: 0,
        finished_ms: 0,
        members,
    })
}

/// Rows of all groups and of one without a member, with NULLs, NaN and an unknown category.
fn rows(n: usize) -> Vec<ArrayRef> {
    let draw = |what: u64, i: usize, of: u64| mix(9, what, i as u64) % of;
    let x = (0..n).map(|i| match draw(1, i, 10) {
        0 => None,
        1 => Some(f32::NAN),
        _ => Some(unit(mix(9, 2, i as u64))),
    });
    let s =
        (0..n).map(|i| [None, Some("a"), Some("b"), Some("c"), Some("z")][draw(3, i, 5) as usize]);
    let g = (0..n).map(|i| draw(4, i, 4) as i64);
    vec![
        Arc::new(x.collect::<Float32Array>()),
        Arc::new(s.collect::<StringArray>()),
        Arc::new(g.collect::<Int64Array>()),
    ]
}

/// The contents of a workspace after one batch must not affect the next, whatever their sizes and
/// members.
#[test]
fn a_scorer_says_of_each_batch_what_a_fresh_one_says_of_all_rows() {
    let model = model();
    let fresh = || Scorer::new(Arc::clone(&model)).unwrap();
    let sizes = [5000, 1, 300, 0, 2048, 7, 2049, 64];
    let n = sizes.iter().sum();
    let columns = rows(n);
    let all = fresh().score(&columns, n, 0.5).unwrap();
    let kept = fresh();
    let mut first = 0;
    for rows in sizes {
        let own: Vec<ArrayRef> = columns.iter().map(|column| column.slice(first, rows)).collect();
        let found = kept.score(&own, rows, 0.5).unwrap();
        assert_eq!(found, all.slice(first, rows), "{rows} rows from {first} on");
        first += rows;
    }
    let groups = columns[2].as_primitive::<arrow::datatypes::Int64Type>();
    let unseen = groups.values().iter().filter(|group| **group > 1).count();
    assert_eq!(kept.take_unseen(), unseen as u64);
    assert_eq!(all.column(0).null_count(), unseen);
    assert!(kept.spare.lock().unwrap().len() == 1, "batches one after another share a workspace");
}
