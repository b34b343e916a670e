//! An architecture: inputs that read parts of an encoded row, and nodes in order, each a layer over
//! inputs and earlier nodes. The last node gives the raw outputs.

use std::collections::HashSet;

use datafusion_common::{Result, plan_err};
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::definition::Arguments;
use super::layer::{Built, CategoryColumn, Content, Incoming, shape_text};
use super::layers::definition;
use super::mask::Mask;

/// A part of an encoded row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its name, for summaries: a column.
    pub name: String,
    /// What it reads.
    pub kind: InputKind,
}

/// What an input reads of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// Numbers at `dense[offset..]`, row-major: `[height, width, channels]` of an image,
    /// `[steps, channels]` of a sequence, `[n]` otherwise.
    Numbers {
        /// Position of the first in the dense numbers of a row.
        offset: usize,
        /// Their shape.
        shape: Vec<usize>,
        /// Of a sequence: position in the codes of a row that holds the number of valid steps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<usize>,
    },
    /// Token ids at `codes[offset..]`; [`NO_CATEGORY`](crate::batch::NO_CATEGORY) and ids beyond
    /// the vocabulary contribute nothing.
    Tokens {
        /// Position of the first in the codes of a row.
        offset: usize,
        /// How many.
        steps: usize,
        /// Ids are below it.
        vocabulary: usize,
        /// Position in the codes of a row that holds the number of valid tokens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<usize>,
    },
    /// Columns of categories with global codes, as the encoder gives them;
    /// [`NO_CATEGORY`](crate::batch::NO_CATEGORY) contributes nothing.
    Categories {
        /// The columns.
        columns: Vec<CategoryColumn>,
    },
}

/// Where a node reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An input, by index.
    Input(usize),
    /// An earlier node, by index.
    Node(usize),
}

/// A layer over inputs and earlier nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name: `conv_1`.
    pub name: String,
    /// Its layer.
    pub call: Call,
    /// What it reads.
    pub inputs: Vec<Origin>,
}

/// A network of any layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// Parts of a row.
    pub inputs: Vec<Input>,
    /// Layers, in an order in which they can be computed.
    pub nodes: Vec<Node>,
}

/// One line of a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryRow {
    /// Name of the node.
    pub name: String,
    /// The layer as a clause has it.
    pub layer: String,
    /// Names of what it reads.
    pub inputs: Vec<String>,
    /// Shape of its output.
    pub shape: Vec<usize>,
    /// Number of parameters, running statistics included.
    pub parameters: usize,
    /// Multiplications with an addition each, of one row forward.
    pub multiply_adds: u64,
}

/// Numbers of a row that one value may have, and parameters that a network may have: sizes beyond
/// it are mistakes, and their products would overflow.
const LIMIT: usize = 1 << 31;

impl Input {
    /// What nodes read of it.
    ///
    /// # Errors
    /// When its shape is empty or too large.
    pub(crate) fn incoming(&self, index: usize) -> Result<Incoming> {
        let name = &self.name;
        let (content, steps, length) = match &self.kind {
            InputKind::Numbers { shape, length, .. } => {
                check_size(name, shape)?;
                let steps = shape.first().copied().unwrap_or(0);
                if length.is_some() && shape.len() != 2 {
                    return plan_err!(
                        "input {name} has a length, so its shape should be [steps, channels], but \
                         it is {}",
                        shape_text(shape)
                    );
                }
                (Content::Numbers(shape.clone()), steps, length)
            }
            InputKind::Tokens { offset, steps, vocabulary, length } => {
                check_size(name, &[*steps, *vocabulary])?;
                let (offset, steps, vocabulary) = (*offset, *steps, *vocabulary);
                (Content::Tokens { offset, steps, vocabulary }, steps, length)
            }
            InputKind::Categories { columns } => {
                let sizes: Vec<_> = columns.iter().map(|column| column.size).collect();
                let total = sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
                if columns.is_empty() || total.is_none_or(|total| total > LIMIT) {
                    return plan_err!("input {name} should have columns of categories");
                }
                (Content::Categories(columns.clone()), 0, &None)
            }
        };
        let mask = length.map(|_| Mask { input: index, steps, windows: vec![] });
        Ok(Incoming { content, mask })
    }

    /// Where the number of valid steps stands in the codes of a row.
    pub(crate) fn length(&self) -> Option<usize> {
        match self.kind {
            InputKind::Numbers { length, .. } | InputKind::Tokens { length, .. } => length,
            InputKind::Categories { .. } => None,
        }
    }

    /// Ends of what it reads: of a row's dense numbers, and of its codes.
    pub(crate) fn reach(&self) -> (usize, usize) {
        let length = self.length().map_or(0, |at| at.saturating_add(1));
        match &self.kind {
            InputKind::Numbers { offset, shape, .. } => {
                (offset.saturating_add(shape.iter().product()), length)
            }
            InputKind::Tokens { offset, steps, .. } => {
                (0, length.max(offset.saturating_add(*steps)))
            }
            InputKind::Categories { columns } => {
                (0, columns.iter().map(|c| c.offset.saturating_add(1)).max().unwrap_or(0))
            }
        }
    }
}

/// Refuses shapes without numbers or with too many.
fn check_size(name: &str, shape: &[usize]) -> Result<()> {
    let size = shape.iter().try_fold(1usize, |size, n| size.checked_mul(*n));
    match size {
        Some(1..=LIMIT) if !shape.is_empty() => Ok(()),
        Some(0) => plan_err!("{name} would have the shape {}, without numbers", shape_text(shape)),
        _ => plan_err!("{name} would have the shape {}, which is too large", shape_text(shape)),
    }
}

/// A node made for its inputs.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) built: Built,
    /// Number of parameters.
    pub(crate) parameters: usize,
}

impl Compiled {
    pub(crate) fn incoming(&self) -> Incoming {
        let Built { shape, mask, .. } = &self.built;
        Incoming { content: Content::Numbers(shape.clone()), mask: mask.clone() }
    }
}

/// Makes the layer of a node over what it reads.
pub(crate) fn compile(node: &Node, inputs: &[Incoming]) -> Result<Compiled> {
    let Some(build) = definition(&node.call.layer).and_then(|own| own.build) else {
        return plan_err!("node {} has the layer {}, which is unknown", node.name, node.call.layer);
    };
    let built = build(&Arguments::new(&node.name, &node.call), inputs)?;
    check_size(&node.name, &built.shape)?;
    let mut parameters = 0usize;
    for parameter in built.layer.parameters() {
        check_size(&format!("{}.{}", node.name, parameter.name), &parameter.shape)?;
        parameters += parameter.len();
    }
    if parameters > LIMIT || built.layer.multiply_adds() > 1 << 45 {
        return plan_err!("{} is too large, with {parameters} parameters", node.name);
    }
    Ok(Compiled { built, parameters })
}

impl Architecture {
    /// Inputs without layers.
    pub fn new(inputs: Vec<Input>) -> Self {
        Self { inputs, nodes: vec![] }
    }

    /// What an input or an earlier node gives.
    pub(crate) fn incoming(&self, from: Origin, compiled: &[Compiled]) -> Result<Incoming> {
        match from {
            Origin::Input(i) => match self.inputs.get(i) {
                Some(input) => input.incoming(i),
                None => plan_err!("there is no input {i}, only {}", self.inputs.len()),
            },
            Origin::Node(i) => match compiled.get(i) {
                Some(node) => Ok(node.incoming()),
                None => plan_err!("a node reads node {i}, which does not stand before it"),
            },
        }
    }

    /// Every node made for its inputs.
    pub(crate) fn compile(&self) -> Result<Vec<Compiled>> {
        let mut compiled: Vec<Compiled> = vec![];
        let (mut names, mut parameters) = (HashSet::new(), 0);
        for node in &self.nodes {
            if !names.insert(&node.name) {
                return plan_err!("two layers are named {}", node.name);
            }
            match definition(&node.call.layer) {
                Some(own) => own.check(&node.call)?,
                None => return plan_err!("there is no layer {}", node.call.layer),
            }
            let inputs: Vec<_> = node
                .inputs
                .iter()
                .map(|from| self.incoming(*from, &compiled))
                .collect::<Result<_>>()?;
            let own = self::compile(node, &inputs)?;
            parameters += own.parameters;
            if parameters > LIMIT {
                return plan_err!("the network is too large at {}", node.name);
            }
            compiled.push(own);
        }
        Ok(compiled)
    }

    /// The shape of every node's output.
    ///
    /// # Errors
    /// When a layer does not fit what it reads.
    pub fn shapes(&self) -> Result<Vec<Vec<usize>>> {
        Ok(self.compile()?.into_iter().map(|node| node.built.shape).collect())
    }

    /// Number of raw outputs.
    ///
    /// # Errors
    /// When a layer does not fit what it reads, or the last one gives no vector.
    pub fn outputs(&self) -> Result<usize> {
        match self.shapes()?.last().map(Vec::as_slice) {
            Some([outputs]) => Ok(*outputs),
            Some(shape) => plan_err!(
                "the last layer should give one vector [outputs], but it gives {}",
                shape_text(shape)
            ),
            None => plan_err!("a network needs a layer"),
        }
    }

    /// The name of an input or node.
    fn name(&self, from: Origin) -> String {
        match from {
            Origin::Input(i) => self.inputs.get(i).map(|input| input.name.clone()),
            Origin::Node(i) => self.nodes.get(i).map(|node| node.name.clone()),
        }
        .unwrap_or_default()
    }

    /// What every node is.
    ///
    /// # Errors
    /// When a layer does not fit what it reads.
    pub fn summary(&self) -> Result<Vec<SummaryRow>> {
        let rows = self.nodes.iter().zip(self.compile()?).map(|(node, own)| SummaryRow {
            name: node.name.clone(),
            layer: definition(&node.call.layer)
                .map_or_else(String::new, |own| own.spec(&node.call).to_string()),
            inputs: node.inputs.iter().map(|from| self.name(*from)).collect(),
            shape: own.built.shape,
            parameters: own.parameters,
            multiply_adds: own.built.layer.multiply_adds(),
        });
        Ok(rows.collect())
    }
}
