//! The same numbers in another shape: `flatten` and `reshape`, row-major. In a sequence with a
//! length, invalid steps become 0, and the length is forgotten.

use datafusion_common::{Result, plan_err};

use crate::network::definition::{Argument, Arguments, Definition, Kind, optional, required};
use crate::network::layer::{Built, Incoming, Layer, Pass, Reads, only_numbers, shape_text};

const MOST: usize = 1 << 30;

pub(crate) const FLATTEN: Definition = Definition {
    name: "flatten",
    doc: "all numbers as one vector",
    arguments: &[],
    build: Some(|arguments, inputs| {
        let (shape, _) = only_numbers(arguments.node, inputs, "numbers")?;
        build(arguments, inputs, &[shape.iter().product()])
    }),
};

const SIZES: &[Argument] = &[
    required("first", Kind::Integer(1, MOST), "size of the first axis"),
    optional("second", Kind::Integer(1, MOST), "size of the second axis"),
    optional("third", Kind::Integer(1, MOST), "size of the third axis"),
    optional("fourth", Kind::Integer(1, MOST), "size of the fourth axis"),
];

pub(crate) const RESHAPE: Definition = Definition {
    name: "reshape",
    doc: "the same numbers in another shape, such as reshape(28, 28, 1)",
    arguments: SIZES,
    build: Some(|arguments, inputs| {
        let sizes: Vec<_> =
            SIZES.iter().filter_map(|size| arguments.given_integer(size.name)).collect();
        build(arguments, inputs, &sizes)
    }),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming], to: &[usize]) -> Result<Built> {
    let (shape, mask) = only_numbers(arguments.node, inputs, "numbers")?;
    let size = to.iter().try_fold(1usize, |size, n| size.checked_mul(*n));
    let own: usize = shape.iter().product();
    if size != Some(own) {
        return plan_err!(
            "{} cannot make {} of {}, which has {own} numbers",
            arguments.node,
            shape_text(to),
            shape_text(shape)
        );
    }
    let steps = if mask.is_some() { shape.first().copied().unwrap_or(1) } else { 1 };
    Ok(Built::new(Reshape { steps, of_step: own / steps }, to, None))
}

/// The same numbers.
#[derive(Debug)]
struct Reshape {
    steps: usize,
    of_step: usize,
}

impl Reshape {
    fn clear(&self, pass: &Pass<'_>, values: &mut [f32]) {
        if pass.lengths.is_none() {
            return;
        }
        for (row, values) in values.chunks_exact_mut(self.steps * self.of_step).enumerate() {
            values[pass.length(row, self.steps) * self.of_step..].fill(0.0);
        }
    }
}

impl Layer for Reshape {
    fn is_in_place(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        self.clear(pass, y);
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        dx: Option<&mut [f32]>,
        _: &mut [f32],
        _: &mut [f32],
    ) {
        if let Some(dx) = dx {
            self.clear(pass, dx);
        }
    }
}
