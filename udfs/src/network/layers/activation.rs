//! Activation functions, value by value: `y = f(x)`, `dx = f'(x) dy`, both in place.

use datafusion_common::Result;

use crate::kernels::math::{erf, exp, sigmoid, tanh, vectorized};
use crate::network::definition::{Arguments, Default, Definition, Kind, given};
use crate::network::layer::{Built, Incoming, Layer, Pass, Reads, only_numbers};

const fn define(name: &'static str, doc: &'static str, build: super::Build) -> Definition {
    Definition { name, doc, arguments: &[], build: Some(build) }
}

pub(crate) const RELU: Definition =
    define("relu", "max(0, x)", |arguments, inputs| build(arguments, inputs, Function::Relu));

pub(crate) const LEAKY_RELU: Definition = Definition {
    name: "leaky_relu",
    doc: "x where positive, slope x elsewhere",
    arguments: &[given(
        "slope",
        Kind::Number(0.0, 1.0),
        Default::Number(0.01),
        "factor of negative numbers",
    )],
    build: Some(|arguments, inputs| {
        build(arguments, inputs, Function::LeakyRelu(arguments.number("slope")))
    }),
};

pub(crate) const GELU: Definition = define(
    "gelu",
    "x times the normal distribution function of x, with erf",
    |arguments, inputs| build(arguments, inputs, Function::Gelu),
);

pub(crate) const SILU: Definition = define("silu", "x times sigmoid of x", |arguments, inputs| {
    build(arguments, inputs, Function::Silu)
});

pub(crate) const TANH: Definition = define("tanh", "hyperbolic tangent", |arguments, inputs| {
    build(arguments, inputs, Function::Tanh)
});

pub(crate) const SIGMOID: Definition =
    define("sigmoid", "1 / (1 + exp(-x))", |arguments, inputs| {
        build(arguments, inputs, Function::Sigmoid)
    });

pub(crate) const ELU: Definition = Definition {
    name: "elu",
    doc: "x where positive, alpha (exp(x) - 1) elsewhere",
    arguments: &[given(
        "alpha",
        Kind::Number(0.0, 1e6),
        Default::Number(1.0),
        "the limit of negative numbers is -alpha",
    )],
    build: Some(|arguments, inputs| {
        build(arguments, inputs, Function::Elu(arguments.number("alpha")))
    }),
};

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Relu,
    LeakyRelu(f32),
    Gelu,
    Silu,
    Tanh,
    Sigmoid,
    Elu(f32),
}

fn build(arguments: &Arguments<'_>, inputs: &[Incoming], f: Function) -> Result<Built> {
    let (shape, mask) = only_numbers(arguments.node, inputs, "numbers")?;
    Ok(Built::new(f, shape, mask.cloned()))
}

/// `1 / sqrt(2 pi)`
const INV_SQRT_2PI: f32 = 0.398_942_3;

#[inline(always)]
fn normal(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn map(values: &mut [f32], f: impl Fn(f32) -> f32) {
    vectorized(
        #[inline(always)]
        || {
            for value in values {
                *value = f(*value);
            }
        },
    );
}

#[inline(always)]
fn scale(d: &mut [f32], of: &[f32], f: impl Fn(f32) -> f32) {
    vectorized(
        #[inline(always)]
        || {
            for (d, x) in d.iter_mut().zip(of) {
                *d *= f(*x);
            }
        },
    );
}

impl Layer for Function {
    fn is_in_place(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        match self {
            Function::Gelu | Function::Silu => Reads::INPUT,
            // (The sign of the output is that of the input: with a slope of 0 and alpha of 0, the
            // output 0 stands for what is not positive.)
            _ => Reads::OUTPUT,
        }
    }

    #[allow(clippy::redundant_closure, reason = "a closure is inlined, a function's name is not")]
    fn forward(&self, _: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        match *self {
            // (Not `max`, which would turn NaN into 0 and hide a training that has diverged.)
            Function::Relu => map(
                y,
                #[inline(always)]
                |x| if x <= 0.0 { 0.0 } else { x },
            ),
            Function::LeakyRelu(slope) => map(
                y,
                #[inline(always)]
                |x| if x > 0.0 { x } else { slope * x },
            ),
            Function::Gelu => map(
                y,
                #[inline(always)]
                |x| x * normal(x),
            ),
            Function::Silu => map(
                y,
                #[inline(always)]
                |x| x * sigmoid(x),
            ),
            Function::Tanh => map(
                y,
                #[inline(always)]
                |x| tanh(x),
            ),
            Function::Sigmoid => map(
                y,
                #[inline(always)]
                |x| sigmoid(x),
            ),
            Function::Elu(alpha) => map(
                y,
                #[inline(always)]
                |x| if x > 0.0 { x } else { alpha * (exp(x) - 1.0) },
            ),
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
        let Some(d) = dx else { return };
        match *self {
            // The derivative at 0 is 0, as PyTorch's.
            Function::Relu => scale(
                d,
                pass.y(),
                #[inline(always)]
                |y| if y > 0.0 { 1.0 } else { 0.0 },
            ),
            Function::LeakyRelu(slope) => scale(
                d,
                pass.y(),
                #[inline(always)]
                |y| if y > 0.0 { 1.0 } else { slope },
            ),
            Function::Gelu => scale(
                d,
                pass.x(0),
                #[inline(always)]
                |x| normal(x) + x * INV_SQRT_2PI * exp(-0.5 * x * x),
            ),
            Function::Silu => scale(
                d,
                pass.x(0),
                #[inline(always)]
                |x| {
                    let s = sigmoid(x);
                    s * (1.0 + x * (1.0 - s))
                },
            ),
            Function::Tanh => scale(
                d,
                pass.y(),
                #[inline(always)]
                |y| 1.0 - y * y,
            ),
            Function::Sigmoid => scale(
                d,
                pass.y(),
                #[inline(always)]
                |y| y * (1.0 - y),
            ),
            Function::Elu(alpha) => scale(
                d,
                pass.y(),
                #[inline(always)]
                |y| if y > 0.0 { 1.0 } else { y + alpha },
            ),
        }
    }
}
