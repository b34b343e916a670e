//! Against scikit-learn's `PCA`, on rows that `tests/oracle/pca.py` chose.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

/// A case of `pca.py`.
#[derive(Deserialize)]
pub(super) struct Case {
    #[serde(default)]
    x: Vec<f32>,
    k: usize,
    mean: Vec<f64>,
    components: Vec<f64>,
    variances: Vec<f64>,
    ratios: Vec<f64>,
    scores: Vec<f64>,
    whitened: Vec<f64>,
    loss: f64,
    error: f64,
    explained: f64,
    shares: Vec<(f64, usize)>,
}

/// The rows of a file of `exact.py`.
#[derive(Deserialize)]
struct Encoded {
    dense: usize,
    columns: usize,
    categories: usize,
    x: Vec<f32>,
    codes: Vec<i64>,
    weight: Vec<f32>,
}

fn case(name: &str) -> Case {
    let text = include_str!("../../../../tests/oracle/pca.json");
    let mut cases: BTreeMap<String, Case> = serde_json::from_str(text).unwrap();
    cases.remove(name).unwrap()
}

fn encoded(text: &str) -> Data {
    let read: Encoded = serde_json::from_str(text).unwrap();
    let codes = read.codes.iter().map(|code| u32::try_from(*code).unwrap_or(NO_CATEGORY));
    let width = Width {
        dense: read.dense,
        bytes: 0,
        columns: read.columns,
        categories: read.categories,
        targets: 0,
    };
    Data { width, dense: read.x, codes: codes.collect(), weight: read.weight }
}

pub(super) fn iris() -> Data {
    Data::of(4, case("iris").x)
}

pub(super) fn digits() -> Data {
    Data::of(64, case("digits").x)
}

fn diamonds() -> Data {
    encoded(include_str!("../../../../tests/oracle/exact_diamonds.json"))
}

/// With weights 0, 1, 2 and 3.
pub(super) fn weighted() -> Data {
    encoded(include_str!("../../../../tests/oracle/exact_diamonds_ridge.json"))
}

/// Compares a result with a case: tensors, scores of the first of `rows`, loss.
fn compare(name: &str, data: &Data, rows: &Data, svd: &str) {
    let case = case(name);
    let given = |whiten: bool| {
        let k = number(&case.k.to_string());
        [("components", k), ("svd", word(svd)), ("whiten", OptionValue::Bool(whiten))]
    };
    let fitted = fit(data, &given(false));
    let [components, mean, variances, total] = tensors(data, &fitted);
    close("mean", &mean, &case.mean, 1e-6);
    close("components", &components, &case.components, 1e-5);
    close("variances", &variances, &case.variances, 1e-6);
    let ratios: Vec<f64> = variances.iter().map(|variance| variance / total[0]).collect();
    close("ratios", &ratios, &case.ratios, 1e-6);
    let first = rows.take(&[0, 1, 2, 3]);
    close("scores", &scores(&trained(data, &fitted), &first), &case.scores, 1e-5);
    let whitened = fit(data, &given(true));
    assert_eq!(whitened.parameters, fitted.parameters);
    close("whitened", &scores(&trained(data, &whitened), &first), &case.whitened, 1e-4);
    let scale = total[0];
    assert!((fitted.loss - case.loss).abs() < 1e-6 * scale, "{} {}", fitted.loss, case.loss);
    let measured = measured(&trained(data, &fitted), rows);
    assert!((measured[0] - case.explained).abs() < 1e-6, "{measured:?} {}", case.explained);
    assert!((measured[1] - case.error).abs() < 1e-6 * scale, "{measured:?} {}", case.error);
}

/// The metrics over rows, in parts.
fn measured(member: &Trained, data: &Data) -> Vec<f64> {
    let new = || member.description.measure(&member.parameters, data.width).unwrap().unwrap();
    let mut all = new();
    for (from, to) in [(0, 1), (1, 17), (17, data.rows())] {
        let mut part = new();
        part.update(&data.batch().slice(from, to, data.width)).unwrap();
        all.merge(&part.to_bytes()).unwrap();
    }
    let weight: f64 = data.weight.iter().map(|weight| f64::from(*weight)).sum();
    assert_eq!(all.weight(), weight);
    let metrics = all.metrics();
    let names: Vec<_> = metrics.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, SPEC.metrics);
    metrics.iter().map(|(_, value)| value.unwrap()).collect()
}

#[test]
fn components_are_those_of_scikit_learn() {
    for svd in ["covariance", "randomized"] {
        compare("iris", &iris(), &iris(), svd);
        let rows: Vec<usize> = (0..150).collect();
        compare("iris_part", &iris().take(&rows[..100]), &iris().take(&rows[100..]), svd);
    }
    compare("digits", &digits(), &digits(), "auto");
}

#[test]
fn components_of_categories_are_those_of_one_hot_columns() {
    compare("diamonds", &diamonds(), &diamonds(), "covariance");
}

/// A weight of `w` is `w` equal rows, but for the number of rows by which variances are divided.
#[test]
fn weights_are_repetitions() {
    let (case, data) = (case("weighted"), weighted());
    let fitted = fit(&data, &[("components", number("5"))]);
    let [components, mean, variances, total] = tensors(&data, &fitted);
    close("mean", &mean, &case.mean, 1e-6);
    close("components", &components, &case.components, 1e-5);
    let ratios: Vec<f64> = variances.iter().map(|variance| variance / total[0]).collect();
    close("ratios", &ratios, &case.ratios, 1e-6);
    let rows = data.weight.iter().filter(|weight| **weight > 0.0).count() as f64;
    let repeated: f64 = data.weight.iter().map(|weight| f64::from(*weight)).sum();
    let factor = (rows / (rows - 1.0)) / (repeated / (repeated - 1.0));
    let expected: Vec<f64> = case.variances.iter().map(|variance| factor * variance).collect();
    close("variances", &variances, &expected, 1e-6);
    assert!((fitted.loss - case.loss).abs() < 1e-6 * case.loss);
}

#[test]
fn a_share_of_the_variance_takes_as_many_components_as_in_scikit_learn() {
    for (name, data) in [("iris", iris()), ("digits", digits()), ("diamonds", diamonds())] {
        for (share, count) in case(name).shares {
            let fitted = fit(&data, &[("components", number(&share.to_string()))]);
            let description = fitted.description.unwrap();
            assert_eq!(description.outputs(), count, "{share} of {name}");
            assert_eq!(description.fields(&[]).len(), count);
        }
    }
}
