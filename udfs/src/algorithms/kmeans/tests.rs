//! k-means against scikit-learn, and its laws.

mod laws;
mod metrics;
mod online;
mod oracle;
mod predict;
mod resume;
mod speed;
mod start;

use std::sync::Arc;
use std::time::Duration;

use datafusion_common::Result;

use super::estimator::{KmeansEstimator, KmeansSettings};
use super::start::StartSettings;
use crate::batch::{MiniBatch, NO_CATEGORY, Width};
use crate::estimator::{Estimator, Fitted, Next, Request, RoundRows};
use crate::kernels::rng::{mix, unit};
use crate::options::{Distance, Init};
use crate::round::{Interrupt, Partial};

/// Rows of a test; there are no labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) width: Width,
    pub(super) dense: Vec<f32>,
    pub(super) codes: Vec<u32>,
    pub(super) weight: Vec<f32>,
}

impl Data {
    /// Numbers `[rows, d]` of weight 1.
    pub(super) fn new(d: usize, dense: Vec<f32>) -> Self {
        let weight = vec![1.0; dense.len() / d];
        Self {
            width: Width { dense: d, bytes: 0, columns: 0, categories: 0, targets: 0 },
            dense,
            codes: vec![],
            weight,
        }
    }

    /// Random rows around random centres.
    pub(super) fn blobs(rows: usize, d: usize, centres: usize) -> Self {
        let draw = |what: u64, i: usize| unit(mix(3, what, i as u64));
        let dense = (0..rows * d).map(|i| {
            let (row, column) = (i / d, i % d);
            8.0 * draw(1, row % centres * d + column) + draw(2, i) + draw(3, i)
        });
        Self::new(d, dense.collect())
    }

    /// The same with two columns of categories, of which some are not known, and some weights.
    pub(super) fn mixed(rows: usize, d: usize) -> Self {
        let mut own = Self::blobs(rows, d, 3);
        own.width = Width { dense: d, bytes: 0, columns: 2, categories: 5, targets: 0 };
        for i in 0..rows as u64 {
            let first = (mix(4, 1, i) % 4) as u32;
            own.codes.push(if first == 3 { NO_CATEGORY } else { first });
            own.codes.push(3 + (mix(4, 2, i) % 2) as u32);
            own.weight[i as usize] = (mix(4, 3, i) % 3) as f32 * 0.5 + 0.5;
        }
        own
    }

    pub(super) fn rows(&self) -> usize {
        self.weight.len()
    }

    /// The rows `start..end`.
    pub(super) fn batch(&self, start: usize, end: usize) -> MiniBatch<'_> {
        let Width { dense: d, columns: c, .. } = self.width;
        MiniBatch {
            rows: end - start,
            dense: &self.dense[start * d..end * d],
            codes: &self.codes[start * c..end * c],
            weight: &self.weight[start..end],
            ..MiniBatch::default()
        }
    }

    /// `[rows, d + t]` one-hot numbers.
    pub(super) fn expanded(&self) -> Vec<f64> {
        let Width { dense: d, columns: c, categories: t, .. } = self.width;
        let mut all = vec![];
        for i in 0..self.rows() {
            all.extend(self.dense[i * d..(i + 1) * d].iter().map(|x| f64::from(*x)));
            let start = all.len();
            all.resize(start + t, 0.0);
            for code in self.codes[i * c..(i + 1) * c].iter().filter(|code| **code != NO_CATEGORY) {
                all[start + *code as usize] = 1.0;
            }
        }
        all
    }

    /// Runs a round over the rows in `replicas` runs, in pieces of at most `piece` rows.
    pub(super) fn run(&self, request: &Request, replicas: usize, piece: usize) -> Result<Vec<u8>> {
        let mut partials = vec![];
        for i in 0..replicas {
            let cut = |i: usize| self.rows() * i / replicas;
            if cut(i) == cut(i + 1) {
                continue;
            }
            let mut replica = request.round.replica(i as u32)?;
            for start in (cut(i)..cut(i + 1)).step_by(piece) {
                replica.update(&self.batch(start, cut(i + 1).min(start + piece)))?;
            }
            partials.push(Partial { replica: i as u32, bytes: replica.finish()? });
        }
        request.round.merge(partials)
    }

    /// Trains to the end.
    pub(super) fn fit(&self, mut estimator: KmeansEstimator) -> Result<Fitted> {
        while let Next::Run(request) = estimator.next()? {
            let bytes = self.run(&request, 2, 37)?;
            estimator.take(bytes, Duration::from_millis(1))?;
        }
        Box::new(estimator).finish()
    }

    /// Settings for these rows.
    pub(super) fn settings(&self, k: usize) -> KmeansSettings {
        KmeansSettings {
            start: StartSettings {
                width: self.width,
                k,
                distance: Distance::Euclidean,
                init: Init::Scalable,
                seed: 1,
                rows: self.rows() as u64,
            },
            restarts: 1,
            rounds: 300,
            tolerance: 1e-4,
            rows: self.rows() as u64,
            has_evaluation: false,
        }
    }

    /// An estimator that starts from these rows.
    pub(super) fn starting_at(&self, settings: KmeansSettings, rows: &[usize]) -> KmeansEstimator {
        let all = self.expanded();
        let n = self.width.inputs();
        let centroids = rows.iter().flat_map(|i| all[i * n..(i + 1) * n].to_vec()).collect();
        KmeansEstimator::from_centroids(settings, Arc::new(Interrupt::default()), centroids)
    }

    pub(super) fn estimator(&self, settings: KmeansSettings) -> KmeansEstimator {
        KmeansEstimator::new(settings, Arc::new(Interrupt::default()))
    }

    /// The sum of weights.
    pub(super) fn weight(&self) -> f64 {
        self.weight.iter().map(|weight| f64::from(*weight)).sum()
    }

    /// The nearest of centroids `[k, d + t]` and the squared distance to it, by a plain loop in
    /// float64.
    pub(super) fn naive(&self, centroids: &[f64]) -> Vec<(usize, f64)> {
        let n = self.width.inputs();
        let all = self.expanded();
        let nearest = |x: &[f64]| {
            let square = |c: &[f64]| x.iter().zip(c).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
            let all = centroids.chunks_exact(n).map(square).enumerate();
            all.fold((0, f64::INFINITY), |best, own| if own.1 < best.1 { own } else { best })
        };
        all.chunks_exact(n).map(nearest).collect()
    }
}

/// Asserts that numbers are equal to `tolerance`, absolutely below 1 and relatively above.
pub(super) fn close(own: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(own.len(), expected.len());
    for (own, expected) in own.iter().zip(expected) {
        let error = (own - expected).abs() / expected.abs().max(1.0);
        assert!(error <= tolerance, "{own}, expected {expected}");
    }
}

/// The bits of a result that must not change.
pub(super) fn bits(fitted: &Fitted) -> (Vec<u32>, u64, Vec<u64>) {
    let losses = fitted.history.iter().map(|entry| entry.loss.to_bits());
    let parameters = fitted.parameters.iter().map(|w| w.to_bits());
    (parameters.collect(), fitted.loss.to_bits(), losses.collect())
}

/// Whether a request is of the evaluation rows.
pub(super) fn is_evaluation(request: &Request) -> bool {
    request.rows == RoundRows::Evaluation
}
