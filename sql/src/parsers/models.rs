//! The models that a statement names, so that they are loaded before it is planned.

use std::ops::ControlFlow;

use datafusion::common::plan_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::sql::parser::{CopyToSource, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, TableFactor, Value,
    Visit, Visitor,
};

use crate::statements::{PREDICT_ROWS, PredictRows, folded};

/// A model that a statement names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelUse {
    /// Its name, not folded: it is from a string, or from a PREDICT.
    pub name: String,
    /// Its version; the current one if absent.
    pub version: Option<u64>,
}

/// The models in `predict('m', ...)`, `predict_proba('m', ...)` and `predict_rows('m', ...)` of a
/// statement, in ascending order, each once.
///
/// # Errors
/// When the first argument of one is not a string: models are loaded before any row is read.
pub fn models_of_statement(statement: &DfStatement) -> Result<Vec<ModelUse>> {
    match statement {
        DfStatement::Statement(statement) => models_of(statement.as_ref()),
        DfStatement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => models_of_query(query),
            CopyToSource::Relation(_) => Ok(vec![]),
        },
        DfStatement::Explain(explain) => models_of_statement(&explain.statement),
        DfStatement::CreateExternalTable(_) | DfStatement::Reset(_) => Ok(vec![]),
    }
}

/// The models of a query, as in [`models_of_statement`].
///
/// # Errors
/// Those of [`models_of_statement`].
pub fn models_of_query(query: &Query) -> Result<Vec<ModelUse>> {
    models_of(query)
}

fn models_of(node: &impl Visit) -> Result<Vec<ModelUse>> {
    let mut found = Found(vec![]);
    match node.visit(&mut found) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => {
            found.0.sort();
            found.0.dedup();
            Ok(found.0)
        }
    }
}

struct Found(Vec<ModelUse>);

impl Visitor for Found {
    type Break = Box<DataFusionError>;

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(function) = expression {
            match named_model(function) {
                Ok(model) => self.0.extend(model),
                Err(error) => return ControlFlow::Break(Box::new(error)),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, relation: &TableFactor) -> ControlFlow<Self::Break> {
        match PredictRows::of(relation) {
            Ok(call) => {
                self.0.extend(call.map(|c| ModelUse { name: c.name, version: c.version }));
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

/// The model of `predict('m', ...)` or `predict_proba('m', ...)`; None for another function.
fn named_model(function: &Function) -> Result<Option<ModelUse>> {
    let name = match function.name.0.as_slice() {
        [part] => part.as_ident().map(folded).unwrap_or_default(),
        _ => return Ok(None),
    };
    if name == PREDICT_ROWS {
        return Err(plan_datafusion_err!(
            "{PREDICT_ROWS} gives rows and stands in FROM; in an expression write \
             predict('model', feature, ...)"
        ));
    }
    if !["predict", "predict_proba"].contains(&name.as_str()) {
        return Ok(None);
    }
    let first = match &function.args {
        FunctionArguments::List(list) => list.args.first(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => None,
    };
    match first {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) => {
            if let Value::SingleQuotedString(model) = &value.value {
                return Ok(Some(ModelUse { name: model.clone(), version: None }));
            }
        }
        None => {
            return Err(plan_datafusion_err!(
                "{name} takes the name of a model as a string and then its features, found no \
                 argument"
            ));
        }
        Some(_) => {}
    }
    let found = first.map(ToString::to_string).unwrap_or_default();
    Err(plan_datafusion_err!(
        "the first argument of {name} is the name of a model as a string, found {found}: models \
         are loaded before any row is read"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parsers::parse_one;
    use crate::statements::Statement;

    fn models(sql: &str) -> Result<Vec<String>> {
        let Statement::DataFusion(statement) = parse_one(sql)? else { panic!("{sql}") };
        let models = models_of_statement(&statement)?;
        let text = |m: ModelUse| m.version.map_or(m.name.clone(), |v| format!("{} {v}", m.name));
        Ok(models.into_iter().map(text).collect())
    }

    #[test]
    fn models_are_found_wherever_they_stand() {
        for (sql, expected) in [
            ("SELECT predict('b', x), Predict_Proba('A', y) FROM t", "A, b"),
            ("SELECT 1 FROM t WHERE predict('m', x) > 1 ORDER BY predict('n', x)", "m, n"),
            ("SELECT sum(predict('m', x)) OVER (PARTITION BY predict('n', x)) FROM t", "m, n"),
            ("SELECT predict('m', predict('n', x)) FROM t", "m, n"),
            ("WITH c AS (SELECT predict('m', x) FROM t) SELECT * FROM c", "m"),
            (
                "SELECT * FROM (PREDICT MODEL m VERSION 3 AS SELECT predict('n', x) FROM t)",
                "m 3, n",
            ),
            ("SELECT * FROM (PREDICT MODEL m FROM t), (PREDICT MODEL m FROM t)", "m"),
            ("COPY (PREDICT MODEL m FROM t) TO 'x.csv'", "m"),
            ("COPY t TO 'x.csv'", ""),
            ("EXPLAIN ANALYZE SELECT predict('m', x) FROM t", "m"),
            ("EXPLAIN COPY (PREDICT MODEL m FROM t) TO 'x.csv'", "m"),
            ("INSERT INTO t PREDICT MODEL m FROM u", "m"),
            ("CREATE VIEW v AS SELECT predict('m', x) FROM t", "m"),
            ("SELECT predict, a.predict('m') FROM predict", ""),
            ("SHOW TABLES", ""),
        ] {
            assert_eq!(models(sql).unwrap().join(", "), expected, "{sql}");
        }
    }

    #[test]
    fn a_name_must_be_a_literal() {
        for (sql, expected) in [
            (
                "SELECT predict(m, x) FROM t",
                "the first argument of predict is the name of a model as a string, found m: models \
                 are loaded before any row is read",
            ),
            (
                "SELECT predict_proba('a' || 'b', x) FROM t",
                "the first argument of predict_proba is the name of a model as a string, found 'a' \
                 || 'b': models are loaded before any row is read",
            ),
            (
                "SELECT predict() FROM t",
                "predict takes the name of a model as a string and then its features, found no \
                 argument",
            ),
            (
                "SELECT predict_rows('m', (SELECT 1)) FROM t",
                "predict_rows gives rows and stands in FROM; in an expression write \
                 predict('model', feature, ...)",
            ),
        ] {
            let error = models(sql).unwrap_err().strip_backtrace();
            assert_eq!(error, format!("Error during planning: {expected}"));
        }
    }
}
