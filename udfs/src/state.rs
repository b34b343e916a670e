//! The state of an iterative training: parameters, moments and counters in one flat layout.

use datafusion_common::{Result, exec_err};

use crate::learner::LossSum;

const MAGIC: &[u8; 8] = b"GLSTATE1";
/// Bytes before the numbers begin; see [`State::to_bytes`].
const HEADER: usize = 8 + 7 * 8;

/// Parameters, optimizer moments and counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Flat parameters in the learner's layout.
    pub parameters: Vec<f32>,
    /// The optimizer's buffers, each as long as the parameters, one after another, then its totals.
    pub moments: Vec<f32>,
    /// Steps made since the beginning of the training.
    pub steps: u64,
    /// Rows learned since the beginning of the training.
    pub rows: u64,
    /// Loss of the rows of this round alone, each before the step that learned it.
    pub round: LossSum,
}

impl State {
    /// The state as bytes, little-endian:
    ///
    /// | offset | type | what |
    /// |---|---|---|
    /// | 0 | 8 bytes | `GLSTATE1` |
    /// | 8 | u64 | number of parameters `p` |
    /// | 16 | u64 | number of moments `m` |
    /// | 24 | u64 | steps |
    /// | 32 | u64 | rows |
    /// | 40 | f64 | sum of weighted losses of the round |
    /// | 48 | f64 | sum of weights of the round |
    /// | 56 | u64 | rows of the round |
    /// | 64 | f32 x p | parameters |
    /// | 64 + 4p | f32 x m | moments |
    pub fn to_bytes(&self) -> Vec<u8> {
        let floats = self.parameters.len() + self.moments.len();
        let mut bytes = Vec::with_capacity(HEADER + 4 * floats);
        bytes.extend_from_slice(MAGIC);
        for n in [self.parameters.len() as u64, self.moments.len() as u64, self.steps, self.rows] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        bytes.extend_from_slice(&self.round.loss.to_le_bytes());
        bytes.extend_from_slice(&self.round.weight.to_le_bytes());
        bytes.extend_from_slice(&self.round.rows.to_le_bytes());
        bytes.resize(HEADER + 4 * floats, 0);
        // (Overwriting zeros number by number compiles to a block copy; appending does not.)
        let (places, _) = bytes[HEADER..].as_chunks_mut::<4>();
        let (parameters, moments) = places.split_at_mut(self.parameters.len());
        for (places, values) in [(parameters, &self.parameters), (moments, &self.moments)] {
            for (place, value) in places.iter_mut().zip(values) {
                *place = value.to_le_bytes();
            }
        }
        bytes
    }

    /// Reads the bytes that [`State::to_bytes`] wrote, for a learner with so many parameters and
    /// moments.
    ///
    /// # Errors
    /// When the bytes are not a state, or are a state of other dimensions.
    pub fn from_bytes(bytes: &[u8], parameters: usize, moments: usize) -> Result<Self> {
        let words = words(bytes)?;
        let word = |i: usize| words[i];
        let (p, m) = (u64::from_le_bytes(word(0)) as usize, u64::from_le_bytes(word(1)) as usize);
        if (p, m) != (parameters, moments) || bytes.len() != HEADER + 4 * (p + m) {
            return exec_err!(
                "the training state has {p} parameters and {m} moments in {} bytes, \
                 but this training has {parameters} and {moments}",
                bytes.len()
            );
        }
        let (parameters, moments) = bytes[HEADER..].as_chunks::<4>().0.split_at(p);
        let numbers =
            |places: &[[u8; 4]]| places.iter().map(|place| f32::from_le_bytes(*place)).collect();
        Ok(State {
            parameters: numbers(parameters),
            moments: numbers(moments),
            steps: u64::from_le_bytes(word(2)),
            rows: u64::from_le_bytes(word(3)),
            round: LossSum {
                loss: f64::from_le_bytes(word(4)),
                weight: f64::from_le_bytes(word(5)),
                rows: u64::from_le_bytes(word(6)),
            },
        })
    }

    /// Steps and rows in the bytes that [`State::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes do not begin like a state.
    pub fn counters(bytes: &[u8]) -> Result<(u64, u64)> {
        let words = words(bytes)?;
        Ok((u64::from_le_bytes(words[2]), u64::from_le_bytes(words[3])))
    }

    /// Whether every parameter is finite.
    pub fn is_finite(&self) -> bool {
        self.parameters.iter().all(|p| p.is_finite())
    }
}

/// The words after the magic number.
fn words(bytes: &[u8]) -> Result<&[[u8; 8]]> {
    if bytes.len() < HEADER || &bytes[..8] != MAGIC {
        return exec_err!("the training state is damaged: it does not begin with GLSTATE1");
    }
    Ok(bytes[8..HEADER].as_chunks().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_the_state() {
        let state = State {
            parameters: vec![1.5, -0.0, f32::MIN_POSITIVE],
            moments: vec![2.0; 6],
            steps: 7,
            rows: u64::MAX,
            round: LossSum { loss: 0.1, weight: 3.0, rows: 3 },
        };
        let bytes = state.to_bytes();
        assert_eq!(State::from_bytes(&bytes, 3, 6).unwrap(), state);
        assert_eq!(State::counters(&bytes).unwrap(), (7, u64::MAX));
        let error = State::from_bytes(&bytes, 3, 3).unwrap_err().to_string();
        assert!(error.contains("3 parameters and 6 moments"), "{error}");
        assert!(State::from_bytes(&bytes[..70], 3, 6).is_err());
        assert!(State::from_bytes(b"PAR1", 3, 6).is_err());
    }
}
