//! The contract of a layer: what it reads, what it keeps, forward and backward.
//!
//! A layer is made for the shapes of its inputs and for no number of rows: the executor hands it
//! blocks of rows. Every value is `[rows, shape...]`, row-major; `rows` is the first letter of
//! every shape in the layers' documentation and left out there.
//!
//! ```text
//! forward    x_0, x_1, ..., parameters ─► y, kept
//! backward   dy, (x), (y), kept, parameters ─► dx_k, and gradient += ...
//! ```
//! A layer adds its blocks' gradients to `gradient` in the order of the blocks, and each number of
//! it in the order of the rows, so that sums have one order.

use std::fmt::Debug;

use datafusion_common::Result;

use super::mask::Mask;
use crate::batch::MiniBatch;
use crate::kernels::rng;
use crate::learner::Role;

/// What an input or a node gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Numbers of a shape.
    Numbers(Vec<usize>),
    /// Token ids: `steps` of them, below `vocabulary`, from the position `offset` of a row's codes.
    Tokens {
        /// Position of the first in the codes of a row.
        offset: usize,
        /// How many.
        steps: usize,
        /// Ids are below it.
        vocabulary: usize,
    },
    /// Category columns.
    Categories(Vec<CategoryColumn>),
}

/// One column of categories: where its code stands, and which codes are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CategoryColumn {
    /// Position in the codes of a row.
    pub offset: usize,
    /// Its first global code.
    pub first: usize,
    /// Its number of categories.
    pub size: usize,
}

/// What a layer reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Its content.
    pub content: Content,
    /// Which steps are valid, of a sequence with a length.
    pub mask: Option<Mask>,
}

impl Incoming {
    /// The shape: that of numbers, `[steps]` of tokens, `[columns]` of categories.
    pub fn shape(&self) -> Vec<usize> {
        match &self.content {
            Content::Numbers(shape) => shape.clone(),
            Content::Tokens { steps, .. } => vec![*steps],
            Content::Categories(columns) => vec![columns.len()],
        }
    }

    /// What it is, in words for errors.
    pub fn text(&self) -> String {
        match &self.content {
            Content::Numbers(shape) => shape_text(shape),
            Content::Tokens { steps, .. } => format!("{steps} tokens"),
            Content::Categories(columns) => format!("{} columns of categories", columns.len()),
        }
    }
}

/// A shape for people: `[28, 28, 1]`.
pub fn shape_text(shape: &[usize]) -> String {
    format!("{shape:?}")
}

/// How a tensor begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Initial {
    /// The same number everywhere.
    Constant(f32),
    /// Uniform in `[-b, b]`.
    Uniform(f32),
    /// Normal with mean 0 and this deviation.
    Normal(f32),
}

/// A tensor of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    /// As PyTorch calls it.
    pub(crate) name: &'static str,
    /// Which part of the layer it belongs to, where it has several of that name.
    pub(crate) part: Option<usize>,
    pub(crate) shape: Vec<usize>,
    pub(crate) role: Role,
    pub(crate) initial: Initial,
    /// A table of which a mini-batch reads few rows: see [`Layer::scatter`]. Tables come last.
    pub(crate) is_table: bool,
}

impl Parameter {
    pub(crate) fn new(name: &'static str, shape: &[usize], role: Role, initial: Initial) -> Self {
        Self { name, part: None, shape: shape.to_vec(), role, initial, is_table: false }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A layer made for its inputs, and what it gives.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) layer: Box<dyn Layer>,
    pub(crate) shape: Vec<usize>,
    pub(crate) mask: Option<Mask>,
}

impl Built {
    pub(crate) fn new(layer: impl Layer + 'static, shape: &[usize], mask: Option<Mask>) -> Self {
        Self { layer: Box::new(layer), shape: shape.to_vec(), mask }
    }
}

/// Random draws of one node in one step: a function of seed, step, node and position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    pub(crate) seed: u64,
    pub(crate) stream: u64,
}

impl Draws {
    /// 64 random bits for a position.
    #[inline(always)]
    pub(crate) fn bits(&self, position: u64) -> u64 {
        rng::mix(self.seed, self.stream, position)
    }

    /// A number in `[0, 1)` for a position.
    #[inline(always)]
    pub(crate) fn unit(&self, position: u64) -> f32 {
        rng::unit(self.bits(position))
    }
}

/// The value of an input or node for a block of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// In which buffer.
    pub(crate) slot: usize,
    /// Numbers of a row in that buffer.
    pub(crate) stride: usize,
    /// Numbers of a row.
    pub(crate) len: usize,
}

/// Everything a layer reads of a block of rows.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    /// Number of rows (`r`).
    pub(crate) rows: usize,
    /// Position of the first row in its mini-batch, for random draws.
    pub(crate) position: usize,
    /// The parameters of the node.
    pub(crate) parameters: &'a [f32],
    /// In training, the random draws.
    pub(crate) draws: Option<Draws>,
    /// The encoded rows.
    pub(crate) batch: &'a MiniBatch<'a>,
    /// Valid steps of each row, `[r]`, where the (first) input has a mask.
    pub(crate) lengths: Option<&'a [u32]>,
    /// Sums over the mini-batch, of layers that have some.
    pub(crate) sums: &'a [f64],
    pub(crate) slots: &'a [Vec<f32>],
    pub(crate) inputs: &'a [Source],
    /// Where the block begins in buffers that hold all rows of a shard.
    pub(crate) start: usize,
    /// Backward: the output, where the layer reads it.
    pub(crate) y: Option<Source>,
    /// Backward: what forward kept.
    pub(crate) kept: Option<Source>,
    /// Backward: the gradient by the output. Not of layers in place, whose `dx` begins with it.
    pub(crate) dy: Option<Source>,
}

impl<'a> Pass<'a> {
    pub(crate) fn slice(&self, source: Source) -> &'a [f32] {
        let start = self.start * source.stride;
        self.slots[source.slot].get(start..start + self.rows * source.len).unwrap_or_default()
    }

    /// The k-th input, `[r, shape...]`; empty of tokens and categories.
    pub(crate) fn x(&self, k: usize) -> &'a [f32] {
        self.inputs.get(k).map_or(&[], |source| self.slice(*source))
    }

    /// Numbers of a row of the k-th input.
    pub(crate) fn len(&self, k: usize) -> usize {
        self.inputs.get(k).map_or(0, |source| source.len)
    }

    /// The output, in backward.
    pub(crate) fn y(&self) -> &'a [f32] {
        self.y.map_or(&[], |source| self.slice(source))
    }

    /// What forward kept, in backward.
    pub(crate) fn kept(&self) -> &'a [f32] {
        self.kept.map_or(&[], |source| self.slice(source))
    }

    /// The gradient by the output, in backward.
    pub(crate) fn dy(&self) -> &'a [f32] {
        self.dy.map_or(&[], |source| self.slice(source))
    }

    /// Valid steps of a row.
    #[inline(always)]
    pub(crate) fn length(&self, row: usize, steps: usize) -> usize {
        self.lengths.map_or(steps, |lengths| (lengths[row] as usize).min(steps))
    }

    /// The codes of a row.
    #[inline(always)]
    pub(crate) fn codes(&self, row: usize) -> &'a [u32] {
        let n = self.batch.codes.len() / self.batch.rows.max(1);
        self.batch.codes.get(row * n..(row + 1) * n).unwrap_or_default()
    }
}

/// What backward of a layer reads beside `dy` and what forward kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    /// Its inputs.
    pub(crate) input: bool,
    /// Its output.
    pub(crate) output: bool,
}

impl Reads {
    pub(crate) const NOTHING: Reads = Reads { input: false, output: false };
    pub(crate) const INPUT: Reads = Reads { input: true, output: false };
    pub(crate) const OUTPUT: Reads = Reads { input: false, output: true };
}

/// A layer, made for the shapes of its inputs.
pub(crate) trait Layer: Debug + Send + Sync {
    /// Its tensors, in the order of the flat buffer; tables last.
    fn parameters(&self) -> Vec<Parameter> {
        vec![]
    }

    /// Multiplications with an addition each, of one row forward.
    fn multiply_adds(&self) -> u64 {
        0
    }

    /// Numbers a row that forward keeps for backward.
    fn kept(&self) -> usize {
        0
    }

    /// Numbers of working memory for a block of so many rows.
    fn scratch(&self, rows: usize) -> usize {
        let _ = rows;
        0
    }

    /// What backward reads.
    fn reads(&self) -> Reads {
        Reads::INPUT
    }

    /// Whether it works in place: `y` holds `x` and `dx` holds `dy` when it is called. Then the two
    /// have one shape, and there is one input.
    fn is_in_place(&self) -> bool {
        false
    }

    /// Whether it does nothing outside of training, so that the executor leaves it out.
    fn is_training_only(&self) -> bool {
        false
    }

    /// Overwrites `y` `[r, shape...]` and `kept` `[r * kept()]`.
    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], kept: &mut [f32], scratch: &mut [f32]);

    /// Overwrites `dx`, the gradient by the k-th input, if it is asked for. Adds the gradient by
    /// the parameters (without tables) to `gradient` when `k` is 0. Called for 0 first, then for
    /// each other input that has a gradient.
    fn backward(
        &self,
        pass: &Pass<'_>,
        k: usize,
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        scratch: &mut [f32],
    );

    /// Number of sums over all rows of a mini-batch that training needs, forward and backward.
    fn sums(&self) -> usize {
        0
    }

    /// Adds a block's part of the sums: `forward` before the forward pass of the layer, otherwise
    /// before its backward pass.
    fn add_sums(&self, pass: &Pass<'_>, forward: bool, sums: &mut [f64]) {
        let _ = (pass, forward, sums);
    }

    /// Updates running statistics in the node's parameters by the forward sums of a mini-batch.
    fn update(&self, sums: &[f64], parameters: &mut [f32]) {
        let _ = (sums, parameters);
    }

    /// Adds a block's gradient by the rows `first..` of a table to `part`, as many rows as it has.
    fn scatter(&self, pass: &Pass<'_>, table: usize, first: usize, part: &mut [f32]) {
        let _ = (pass, table, first, part);
    }
}

/// An error about the input of a node, in one sentence.
pub(crate) fn misfit<T>(node: &str, inputs: &[Incoming], needs: &str) -> Result<T> {
    let texts: Vec<_> = inputs.iter().map(Incoming::text).collect();
    datafusion_common::plan_err!("{node} takes {needs}, but its input is {}", texts.join(" and "))
}

/// The shape of the only input, which must be numbers.
pub(crate) fn only_numbers<'a>(
    node: &str,
    inputs: &'a [Incoming],
    needs: &str,
) -> Result<(&'a [usize], Option<&'a Mask>)> {
    match inputs {
        [Incoming { content: Content::Numbers(shape), mask }] => Ok((shape, mask.as_ref())),
        _ => misfit(node, inputs, needs),
    }
}
