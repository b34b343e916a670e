//! The names and shapes of the fields of an encoded row.

use std::fmt;
use std::sync::Arc;

use super::{Decoder, Width};

/// The element of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element {
    /// Numbers.
    F32,
    /// Bytes, which are read as `byte / divisor`.
    U8 {
        /// The largest byte of the training rows, at least 1.
        divisor: f32,
    },
    /// Category indices.
    U32,
}

/// A field of an encoded row: so many elements in each row.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldSpec {
    /// Its name in plans.
    pub name: String,
    /// What it holds.
    pub element: Element,
    /// Its shape in a row; empty for one element.
    pub shape: Vec<usize>,
}

impl FieldSpec {
    /// A field.
    pub fn new(name: impl Into<String>, element: Element, shape: Vec<usize>) -> Self {
        Self { name: name.into(), element, shape }
    }

    /// Elements in a row.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for FieldSpec {
    /// `image uint8[784]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = match self.element {
            Element::F32 => "float32",
            Element::U8 { .. } => "uint8",
            Element::U32 => "uint32",
        };
        write!(f, "{} {element}", self.name)?;
        if self.shape.is_empty() { Ok(()) } else { write!(f, "{:?}", self.shape) }
    }
}

/// The fields of an encoded row: those of the features, the target, the weight. In memory the
/// numbers of a row are adjacent, and so are its bytes and its category indices, each in the order
/// of the fields. It is cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSchema {
    features: Arc<[FieldSpec]>,
    width: Width,
}

impl RowSchema {
    /// The schema of rows with these feature fields, in the order of their inputs of the first
    /// layer; there are `categories` categories in all, and `targets` numbers of the target.
    pub fn new(features: Vec<FieldSpec>, categories: usize, targets: usize) -> Self {
        let count = |is_own: fn(&Element) -> bool| {
            features.iter().filter(|field| is_own(&field.element)).map(FieldSpec::len).sum()
        };
        let width = Width {
            dense: count(|element| matches!(element, Element::F32)),
            bytes: count(|element| matches!(element, Element::U8 { .. })),
            columns: count(|element| matches!(element, Element::U32)),
            categories,
            targets,
        };
        Self { features: features.into(), width }
    }

    /// The schema of rows of this width, which has no bytes.
    pub fn of_width(width: Width) -> Self {
        let field = |name: &str, element, n: usize| FieldSpec::new(name, element, vec![n]);
        let features = vec![
            field("features", Element::F32, width.dense),
            field("categories", Element::U32, width.columns),
        ];
        Self::new(features, width.categories, width.targets)
    }

    /// The same with another number of the target's numbers.
    pub fn with_targets(&self, targets: usize) -> Self {
        let features = Arc::clone(&self.features);
        Self { features, width: Width { targets, ..self.width } }
    }

    /// The strides of the rows as they are stored.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The fields of the features that have elements.
    pub fn features(&self) -> impl Iterator<Item = &FieldSpec> {
        self.features.iter().filter(|field| !field.is_empty())
    }

    /// The name of the bytes of a row: that of their field, if there is one.
    pub fn bytes_name(&self) -> &str {
        let mut fields = self.features().filter(|f| matches!(f.element, Element::U8 { .. }));
        match (fields.next(), fields.next()) {
            (Some(only), None) => &only.name,
            _ => "bytes",
        }
    }

    /// Reads the bytes of rows as numbers; None where there are none.
    pub fn decoder(&self) -> Option<Decoder> {
        let dense = self.features().filter(|field| field.element != Element::U32);
        let runs = dense.map(|field| match field.element {
            Element::U8 { divisor } => (field.len(), Some(divisor)),
            _ => (field.len(), None),
        });
        (self.width.bytes > 0).then(|| Decoder::new(self.width, runs.collect()))
    }
}

impl fmt::Display for RowSchema {
    /// `features float32[2], image uint8[784], label float32, weight float32`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for field in self.features() {
            write!(f, "{field}, ")?;
        }
        match self.width.targets {
            0 => {}
            1 => write!(f, "label float32, ")?,
            k => write!(f, "label float32[{k}], ")?,
        }
        write!(f, "weight float32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_give_strides_names_and_a_decoder() {
        let image = FieldSpec::new("image", Element::U8 { divisor: 255.0 }, vec![2, 3]);
        let fields = vec![
            FieldSpec::new("features", Element::F32, vec![4]),
            image.clone(),
            FieldSpec::new("categories", Element::U32, vec![0]),
        ];
        let schema = RowSchema::new(fields, 0, 2);
        let width = Width { dense: 4, bytes: 6, columns: 0, categories: 0, targets: 2 };
        assert_eq!((schema.width(), schema.bytes_name()), (width, "image"));
        assert_eq!(width.row_bytes(), 4 * (4 + 2 + 1) + 6);
        assert_eq!(width.decoded(), Width { dense: 10, bytes: 0, ..width });
        assert_eq!(
            schema.to_string(),
            "features float32[4], image uint8[2, 3], label float32[2], weight float32"
        );
        assert!(schema.decoder().is_some());
        let two = RowSchema::new(vec![image.clone(), image], 0, 1);
        assert_eq!(two.bytes_name(), "bytes");
        let plain = RowSchema::of_width(Width { dense: 1, ..Width::default() });
        assert!(plain.decoder().is_none());
        assert_eq!(plain.to_string(), "features float32[1], label float32, weight float32");
    }
}
