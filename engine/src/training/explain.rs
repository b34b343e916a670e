//! EXPLAIN [ANALYZE] TRAIN: shows what would run, or what did run; publishes nothing.
//!
//! What runs depends on the rows: their number, the width that they are encoded to, their classes.
//! So EXPLAIN reads them once and fits the encoder, and prints the plan that TRAIN would run.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use gradlake_udfs::{
    Description, Encoder, Iterations, Labels, Method, Next, OptionGroup, Round, RowSchema, Setup,
    Trained, TrainingPlan,
};

use super::Finished;
use super::checkpoint::TrainingProgress;
use super::columns::TrainingColumns;
use super::driver::partitions;
use super::member::{Failure, MemberTraining, Shared};
use super::members::member;
use super::prepare::Decided;
use super::reading::TrainingRows;
use super::saver::Saver;
use crate::clock::now_ms;
use crate::event::EventSink;
use crate::online::{StreamQuery, check_online};
use crate::options::{Statistics, TrainOptions};
use crate::request::TrainRequest;
use crate::session::Engine;
use crate::source::Ledger;
use crate::table::EncodedTable;

/// The columns of EXPLAIN TRAIN, as DataFusion's EXPLAIN has them.
pub fn explain_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("plan_type", DataType::Utf8, false),
        Field::new("plan", DataType::Utf8, false),
    ]))
}

/// The plan of a training, or with `analyze` the record of a training that is discarded.
///
/// # Errors
/// As training itself.
pub async fn explain(
    engine: &Engine,
    request: &TrainRequest,
    analyze: bool,
    events: &EventSink,
) -> Result<RecordBatch> {
    let state = engine.training_state();
    let parent = engine.parent(request).await?;
    let columns = TrainingColumns::resolve(&state, request, parent.as_ref())?;
    if let Some(stream) = StreamQuery::of(&columns.plan)? {
        if analyze {
            Engine::refuse_unbounded(&columns.plan, "EXPLAIN ANALYZE")?;
        }
        return explain_stream(engine, request, &columns, &stream, parent.is_some()).await;
    }
    let query = state.create_physical_plan(&columns.plan).await?;
    let mut rows: Vec<(&str, String)> = vec![];
    rows.push(("training", training_text(request, &columns)));
    rows.push(("rows", rows_text(query.as_ref())));
    let query_text = displayable(query.as_ref()).indent(false).to_string();
    rows.push(("query", query_text.trim_end().to_owned()));
    let progress = TrainingProgress { started_ms: now_ms(), members: BTreeMap::new() };
    let saver = Saver::new(None, request, progress, Arc::clone(events));
    engine.interrupt.clear();
    match (request.options.statistics, analyze) {
        (Statistics::Running, false) => {
            check_online(request, &request.options, false)?;
            rows.push(("plan", online_text(&request.options)));
        }
        (Statistics::Running, true) => {
            let finished = engine.run_online(request, None, false, events).await?;
            rows.push(("analyze", analyze_text(&finished)));
        }
        (Statistics::Fixed, false) => {
            let (plan, round) = plan_text(engine, request, saver, events).await?;
            rows.push(("plan", plan));
            rows.extend(round.map(|round| ("round", round)));
        }
        (Statistics::Fixed, true) => {
            let finished = engine.run_training(request, saver, events).await?;
            rows.push(("analyze", analyze_text(&finished)));
        }
    }
    table(rows)
}

/// The plan of a training that takes every row once, in the order of arrival.
async fn explain_stream(
    engine: &Engine,
    request: &TrainRequest,
    columns: &TrainingColumns,
    stream: &StreamQuery,
    continues: bool,
) -> Result<RecordBatch> {
    let options = request.options.for_stream(continues)?;
    check_online(request, &options, true)?;
    let source = stream.table().source();
    let again = match (source.is_replayable(), stream.reach) {
        (true, Some(_)) => "read again after a crash: nothing is lost or learned twice",
        (true, None) => "read again after a crash, but windows of unknown reach begin anew",
        (false, _) => "not read again after a crash: rows since the last checkpoint are lost",
    };
    let rows_text = format!(
        "every row once, in the order in which they come from {} ({})\n{again}",
        source.location(),
        source.kind()
    );
    let numbered = stream.numbered(&Arc::new(Ledger::new(0, vec![])), None)?;
    let query = engine.plan_in_order(&numbered).await?;
    let query = displayable(query.as_ref()).indent(false).to_string();
    let request = TrainRequest { options: options.clone(), ..request.clone() };
    table(vec![
        ("training", training_text(&request, columns)),
        ("rows", rows_text),
        ("query", query.trim_end().to_owned()),
        ("plan", online_text(&options)),
    ])
}

/// Describes the training on rows that are taken once, in the order of arrival.
fn online_text(options: &TrainOptions) -> String {
    let method = match options.algorithm.takes(OptionGroup::Gradient) {
        true => options.optimizer.name(),
        false => options.algorithm.name(),
    };
    format!(
        "method: {method}, mini-batches of {} row{} cut by their number alone",
        options.batch_size,
        if options.batch_size == 1 { "" } else { "s" }
    )
}

fn table(rows: Vec<(&str, String)>) -> Result<RecordBatch> {
    let (types, plans): (Vec<&str>, Vec<String>) = rows.into_iter().unzip();
    Ok(RecordBatch::try_new(
        explain_schema(),
        vec![Arc::new(StringArray::from(types)), Arc::new(StringArray::from(plans))],
    )?)
}

/// Describes what is trained on which columns.
fn training_text(request: &TrainRequest, columns: &TrainingColumns) -> String {
    let features: Vec<String> =
        columns.inputs.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect();
    let mut lines = vec![
        format!("algorithm: {}", request.algorithm),
        format!("features: {}", features.join(", ")),
    ];
    if !columns.targets.is_empty() {
        let targets = columns.targets.iter().map(|(name, data_type)| format!("{name} {data_type}"));
        let targets: Vec<String> = targets.collect();
        lines.insert(1, format!("target: {}", targets.join(", ")));
    }
    if !request.partition_by.is_empty() {
        lines.push(format!("one model per {}", columns.roles.partition_by.join(", ")));
    }
    if let Some((name, version)) = &request.continue_from {
        let version = version.map_or_else(String::new, |v| format!(" version {v}"));
        lines.push(format!("continues {name}{version} with its encoder and optimizer state"));
    }
    lines.join("\n")
}

/// Whether the weights are the same from run to run.
fn rows_text(query: &dyn ExecutionPlan) -> String {
    match unordered_operator(query) {
        None => "order defined: the same rows give bit-identical weights".to_owned(),
        Some(operator) => format!(
            "order not defined ({operator}): weights may differ from run to run; an ORDER BY \
             would define it"
        ),
    }
}

/// The first operator after which the order of rows is not deterministic, if there is one.
fn unordered_operator(plan: &dyn ExecutionPlan) -> Option<&str> {
    const ORDERED: [&str; 14] = [
        "DataSourceExec",
        "FilterExec",
        "ProjectionExec",
        "PredictExec",
        "CoalesceBatchesExec",
        "CooperativeExec",
        "PausingExec",
        "LocalLimitExec",
        "SortExec",
        "SortPreservingMergeExec",
        "PlaceholderRowExec",
        "EmptyExec",
        "UnnestExec",
        "UnionExec",
    ];
    let name = plan.name();
    // A sort of all rows makes the operators below it irrelevant.
    if name == "SortPreservingMergeExec" || (name == "SortExec" && single(plan)) {
        return None;
    }
    let keeps_order = ORDERED.contains(&name) || (name == "GlobalLimitExec" && single_input(plan));
    if !keeps_order {
        return Some(name);
    }
    plan.children().into_iter().find_map(|child| unordered_operator(child.as_ref()))
}

fn single(plan: &dyn ExecutionPlan) -> bool {
    use datafusion::physical_plan::ExecutionPlanProperties;
    plan.output_partitioning().partition_count() == 1
}

fn single_input(plan: &dyn ExecutionPlan) -> bool {
    plan.children().iter().all(|child| single(child.as_ref()))
}

/// What is decided for one member.
struct MemberPlan {
    text: String,
    plan: TrainingPlan,
    /// The first round, and the width of its rows.
    round: Option<(Arc<dyn Round>, RowSchema)>,
    replicas: usize,
}

/// Members whose plans are printed in full.
const SHOWN_MEMBERS: usize = 3;

/// What TRAIN would run, and the physical plan of its rounds.
async fn plan_text(
    engine: &Engine,
    request: &TrainRequest,
    saver: Saver,
    events: &EventSink,
) -> Result<(String, Option<String>)> {
    let (shared, rows) = engine.read_training(request, saver, events).await?;
    let mut lines = vec![];
    let mut methods: BTreeMap<&str, u64> = BTreeMap::new();
    let mut first = None;
    let mut add = |training: &MemberTraining<'_>, decided: Result<MemberPlan, Failure>| {
        let member = match decided {
            Ok(member) => member,
            Err(Failure::Failed(error)) => return Err(error),
            Err(Failure::Untrainable(reason)) if request.partition_by.is_empty() => {
                return exec_err!("{reason}");
            }
            Err(Failure::Untrainable(reason)) => {
                *methods.entry("not trained").or_default() += 1;
                if lines.len() < SHOWN_MEMBERS {
                    lines.push(format!("{}: not trained: {reason}", training.label));
                }
                return Ok(());
            }
        };
        *methods.entry(member.plan.method.name()).or_default() += 1;
        if lines.len() < SHOWN_MEMBERS {
            let label = training.label.as_str();
            let label = if label.is_empty() { String::new() } else { format!("{label}: ") };
            lines.push(format!("{label}{}", member.text));
        }
        first.get_or_insert(member);
        Ok(())
    };
    match rows {
        TrainingRows::Raw(raw) => {
            for (number, (key, subset)) in raw.groups().into_iter().enumerate() {
                let training = member(&shared, number, &key, Arc::clone(events));
                let decided = match training.decide(&raw, &subset).await {
                    Ok(decided) => member_plan(&training, decided),
                    Err(failure) => Err(failure),
                };
                add(&training, decided)?;
            }
        }
        TrainingRows::SinglePassLoad(load) => {
            let training = member(&shared, 0, &[], Arc::clone(events));
            let fitted = load.fit(training.standardize_target())?;
            let decided = match training.plan(&fitted, None, load.rows()) {
                Ok(plan) => {
                    let sides = (load.rows(), 0);
                    let setup = training.setup(&fitted, None);
                    match setup {
                        Ok(setup) => describe(&training, plan, setup, sides, None),
                        Err(failure) => Err(failure),
                    }
                }
                Err(failure) => Err(failure),
            };
            add(&training, decided)?;
        }
    }
    let members: u64 = methods.values().sum();
    if members > lines.len() as u64 {
        let counts: Vec<_> = methods.iter().map(|(name, n)| format!("{name} {n}")).collect();
        lines.push(format!("... {members} models in all: {}", counts.join(", ")));
    }
    let round = match first {
        Some(MemberPlan { round: Some(round), replicas, .. }) => {
            Some(round_text(engine, &shared, round, replicas)?)
        }
        _ => None,
    };
    let memory = engine.context().runtime_env().memory_pool.memory_limit();
    lines.push(format!(
        "encoded rows stay in memory within {}, and spill beyond it",
        memory_text(&memory)
    ));
    Ok((lines.join("\n"), round))
}

fn member_plan(training: &MemberTraining<'_>, decided: Decided) -> Result<MemberPlan, Failure> {
    let Decided { plan, mask, fitted, parent } = decided;
    let setup = training.setup(&fitted, parent.as_ref())?;
    let sides = (mask.training_rows(), mask.evaluation_rows());
    describe(training, plan, setup, sides, parent.as_ref())
}

/// A member's plan in words, with its numbers of training and evaluation rows.
fn describe(
    training: &MemberTraining<'_>,
    plan: TrainingPlan,
    (encoder, labels, description): (Encoder, Labels, Arc<dyn Description>),
    (rows, eval_rows): (u64, u64),
    parent: Option<&Trained>,
) -> Result<MemberPlan, Failure> {
    let setup = Setup {
        options: &training.shared.request.options,
        plan: &plan,
        description: &description,
        encoder: &encoder,
        labels: &labels,
        rows,
        has_evaluation: eval_rows > 0,
        parent,
        threads: Arc::clone(&training.shared.pool),
        interrupt: Arc::clone(&training.shared.interrupt),
    };
    let (method, schema) = (setup.describe(), encoder.schema(labels.targets()));
    let round = match setup.make()?.next()? {
        Next::Run(request) => Some((request.round, schema.clone())),
        Next::Done => None,
    };
    let replicas = match plan.method {
        Method::Descent => setup.rows_per_replica().len(),
        _ => partitions(rows),
    };
    let shuffle = match plan.shuffle {
        Some(seed) => format!("from seed {seed}"),
        None => "none".to_owned(),
    };
    let width = schema.width();
    let bytes = rows * width.row_bytes() as u64;
    let text = format!(
        "method: {method}\nrows: {rows} train, {eval_rows} evaluate\nsplit: {}\nshuffle: \
         {shuffle}\nencoded row: {schema}; {} categories, {} outputs\nmemory: {bytes} bytes of encoded rows",
        plan.split,
        width.categories,
        description.outputs()
    );
    Ok(MemberPlan { text, plan, round, replicas })
}

/// The physical plan of one round.
fn round_text(
    engine: &Engine,
    shared: &Shared,
    (round, schema): (Arc<dyn Round>, RowSchema),
    replicas: usize,
) -> Result<String> {
    let table = Arc::new(EncodedTable::empty(schema));
    let round = table.decoding(round);
    let order = table.epoch_order(0, 0, false);
    let slice = table.slice(&order, 0, 0, replicas);
    let reference = format!("{}/0/0", shared.request.name);
    let _known = engine.registry.register_round(&reference, round);
    let plan = shared.runner.plan(&reference, &slice)?;
    Ok(displayable(plan.as_ref()).indent(false).to_string().trim_end().to_owned())
}

fn memory_text(limit: &datafusion::execution::memory_pool::MemoryLimit) -> String {
    use datafusion::execution::memory_pool::MemoryLimit;
    match limit {
        MemoryLimit::Finite(bytes) => format!("{} MB", bytes >> 20),
        _ => "no limit".to_owned(),
    }
}

/// What a discarded training did.
fn analyze_text(finished: &Finished) -> String {
    let mut lines = vec![];
    for report in &finished.report {
        let mut line = String::new();
        if !report.label.is_empty() {
            line += &format!("{}: ", report.label);
        }
        let unit = match (report.iterations, report.epochs) {
            (Iterations::Steps, 1) => "step",
            (Iterations::Steps, _) => "steps",
            (Iterations::Epochs(_), 1) => "epoch",
            (Iterations::Epochs(_), _) => "epochs",
        };
        line += &format!(
            "{}, {} rows, {} evaluation rows, {} {unit}",
            report.method, report.rows, report.eval_rows, report.epochs
        );
        lines.push(line);
        let shares: Vec<_> = report.rows_per_replica.iter().map(u64::to_string).collect();
        lines.push(format!("rows per replica: {}", shares.join(", ")));
        let (memory, spilled) = report.encoded_bytes;
        lines.push(format!("encoded: {memory} bytes in memory, {spilled} spilled"));
    }
    for member in &finished.model.members {
        if let Err(reason) = &member.outcome {
            lines.push(format!("not trained: {reason}"));
        }
    }
    let skipped: u64 = finished.model.skipped_rows.values().sum();
    lines.push(format!("skipped rows: {skipped}"));
    for (cause, n) in &finished.model.skipped_rows {
        lines.push(format!("  {cause}: {n}"));
    }
    lines.push(format!("time: {} ms", finished.duration.as_millis()));
    lines.join("\n")
}
