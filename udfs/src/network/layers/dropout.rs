//! What changes values at random, in training alone: dropout (Srivastava et al. 2014; inverted, as
//! PyTorch's: what stays is multiplied by `1 / (1 - p)`) and Gaussian noise. Draws are functions of
//! seed, step, node and position, so that backward draws again instead of keeping a mask.

use datafusion_common::Result;

use crate::network::definition::{Arguments, Default, Definition, Kind, given};
use crate::network::layer::{Built, Incoming, Layer, Pass, Reads, only_numbers};
use crate::network::tensors::normal;

pub(crate) const DROPOUT: Definition = Definition {
    name: "dropout",
    doc: "in training, sets numbers to 0 at random and multiplies the others by 1 / (1 - rate)",
    arguments: &[given(
        "rate",
        Kind::Number(0.0, 0.99),
        Default::Number(0.5),
        "the share that is set to 0",
    )],
    build: Some(|arguments, inputs| {
        build(arguments, inputs, Noise::Dropout(arguments.number("rate")))
    }),
};

pub(crate) const GAUSSIAN_NOISE: Definition = Definition {
    name: "gaussian_noise",
    doc: "in training, adds normal numbers",
    arguments: &[given(
        "deviation",
        Kind::Number(0.0, 1e6),
        Default::Number(0.1),
        "the standard deviation of what is added",
    )],
    build: Some(|arguments, inputs| {
        build(arguments, inputs, Noise::Gaussian(arguments.number("deviation")))
    }),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming], noise: Noise) -> Result<Built> {
    let (shape, mask) = only_numbers(arguments.node, inputs, "numbers")?;
    Ok(Built::new(noise, shape, mask.cloned()))
}

/// Random changes.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Dropout(f32),
    Gaussian(f32),
}

/// Sets values to 0 with a probability and scales the others; `first` is the position of the first.
pub(super) fn drop_out(pass: &Pass<'_>, rate: f32, first: u64, values: &mut [f32]) {
    let Some(draws) = pass.draws else { return };
    if rate <= 0.0 {
        return;
    }
    let keep = 1.0 / (1.0 - rate);
    for (i, value) in values.iter_mut().enumerate() {
        let is_dropped = draws.unit(first + i as u64) < rate;
        *value = if is_dropped { 0.0 } else { *value * keep };
    }
}

impl Layer for Noise {
    fn is_in_place(&self) -> bool {
        true
    }

    fn is_training_only(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        let first = (pass.position * pass.len(0)) as u64;
        match (*self, pass.draws) {
            (Noise::Dropout(rate), _) => drop_out(pass, rate, first, y),
            (Noise::Gaussian(deviation), Some(draws)) => {
                for (i, y) in y.iter_mut().enumerate() {
                    *y += deviation * normal(draws.bits(first + i as u64));
                }
            }
            _ => {}
        }
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        dx: Option<&mut [f32]>,
        _: &mut [f32],
        _: &mut [f32],
    ) {
        if let (Noise::Dropout(rate), Some(dx)) = (*self, dx) {
            drop_out(pass, rate, (pass.position * pass.len(0)) as u64, dx);
        }
    }
}
