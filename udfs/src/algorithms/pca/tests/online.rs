//! Streams: the same result as tables, a loss before each update, resuming.

use super::super::online::OnlinePca;
use super::oracle::weighted;
use super::*;
use crate::estimator::{OnlineEstimator, OnlineFit};

/// What it has found, with categories in the order of the rows.
fn fitted(pca: &OnlinePca, data: &Data) -> OnlineFit {
    pca.fitted(&(0..data.width.categories).collect::<Vec<_>>()).unwrap()
}

/// Learns the rows in mini-batches; returns the sums of losses and of weights.
fn learn(pca: &mut OnlinePca, data: &Data, from: usize, batch: usize) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for start in (from..data.rows()).step_by(batch) {
        let end = data.rows().min(start + batch);
        let (loss, weight) = pca.learn(&data.batch().slice(start, end, data.width)).unwrap();
        sums = (sums.0 + loss, sums.1 + weight);
    }
    sums
}

#[test]
fn a_stream_finds_what_a_table_does() {
    for (data, wanted, given) in [
        (weighted(), Components::Count(4), "4"),
        (Data::decaying(2000, 6, 6), Components::Share(0.9), "0.9"),
    ] {
        let expected = fit(&data, &[("components", number(given))]);
        for batch in [1, 37, 5000] {
            let mut pca = OnlinePca::new(data.width, wanted, true).unwrap();
            learn(&mut pca, &data, 0, batch);
            assert!(pca.is_ready());
            let found = fitted(&pca, &data);
            let single = |values: &[f32]| -> Vec<f64> {
                values.iter().map(|value| f64::from(*value)).collect()
            };
            close("parameters", &single(&found.parameters), &single(&expected.parameters), 1e-6);
            let outputs = expected.description.as_ref().unwrap().outputs();
            assert_eq!(
                found.description.to_json(),
                format!(r#"{{"components":{outputs},"whiten":true}}"#)
            );
        }
    }
}

/// There is no loss before there are components, and nearly that of the final ones at the end.
#[test]
fn the_loss_of_new_rows_falls() {
    let data = Data::decaying(4000, 6, 6);
    let mut pca = OnlinePca::new(data.width, Components::Count(8), false).unwrap();
    let rows: Vec<usize> = (0..50).collect();
    let (first, weight) = pca.learn(&data.take(&rows).batch()).unwrap();
    assert_eq!((first, weight), (0.0, 0.0));
    learn(&mut pca, &data, 50, 50);
    let rows: Vec<usize> = (3000..4000).collect();
    let (last, weight) = pca.learn(&data.take(&rows).batch()).unwrap();
    let expected = fit(&data, &[("components", number("8"))]).loss;
    assert!((last / weight - expected).abs() < 0.2 * expected, "{last} {expected}");
}

#[test]
fn a_resumed_stream_equals_one_that_never_stopped() {
    let data = Data::decaying(3000, 6, 6);
    let new = || OnlinePca::new(data.width, Components::Auto, false).unwrap();
    let mut straight = new();
    let (loss, _) = learn(&mut straight, &data, 0, 100);
    let mut resumed = new();
    let mut sum = 0.0;
    for start in (0..3000).step_by(100) {
        let bytes = resumed.save().unwrap();
        resumed = new();
        resumed.restore(&bytes).unwrap();
        assert_eq!(resumed.save().unwrap(), bytes);
        sum += resumed.learn(&data.batch().slice(start, start + 100, data.width)).unwrap().0;
    }
    assert_eq!(sum.to_bits(), loss.to_bits());
    assert_eq!(resumed.save().unwrap(), straight.save().unwrap());
    assert_eq!(fitted(&resumed, &data).parameters, fitted(&straight, &data).parameters);
    let bytes = straight.save().unwrap();
    let other = Width { dense: 7, ..data.width };
    let read = |width, bytes: &[u8]| {
        OnlinePca::new(width, Components::Auto, false).unwrap().restore(bytes)
    };
    assert!(read(other, &bytes).unwrap_err().to_string().contains("but these are of"));
    assert!(read(data.width, &bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn equal_rows_are_not_ready() {
    let data = Data::of(2, [3.0, 5.0].repeat(40));
    let mut pca = OnlinePca::new(data.width, Components::Auto, false).unwrap();
    learn(&mut pca, &data, 0, 3);
    assert!(!pca.is_ready());
    assert!(pca.fitted(&[]).unwrap_err().to_string().contains("have the same inputs"));
    pca.learn(&Data::of(2, vec![3.0, 6.0]).batch()).unwrap();
    assert!(pca.is_ready());
    assert!(pca.fitted(&[]).is_ok());
    let wide = Width { dense: 3000, bytes: 0, columns: 0, categories: 0, targets: 0 };
    let error = OnlinePca::new(wide, Components::Auto, false).unwrap_err().to_string();
    assert!(error.contains("at most 2048, but there are 3000"), "{error}");
}

/// Rows whose scale and categories change on the way count as if they had always been as at the
/// end.
#[test]
fn a_change_of_scale_and_new_categories_move_all_rows() {
    let data = Data::decaying(2000, 6, 6);
    let Width { dense: d, columns: c, categories: t, .. } = data.width;
    // The first half is known as `(x - 3) / 2`, and without the categories, which it does not have.
    let mut first = data.take(&(0..1000).collect::<Vec<_>>());
    let mut later = data.take(&(1000..2000).collect::<Vec<_>>());
    first.codes = vec![NO_CATEGORY; 1000 * c];
    let expected = {
        let mut pca = OnlinePca::new(data.width, Components::Count(5), false).unwrap();
        learn(&mut pca, &first, 0, 100);
        learn(&mut pca, &later, 0, 100);
        fitted(&pca, &data).parameters
    };
    first.dense.iter_mut().for_each(|x| *x = (*x - 3.0) / 2.0);
    first.width.categories = 0;
    let mut pca = OnlinePca::new(first.width, Components::Count(5), false).unwrap();
    learn(&mut pca, &first, 0, 100);
    pca.rescale(&vec![2.0; d], &vec![3.0; d]);
    pca.grow(t).unwrap();
    later.width.categories = t;
    learn(&mut pca, &later, 0, 100);
    let found = fitted(&pca, &data).parameters;
    let double = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    close("parameters", &double(&found), &double(&expected), 1e-4);
}
