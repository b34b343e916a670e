//! Expressions of TRANSFORM over the columns of a query.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::{DFSchema, Result, SchemaError, plan_err};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Ident, visit_expressions, visit_expressions_mut,
};
use gradlake_udfs::{Model, Names};

use crate::names::suggested;
use crate::operators::{Computed, Pick};

/// The outputs of a model's TRANSFORM, over the columns of a query.
pub(crate) struct Transform<'a> {
    model: &'a Model,
    state: &'a SessionState,
    schema: &'a DFSchema,
    names: &'a Names<'a>,
    outputs: HashMap<&'a str, &'a str>,
}

impl<'a> Transform<'a> {
    /// The TRANSFORM of a model over a query with these columns.
    pub fn of(
        model: &'a Model,
        state: &'a SessionState,
        schema: &'a DFSchema,
        names: &'a Names<'a>,
    ) -> Self {
        let outputs = model.transform.iter().map(|(name, sql)| (name.as_str(), sql.as_str()));
        Self { model, state, schema, names, outputs: outputs.collect() }
    }

    /// Whether it has an output of that name.
    pub fn makes(&self, name: &str) -> bool {
        self.outputs.contains_key(name)
    }

    /// The pick that computes an output, if there is one of that name.
    ///
    /// # Errors
    /// When the query lacks a column that it needs.
    pub fn pick(&self, name: &str) -> Option<Result<Pick>> {
        let sql = self.outputs.get(name)?;
        Some(match expression(self.state, sql, self.schema, self.names) {
            Ok((pick, _)) => Ok(pick),
            Err(error) => match missing_column(&error) {
                Some(column) => plan_err!(
                    "TRANSFORM of model {} needs column {column} for {sql}, which the query lacks{}",
                    self.model.name,
                    suggested(self.names, column)
                ),
                None => Err(error),
            },
        })
    }
}

/// An expression over the columns of a query, and its resolved text: a column that it names in
/// another case is written in the column's own case.
///
/// It is planned over only the columns that it names, since DataFusion looks up each column among
/// all.
///
/// # Errors
/// When the query lacks a column, or types do not fit.
pub(crate) fn expression(
    state: &SessionState,
    sql: &str,
    schema: &DFSchema,
    names: &Names<'_>,
) -> Result<(Pick, String)> {
    let options = &state.config().options().sql_parser;
    let folds = options.enable_ident_normalization;
    let mut parsed = state.sql_to_expr(sql, &options.dialect)?;
    let mut text = sql.to_owned();
    // Each iteration corrects the name of one column; an expression without wrong names needs one
    // iteration.
    loop {
        let places = places(&parsed, names, folds)?;
        let (plain, own) = (parsed.clone(), part(schema, &places)?);
        let planned = ExprWithAlias { expr: plain, alias: None };
        match state.create_logical_expr_from_sql_expr(planned, &own) {
            Ok(planned) => {
                if let (Some(column), [place]) = (planned.try_as_col(), places.as_slice())
                    && own.maybe_index_of_column(column) == Some(0)
                {
                    return Ok((Pick::Column(*place), text));
                }
                let computed = Arc::new(Computed::new(state, planned, &own)?);
                return Ok((Pick::Computed(computed, places), text));
            }
            Err(error) => {
                let Some(missing) = missing_column(&error) else { return Err(error) };
                let other = match names.find_exact(missing)? {
                    None => names.find(missing)?.map(|place| names.all()[place]),
                    Some(_) => None,
                };
                let Some(other) = other else { return Err(error) };
                rename(&mut parsed, missing, other, folds);
                let renamed = parsed.to_string();
                if renamed == text {
                    return Err(error);
                }
                text = renamed;
            }
        }
    }
}

fn folded(ident: &Ident, folds: bool) -> String {
    match (ident.quote_style, folds) {
        (None, true) => ident.value.to_ascii_lowercase(),
        _ => ident.value.clone(),
    }
}

/// The indices of all columns whose names occur in an expression.
fn places(expr: &SqlExpr, names: &Names<'_>, folds: bool) -> Result<Vec<usize>> {
    let (mut places, mut is_twice) = (BTreeSet::new(), false);
    let flow = visit_expressions(expr, |part| {
        match part {
            SqlExpr::Identifier(ident) => match names.find_exact(&folded(ident, folds)) {
                Ok(place) => places.extend(place),
                Err(error) => return ControlFlow::Break(error),
            },
            // A table's column or a struct's field: DataFusion decides which.
            SqlExpr::CompoundIdentifier(idents) => {
                for name in idents.iter().map(|ident| folded(ident, folds)) {
                    match names.find_exact(&name) {
                        Ok(place) => places.extend(place),
                        Err(_) => is_twice = true,
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    match flow {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) if is_twice => Ok((0..names.all().len()).collect()),
        ControlFlow::Continue(()) => Ok(places.into_iter().collect()),
    }
}

/// A schema of the columns with these indices.
fn part(schema: &DFSchema, places: &[usize]) -> Result<DFSchema> {
    let field = |place: &usize| {
        let (relation, field) = schema.qualified_field(*place);
        (relation.cloned(), Arc::clone(field))
    };
    DFSchema::new_with_metadata(places.iter().map(field).collect(), schema.metadata().clone())
}

/// Writes a column by its own name.
fn rename(expr: &mut SqlExpr, name: &str, own: &str, folds: bool) {
    let rename = |ident: &mut Ident| {
        if folded(ident, folds) == name {
            *ident = Ident::with_quote('"', own);
        }
    };
    let _end: ControlFlow<()> = visit_expressions_mut(expr, |part| {
        match part {
            SqlExpr::Identifier(ident) => rename(ident),
            SqlExpr::CompoundIdentifier(idents) => idents.iter_mut().for_each(rename),
            _ => {}
        }
        ControlFlow::Continue(())
    });
}

/// The column that an error reports as missing.
fn missing_column(error: &DataFusionError) -> Option<&str> {
    match error.find_root() {
        DataFusionError::SchemaError(error, _) => match error.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(field.name()),
            _ => None,
        },
        _ => None,
    }
}
