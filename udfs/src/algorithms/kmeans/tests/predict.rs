//! Predictions, the table of centroids, and what CONTINUE keeps.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::super::centroids::Centroids;
use super::super::description::{KmeansSpec, describe, read};
use super::super::predictor::{KmeansPredictor, fields};
use super::*;
use crate::algorithms::{Algorithm, Outline};
use crate::description::{Description, Predictor};
use crate::encoder::{Categories, Encoder, Feature, FeatureKind, Scale};
use crate::learner::ScoringScratch;
use crate::model::{Labels, Member, Model, Trained};
use crate::options::{OptionValue, TrainOptions};
use crate::scorer::Scorer;

/// A number `x` (mean 10, deviation 2) and a category `s` (NULL, a, b) in two clusters.
fn trained(distance: Distance) -> Trained {
    let scale = Scale { mean: 10.0, center: 10.0, stddev: 2.0, min: 0.0, max: 20.0 };
    let categories = Categories::copied(true, ["a", "b"].into_iter()).unwrap();
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
    Trained {
        encoder: encoder.unwrap(),
        labels: Labels::None,
        description: Arc::new(KmeansSpec { k: 2, distance }),
        parameters: vec![1.0, 0.0, 1.0, 0.0, -1.0, 0.25, 0.25, 0.5, 3.0, 4.0],
        optimizer: None,
        moments: vec![],
        steps: 1,
        rows: 7,
        skipped_rows: Default::default(),
        history: vec![],
        metrics: vec![],
        metrics_on: "training".to_owned(),
        loss: 0.0,
        eval_loss: None,
    }
}

#[test]
fn scores_are_the_distances_of_the_loop() {
    for (data, k) in [
        (Data::blobs(200, 28, 9), 100),
        (Data::mixed(150, 3), 13),
        (Data::mixed(70, 20), 500),
        (Data::blobs(65, 1, 2), 1),
    ] {
        let n = data.width.inputs();
        let all = data.expanded();
        let centroids: Vec<f64> = (0..k * n).map(|i| all[i * 13 % all.len()] + 0.5).collect();
        let own = Centroids::new(data.width, Distance::Euclidean, &centroids);
        let predictor = KmeansPredictor::new(Arc::new(own));
        let mut scores = vec![0.0; data.rows() * k];
        let batch = MiniBatch { weight: &[], ..data.batch(0, data.rows()) };
        predictor.scores(&batch, &mut ScoringScratch::default(), &mut scores);
        for (x, scores) in all.chunks_exact(n).zip(scores.chunks_exact(k)) {
            let square = |c: &[f64]| x.iter().zip(c).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
            let expected: Vec<f64> = centroids.chunks_exact(n).map(square).collect();
            let own: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
            close(&own, &expected, 2e-6);
        }
        // The scores of a row do not depend on the other rows.
        let mut one = vec![0.0; k];
        let batch = MiniBatch { weight: &[], ..data.batch(64, 65) };
        predictor.scores(&batch, &mut ScoringScratch::default(), &mut one);
        assert_eq!(one, scores[64 * k..65 * k]);
    }
}

#[test]
fn predictions_are_the_nearest_centroids_in_order() {
    let centroids = [5.0, 1.0, 2.0, 4.0, 3.0, 6.0, 1.0];
    let width = Width { dense: 1, bytes: 0, columns: 0, categories: 0, targets: 0 };
    let own = Centroids::new(width, Distance::Euclidean, &centroids);
    let predictor = KmeansPredictor::new(Arc::new(own));
    let mut scores = vec![0.0; 14];
    let batch = MiniBatch { rows: 2, dense: &[0.0, 6.0], ..MiniBatch::default() };
    predictor.scores(&batch, &mut ScoringScratch::default(), &mut scores);
    let parts = predictor.parts(&scores, &fields().into(), 0.5, &mut vec![]).unwrap();
    assert_eq!(parts[0].as_primitive::<Int64Type>().values(), &[2, 6]);
    let list = parts[1].as_list::<i32>();
    let pairs = list.values().as_struct();
    let ids = pairs.column(0).as_primitive::<Int64Type>().values();
    assert_eq!(ids, &[2, 7, 3, 5, 4, 6, 1, 4, 5, 3]);
    let distances = pairs.column(1).as_primitive::<Float64Type>().values();
    assert_eq!(distances, &[1.0, 1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_model_predicts_from_its_columns() {
    for distance in [Distance::Euclidean, Distance::Cosine] {
        let member = Member { key: vec![], outcome: Ok(Box::new(trained(distance))) };
        let model = Model {
            name: "m".to_owned(),
            version: 1,
            algorithm: Algorithm::KMEANS,
            targets: vec![],
            inputs: vec![("x".to_owned(), DataType::Float32), ("s".to_owned(), DataType::Utf8)],
            transform: vec![],
            weight: None,
            partition_by: vec![],
            options: Default::default(),
            statement: String::new(),
            parent: None,
            seed: 0,
            rows: 7,
            skipped_rows: Default::default(),
            started_ms: 0,
            finished_ms: 0,
            members: vec![member],
        };
        let scorer = Scorer::new(Arc::new(model)).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Float32Array::from(vec![Some(12.0), Some(8.0), None])),
            Arc::new(StringArray::from(vec![Some("a"), None, Some("unknown")])),
        ];
        let parts = scorer.predict(&columns, 3, 0.5).unwrap();
        let nearest = parts[0].as_primitive::<Int64Type>().values();
        assert_eq!(parts[1].len(), 3);
        match distance {
            Distance::Euclidean => assert_eq!(nearest, &[1, 2, 2]),
            // (The last row is one of zeros.)
            Distance::Cosine => assert_eq!(nearest, &[1, 2, 1]),
        }
    }
}

#[test]
fn the_table_is_in_the_units_of_the_features() {
    let trained = trained(Distance::Euclidean);
    let table = trained.description.table(&trained, "centroids").unwrap();
    assert_eq!(table.num_rows(), 8);
    let ids = table.column(0).as_primitive::<Int64Type>().values();
    assert_eq!(ids, &[1, 1, 1, 1, 2, 2, 2, 2]);
    let features: Vec<_> = table.column(1).as_string::<i32>().iter().flatten().collect();
    assert_eq!(features[..4], ["x", "s", "s", "s"]);
    let categories: Vec<_> = table.column(2).as_string::<i32>().iter().collect();
    assert_eq!(categories[..4], [None, None, Some("a"), Some("b")]);
    let values = table.column(3).as_primitive::<Float64Type>().values();
    assert_eq!(values, &[12.0, 0.0, 1.0, 0.0, 8.0, 0.25, 0.25, 0.5]);
    let counts = table.column(4).as_primitive::<Float64Type>().values();
    assert_eq!(counts, &[3.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 4.0]);
    let error = trained.description.table(&trained, "weights").unwrap_err().to_string();
    assert!(error.contains("its table is centroids"), "{error}");
    let broken = Trained { parameters: vec![0.0; 3], ..trained };
    assert!(broken.description.table(&broken, "centroids").is_err());
    assert!(broken.description.predictor(&broken).is_err());
}

#[test]
fn descriptions_come_back_and_continue_keeps_them() {
    for distance in [Distance::Euclidean, Distance::Cosine] {
        let spec = KmeansSpec { k: 7, distance };
        assert_eq!(read(&spec.to_json()).unwrap(), spec);
    }
    assert!(read("{\"k\":0,\"distance\":\"cosine\"}").is_err());
    let error = read("{\"k\":1,\"distance\":\"far\"}").unwrap_err().to_string();
    assert!(error.contains("should be one of euclidean, cosine"), "{error}");
    let layout = KmeansSpec { k: 3, distance: Distance::Cosine }
        .layout(trained(Distance::Cosine).encoder.width());
    assert_eq!(layout.len(), 3 * 4 + 3);

    let options = |given: &[(&str, OptionValue)]| {
        let given: Vec<_> = given.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        TrainOptions::check(Algorithm::KMEANS, &given).unwrap()
    };
    let number = |text: &str| OptionValue::Number(text.to_owned());
    let word = |text: &str| OptionValue::String(text.to_owned());
    let spec = KmeansSpec { k: 2, distance: Distance::Cosine };
    for (name, value, expected) in [
        ("k", number("3"), Some("whose k is 2")),
        ("k", number("2"), None),
        ("distance", word("euclidean"), Some("whose distance is cosine")),
        ("init", word("random"), Some("option init has no effect")),
        ("restarts", number("2"), Some("option restarts has no effect")),
        ("epochs", number("2"), None),
    ] {
        let found = spec.check_continued("m", &options(&[(name, value)]));
        match expected {
            Some(text) => assert!(found.unwrap_err().to_string().contains(text), "{name}"),
            None => found.unwrap(),
        }
    }
    let parent = trained(Distance::Cosine);
    let own = options(&[]);
    let outline = Outline {
        options: &own,
        target: "",
        classes: None,
        targets: 0,
        parent: Some(&parent),
        layers: &[],
        encoder: None,
    };
    assert_eq!(describe(&outline).unwrap(), spec);
    let outline = Outline { parent: None, ..outline };
    assert_eq!(describe(&outline).unwrap().k, 8);
}

#[test]
fn decay_is_of_streams() {
    let options = |given: &[(&str, &str)]| {
        let given = given.iter().map(|(name, value)| {
            let value = match value.parse::<f64>() {
                Ok(_) => OptionValue::Number((*value).to_owned()),
                Err(_) => OptionValue::Word((*value).to_owned()),
            };
            ((*name).to_owned(), value)
        });
        TrainOptions::check(Algorithm::KMEANS, &given.collect::<Vec<_>>())
    };
    let error = options(&[("decay", "0.5")]).unwrap().check_table().unwrap_err().to_string();
    assert!(error.contains("option decay of kmeans is for an unbounded table"), "{error}");
    options(&[("decay", "0.5"), ("statistics", "running")]).unwrap().check_table().unwrap();
    let own = options(&[("decay", "0.5"), ("k", "3")]).unwrap().for_stream(false).unwrap();
    assert_eq!((own.decay, own.k, own.batch_size), (0.5, 3, 256));
    assert_eq!(own.written_out()["decay"], "0.5");
    assert!(!options(&[]).unwrap().written_out().contains_key("decay"));
    let error = options(&[("init", "random")]).unwrap().for_stream(false).unwrap_err().to_string();
    assert!(error.contains("option init must be left out"), "{error}");
    for (name, value) in [("learning_rate", "1"), ("solver", "newton"), ("loss", "squared")] {
        assert!(options(&[(name, value)]).unwrap_err().to_string().contains("takes no option"));
    }
    let defaults = TrainOptions::default_of(Algorithm::KMEANS).written_out();
    for (name, value) in
        [("k", "8"), ("epochs", "300"), ("tolerance", "0.0001"), ("init", "kmeans||")]
    {
        assert_eq!(defaults[name], value);
    }
}
