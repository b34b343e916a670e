//! Vectors for tokens and categories, PyTorch's `Embedding`: `y[step] = T[token]`; of category
//! columns, one table each, side by side. What is no token or category gives 0. Begins as
//! PyTorch's: standard normal numbers.
//!
//! The gradient of a table is not part of a shard's: its rows are added from all rows of the
//! mini-batch in order, see [`Layer::scatter`].

use datafusion_common::{Result, plan_err};

use crate::batch::NO_CATEGORY;
use crate::kernels::math::{axpy, vectorized};
use crate::learner::Role;
use crate::network::definition::{Arguments, Definition, Kind, optional};
use crate::network::layer::{
    Built, CategoryColumn, Content, Incoming, Initial, Layer, Parameter, Pass, Reads, misfit,
};

pub(crate) const EMBEDDING: Definition = Definition {
    name: "embedding",
    doc: "a learned vector for each token, or for the category of each column",
    arguments: &[optional(
        "width",
        Kind::Integers(1, 1 << 16),
        "numbers of a vector, one or a list with one for each column; by default 1.6 size^0.56",
    )],
    build: Some(build),
};

pub(crate) const ONE_HOT: Definition = Definition {
    name: "one_hot",
    doc: "a 1 for the category of each column, 0 elsewhere",
    arguments: &[],
    build: Some(|arguments, inputs| match inputs {
        [Incoming { content: Content::Categories(columns), .. }] => {
            let n = columns.iter().map(|column| column.size).sum();
            Ok(Built::new(OneHot { columns: columns.clone(), categories: n }, &[n], None))
        }
        _ => misfit(arguments.node, inputs, "columns of categories"),
    }),
};

/// fastai's rule for the width of a category's vector, at most 600.
fn width_of(size: usize) -> usize {
    ((1.6 * (size as f64).powf(0.56)).round() as usize).clamp(1, 600)
}

fn build(arguments: &Arguments<'_>, inputs: &[Incoming]) -> Result<Built> {
    const NEEDS: &str = "tokens or columns of categories";
    let widths = arguments.integers("width");
    let [Incoming { content, mask }] = inputs else {
        return misfit(arguments.node, inputs, NEEDS);
    };
    match content {
        Content::Tokens { offset, steps, vocabulary } => {
            let width = match widths.as_slice() {
                [] => width_of(*vocabulary),
                [one] => *one,
                many => {
                    return plan_err!(
                        "{} takes one width for tokens, but {} are given",
                        arguments.node,
                        many.len()
                    );
                }
            };
            let column = |i| CategoryColumn { offset: offset + i, first: 0, size: *vocabulary };
            let places = (0..*steps).map(|i| Place { column: column(i), table: 0, at: i * width });
            let tables = vec![Table { start: 0, rows: *vocabulary, width }];
            let own = Embedding { places: places.collect(), tables, len: steps * width };
            Ok(Built::new(own, &[*steps, width], mask.clone()))
        }
        Content::Categories(columns) => {
            let width = |i: usize| match widths.as_slice() {
                [] => width_of(columns[i].size),
                [one] => *one,
                many => many[i.min(many.len() - 1)],
            };
            if widths.len() > 1 && widths.len() != columns.len() {
                return plan_err!(
                    "{} takes one width or one for each of {} columns, but {} are given",
                    arguments.node,
                    columns.len(),
                    widths.len()
                );
            }
            let (mut places, mut tables, mut start, mut at) = (vec![], vec![], 0, 0);
            for (table, column) in columns.iter().enumerate() {
                let (width, rows) = (width(table), column.size.max(1));
                places.push(Place { column: *column, table, at });
                tables.push(Table { start, rows, width });
                start += rows * width;
                at += width;
            }
            Ok(Built::new(Embedding { places, tables, len: at }, &[at], None))
        }
        Content::Numbers(_) => misfit(arguments.node, inputs, NEEDS),
    }
}

/// Where a code's vector goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    column: CategoryColumn,
    table: usize,
    /// Position in the output of a row.
    at: usize,
}

/// A table `[rows, width]` at `start` of the node's parameters.
#[derive(Clone, Copy, Debug)]
struct Table {
    start: usize,
    rows: usize,
    width: usize,
}

/// An embedding of tokens or categories.
#[derive(Debug)]
struct Embedding {
    places: Vec<Place>,
    tables: Vec<Table>,
    /// Numbers of a row of the output.
    len: usize,
}

/// The row of a column's table that a row of codes names.
fn row_of(column: &CategoryColumn, codes: &[u32]) -> Option<usize> {
    let code = *codes.get(column.offset)?;
    let row = (code as usize).checked_sub(column.first)?;
    (code != NO_CATEGORY && row < column.size).then_some(row)
}

impl Embedding {
    /// Places of a row that are valid: tokens below its length.
    fn valid(&self, pass: &Pass<'_>, row: usize) -> &[Place] {
        &self.places[..pass.length(row, self.places.len())]
    }
}

impl Layer for Embedding {
    fn parameters(&self) -> Vec<Parameter> {
        let tables = self.tables.iter().enumerate().map(|(i, table)| {
            let shape = [table.rows, table.width];
            let own = Parameter::new("weight", &shape, Role::Weight, Initial::Normal(1.0));
            let part = (self.tables.len() > 1).then_some(i);
            Parameter { is_table: true, part, ..own }
        });
        tables.collect()
    }

    fn multiply_adds(&self) -> u64 {
        self.len as u64
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        y.fill(0.0);
        for (row, y) in y.chunks_exact_mut(self.len).enumerate() {
            let codes = pass.codes(row);
            for place in self.valid(pass, row) {
                let Some(row) = row_of(&place.column, codes) else { continue };
                let Table { start, width, .. } = self.tables[place.table];
                let from = &pass.parameters[start + row * width..][..width];
                y[place.at..place.at + width].copy_from_slice(from);
            }
        }
    }

    fn backward(
        &self,
        _: &Pass<'_>,
        _: usize,
        _: Option<&mut [f32]>,
        _: &mut [f32],
        _: &mut [f32],
    ) {
    }

    fn scatter(&self, pass: &Pass<'_>, table: usize, first: usize, part: &mut [f32]) {
        let width = self.tables[table].width;
        vectorized(
            #[inline(always)]
            || {
                for (row, dy) in pass.dy().chunks_exact(self.len).enumerate() {
                    let codes = pass.codes(row);
                    for place in self.valid(pass, row) {
                        if place.table != table {
                            continue;
                        }
                        let row = row_of(&place.column, codes);
                        let Some(row) = row.and_then(|row| row.checked_sub(first)) else {
                            continue;
                        };
                        if let Some(to) = part.get_mut(row * width..(row + 1) * width) {
                            axpy(1.0, &dy[place.at..place.at + width], to);
                        }
                    }
                }
            },
        );
    }
}

/// One-hot columns.
#[derive(Debug)]
struct OneHot {
    columns: Vec<CategoryColumn>,
    categories: usize,
}

impl Layer for OneHot {
    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn forward(&self, pass: &Pass<'_>, y: &mut [f32], _: &mut [f32], _: &mut [f32]) {
        y.fill(0.0);
        for (row, y) in y.chunks_exact_mut(self.categories.max(1)).enumerate() {
            let mut first = 0;
            for column in &self.columns {
                if let Some(row) = row_of(column, pass.codes(row)) {
                    y[first + row] = 1.0;
                }
                first += column.size;
            }
        }
    }

    fn backward(
        &self,
        _: &Pass<'_>,
        _: usize,
        _: Option<&mut [f32]>,
        _: &mut [f32],
        _: &mut [f32],
    ) {
    }
}
