//! All members of a training: large ones run one after another, small ones in parallel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use gradlake_udfs::Trained;
use tokio::runtime::Handle;

use super::member::{Failure, MemberTraining, Report, Shared};
use super::prepare::Prepared;
use super::reading::TrainingRows;
use crate::event::{Event, EventSink};
use crate::table::{RawTable, Subset};

/// The result of a member.
pub struct MemberResult {
    /// Values of the partition columns.
    pub key: Vec<ScalarValue>,
    /// Rows that were left out, by cause.
    pub skipped: BTreeMap<String, u64>,
    /// Its model, or why it has none.
    pub outcome: Result<(Trained, Report), String>,
}

/// Trains the members of all groups, in the order of their keys.
///
/// It runs as a task on a worker of the runtime, not on the caller's thread: the worker runs the
/// tasks of a round's plan itself, and waking another thread for each would take longer than they
/// do.
///
/// # Errors
/// When a training fails; for a model without groups also when its rows cannot train one.
pub async fn train_all(
    shared: Shared,
    rows: TrainingRows,
    events: &EventSink,
) -> Result<(Shared, Vec<MemberResult>)> {
    let events = Arc::clone(events);
    let task = SpawnedTask::spawn(async move {
        match rows {
            TrainingRows::Raw(raw) => train_groups(shared, raw, &events).await,
            TrainingRows::SinglePassLoad(load) => {
                let training = member(&shared, 0, &[], Arc::clone(&events));
                let prepared = training.prepare_single_pass(*load).await;
                let result = train_only(&training, prepared).await?;
                Ok((shared, vec![result]))
            }
        }
    });
    task.join().await.map_err(|e| exec_datafusion_err!("the training failed: {e}"))?
}

async fn train_groups(
    shared: Shared,
    mut raw: RawTable,
    events: &EventSink,
) -> Result<(Shared, Vec<MemberResult>)> {
    let groups = raw.groups();
    if shared.request.partition_by.is_empty() {
        let Some((key, subset)) = groups.into_iter().next() else {
            return exec_err!("the query gives no rows to train on");
        };
        let training = member(&shared, 0, &key, Arc::clone(events));
        let prepared = training.prepare(&raw, &subset, true).await;
        // The rows are encoded.
        raw.release();
        let result = train_only(&training, prepared).await?;
        return Ok((shared, vec![result]));
    }
    let (shared, raw) = (Arc::new(shared), Arc::new(raw));
    let mut results = vec![];
    for run in groups.chunk_by(|a, b| a.1.is_small() && b.1.is_small()) {
        if let [(key, subset)] = run {
            let group = (results.len(), key.as_slice(), subset);
            results.push(train_one(&shared, &raw, group, events).await?);
            continue;
        }
        let (own, raw, run) = (Arc::clone(&shared), Arc::clone(&raw), run.to_vec());
        let (first, events, runtime) = (results.len(), Arc::clone(events), Handle::current());
        let task = tokio::task::spawn_blocking(move || {
            side_by_side(&own, &raw, first, &run, &events, &runtime)
        });
        let more =
            task.await.map_err(|e| exec_datafusion_err!("training groups failed: {e}"))??;
        results.extend(more);
    }
    drop(raw);
    match Arc::into_inner(shared) {
        Some(shared) => Ok((shared, results)),
        None => exec_err!("a group is still being trained"),
    }
}

/// Trains the one member of a model without groups.
async fn train_only(
    training: &MemberTraining<'_>,
    prepared: Result<Prepared, Failure>,
) -> Result<MemberResult> {
    match training.train(prepared).await {
        Ok((trained, report)) => {
            let skipped = trained.skipped_rows.clone();
            let key = training.key.to_vec();
            Ok(MemberResult { key, skipped, outcome: Ok((trained, report)) })
        }
        Err(Failure::Untrainable(reason)) => exec_err!("{reason}"),
        Err(Failure::Failed(error)) => Err(error),
    }
}

/// Trains a member: (its number, its key, its rows). A group that cannot be trained is recorded,
/// but does not fail the others.
async fn train_one(
    shared: &Shared,
    raw: &RawTable,
    (number, key, subset): (usize, &[ScalarValue], &Subset),
    events: &EventSink,
) -> Result<MemberResult> {
    let training = member(shared, number, key, Arc::clone(events));
    let prepared = training.prepare(raw, subset, false).await;
    let (skipped, outcome) = match training.train(prepared).await {
        Ok((trained, report)) => (trained.skipped_rows.clone(), Ok((trained, report))),
        Err(Failure::Untrainable(reason)) => {
            events(Event::Warning(format!("no model for {}: {reason}", training.label)));
            (subset.skipped().clone(), Err(reason))
        }
        Err(Failure::Failed(error)) => return Err(error),
    };
    Ok(MemberResult { key: key.to_vec(), skipped, outcome })
}

/// Trains small members on all cores; their events are sent in the order of the members.
fn side_by_side(
    shared: &Shared,
    raw: &RawTable,
    first: usize,
    groups: &[(Vec<ScalarValue>, Subset)],
    events: &EventSink,
    runtime: &Handle,
) -> Result<Vec<MemberResult>> {
    let mut results = Vec::with_capacity(groups.len());
    raw.in_order(
        groups.len(),
        |index| {
            let held = Arc::new(Mutex::new(vec![]));
            let sink: EventSink = {
                let held = Arc::clone(&held);
                Arc::new(move |event| {
                    held.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                })
            };
            let (key, subset) = &groups[index];
            let group = (first + index, key.as_slice(), subset);
            let result = runtime.block_on(train_one(shared, raw, group, &sink));
            let held = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
            Ok((result?, held))
        },
        |(result, held)| {
            held.into_iter().for_each(|event| events(event));
            results.push(result);
            Ok(())
        },
    )?;
    Ok(results)
}

/// The training of a member: its number and the values of its partition columns.
pub fn member<'a>(
    shared: &'a Shared,
    number: usize,
    key: &'a [ScalarValue],
    events: EventSink,
) -> MemberTraining<'a> {
    let label = member_label(&shared.columns.roles.partition_by, key);
    let reference = format!("{}/{number}", shared.reference);
    MemberTraining { shared, events, key, label, reference }
}

/// `carrier = UA, origin IS NULL`; empty without PARTITION BY. No two members have the same label:
/// checkpoints identify members by it.
fn member_label(columns: &[String], key: &[ScalarValue]) -> String {
    let part = |(column, value): (&String, &ScalarValue)| {
        if value.is_null() {
            return format!("{column} IS NULL");
        }
        let value = value.to_string();
        match value.contains([',', '\'']) {
            true => format!("{column} = '{}'", value.replace('\'', "''")),
            false => format!("{column} = {value}"),
        }
    };
    columns.iter().zip(key).map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_members_have_the_same_label() {
        let columns = ["a".to_owned(), "b".to_owned()];
        let text = |value: &str| ScalarValue::from(value);
        let null = ScalarValue::Utf8(None);
        let label =
            |a: &ScalarValue, b: &ScalarValue| member_label(&columns, &[a.clone(), b.clone()]);
        assert_eq!(label(&text("x"), &ScalarValue::from(1)), "a = x, b = 1");
        assert_eq!(label(&text("NULL"), &null), "a = NULL, b IS NULL");
        assert_eq!(label(&null, &text("it's")), "a IS NULL, b = 'it''s'");
        assert_ne!(label(&text("x, b = y"), &text("z")), label(&text("x"), &text("y, b = z")));
    }
}
