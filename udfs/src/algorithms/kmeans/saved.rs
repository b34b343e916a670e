//! The state of a training as bytes, bit for bit.

use std::time::Duration;

use datafusion_common::{Result, exec_err};
use serde::{Deserialize, Serialize};

use super::estimator::{Found, KmeansEstimator, Phase};
use super::points::Points;
use super::start::{StartSettings, Starting};
use crate::estimator::record::{Bits, HistoryBits, milliseconds, pack, unpack};
use crate::exact::bytes::{Reader, Writer};

const TAG: [u8; 4] = *b"GLKC";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    phase: Phase,
    restart: u64,
    round: u64,
    passes: u64,
    is_weighing: bool,
    history: Vec<HistoryBits>,
    elapsed_ms: u64,
    eval_loss: Option<Bits>,
    has_best: bool,
}

/// The state of a training.
pub(super) fn save(own: &KmeansEstimator) -> Result<Vec<u8>> {
    let header = Header {
        phase: own.phase,
        restart: own.restart,
        round: own.round,
        passes: own.starting.passes,
        is_weighing: own.starting.is_weighing,
        history: HistoryBits::of(&own.history),
        elapsed_ms: milliseconds(own.elapsed),
        eval_loss: own.eval_loss.map(Bits::from),
        has_best: own.best.is_some(),
    };
    let mut points = Writer::new(TAG, VERSION);
    own.starting.chosen.write(&mut points);
    let best = own.best.as_ref().map(found).unwrap_or_default();
    pack(&header, &[&points.finish(), &found(&own.current), &best])
}

/// Continues from the state that another estimator of the same training saved.
///
/// # Errors
/// When the bytes are damaged or of another training.
pub(super) fn restore(own: &mut KmeansEstimator, bytes: &[u8]) -> Result<()> {
    let (header, parts) = unpack::<Header>(bytes)?;
    let [points, current, best] = parts.as_slice() else {
        return exec_err!("the state of kmeans is damaged: it has {} parts, not 3", parts.len());
    };
    let settings = own.settings().start;
    let mut reader = Reader::new(points, TAG, VERSION, "the state of kmeans")?;
    let chosen = Points::read(&mut reader, settings.width)?;
    reader.finish()?;
    let mut starting = Starting::new(settings, header.restart);
    starting.chosen = chosen;
    starting.passes = header.passes;
    starting.is_weighing = header.is_weighing;
    own.starting = starting;
    own.current = read_found(current, &settings)?;
    own.best = if header.has_best { Some(read_found(best, &settings)?) } else { None };
    own.phase = header.phase;
    own.restart = header.restart;
    own.round = header.round;
    own.history = HistoryBits::history(header.history);
    own.elapsed = Duration::from_millis(header.elapsed_ms);
    own.eval_loss = header.eval_loss.map(f64::from);
    Ok(())
}

/// `"GLKC"`, `u32` version 1; `u64` numbers of centroids and of counts, 1 if exact, 1 if converged;
/// `f64` loss, centroids, counts.
fn found(found: &Found) -> Vec<u8> {
    let mut writer = Writer::new(TAG, VERSION);
    let lengths = [found.centroids.len() as u64, found.counts.len() as u64];
    writer.integers(&lengths);
    writer.integers(&[u64::from(found.is_exact), u64::from(found.has_converged)]);
    writer.numbers(&[found.loss]);
    writer.numbers(&found.centroids);
    writer.numbers(&found.counts);
    writer.finish()
}

fn read_found(bytes: &[u8], settings: &StartSettings) -> Result<Found> {
    let mut reader = Reader::new(bytes, TAG, VERSION, "the state of kmeans")?;
    let (numbers, k) = (reader.dimension()?, reader.dimension()?);
    let (is_exact, has_converged) = (reader.integer()? == 1, reader.integer()? == 1);
    let loss = reader.number()?;
    let (centroids, counts) = (reader.numbers(numbers)?, reader.numbers(k)?);
    reader.finish()?;
    let wanted = (settings.k * settings.width.inputs(), settings.k);
    if (numbers, k) != wanted && (numbers, k) != (0, 0) {
        return exec_err!(
            "the state of kmeans has {numbers} numbers of {k} centroids, but this training has {} \
             of {}",
            wanted.0,
            wanted.1
        );
    }
    Ok(Found { centroids, counts, loss, is_exact, has_converged })
}
