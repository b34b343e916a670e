//! Fits the encoder, the labels and the weights on the training rows.

use std::collections::BTreeMap;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use gradlake_udfs::{
    Encoder, FeatureKind, Interner, LabelScale, Labels, ParallelFor, Scale, Sequential, Statistics,
    Values,
};

use crate::table::load::blocks::Blocks;
use crate::table::load::columns::RawColumns;
use crate::table::load::label_encoder::LabelEncoder;
use crate::table::load::raw::{RawData, RawTable, Subset};
use crate::table::load::split::Mask;
use crate::table::load::weights::WeightSums;
use crate::table::{TargetKind, run_blocking};

/// Everything that is fitted on the training rows.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Preprocessing.
    pub encoder: Encoder,
    /// How labels become numbers.
    pub labels: Labels,
    /// Smallest numeric target (infinite without).
    pub smallest_target: f64,
    pub(in crate::table) sums: WeightSums,
}

impl RawTable {
    /// Fits the encoder and the labels on the training rows of a subset.
    ///
    /// # Errors
    /// When lists differ in length, or spilled rows cannot be read.
    pub async fn fit(
        &self,
        subset: &Subset,
        mask: &Mask,
        standardize: bool,
        standardize_target: bool,
    ) -> Result<Fitted> {
        let (data, subset, mask) = (self.data()?, subset.clone(), mask.clone());
        run_blocking(subset.is_small(), "gathering statistics", move || {
            fit(&data, &subset, &mask, standardize, standardize_target)
        })
        .await
    }
}

fn fit(
    data: &RawData,
    subset: &Subset,
    mask: &Mask,
    standardize: bool,
    standardize_target: bool,
) -> Result<Fitted> {
    let empty = FitStatistics::new(&data.columns, standardize)?;
    let mut sums = empty.clone();
    // Counts of categories can be added in any order, so each thread keeps its own, with an entry
    // per category; all else is merged block by block.
    let categories = Blocks::new(data, subset).in_order(
        || empty.features.clone(),
        |categories, first, block| {
            let train = mask.block(first, block.num_rows());
            categories.update_categories(&data.columns.values(block), train.as_ref());
            empty.of(&data.columns, block, train.as_ref())
        },
        |own| sums.merge(&own),
    )?;
    categories.iter().try_for_each(|own| sums.features.merge(own))?;
    let interners: Vec<_> = data.interners.iter().map(Option::as_ref).collect();
    // (Small groups already run in parallel with one another.)
    let pool = if subset.is_small() { &Sequential } else { data.resources.pool() };
    sums.finish(&interners, data.classes.as_ref(), standardize_target, pool)
}

/// Statistics of training rows from which everything is fitted. They depend on the order of the
/// rows, so they are computed block by block and merged in the order of the blocks.
#[derive(Clone, Debug)]
pub(in crate::table) struct FitStatistics {
    features: Statistics,
    targets: Statistics,
    target_names: Vec<String>,
    weights: WeightSums,
}

impl FitStatistics {
    /// The statistics of no rows.
    pub(in crate::table) fn new(columns: &RawColumns, standardize: bool) -> Result<Self> {
        let inputs: Vec<_> =
            columns.inputs.iter().map(|i| (i.name.clone(), i.data_type.clone())).collect();
        Ok(Self {
            features: Statistics::new(&inputs, standardize)?,
            targets: Statistics::new(&columns.number_targets(), true)?,
            target_names: columns.targets.clone(),
            weights: WeightSums::default(),
        })
    }

    /// The statistics of a block except those of its categories; `self` must be of no rows.
    pub(in crate::table) fn of(
        &self,
        columns: &RawColumns,
        block: &RecordBatch,
        train: Option<&BooleanBuffer>,
    ) -> Result<Self> {
        let mut own = self.clone();
        own.features.update_numbers(&columns.values(block), train)?;
        if columns.kind == TargetKind::Number {
            let targets: Vec<_> = columns.targets(block).iter().map(Values::Array).collect();
            own.targets.update(&targets, train)?;
        }
        own.weights = weights(columns, block, train);
        Ok(own)
    }

    /// Merges the statistics of rows that come after these.
    pub(in crate::table) fn merge(&mut self, other: &Self) -> Result<()> {
        self.features.merge(&other.features)?;
        self.targets.merge(&other.targets)?;
        self.weights.merge(&other.weights);
        Ok(())
    }

    /// Fits the encoder and the labels; `interners` are those of the category columns, `classes`
    /// those of the target.
    pub(in crate::table) fn finish(
        self,
        interners: &[Option<&Interner>],
        classes: Option<&LabelEncoder>,
        standardize_target: bool,
        pool: &dyn ParallelFor,
    ) -> Result<Fitted> {
        let encoder = self.features.finish_on(interners, pool)?;
        let mut smallest_target = f64::INFINITY;
        let rows_of = |class: u32| self.weights.rows.get(class as usize).copied().unwrap_or(0);
        let labels = match classes {
            Some(classes) => {
                let values = classes.values()?;
                let codes = classes.sorted().into_iter().filter(|code| rows_of(*code) > 0);
                Labels::Classes(codes.flat_map(|code| values[code as usize].clone()).collect())
            }
            None if self.target_names.is_empty() => Labels::None,
            None => {
                let scales = target_scales(&self.targets, &self.target_names)?;
                if rows_of(0) > 0 {
                    smallest_target =
                        scales.iter().map(|scale| scale.min).fold(f64::INFINITY, f64::min);
                }
                let label_scale = |scale: &Scale| match standardize_target {
                    true => LabelScale { mean: scale.mean, stddev: scale.stddev },
                    false => LabelScale::NONE,
                };
                Labels::Numbers(scales.iter().map(label_scale).collect())
            }
        };
        Ok(Fitted { encoder, labels, smallest_target, sums: self.weights })
    }
}

/// The scales of the numbers of all targets, in order.
fn target_scales(targets: &Statistics, names: &[String]) -> Result<Vec<Scale>> {
    let encoder = targets.finish(&vec![None; names.len()]).map_err(|_| {
        exec_datafusion_err!(
            "the values of the target {} are too large: their standard deviation is not finite",
            names.join(", ")
        )
    })?;
    let mut scales = vec![];
    for feature in encoder.features() {
        match &feature.kind {
            FeatureKind::Number(scale) => scales.push(*scale),
            FeatureKind::Vector(own) => scales.extend(own),
            _ => return internal_err!("the target {} is no number", feature.name),
        }
    }
    Ok(scales)
}

/// Rows and weights of a block by class.
fn weights(columns: &RawColumns, block: &RecordBatch, train: Option<&BooleanBuffer>) -> WeightSums {
    let mut sums = WeightSums::default();
    let codes = columns.codes(block);
    let weight = columns.weight(block).map(|w| w.as_primitive::<Float64Type>());
    for row in 0..block.num_rows() {
        if train.is_none_or(|train| train.value(row)) {
            let class = codes.map_or(0, |codes| codes.value(row) as usize);
            sums.add(class, weight.map_or(1.0, |w| w.value(row)));
        }
    }
    sums
}

/// The index in `labels` of each provisional class, if it is there; empty without classes.
pub(in crate::table) fn class_of(
    classes: Option<&LabelEncoder>,
    labels: &Labels,
) -> Result<Vec<Option<u32>>> {
    let (Some(distinct), Labels::Classes(classes)) = (classes, labels) else {
        return Ok(vec![]);
    };
    let index: BTreeMap<String, u32> =
        classes.iter().enumerate().map(|(i, c)| (c.to_string(), i as u32)).collect();
    let class = |value: &Vec<ScalarValue>| {
        let value = value.first().filter(|value| !value.is_null())?;
        index.get(&value.to_string()).copied()
    };
    Ok(distinct.values()?.iter().map(class).collect())
}
