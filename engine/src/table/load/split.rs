//! Which rows train and which evaluate.

use datafusion::arrow::array::{AsArray, BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::common::{Result, internal_err};
use gradlake_udfs::SplitRule;
use gradlake_udfs::kernels::rng::mix;
use gradlake_udfs::kernels::rng::unit;

use crate::table::load::blocks::Blocks;
use crate::table::load::raw::{RawData, RawTable, Subset};
use crate::table::run_blocking;

/// Domain separator for the draws of a random split.
const SPLIT_STREAM: u64 = 0x73_706c_6974;

/// The side of every row of a subset.
#[derive(Clone, Debug)]
pub struct Mask {
    rows: u64,
    training: u64,
    /// True for training; None where all rows train.
    bits: Option<BooleanBuffer>,
}

impl Mask {
    fn new(bits: BooleanBuffer) -> Self {
        let training = bits.count_set_bits() as u64;
        Self { rows: bits.len() as u64, training, bits: Some(bits) }
    }

    /// Rows that train.
    pub fn training_rows(&self) -> u64 {
        self.training
    }

    /// Rows that evaluate.
    pub fn evaluation_rows(&self) -> u64 {
        self.rows - self.training
    }

    /// The sides of `rows` rows from `first` on; None where all train.
    pub fn block(&self, first: u64, rows: usize) -> Option<BooleanBuffer> {
        self.bits.as_ref().map(|bits| bits.slice(first as usize, rows))
    }
}

/// The sides of a block's rows, which follow from their content.
fn sides(data: &RawData, block: &RecordBatch, rule: SplitRule) -> Result<BooleanBuffer> {
    match (rule, data.columns.split_column(block)) {
        (SplitRule::Random { fraction, seed }, _) => {
            let limit = fraction as f32;
            let hashes = data.hash(block)?;
            Ok(hashes.iter().map(|h| unit(mix(seed, SPLIT_STREAM, *h)) >= limit).collect())
        }
        (_, Some(column)) => Ok(column.as_boolean().iter().map(|v| v != Some(true)).collect()),
        (_, None) => internal_err!("the split column is missing"),
    }
}

impl RawTable {
    /// Splits a subset by a rule.
    ///
    /// # Errors
    /// When spilled rows cannot be read.
    pub async fn split(&self, subset: &Subset, rule: &SplitRule) -> Result<Mask> {
        let rows = subset.rows();
        match *rule {
            SplitRule::None => Ok(Mask { rows, training: rows, bits: None }),
            SplitRule::Sequential { fraction } => {
                let evaluation = ((rows as f64 * fraction).round() as u64).min(rows);
                let mut bits = BooleanBufferBuilder::new(rows as usize);
                bits.append_n((rows - evaluation) as usize, true);
                bits.append_n(evaluation as usize, false);
                Ok(Mask::new(bits.finish()))
            }
            SplitRule::Random { .. } | SplitRule::Column => {
                let (data, subset, rule) = (self.data()?, subset.clone(), *rule);
                run_blocking(subset.is_small(), "the split", move || {
                    let mut bits = BooleanBufferBuilder::new(rows as usize);
                    Blocks::new(&data, &subset).in_order(
                        || (),
                        |(), _, block| sides(&data, block, rule),
                        |own| {
                            bits.append_buffer(&own);
                            Ok(())
                        },
                    )?;
                    Ok(Mask::new(bits.finish()))
                })
                .await
            }
        }
    }
}
