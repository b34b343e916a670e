//! EXPLAIN [ANALYZE] TRAIN: what would run, or what did, and nothing is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use gradlake_udfs::batch::Width;
use gradlake_udfs::learner::Learner;
use gradlake_udfs::model::NetworkSpec;
use gradlake_udfs::round::LossRound;

use super::checkpoint::TrainingProgress;
use super::columns::TrainingColumns;
use super::plan::{Method, default_loss, layout, method};
use super::rounds::RoundRunner;
use super::saver::Saver;
use super::{Finished, now_ms};
use crate::event::EventSink;
use crate::online::StreamQuery;
use crate::options::{Solver, Split, Statistics};
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

/// The plan of a training, or with `analyze` the record of one that is thrown away.
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
    rows.push(("rows", rows_text(request, query.as_ref())));
    let query_text = displayable(query.as_ref()).indent(false).to_string();
    rows.push(("query", query_text.trim_end().to_owned()));
    rows.push(("round", round_text(engine, request, &columns).await?));
    if analyze {
        engine.interrupt.clear();
        let progress = TrainingProgress { started_ms: now_ms(), members: BTreeMap::new() };
        let saver = Saver::new(None, request, progress, Arc::clone(events));
        let finished = match request.options.statistics {
            Statistics::Running => engine.run_online(request, None, false, events).await?,
            Statistics::Fixed => engine.run_training(request, saver, events).await?,
        };
        rows.push(("analyze", analyze_text(&finished)));
    }
    table(rows)
}

/// The plan of a training that takes every row once, as it comes.
async fn explain_stream(
    engine: &Engine,
    request: &TrainRequest,
    columns: &TrainingColumns,
    stream: &StreamQuery,
    continues: bool,
) -> Result<RecordBatch> {
    let options = request.options.for_stream(continues)?;
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
    let method = format!(
        "{}, mini-batches of {} row{} cut by their number alone",
        options.optimizer.name(),
        options.batch_size,
        if options.batch_size == 1 { "" } else { "s" }
    );
    table(vec![
        ("training", training_text(&request, columns)),
        ("rows", rows_text),
        ("query", query.trim_end().to_owned()),
        ("method", method),
    ])
}

fn table(rows: Vec<(&str, String)>) -> Result<RecordBatch> {
    let (types, plans): (Vec<&str>, Vec<String>) = rows.into_iter().unzip();
    Ok(RecordBatch::try_new(
        explain_schema(),
        vec![Arc::new(StringArray::from(types)), Arc::new(StringArray::from(plans))],
    )?)
}

/// What is learned from what.
fn training_text(request: &TrainRequest, columns: &TrainingColumns) -> String {
    let options = &request.options;
    let features: Vec<String> =
        columns.inputs.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect();
    let solver = match options.solver {
        _ if request.continue_from.is_some() => Method::Descent.name().to_owned(),
        Solver::Auto => "auto: exact where the encoded width allows, else descent".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let split = match options.split {
        Split::Auto => "auto: none for exact solvers, else random".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let mut lines = vec![
        format!("algorithm: {}", request.algorithm),
        format!("target: {} {}", columns.target.0, columns.target.1),
        format!("features: {}", features.join(", ")),
        format!("solver: {solver}"),
        format!("split: {split}"),
        format!("epochs: {}", options.epochs),
    ];
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
fn rows_text(request: &TrainRequest, query: &dyn ExecutionPlan) -> String {
    let order = match unordered_operator(query) {
        None => "order defined: the same rows give bit-identical weights".to_owned(),
        Some(operator) => format!(
            "order not defined ({operator}): weights may differ from run to run; an ORDER BY \
             would define it"
        ),
    };
    let shuffle = if request.options.shuffle {
        format!("shuffled from seed {}", request.options.seed)
    } else {
        "not shuffled".to_owned()
    };
    format!("{order}\n{shuffle}")
}

/// The first operator after which the order of rows is left to chance, if there is one.
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
    // Above a sort of all rows, what lies below does not matter.
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

/// The physical plan of one round. The number of categories is not known before the rows are
/// read, so the plan stands for rows without any.
async fn round_text(
    engine: &Engine,
    request: &TrainRequest,
    columns: &TrainingColumns,
) -> Result<String> {
    let options = &request.options;
    let width = Width { dense: columns.inputs.len(), columns: 0, categories: 0 };
    let loss = options.loss.unwrap_or_else(|| default_loss(request.algorithm, 2));
    let spec = NetworkSpec {
        hidden: options.hidden.clone(),
        activation: options.activation,
        loss,
        outputs: 1,
        intercept: options.intercept,
        dropout: options.dropout,
    };
    let network = Arc::new(spec.network(width));
    let how = match &request.continue_from {
        Some(_) => Method::Descent,
        None => method(options, loss, width, 1, 0),
    };
    let replicas = match how {
        Method::Descent => layout(options, network.flops_per_row(), 0).replicas,
        Method::Normal | Method::Newton => super::exact::partitions(u64::MAX),
    };
    let table = Arc::new(EncodedTable::empty(width));
    let order = table.epoch_order(0, options.seed, options.shuffle);
    let slice = table.slice(&order, 0, 0, replicas);
    let runner = RoundRunner::new(&engine.training_state(), Arc::clone(&engine.registry));
    let reference = format!("{}/0/0", request.name);
    let parameters = Arc::new(vec![0.0; network.layout().len()]);
    let round = Arc::new(LossRound::new(network, parameters));
    let _known = engine.registry.register_round(&reference, round);
    let plan = runner.plan(&reference, &slice)?;
    let memory = engine.context().runtime_env().memory_pool.memory_limit();
    Ok(format!(
        "{}method: {}, {replicas} partition{}\nmemory: encoded rows stay in memory within {}, \
         and spill beyond it",
        displayable(plan.as_ref()).indent(false),
        how.name(),
        if replicas == 1 { "" } else { "s" },
        memory_text(&memory)
    ))
}

fn memory_text(limit: &datafusion::execution::memory_pool::MemoryLimit) -> String {
    use datafusion::execution::memory_pool::MemoryLimit;
    match limit {
        MemoryLimit::Finite(bytes) => format!("{} MB", bytes >> 20),
        _ => "no limit".to_owned(),
    }
}

/// What a training that was thrown away did.
fn analyze_text(finished: &Finished) -> String {
    let mut lines = vec![];
    for report in &finished.report {
        let mut line = String::new();
        if !report.label.is_empty() {
            line += &format!("{}: ", report.label);
        }
        let unit = match (report.is_exact, report.epochs) {
            (true, 1) => "step",
            (true, _) => "steps",
            (false, 1) => "epoch",
            (false, _) => "epochs",
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
