//! k-means: groups of similar rows, each described by the mean of its rows.
//!
//! ```text
//!   start: passes that sample rows by their distance ──► k centroids
//!   round: rows ──► nearest centroid ──► sums of each cluster ──merge──► means ──► rows ...
//! ```
//! Minimises the weighted sum of squared distances of the rows to their centroids (Lloyd 1982);
//! with `distance = 'cosine'`, that of rows and centroids of unit length (Dhillon and Modha 2001).
//!
//! Dimension letters: `d` dense numbers of a row, `c` category columns, `t` categories of all
//! columns, `n = d + t` inputs, `k` clusters. A one-hot row is never materialised.

use std::sync::Arc;

use super::{Algorithm, AlgorithmSpec, Method, OptionGroup, TargetRule};

mod block;
mod centroids;
mod description;
mod estimator;
mod kept;
mod lloyd;
mod measure;
mod online;
mod points;
mod predictor;
mod round;
mod sample;
mod saved;
mod seeding;
mod silhouette;
mod start;
mod step;
mod stream;
mod table;
#[cfg(test)]
mod tests;

/// Name of the table of centroids.
const CENTROIDS: &str = "centroids";

pub(super) static SPEC: AlgorithmSpec = AlgorithmSpec {
    name: "kmeans",
    about: "k clusters of similar rows around their means",
    target: TargetRule::None,
    options: &[
        OptionGroup::Passes,
        OptionGroup::Batch,
        OptionGroup::Tolerance,
        OptionGroup::Clusters,
    ],
    losses: &[],
    solvers: &[],
    hidden: &[],
    epochs: 300,
    batch_size: 256,
    metrics: &measure::METRICS,
    tables: &[CENTROIDS],
    describe: |outline| description::describe(outline).map(|spec| Arc::new(spec) as _),
    read: |json| description::read(json).map(|spec| Arc::new(spec) as _),
    method: |_, _, _, _| Method::Lloyd,
    make: estimator::make,
    online: Some(stream::make),
    grows: false,
};

impl Algorithm {
    /// k-means.
    pub const KMEANS: Algorithm = Algorithm(&SPEC);
}
