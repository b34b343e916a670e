//! Metrics against scikit-learn, and their laws.

use super::super::centroids::Centroids;
use super::super::measure::KmeansMeasure;
use super::oracle::{Expected, Oracle};
use super::*;
use crate::description::Measure;

fn measure(data: &Data, centroids: &[f64], distance: Distance, parts: usize) -> KmeansMeasure {
    let centroids = Arc::new(Centroids::new(data.width, distance, centroids));
    let new = || KmeansMeasure::new(Arc::clone(&centroids));
    let mut total = new();
    for i in 0..parts {
        let cut = |i: usize| data.rows() * i / parts;
        let mut part = new();
        part.update(&data.batch(cut(i), cut(i + 1))).unwrap();
        total.merge(&part.to_bytes()).unwrap();
    }
    total
}

fn values(measure: &KmeansMeasure) -> Vec<Option<f64>> {
    measure.metrics().into_iter().map(|(_, value)| value).collect()
}

fn check(data: &Data, expected: &Expected, distance: Distance) {
    for parts in [1, 3] {
        let own = measure(data, &expected.centroids, distance, parts);
        let found = values(&own);
        let rows = data.weight();
        assert_eq!(own.weight(), rows);
        close(&[found[1].unwrap() * rows], &[expected.inertia], 1e-6);
        close(&[found[2].unwrap()], &[expected.silhouette], 1e-6);
        if distance == Distance::Euclidean {
            close(&[found[0].unwrap()], &[expected.davies_bouldin], 1e-6);
        }
    }
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let oracle = Oracle::read();
    check(&oracle.iris(), &oracle.iris.lloyd, Distance::Euclidean);
    check(&oracle.mixed(), &oracle.mixed.lloyd, Distance::Euclidean);
    check(&oracle.iris(), &oracle.iris.cosine, Distance::Cosine);
}

#[test]
fn what_rows_do_not_define_is_none() {
    let data = Data::new(1, vec![1.0, 2.0, 3.0]);
    assert_eq!(values(&measure(&data, &[2.0], Distance::Euclidean, 1))[..1], [None]);
    assert_eq!(values(&measure(&data, &[2.0], Distance::Euclidean, 1))[2], None);
    // Each row is a cluster.
    assert_eq!(values(&measure(&data, &[1.0, 2.0, 3.0], Distance::Euclidean, 1))[2], None);
    let none = Data { weight: vec![], dense: vec![], ..data.clone() };
    assert_eq!(values(&measure(&none, &[1.0, 2.0], Distance::Euclidean, 1)), [None, None, None]);
    let mut own = measure(&data, &[1.0, 2.0], Distance::Euclidean, 1);
    assert!(own.merge(&[1, 2, 3]).is_err());
    let other = measure(&data, &[1.0, 2.0, 3.0], Distance::Euclidean, 1).to_bytes();
    assert!(own.merge(&other).unwrap_err().to_string().contains("a measure of 3 clusters"));
}

#[test]
fn the_silhouette_of_many_rows_is_that_of_a_sample_however_they_are_cut() {
    let data = Data::blobs(6000, 2, 3);
    let expanded = data.expanded();
    let centroids = &expanded[..6];
    let whole = measure(&data, centroids, Distance::Euclidean, 1);
    let parts = measure(&data, centroids, Distance::Euclidean, 7);
    assert_eq!(values(&whole)[2], values(&parts)[2]);
    let silhouette = values(&whole)[2].unwrap();
    let few = Data::blobs(2000, 2, 3);
    let exact = values(&measure(&few, centroids, Distance::Euclidean, 1))[2].unwrap();
    assert!((silhouette - exact).abs() < 0.03, "{silhouette} {exact}");
    // Weights do not count in it, copies do.
    let doubled = Data {
        dense: [few.dense.clone(), few.dense.clone()].concat(),
        weight: vec![0.5; 4000],
        ..few.clone()
    };
    let own = values(&measure(&doubled, centroids, Distance::Euclidean, 3))[2].unwrap();
    assert!((own - exact).abs() < 1e-2 && own > exact, "{own} {exact}");
}
