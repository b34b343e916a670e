//! Positions of a sequence `[t, e]`: `y[t] = x[t] + P[t]`. Learned, beginning with normal numbers
//! of deviation 0.02 (Radford et al. 2018); or fixed sines and cosines (Vaswani et al. 2017):
//! `P[t, 2 i] = sin(t / 10000^(2 i / e))`, `P[t, 2 i + 1] = cos(..)`.

use datafusion_common::Result;

use crate::kernels::math::{axpy, vectorized};
use crate::learner::Role;
use crate::network::definition::{Arguments, Default, Definition, Kind, given};
use crate::network::layer::{
    Built, Incoming, Initial, Layer, Parameter, Pass, Reads, misfit, only_numbers,
};

pub(crate) const POSITIONAL_EMBEDDING: Definition = Definition {
    name: "positional_embedding",
    doc: "adds a vector for the position of each step",
    arguments: &[given(
        "kind",
        Kind::Word(&["learned", "sinusoidal"]),
        Default::Word("learned"),
        "vectors that are learned, or sines and cosines",
    )],
    build: Some(build),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    const NEEDS: &str = "a sequence [steps, channels]";
    let (shape, mask) = only_numbers(arguments.node, inputs, NEEDS)?;
    let [steps, channels] = *shape else { return misfit(arguments.node, inputs, NEEDS) };
    let fixed = (arguments.word("kind") == "sinusoidal").then(|| sinusoids(steps, channels));
    let own = Positions { steps, channels, fixed };
    Ok(Built::new(own, shape, mask.cloned()))
}

fn sinusoids(steps: usize, channels: usize) -> Vec<f32> {
    let value = |t: usize, i: usize| {
        let rate = 10_000f64.powf(-((i / 2 * 2) as f64) / channels as f64);
        let angle = t as f64 * rate;
        (if i.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    (0..steps * channels).map(|at| value(at / channels, at % channels)).collect()
}

/// Vectors of positions.
#[derive(Debug)]
struct Positions {
    steps: usize,
    channels: usize,
    fixed: Option<Vec<f32>>,
}

impl Layer for Positions {
    fn parameters(&self) -> Vec<Parameter> {
        let shape = [self.steps, self.channels];
        match self.fixed {
            Some(_) => vec![],
            None => vec![Parameter::new("weight", &shape, Role::Weight, Initial::Normal(0.02))],
        }
    }

    fn is_in_place(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        let positions = self.fixed.as_deref().unwrap_or(pass.parameters);
        vectorized(
            #[inline(always)]
            || {
                for y in y.chunks_exact_mut(self.steps * self.channels) {
                    axpy(1.0, positions, y);
                }
            },
        );
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        _: &mut [f32],
    ) {
        if self.fixed.is_some() {
            return;
        }
        // (In place: `dx`, where there is one, holds `dy`.)
        let dy = dx.as_deref().unwrap_or(pass.dy());
        vectorized(
            #[inline(always)]
            || {
                for (row, dy) in dy.chunks_exact(self.steps * self.channels).enumerate() {
                    let n = pass.length(row, self.steps) * self.channels;
                    axpy(1.0, &dy[..n], gradient);
                }
            },
        );
    }
}
