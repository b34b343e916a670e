//! Parses SQL text to [`Statement`]s: one parser per Gradlake statement, and DataFusion's for the
//! rest.
//!
//! Gradlake's keywords are matched by their text when unquoted, so that tables and columns may
//! still be called `train`, `model` or `predict`.

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::sql::parser::{DFParserBuilder, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

mod alter_parser;
mod cursor;
mod describe_parser;
mod drop_parser;
mod evaluate_parser;
mod explain_parser;
mod layers_parser;
mod models;
mod option_parser;
mod predict_parser;
mod predict_rows_parser;
mod script;
mod source_parser;
mod train_parser;
mod transform_parser;

use cursor::Cursor;
use script::Script;

use crate::statements::Statement;

pub use models::{ModelUse, models_of_query, models_of_statement};

/// Parses all statements of a script.
///
/// # Errors
/// The first error of a statement, with line and column in the script.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let script = Script::new(sql)?;
    script.statements().map(|tokens| parse_statement(&script, tokens)).collect()
}

/// Parses a text that holds one statement.
///
/// # Errors
/// Those of [`parse`], and when there is no statement or more than one.
pub fn parse_one(sql: &str) -> Result<Statement> {
    let script = Script::new(sql)?;
    let mut statements = script.statements();
    let Some(tokens) = statements.next() else {
        return plan_err!("expected a statement, found none");
    };
    let statement = parse_statement(&script, tokens)?;
    match statements.next() {
        None => Ok(statement),
        Some(second) => {
            Err(Cursor::new(&script, second).expected("one statement alone, but after ; another"))
        }
    }
}

/// Splits a script at the semicolons between statements; strings, quoted names and comments may
/// contain semicolons. Empty statements and comments around a statement are dropped.
///
/// # Errors
/// When a string, quoted name or comment does not end.
pub fn split(script: &str) -> Result<Vec<String>> {
    let script = Script::new(script)?;
    Ok(script.statements().map(|tokens| script.text(tokens).to_owned()).collect())
}

/// Parses a DataFusion query.
pub(crate) fn query(sql: &str) -> Result<Box<Query>> {
    match parse_one(sql)? {
        Statement::DataFusion(statement) => match *statement {
            DfStatement::Statement(statement) => match *statement {
                SqlStatement::Query(query) => Ok(query),
                other => plan_err!("expected a query, found {other}"),
            },
            other => plan_err!("expected a query, found {other}"),
        },
        other => plan_err!("expected a query, found {other}"),
    }
}

fn parse_statement(script: &Script<'_>, tokens: &[TokenWithSpan]) -> Result<Statement> {
    let tokens = predict_parser::replace_predictions(script, tokens)?;
    let mut cursor = Cursor::new(script, &tokens);
    let first = cursor.peek().map(|token| match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
        _ => String::new(),
    });
    let statement = match first.as_deref().unwrap_or_default() {
        "TRAIN" => Statement::Train(Box::new(train_parser::parse_train(&mut cursor)?)),
        "PREDICT" => Statement::Predict(Box::new(predict_parser::parse_predict(&mut cursor)?)),
        "EVALUATE" => Statement::Evaluate(Box::new(evaluate_parser::parse_evaluate(&mut cursor)?)),
        "EXPLAIN" if explain_parser::is_ours(&cursor) => {
            Statement::ExplainTrain(explain_parser::parse_explain_train(&mut cursor)?)
        }
        "SHOW" if cursor.take_words(&["SHOW", "MODELS"]) => Statement::ShowModels,
        // Users who know SHOW MODELS try the plural.
        "SHOW" if ["TRAINING", "TRAININGS"].iter().any(|w| cursor.take_words(&["SHOW", w])) => {
            Statement::ShowTraining
        }
        "DESCRIBE" | "DESC" if describe_parser::is_ours(&cursor) => {
            Statement::DescribeModel(describe_parser::parse_describe_model(&mut cursor)?)
        }
        "DROP" if cursor.is_words(&["DROP", "MODEL"]) => {
            Statement::DropModel(drop_parser::parse_drop_model(&mut cursor)?)
        }
        "ALTER" if cursor.is_words(&["ALTER", "MODEL"]) => {
            Statement::AlterModel(alter_parser::parse_alter_model(&mut cursor)?)
        }
        _ => return parse_other(&tokens),
    };
    cursor.end("the statement")?;
    Ok(statement)
}

/// Parses a DataFusion statement, with DataFusion's own errors.
fn parse_other(tokens: &[TokenWithSpan]) -> Result<Statement> {
    let mut statements = DFParserBuilder::new(tokens.to_vec()).build()?.parse_statements()?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(Statement::DataFusion(Box::new(statement))),
        (_, more) => plan_err!("expected one statement, found {}", more + 1),
    }
}
