//! Several inputs become one: `concat` along the last axis, `add`, and `dot` over the last axis.
//! Sequences must have one length; vectors may be of any origin.

use datafusion_common::{Result, plan_err};

use crate::kernels::math::{axpy, dot, vectorized};
use crate::network::definition::{Arguments, Definition};
use crate::network::layer::{Built, Content, Incoming, Layer, Pass, Reads, misfit};
use crate::network::mask::Mask;

const fn define(name: &'static str, doc: &'static str, build: super::Build) -> Definition {
    Definition { name, doc, arguments: &[], build: Some(build) }
}

pub(crate) const CONCAT: Definition =
    define("concat", "inputs side by side along the last axis", build_concat);

pub(crate) const ADD: Definition = define("add", "the sum of inputs of one shape", build_add);

pub(crate) const DOT: Definition =
    define("dot", "the dot product of two inputs of one shape over the last axis", build_dot);

/// The shapes and the mask of inputs that are numbers.
fn numbers<'a>(
    arguments: &Arguments<'_>,
    inputs: &'a [Incoming],
    needs: &str,
) -> Result<(Vec<&'a [usize]>, Option<Mask>)> {
    let shapes: Vec<&[usize]> = inputs
        .iter()
        .filter_map(|incoming| match &incoming.content {
            Content::Numbers(shape) => Some(shape.as_slice()),
            _ => None,
        })
        .collect();
    if shapes.len() != inputs.len() || shapes.is_empty() {
        return misfit(arguments.node, inputs, needs);
    }
    let mask = &inputs[0].mask;
    if inputs.iter().any(|incoming| incoming.mask != *mask) {
        return plan_err!(
            "{} joins sequences of different lengths; end them with global_avg_pool, gru or lstm \
             before it",
            arguments.node
        );
    }
    Ok((shapes, mask.clone()))
}

fn build_concat(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    const NEEDS: &str = "numbers whose shapes differ in the last axis alone (embedding or one_hot \
                         makes numbers of categories)";
    let (shapes, mask) = numbers(arguments, inputs, NEEDS)?;
    let Some((_, outer)) = shapes[0].split_last() else {
        return misfit(arguments.node, inputs, NEEDS);
    };
    let mut widths = vec![];
    for shape in &shapes {
        match shape.split_last() {
            Some((width, own)) if own == outer => widths.push(*width),
            _ => return misfit(arguments.node, inputs, NEEDS),
        }
    }
    let mut shape = outer.to_vec();
    shape.push(widths.iter().sum());
    Ok(Built::new(Concat { widths }, &shape, mask))
}

fn build_add(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    const NEEDS: &str = "numbers of one shape";
    let (shapes, mask) = numbers(arguments, inputs, NEEDS)?;
    if shapes.iter().any(|shape| *shape != shapes[0]) {
        return misfit(arguments.node, inputs, NEEDS);
    }
    Ok(Built::new(Add, shapes[0], mask))
}

fn build_dot(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    const NEEDS: &str = "two inputs of one shape";
    let (shapes, mask) = numbers(arguments, inputs, NEEDS)?;
    match shapes.as_slice() {
        [a, b] if a == b && !a.is_empty() => {
            let (width, outer) = (a[a.len() - 1], &a[..a.len() - 1]);
            let mut shape = outer.to_vec();
            shape.push(1);
            Ok(Built::new(Dot { width }, &shape, mask.filter(|_| shape.len() > 1)))
        }
        _ => misfit(arguments.node, inputs, NEEDS),
    }
}

/// Inputs side by side.
#[derive(Debug)]
struct Concat {
    widths: Vec<usize>,
}

impl Concat {
    /// Where the k-th input begins in the last axis, and the length of that axis.
    fn place(&self, k: usize) -> (usize, usize) {
        (self.widths[..k].iter().sum(), self.widths.iter().sum())
    }
}

impl Layer for Concat {
    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        for (k, width) in self.widths.iter().enumerate() {
            let (first, all) = self.place(k);
            for (y, x) in y.chunks_exact_mut(all).zip(pass.x(k).chunks_exact(*width)) {
                y[first..first + width].copy_from_slice(x);
            }
        }
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        k: usize,
        dx: Option<&mut [f32]>,
        _: &mut [f32],
        _: &mut [f32],
    ) {
        let Some(dx) = dx else { return };
        let (first, all) = self.place(k);
        let width = self.widths[k];
        for (dx, dy) in dx.chunks_exact_mut(width).zip(pass.dy().chunks_exact(all)) {
            dx.copy_from_slice(&dy[first..first + width]);
        }
    }
}

/// The sum of inputs.
#[derive(Debug)]
struct Add;

impl Layer for Add {
    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        y.copy_from_slice(pass.x(0));
        for k in 1..pass.inputs.len() {
            crate::kernels::math::add(y, pass.x(k));
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
        if let Some(dx) = dx {
            dx.copy_from_slice(pass.dy());
        }
    }
}

/// A dot product over the last axis.
#[derive(Debug)]
struct Dot {
    width: usize,
}

impl Layer for Dot {
    fn multiply_adds(&self) -> u64 {
        self.width as u64
    }

    fn reads(&self) -> Reads {
        Reads::INPUT
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        let places = pass.x(0).chunks_exact(self.width).zip(pass.x(1).chunks_exact(self.width));
        vectorized(
            #[inline(always)]
            || {
                for (y, (a, b)) in y.iter_mut().zip(places) {
                    *y = dot(a, b);
                }
            },
        );
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        k: usize,
        dx: Option<&mut [f32]>,
        _: &mut [f32],
        _: &mut [f32],
    ) {
        let Some(dx) = dx else { return };
        let other = pass.x(1 - k.min(1)).chunks_exact(self.width);
        dx.fill(0.0);
        for ((dx, other), dy) in dx.chunks_exact_mut(self.width).zip(other).zip(pass.dy()) {
            axpy(*dy, other, dx);
        }
    }
}
