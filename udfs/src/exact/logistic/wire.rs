//! Newton sums as bytes, to send them from partition to partition.

use datafusion_common::{Result, plan_err};

use super::super::bytes::{Reader, Writer};
use super::super::moments::Moments;
use super::{NewtonSum, Scratch};
use crate::batch::Width;

const TAG: [u8; 4] = *b"GLNS";
const VERSION: u32 = 1;

impl NewtonSum {
    /// The sums in little-endian bytes: `"GLNS"`, `u32` version 1; `u64` d, c, t, K, 1 with
    /// intercept, rows, wrong rows, 1 with reference; `f64` weight, loss, reference `[d]`, dense
    /// gradient `[K, d + 1]`, category gradient `[t, K]`, then the blocks of the Hessian
    /// (0, 0), (1, 0), (1, 1), (2, 0) ... as a Gram sum writes its moments, with `a = d + 1`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Width { dense, columns, categories } = self.width;
        let packed = Moments::packed_len(dense + 1, categories) * self.hessian.len();
        let gradients = self.dense_gradient.len() + self.category_gradient.len();
        let mut writer = Writer::new(TAG, VERSION);
        let known = u64::from(self.reference.is_some());
        writer.integers(&[dense as u64, columns as u64, categories as u64, self.outputs as u64]);
        writer.integers(&[u64::from(self.intercept), self.rows, self.wrong, known]);
        writer.numbers(&[self.weight, self.loss]);
        writer.reserve(dense + gradients + packed);
        match &self.reference {
            Some(reference) => writer.numbers(reference),
            None => writer.numbers(&vec![0.0; dense]),
        }
        writer.numbers(&self.dense_gradient);
        writer.numbers(&self.category_gradient);
        self.hessian.iter().flat_map(Moments::values).for_each(|values| writer.numbers(values));
        writer.finish()
    }

    /// The sums that [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a Newton sum")?;
        let (dense, columns) = (reader.dimension()?, reader.dimension()?);
        let width = Width { dense, columns, categories: reader.dimension()? };
        let outputs = reader.dimension()?;
        let intercept = reader.integer()? == 1;
        if outputs == 0 {
            return plan_err!("a Newton sum of 0 outputs cannot be");
        }
        let (rows, wrong) = (reader.integer()?, reader.integer()?);
        let known = reader.integer()? == 1;
        let (weight, loss) = (reader.number()?, reader.number()?);
        let reference = reader.numbers(dense)?;
        let dense_gradient = reader.numbers(outputs * (dense + 1))?;
        let category_gradient = reader.numbers(outputs * width.categories)?;
        let packed = Moments::packed_len(dense + 1, width.categories);
        let mut hessian = Vec::new();
        for _ in 0..outputs * (outputs + 1) / 2 {
            let values = reader.numbers(packed)?;
            hessian.push(Moments::from_values(dense + 1, width.categories, &values));
        }
        reader.finish()?;
        Ok(Self {
            width,
            outputs,
            intercept,
            rows,
            weight,
            loss,
            wrong,
            reference: known.then_some(reference),
            dense_gradient,
            category_gradient,
            hessian,
            scratch: Scratch::default(),
        })
    }
}
