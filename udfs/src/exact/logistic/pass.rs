//! Newton sums as the sums of a pass: merged, and as bytes from partition to partition.

use datafusion_common::{Result, plan_err};

use super::{NewtonSum, Scratch};
use crate::batch::{MiniBatch, Width};
use crate::exact::bytes::{Reader, Writer};
use crate::exact::moments::{Moments, add};
use crate::exact::{LinearShape, PassSum, check_same, newton_memory};

const TAG: [u8; 4] = *b"GLNS";
const VERSION: u32 = 1;

impl PassSum for NewtonSum {
    type Shape = LinearShape;
    type Scratch = Scratch;
    const KIND: &'static str = "newton";

    fn empty(shape: LinearShape, scratch: Scratch) -> Result<Self> {
        let LinearShape { width, outputs, intercept, .. } = shape;
        Ok(Self { scratch, ..Self::new(width, outputs, intercept)? })
    }

    fn width_of(shape: LinearShape) -> Width {
        shape.width
    }

    fn memory(shape: LinearShape) -> usize {
        newton_memory(shape.width, shape.outputs)
    }

    fn add(&mut self, parameters: &[f64], rows: &MiniBatch<'_>) -> Result<()> {
        self.update(parameters, rows)
    }

    fn take_scratch(&mut self) -> Scratch {
        std::mem::take(&mut self.scratch)
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        let shape = |sum: &Self| (sum.width, sum.outputs, sum.intercept);
        check_same(Self::KIND, shape(self), shape(other))?;
        self.rows += other.rows;
        self.weight += other.weight;
        self.loss += other.loss;
        self.wrong += other.wrong;
        let Some(theirs) = &other.reference else { return Ok(()) };
        let Some(ours) = &self.reference else {
            self.reference = Some(theirs.clone());
            self.dense_gradient.clone_from(&other.dense_gradient);
            self.category_gradient.clone_from(&other.category_gradient);
            self.hessian.clone_from(&other.hessian);
            return Ok(());
        };
        add(&mut self.category_gradient, &other.category_gradient);
        if ours == theirs {
            add(&mut self.dense_gradient, &other.dense_gradient);
            self.hessian.iter_mut().zip(&other.hessian).for_each(|(ours, t)| ours.merge(t));
            return Ok(());
        }
        let mut delta: Vec<f64> =
            theirs.iter().zip(ours).map(|(theirs, ours)| theirs - ours).collect();
        delta.push(0.0);
        let columns = delta.len();
        let gradients = self.dense_gradient.chunks_exact_mut(columns);
        for (ours, theirs) in gradients.zip(other.dense_gradient.chunks_exact(columns)) {
            let intercept = theirs[columns - 1];
            for ((ours, theirs), delta) in ours.iter_mut().zip(theirs).zip(&delta) {
                *ours += theirs + delta * intercept;
            }
        }
        for (ours, theirs) in self.hessian.iter_mut().zip(&other.hessian) {
            let mut moved = theirs.clone();
            moved.translate(&delta);
            ours.merge(&moved);
        }
        Ok(())
    }

    /// The sums in little-endian bytes: `"GLNS"`, `u32` version 1; `u64` d, c, t, K, 1 with
    /// intercept, rows, wrong rows, 1 with reference; `f64` weight, loss, reference `[d]`, dense
    /// gradient `[K, d + 1]`, category gradient `[t, K]`, then the blocks of the Hessian
    /// (0, 0), (1, 0), (1, 1), (2, 0) ... as a Gram sum writes its moments, with `a = d + 1`.
    fn to_bytes(&self) -> Vec<u8> {
        let Width { dense, categories, .. } = self.width;
        let packed = Moments::packed_len(dense + 1, categories) * self.hessian.len();
        let gradients = self.dense_gradient.len() + self.category_gradient.len();
        let mut writer = Writer::new(TAG, VERSION);
        let known = u64::from(self.reference.is_some());
        writer.width(self.width);
        writer.integers(&[self.outputs as u64]);
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

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, TAG, VERSION, "a Newton sum")?;
        let width = Width { targets: 1, ..reader.width()? };
        let dense = width.dense;
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
