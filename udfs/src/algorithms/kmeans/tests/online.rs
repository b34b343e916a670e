//! Clusters that are learned from mini-batches.

use super::super::online::OnlineKmeans;
use super::*;

fn learn(own: &mut OnlineKmeans, data: &Data, size: usize) -> Vec<f64> {
    let batches = (0..data.rows()).step_by(size);
    batches.map(|at| own.learn(&data.batch(at, data.rows().min(at + size))).unwrap()).collect()
}

#[test]
fn a_mini_batch_moves_centroids_by_their_counts() {
    let width = Width { dense: 1, bytes: 0, columns: 0, categories: 0, targets: 0 };
    let mut own = OnlineKmeans::new(width, 2, Distance::Euclidean, 0.5, 1);
    let rows = Data::new(1, vec![0.0, 0.0]);
    assert_eq!(own.learn(&rows.batch(0, 2)).unwrap(), 0.0);
    let error = own.parameters_of(&[]).unwrap_err().to_string();
    assert!(error.contains("k is 2, but there is only 1 distinct row"), "{error}");
    // Two distinct rows: they are the centroids, with the rows so far.
    assert_eq!(own.learn(&Data::new(1, vec![10.0]).batch(0, 1)).unwrap(), 0.0);
    let at_zero = usize::from(own.centroids()[0] != 0.0);
    assert_eq!(own.counts()[at_zero], 2.0);
    // c = (c n decay + sum) / (n decay + m)
    let loss = own.learn(&Data::new(1, vec![1.0, 2.0, 12.0]).batch(0, 3)).unwrap();
    assert_eq!(loss, 1.0 + 4.0 + 4.0);
    assert_eq!(own.counts()[at_zero], 3.0);
    close(&[own.centroids()[at_zero], own.centroids()[1 - at_zero]], &[1.0, 17.0 / 1.5], 1e-6);
    // A centroid without rows forgets its past, and stays.
    own.learn(&Data::new(1, vec![1.0]).batch(0, 1)).unwrap();
    assert_eq!(own.counts()[1 - at_zero], 0.75);
    assert_eq!(own.parameters_of(&[]).unwrap().len(), 4);
    assert!(own.learn(&Data::new(2, vec![1.0, 2.0]).batch(0, 1)).is_err());
}

#[test]
fn without_decay_centroids_are_the_means_of_their_rows() {
    let data = Data::blobs(5000, 3, 4);
    let mut own = OnlineKmeans::new(data.width, 4, Distance::Euclidean, 1.0, 7);
    let losses = learn(&mut own, &data, 256);
    let mean = losses[losses.len() - 2] / 256.0;
    assert!(mean < 0.55, "{mean}");
    assert_eq!(own.counts().iter().sum::<f64>(), 5000.0);
    let loss: f64 = data.naive(own.centroids()).iter().map(|own| own.1).sum();
    let batch = data.fit(data.starting_at(data.settings(4), &[0, 1, 2, 3])).unwrap().loss;
    assert!(loss / 5000.0 < 1.01 * batch, "{loss} {batch}");
}

#[test]
fn a_saved_state_continues_bit_for_bit() {
    let data = Data::mixed(300, 2);
    for distance in [Distance::Euclidean, Distance::Cosine] {
        let new = || OnlineKmeans::new(data.width, 20, distance, 0.9, 3);
        let mut whole = new();
        learn(&mut whole, &data, 8);
        assert!(whole.has_centroids());
        for at in [0, 8, 16, 24, 96] {
            let mut first = new();
            (0..at).step_by(8).for_each(|i| {
                first.learn(&data.batch(i, i + 8)).unwrap();
            });
            let mut second = OnlineKmeans::from_bytes(&first.to_bytes()).unwrap();
            assert_eq!(second, first);
            (at..data.rows()).step_by(8).for_each(|i| {
                second.learn(&data.batch(i, data.rows().min(i + 8))).unwrap();
            });
            assert_eq!(second.to_bytes(), whole.to_bytes(), "{at}");
        }
        let bytes = whole.to_bytes();
        assert!(OnlineKmeans::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
}

#[test]
fn clusters_of_a_model_are_continued() {
    let width = Width { dense: 2, bytes: 0, columns: 0, categories: 0, targets: 0 };
    let mut own = OnlineKmeans::new(width, 1, Distance::Cosine, 1.0, 1);
    assert!(own.set(width, vec![1.0], vec![1.0]).is_err());
    own.set(width, vec![3.0, 4.0], vec![10.0]).unwrap();
    assert_eq!(own.centroids(), [0.6, 0.8]);
    let loss = own.learn(&Data::new(2, vec![6.0, 8.0]).batch(0, 1)).unwrap();
    assert_eq!(loss, 0.0);
    close(own.centroids(), &[0.6, 0.8], 1e-7);
    assert_eq!(own.counts(), [11.0]);
}

/// Rows whose scale changes on the way, and which get categories, end at the clusters of the rows
/// as they are at the end.
#[test]
fn clusters_follow_scale_and_categories() {
    use crate::estimator::OnlineEstimator;
    let data = Data::blobs(2000, 3, 4);
    let mut expected = OnlineKmeans::new(data.width, 4, Distance::Euclidean, 1.0, 7);
    let mut moved = expected.clone();
    for at in (0..2000).step_by(100) {
        expected.learn(&data.batch(at, at + 100)).unwrap();
    }
    let first: Vec<f32> = data.dense[..3000].iter().map(|x| (x - 3.0) / 2.0).collect();
    let first = Data::new(3, first);
    for at in (0..1000).step_by(100) {
        moved.learn(&first.batch(at, at + 100)).unwrap();
    }
    moved.rescale(&[2.0; 3], &[3.0; 3]);
    moved.grow(5).unwrap();
    for at in (1000..2000).step_by(100) {
        moved.learn(&data.batch(at, at + 100)).unwrap();
    }
    let sorted = |own: &OnlineKmeans, categories: &[usize]| {
        let mut all: Vec<i64> = own.fitted(categories).unwrap().parameters[..12]
            .chunks(3 + categories.len())
            .map(|c| (f64::from(c[0]) * 100.0).round() as i64)
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!(sorted(&moved, &[]), sorted(&expected, &[]));
    assert_eq!(moved.fitted(&[4, 0]).unwrap().parameters.len(), 4 * 5 + 4);
}
