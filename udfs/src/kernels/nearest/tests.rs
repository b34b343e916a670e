//! The kernels against plain loops.

use super::*;
use crate::kernels::lanes::on_every_width;
use crate::kernels::rng::{mix, unit};

fn draws(what: u64, n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| 4.0 * unit(mix(17, what, i)) - 2.0).collect()
}

#[test]
fn nearest_centroids_are_those_of_the_loop_on_every_width() {
    for (d, tiles) in [(0, 1), (1, 1), (5, 2), (16, 3), (28, 17), (40, 1)] {
        let k = tiles * TILE;
        let (rows, centroids) = (draws(1, d * ROWS), draws(2, d * k));
        let (by_centroid, by_row) = (draws(3, k), draws(4, k * ROWS));
        for start in [Start::ByCentroid(&by_centroid), Start::ByRow(&by_row)] {
            let operands = Operands { inputs: d, rows: &rows, centroids: &centroids, start, tiles };
            let (mut least, mut index) = ([f32::INFINITY; ROWS], [u32::MAX; ROWS]);
            nearest(operands, 7, &mut least, &mut index);
            let mut all = vec![0.0; k * ROWS];
            distances(operands, &mut all);
            let term = |j: usize, i: usize, r: usize| {
                let c = centroids[(j / TILE * d + i) * TILE + j % TILE];
                (f64::from(rows[i * ROWS + r]), f64::from(c))
            };
            for r in 0..ROWS {
                let first = |j: usize| match start {
                    Start::ByCentroid(values) => f64::from(values[j]),
                    Start::ByRow(values) => f64::from(values[j * ROWS + r]),
                };
                let (mut best, mut at) = (f64::INFINITY, 0);
                for j in 0..k {
                    let (mut product, mut distance) = (first(j), first(j));
                    for i in 0..d {
                        let (x, c) = term(j, i, r);
                        product += x * c;
                        distance += (x + c) * (x + c);
                    }
                    if product < best {
                        (best, at) = (product, j);
                    }
                    let own = f64::from(all[j * ROWS + r]);
                    assert!((own - distance).abs() < 1e-4, "{own} {distance}");
                }
                assert!((f64::from(least[r]) - best).abs() < 1e-4, "{d} {r}");
                assert_eq!(index[r], 7 + at as u32, "{d} {r}");
            }
            on_every_width(|width| {
                let (mut own, mut number) = ([f32::INFINITY; ROWS], [u32::MAX; ROWS]);
                let (least_of, index_of) = (&mut own, &mut number);
                width.dispatch(Nearest { operands, first: 7, least: least_of, index: index_of });
                assert_eq!(number, index);
                for (own, least) in own.iter().zip(&least) {
                    assert!((own - least).abs() < 1e-5);
                }
            });
        }
    }
}

#[test]
fn of_equal_centroids_the_first_counts() {
    let (mut least, mut index) = ([f32::INFINITY; ROWS], [0; ROWS]);
    let (rows, centroids) = ([1.0; ROWS], [-1.0; 2 * TILE]);
    let start = Start::ByCentroid(&[0.5; 2 * TILE]);
    let operands = Operands { inputs: 1, rows: &rows, centroids: &centroids, start, tiles: 2 };
    nearest(operands, 0, &mut least, &mut index);
    assert_eq!((least, index), ([-0.5; ROWS], [0; ROWS]));
}

#[test]
fn rows_are_packed_moved_and_transposed() {
    for (d, stride) in [(1, 16), (16, 16), (20, 32), (48, 48)] {
        check_packed(d, stride);
    }
}

fn check_packed(d: usize, stride: usize) {
    let (from, shift) = (draws(1, d * ROWS), [draws(2, d), vec![0.0; stride - d]].concat());
    let (mut packed, mut turned) = (vec![0.0; stride * ROWS], vec![9.0; stride * ROWS]);
    shifted(&from, d, &shift, &mut packed);
    transpose(&packed, &mut turned, stride, d);
    for r in 0..ROWS {
        for i in 0..d.next_multiple_of(4) {
            let expected = if i < d { from[r * d + i] - shift[i] } else { 0.0 };
            assert_eq!((packed[r * stride + i], turned[i * ROWS + r]), (expected, expected));
        }
    }
    let nearest: [u32; ROWS] = std::array::from_fn(|r| (r * 7 % 5) as u32);
    let (mut own, mut square) = ([0.0; ROWS], [0.0; ROWS]);
    apart(&packed, &packed, stride, &nearest, &mut own);
    squares(&turned[..d * ROWS], &mut square);
    for r in 0..ROWS {
        let (x, c) = (&packed[r * stride..], &packed[nearest[r] as usize * stride..]);
        let (mut expected, mut length) = (0.0, 0.0);
        for (x, c) in x[..d].iter().zip(&c[..d]) {
            expected += f64::from(x - c).powi(2);
            length += f64::from(*x).powi(2);
        }
        assert!((own[r] - expected).abs() <= 1e-6 * expected, "{} {expected}", own[r]);
        assert!((square[r] - length).abs() <= 1e-6 * length, "{} {length}", square[r]);
    }
}
