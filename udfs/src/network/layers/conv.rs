//! Convolution of an image `[h, w, c]` or a sequence `[steps, c]`, PyTorch's `Conv2d` and `Conv1d`
//! with channels last: `y[p, f] = sum over k, c of x[p + k, c] W[k, c, f] + b[f]`.
//!
//! The windows of some pixels are copied into a panel `[pixels, kernel c]` that stays in the cache
//! (im2col, Chellapilla et al. 2006), and the rest is a product. Backward goes the same way: the
//! weight's gradient is the panel transposed times `dy`; `dx` is, where the stride is 1, the
//! convolution of `dy` with the weight flipped, otherwise `dy W^T` added to the pixels of each
//! window.
//!
//! `W[kernel.., c / groups, f]`; with groups, the filters of a group read its channels alone; as
//! many groups as channels make a depthwise convolution. Begins as PyTorch's: uniform in `[-b, b]`
//! with `b = 1 / sqrt(kernel c / groups)`.
//!
//! `padding => 'same'` puts `dilation (kernel - 1)` zeros around, the odd one behind, so that with
//! a stride of `s` there are `ceil(n / s)` outputs. In a sequence with a length, steps beyond it
//! are 0.

use datafusion_common::{Result, plan_err};

use super::depthwise;
use super::patches::{gather, scatter};
use super::window::Windows;
use crate::learner::Role;
use crate::network::definition::{Arguments, Default, Definition, Kind, given, required};
use crate::network::layer::{Built, Incoming, Initial, Layer, Parameter, Pass, Reads};
use crate::network::product::{
    Matrix, MatrixMut, Write, add_bias, add_column_sums, product, product_by_transposed,
    product_of_transposed,
};

const MOST: usize = 1 << 16;

pub(crate) const CONV: Definition = Definition {
    name: "conv",
    doc: "a convolution of an image [height, width, channels] or a sequence [steps, channels]",
    arguments: &[
        required("filters", Kind::Integer(1, MOST), "channels of its output"),
        required("kernel", Kind::Integers(1, MOST), "size of the window, [height, width] or one"),
        given("stride", Kind::Integers(1, MOST), Default::Number(1.0), "pixels between windows"),
        given(
            "padding",
            Kind::WordOrIntegers(&["valid", "same"], 0, MOST),
            Default::Word("valid"),
            "zeros around the input",
        ),
        given(
            "dilation",
            Kind::Integers(1, MOST),
            Default::Number(1.0),
            "pixels between the numbers of a window",
        ),
        given(
            "groups",
            Kind::Integer(1, MOST),
            Default::Number(1.0),
            "parts of the channels that are convolved each for itself",
        ),
        given("bias", Kind::Flag, Default::Flag(true), "whether a bias is added"),
    ],
    build: Some(build),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    let windows = Windows::new(arguments, inputs, "kernel", false)?;
    let (filters, groups) = (arguments.integer("filters"), arguments.integer("groups").max(1));
    if windows.channels % groups != 0 || filters % groups != 0 {
        return plan_err!(
            "{} has {groups} groups, which should divide its {} channels and its {filters} filters",
            arguments.node,
            windows.channels
        );
    }
    let shape = windows.shape(filters);
    let mask = windows.mask.clone();
    let conv = Conv { windows, filters, groups, bias: arguments.flag("bias") };
    Ok(Built::new(conv, &shape, mask))
}

/// A convolution.
#[derive(Debug)]
struct Conv {
    windows: Windows,
    filters: usize,
    groups: usize,
    bias: bool,
}

/// Numbers of a panel: 256 KB, half of a second-level cache.
const PANEL: usize = 1 << 16;

impl Conv {
    /// Channels of a group.
    fn group_channels(&self) -> usize {
        self.windows.channels / self.groups
    }

    /// Numbers of a window in a group.
    fn depth(&self) -> usize {
        self.windows.kernel() * self.group_channels()
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.windows.channels && self.filters == self.groups
    }

    /// A kernel of 1 by 1 without stride and padding: pixels are rows of a product.
    fn is_pointwise(&self) -> bool {
        let is_one = |w: &crate::network::mask::Window| {
            w.kernel == 1 && w.stride == 1 && w.padding == [0, 0]
        };
        self.groups == 1 && self.windows.windows.iter().all(is_one)
    }

    /// Whether `dx` is the convolution of `dy` with the flipped weight.
    fn is_flippable(&self) -> bool {
        let fits = |w: &crate::network::mask::Window| {
            w.stride == 1 && w.padding.iter().all(|p| *p <= w.dilation * (w.kernel - 1))
        };
        self.groups == 1 && self.windows.windows.iter().all(fits)
    }

    /// The windows that gather `dy` for `dx`.
    fn flipped(&self) -> Windows {
        let mut windows = self.windows.clone();
        windows.size = self.windows.output;
        windows.output = self.windows.size;
        windows.channels = self.filters;
        for window in &mut windows.windows {
            let reach = window.dilation * (window.kernel - 1);
            window.padding = window.padding.map(|p| reach.saturating_sub(p));
        }
        windows
    }

    /// Pixels of a panel.
    fn chunk(depth: usize) -> usize {
        (PANEL / depth.max(1)).max(16)
    }

    fn weight<'a>(&self, parameters: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        parameters.split_at(self.depth() * self.filters)
    }

    /// The columns of the weight that belong to a group.
    fn group_weight<'a>(&self, weight: &'a [f32], group: usize) -> Matrix<'a> {
        let own = self.filters / self.groups;
        Matrix::strided(&weight[group * own..], self.depth(), own, self.filters)
    }

    /// The width that is valid.
    fn width(&self, pass: &Pass<'_>, row: usize) -> usize {
        pass.length(row, self.windows.size[1])
    }
}

impl Layer for Conv {
    fn parameters(&self) -> Vec<Parameter> {
        let [y, x] = [self.windows.windows[0].kernel, self.windows.windows[1].kernel];
        let (c, f) = (self.group_channels(), self.filters);
        let shape = if self.windows.is_sequence { vec![x, c, f] } else { vec![y, x, c, f] };
        let initial = Initial::Uniform(1.0 / (self.depth() as f32).sqrt());
        let mut all = vec![Parameter::new("weight", &shape, Role::Weight, initial)];
        if self.bias {
            all.push(Parameter::new("bias", &[f], Role::Bias, initial));
        }
        all
    }

    fn multiply_adds(&self) -> u64 {
        let pixels = self.windows.outputs() as u64;
        pixels.saturating_mul(self.depth() as u64).saturating_mul(self.filters as u64)
    }

    fn scratch(&self, _: usize) -> usize {
        if self.is_pointwise() || self.is_depthwise() {
            return 0;
        }
        let panel = |depth: usize, pixels: usize| Self::chunk(depth).min(pixels) * depth;
        let own = panel(self.depth(), self.windows.outputs());
        let flipped = self.windows.kernel() * self.filters;
        match self.is_flippable() {
            true => {
                let weight = self.depth() * self.filters;
                own.max(panel(flipped, self.windows.pixels()) + weight)
            }
            false => 2 * own,
        }
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], scratch: &mut [f32]) {
        let (weight, bias) = self.weight(pass.parameters);
        let (f, d, pixels) = (self.filters, self.depth(), self.windows.outputs());
        let of_image = self.windows.pixels() * self.windows.channels;
        if self.is_pointwise() && pass.lengths.is_none() {
            let n = pass.rows * pixels;
            let x = Matrix::new(pass.x(0), n, d);
            product(Write::Replace, MatrixMut::new(y, n, f), x, Matrix::new(weight, d, f));
            return add_bias(y, bias);
        }
        let images = pass.x(0).chunks_exact(of_image).zip(y.chunks_exact_mut(pixels * f));
        let chunk = Self::chunk(d);
        for (row, (x, y)) in images.enumerate() {
            let width = self.width(pass, row);
            if self.is_depthwise() {
                y.fill(0.0);
                depthwise::forward(&self.windows, x, weight, width, y);
                add_bias(y, bias);
                continue;
            }
            for (i, y) in y.chunks_mut(chunk * f).enumerate() {
                let n = y.len() / f;
                let range = (i * chunk, i * chunk + n);
                let c = self.group_channels();
                for group in 0..self.groups {
                    let panel = self.panel(x, (group * c, c), range, width, scratch);
                    let own = f / self.groups;
                    let to = MatrixMut::strided(&mut y[group * own..], n, own, f);
                    let weight = self.group_weight(weight, group);
                    product(Write::Replace, to, panel, weight);
                }
                add_bias(y, bias);
            }
        }
    }

    fn reads(&self) -> Reads {
        Reads::INPUT
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        mut dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (weight, _) = self.weight(pass.parameters);
        let (f, d, pixels) = (self.filters, self.depth(), self.windows.outputs());
        let (of_weight, of_bias) = gradient.split_at_mut(d * f);
        add_column_sums(of_bias, pass.dy());
        if self.is_pointwise() && pass.lengths.is_none() {
            let n = pass.rows * pixels;
            let (x, dy) = (Matrix::new(pass.x(0), n, d), Matrix::new(pass.dy(), n, f));
            product_of_transposed(Write::Add, MatrixMut::new(of_weight, d, f), x, dy);
            if let Some(dx) = dx {
                let weight = Matrix::new(weight, d, f);
                product_by_transposed(Write::Replace, MatrixMut::new(dx, n, d), dy, weight);
            }
            return;
        }
        let of_image = self.windows.pixels() * self.windows.channels;
        let images = pass.x(0).chunks_exact(of_image).zip(pass.dy().chunks_exact(pixels * f));
        for (row, (x, dy)) in images.enumerate() {
            let width = self.width(pass, row);
            let dx = dx.as_deref_mut().map(|dx| &mut dx[row * of_image..(row + 1) * of_image]);
            if self.is_depthwise() {
                depthwise::backward(&self.windows, (x, dy), weight, width, dx, of_weight);
                continue;
            }
            self.image_backward((x, dy), weight, width, dx, of_weight, scratch);
        }
        if let (Some(dx), true) = (dx, self.is_flippable() && !self.is_depthwise()) {
            self.flipped_backward(pass, weight, dx, scratch);
        }
    }
}

impl Conv {
    /// The panel of some output pixels: the image itself for a kernel of 1 by 1.
    fn panel<'a>(
        &self,
        x: &'a [f32],
        channels: (usize, usize),
        range: (usize, usize),
        width: usize,
        scratch: &'a mut [f32],
    ) -> Matrix<'a> {
        let (n, d) = (range.1 - range.0, self.depth());
        let panel = &mut scratch[..n * d];
        gather(&self.windows, x, channels, range, width, panel);
        Matrix::new(panel, n, d)
    }

    /// The weight's gradient of one image, and `dx` where it is no convolution.
    fn image_backward(
        &self,
        (x, dy): (&[f32], &[f32]),
        weight: &[f32],
        width: usize,
        mut dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (f, d, c) = (self.filters, self.depth(), self.group_channels());
        let (own, chunk) = (f / self.groups, Self::chunk(d));
        if let (Some(dx), false) = (&mut dx, self.is_flippable()) {
            dx.fill(0.0);
        }
        for (i, dy) in dy.chunks(chunk * f).enumerate() {
            let n = dy.len() / f;
            let range = (i * chunk, i * chunk + n);
            for group in 0..self.groups {
                let channels = (group * c, c);
                let dy = Matrix::strided(&dy[group * own..], n, own, f);
                let panel = self.panel(x, channels, range, width, scratch);
                let to = MatrixMut::strided(&mut gradient[group * own..], d, own, f);
                product_of_transposed(Write::Add, to, panel, dy);
                if let (Some(dx), false) = (&mut dx, self.is_flippable()) {
                    let panel = &mut scratch[..n * d];
                    let weight = self.group_weight(weight, group);
                    let to = MatrixMut::new(panel, n, d);
                    product_by_transposed(Write::Replace, to, dy, weight);
                    scatter(&self.windows, dx, channels, range, width, panel);
                }
            }
        }
    }

    /// `dx` as the convolution of `dy` with the flipped weight.
    fn flipped_backward(
        &self,
        pass: &Pass<'_>,
        weight: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
    ) {
        let windows = self.flipped();
        let (f, c, kernel) = (self.filters, self.windows.channels, self.windows.kernel());
        let (flipped, scratch) = scratch.split_at_mut(self.depth() * f);
        for (k, to) in flipped.chunks_exact_mut(f * c).enumerate() {
            let from = &weight[(kernel - 1 - k) * c * f..][..c * f];
            for (filter, to) in to.chunks_exact_mut(c).enumerate() {
                for (channel, to) in to.iter_mut().enumerate() {
                    *to = from[channel * f + filter];
                }
            }
        }
        let (d, chunk) = (kernel * f, Self::chunk(kernel * f));
        let flipped = Matrix::new(flipped, d, c);
        let of_image = windows.outputs() * c;
        let images =
            pass.dy().chunks_exact(windows.pixels() * f).zip(dx.chunks_exact_mut(of_image));
        for (row, (dy, dx)) in images.enumerate() {
            for (i, dx) in dx.chunks_mut(chunk * c).enumerate() {
                let n = dx.len() / c;
                let panel = &mut scratch[..n * d];
                let range = (i * chunk, i * chunk + n);
                gather(&windows, dy, (0, f), range, windows.size[1], panel);
                let panel = Matrix::new(panel, n, d);
                product(Write::Replace, MatrixMut::new(dx, n, c), panel, flipped);
            }
            let width = self.width(pass, row);
            if width < self.windows.size[1] {
                dx[width * c..].fill(0.0);
            }
        }
    }
}
