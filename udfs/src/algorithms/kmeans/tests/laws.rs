//! Laws of rounds and steps.

use super::super::centroids::Centroids;
use super::super::lloyd::{LloydPass, LloydSums};
use super::super::round::{PassOver, Sums};
use super::super::step::step;
use super::*;

/// The sums of a round over all rows, cut in some way.
fn sums(data: &Data, centroids: &[f64], replicas: usize, piece: usize) -> LloydSums {
    let centroids = Centroids::new(data.width, Distance::Euclidean, centroids);
    let pass = Arc::new(LloydPass { centroids: Arc::new(centroids), keeps_far: true });
    let round = Arc::new(PassOver { pass, interrupt: Arc::default() });
    let request = Request { round, rows: RoundRows::Training, name: String::new() };
    LloydSums::from_bytes(&data.run(&request, replicas, piece).unwrap()).unwrap()
}

#[test]
fn sums_are_those_of_the_loop_in_float64() {
    for (data, k) in [
        (Data::blobs(500, 28, 30), 100),
        (Data::blobs(200, 1, 5), 7),
        (Data::blobs(130, 16, 5), 6),
        (Data::mixed(700, 3), 13),
        (Data::mixed(300, 20), 500),
    ] {
        let n = data.width.inputs();
        let all = data.expanded();
        let centroids: Vec<f64> = (0..k)
            .flat_map(|j| {
                let row = &all[(j * 7 % data.rows()) * n..][..n];
                row.iter().map(|x| x + 0.01 * j as f64).collect::<Vec<_>>()
            })
            .collect();
        let own = sums(&data, &centroids, 1, 64);
        let naive = data.naive(&centroids);
        let weights = data.weight.iter().map(|weight| f64::from(*weight));
        let loss: f64 = naive.iter().zip(weights.clone()).map(|(own, w)| w * own.1).sum();
        assert!((own.loss - loss).abs() <= 1e-6 * loss, "{} {loss}", own.loss);
        let used = Centroids::new(data.width, Distance::Euclidean, &centroids);
        let (mut counts, mut expected) = (vec![0.0; k], vec![0.0; k * n]);
        for ((row, (j, _)), weight) in all.chunks_exact(n).zip(&naive).zip(weights) {
            counts[*j] += weight;
            for (i, x) in row.iter().enumerate() {
                let shift = used.shift.get(i).filter(|_| i < data.width.dense);
                expected[j * n + i] += weight * (x - shift.map_or(0.0, |s| f64::from(*s)));
            }
        }
        assert_eq!(own.weights, counts);
        let found: Vec<f64> = (0..k).flat_map(|j| own.of(j)).collect();
        close(&found, &expected, 1e-6);
    }
}

#[test]
fn merged_parts_are_the_whole() {
    let data = Data::mixed(400, 5);
    let centroids = data.expanded()[..7 * data.width.inputs()].to_vec();
    let whole = sums(&data, &centroids, 1, 400);
    for (replicas, piece) in [(1, 64), (1, 7), (2, 50), (5, 33)] {
        let parts = sums(&data, &centroids, replicas, piece);
        assert_eq!((parts.rows, &parts.weights), (whole.rows, &whole.weights));
        close(&[parts.loss, parts.square], &[whole.loss, whole.square], 1e-12);
        for j in 0..7 {
            close(&parts.of(j).collect::<Vec<_>>(), &whole.of(j).collect::<Vec<_>>(), 1e-12);
        }
        // The farthest rows are the same rows, however they are cut.
        assert_eq!(parts.far, whole.far, "{replicas} {piece}");
    }
    let bytes = whole.to_bytes();
    assert_eq!(LloydSums::from_bytes(&bytes).unwrap(), whole);
    assert!(LloydSums::from_bytes(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn whole_weights_are_repeated_rows() {
    let mut weighted = Data::mixed(90, 4);
    let mut repeated = Data { width: weighted.width, ..Data::default() };
    for i in 0..weighted.rows() {
        let times = i % 3;
        weighted.weight[i] = times as f32;
        for _ in 0..times {
            let row = weighted.batch(i, i + 1);
            repeated.dense.extend_from_slice(row.dense);
            repeated.codes.extend_from_slice(row.codes);
            repeated.weight.push(1.0);
        }
    }
    let settings = KmeansSettings { rows: 0, ..weighted.settings(4) };
    let fit = |data: &Data| {
        let estimator = weighted.starting_at(settings.clone(), &[1, 2, 4, 5]);
        data.fit(estimator).unwrap()
    };
    let (a, b) = (fit(&weighted), fit(&repeated));
    let numbers =
        |fitted: &Fitted| -> Vec<f64> { fitted.parameters.iter().map(|w| f64::from(*w)).collect() };
    close(&numbers(&a), &numbers(&b), 1e-6);
    close(&[a.loss], &[b.loss], 1e-9);
}

#[test]
fn a_cluster_without_rows_takes_the_farthest_ones() {
    let data = Data::new(1, vec![0.0, 1.0, 2.0, 10.0, 10.0, 30.0]);
    // All rows are nearest to the first centroid.
    let centroids = [1.0, 900.0, 1000.0];
    let used = Centroids::new(data.width, Distance::Euclidean, &centroids);
    let own = step(&sums(&data, &centroids, 2, 2), &used, &centroids).unwrap();
    assert!(own.is_relocated);
    // The farthest is 30, then the two rows of 10, which move together.
    assert_eq!((own.centroids, own.counts), (vec![1.0, 30.0, 10.0], vec![3.0, 1.0, 2.0]));
    let settings = data.settings(3);
    let fitted = data.fit(data.starting_at(settings, &[0, 0, 0])).unwrap();
    assert!(fitted.loss * 6.0 < 2.0 + 1e-9, "{}", fitted.loss);
}

#[test]
fn inputs_far_from_zero_lose_no_digits() {
    let near = Data::blobs(300, 6, 4);
    let mut far = near.clone();
    far.dense.iter_mut().for_each(|x| *x += 4096.0);
    let fit = |data: &Data| data.fit(data.starting_at(data.settings(4), &[0, 1, 2, 3])).unwrap();
    let (a, b) = (fit(&near), fit(&far));
    close(&[b.loss], &[a.loss], 2e-3);
    // The rows themselves are rounded to 2^-11; the clusters of the rounded rows are exact.
    let parameters = b.parameters[..24].iter().map(|c| f64::from(*c)).collect::<Vec<_>>();
    let naive: f64 = far.naive(&parameters).iter().map(|own| own.1).sum::<f64>() / 300.0;
    close(&[b.loss], &[naive], 1e-5);
}

#[test]
fn rows_of_zeros_are_at_1_from_every_direction() {
    let data = Data::new(2, vec![0.0, 0.0, 1.0, 0.0, 3.0, 0.0, 0.0, 2.0, 0.0, 5.0]);
    let mut settings = data.settings(2);
    settings.start.distance = Distance::Cosine;
    let fitted = data.fit(data.starting_at(settings.clone(), &[1, 3])).unwrap();
    close(&[fitted.loss], &[0.2], 1e-12);
    assert_eq!(fitted.parameters, [1.0, 0.0, 0.0, 1.0, 3.0, 2.0]);
    // Any two of the three distinct rows, one of which has no direction, are a start.
    for init in [Init::Scalable, Init::PlusPlus] {
        settings.start.init = init;
        assert!(data.fit(data.estimator(settings.clone())).is_ok(), "{init:?}");
    }
}
