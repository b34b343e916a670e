//! What convolutions and poolings share: how windows lie over an image `[height, width, channels]`
//! or a sequence `[steps, channels]`, which is an image of one row.

use datafusion_common::{Result, plan_err};

use crate::network::definition::Arguments;
use crate::network::layer::{Incoming, misfit, only_numbers, shape_text};
use crate::network::mask::{Mask, Window};

/// Windows over an image.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    /// Height and width of the input.
    pub(super) size: [usize; 2],
    /// Height and width of the output.
    pub(super) output: [usize; 2],
    pub(super) channels: usize,
    /// Over rows, and over columns.
    pub(super) windows: [Window; 2],
    /// Whether it is a sequence.
    pub(super) is_sequence: bool,
    /// The mask of the output.
    pub(super) mask: Option<Mask>,
}

const NEEDS: &str = "an image [height, width, channels] or a sequence [steps, channels]";

/// A number for each axis: one is for both. Of a sequence, only one is taken.
fn pair(node: &str, name: &str, values: &[usize], axes: usize) -> Result<[usize; 2]> {
    match (values, axes) {
        ([one], 2) => Ok([*one, *one]),
        ([one], _) => Ok([1, *one]),
        ([first, second], 2) => Ok([*first, *second]),
        _ => plan_err!("{node} takes {axes} numbers as {name}, but {} are given", values.len()),
    }
}

impl Windows {
    /// Windows of a layer with the arguments `size`, `stride`, `padding` and `dilation`.
    pub(super) fn new(
        arguments: &Arguments<'_>,
        inputs: &[Incoming],
        size: &str,
        own_stride: bool,
    ) -> Result<Self> {
        let node = arguments.node;
        let (shape, mask) = only_numbers(node, inputs, NEEDS)?;
        let (dims, channels, is_sequence) = match *shape {
            [height, width, channels] => ([height, width], channels, false),
            [steps, channels] => ([1, steps], channels, true),
            [n] => {
                return misfit(
                    node,
                    inputs,
                    &format!(
                        "{NEEDS}; put reshape(height, width, channels) before it, {n} numbers in \
                         all, because it"
                    ),
                );
            }
            _ => return misfit(node, inputs, NEEDS),
        };
        let axes = if is_sequence { 1 } else { 2 };
        let kernel = pair(node, size, &arguments.integers(size), axes)?;
        let stride = match arguments.integers("stride") {
            none if none.is_empty() => {
                if own_stride {
                    kernel
                } else {
                    [1, 1]
                }
            }
            given => {
                let given = pair(node, "stride", &given, axes)?;
                if is_sequence { [1, given[1]] } else { given }
            }
        };
        let dilation = match arguments.integers("dilation") {
            none if none.is_empty() => [1, 1],
            given => pair(node, "dilation", &given, axes)?,
        };
        let padding = match arguments.word("padding") {
            "same" => [0, 1].map(|i| {
                let total = dilation[i] * (kernel[i] - 1);
                [total / 2, total - total / 2]
            }),
            _ => match arguments.integers("padding") {
                none if none.is_empty() => [[0, 0]; 2],
                given => {
                    let given = pair(node, "padding", &given, axes)?;
                    let given = if is_sequence { [0, given[1]] } else { given };
                    given.map(|n| [n, n])
                }
            },
        };
        let windows = [0, 1].map(|i| Window {
            kernel: kernel[i],
            stride: stride[i],
            padding: padding[i],
            dilation: dilation[i],
        });
        let output = [0, 1].map(|i| windows[i].outputs(dims[i]));
        if output.contains(&0) {
            return plan_err!(
                "{node} has windows of {} that do not fit into its input {}; take a smaller one, \
                 or padding => 'same'",
                if is_sequence { format!("{}", kernel[1]) } else { format!("{kernel:?}") },
                shape_text(shape)
            );
        }
        let mask = mask.map(|mask| mask.behind(windows[1]));
        Ok(Self { size: dims, output, channels, windows, is_sequence, mask })
    }

    /// The shape of an output with so many channels.
    pub(super) fn shape(&self, channels: usize) -> Vec<usize> {
        match self.is_sequence {
            true => vec![self.output[1], channels],
            false => vec![self.output[0], self.output[1], channels],
        }
    }

    /// Numbers of a window.
    pub(super) fn kernel(&self) -> usize {
        self.windows[0].kernel * self.windows[1].kernel
    }

    /// Pixels of the input.
    pub(super) fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Pixels of the output.
    pub(super) fn outputs(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The input pixel under a place of the kernel, for an output pixel; None in the padding, and
    /// in columns from `width` on.
    #[inline(always)]
    pub(super) fn pixel(&self, output: [usize; 2], at: [usize; 2], width: usize) -> Option<usize> {
        let y = self.along(0, output[0], at[0])?;
        let x = self.along(1, output[1], at[1])?;
        (y < self.size[0] && x < width).then(|| y * self.size[1] + x)
    }

    /// The position along an axis; None before the first.
    #[inline(always)]
    pub(super) fn along(&self, axis: usize, output: usize, at: usize) -> Option<usize> {
        let window = &self.windows[axis];
        (output * window.stride + at * window.dilation).checked_sub(window.padding[0])
    }
}
