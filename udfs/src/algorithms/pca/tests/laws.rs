//! Laws on any rows: parts, order, weights, resuming, agreement of the two ways.

use super::oracle::{iris, weighted};
use super::*;
use crate::exact::{
    CovarianceSum, PassSum, ResidualSum, Spread, SpreadSum, SubspaceSum, projection,
};

fn covariance(data: &Data, from: usize, to: usize) -> CovarianceSum {
    let mut sum = CovarianceSum::new(data.width);
    sum.update(&data.batch().slice(from, to, data.width)).unwrap();
    sum
}

#[test]
fn merged_parts_are_the_whole() {
    let data = weighted();
    let n = data.rows();
    let whole = covariance(&data, 0, n);
    let expected = whole.covariance().unwrap();
    let mut spread = SpreadSum::empty(data.width, ()).unwrap();
    spread.add(&[], &data.batch()).unwrap();
    let spread = spread.spread().unwrap();
    close("mean", &spread.mean, &expected.mean, 1e-14);
    let inputs = data.width.inputs();
    let diagonal = (0..inputs).map(|i| expected.matrix[i * inputs + i]).sum::<f64>();
    close("variance", &[spread.variance], &[diagonal], 1e-12);
    for cuts in [vec![0, 1, n], vec![0, 128, 129, n], vec![0, 0, 13, 200, 299, n]] {
        let mut sum = CovarianceSum::new(data.width);
        let mut parts = SpreadSum::empty(data.width, ()).unwrap();
        for pair in cuts.windows(2) {
            let bytes = covariance(&data, pair[0], pair[1]).to_bytes();
            sum.merge(&CovarianceSum::from_bytes(&bytes).unwrap()).unwrap();
            let mut part = SpreadSum::empty(data.width, ()).unwrap();
            part.add(&[], &data.batch().slice(pair[0], pair[1], data.width)).unwrap();
            parts.merge(&SpreadSum::from_bytes(&part.to_bytes()).unwrap()).unwrap();
        }
        assert_eq!((sum.rows(), sum.weight()), (whole.rows(), whole.weight()));
        let found = sum.covariance().unwrap();
        close("mean", &found.mean, &expected.mean, 1e-13);
        close("covariance", &found.matrix, &expected.matrix, 1e-12);
        let Spread { mean, variance, rows } = parts.spread().unwrap();
        assert_eq!(rows, found.rows);
        close("mean", &mean, &expected.mean, 1e-13);
        close("variance", &[variance], &[spread.variance], 1e-12);
    }
    // Empty sums change nothing, and rows without a weight neither, whatever their values.
    let mut sum = CovarianceSum::new(data.width);
    sum.merge(&whole).unwrap();
    sum.merge(&CovarianceSum::new(data.width)).unwrap();
    let row = data.take(&[0]);
    let nothing = Data { dense: vec![f32::NAN; row.dense.len()], weight: vec![0.0], ..row };
    sum.update(&nothing.batch()).unwrap();
    assert_eq!(sum.to_bytes(), whole.to_bytes());
}

/// `C Q` of a pass against the matrix, and the residual of rows against the product.
#[test]
fn a_pass_multiplies_by_the_covariance_matrix() {
    let data = weighted();
    let n = data.width.inputs();
    let expected = covariance(&data, 0, data.rows()).covariance().unwrap();
    let l = 3;
    let mut vectors: Vec<f64> =
        (0..l * n).map(|i| f64::from(unit(mix(8, 1, i as u64))) - 0.5).collect();
    crate::exact::orthonormalize(&mut vectors, n);
    let parameters = projection(data.width, &expected.mean, &vectors);
    let shape = crate::exact::ProjectionShape { width: data.width, vectors: l };
    let mut sum = SubspaceSum::empty(shape, Default::default()).unwrap();
    let mut residual = ResidualSum::empty(shape, Default::default()).unwrap();
    for (from, to) in [(0, 100), (100, data.rows())] {
        let rows = data.batch().slice(from, to, data.width);
        let mut part = SubspaceSum::empty(shape, Default::default()).unwrap();
        part.add(&parameters, &rows).unwrap();
        sum.merge(&SubspaceSum::from_bytes(&part.to_bytes()).unwrap()).unwrap();
        residual.add(&parameters, &rows).unwrap();
    }
    let at = |i: usize, j: usize| expected.matrix[i.min(j) * n + i.max(j)];
    let mut product = vec![0.0; n * l];
    for i in 0..n {
        for j in 0..l {
            product[i * l + j] = (0..n).map(|k| at(i, k) * vectors[j * n + k]).sum();
        }
    }
    let trace: f64 = (0..n).map(|i| at(i, i)).sum();
    let explained: f64 = (0..n * l).map(|at| product[at] * vectors[(at % l) * n + at / l]).sum();
    close("product", &sum.product(&parameters).unwrap(), &product, 1e-12);
    close("total", &[residual.total / residual.weight], &[trace], 1e-12);
    close("residual", &[residual.residual / residual.weight], &[trace - explained], 1e-11);
}

#[test]
fn neither_order_nor_parts_nor_scale_of_weights_matter() {
    let mut data = Data::decaying(700, 7, 7);
    data.weight = (0..700).map(|i| 0.25 + (i % 5) as f32).collect();
    let order: Vec<usize> = (0..700).map(|i| (i * 13 + 5) % 700).collect();
    let mut doubled = data.clone();
    doubled.weight.iter_mut().for_each(|weight| *weight *= 2.0);
    for svd in ["covariance", "randomized"] {
        let given = [("components", number("4")), ("svd", word(svd))];
        let run = |data: &Data, parts| {
            finish(estimator(data, false, &given).unwrap(), data, data, parts).unwrap()
        };
        let one = run(&data, 1);
        for other in [run(&data, 4), run(&data.take(&order), 3), run(&doubled, 2)] {
            let ([a, b, c, d], [e, f, g, h]) = (tensors(&data, &one), tensors(&data, &other));
            for (what, found, expected) in
                [("components", a, e), ("mean", b, f), ("variances", c, g), ("total", d, h)]
            {
                close(what, &found, &expected, 1e-5);
            }
            close("loss", &[other.loss], &[one.loss], 1e-9);
        }
        assert_eq!(run(&data, 4).parameters, run(&data, 4).parameters);
    }
}

#[test]
fn random_projections_find_what_the_covariance_matrix_has() {
    for (d, k) in [(60, 6), (8, 14), (60, 1)] {
        let data = Data::decaying(1500, d, 24);
        let k = number(&k.to_string());
        let with = |svd| fit(&data, &[("components", k.clone()), ("svd", word(svd))]);
        let (exact, random) = (with("covariance"), with("randomized"));
        assert_eq!(exact.steps, 1);
        assert!((1..=8).contains(&random.steps), "{}", random.steps);
        let (exact, random) = (tensors(&data, &exact), tensors(&data, &random));
        let n = data.width.inputs();
        // Vectors of no variance are arbitrary.
        let some = exact[2].iter().filter(|variance| **variance > 1e-6 * exact[3][0]).count();
        close("components", &random[0][..some * n], &exact[0][..some * n], 1e-5);
        close("variances", &random[2], &exact[2], 1e-6);
        close("total", &random[3], &exact[3], 1e-6);
        close("mean", &random[1], &exact[1], 1e-6);
    }
}

/// A training that is saved and resumed before every round ends with the same bits.
#[test]
fn a_resumed_training_equals_one_that_never_stopped() {
    let data = Data::decaying(900, 40, 40);
    let evaluation = data.take(&(0..200).collect::<Vec<_>>());
    for svd in ["covariance", "randomized"] {
        let given = [("components", number("3")), ("svd", word(svd))];
        let new = || estimator(&data, true, &given).unwrap();
        let straight = finish(new(), &data, &evaluation, 2).unwrap();
        assert_eq!(straight.history.len(), 1);
        assert_eq!(straight.history[0].eval_loss, straight.eval_loss);
        assert_eq!(straight.history[0].loss.to_bits(), straight.loss.to_bits());
        let mut resumed = new();
        let mut rounds = 0;
        while let Next::Run(request) = resumed.next().unwrap() {
            let bytes = resumed.save().unwrap();
            let mut other = new();
            other.restore(&bytes).unwrap();
            assert_eq!(other.save().unwrap(), bytes);
            let Next::Run(again) = other.next().unwrap() else { panic!("it has not ended") };
            assert_eq!((&again.name, again.rows), (&request.name, request.rows));
            let rows = if again.rows == RoundRows::Evaluation { &evaluation } else { &data };
            other.take(round(&again, rows, 2), Duration::from_millis(3)).unwrap();
            resumed = other;
            rounds += 1;
        }
        assert!(rounds == 2 || svd == "randomized" && rounds > 5, "{rounds}");
        let bytes = resumed.save().unwrap();
        let mut last = new();
        last.restore(&bytes).unwrap();
        assert!(matches!(last.next().unwrap(), Next::Done));
        let last = last.finish().unwrap();
        assert_eq!(last.parameters, straight.parameters);
        assert_eq!(last.eval_loss.unwrap().to_bits(), straight.eval_loss.unwrap().to_bits());
        assert_eq!((last.history.len(), last.steps), (1, straight.steps));
        for cut in [0, 7, bytes.len() / 2, bytes.len() - 1] {
            assert!(new().restore(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn a_stopped_training_ends_with_what_it_has() {
    let data = Data::decaying(900, 40, 40);
    let given = [("components", number("3")), ("svd", word("randomized"))];
    let mut stopped = estimator(&data, false, &given).unwrap();
    stopped.stop();
    let stopped = finish(stopped, &data, &data, 1).unwrap();
    assert_eq!((stopped.steps, stopped.history.len()), (1, 1));
    let whole = fit(&data, &given);
    assert!(whole.steps > 1 && whole.loss <= stopped.loss * (1.0 + 1e-12));
}

#[test]
fn evaluation_rows_are_measured_once() {
    let data = iris();
    let given = [("components", number("2"))];
    let fitted = finish(estimator(&data, true, &given).unwrap(), &data, &data, 3).unwrap();
    close("loss", &[fitted.eval_loss.unwrap()], &[fitted.loss], 1e-9);
}

/// Rows far from 0: the sums are relative to a row.
#[test]
fn a_distant_mean_costs_no_digits() {
    let near: Vec<f32> = (0..400).map(|i| ((i * 37) % 101) as f32).collect();
    let far: Vec<f32> = near.iter().map(|x| x + 8_000_000.0).collect();
    let given = [("standardize", OptionValue::Bool(false))];
    let (near, far) = (Data::of(2, near), Data::of(2, far));
    let [a, b] = [&near, &far].map(|data| tensors(data, &fit(data, &given)));
    close("components", &a[0], &b[0], 1e-6);
    close("variances", &a[2], &b[2], 1e-6);
    let rows = [&near, &far].map(|data| scores(&trained(data, &fit(data, &given)), data));
    // (The mean is rounded to float32, here to halves.)
    close("scores", &rows[0], &rows[1], 1e-2);
}
