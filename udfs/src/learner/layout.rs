//! The layout of the flat parameter buffer.

use std::sync::Arc;

/// The role of a tensor, which decides on its regularisation and its learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Regularised by L1 and L2.
    Weight,
    /// Free of regularisation.
    Bias,
    /// The bias of the output layer: not regularised, and updated with `intercept_learning_rate`.
    Intercept,
    /// The factor of a normalisation: stepped like a bias, since a decay would pull it to 0 and not
    /// to the 1 at which it begins.
    Scale,
    /// A running statistic of the rows: averaged where models are averaged, and never stepped,
    /// decayed or regularised. Its gradient is 0.
    Buffer,
}

/// One tensor of the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Number of the layer (of a network of any layers, of the node), from 0.
    pub layer: usize,
    /// `weight` or `bias`; of a network of any layers, as PyTorch calls it.
    pub name: &'static str,
    /// The name of its node, in a network of any layers: `conv_1`.
    pub node: Option<Arc<str>>,
    /// Row-major shape: `[inputs, units]` of a weight, `[units]` of a bias.
    pub shape: Vec<usize>,
    /// Where it begins in the flat buffer.
    pub offset: usize,
    /// Its role.
    pub role: Role,
}

impl Tensor {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor holds no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its range in the flat buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Where the weights of categories are stored: `[categories, units]`, the last rows of the first
/// weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Where it begins in the flat buffer.
    pub offset: usize,
    /// Its rows.
    pub categories: usize,
    /// Weights of a category.
    pub units: usize,
}

impl Table {
    /// Its range in the flat buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.categories * self.units
    }

    /// The range of one category in the flat buffer.
    pub fn row(&self, code: u32) -> std::ops::Range<usize> {
        let start = self.offset + code as usize * self.units;
        start..start + self.units
    }
}

/// The tensors of a flat parameter buffer, in order and without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    len: usize,
}

impl Layout {
    /// Appends a tensor after the last one.
    pub fn push(&mut self, layer: usize, name: &'static str, shape: Vec<usize>, role: Role) {
        self.append(Tensor { layer, name, node: None, shape, offset: self.len, role });
    }

    /// Appends a tensor of a named node after the last one.
    pub fn push_of_node(
        &mut self,
        (layer, node): (usize, &Arc<str>),
        name: &'static str,
        shape: Vec<usize>,
        role: Role,
    ) {
        let node = Some(Arc::clone(node));
        self.append(Tensor { layer, name, node, shape, offset: self.len, role });
    }

    fn append(&mut self, tensor: Tensor) {
        self.len += tensor.len();
        self.tensors.push(tensor);
    }

    /// The tensors, in the order of their offsets.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
