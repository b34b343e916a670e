//! The status of a running training for other processes, made from its events and written beside
//! its lease.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::clock::now_ms;
use crate::event::{Event, EventSink};
use crate::source::Lag;
use crate::store::{Lease, ModelStore, TrainingStatus};

/// Rows per second over the last seconds.
#[derive(Debug, Default)]
pub struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// Length of the window.
    const WINDOW: Duration = Duration::from_secs(5);
    /// Minimum time between two marks: twenty of them span the window.
    const MARK: Duration = Duration::from_millis(250);

    /// Records the rows until now, and returns the rate; None before there is one.
    pub fn at(&mut self, now: Instant, rows: u64) -> Option<f64> {
        if self.0.back().is_some_and(|(_, before)| *before > rows) {
            // A new member starts a new count.
            self.0.clear();
        }
        while self.0.get(1).is_some_and(|(mark, _)| now.duration_since(*mark) >= Self::WINDOW) {
            self.0.pop_front();
        }
        let rate = self.0.front().and_then(|(mark, before)| {
            let seconds = now.duration_since(*mark).as_secs_f64();
            (seconds > 0.0).then(|| (rows - before) as f64 / seconds)
        });
        if self.0.back().is_none_or(|(mark, _)| now.duration_since(*mark) >= Self::MARK) {
            self.0.push_back((now, rows));
        }
        rate
    }
}

/// Writes the status of a training periodically, until it ends. The training itself only sends
/// events.
#[derive(Debug)]
pub struct Monitor {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    watched: Mutex<Watched>,
    end: Notify,
}

#[derive(Debug)]
struct Watched {
    status: TrainingStatus,
    /// Rows of members that are done.
    before: u64,
    /// Rows of an epoch.
    rows: u64,
    pace: Pace,
    is_new: bool,
}

impl Watched {
    fn observe(&mut self, event: &Event, now: Instant) {
        let status = &mut self.status;
        match event {
            Event::Reading { rows } => {
                (status.epoch, status.rows) = (Some(0), *rows);
                status.rows_per_second = self.pace.at(now, *rows);
            }
            Event::Started { rows, .. } => {
                self.rows = *rows;
                self.before = match status.epoch {
                    // Rows that were only read.
                    Some(0) | None => 0,
                    Some(_) => status.rows,
                };
                status.rows = self.before;
            }
            Event::Progress { epoch, rows_done, rows, loss, .. } => {
                let rows = epoch.saturating_sub(1).saturating_mul(*rows).saturating_add(*rows_done);
                (status.epoch, status.rows) = (Some(*epoch), self.before.saturating_add(rows));
                status.loss = Some(*loss);
                status.rows_per_second = self.pace.at(now, status.rows);
            }
            Event::Epoch { epoch, loss, rows_per_second, .. }
            | Event::Step { step: epoch, loss, rows_per_second } => {
                let rows = epoch.saturating_mul(self.rows);
                (status.epoch, status.rows) = (Some(*epoch), self.before.saturating_add(rows));
                status.loss = Some(*loss);
                status.rows_per_second = Some(*rows_per_second);
            }
            Event::Streaming { rows, rows_per_second, loss, recent_loss, waiting, .. } => {
                (status.epoch, status.rows) = (None, *rows);
                (status.loss, status.recent_loss) = (*loss, *recent_loss);
                status.rows_per_second = Some(*rows_per_second);
                status.lag = waiting.map(|waiting| match waiting {
                    Lag::Bytes(n) => (n, "bytes".to_owned()),
                    Lag::Files(n) => (n, "files".to_owned()),
                });
            }
            _ => return,
        }
        self.is_new = true;
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<TrainingStatus> {
        let mut watched = self.watched();
        std::mem::take(&mut watched.is_new).then(|| watched.status.clone())
    }
}

impl Monitor {
    /// Starts to write the status of a training that holds a lease.
    pub fn start(store: &ModelStore, lease: &Lease, statement: &str) -> Self {
        let status = TrainingStatus {
            statement: statement.to_owned(),
            started_ms: now_ms(),
            ..TrainingStatus::default()
        };
        let watched = Watched { status, before: 0, rows: 0, pace: Pace::default(), is_new: true };
        let shared = Arc::new(Shared { watched: Mutex::new(watched), end: Notify::new() });
        let (store, lease, own) = (store.clone(), lease.clone(), Arc::clone(&shared));
        let task = tokio::spawn(async move {
            loop {
                if let Some(status) = own.take()
                    && let Err(error) = store.put_status(&lease, &status).await
                {
                    log::warn!("the status of a training could not be written: {error}");
                }
                tokio::select! {
                    () = own.end.notified() => return,
                    () = tokio::time::sleep(store.status_pace()) => {}
                }
            }
        });
        Self { shared, task }
    }

    /// The sink that the training sends its events to; it forwards them to `events`.
    pub fn sink(&self, events: &EventSink) -> EventSink {
        let (shared, events) = (Arc::clone(&self.shared), Arc::clone(events));
        Arc::new(move |event| {
            shared.watched().observe(&event, Instant::now());
            events(event);
        })
    }

    /// Ends when no write is under way, so that the status can be removed for good.
    pub async fn end(mut self) {
        self.shared.end.notify_one();
        // A task that was aborted writes nothing either.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        assert_eq!(pace.at(start, 1000), None);
        // 100 rows a second for ten seconds, then none.
        for tenth in 1..=100 {
            let rate = pace.at(at(tenth), 1000 + 10 * tenth).unwrap();
            assert!((rate - 100.0).abs() < 1e-9, "{tenth}: {rate}");
        }
        let rates: Vec<_> = (101..=160).map(|t| pace.at(at(t), 2000).unwrap()).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b), "{rates:?}");
        assert_eq!(rates.last(), Some(&0.0));
        assert!(pace.0.len() <= 22, "{}", pace.0.len());
        assert_eq!(pace.at(at(161), 5), None);
    }

    #[test]
    fn members_add_up_and_streams_have_no_epoch() {
        let mut watched = Watched {
            status: TrainingStatus::default(),
            before: 0,
            rows: 0,
            pace: Pace::default(),
            is_new: false,
        };
        let now = Instant::now();
        let mut tell = |event| {
            watched.observe(&event, now);
            watched.status.clone()
        };
        let started = Event::Started {
            model: "m".to_owned(),
            member: String::new(),
            rows: 100,
            eval_rows: 0,
            epochs: 2,
            method: String::new(),
        };
        let progress = |epoch, rows_done| Event::Progress {
            epoch,
            epochs: 2,
            rows_done,
            rows: 100,
            loss: 0.5,
        };
        let read = tell(Event::Reading { rows: 200 });
        assert_eq!((read.epoch, read.rows), (Some(0), 200));
        tell(started.clone());
        let one = tell(progress(2, 100));
        assert_eq!((one.epoch, one.rows, one.loss), (Some(2), 200, Some(0.5)));
        tell(started);
        assert_eq!(tell(progress(1, 50)).rows, 250);
        let epoch = tell(Event::Epoch {
            epoch: 2,
            epochs: 2,
            loss: 0.25,
            eval_loss: None,
            learning_rate: 0.1,
            rows_per_second: 9.0,
        });
        assert_eq!((epoch.epoch, epoch.rows, epoch.rows_per_second), (Some(2), 400, Some(9.0)));
        let stream = tell(Event::Streaming {
            rows: 7,
            rows_per_second: 3.0,
            loss: Some(0.25),
            recent_loss: Some(0.125),
            recent_accuracy: None,
            recent_error: None,
            waiting: Some(Lag::Files(3)),
        });
        assert_eq!((stream.epoch, stream.rows, stream.loss), (None, 7, Some(0.25)));
        assert_eq!(stream.lag, Some((3, "files".to_owned())));
    }
}
