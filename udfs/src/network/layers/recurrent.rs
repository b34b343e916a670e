//! Recurrent layers over a sequence `[t, i]`: PyTorch's `LSTM` and `GRU` of one layer, in one or
//! both directions. `h` units; `states => 'last'` gives `[h]` (`[2 h]` in both directions, the
//! second half after the first step), `'all'` gives `[t, h]`.
//!
//! The products of all steps with the input's weight are one product; then one product a step for
//! all gates. Values are kept by step, `[t, rows, ...]`. Beyond the last valid step of a row the
//! state stays: so the last state is that after the last valid step, and the other direction begins
//! there. Without valid steps it is 0.
//!
//! Weights begin as PyTorch's: uniform in `[-b, b]` with `b = 1 / sqrt(h)`.

use std::ops::Range;

use datafusion_common::Result;

use super::gates::Cell;
use crate::learner::Role;
use crate::network::definition::{Argument, Arguments, Default, Definition, Kind, given, required};
use crate::network::layer::{
    Built, Incoming, Initial, Layer, Parameter, Pass, Reads, misfit, only_numbers,
};
use crate::network::product::{
    Matrix, MatrixMut, Write, add_bias, add_column_sums, product, product_by_transposed,
    product_of_transposed,
};

const ARGUMENTS: &[Argument] = &[
    required("units", Kind::Integer(1, 1 << 14), "numbers of the state"),
    given("bidirectional", Kind::Flag, Default::Flag(false), "whether it runs both ways"),
    given(
        "states",
        Kind::Word(&["last", "all"]),
        Default::Word("last"),
        "the last state, or the states of all steps",
    ),
];

pub(crate) const LSTM: Definition = Definition {
    name: "lstm",
    doc: "long short-term memory over a sequence (Hochreiter and Schmidhuber 1997)",
    arguments: ARGUMENTS,
    build: Some(|arguments, inputs| build(arguments, inputs, Cell::Lstm)),
};

pub(crate) const GRU: Definition = Definition {
    name: "gru",
    doc: "gated recurrent units over a sequence (Cho et al. 2014)",
    arguments: ARGUMENTS,
    build: Some(|arguments, inputs| build(arguments, inputs, Cell::Gru)),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming], cell: Cell) -> Result<Built> {
    const NEEDS: &str = "a sequence [steps, channels]";
    let (shape, mask) = only_numbers(arguments.node, inputs, NEEDS)?;
    let [steps, channels] = *shape else { return misfit(arguments.node, inputs, NEEDS) };
    let own = Recurrent {
        cell,
        steps,
        channels,
        units: arguments.integer("units"),
        directions: if arguments.flag("bidirectional") { 2 } else { 1 },
        all: arguments.word("states") == "all",
    };
    let width = own.width();
    match own.all {
        true => Ok(Built::new(own, &[steps, width], mask.cloned())),
        false => Ok(Built::new(own, &[width], None)),
    }
}

/// A recurrent layer.
#[derive(Debug)]
struct Recurrent {
    cell: Cell,
    steps: usize,
    channels: usize,
    units: usize,
    directions: usize,
    all: bool,
}

/// The tensors of a direction, or their gradients.
struct Tensors<'a> {
    input: &'a [f32],
    state: &'a [f32],
    input_bias: &'a [f32],
    state_bias: &'a [f32],
}

impl Recurrent {
    /// Numbers of a step of the output.
    fn width(&self) -> usize {
        self.directions * self.units
    }

    /// Numbers of all gates.
    fn gates(&self) -> usize {
        self.cell.gates() * self.units
    }

    /// Ranges of the tensors of a direction.
    fn ranges(&self, direction: usize) -> [Range<usize>; 4] {
        let (g, mut start) = (self.gates(), direction * self.tensors());
        [self.channels * g, self.units * g, g, g].map(|n| {
            let range = start..start + n;
            start = range.end;
            range
        })
    }

    /// Numbers of the tensors of a direction.
    fn tensors(&self) -> usize {
        self.gates() * (self.channels + self.units + 2)
    }

    fn of<'a>(&self, parameters: &'a [f32], direction: usize) -> Tensors<'a> {
        let [input, state, input_bias, state_bias] = self.ranges(direction);
        Tensors {
            input: &parameters[input],
            state: &parameters[state],
            input_bias: &parameters[input_bias],
            state_bias: &parameters[state_bias],
        }
    }

    /// Numbers a row that a direction keeps: gates, an own value of the cell, states.
    fn kept_of(&self) -> usize {
        self.steps * (self.gates() + 2 * self.units)
    }

    /// Splits what a direction keeps of `r` rows.
    fn split<'a>(&self, kept: &'a [f32], r: usize) -> [&'a [f32]; 3] {
        let (gates, rest) = kept.split_at(self.steps * r * self.gates());
        let (cells, states) = rest.split_at(self.steps * r * self.units);
        [gates, cells, states]
    }

    /// The step that comes `i`-th in a direction, and the one before it.
    fn order(&self, direction: usize, i: usize) -> (usize, Option<usize>) {
        match direction {
            0 => (i, i.checked_sub(1)),
            _ => (self.steps - 1 - i, (i > 0).then(|| self.steps - i)),
        }
    }

    /// Copies the input by step: `[t, r, i]`.
    fn by_step(&self, x: &[f32], r: usize, to: &mut [f32]) {
        let n = self.channels;
        for (row, x) in x.chunks_exact(self.steps * n).enumerate() {
            for (t, x) in x.chunks_exact(n).enumerate() {
                to[(t * r + row) * n..][..n].copy_from_slice(x);
            }
        }
    }

    fn run(&self, pass: &Pass<'_>, direction: usize, kept: &mut [f32], scratch: &mut [f32]) {
        let (r, h, g) = (pass.rows, self.units, self.gates());
        let own = self.of(pass.parameters, direction);
        let (x, products) = scratch.split_at_mut(self.steps * r * self.channels);
        let products = &mut products[..r * g];
        let (gates, rest) = kept.split_at_mut(self.steps * r * g);
        let (cells, states) = rest.split_at_mut(self.steps * r * h);
        let n = self.steps * r;
        let weight = Matrix::new(own.input, self.channels, g);
        let to = MatrixMut::new(gates, n, g);
        product(Write::Replace, to, Matrix::new(x, n, self.channels), weight);
        add_bias(gates, own.input_bias);
        for i in 0..self.steps {
            let (t, before) = self.order(direction, i);
            let at = t * r * h;
            let (previous, state) = around(states, before.map(|t| t * r * h), at, r * h);
            let (previous_cell, cell) = around(cells, before.map(|t| t * r * h), at, r * h);
            products.fill(0.0);
            if let Some(previous) = previous {
                let weight = Matrix::new(own.state, h, g);
                let to = MatrixMut::new(products, r, g);
                product(Write::Replace, to, Matrix::new(previous, r, h), weight);
            }
            add_bias(products, own.state_bias);
            for row in 0..r {
                let range = row * h..(row + 1) * h;
                let previous = previous.map(|previous| &previous[range.clone()]);
                let previous_cell = previous_cell.map(|cell| &cell[range.clone()]);
                let (state, cell) = (&mut state[range.clone()], &mut cell[range]);
                if t < pass.length(row, self.steps) {
                    let gates = &mut gates[(t * r + row) * g..][..g];
                    let products = &products[row * g..(row + 1) * g];
                    let before = (previous, previous_cell);
                    self.cell.forward(gates, products, before, (state, cell));
                    continue;
                }
                carry(previous, state);
                carry(previous_cell, cell);
            }
        }
    }

    /// Backward through a direction: the first overwrites `dx`, the second adds to it.
    fn run_back(
        &self,
        pass: &Pass<'_>,
        direction: usize,
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (r, h, g) = (pass.rows, self.units, self.gates());
        let own = self.of(pass.parameters, direction);
        let n = self.steps * r;
        let kept = &pass.kept()[direction * self.kept_of() * r..][..self.kept_of() * r];
        let [gates, cells, states] = self.split(kept, r);
        let (x, rest) = scratch.split_at_mut(n * self.channels);
        let (of_input, rest) = rest.split_at_mut(n * g);
        let (of_state, rest) = rest.split_at_mut(n * g);
        let (mut d, rest) = rest.split_at_mut(r * h);
        let (mut before_d, rest) = rest.split_at_mut(r * h);
        let (dc, of_x) = rest.split_at_mut(r * h);
        let (width, dy) = (self.width(), pass.dy());
        d.fill(0.0);
        dc.fill(0.0);
        for i in (0..self.steps).rev() {
            let (t, before) = self.order(direction, i);
            let is_end = i + 1 == self.steps;
            for row in 0..r {
                let range = row * h..(row + 1) * h;
                let is_valid = t < pass.length(row, self.steps);
                let place = match self.all {
                    true if is_valid => Some((row * self.steps + t) * width),
                    false if is_end => Some(row * width),
                    _ => None,
                };
                let d = &mut d[range.clone()];
                if let Some(place) = place {
                    let dy = &dy[place + direction * h..][..h];
                    d.iter_mut().zip(dy).for_each(|(d, dy)| *d += dy);
                }
                let at = (t * r + row) * g;
                let of_input = &mut of_input[at..at + g];
                let of_state = &mut of_state[at..at + g];
                if !is_valid {
                    of_input.fill(0.0);
                    of_state.fill(0.0);
                    continue;
                }
                let at = (t * r + row) * h;
                let own = (&gates[(t * r + row) * g..][..g], &cells[at..at + h]);
                let previous = before.map(|before| {
                    let at = (before * r + row) * h;
                    (&states[at..at + h], &cells[at..at + h])
                });
                self.cell.backward(own, previous, (d, &mut dc[range]), (of_input, of_state));
            }
            // What `backward` left in `d` is the direct part of the gradient before this step.
            let of_state = &of_state[t * r * g..][..r * g];
            let weight = Matrix::new(own.state, h, g);
            before_d.copy_from_slice(d);
            let to = MatrixMut::new(before_d, r, h);
            product_by_transposed(Write::Add, to, Matrix::new(of_state, r, g), weight);
            std::mem::swap(&mut d, &mut before_d);
        }
        let [input, state, input_bias, state_bias] = self.ranges(direction);
        let all = Matrix::new(of_input, n, g);
        let to = MatrixMut::new(&mut gradient[input], self.channels, g);
        product_of_transposed(Write::Add, to, Matrix::new(x, n, self.channels), all);
        // The states before, side by side with the steps that read them.
        let less = n - r;
        let (from, to) = if direction == 0 { (0, r) } else { (r, 0) };
        let before = Matrix::new(&states[from * h..], less, h);
        let after = Matrix::new(&of_state[to * g..], less, g);
        let to = MatrixMut::new(&mut gradient[state], h, g);
        product_of_transposed(Write::Add, to, before, after);
        add_column_sums(&mut gradient[input_bias], of_input);
        add_column_sums(&mut gradient[state_bias], of_state);
        let Some(dx) = dx else { return };
        let of_x = &mut of_x[..n * self.channels];
        let weight = Matrix::new(own.input, self.channels, g);
        let to = MatrixMut::new(of_x, n, self.channels);
        product_by_transposed(Write::Replace, to, all, weight);
        let n = self.channels;
        for (row, dx) in dx.chunks_exact_mut(self.steps * n).enumerate() {
            for (t, dx) in dx.chunks_exact_mut(n).enumerate() {
                let of_x = &of_x[(t * r + row) * n..][..n];
                match direction {
                    0 => dx.copy_from_slice(of_x),
                    _ => dx.iter_mut().zip(of_x).for_each(|(dx, own)| *dx += own),
                }
            }
        }
    }
}

/// The part of `values` at `before`, if there is one, and that at `at`, each of `n` numbers.
fn around(
    values: &mut [f32],
    before: Option<usize>,
    at: usize,
    n: usize,
) -> (Option<&[f32]>, &mut [f32]) {
    match before {
        None => (None, &mut values[at..at + n]),
        Some(before) if before < at => {
            let (first, second) = values.split_at_mut(at);
            (Some(&first[before..before + n]), &mut second[..n])
        }
        Some(before) => {
            let (first, second) = values.split_at_mut(before);
            (Some(&second[..n]), &mut first[at..at + n])
        }
    }
}

fn carry(previous: Option<&[f32]>, to: &mut [f32]) {
    match previous {
        Some(previous) => to.copy_from_slice(previous),
        None => to.fill(0.0),
    }
}

impl Layer for Recurrent {
    fn parameters(&self) -> Vec<Parameter> {
        const NAMES: [[&str; 4]; 2] = [
            ["weight_ih", "weight_hh", "bias_ih", "bias_hh"],
            ["weight_ih_reverse", "weight_hh_reverse", "bias_ih_reverse", "bias_hh_reverse"],
        ];
        let (g, initial) = (self.gates(), Initial::Uniform(1.0 / (self.units as f32).sqrt()));
        let mut all = vec![];
        for names in &NAMES[..self.directions] {
            let [input, state, input_bias, state_bias] = *names;
            all.push(Parameter::new(input, &[self.channels, g], Role::Weight, initial));
            all.push(Parameter::new(state, &[self.units, g], Role::Weight, initial));
            all.push(Parameter::new(input_bias, &[g], Role::Bias, initial));
            all.push(Parameter::new(state_bias, &[g], Role::Bias, initial));
        }
        all
    }

    fn multiply_adds(&self) -> u64 {
        let step = (self.gates() * (self.channels + self.units)) as u64;
        (self.directions * self.steps) as u64 * step
    }

    fn kept(&self) -> usize {
        self.directions * self.kept_of()
    }

    fn scratch(&self, rows: usize) -> usize {
        let (g, n) = (self.gates(), self.steps * rows);
        n * (2 * self.channels + 2 * g) + rows * (3 * self.units + g)
    }

    fn reads(&self) -> Reads {
        Reads::INPUT
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], kept: &mut [f32], scratch: &mut [f32]) {
        let (r, h, width) = (pass.rows, self.units, self.width());
        self.by_step(pass.x(0), r, scratch);
        let parts = kept.chunks_exact_mut(self.kept_of() * r);
        for (direction, kept) in parts.enumerate() {
            self.run(pass, direction, kept, scratch);
            let [_, _, states] = self.split(kept, r);
            let last = if direction == 0 { self.steps - 1 } else { 0 };
            for row in 0..r {
                if !self.all {
                    let to = &mut y[row * width + direction * h..][..h];
                    to.copy_from_slice(&states[(last * r + row) * h..][..h]);
                    continue;
                }
                let valid = pass.length(row, self.steps);
                for t in 0..self.steps {
                    let to = &mut y[(row * self.steps + t) * width + direction * h..][..h];
                    match t < valid {
                        true => to.copy_from_slice(&states[(t * r + row) * h..][..h]),
                        false => to.fill(0.0),
                    }
                }
            }
        }
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        _: usize,
        mut dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.by_step(pass.x(0), pass.rows, scratch);
        for direction in 0..self.directions {
            self.run_back(pass, direction, dx.as_deref_mut(), gradient, scratch);
        }
    }
}
