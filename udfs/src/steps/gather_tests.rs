//! Rows that are learned in another order than they are stored, against the same rows stored in
//! that order.

use std::sync::Arc;

use super::sparse_tests::{bits, descent, rows_of, spec};
use crate::batch::{Rows, Width};
use crate::kernels::rng::{mix, unit};
use crate::learner::Learner;
use crate::optimizer::Optimizer;
use crate::round::{LossRound, Round, SgdRound};

/// Rows of many numbers, which a model with one output reads in place.
#[test]
fn wide_rows_are_read_where_they_lie() {
    let width = Width { dense: 21, ..Width::default() };
    let rows = |rows: u64, what| Rows {
        dense: (0..21 * rows).map(|i| 2.0 * unit(mix(what, 2, i)) - 1.0).collect(),
        bytes: vec![],
        codes: vec![],
        label: (0..rows).map(|i| (mix(what, 3, i) % 2) as f32).collect(),
        weight: (0..rows).map(|i| 0.5 + unit(mix(what, 4, i))).collect(),
    };
    let (next, rows, order) = (rows(70, 8), rows(100, 7), order(100));
    let ordered = rows.batch().gathered(&order);
    for (hidden, shards) in [(&[][..], 1), (&[], 2), (&[5], 1)] {
        let mut descent = descent(hidden, Optimizer::Momentum { momentum: 0.9 }, shards);
        descent.learner = Arc::new(spec(hidden).network(width));
        let start = Arc::new(descent.initial_state());
        let descent = Arc::new(descent);
        let round = SgdRound::new(descent, start).unwrap();
        let mut truth = round.replica(0).unwrap();
        truth.update(&ordered.batch()).unwrap();
        let truth = truth.finish().unwrap();
        for cut in [0, 1, 37, 96, 133] {
            let mut replica = round.replica(0).unwrap();
            let (first, second) = order.split_at(cut);
            replica.update_gathered(&rows.batch(), first, Some(&next.batch())).unwrap();
            replica.update_gathered(&rows.batch(), second, None).unwrap();
            assert!(replica.finish().unwrap() == truth, "{hidden:?} {shards} {cut}");
        }
        // Two chunks alternate, so that mini-batches of 6 rows begin in one and end in the other or
        // in the next.
        let back: Vec<u32> = (0..100).rev().collect();
        let other = rows.batch().gathered(&back);
        for piece in [2, 5, 8] {
            let mut replica = round.replica(0).unwrap();
            for (i, part) in order.chunks(piece).enumerate() {
                let there: Vec<u32> = part.iter().map(|row| 99 - row).collect();
                let (chunk, part) = [(&rows, part), (&other, &there)][i % 2];
                replica.update_gathered(&chunk.batch(), part, Some(&next.batch())).unwrap();
            }
            assert!(replica.finish().unwrap() == truth, "{hidden:?} {shards}, {piece} by {piece}");
        }
    }
}

/// A third of the draws occur twice; some rows never occur.
fn order(rows: u64) -> Vec<u32> {
    (0..rows + rows / 3).map(|i| (mix(5, 6, i % rows) % rows) as u32).collect()
}

#[test]
fn rows_in_an_order_are_learned_as_if_they_lay_in_it() {
    let (rows, next) = (rows_of(100), rows_of(70));
    let order = order(100);
    let ordered = rows.batch().gathered(&order);
    let adam = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let cases: [(&[usize], _); 5] = [
        (&[], adam),
        (&[5], adam),
        // (Sparse updates, whose categories are looked up one mini-batch early.)
        (&[], Optimizer::Sgd),
        (&[], Optimizer::Adagrad { epsilon: 1e-8 }),
        (&[], Optimizer::Ftrl { beta: 1.0 }),
    ];
    for (hidden, optimizer) in cases {
        let descent = Arc::new(descent(hidden, optimizer, 1));
        let start = descent.initial_state();
        let learner: Arc<dyn Learner> = Arc::clone(&descent.learner);
        let loss = LossRound::new(learner, Arc::new(start.parameters.clone()));
        let sgd = SgdRound::new(descent, Arc::new(start)).unwrap();
        for round in [&sgd as &dyn Round, &loss] {
            let mut truth = round.replica(0).unwrap();
            truth.update(&ordered.batch()).unwrap();
            let truth = truth.finish().unwrap();
            // (Losses are summed block by block, and an update ends a block.)
            let cuts: &[usize] =
                if round.kind() == "sgd" { &[0, 1, 37, 96, 133] } else { &[0, 133] };
            for &cut in cuts {
                let mut replica = round.replica(0).unwrap();
                let (first, second) = order.split_at(cut);
                replica.update_gathered(&rows.batch(), first, Some(&next.batch())).unwrap();
                replica.update_gathered(&rows.batch(), second, None).unwrap();
                assert!(
                    replica.finish().unwrap() == truth,
                    "{} {hidden:?} {optimizer:?} {cut}",
                    round.kind()
                );
            }
        }
        // (And the order matters.)
        let mut other = sgd.replica(0).unwrap();
        other.update(&rows.batch()).unwrap();
        let other = sgd.state(&other.finish().unwrap()).unwrap();
        let mut own = sgd.replica(0).unwrap();
        own.update(&ordered.batch().slice(0, 100, sgd.width())).unwrap();
        let own = sgd.state(&own.finish().unwrap()).unwrap();
        assert_ne!(bits(&own.parameters), bits(&other.parameters));
    }
}
