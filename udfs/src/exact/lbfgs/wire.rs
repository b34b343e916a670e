//! The state of L-BFGS as bytes, for checkpoints.

use datafusion_common::{Result, exec_err};

use super::line_search::{End, LineSearch};
use super::{Lbfgs, LbfgsOptions, Pair};
use crate::exact::bytes::{Reader, Writer};
use crate::exact::report::Report;

const TAG: [u8; 4] = *b"GLBF";
const VERSION: u32 = 1;

impl Lbfgs {
    /// The state in little-endian bytes: `"GLBF"`, `u32` version 1; `u64` number of parameters `n`,
    /// of weights, of pairs, maximum of steps, length of the history, trials, flat steps, 1 where
    /// there is a direction, 1 where there is a step that is too long; `f64` l1, l2, tolerance,
    /// step, slope, then the ends of the interval (at, value, slope); the report; parameters,
    /// trial, gradient and direction; the pairs (step, change, rho).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(TAG, VERSION);
        let LbfgsOptions { l1, l2, tolerance, max_steps, history } = self.options;
        let LineSearch { step, slope, low, high, trials } = self.line;
        let n = self.parameters.len() as u64;
        writer.integers(&[n, self.weights as u64, self.pairs.len() as u64]);
        writer.integers(&[max_steps, history as u64, trials, self.flat_steps]);
        let has_direction = !self.direction.is_empty();
        writer.integers(&[u64::from(has_direction), u64::from(high.is_some())]);
        writer.numbers(&[l1, l2, tolerance, step, slope]);
        for end in [low, high.unwrap_or_default()] {
            writer.numbers(&[end.at, end.value, end.slope]);
        }
        self.report.write(&mut writer);
        writer.numbers(&self.parameters);
        writer.numbers(&self.trial);
        if has_direction {
            writer.numbers(&self.gradient);
            writer.numbers(&self.direction);
        }
        for pair in &self.pairs {
            writer.numbers(&pair.step);
            writer.numbers(&pair.change);
            writer.numbers(&[pair.rho]);
        }
        writer.finish()
    }

    /// The state that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are no such state.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a state of L-BFGS")?;
        let (n, weights, pairs) = (reader.dimension()?, reader.dimension()?, reader.dimension()?);
        let (max_steps, history) = (reader.integer()?, reader.dimension()?);
        let (trials, flat_steps) = (reader.integer()?, reader.integer()?);
        let (has_direction, has_high) = (reader.integer()? == 1, reader.integer()? == 1);
        if weights > n || pairs > history || history == 0 {
            return exec_err!("a state of L-BFGS has {weights} weights of {n} and {pairs} pairs");
        }
        let (l1, l2, tolerance) = (reader.number()?, reader.number()?, reader.number()?);
        let (step, slope) = (reader.number()?, reader.number()?);
        let mut end = || -> Result<End> {
            Ok(End { at: reader.number()?, value: reader.number()?, slope: reader.number()? })
        };
        let (low, high) = (end()?, end()?);
        let report = Report::read(&mut reader)?;
        let (parameters, trial) = (reader.numbers(n)?, reader.numbers(n)?);
        let known = if has_direction { n } else { 0 };
        let (gradient, direction) = (reader.numbers(known)?, reader.numbers(known)?);
        let mut remembered = vec![];
        for _ in 0..pairs {
            let (step, change) = (reader.numbers(n)?, reader.numbers(n)?);
            remembered.push(Pair { step, change, rho: reader.number()? });
        }
        reader.finish()?;
        Ok(Self {
            options: LbfgsOptions { l1, l2, tolerance, max_steps, history },
            weights,
            parameters,
            gradient,
            trial,
            direction,
            line: LineSearch { step, slope, low, high: has_high.then_some(high), trials },
            pairs: remembered,
            flat_steps,
            report,
        })
    }
}
