//! Metrics of the trained parameters over encoded rows: what is stored with a version.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use gradlake_udfs::{
    Confusion, Description, LabelScale, Labels, Learner, LogLoss, Loss, Measure, Network,
    NetworkSpec, Ranking, Residuals, Scoring, Width, probabilities,
};

use crate::table::{EncodedTable, run_blocking};

/// Rows that are scored at a time.
const BLOCK: usize = 1024;
/// Classes above which the area under the curve is left out: it needs a score of every class of
/// every row.
const MAX_AUC_CLASSES: usize = 100;

/// What is measured.
pub struct Measured {
    /// What was learned.
    pub description: Arc<dyn Description>,
    /// Width of encoded rows.
    pub width: Width,
    /// The encoding of labels.
    pub labels: Labels,
    /// Flat parameters.
    pub parameters: Vec<f32>,
}

impl Measured {
    /// The metrics of EVALUATE that are defined, as (name, value).
    ///
    /// # Errors
    /// When spilled rows cannot be read.
    pub async fn measure(self, table: &Arc<EncodedTable>) -> Result<Vec<(String, f64)>> {
        let (table, is_quick) = (Arc::clone(table), table.is_small());
        let metrics = run_blocking(is_quick, "measuring", move || self.metrics(&table)).await?;
        // (The addition turns -0.0 into 0.0.)
        let defined = |(name, value): (&str, Option<f64>)| Some((name.to_owned(), value? + 0.0));
        Ok(metrics.into_iter().filter_map(defined).collect())
    }

    fn metrics(&self, table: &EncodedTable) -> Result<Metrics> {
        if let Some(measure) = self.description.measure(&self.parameters, self.width)? {
            return self.of_rows(measure, table);
        }
        let Some(spec) = self.description.network() else { return Ok(vec![]) };
        let network = spec.network(self.width);
        match &self.labels {
            Labels::Classes(classes) => {
                of_classes(&network, spec.loss, classes.len(), &self.parameters, table)
            }
            Labels::Numbers(scales) => of_numbers(&network, spec, scales, &self.parameters, table),
            Labels::None => Ok(vec![]),
        }
    }

    /// Metrics that compare rows with the model.
    fn of_rows(&self, mut all: Box<dyn Measure>, table: &EncodedTable) -> Result<Metrics> {
        let own = || match self.description.measure(&self.parameters, self.width)? {
            Some(measure) => Ok(measure),
            None => internal_err!("a measure vanished"),
        };
        table.for_each_chunk(
            || (),
            |(), chunk| {
                let mut sums = own()?;
                sums.update(&chunk.mini_batch())?;
                Ok(sums.to_bytes())
            },
            |bytes| all.merge(&bytes),
        )?;
        Ok(all.metrics())
    }
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

/// The metrics of numbers; of quantiles, those of the prediction, which is the sorted output whose
/// quantile is nearest to 0.5.
fn of_numbers(
    network: &Network,
    spec: &NetworkSpec,
    scales: &[LabelScale],
    parameters: &[f32],
    table: &EncodedTable,
) -> Result<Metrics> {
    let k = scales.len();
    let central = spec.central_output();
    let is_exponential = spec.loss.is_log_link();
    let none = || vec![Residuals::default(); k];
    let mut residuals = none();
    let add = |own: &mut Vec<Residuals>, z: &[f32], label: &[f32], weight: &[f32]| {
        let rows = z.chunks_exact(network.outputs()).zip(label.chunks_exact(k)).zip(weight);
        for ((z, label), weight) in rows {
            let own_z = central.and_then(|output| {
                let mut sorted = z.to_vec();
                sorted.sort_by(f32::total_cmp);
                sorted.get(output).copied()
            });
            let z = own_z.as_ref().map_or(z, std::slice::from_ref);
            let numbers = z.iter().zip(label).zip(scales).zip(own.iter_mut());
            for (((z, label), LabelScale { mean, stddev }), own) in numbers {
                let z = f64::from(*z);
                let prediction = if is_exponential { z.exp() } else { z * stddev + mean };
                own.add(f64::from(*label) * stddev + mean, prediction, f64::from(*weight));
            }
        }
    };
    for_each_chunk(network, parameters, table, none, add, |own| {
        residuals.iter_mut().zip(&own).for_each(|(all, own)| all.merge(own));
    })?;
    // The mean over the numbers of all targets, as scikit-learn's `uniform_average`.
    let mean = |metric: fn(&Residuals) -> Option<f64>| {
        let values = residuals.iter().map(metric).collect::<Option<Vec<f64>>>()?;
        Some(values.iter().sum::<f64>() / k as f64)
    };
    Ok(vec![
        ("mean_absolute_error", mean(Residuals::mean_absolute_error)),
        ("mean_squared_error", mean(Residuals::mean_squared_error)),
        ("mean_squared_log_error", mean(Residuals::mean_squared_log_error)),
        ("median_absolute_error", mean(Residuals::median_absolute_error)),
        ("r2_score", mean(Residuals::r2_score)),
        ("explained_variance", mean(Residuals::explained_variance)),
    ])
}
