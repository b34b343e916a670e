//! Metrics of scores and probabilities.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::Accumulator;
use serde::{Deserialize, Serialize};

use super::classes::Keys;
use super::{LABEL, PROB, bytes_to_numbers, numbers_to_bytes, state_of, states, value, weights};
use crate::metrics::{LogLoss, Ranking};

#[derive(Serialize, Deserialize)]
struct ScoreState {
    keys: Vec<Box<[u8]>>,
    classes: Vec<u32>,
    sums: (u64, u64),
    rows: u64,
}

/// Rows for `roc_auc` and `log_loss`. A row is its label, its weight, and its numbers: for lists
/// one per class, otherwise a single one.
#[derive(Debug)]
pub(super) struct ScoreAccumulator {
    pub(super) name: &'static str,
    pub(super) is_auc: bool,
    pub(super) is_list: bool,
    pub(super) keys: Keys,
    /// For lists: the label of each number of a row.
    pub(super) classes: Vec<u32>,
    pub(super) rows: Vec<f64>,
    /// The sums of the log loss of lists, which needs no rows.
    pub(super) sums: LogLoss,
}

impl ScoreAccumulator {
    fn row_len(&self) -> usize {
        2 + if self.is_list { self.classes.len() } else { 1 }
    }

    fn check(&self, score: f64) -> Result<f64> {
        if score.is_nan() {
            return exec_err!("the prediction of {} must be a number, but is NaN", self.name);
        }
        if !self.is_auc && !(0.0..=1.0).contains(&score) {
            return exec_err!(
                "the prediction of log_loss must be a probability from 0 to 1, but is {score}"
            );
        }
        Ok(score)
    }

    fn update_lists(&mut self, values: &[ArrayRef], labels: &[u32]) -> Result<()> {
        let lists: ArrayRef = match values[1].data_type() {
            DataType::LargeList(_) => Arc::clone(&values[1]),
            DataType::List(item) => cast(&values[1], &DataType::LargeList(Arc::clone(item)))?,
            other => return exec_err!("{other} is no list of probabilities"),
        };
        let lists = lists.as_list::<i64>();
        let items: &StructArray = lists.values().as_struct();
        let (Some(own), Some(probs)) = (items.column_by_name(LABEL), items.column_by_name(PROB))
        else {
            return exec_err!("the probabilities have no label or no prob");
        };
        let own = self.keys.intern(own)?;
        let probs = cast(probs, &DataType::Float64)?;
        let probs = probs.as_primitive::<Float64Type>();
        let weight = weights(values);
        for (row, label) in labels.iter().enumerate() {
            let Some(weight) = weight(row) else { continue };
            let range =
                lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
            if !self.is_auc {
                let at = range.clone().find(|at| own[*at] == *label);
                let probability = self.check(at.map_or(0.0, |at| probs.value(at)))?;
                self.sums.add(probability, weight);
                continue;
            }
            if self.classes.is_empty() {
                self.classes = own[range.clone()].to_vec();
            }
            if range.len() != self.classes.len() {
                return exec_err!(
                    "the probabilities of {} must be of the same classes in every row, but some \
                     rows have {} and some {}",
                    self.name,
                    self.classes.len(),
                    range.len()
                );
            }
            self.rows.extend([f64::from(*label), weight]);
            let start = self.rows.len();
            self.rows.resize(start + self.classes.len(), f64::NAN);
            for at in range {
                let score = self.check(probs.value(at))?;
                match self.classes.iter().position(|class| *class == own[at]) {
                    Some(class) => self.rows[start + class] = score,
                    None => {
                        return exec_err!(
                            "the probabilities of {} must be of the same classes in every row",
                            self.name
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn auc(&self, class: u32, column: usize) -> Option<f64> {
        let mut ranking = Ranking::default();
        for row in self.rows.chunks_exact(self.row_len()) {
            ranking.add(row[2 + column], row[0] as u32 == class, row[1]);
        }
        ranking.roc_auc()
    }

    /// The label that a single score is for: the larger of those that occur.
    fn positive(&self) -> Option<u32> {
        let ranks = self.keys.ranks();
        let occurs = |code: u32| self.rows.chunks_exact(3).any(|row| row[0] as u32 == code);
        (0..ranks.len() as u32)
            .filter(|code| occurs(*code))
            .max_by_key(|code| ranks[*code as usize])
    }

    fn result(&self) -> Result<Option<f64>> {
        if !self.is_list {
            let mut seen: Vec<u32> = self.rows.chunks_exact(3).map(|row| row[0] as u32).collect();
            seen.sort_unstable();
            seen.dedup();
            if seen.len() > 2 {
                return exec_err!(
                    "{} of a single score needs two labels, but there are {}; give it the list of \
                     predict_proba",
                    self.name,
                    seen.len()
                );
            }
            let Some(positive) = self.positive().filter(|_| seen.len() == 2) else {
                return Ok(None);
            };
            if self.is_auc {
                return Ok(self.auc(positive, 0));
            }
            let mut loss = LogLoss::default();
            for row in self.rows.chunks_exact(3) {
                loss.add(if row[0] as u32 == positive { row[2] } else { 1.0 - row[2] }, row[1]);
            }
            return Ok(loss.mean());
        }
        if !self.is_auc {
            return Ok(self.sums.mean());
        }
        let ranks = self.keys.ranks();
        let mut classes: Vec<(usize, u32)> = self.classes.iter().copied().enumerate().collect();
        classes.sort_by_key(|(_, class)| ranks[*class as usize]);
        if let [_, (column, class)] = classes.as_slice() {
            return Ok(self.auc(*class, *column));
        }
        let each: Vec<f64> =
            classes.iter().filter_map(|(column, class)| self.auc(*class, *column)).collect();
        Ok((!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64))
    }
}

impl Accumulator for ScoreAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let labels = self.keys.intern(&values[0])?;
        if self.is_list {
            return self.update_lists(values, &labels);
        }
        let scores = values[1].as_primitive::<Float64Type>();
        let weight = weights(values);
        for (row, label) in labels.into_iter().enumerate() {
            if let Some(weight) = weight(row) {
                let score = self.check(scores.value(row))?;
                self.rows.extend([f64::from(label), weight, score]);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(value(self.result()?))
    }

    fn size(&self) -> usize {
        size_of_val(self) + 64 * self.keys.keys.len() + 8 * self.rows.capacity()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let header = ScoreState {
            keys: self.keys.keys.clone(),
            classes: self.classes.clone(),
            sums: (self.sums.loss.to_bits(), self.sums.weight.to_bits()),
            rows: self.rows.len() as u64,
        };
        let json = match serde_json::to_vec(&header) {
            Ok(json) => json,
            Err(error) => return exec_err!("the state of a metric cannot be written: {error}"),
        };
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&numbers_to_bytes(&self.rows));
        Ok(state_of(bytes))
    }

    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for bytes in states(values) {
            let parts = bytes
                .split_first_chunk::<8>()
                .and_then(|(len, rest)| rest.split_at_checked(u64::from_le_bytes(*len) as usize));
            let Some((json, rows)) = parts else {
                return exec_err!("the state of a metric is cut off");
            };
            let state: ScoreState = match serde_json::from_slice(json) {
                Ok(state) => state,
                Err(error) => return exec_err!("the state of a metric cannot be read: {error}"),
            };
            let codes: Vec<u32> = state.keys.iter().map(|key| self.keys.code(key)).collect();
            self.sums.merge(&LogLoss {
                loss: f64::from_bits(state.sums.0),
                weight: f64::from_bits(state.sums.1),
            });
            let classes: Vec<u32> = state.classes.iter().map(|c| codes[*c as usize]).collect();
            if self.classes.is_empty() {
                self.classes.clone_from(&classes);
            }
            let rows = bytes_to_numbers(rows);
            if rows.is_empty() {
                continue;
            }
            let places: Option<Vec<usize>> = if self.is_list {
                self.classes.iter().map(|c| classes.iter().position(|own| own == c)).collect()
            } else {
                Some(vec![0])
            };
            let Some(places) = places.filter(|p| !self.is_list || p.len() == classes.len()) else {
                return exec_err!(
                    "the probabilities of {} must be of the same classes in every row",
                    self.name
                );
            };
            for row in rows.chunks_exact(self.row_len()) {
                self.rows.extend([f64::from(codes[row[0] as usize]), row[1]]);
                self.rows.extend(places.iter().map(|place| row[2 + place]));
            }
        }
        Ok(())
    }
}
