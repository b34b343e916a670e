//! Steps of a network of any layers: the gradient of the whole mini-batch by its executor, then the
//! optimizer over all parameters.

use datafusion_common::Result;

use super::{Step, Steps};
use crate::batch::{Gather, Rows};
use crate::network::{Executor, LayeredNetwork};
use crate::round::Descent;
use crate::state::State;

/// The working memory of such steps.
#[derive(Debug)]
pub(super) struct LayerSteps {
    executor: Executor,
    /// `[parameters]`
    gradient: Vec<f32>,
    gathered: Rows,
    threads: usize,
}

impl LayerSteps {
    /// None where the network cannot be compiled, which its description refuses.
    pub(super) fn new(network: &LayeredNetwork, descent: &Descent) -> Option<Self> {
        let executor = network.executor(descent.batch_size).ok()?;
        let gradient = vec![0.0; executor.layout().len()];
        let threads = executor.shards().min(descent.threads.threads());
        Some(Self { executor, gradient, gathered: Rows::default(), threads })
    }
}

impl Steps for LayerSteps {
    fn step(&mut self, step: &Step<'_>, rows: &Gather<'_>, state: &mut State) -> Result<()> {
        let Step { descent, size, key } = step;
        let batch = rows.all(descent.learner.width(), &mut self.gathered);
        let scale = 1.0 / batch.rows.max(1) as f32;
        let (executor, gradient) = (&mut self.executor, &mut self.gradient);
        let threads = descent.threads.as_ref();
        let State { parameters, moments, round, .. } = state;
        round.add(executor.gradient(threads, parameters, &batch, *key, scale, gradient));
        if let Some(most) = descent.clip_norm {
            clip(gradient, most);
        }
        descent.optimizer.step(executor.layout(), size, parameters, gradient, moments);
        Ok(())
    }

    fn threads(&self) -> usize {
        self.threads
    }
}

/// Scales a gradient down to a norm, as PyTorch's `clip_grad_norm_`. One that is no number stays as
/// it is, so that the step shows it.
fn clip(gradient: &mut [f32], most: f64) {
    let squares: f64 = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
    let factor = most / (squares.sqrt() + 1e-6);
    if factor < 1.0 {
        gradient.iter_mut().for_each(|g| *g *= factor as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch.nn.utils.clip_grad_norm_ of [3, 4] to 1 and to 10 (PyTorch 2.15).
    #[test]
    fn a_long_gradient_is_scaled_down() {
        let clipped = |most| {
            let mut gradient = [3.0, 4.0];
            clip(&mut gradient, most);
            gradient
        };
        let [a, b] = clipped(1.0);
        assert!((a - 0.599_999_9).abs() < 1e-6 && (b - 0.799_999_8).abs() < 1e-6, "{a} {b}");
        assert_eq!(clipped(10.0), [3.0, 4.0]);
        let mut lost = [f32::NAN, 1.0];
        clip(&mut lost, 1.0);
        assert_eq!(lost[1], 1.0);
    }
}
