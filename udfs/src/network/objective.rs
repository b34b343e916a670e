//! What a network minimises.

use crate::kernels::quantile;
use crate::learner::{Loss, LossSum};

/// What is minimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The loss of a row.
    pub loss: Loss,
    /// The quantiles of the outputs, of [`Loss::Quantile`].
    pub quantiles: Vec<f32>,
    /// Label smoothing of [`Loss::Softmax`], in training alone: the share of the label that is
    /// spread over all classes (Szegedy et al. 2016; PyTorch's `label_smoothing`).
    pub smoothing: f32,
}

impl From<Loss> for Objective {
    fn from(loss: Loss) -> Self {
        Self { loss, quantiles: vec![], smoothing: 0.0 }
    }
}

impl Objective {
    /// See [`Loss::differentiate`].
    pub(crate) fn differentiate(
        &self,
        z: &mut [f32],
        outputs: usize,
        label: &[f32],
        weight: &[f32],
        scale: f32,
    ) -> LossSum {
        match self.quantiles.as_slice() {
            [] if self.smoothing > 0.0 && self.loss == Loss::Softmax => {
                self.smoothed(z, outputs, label, weight, scale)
            }
            [] => self.loss.differentiate(z, outputs, label, weight, scale),
            quantiles => quantile::differentiate(quantiles, z, label, weight, scale),
        }
    }

    /// The loss is `ln sum e^z - (1 - s) z_y - s mean(z)`: that of the label and
    /// `s (z_y - mean(z))`.
    fn smoothed(
        &self,
        z: &mut [f32],
        outputs: usize,
        label: &[f32],
        weight: &[f32],
        scale: f32,
    ) -> LossSum {
        let share = 1.0 / outputs.max(1) as f32;
        let mut more = 0.0;
        for ((z, y), w) in z.chunks_exact(outputs.max(1)).zip(label).zip(weight) {
            let mean = share * z.iter().sum::<f32>();
            let own = z.get(*y as usize).copied().unwrap_or(mean);
            more += f64::from(*w) * f64::from(self.smoothing) * f64::from(own - mean);
        }
        let mut sum = self.loss.differentiate(z, outputs, label, weight, scale);
        for ((d, y), w) in z.chunks_exact_mut(outputs.max(1)).zip(label).zip(weight) {
            let factor = scale * w * self.smoothing;
            if let Some(own) = d.get_mut(*y as usize) {
                *own += factor;
                d.iter_mut().for_each(|d| *d -= factor * share);
            }
        }
        sum.loss += more;
        sum
    }

    /// See [`Loss::sum`].
    pub(crate) fn sum(&self, z: &[f32], outputs: usize, label: &[f32], weight: &[f32]) -> LossSum {
        match self.quantiles.as_slice() {
            [] => self.loss.sum(z, outputs, label, weight),
            quantiles => quantile::sum(quantiles, z, label, weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothed_labels_are_those_of_pytorch() {
        // z = torch.tensor([[1., 2., 4.], [0.5, -1., 2.]], dtype=torch.float64)
        // F.cross_entropy(z, torch.tensor([0, 2]), reduction="none", label_smoothing=0.2),
        // weighted by 1 and 2, summed.
        let mut z = [1.0, 2.0, 4.0, 0.5, -1.0, 2.0];
        let own = Objective { smoothing: 0.2, ..Objective::from(Loss::Softmax) };
        let sum = own.differentiate(&mut z, 3, &[0.0, 2.0], &[1.0, 2.0], 1.0);
        assert!((sum.loss - 3.985_801_946_204).abs() < 1e-6, "{}", sum.loss);
        let truth =
            [-0.824_656_6, 0.047_528_53, 0.777_128_1, 0.217_247_45, -0.055_108_19, -0.162_139_26];
        assert!(z.iter().zip(truth).all(|(z, truth)| (z - truth).abs() < 1e-6), "{z:?}");
        assert_eq!(sum.weight, 3.0);
    }
}
