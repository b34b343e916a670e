use super::*;
use crate::kernels::lanes::on_every_width;
use crate::kernels::rng::{mix, unit};

fn draws(what: u64, n: usize) -> impl Iterator<Item = f32> {
    (0..n as u64).map(move |i| unit(mix(5, what, i)))
}

/// Labels of a loss: numbers, counts or one of `k` classes.
fn labels(loss: Loss, rows: usize, k: usize) -> Vec<f32> {
    let numbers = draws(1, rows);
    match loss {
        Loss::Squared | Loss::Absolute | Loss::Huber => numbers.map(|u| 4.0 * u).collect(),
        Loss::Poisson => numbers.map(|u| (5.0 * u).floor()).collect(),
        _ => numbers.map(|u| (k.max(2) as f32 * u).floor()).collect(),
    }
}

/// The value in float64 and the slope by central differences of it.
fn reference(loss: Loss, z: &[f64], y: f64) -> f64 {
    let sign = if y > 0.5 { 1.0 } else { -1.0 };
    let slack = 1.0 - sign * z[0];
    match loss {
        Loss::Squared => (z[0] - y).powi(2),
        Loss::Absolute => (z[0] - y).abs(),
        Loss::Quantile => 0.5 * (z[0] - y).abs(),
        Loss::Huber if (z[0] - y).abs() <= 1.0 => 0.5 * (z[0] - y).powi(2),
        Loss::Huber => (z[0] - y).abs() - 0.5,
        Loss::Poisson => z[0].exp() - y * z[0],
        Loss::Logistic if y > 0.5 => (-z[0].abs()).exp().ln_1p() + (-z[0]).max(0.0),
        Loss::Logistic => (-z[0].abs()).exp().ln_1p() + z[0].max(0.0),
        Loss::Softmax => {
            let others = z.iter().map(|other| (other - z[y as usize]).exp());
            others.sum::<f64>().ln()
        }
        Loss::Hinge => slack.max(0.0),
        Loss::SquaredHinge => slack.max(0.0).powi(2),
    }
}

#[test]
fn values_and_slopes_of_all_lengths_are_those_of_float64() {
    for loss in Loss::ALL {
        let widths: &[usize] = if loss == Loss::Softmax { &[2, 3, 10, 33, 100] } else { &[1] };
        for (k, rows) in widths
            .iter()
            .flat_map(|k| [0, 1, 2, 5, 15, 16, 17, 63, 64, 65, 79, 128, 200].map(|r| (*k, r)))
        {
            let z: Vec<f32> = draws(2, rows * k).map(|u| 12.0 * u - 6.0).collect();
            let label = labels(loss, rows, k);
            let weight: Vec<f32> = draws(3, rows).map(|u| 2.0 * u).collect();
            let mut slopes = z.clone();
            let found = loss.differentiate(&mut slopes, k, &label, &weight, 0.5);
            let mut truth = 0.0;
            for (r, (y, w)) in label.iter().zip(&weight).enumerate() {
                let (y, w) = (f64::from(*y), f64::from(*w));
                let own: Vec<f64> = z[r * k..][..k].iter().map(|z| f64::from(*z)).collect();
                truth += w * reference(loss, &own, y);
                for class in 0..k {
                    let at = |by: f64| {
                        let mut moved = own.clone();
                        moved[class] += by;
                        reference(loss, &moved, y)
                    };
                    let slope = 0.5 * w * (at(1e-6) - at(-1e-6)) / 2e-6;
                    let error = (f64::from(slopes[r * k + class]) - slope).abs();
                    let size =
                        1.0 + own[class].abs().exp() * f64::from(u8::from(loss == Loss::Poisson));
                    assert!(error < 1e-5 * size, "{loss:?} {rows} x {k}, {r}: {error}");
                }
            }
            let weights: f64 = weight.iter().map(|w| f64::from(*w)).sum();
            for sum in [found, loss.sum(&z, k, &label, &weight)] {
                let error = (sum.loss - truth).abs();
                assert!(error <= 1e-6 * truth.abs(), "{loss:?} {rows} x {k}: {sum:?} {truth}");
                assert!((sum.weight - weights).abs() <= 1e-12 * weights);
                assert_eq!(sum.rows, rows as u64);
            }
        }
    }
}

#[test]
fn rows_do_not_mix_and_every_vector_width_gives_the_same_bits() {
    for loss in Loss::ALL.into_iter().filter(|loss| *loss != Loss::Softmax) {
        for rows in [1, 2, 5, 16, 17, 63, 64, 65, 100] {
            let z: Vec<f32> = draws(2, rows).map(|u| 12.0 * u - 6.0).collect();
            let (label, weight) = (labels(loss, rows, 2), vec![0.75; rows]);
            let of = |z: &[f32]| {
                let mut slopes = z.to_vec();
                let sum = differentiate(loss, &mut slopes, &label, &weight, 0.5);
                (slopes, sum)
            };
            let (slopes, found) = of(&z);
            assert_eq!(found, sum(loss, &z, &label, &weight), "{loss:?} {rows}");
            for (r, (z, y)) in z.iter().zip(&label).enumerate() {
                let alone = of_row(loss, *z, *y, 0.75, 0.5).0;
                assert_eq!(slopes[r], alone, "{loss:?} {rows}, {r}");
            }
            on_every_width(|width| {
                let (mut z, label, weight) = (z.clone(), &label[..], &weight[..]);
                let kernel = Slopes { loss, z: &mut z, label, weight, scale: 0.5 };
                assert_eq!((width.run(kernel), &z), (found, &slopes), "{loss:?} {rows}");
            });
            let mut broken = z.clone();
            broken[rows / 2] = f32::NAN;
            let (mut slopes_of_broken, sum) = of(&broken);
            assert!(sum.loss.is_nan(), "{loss:?} {rows}");
            slopes_of_broken[rows / 2] = slopes[rows / 2];
            assert_eq!(slopes_of_broken, slopes, "{loss:?} {rows}");
        }
    }
}

#[test]
fn the_loss_of_a_single_row_keeps_its_digits_far_from_zero() {
    for i in -8000..=8000 {
        let z = i as f32 * 0.01;
        for y in [0.0f32, 1.0] {
            let found = Loss::Logistic.sum(&[z], 1, &[y], &[1.0]).loss;
            let truth = reference(Loss::Logistic, &[f64::from(z)], f64::from(y));
            assert!((found - truth).abs() <= 1e-6 * truth, "{z} {y}: {found} {truth}");
        }
    }
}
