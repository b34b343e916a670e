//! What the training rows say: the encoder, the labels, the weights.

use std::collections::BTreeMap;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, UInt32Type};
use datafusion::common::{Result, internal_err};
use gradlake_udfs::encoder::{Encoder, FeatureKind, Statistics, Values};
use gradlake_udfs::model::Labels;

use super::blocks::Blocks;
use super::parallel::in_order;
use super::raw::{RawData, RawTable, Subset};
use super::split::Mask;
use super::weights::WeightSums;
use super::{TargetKind, waiting};

/// Everything that is fitted on the training rows.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Preprocessing.
    pub encoder: Encoder,
    /// How labels become numbers.
    pub labels: Labels,
    /// Smallest target that is a number (infinite without).
    pub smallest_target: f64,
    pub(super) sums: WeightSums,
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
        waiting(subset.is_small(), "gathering statistics", move || {
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
    let inputs: Vec<_> =
        data.inputs.iter().map(|i| (i.name.clone(), i.data_type.clone())).collect();
    let statistics = Statistics::new(&inputs, standardize)?;
    let mut merged = statistics.clone();
    let target_input = [("target".to_owned(), DataType::Float64)];
    let mut target_statistics = Statistics::new(&target_input, true)?;
    let mut sums = WeightSums::default();
    let empty = (statistics.clone(), target_statistics.clone());
    // Counts of categories add up in any order, so each thread has its own, as long as there are
    // categories; all else is merged block by block.
    let categories = Blocks::new(data, subset).in_order(
        || statistics.clone(),
        |categories, first, block| {
            let train = mask.block(first, block.num_rows());
            let train = train.as_ref();
            let (mut numbers, mut target) = empty.clone();
            let values = data.values(block);
            categories.update_categories(&values, train);
            numbers.update_numbers(&values, train)?;
            if data.kind == TargetKind::Number {
                target.update(&[Values::Array(data.target(block))], train)?;
            }
            Ok((numbers, target, weights(data, block, train)))
        },
        |(numbers, target, weights)| {
            merged.merge(&numbers)?;
            target_statistics.merge(&target)?;
            sums.merge(&weights);
            Ok(())
        },
    )?;
    categories.iter().try_for_each(|own| merged.merge(own))?;
    let statistics = merged;
    let interners: Vec<_> = data.interners.iter().map(Option::as_ref).collect();
    // Sorting texts is most of what is left to do.
    in_order(
        &data.resources,
        interners.len(),
        || (),
        |(), column| Ok(interners[column].map_or(0, |interner| interner.sorted().len())),
        |_| Ok(()),
    )?;
    let encoder = statistics.finish(&interners)?;
    let mut smallest_target = f64::INFINITY;
    let labels = match &data.classes {
        Some(classes) => {
            let mut present = vec![];
            for code in classes.sorted() {
                if sums.rows.get(code as usize).is_some_and(|rows| *rows > 0) {
                    present.extend(classes.values(code)?);
                }
            }
            Labels::Classes(present)
        }
        None => {
            let encoder = target_statistics.finish(&[None])?;
            let Some(FeatureKind::Number(scale)) = encoder.features().first().map(|f| &f.kind)
            else {
                return internal_err!("the target is no number");
            };
            if mask.training_rows() > 0 {
                smallest_target = scale.min;
            }
            if standardize_target {
                Labels::Numbers { mean: scale.mean, stddev: scale.stddev }
            } else {
                Labels::Numbers { mean: 0.0, stddev: 1.0 }
            }
        }
    };
    Ok(Fitted { encoder, labels, smallest_target, sums })
}

/// Rows and weights of a block by class.
fn weights(data: &RawData, block: &RecordBatch, train: Option<&BooleanBuffer>) -> WeightSums {
    let mut sums = WeightSums::default();
    let codes = data.target(block).as_primitive_opt::<UInt32Type>();
    let weight = data.weight(block).map(|w| w.as_primitive::<Float32Type>());
    for row in 0..block.num_rows() {
        if train.is_none_or(|train| train.value(row)) {
            let class = codes.map_or(0, |codes| codes.value(row) as usize);
            sums.add(class, weight.map_or(1.0, |w| f64::from(w.value(row))));
        }
    }
    sums
}

impl RawData {
    /// The class of each provisional one among `labels`, and why it has none.
    pub(super) fn class_of(&self, labels: &Labels) -> Result<Vec<Option<u32>>> {
        let (Some(distinct), Labels::Classes(classes)) = (&self.classes, labels) else {
            return Ok(vec![]);
        };
        let index: BTreeMap<String, u32> =
            classes.iter().enumerate().map(|(i, c)| (c.to_string(), i as u32)).collect();
        let mut class_of = vec![];
        for code in 0..distinct.sorted().len() as u32 {
            let value = distinct.values(code)?;
            let value = value.first().filter(|value| !value.is_null());
            class_of.push(value.and_then(|value| index.get(&value.to_string()).copied()));
        }
        Ok(class_of)
    }

    /// The target as numbers.
    pub(super) fn numbers<'a>(
        &self,
        block: &'a RecordBatch,
    ) -> Option<&'a datafusion::arrow::array::Float64Array> {
        self.target(block).as_primitive_opt::<Float64Type>()
    }
}
