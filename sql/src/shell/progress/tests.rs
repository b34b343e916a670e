//! Lines of progress, as a terminal and a log show them.

use super::super::output::memory::Memory;
use super::*;

fn events() -> Vec<Event> {
    let epoch = |epoch: u64| Event::Epoch {
        epoch,
        epochs: 3,
        loss: 0.5 / epoch as f64,
        eval_loss: Some(0.6),
        learning_rate: 0.1,
        rows_per_second: 1000.0,
    };
    vec![
        Event::Note("the warehouse ./gradlake-warehouse is made".to_owned()),
        Event::Reading { rows: 8192 },
        Event::Started {
            model: "m".to_owned(),
            member: String::new(),
            rows: 32561,
            eval_rows: 8000,
            epochs: 3,
            method: "adam, batch 128, 1 replica".to_owned(),
        },
        Event::Resumed { from: Position::Epoch(1) },
        Event::Warning("3 rows are skipped".to_owned()),
        epoch(2),
        Event::Progress { epoch: 3, epochs: 3, rows_done: 128, rows: 32561, loss: 0.2 },
        epoch(3),
        Event::Checkpoint { until: Position::Epoch(3) },
        Event::Published { model: "m".to_owned(), version: 4 },
    ]
}

fn shown(look: Look, pause: Duration) -> String {
    let memory = Memory::default();
    let progress = Progress::new(look, memory.output());
    let start = Instant::now();
    for (i, event) in events().into_iter().enumerate() {
        progress.state().show(event, start + pause * i as u32);
    }
    assert_eq!(progress.stop(), Some(TRAINING_STOPS));
    progress.clear();
    memory.text()
}

#[test]
fn a_pipe_gets_plain_lines() {
    let text = shown(Look::Lines, Duration::ZERO);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "note: the warehouse ./gradlake-warehouse is made");
    assert_eq!(
        lines[1],
        "training m: 32,561 rows, 8,000 for evaluation, up to 3 epochs, adam, batch 128, 1 replica"
    );
    assert_eq!(lines[2], "resumed from the checkpoint after epoch 1");
    assert_eq!(lines[3], "warning: 3 rows are skipped");
    assert!(
        lines[4].starts_with("epoch 2/3: loss 0.2500, eval_loss 0.6000, 1,000 rows/s"),
        "{text}"
    );
    assert!(lines[5].starts_with("epoch 3/3: loss 0.1667"), "{text}");
    assert_eq!(lines[6..], ["checkpoint after epoch 3", "published m, version 4"]);
    assert!(!text.contains('\r') && !text.contains('\u{1b}'));
}

#[test]
fn reading_is_told_when_it_takes_long() {
    assert!(!shown(Look::Lines, Duration::from_millis(100)).contains("read"));
    assert!(shown(Look::Lines, Duration::from_secs(3)).contains("read 8,192 rows so far\n"));
}

#[test]
fn lines_are_few_a_second_and_the_last_is_not_lost() {
    let memory = Memory::default();
    let progress = Progress::new(Look::Lines, memory.output());
    let start = Instant::now();
    for epoch in 1..=1000u64 {
        let event = Event::Epoch {
            epoch,
            epochs: 1000,
            loss: 1.0,
            eval_loss: None,
            learning_rate: 0.1,
            rows_per_second: 10.0,
        };
        progress.state().show(event, start + Duration::from_millis(epoch));
    }
    progress.clear();
    let text = memory.text();
    assert!((4..=6).contains(&text.lines().count()), "{text}");
    assert!(text.lines().last().unwrap().starts_with("epoch 1000/1000"), "{text}");
}

#[test]
fn quiet_keeps_warnings_alone() {
    assert_eq!(shown(Look::Quiet, Duration::ZERO), "warning: 3 rows are skipped\n");
}

#[test]
fn a_member_is_named() {
    let event = Event::Started {
        model: "m".to_owned(),
        member: "carrier = UA".to_owned(),
        rows: 1,
        eval_rows: 0,
        epochs: 1,
        method: "newton".to_owned(),
    };
    assert_eq!(started(&event), "training m (carrier = UA): 1 row, newton");
}

#[test]
fn reading_alone_is_no_training() {
    let progress = Progress::new(Look::Quiet, Memory::default().output());
    progress.sink()(Event::Reading { rows: 1 });
    assert_eq!(progress.stop(), None);
    progress.sink()(Event::Copying);
    assert_eq!(progress.stop(), Some(COPY_STOPS));
}
/// Rows of a stream, a version, and nothing for a while.
fn stream(progress: &Progress) {
    let start = Instant::now();
    let streaming = |rows| Event::Streaming {
        rows,
        rows_per_second: 50.0,
        loss: Some(0.5),
        recent_loss: Some(0.25),
        recent_accuracy: Some(0.875),
        recent_error: None,
        waiting: None,
    };
    let started = Event::Started {
        model: "m".to_owned(),
        member: String::new(),
        rows: 0,
        eval_rows: 0,
        epochs: 1,
        method: "every row once, as it comes".to_owned(),
    };
    let show = |event, seconds| {
        progress.state().show(event, start + Duration::from_secs(seconds));
    };
    show(started, 0);
    show(Event::Resumed { from: Position::Row(1000) }, 0);
    show(streaming(1100), 1);
    show(Event::Checkpoint { until: Position::Row(1200) }, 2);
    show(streaming(1200), 2);
    show(Event::Published { model: "m".to_owned(), version: 4 }, 2);
    for second in 3..40 {
        show(streaming(1300), second);
    }
}

#[test]
fn a_stream_in_a_pipe_gets_few_lines() {
    let memory = Memory::default();
    let progress = Progress::new(Look::Lines, memory.output());
    stream(&progress);
    assert_eq!(progress.stop(), Some(TRAINING_STOPS));
    assert_eq!(
        memory.text().lines().collect::<Vec<_>>(),
        [
            "training m: every row once, as it comes",
            "resumed from the checkpoint after 1,000 rows",
            "published m, version 4: 1,200 rows, 50/s, loss 0.2500, accuracy 0.875",
            "m: 1,300 rows, 50/s, loss 0.2500, accuracy 0.875",
        ]
    );
}

#[test]
fn a_stream_on_a_terminal_has_no_bar_and_keeps_its_versions() {
    let memory = Memory::default();
    let progress = Progress::new(Look::Bar, memory.output());
    stream(&progress);
    let mut state = progress.state();
    let bar = state.bar.clone().unwrap();
    assert_eq!((bar.prefix(), bar.length()), ("m".to_owned(), Some(0)));
    assert_eq!(bar.message(), "1,300 rows  50/s  loss 0.2500  acc 0.875  v4 37 s");
    state.clear();
    assert_eq!(
        memory.text().lines().collect::<Vec<_>>(),
        [
            "resumed from the checkpoint after 1,000 rows",
            "published m, version 4: 1,200 rows, 50/s, loss 0.2500, accuracy 0.875",
        ]
    );
}
