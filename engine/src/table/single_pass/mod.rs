//! Rows of numbers that are dealt to their chunks as they are read, before anything is known of
//! their scale, and encoded where they lie: what most trainings over Parquet files read. Nothing is
//! kept of the columns, so memory is filled once and not given back. Beyond the memory limit they
//! are dealt into buckets, and encoded when those are put in order.
//!
//! The bits are those of rows that are kept, fitted and encoded: statistics are of the same blocks,
//! rows go to the same places. Where that cannot be had, for a number that float32 does not hold or
//! a row that is to be left out, reading ends and the query is read anew as others are.

mod reading;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::{Encoder, Labels, RowsMut, Width};

use self::reading::{Reading, StopOnDrop};
use crate::options::ClassWeights;
use crate::pages::PageRows;
use crate::table::encoded::{Builder, EncodedTable};
use crate::table::load::columns::RawColumns;
use crate::table::load::fit::{FitStatistics, class_of};
use crate::table::load::label_encoder::LabelEncoder;
use crate::table::load::raw::Skipped;
use crate::table::load::weights::{Factors, factors};
use crate::table::parallel::unlock;
use crate::table::shuffle::external::Buckets;
use crate::table::shuffle::scatter::ScatterBuffer;
use crate::table::storage::metrics_reservation::MetricsReservation;
use crate::table::{Fitted, Resources, Roles};

/// What must be known of a training before its rows can be dealt.
#[derive(Clone)]
pub struct Arrangement {
    /// Seed of a full shuffle; None: in the order of the query.
    pub shuffle: Option<u64>,
    /// Whether features are standardised.
    pub standardize: bool,
    /// Whether that stays so if the target has so many classes, 2 and more.
    pub holds: Arc<dyn Fn(usize) -> bool + Send + Sync>,
}

/// All rows of a query, dealt to chunks and not encoded.
pub struct SinglePassLoad {
    width: Width,
    rows: u64,
    shuffle: Option<u64>,
    columns: RawColumns,
    classes: Option<LabelEncoder>,
    sums: FitStatistics,
    held: Held,
    reservation: MemoryReservation,
    resources: Resources,
}

/// Where rows that are dealt lie.
enum Held {
    /// Each in its place.
    FilledChunks(ScatterBuffer),
    /// With those of neighbouring chunks, most of them on disk; and what is left to the metrics.
    Spilled(Box<(Buckets, MetricsReservation)>),
}

impl SinglePassLoad {
    /// Deals rows as they are read, and tells `progress` how many there are so far; None where they
    /// must be read as others are. `arrange` says how so many rows of so many numbers are dealt, if
    /// they can be.
    ///
    /// # Errors
    /// When the rows cannot be read, a column has a type that cannot be used, or the training is
    /// interrupted.
    pub(crate) async fn read(
        pages: PageRows,
        roles: &Roles,
        arrange: impl FnOnce(usize, u64) -> Option<Arrangement>,
        resources: &Resources,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Option<Self>> {
        let Some(reading) = Reading::new(pages, roles, arrange, resources)? else {
            return Ok(None);
        };
        let reading = Arc::new(reading);
        // Whoever does not wait any more does not want the rows either.
        let _stop = StopOnDrop(Arc::clone(&reading.is_over));
        let own = Arc::clone(&reading);
        let mut task = tokio::task::spawn_blocking(move || own.run());
        let mut told = tokio::time::interval(Duration::from_millis(200));
        let seen = || reading.filter.seen.load(Ordering::Relaxed);
        let read = loop {
            tokio::select! {
                read = &mut task => break read,
                _ = told.tick() => progress(seen()),
            }
        };
        let read = read.map_err(|e| exec_datafusion_err!("reading failed: {e}"))??;
        let Some((held, sums)) = read else {
            log::debug!("after {} rows of {}, they are read anew", seen(), reading.rows);
            return Ok(None);
        };
        progress(seen());
        let Some(reading) = Arc::into_inner(reading) else {
            return internal_err!("the rows are still being read");
        };
        let Reading { filter, width, rows, arrangement, reservation, .. } = reading;
        Ok(Some(Self {
            width,
            rows,
            shuffle: arrangement.shuffle,
            columns: filter.columns,
            classes: filter.classes.map(unlock),
            sums,
            held,
            reservation,
            resources: filter.resources,
        }))
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The seed of the full shuffle that they are dealt by; None: they are in the order of the
    /// query.
    pub fn shuffle(&self) -> Option<u64> {
        self.shuffle
    }

    /// Fits the encoder and the labels.
    ///
    /// # Errors
    /// When values are too large for a scale.
    pub fn fit(&self, standardize_target: bool) -> Result<Fitted> {
        let interners = vec![None; self.columns.inputs.len()];
        let (classes, pool) = (self.classes.as_ref(), self.resources.pool());
        self.sums.clone().finish(&interners, classes, standardize_target, pool)
    }

    /// Encodes the rows where they lie, or as they are put in order.
    ///
    /// # Errors
    /// When memory and disk do not suffice, class weights do not fit the classes, or the training
    /// is interrupted.
    pub async fn encode(
        self,
        encoder: &Encoder,
        labels: &Labels,
        class_weights: &ClassWeights,
        fitted: &Fitted,
    ) -> Result<EncodedTable> {
        let class_of = class_of(self.classes.as_ref(), labels)?;
        let factors = factors(class_weights, labels, &fitted.sums, &class_of)?;
        if class_of.contains(&None) {
            return internal_err!("a class of the rows is none of the labels");
        }
        let classes = class_of.into_iter().flatten().collect();
        let encoding =
            Encoding { encoder: encoder.clone(), labels: labels.clone(), classes, factors };
        let task = tokio::task::spawn_blocking(move || self.encode_all(encoding));
        task.await.map_err(|e| exec_datafusion_err!("encoding failed: {e}"))?
    }

    fn encode_all(self, encoding: Encoding) -> Result<EncodedTable> {
        let mut builder = Builder::new(self.width, &self.resources);
        match self.held {
            Held::FilledChunks(placement) => {
                builder.take(placement, &self.reservation, &self.resources, |rows| {
                    encoding.encode(rows)
                })?;
            }
            Held::Spilled(spilled) => {
                let (buckets, room) = *spilled;
                drop(self.reservation);
                builder.take_buckets(buckets, |rows| {
                    room.take();
                    encoding.encode(rows)
                })?;
            }
        }
        Ok(builder.finish(Skipped::new(), encoding.factors.class_weights))
    }
}

/// What makes encoded rows of those that are dealt.
struct Encoding {
    encoder: Encoder,
    labels: Labels,
    /// The class of each provisional one.
    classes: Vec<u32>,
    factors: Factors,
}

impl Encoding {
    fn encode(&self, rows: &mut RowsMut<'_>) -> Result<()> {
        self.encoder.encode_plain(rows.dense)?;
        let factors = &self.factors.by_class;
        match &self.labels {
            Labels::Numbers { mean, stddev } => {
                for label in rows.label.iter_mut() {
                    *label = ((f64::from(*label) - mean) / stddev) as f32;
                }
                let weights = rows.weight.iter_mut();
                weights
                    .for_each(|own| *own = self.factors.weight(factors[0], 0.0, f64::from(*own)));
            }
            Labels::Classes(_) => {
                for (label, weight) in rows.label.iter_mut().zip(rows.weight.iter_mut()) {
                    let class = self.classes[*label as usize];
                    *label = class as f32;
                    let factor = factors[class as usize];
                    *weight = self.factors.weight(factor, *label, f64::from(*weight));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
