//! The values that an operator takes from each row of its input.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

/// A column as it is, or a value computed from several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pick {
    /// The column with an index.
    Column(usize),
    /// A value computed from the columns with these indices.
    Computed(Arc<Computed>, Vec<usize>),
}

/// A scalar expression over a few columns.
#[derive(Debug)]
pub(crate) struct Computed {
    logical: Expr,
    physical: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

impl PartialEq for Computed {
    fn eq(&self, other: &Self) -> bool {
        self.logical == other.logical
    }
}

impl Eq for Computed {}

impl Hash for Computed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.logical.hash(state);
    }
}

impl Computed {
    /// Prepares an expression over the columns of `schema` to run.
    ///
    /// # Errors
    /// When its types do not fit.
    pub fn new(state: &SessionState, expr: Expr, schema: &DFSchema) -> Result<Self> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let logical = simplifier.simplify(simplifier.coerce(expr, schema)?)?;
        let physical = state.create_physical_expr(logical.clone(), schema)?;
        let field = physical.return_field(schema.as_arrow())?;
        Ok(Self { logical, physical, field })
    }
}

impl Pick {
    /// The field of its values, for an input with these columns.
    pub fn field(&self, input: &DFSchema) -> FieldRef {
        match self {
            Self::Column(place) => Arc::clone(input.field(*place)),
            Self::Computed(computed, _) => Arc::clone(&computed.field),
        }
    }

    /// The indices of the columns that it takes.
    pub fn places(&self) -> &[usize] {
        match self {
            Self::Column(place) => std::slice::from_ref(place),
            Self::Computed(_, places) => places,
        }
    }

    /// The same for an input whose columns have moved.
    pub fn moved(&self, moves: &Moves) -> Result<Self> {
        Ok(match self {
            Self::Column(place) => Self::Column(moves.to(*place)?),
            Self::Computed(computed, places) => {
                let places = places.iter().map(|place| moves.to(*place)).collect::<Result<_>>()?;
                Self::Computed(Arc::clone(computed), places)
            }
        })
    }

    /// As an expression of DataFusion's on the columns of `input`.
    pub fn logical(&self, input: &DFSchema) -> Expr {
        match self {
            Self::Column(place) => Expr::from(input.qualified_field(*place)),
            // It names its columns as the input does.
            Self::Computed(computed, _) => computed.logical.clone(),
        }
    }

    /// As DataFusion evaluates it on rows of `input`.
    pub fn physical(&self, input: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let column = |place: usize| Column::new(input.field(place).name(), place);
        match self {
            Self::Column(place) => Ok(Arc::new(column(*place))),
            Self::Computed(computed, places) => Arc::clone(&computed.physical)
                .transform(|part| {
                    let Some(own) = part.downcast_ref::<Column>() else {
                        return Ok(Transformed::no(part));
                    };
                    match places.get(own.index()) {
                        Some(place) => Ok(Transformed::yes(Arc::new(column(*place)) as _)),
                        None => internal_err!("{own} is no column of its expression"),
                    }
                })
                .data(),
        }
    }
}

impl fmt::Display for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.logical.fmt(f)
    }
}

/// Where the columns of one schema are in another.
pub(crate) enum Moves {
    /// All columns stay where they were.
    None,
    /// The new index for each old index; None for a column that is gone.
    Some(Vec<Option<usize>>),
}

impl Moves {
    /// From a schema to another, by qualified name.
    pub fn new(from: &DFSchema, to: &DFSchema) -> Self {
        let is_same = from.fields().len() <= to.fields().len()
            && from.iter().zip(to.iter()).all(|(a, b)| a.0 == b.0 && a.1.name() == b.1.name());
        if is_same {
            return Self::None;
        }
        let places: HashMap<_, _> =
            to.iter().enumerate().map(|(place, (q, field))| ((q, field.name()), place)).collect();
        let find = |(q, field): (_, &FieldRef)| places.get(&(q, field.name())).copied();
        Self::Some(from.iter().map(find).collect())
    }

    fn to(&self, place: usize) -> Result<usize> {
        match self {
            Self::None => Ok(place),
            Self::Some(places) => match places.get(place) {
                Some(Some(place)) => Ok(*place),
                _ => internal_err!("an operator lost its column number {place}"),
            },
        }
    }
}

/// All columns that some picks take, in order, each once.
pub(crate) fn places<'a>(picks: impl IntoIterator<Item = &'a Pick>) -> Vec<usize> {
    let mut places: Vec<usize> = picks.into_iter().flat_map(Pick::places).copied().collect();
    places.sort_unstable();
    places.dedup();
    places
}
