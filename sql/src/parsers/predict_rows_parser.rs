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

/// How the function is written, for its errors.
const FORM: &str =
    "predict_rows('model', (query) [, version => n] [, options => 'name = value, ...'])";

impl PredictRows {
    /// The call that stands in FROM; None where another relation stands there.
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

fn options(text: &str) -> Result<Vec<(String, gradlake_engine::options::OptionValue)>> {
    let script = Script::new(text)?;
    let tokens: Vec<_> = script.statements().flatten().cloned().collect();
    let mut cursor = Cursor::new(&script, &tokens);
    let options = parse_option_list(&mut cursor)?;
    cursor.end("the options")?;
    Ok(options)
}
