//! Random changes of images `[h, w, c]`, in training alone, each row by draws of its own:
//! `random_flip` mirrors left and right; `random_crop` shifts by up to `padding` pixels in both
//! directions, 0 moving in (padding the image and cutting its size out of it).

use datafusion_common::Result;

use crate::network::definition::{Arguments, Default, Definition, Kind, given, required};
use crate::network::layer::{Built, Incoming, Layer, Pass, Reads, misfit, only_numbers};

pub(crate) const RANDOM_FLIP: Definition = Definition {
    name: "random_flip",
    doc: "in training, mirrors images left and right at random",
    arguments: &[given(
        "probability",
        Kind::Number(0.0, 1.0),
        Default::Number(0.5),
        "the share of images that is mirrored",
    )],
    build: Some(|arguments, inputs| {
        build(arguments, inputs, Change::Flip(arguments.number("probability")))
    }),
};

pub(crate) const RANDOM_CROP: Definition = Definition {
    name: "random_crop",
    doc: "in training, shifts images at random",
    arguments: &[required("padding", Kind::Integer(0, 1 << 12), "pixels of a shift at most")],
    build: Some(|arguments, inputs| {
        build(arguments, inputs, Change::Crop(arguments.integer("padding")))
    }),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming], change: Change) -> Result<Built> {
    const NEEDS: &str = "an image [height, width, channels]";
    match *only_numbers(arguments.node, inputs, NEEDS)?.0 {
        [height, width, channels] => {
            let own = Augment { height, width, channels, change };
            Ok(Built::new(own, &[height, width, channels], None))
        }
        _ => misfit(arguments.node, inputs, NEEDS),
    }
}

/// A kind of change.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// With a probability.
    Flip(f32),
    /// By so many pixels at most.
    Crop(usize),
}

/// A random change of images.
#[derive(Debug)]
struct Augment {
    height: usize,
    width: usize,
    channels: usize,
    change: Change,
}

impl Augment {
    /// Calls `f` with the start of each output pixel and that of the input pixel that it shows.
    fn for_each(&self, pass: &Pass<'_>, row: usize, mut f: impl FnMut(usize, Option<usize>)) {
        let (h, w, c) = (self.height, self.width, self.channels);
        let bits = pass.draws.map_or(0, |draws| draws.bits((pass.position + row) as u64));
        let unit = crate::kernels::rng::unit(bits);
        for y in 0..h {
            for x in 0..w {
                let from = match self.change {
                    Change::Flip(probability) if unit < probability => Some((y, w - 1 - x)),
                    Change::Flip(_) => Some((y, x)),
                    Change::Crop(padding) => {
                        let range = 2 * padding as u64 + 1;
                        let (down, right) = ((bits >> 32) % range, (bits & 0xffff_ffff) % range);
                        let y = (y + down as usize).checked_sub(padding).filter(|y| *y < h);
                        let x = (x + right as usize).checked_sub(padding).filter(|x| *x < w);
                        y.zip(x)
                    }
                };
                f((y * w + x) * c, from.map(|(y, x)| (y * w + x) * c));
            }
        }
    }
}

impl Layer for Augment {
    fn is_training_only(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        let (n, c) = (self.height * self.width * self.channels, self.channels);
        for (row, (y, x)) in y.chunks_exact_mut(n).zip(pass.x(0).chunks_exact(n)).enumerate() {
            self.for_each(pass, row, |to, from| match from {
                Some(from) => y[to..to + c].copy_from_slice(&x[from..from + c]),
                None => y[to..to + c].fill(0.0),
            });
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
        let Some(dx) = dx else { return };
        let (n, c) = (self.height * self.width * self.channels, self.channels);
        dx.fill(0.0);
        for (row, (dx, dy)) in dx.chunks_exact_mut(n).zip(pass.dy().chunks_exact(n)).enumerate() {
            self.for_each(pass, row, |to, from| {
                if let Some(from) = from {
                    dx[from..from + c].copy_from_slice(&dy[to..to + c]);
                }
            });
        }
    }
}
