//! Reports the progress of an epoch while its rounds run.

use std::sync::Arc;
use std::time::Duration;

use gradlake_udfs::Progress;

use crate::event::{Event, EventSink};

/// Interval between the progress events of a running round.
const INTERVAL: Duration = Duration::from_millis(200);

/// Reports the progress of a round until dropped.
#[derive(Debug)]
pub struct Ticker(tokio::task::JoinHandle<()>);

impl Ticker {
    /// Starts the reports: `template` is an [`Event::Progress`] whose rows are filled in.
    pub fn start(progress: Arc<Progress>, events: EventSink, template: Event) -> Self {
        Self(tokio::spawn(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            interval.tick().await;
            loop {
                interval.tick().await;
                let mut event = template.clone();
                if let Event::Progress { rows_done, .. } = &mut event {
                    *rows_done = progress.rows();
                }
                events(event);
            }
        }))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.abort();
    }
}
