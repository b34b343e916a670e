//! A projection: some columns of a query, possibly renamed, and values computed from columns.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::pick::{Moves, Pick, places};

/// A projection, whose columns have plain names.
#[derive(Clone, Debug)]
pub(crate) struct SelectColumns {
    input: LogicalPlan,
    picks: Vec<Pick>,
    schema: DFSchemaRef,
}

impl PartialEq for SelectColumns {
    fn eq(&self, other: &Self) -> bool {
        self.picks == other.picks && self.schema == other.schema && self.input == other.input
    }
}

impl Eq for SelectColumns {}

impl Hash for SelectColumns {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.picks.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for SelectColumns {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl SelectColumns {
    /// The columns of a query, by name.
    ///
    /// # Errors
    /// When two have one name.
    pub fn plan<'a>(
        input: LogicalPlan,
        columns: impl IntoIterator<Item = (&'a str, Pick)>,
    ) -> Result<LogicalPlan> {
        let (names, picks): (Vec<&str>, Vec<Pick>) = columns.into_iter().unzip();
        let schema = schema(&input, &names, &picks)?;
        let node = Arc::new(Self { input, picks, schema });
        Ok(LogicalPlan::Extension(Extension { node }))
    }

    /// The plan that it selects from.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// The same projection over another input, followed by one more column of that input.
    ///
    /// # Errors
    /// When the input lacks a column.
    pub fn with_one_more(&self, input: LogicalPlan, place: usize) -> Result<LogicalPlan> {
        let moves = Moves::new(self.input.schema(), input.schema());
        let mut columns = vec![];
        for (field, pick) in self.schema.fields().iter().zip(&self.picks) {
            columns.push((field.name().as_str(), pick.moved(&moves)?));
        }
        let name = input.schema().field(place).name().clone();
        columns.push((&name, Pick::Column(place)));
        Self::plan(input, columns)
    }

    /// As DataFusion runs it.
    pub fn physical(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut exprs = vec![];
        for (field, pick) in self.schema.fields().iter().zip(&self.picks) {
            let expr = pick.physical(self.input.schema())?;
            exprs.push(ProjectionExpr { expr, alias: field.name().clone() });
        }
        Ok(Arc::new(ProjectionExec::try_new(exprs, input)?))
    }
}

fn schema(input: &LogicalPlan, names: &[&str], picks: &[Pick]) -> Result<DFSchemaRef> {
    let given = input.schema();
    let mut taken = HashSet::new();
    let mut fields = vec![];
    for (name, pick) in names.iter().zip(picks) {
        if !taken.insert(*name) {
            return plan_err!("two columns are called {name}; give one an alias");
        }
        let field = pick.field(given);
        let field = match field.name() == name {
            true => field,
            false => Arc::new(field.as_ref().clone().with_name(*name)),
        };
        fields.push((None, field));
    }
    Ok(Arc::new(DFSchema::new_with_metadata(fields, given.metadata().clone())?))
}

impl UserDefinedLogicalNodeCore for SelectColumns {
    fn name(&self) -> &str {
        "SelectColumns"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("SelectColumns:")?;
        for (i, (field, pick)) in self.schema.fields().iter().zip(&self.picks).enumerate() {
            f.write_str(if i == 0 { " " } else { ", " })?;
            match pick {
                Pick::Column(_) => f.write_str(field.name())?,
                Pick::Computed(computed, _) => write!(f, "{computed} AS {}", field.name())?,
            }
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.swap_remove(0);
        let moves = Moves::new(self.input.schema(), input.schema());
        let picks = self.picks.iter().map(|p| p.moved(&moves)).collect::<Result<Vec<_>>>()?;
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        let schema = schema(&input, &names, &picks)?;
        Ok(Self { input, picks, schema })
    }

    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![places(&self.picks)])
    }
}
