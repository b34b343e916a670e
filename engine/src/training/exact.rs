//! Exact solvers: passes over all rows as rounds, and a solve between them.

use std::sync::Arc;
use std::time::Instant;

use datafusion::common::Result;
use gradlake_udfs::exact::{Advance, GramSum, Newton, NewtonOptions, NewtonSum, Outcome};
use gradlake_udfs::learner::{Learner, LossSum, Network};
use gradlake_udfs::model::HistoryEntry;
use gradlake_udfs::round::{GramRound, LossRound, NewtonRound, Round, Spare};
use gradlake_udfs::state::State;

use super::member::MemberTraining;
use super::plan::Method;
use crate::event::Event;
use crate::table::{EncodedTable, SMALL_ROWS, Slice, waiting};

/// Partitions of a pass over so many rows. They follow from the rows alone, so that sums do not
/// depend on the machine.
pub fn partitions(rows: u64) -> usize {
    rows.div_ceil(SMALL_ROWS).clamp(1, MAX_PARTITIONS) as usize
}

/// Partitions of a pass at most.
const MAX_PARTITIONS: u64 = 8;

/// What a solver found.
#[derive(Debug)]
pub struct Solved {
    /// Parameters and counters; no moments.
    pub state: State,
    /// One entry per step.
    pub history: Vec<HistoryEntry>,
    /// Mean loss of the training rows, in the target's units.
    pub loss: f64,
    /// Mean loss of the evaluation rows.
    pub eval_loss: Option<f64>,
    /// What the user should know, if anything.
    pub warning: Option<String>,
}

/// Solves for the parameters of a linear model.
///
/// # Errors
/// When the rows are not finite, or the training is interrupted.
pub async fn solve(
    training: &MemberTraining<'_>,
    method: Method,
    train: &Arc<EncodedTable>,
    eval: Option<&Arc<EncodedTable>>,
    network: &Arc<Network>,
    l2: f64,
    loss_scale: f64,
) -> Result<Solved> {
    let mut solved = match method {
        Method::Newton => newton(training, train, network, l2).await?,
        Method::Normal | Method::Descent => {
            normal(training, train, network, l2, loss_scale).await?
        }
    };
    if let Some(eval) = eval {
        let parameters = Arc::new(solved.state.parameters.clone());
        let round = LossRound::new(Arc::<Network>::clone(network), parameters);
        let bytes = pass(training, eval, Arc::new(round), "eval").await?;
        let loss = LossRound::sum(&bytes)?.mean() * loss_scale;
        solved.eval_loss = Some(loss);
        if let Some(last) = solved.history.last_mut() {
            last.eval_loss = Some(loss);
        }
    }
    Ok(solved)
}

/// Inputs up to which a system of equations is solved faster than a thread is found for it.
const QUICK_INPUTS: usize = 32;

fn width_is_small(table: &EncodedTable) -> bool {
    table.width().inputs() <= QUICK_INPUTS
}

/// One pass over a table.
async fn pass(
    training: &MemberTraining<'_>,
    table: &Arc<EncodedTable>,
    round: Arc<dyn Round>,
    what: &str,
) -> Result<Vec<u8>> {
    let reference = format!("{}/{what}", training.reference);
    training.shared.runner.run(&reference, round, &all(table)).await
}

/// All rows of a table.
fn all(table: &Arc<EncodedTable>) -> Slice {
    let order = table.epoch_order(0, 0, false);
    table.slice(&order, 0, order.rows(), partitions(order.rows()))
}

/// Rows from which on Newton's method begins with a part of them, of which it takes one in so many.
const MANY_ROWS: u64 = 1 << 18;
const PART: usize = 16;
/// Gradient to which the part is followed: its minimum is another one anyway.
const PART_TOLERANCE: f64 = 1e-3;
/// Steps over the part at most; where they do not suffice it is no place to begin.
const PART_STEPS: u64 = 10;

fn state(parameters: Vec<f32>, steps: u64, rows: u64) -> State {
    State { parameters, moments: vec![], steps, rows, round: LossSum::default() }
}

async fn normal(
    training: &MemberTraining<'_>,
    train: &Arc<EncodedTable>,
    network: &Arc<Network>,
    l2: f64,
    loss_scale: f64,
) -> Result<Solved> {
    let begun = Instant::now();
    let interrupt = Arc::clone(&training.shared.interrupt);
    let round = Arc::new(GramRound::new(train.width(), interrupt));
    let sum = GramSum::from_bytes(&pass(training, train, round, "gram").await?)?;
    let intercept = training.shared.request.options.intercept;
    let is_quick = width_is_small(train);
    let solution = waiting(is_quick, "the solver", move || sum.solve(l2, intercept)).await?;
    let mut parameters: Vec<f32> = solution.weights.iter().map(|w| *w as f32).collect();
    if intercept {
        parameters.push(solution.intercept as f32);
    }
    debug_assert_eq!(parameters.len(), network.layout().len());
    let loss = solution.loss * loss_scale;
    let entry = HistoryEntry {
        epoch: 1,
        loss,
        eval_loss: None,
        learning_rate: f64::NAN,
        rows: train.rows(),
        duration_ms: begun.elapsed().as_millis() as u64,
    };
    Ok(Solved {
        state: state(parameters, 1, train.rows()),
        history: vec![entry],
        loss,
        eval_loss: None,
        warning: None,
    })
}

/// Passes of Newton's method over rows of a table.
struct Passes<'a> {
    training: &'a MemberTraining<'a>,
    table: &'a Arc<EncodedTable>,
    outputs: usize,
    spare: Arc<Spare>,
}

impl Passes<'_> {
    /// One pass, and what the method makes of it.
    async fn step(
        &self,
        rows: &Slice,
        mut newton: Newton,
        what: &str,
    ) -> Result<(Newton, Advance)> {
        let Self { training, table, .. } = self;
        let round = Arc::new(NewtonRound::new(
            table.width(),
            self.outputs,
            training.shared.request.options.intercept,
            Arc::new(newton.trial().to_vec()),
            Arc::clone(&self.spare),
            Arc::clone(&training.shared.interrupt),
        ));
        let reference = format!("{}/{what}", training.reference);
        let sum = training.shared.runner.run(&reference, round, rows).await?;
        let sum = NewtonSum::from_bytes(&sum)?;
        waiting(width_is_small(table), "the solver", move || {
            let advance = newton.advance(&sum)?;
            Ok((newton, advance))
        })
        .await
    }
}

/// Where Newton's method ends over a part of many rows, taken in chunks from all over the table.
/// From there fewer passes over all of them are left, three of five on the benchmark's rows, and a
/// pass over the part takes a sixteenth of one. None of few rows, and where the part has no minimum
/// that is soon found.
async fn warm(
    passes: &Passes<'_>,
    options: NewtonOptions,
    start: &[f64],
) -> Result<Option<Vec<f64>>> {
    let table = passes.table;
    if table.rows() < MANY_ROWS {
        return Ok(None);
    }
    let order = table.part_order(PART);
    let rows = table.slice(&order, 0, order.rows(), partitions(order.rows()));
    let options = NewtonOptions { tolerance: PART_TOLERANCE, max_steps: PART_STEPS, ..options };
    let mut newton = Newton::new(start.to_vec(), options)?;
    loop {
        let what = format!("newton/part/{}", newton.report().passes);
        let (next, advance) = passes.step(&rows, newton, &what).await?;
        newton = next;
        if advance == Advance::Finished {
            break;
        }
    }
    let report = newton.report();
    let is_found = report.outcome == Outcome::Converged && !report.separable;
    Ok(is_found.then(|| newton.parameters().to_vec()))
}

async fn newton(
    training: &MemberTraining<'_>,
    train: &Arc<EncodedTable>,
    network: &Arc<Network>,
    l2: f64,
) -> Result<Solved> {
    let options = &training.shared.request.options;
    let (width, outputs) = (train.width(), network.outputs());
    let defaults = NewtonOptions::default();
    let tolerance = options.tolerance;
    let intercepts = if options.intercept { outputs } else { 0 };
    let cold = vec![0.0; width.inputs() * outputs + intercepts];
    let passes = Passes { training, table: train, outputs, spare: Arc::default() };
    let start = warm(&passes, NewtonOptions { l2, ..defaults }, &cold).await?;
    let mut newton =
        Newton::new(start.unwrap_or(cold), NewtonOptions { l2, tolerance, ..defaults })?;
    let rows = all(train);
    let mut history: Vec<HistoryEntry> = vec![];
    let mut begun = Instant::now();
    loop {
        let steps_before = newton.report().steps;
        let what = format!("newton/{}", newton.report().passes);
        let (next, advance) = passes.step(&rows, newton, &what).await?;
        newton = next;
        let report = newton.report();
        if report.steps > steps_before {
            let elapsed = begun.elapsed();
            begun = Instant::now();
            history.push(HistoryEntry {
                epoch: report.steps,
                loss: report.loss,
                eval_loss: None,
                learning_rate: f64::NAN,
                rows: train.rows(),
                duration_ms: elapsed.as_millis() as u64,
            });
            (training.events)(Event::Step {
                step: report.steps,
                loss: report.loss,
                rows_per_second: train.rows() as f64 / elapsed.as_secs_f64().max(1e-9),
            });
        }
        if advance == Advance::Finished {
            break;
        }
    }
    let report = newton.report();
    let warning = if report.separable {
        Some(
            "the classes are separable, so the weights would grow for ever; they were stopped \
             where the gradient is small; l2 > 0 bounds them"
                .to_owned(),
        )
    } else if report.outcome == Outcome::StepLimit {
        Some(format!("newton did not converge in {} steps", report.steps))
    } else {
        None
    };
    let keep = width.inputs() * outputs + intercepts;
    let parameters = newton.parameters()[..keep].iter().map(|w| *w as f32).collect();
    Ok(Solved {
        state: state(parameters, report.steps, train.rows()),
        history,
        loss: report.loss,
        eval_loss: None,
        warning,
    })
}
