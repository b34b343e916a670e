//! Mean loss, gradient and Hessian of a Newton sum, by the parameters.

use super::NewtonSum;
use crate::batch::Width;

impl NewtonSum {
    /// Weighted mean log loss, without the penalty.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.weight
    }

    /// The reference `[d]` of the coordinates in which gradient and Hessian are given.
    pub(in crate::exact) fn reference(&self) -> &[f64] {
        self.reference.as_deref().unwrap_or(&[])
    }

    /// Dense position of input `i` (of `n`, then the intercept), or its category.
    fn place(&self, input: usize) -> Place {
        let Width { dense: d, categories: t, .. } = self.width;
        match input {
            i if i < d => Place::Dense(i),
            i if i < d + t => Place::Category(i - d),
            _ => Place::Dense(d),
        }
    }

    /// The gradient of the mean loss by the parameters `[inputs, K]`, inputs shifted.
    pub(in crate::exact) fn gradient(&self) -> Vec<f64> {
        let dense = self.width.dense;
        let of = |i: usize| self.dense_gradient[i..].iter().step_by(dense + 1);
        let mut gradient = Vec::with_capacity(self.parameter_count());
        (0..dense).for_each(|i| gradient.extend(of(i)));
        gradient.extend_from_slice(&self.category_gradient);
        if self.intercept {
            gradient.extend(of(dense));
        }
        gradient.iter_mut().for_each(|sum| *sum /= self.weight);
        gradient
    }

    /// The Hessian of the mean loss, column-major, lower triangle, inputs shifted.
    pub(in crate::exact) fn hessian(&self) -> Vec<f64> {
        let (outputs, count) = (self.outputs, self.parameter_count());
        let mut matrix = vec![0.0; count * count];
        // Over dense numbers only, the columns of one output already have the required layout.
        // (Many small models do little else between two passes.)
        if let (1, 0, [block]) = (outputs, self.width.categories, self.hessian.as_slice()) {
            for (j, values) in matrix.chunks_exact_mut(count.max(1)).enumerate() {
                let own = values[j..].iter_mut().zip(block.dense_from(j));
                own.for_each(|(value, sum)| *value = sum / self.weight);
            }
            return matrix;
        }
        for (column, values) in matrix.chunks_exact_mut(count.max(1)).enumerate() {
            let (j, b) = (self.place(column / outputs), column % outputs);
            for (row, value) in values.iter_mut().enumerate().skip(column) {
                let (i, a) = (self.place(row / outputs), row % outputs);
                let block = &self.hessian[a.max(b) * (a.max(b) + 1) / 2 + a.min(b)];
                let sum = match (i, j) {
                    (Place::Dense(i), Place::Dense(j)) => block.dense(i, j),
                    (Place::Dense(i), Place::Category(j)) => block.cross(j, i),
                    (Place::Category(i), Place::Dense(j)) => block.cross(i, j),
                    (Place::Category(i), Place::Category(j)) => block.pair(i, j),
                };
                *value = sum / self.weight;
            }
        }
        matrix
    }
}

/// The position of an input in the moments.
#[derive(Clone, Copy)]
enum Place {
    Dense(usize),
    Category(usize),
}
