//! Metrics of the trained parameters over encoded rows: what is stored with a version.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use gradlake_udfs::{
    Confusion, Head, LabelScale, Labels, LogLoss, Loss, Measure, Metric, Predictor, Ranking,
    Residuals, Trained, probabilities, target_names,
};

use crate::table::{EncodedTable, run_blocking};

/// Rows that are scored at a time.
const BLOCK: usize = 1024;
/// Classes above which the area under the curve is left out: it needs a score of every class of
/// every row.
const MAX_AUC_CLASSES: usize = 100;

/// Measures a member on encoded rows, and notes the metrics of EVALUATE that are defined; `targets`
/// are the names of the targets.
///
/// # Errors
/// When spilled rows cannot be read.
pub async fn measure(
    mut trained: Trained,
    targets: &[String],
    table: &Arc<EncodedTable>,
) -> Result<Trained> {
    let (table, is_quick) = (Arc::clone(table), table.is_small());
    let names = targets.iter().map(String::as_str);
    let names = target_names(names, trained.labels.targets());
    let (own, metrics) = run_blocking(is_quick, "measuring", move || {
        let metrics = Measured { trained: &trained, table: &table }.metrics()?;
        Ok((trained, metrics))
    })
    .await?;
    trained = own;
    let targets = if metrics.len() > 1 { names.into_iter().map(Some).collect() } else { vec![] };
    let mut targets = targets.into_iter();
    for own in metrics {
        let target = targets.next().flatten();
        // (The addition turns -0.0 into 0.0.)
        trained.metrics.extend(own.into_iter().filter_map(|(name, value)| {
            let (target, name) = (target.clone(), name.to_owned());
            Some(Metric { target, name, value: value? + 0.0 })
        }));
    }
    Ok(trained)
}

/// What is measured, and on which rows.
struct Measured<'a> {
    trained: &'a Trained,
    table: &'a EncodedTable,
}

impl Measured<'_> {
    /// The metrics of each target; once for rows without one.
    fn metrics(&self) -> Result<Vec<Metrics>> {
        let Trained { description, parameters, labels, .. } = self.trained;
        if let Some(measure) = description.measure(parameters, self.table.width())? {
            return Ok(vec![self.of_rows(measure)?]);
        }
        let Some(head) = description.head() else { return Ok(vec![]) };
        let scores = Scores { predictor: description.predictor(self.trained)?, table: self.table };
        match labels {
            Labels::Classes(classes) => Ok(vec![scores.of_classes(head.loss, classes.len())?]),
            Labels::Numbers(targets) if head.loss.is_of_classes() => {
                scores.of_booleans(targets.len())
            }
            Labels::Numbers(scales) => scores.of_numbers(head, scales),
            Labels::None => Ok(vec![]),
        }
    }

    /// Metrics that compare rows with the model.
    fn of_rows(&self, mut all: Box<dyn Measure>) -> Result<Metrics> {
        let Trained { description, parameters, .. } = self.trained;
        let own = || match description.measure(parameters, self.table.width())? {
            Some(measure) => Ok(measure),
            None => internal_err!("a measure vanished"),
        };
        self.table.for_each_chunk(
            || (),
            |(), rows| {
                let mut sums = own()?;
                sums.update(rows)?;
                Ok(sums.to_bytes())
            },
            |bytes| all.merge(&bytes),
        )?;
        Ok(all.metrics())
    }
}

/// The raw outputs of encoded rows.
struct Scores<'a> {
    predictor: Box<dyn Predictor>,
    table: &'a EncodedTable,
}

impl Scores<'_> {
    /// Calls `add` with raw outputs `[rows, outputs]`, labels and weights of some rows and the sums
    /// of their chunk, which `sums` made, on all cores, and `take` with the sums of each chunk, in
    /// order.
    fn for_each_chunk<T: Send>(
        &self,
        sums: impl Fn() -> T + Sync,
        add: impl Fn(&mut T, &[f32], &[f32], &[f32]) + Sync,
        mut take: impl FnMut(T) + Send,
    ) -> Result<()> {
        let (predictor, width) = (self.predictor.as_ref(), self.table.width());
        let outputs = predictor.outputs();
        let most = BLOCK.min(self.table.rows() as usize);
        self.table.for_each_chunk(
            || (predictor.scratch(most), vec![0.0; most * outputs]),
            |(scratch, z), rows| {
                let mut own = sums();
                for start in (0..rows.rows).step_by(BLOCK) {
                    let block = rows.slice(start, rows.rows.min(start + BLOCK), width);
                    predictor.scores(&block, scratch, z);
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

    /// The metrics of all rows.
    fn metrics(self, probabilistic: bool, table: &EncodedTable) -> Metrics {
        let Self { confusion, log_loss, rankings, .. } = self;
        let aucs: Vec<f64> =
            rankings.into_iter().filter_map(|ranking| ranking.roc_auc_on(table.pool())).collect();
        let auc = (!aucs.is_empty()).then(|| aucs.iter().sum::<f64>() / aucs.len() as f64);
        let averages = confusion.averages();
        vec![
            ("precision", averages.map(|all| all.precision)),
            ("recall", averages.map(|all| all.recall)),
            ("accuracy", confusion.accuracy()),
            ("f1_score", averages.map(|all| all.f1_score)),
            ("log_loss", if probabilistic { log_loss.mean() } else { None }),
            ("roc_auc", auc),
        ]
    }
}

impl Scores<'_> {
    fn of_classes(&self, loss: Loss, classes: usize) -> Result<Metrics> {
        let (table, outputs) = (self.table, self.predictor.outputs());
        let is_binary = outputs == 1;
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
                for (z, (label, weight)) in z.chunks_exact(outputs).zip(rows) {
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
        self.for_each_chunk(empty, add, |own| all.merge(own))?;
        Ok(all.metrics(probabilistic, table))
    }

    /// The metrics of each of several boolean targets.
    fn of_booleans(&self, targets: usize) -> Result<Vec<Metrics>> {
        let of_one = || ClassSums { rankings: vec![Ranking::default()], ..ClassSums::default() };
        let empty = || (0..targets).map(|_| of_one()).collect::<Vec<_>>();
        let mut all = empty();
        let add = |sums: &mut Vec<ClassSums>, z: &[f32], label: &[f32], weight: &[f32]| {
            for (target, sums) in sums.iter_mut().enumerate() {
                let own = |values: &[f32]| -> Vec<f32> {
                    values.iter().skip(target).step_by(targets).copied().collect()
                };
                let (z, label) = (own(z), own(label));
                sums.weights = weight.iter().copied().map(f64::from).collect();
                sums.add_binary(&z, &label);
                sums.losses.resize(z.len(), 0.0);
                sums.log_loss.add_logits(&z, &label, &sums.weights, &mut sums.losses);
            }
        };
        self.for_each_chunk(empty, add, |own| {
            all.iter_mut().zip(own).for_each(|(all, own)| all.merge(own));
        })?;
        Ok(all.into_iter().map(|sums| sums.metrics(true, self.table)).collect())
    }

    /// The metrics of the numbers of each target; of quantiles, those of the prediction, which is
    /// the sorted output whose quantile is nearest to 0.5.
    fn of_numbers(&self, head: Head<'_>, scales: &[LabelScale]) -> Result<Vec<Metrics>> {
        let (k, outputs) = (scales.len(), self.predictor.outputs());
        let central = head.central_output();
        let is_exponential = head.loss.is_log_link();
        let none = || vec![Residuals::default(); k];
        let mut residuals = none();
        let add = |own: &mut Vec<Residuals>, z: &[f32], label: &[f32], weight: &[f32]| {
            let rows = z.chunks_exact(outputs).zip(label.chunks_exact(k)).zip(weight);
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
        self.for_each_chunk(none, add, |own| {
            residuals.iter_mut().zip(&own).for_each(|(all, own)| all.merge(own));
        })?;
        let metrics = |own: &Residuals| {
            vec![
                ("mean_absolute_error", own.mean_absolute_error()),
                ("mean_squared_error", own.mean_squared_error()),
                ("mean_squared_log_error", own.mean_squared_log_error()),
                ("median_absolute_error", own.median_absolute_error()),
                ("r2_score", own.r2_score()),
                ("explained_variance", own.explained_variance()),
            ]
        };
        Ok(residuals.iter().map(metrics).collect())
    }
}
