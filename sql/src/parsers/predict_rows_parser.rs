//! Calls of `predict_rows(...)` in DataFusion's tree, for the planner of relations.

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, TableAlias, TableFactor, Value,
};

use super::cursor::Cursor;
use super::option_parser::parse_option_list;
use super::script::Script;
use crate::statements::{PREDICT_ROWS, PredictRows, folded};

/// The syntax of the function, for error messages.
const FORM: &str =
    "predict_rows('model', (query) [, version => n] [, options => 'name = value, ...'])";

impl PredictRows {
    /// Reads a call in FROM; None if the relation is not such a call.
    ///
    /// # Errors
    /// When the arguments are not those of the function.
    pub fn of(relation: &TableFactor) -> Result<Option<Self>> {
        let (name, arguments, alias): (&ObjectName, &[FunctionArg], &Option<TableAlias>) =
            match relation {
                TableFactor::Table { name, args: Some(arguments), alias, .. } => {
                    (name, &arguments.args, alias)
                }
                TableFactor::Function { name, args, alias, .. } => (name, args, alias),
                _ => return Ok(None),
            };
        match name.0.as_slice() {
            [part] if part.as_ident().is_some_and(|ident| folded(ident) == PREDICT_ROWS) => {}
            _ => return Ok(None),
        }
        let [model, query, named @ ..] = arguments else {
            return plan_err!("expected {FORM}, found {} arguments", arguments.len());
        };
        let mut call = Self {
            name: model_literal(model)?,
            version: None,
            options: vec![],
            query: subquery(query)?,
            alias: alias.clone(),
        };
        let mut given: Vec<String> = vec![];
        for argument in named {
            let FunctionArg::Named { name, arg: FunctionArgExpr::Expr(Expr::Value(value)), .. } =
                argument
            else {
                return plan_err!("expected {FORM}, found argument {argument}");
            };
            let name = folded(name);
            match (name.as_str(), &value.value) {
                _ if given.contains(&name) => {
                    return plan_err!("argument {name} of {PREDICT_ROWS} is given twice");
                }
                ("version", Value::Number(number, _)) => match number.parse().ok() {
                    Some(version) if version > 0 => call.version = Some(version),
                    _ => {
                        return plan_err!(
                            "argument version of {PREDICT_ROWS} is a whole number from 1 on, \
                             found {number}"
                        );
                    }
                },
                ("options", Value::SingleQuotedString(text)) => call.options = options(text)?,
                _ => return plan_err!("expected {FORM}, found argument {argument}"),
            }
            given.push(name);
        }
        Ok(Some(call))
    }
}

fn model_literal(argument: &FunctionArg) -> Result<String> {
    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) = argument
        && let Value::SingleQuotedString(name) = &value.value
    {
        return Ok(name.clone());
    }
    plan_err!(
        "the first argument of {PREDICT_ROWS} is the name of a model as a string, found {argument}"
    )
}

fn subquery(argument: &FunctionArg) -> Result<Box<Query>> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query))) => Ok(query.clone()),
        _ => plan_err!(
            "the second argument of {PREDICT_ROWS} is a query in parentheses, found {argument}"
        ),
    }
}

fn options(text: &str) -> Result<Vec<(String, gradlake_engine::OptionValue)>> {
    let script = Script::new(text)?;
    let tokens: Vec<_> = script.statements().flatten().cloned().collect();
    let mut cursor = Cursor::new(&script, &tokens);
    let options = parse_option_list(&mut cursor)?;
    cursor.end("the options")?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::error::DataFusionError;
    use datafusion::logical_expr::planner::{
        PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
    };
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::parsers::parse_one;
    use crate::statements::Statement;

    /// Plans the query of a call and adds nothing, but refuses the model `missing`.
    #[derive(Debug)]
    struct Passing;

    impl RelationPlanner for Passing {
        fn plan_relation(
            &self,
            relation: TableFactor,
            context: &mut dyn RelationPlannerContext,
        ) -> Result<RelationPlanning> {
            let Some(call) = PredictRows::of(&relation)? else {
                return Ok(RelationPlanning::Original(Box::new(relation)));
            };
            if call.name == "missing" {
                return plan_err!("there is no model {}", call.name);
            }
            let query = TableFactor::Derived {
                lateral: false,
                subquery: call.query,
                alias: None,
                sample: None,
            };
            let plan = context.plan(query)?;
            Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
        }
    }

    async fn rows(context: &SessionContext, sql: &str) -> Result<usize> {
        let statement = match parse_one(sql)? {
            Statement::DataFusion(statement) => *statement,
            other => return plan_err!("not DataFusion's: {other}"),
        };
        let plan = context.state().statement_to_plan(statement).await?;
        context.execute_logical_plan(plan).await?.count().await
    }

    fn session() -> SessionContext {
        let context = SessionContext::new();
        context.register_relation_planner(Arc::new(Passing)).unwrap();
        context
    }

    #[tokio::test]
    async fn twins_are_planned_wherever_a_query_stands() {
        let context = session();
        context.sql("CREATE TABLE t AS VALUES (1, 2), (3, 4)").await.unwrap();
        for (sql, expected) in [
            ("SELECT * FROM (PREDICT MODEL m FROM t)", 2),
            ("SELECT p.column1 FROM (PREDICT MODEL m VERSION 2 FROM t) AS p", 2),
            ("SELECT * FROM t JOIN (PREDICT MODEL m AS SELECT * FROM t) p USING (column1)", 2),
            ("SELECT * FROM t, LATERAL (PREDICT MODEL m FROM t) p", 4),
            ("WITH p AS (PREDICT MODEL m FROM t) SELECT * FROM p, p AS q", 4),
            ("WITH c AS (SELECT 1 AS a) PREDICT MODEL m FROM c", 1),
            ("WITH c AS (SELECT 1 AS a) SELECT * FROM (PREDICT MODEL m FROM c)", 1),
            ("SELECT 1, 2 UNION ALL PREDICT MODEL m FROM t", 3),
            ("SELECT * FROM t WHERE EXISTS (PREDICT MODEL m FROM t)", 2),
            ("SELECT * FROM t WHERE column1 IN (SELECT column1 FROM (PREDICT MODEL m FROM t))", 2),
            ("SELECT * FROM (PREDICT MODEL m AS SELECT * FROM (PREDICT MODEL n FROM t))", 2),
            ("SELECT * FROM (PREDICT MODEL m AS PREDICT MODEL n FROM t)", 2),
            ("SELECT * FROM predict_rows('m', (SELECT * FROM t))", 2),
        ] {
            let counted = rows(&context, sql).await;
            assert_eq!(counted.unwrap_or_else(|e| panic!("{sql}: {e}")), expected, "{sql}");
        }
        rows(&context, "CREATE TABLE u AS PREDICT MODEL m FROM t").await.unwrap();
        rows(&context, "CREATE TABLE v AS (PREDICT MODEL m FROM t)").await.unwrap();
        rows(&context, "INSERT INTO u PREDICT MODEL m FROM t").await.unwrap();
        rows(&context, "INSERT INTO u (column1, column2) (PREDICT MODEL m FROM t)").await.unwrap();
        assert_eq!(rows(&context, "SELECT * FROM u").await.unwrap(), 6);
        rows(&context, "CREATE VIEW w AS PREDICT MODEL m FROM u").await.unwrap();
        assert_eq!(rows(&context, "SELECT * FROM w").await.unwrap(), 6);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        let copy = format!("COPY (PREDICT MODEL m FROM u) TO '{}'", path.display());
        rows(&context, &copy).await.unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 7);
        let missing = rows(&context, "SELECT * FROM (PREDICT MODEL missing FROM t)").await;
        let error = missing.unwrap_err().strip_backtrace();
        assert_eq!(error, "Error during planning: there is no model missing");
    }

    fn call(sql: &str) -> Result<Option<PredictRows>> {
        let query = crate::parsers::query(sql)?;
        let Some(select) = query.body.as_select() else { return Ok(None) };
        PredictRows::of(&select.from[0].relation)
    }

    #[test]
    fn a_call_is_read() {
        let read = call(
            "SELECT * FROM Predict_Rows('My m', (SELECT 1), options => 'threshold = 0.4, x = ''a''', \
             version => 7) AS p",
        );
        let read = read.unwrap().unwrap();
        assert_eq!((read.name.as_str(), read.version), ("My m", Some(7)));
        assert_eq!(read.options.len(), 2);
        assert_eq!(read.options[1].1.to_string(), "'a'");
        assert_eq!(read.query.to_string(), "SELECT 1");
        assert_eq!(read.alias.unwrap().name.value, "p");
        for other in
            ["SELECT * FROM t", "SELECT * FROM \"PREDICT_ROWS\"('m')", "SELECT * FROM f(1)"]
        {
            assert_eq!(call(other).unwrap(), None);
        }
    }

    #[test]
    fn a_wrong_call_is_refused() {
        for (arguments, expected) in [
            (
                "'m'",
                "expected predict_rows('model', (query) [, version => n] [, options => 'name = value, ...']), found 1 arguments",
            ),
            (
                "m, (SELECT 1)",
                "the first argument of predict_rows is the name of a model as a string, found m",
            ),
            ("'m', t", "the second argument of predict_rows is a query in parentheses, found t"),
            (
                "'m', (SELECT 1), version => 0",
                "argument version of predict_rows is a whole number from 1 on, found 0",
            ),
            (
                "'m', (SELECT 1), version => 1, version => 2",
                "argument version of predict_rows is given twice",
            ),
            (
                "'m', (SELECT 1), seed => 1",
                "expected predict_rows('model', (query) [, version => n] [, options => 'name = value, ...']), found argument seed => 1",
            ),
            (
                "'m', (SELECT 1), options => 'a b'",
                "expected = after option a, found b at line 1, column 3",
            ),
        ] {
            let error: DataFusionError =
                call(&format!("SELECT * FROM predict_rows({arguments})")).unwrap_err();
            assert_eq!(error.strip_backtrace(), format!("Error during planning: {expected}"));
        }
    }
}
