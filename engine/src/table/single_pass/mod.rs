//! Single-pass load: numeric rows are scattered to their chunks as they are read, before their
//! scale is known, and later encoded in place. Most trainings over Parquet files load their rows
//! this way. The columns are not kept, so memory is filled once and not released. Beyond the memory
//! limit, rows are scattered to buckets, and encoded when the buckets are put in order.
//!
//! The result has the same bits as that of rows that are collected, fitted and encoded: statistics
//! are computed over the same blocks, and rows go to the same slots. Where this is impossible,
//! because float32 cannot represent a number or a row has to be left out, reading ends and the
//! query is read again the usual way ([`crate::table::RawTable`]).

mod reading;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;
use gradlake_udfs::{Encoder, LabelScale, Labels, RowSchema, RowsMut, Width};

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

/// What must be known about a training before its rows can be scattered.
#[derive(Clone)]
pub struct Arrangement {
    /// Seed of a full shuffle; None: in the order of the query.
    pub shuffle: Option<u64>,
    /// Whether features are standardised.
    pub standardize: bool,
    /// Whether the arrangement stays the same if the target has this many classes (2 or more).
    pub holds: Arc<dyn Fn(usize) -> bool + Send + Sync>,
}

/// All rows of a query, scattered to chunks but not encoded yet.
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

/// Where scattered rows are stored.
enum Held {
    /// Each row in its slot.
    FilledChunks(ScatterBuffer),
    /// In buckets of neighbouring chunks, most of them on disk; and the memory that is reserved for
    /// the metrics.
    Spilled(Box<(Buckets, MetricsReservation)>),
}

impl SinglePassLoad {
    /// Scatters rows as they are read, and reports their number so far to `progress`; None if they
    /// must be read the usual way. `arrange` returns the arrangement for a number of features and a
    /// number of rows, if they can be loaded in a single pass.
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
        // If the caller drops this future, reading stops.
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

    /// The seed of the full shuffle of the rows; None: they are in the order of the query.
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

    /// Encodes the rows in place, or as their buckets are put in order.
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
        let mut builder = Builder::new(RowSchema::of_width(self.width), &self.resources);
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

/// Encodes scattered rows.
struct Encoding {
    encoder: Encoder,
    labels: Labels,
    /// The class of each provisional class.
    classes: Vec<u32>,
    factors: Factors,
}

impl Encoding {
    fn encode(&self, rows: &mut RowsMut<'_>) -> Result<()> {
        self.encoder.encode_plain(rows.dense)?;
        let factors = &self.factors.by_class;
        match &self.labels {
            Labels::Numbers(_) | Labels::None => {
                if let Labels::Numbers(scales) = &self.labels {
                    standardize(rows.label, scales);
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

/// Standardises labels `[rows, k]`.
fn standardize(labels: &mut [f32], scales: &[LabelScale]) {
    for row in labels.chunks_exact_mut(scales.len()) {
        for (label, own) in row.iter_mut().zip(scales) {
            *label = ((f64::from(*label) - own.mean) / own.stddev) as f32;
        }
    }
}

#[cfg(test)]
mod tests;
