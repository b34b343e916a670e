//! Reports the warnings of sources while a query reads them.

use std::sync::Arc;
use std::time::Duration;

use datafusion::common::Result;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::{Report, source_tables};
use crate::event::{Event, EventSink};

/// How often the sources are polled.
const INTERVAL: Duration = Duration::from_millis(200);

/// The rows of a plan. While they arrive, and when they have ended, the warnings of the unbounded
/// tables that the plan reads become events; without such tables nothing is done.
///
/// # Errors
/// Never in practice.
pub fn with_warnings(
    rows: SendableRecordBatchStream,
    plan: &LogicalPlan,
    events: &EventSink,
) -> Result<SendableRecordBatchStream> {
    let reports = reports(plan)?;
    if reports.is_empty() {
        return Ok(rows);
    }
    let schema = rows.schema();
    let notices = Notices { reports, events: Arc::clone(events) };
    // A task of its own: producers may be dropped long before the next row arrives.
    let telling = notices.clone();
    let task = SpawnedTask::spawn(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            telling.tell(Report::take_warnings);
        }
    });
    let mut end = Some((task, notices));
    let end = futures::stream::poll_fn(move |_| {
        if let Some((task, notices)) = end.take() {
            drop(task);
            notices.tell(Report::take_last_warnings);
        }
        std::task::Poll::Ready(None)
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.chain(end))))
}

#[derive(Clone)]
struct Notices {
    reports: Vec<Arc<Report>>,
    events: EventSink,
}

impl Notices {
    fn tell(&self, take: impl Fn(&Report) -> Vec<String>) {
        for warning in self.reports.iter().flat_map(|report| take(report)) {
            (self.events)(Event::Warning(warning));
        }
    }
}

/// The reports of the unbounded tables that a plan reads, each once.
fn reports(plan: &LogicalPlan) -> Result<Vec<Arc<Report>>> {
    let mut found: Vec<Arc<Report>> = vec![];
    for table in source_tables(plan)? {
        let report = table.source().report();
        if !found.iter().any(|known| Arc::ptr_eq(known, &report)) {
            found.push(report);
        }
    }
    Ok(found)
}
