//! `y[.., u] = x[.., d] W[d, u] + b[u]` over the last axis, PyTorch's `Linear` with the weight
//! transposed. Over categories, `y += sum of the rows of T[t, u]` that a row's codes name, which is
//! the product with one-hot columns that nobody writes down.
//!
//! Weights begin as PyTorch's: uniform in `[-b, b]` with `b = 1 / sqrt(fan_in)`, biases too. A
//! category column counts as one input.

use datafusion_common::Result;

use crate::batch::NO_CATEGORY;
use crate::kernels::math::{axpy, vectorized};
use crate::learner::Role;
use crate::network::definition::{Arguments, Default, Definition, Kind, given, required};
use crate::network::layer::{
    Built, CategoryColumn, Content, Incoming, Initial, Layer, Parameter, Pass, Reads, misfit,
};
use crate::network::product::{
    Matrix, MatrixMut, Write, add_bias, add_column_sums, product, product_by_transposed,
    product_of_transposed,
};

pub(crate) const DENSE: Definition = Definition {
    name: "dense",
    doc: "a product with a weight matrix over the last axis, plus a bias",
    arguments: &[
        required("units", Kind::Integer(1, 1 << 24), "numbers of its output"),
        given("bias", Kind::Flag, Default::Flag(true), "whether a bias is added"),
    ],
    build: Some(build),
};

fn build(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    const NEEDS: &str = "numbers and columns of categories of one row, or one input of any shape";
    let units = arguments.integer("units");
    let (mut depths, mut columns) = (vec![], vec![]);
    let mut outer: Vec<usize> = vec![];
    for incoming in inputs {
        match &incoming.content {
            Content::Numbers(shape) => {
                let Some((depth, before)) = shape.split_last() else {
                    return misfit(arguments.node, inputs, NEEDS);
                };
                if inputs.len() > 1 && !before.is_empty() {
                    return misfit(arguments.node, inputs, NEEDS);
                }
                outer = before.to_vec();
                depths.push(Some(*depth));
            }
            Content::Categories(own) => {
                columns.extend_from_slice(own);
                depths.push(None);
            }
            Content::Tokens { .. } => {
                return misfit(
                    arguments.node,
                    inputs,
                    "numbers; put embedding before it, because it",
                );
            }
        }
    }
    if inputs.is_empty() {
        return misfit(arguments.node, inputs, NEEDS);
    }
    let dense = Dense {
        places: outer.iter().product(),
        categories: columns.iter().map(|column| column.size).sum(),
        depths,
        columns,
        units,
        bias: arguments.flag("bias"),
    };
    outer.push(units);
    let mask = inputs.iter().find_map(|incoming| incoming.mask.clone());
    Ok(Built::new(dense, &outer, mask.filter(|_| outer.len() > 1)))
}

/// A dense layer over `places` positions of a row.
#[derive(Debug)]
struct Dense {
    places: usize,
    /// Per input, its last axis (`d`); None of categories.
    depths: Vec<Option<usize>>,
    columns: Vec<CategoryColumn>,
    /// Rows of the table (`t`).
    categories: usize,
    units: usize,
    bias: bool,
}

impl Dense {
    /// Inputs of numbers: their index, depth, and the first row of the weight that is theirs.
    fn numbers(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut first = 0;
        self.depths.iter().enumerate().filter_map(move |(k, depth)| {
            let own = (k, (*depth)?, first);
            first += own.1;
            Some(own)
        })
    }

    fn depth(&self) -> usize {
        self.depths.iter().flatten().sum()
    }

    /// The rows of the table that a row names.
    fn table_rows<'a>(&'a self, codes: &'a [u32]) -> impl Iterator<Item = usize> + 'a {
        let mut first = 0;
        self.columns.iter().filter_map(move |column| {
            let own = first;
            first += column.size;
            let code = *codes.get(column.offset)?;
            let row = (code as usize).checked_sub(column.first)?;
            (code != NO_CATEGORY && row < column.size).then_some(own + row)
        })
    }
}

impl Layer for Dense {
    fn parameters(&self) -> Vec<Parameter> {
        let (d, u) = (self.depth(), self.units);
        let bound = 1.0 / ((d + self.columns.len()).max(1) as f32).sqrt();
        let initial = Initial::Uniform(bound);
        let mut all = vec![];
        if d > 0 {
            all.push(Parameter::new("weight", &[d, u], Role::Weight, initial));
        }
        if self.bias {
            all.push(Parameter::new("bias", &[u], Role::Bias, initial));
        }
        if self.categories > 0 {
            let table = Parameter::new("table", &[self.categories, u], Role::Weight, initial);
            all.push(Parameter { is_table: true, ..table });
        }
        all
    }

    fn multiply_adds(&self) -> u64 {
        (self.places * self.units * self.depth() + self.columns.len() * self.units) as u64
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        let (n, u) = (pass.rows * self.places, self.units);
        let (weight, rest) = pass.parameters.split_at(self.depth() * u);
        let (bias, table) = rest.split_at(if self.bias { u } else { 0 });
        let mut write = Write::Replace;
        for (k, d, first) in self.numbers() {
            let weight = Matrix::new(&weight[first * u..], d, u);
            product(write, MatrixMut::new(y, n, u), Matrix::new(pass.x(k), n, d), weight);
            write = Write::Add;
        }
        if write == Write::Replace {
            y.fill(0.0);
        }
        if !self.columns.is_empty() {
            for (row, y) in y.chunks_exact_mut(u).enumerate() {
                for at in self.table_rows(pass.codes(row)) {
                    let own = &table[at * u..(at + 1) * u];
                    vectorized(
                        #[inline(always)]
                        || axpy(1.0, own, y),
                    );
                }
            }
        }
        add_bias(y, bias);
    }

    fn reads(&self) -> Reads {
        Reads::INPUT
    }

    fn backward(
        &self,
        pass: &Pass<'_>,
        k: usize,
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
        _: &mut [f32],
    ) {
        let (n, u, dy) = (pass.rows * self.places, self.units, pass.dy());
        let split = self.depth() * u;
        if k == 0 {
            let (of_weight, of_bias) = gradient.split_at_mut(split);
            for (k, d, first) in self.numbers() {
                let to = MatrixMut::new(&mut of_weight[first * u..], d, u);
                let x = Matrix::new(pass.x(k), n, d);
                product_of_transposed(Write::Add, to, x, Matrix::new(dy, n, u));
            }
            add_column_sums(of_bias, dy);
        }
        let own = self.numbers().find(|own| own.0 == k);
        if let (Some(dx), Some((_, d, first))) = (dx, own) {
            let weight = Matrix::new(&pass.parameters[first * u..split], d, u);
            let to = MatrixMut::new(dx, n, d);
            product_by_transposed(Write::Replace, to, Matrix::new(dy, n, u), weight);
        }
    }

    fn scatter(&self, pass: &Pass<'_>, _: usize, first: usize, part: &mut [f32]) {
        let u = self.units;
        for (row, dy) in pass.dy().chunks_exact(u).enumerate() {
            for at in self.table_rows(pass.codes(row)) {
                let Some(at) = at.checked_sub(first) else { continue };
                let Some(to) = part.get_mut(at * u..(at + 1) * u) else { continue };
                vectorized(
                    #[inline(always)]
                    || axpy(1.0, dy, to),
                );
            }
        }
    }
}
