//! Metrics of the trained parameters over encoded rows: what is stored with a version.

use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err};
use gradlake_udfs::batch::Width;
use gradlake_udfs::learner::{Learner, Loss, Network, probabilities};
use gradlake_udfs::metrics::{Confusion, LogLoss, Ranking, Residuals};
use gradlake_udfs::model::{Labels, NetworkSpec};
use gradlake_udfs::state::State;

use crate::table::EncodedTable;

/// Rows that are scored at a time.
const BLOCK: usize = 1024;
/// Classes above which the area under the curve is left out: it needs a score of every class of
/// every row.
const MAX_AUC_CLASSES: usize = 100;

/// The metrics of EVALUATE (name, value), those that are defined.
///
/// # Errors
/// When spilled rows cannot be read.
pub async fn measure(
    network: &Arc<Network>,
    spec: &NetworkSpec,
    labels: &Labels,
    state: &State,
    table: &Arc<EncodedTable>,
) -> Result<Vec<(String, f64)>> {
    let (network, loss, labels) = (Arc::clone(network), spec.loss, labels.clone());
    let (parameters, table) = (state.parameters.clone(), Arc::clone(table));
    let task = tokio::task::spawn_blocking(move || match &labels {
        Labels::Classes(classes) => of_classes(&network, loss, classes.len(), &parameters, &table),
        Labels::Numbers { mean, stddev } => {
            of_numbers(&network, loss, (*mean, *stddev), &parameters, &table)
        }
    });
    let metrics = task.await.map_err(|e| exec_datafusion_err!("the metrics failed: {e}"))??;
    Ok(metrics.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

/// Calls `f` with the raw outputs, label and weight of every row.
fn for_each_row(
    network: &Network,
    parameters: &[f32],
    table: &EncodedTable,
    mut f: impl FnMut(&mut [f32], f32, f32),
) -> Result<()> {
    let width: Width = network.width();
    let outputs = network.outputs();
    let mut scratch = network.scratch(BLOCK);
    let mut z = vec![0.0; BLOCK * outputs];
    for index in 0..table.chunk_count() {
        let chunk = table.chunk(index)?;
        let rows = chunk.mini_batch();
        for start in (0..rows.rows).step_by(BLOCK) {
            let block = rows.slice(start, rows.rows.min(start + BLOCK), width);
            network.scores(parameters, &block, &mut scratch, &mut z);
            let each = z.chunks_exact_mut(outputs).zip(block.label).zip(block.weight);
            for ((z, label), weight) in each {
                f(z, *label, *weight);
            }
        }
    }
    Ok(())
}

type Metrics = Vec<(&'static str, Option<f64>)>;

fn of_classes(
    network: &Network,
    loss: Loss,
    classes: usize,
    parameters: &[f32],
    table: &EncodedTable,
) -> Result<Metrics> {
    let mut confusion = Confusion::default();
    let mut log_loss = LogLoss::default();
    let is_binary = network.outputs() == 1;
    let probabilistic = loss.has_probabilities();
    let curves = match (is_binary, probabilistic) {
        (true, _) => 1,
        (false, true) if classes <= MAX_AUC_CLASSES => classes,
        _ => 0,
    };
    let mut rankings = vec![Ranking::default(); curves];
    let mut p = vec![0.0; classes];
    for_each_row(network, parameters, table, |z, label, weight| {
        let class = label as u32;
        // Row weights alone count for metrics; what classes weigh is for learning.
        let own = table.class_weights().get(class as usize).copied().unwrap_or(1.0);
        let weight = if own > 0.0 { f64::from(weight) / own } else { 0.0 };
        let predicted = if is_binary {
            u32::from(z[0] > 0.0)
        } else {
            let best = z.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(i, _)| i as u32)
        };
        confusion.add(class, predicted, weight);
        if is_binary {
            rankings[0].add(f64::from(z[0]), class == 1, weight);
        }
        if probabilistic {
            probabilities(loss, z, z.len(), &mut p);
            log_loss.add(p[class as usize], weight);
            if !is_binary {
                for (i, ranking) in rankings.iter_mut().enumerate() {
                    ranking.add(p[i], class as usize == i, weight);
                }
            }
        }
    })?;
    let aucs: Vec<f64> = rankings.into_iter().filter_map(Ranking::roc_auc).collect();
    let auc = (!aucs.is_empty()).then(|| aucs.iter().sum::<f64>() / aucs.len() as f64);
    Ok(vec![
        ("precision", confusion.precision()),
        ("recall", confusion.recall()),
        ("accuracy", confusion.accuracy()),
        ("f1_score", confusion.f1_score()),
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
    for_each_row(network, parameters, table, |z, label, weight| {
        let z = f64::from(z[0]);
        let prediction = if loss == Loss::Poisson { z.exp() } else { z * stddev + mean };
        residuals.add(f64::from(label) * stddev + mean, prediction, f64::from(weight));
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
