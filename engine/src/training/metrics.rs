//! Metrics of the trained parameters over encoded rows: what is stored with a version.

use std::sync::Arc;

use datafusion::common::Result;
use gradlake_udfs::{
    Confusion, Labels, Learner, LogLoss, Loss, Network, NetworkSpec, Ranking, Residuals, Scoring,
    Width, probabilities,
};

use crate::table::{EncodedTable, run_blocking};

/// Rows that are scored at a time.
const BLOCK: usize = 1024;
/// Classes above which the area under the curve is left out: it needs a score of every class of
/// every row.
const MAX_AUC_CLASSES: usize = 100;

/// The metrics of EVALUATE that are defined, as (name, value).
///
/// # Errors
/// When spilled rows cannot be read.
pub async fn measure(
    network: &Arc<Network>,
    spec: &NetworkSpec,
    labels: &Labels,
    parameters: &[f32],
    table: &Arc<EncodedTable>,
) -> Result<Vec<(String, f64)>> {
    let (network, loss, labels) = (Arc::clone(network), spec.loss, labels.clone());
    let (parameters, table) = (parameters.to_vec(), Arc::clone(table));
    let is_quick = table.is_small();
    let task = run_blocking(is_quick, "measuring", move || match &labels {
        Labels::Classes(classes) => of_classes(&network, loss, classes.len(), &parameters, &table),
        Labels::Numbers { mean, stddev } => {
            of_numbers(&network, loss, (*mean, *stddev), &parameters, &table)
        }
    });
    let metrics = task.await?;
    // (The addition turns -0.0 into 0.0.)
    let defined = |(name, value): (&str, Option<f64>)| Some((name.to_owned(), value? + 0.0));
    Ok(metrics.into_iter().filter_map(defined).collect())
}

/// Calls `add` with raw outputs `[rows, outputs]`, labels and weights of some rows and the sums of
/// their chunk, which `sums` made, on all cores, and `take` with the sums of each chunk, in order.
fn for_each_chunk<T: Send>(
    network: &Network,
    parameters: &[f32],
    table: &EncodedTable,
    sums: impl Fn() -> T + Sync,
    add: impl Fn(&mut T, &[f32], &[f32], &[f32]) + Sync,
    mut take: impl FnMut(T) + Send,
) -> Result<()> {
    let width: Width = network.width();
    let outputs = network.outputs();
    let scoring = Scoring::new(network, parameters);
    let most = BLOCK.min(table.rows() as usize);
    table.for_each_chunk(
        || (scoring.scratch(most), vec![0.0; most * outputs]),
        |(scratch, z), chunk| {
            let rows = chunk.mini_batch();
            let mut own = sums();
            for start in (0..rows.rows).step_by(BLOCK) {
                let block = rows.slice(start, rows.rows.min(start + BLOCK), width);
                scoring.scores(parameters, &block, scratch, z);
                add(&mut own, &z[..block.rows * outputs], block.label, block.weight);
            }
            Ok(own)
        },
        |own| {
            take(own);
            Ok(())
        },
    )
}

type Metrics = Vec<(&'static str, Option<f64>)>;

/// Sums over rows that the metrics of classes need.
#[derive(Default)]
struct ClassSums {
    confusion: Confusion,
    log_loss: LogLoss,
    /// Ranking of the positive class, or of each class.
    rankings: Vec<Ranking>,
    /// (rows, weight) by class and predicted class of two classes, for which a map would be slow.
    cells: [[(u64, f64); 2]; 2],
    /// The probabilities of the current row.
    p: Vec<f64>,
    /// Weights and losses of the current rows.
    weights: Vec<f64>,
    losses: Vec<f64>,
}

impl ClassSums {
    /// Adds the logits and labels of the current rows.
    fn add_binary(&mut self, z: &[f32], label: &[f32]) {
        for ((z, label), weight) in z.iter().zip(label).zip(&self.weights) {
            let cell = &mut self.cells[usize::from(*label > 0.5)][usize::from(*z > 0.0)];
            cell.0 += 1;
            cell.1 += weight;
        }
        self.rankings[0].add_rows(z, label, &self.weights);
    }

    /// Merges the sums of rows that come after these.
    fn merge(&mut self, other: Self) {
        self.confusion.merge(&other.confusion);
        for (class, row) in other.cells.iter().enumerate() {
            for (predicted, (rows, weight)) in row.iter().enumerate() {
                if *rows > 0 {
                    self.confusion.add(class as u32, predicted as u32, *weight);
                }
            }
        }
        self.log_loss.merge(&other.log_loss);
        self.rankings.iter_mut().zip(other.rankings).for_each(|(own, more)| own.merge(more));
    }
}

fn of_classes(
    network: &Network,
    loss: Loss,
    classes: usize,
    parameters: &[f32],
    table: &EncodedTable,
) -> Result<Metrics> {
    let is_binary = network.outputs() == 1;
    let probabilistic = loss.has_probabilities();
    let curves = match (is_binary, probabilistic) {
        (true, _) => 1,
        (false, true) if classes <= MAX_AUC_CLASSES => classes,
        _ => 0,
    };
    let empty = || ClassSums {
        rankings: vec![Ranking::default(); curves],
        p: vec![0.0; classes],
        ..ClassSums::default()
    };
    let mut all = empty();
    // Metrics are weighted by row weights alone; class weights are for training.
    let is_even = table.class_weights().iter().all(|own| *own == 1.0);
    let weight_of = |label: f32, weight: f32| {
        if is_even {
            return f64::from(weight);
        }
        let own = table.class_weights().get(label as usize).copied().unwrap_or(1.0);
        if own > 0.0 { f64::from(weight) / own } else { 0.0 }
    };
    let add_row = |sums: &mut ClassSums, z: &[f32], class: u32, weight: f64| {
        let best = z.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        sums.confusion.add(class, best.map_or(0, |(i, _)| i as u32), weight);
        if probabilistic {
            probabilities(loss, z, z.len(), &mut sums.p);
            sums.log_loss.add(sums.p[class as usize], weight);
            for (i, ranking) in sums.rankings.iter_mut().enumerate() {
                ranking.add(sums.p[i], class as usize == i, weight);
            }
        }
    };
    let add = |sums: &mut ClassSums, z: &[f32], label: &[f32], weight: &[f32]| {
        let rows = label.iter().zip(weight).map(|(label, weight)| (*label, *weight));
        if !is_binary {
            for (z, (label, weight)) in z.chunks_exact(network.outputs()).zip(rows) {
                add_row(sums, z, label as u32, weight_of(label, weight));
            }
            return;
        }
        sums.weights.clear();
        sums.weights.extend(rows.map(|(label, weight)| weight_of(label, weight)));
        sums.add_binary(z, label);
        if probabilistic {
            sums.losses.resize(z.len(), 0.0);
            sums.log_loss.add_logits(z, label, &sums.weights, &mut sums.losses);
        }
    };
    for_each_chunk(network, parameters, table, empty, add, |own| all.merge(own))?;
    let ClassSums { confusion, log_loss, rankings, .. } = all;
    let aucs: Vec<f64> =
        rankings.into_iter().filter_map(|ranking| ranking.roc_auc_on(table.pool())).collect();
    let auc = (!aucs.is_empty()).then(|| aucs.iter().sum::<f64>() / aucs.len() as f64);
    let averages = confusion.averages();
    Ok(vec![
        ("precision", averages.map(|all| all.precision)),
        ("recall", averages.map(|all| all.recall)),
        ("accuracy", confusion.accuracy()),
        ("f1_score", averages.map(|all| all.f1_score)),
        ("log_loss", if probabilistic { log_loss.mean() } else { None }),
        ("roc_auc", auc),
    ])
}

fn of_numbers(
    network: &Network,
    loss: Loss,
    (mean, stddev): (f64, f64),
    parameters: &[f32],
    table: &EncodedTable,
) -> Result<Metrics> {
    let mut residuals = Residuals::default();
    let add = |own: &mut Residuals, z: &[f32], label: &[f32], weight: &[f32]| {
        for ((z, label), weight) in z.iter().zip(label).zip(weight) {
            let z = f64::from(*z);
            let prediction = if loss == Loss::Poisson { z.exp() } else { z * stddev + mean };
            own.add(f64::from(*label) * stddev + mean, prediction, f64::from(*weight));
        }
    };
    for_each_chunk(network, parameters, table, Residuals::default, add, |own| {
        residuals.merge(&own);
    })?;
    Ok(vec![
        ("mean_absolute_error", residuals.mean_absolute_error()),
        ("mean_squared_error", residuals.mean_squared_error()),
        ("mean_squared_log_error", residuals.mean_squared_log_error()),
        ("median_absolute_error", residuals.median_absolute_error()),
        ("r2_score", residuals.r2_score()),
        ("explained_variance", residuals.explained_variance()),
    ])
}
