//! `TRAIN MODEL`.

use std::collections::HashMap;

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::sql::sqlparser::tokenizer::Token;
use gradlake_engine::{nearest, suggestion};
use gradlake_udfs::Algorithm;
use gradlake_udfs::network::LayersClause;

use super::cursor::Cursor;
use super::layers_parser::parse_layers;
use super::option_parser::parse_options;
use super::source_parser::parse_source;
use super::transform_parser::parse_transform;
use crate::statements::{Source, Train, quoted};

/// First words of the clauses before AS and FROM.
const CLAUSES: [&str; 9] = [
    "USING",
    "TRANSFORM",
    "TARGET",
    "FEATURES",
    "WEIGHT",
    "PARTITION",
    "CONTINUE",
    "LAYERS",
    "WITH",
];

/// Words that continue an expression after a column's name.
const OPERATORS: [&str; 14] = [
    "IS", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN", "AND", "OR", "XOR", "DIV", "SIMILAR", "COLLATE",
    "AT", "WHEN",
];

/// Parses a statement from TRAIN to its end.
pub(super) fn parse_train(cursor: &mut Cursor<'_>) -> Result<Train> {
    cursor.expect_words(&["TRAIN"], "at the beginning")?;
    let or_replace = cursor.take_words(&["OR", "REPLACE"]);
    let place =
        if or_replace { "after TRAIN OR REPLACE" } else { "or OR REPLACE MODEL after TRAIN" };
    cursor.expect_words(&["MODEL"], place)?;
    let at_if = *cursor;
    let if_not_exists = cursor.take_words(&["IF", "NOT", "EXISTS"]);
    if or_replace && if_not_exists {
        return Err(at_if.error(
            "OR REPLACE and IF NOT EXISTS contradict each other, write one of them, found both",
        ));
    }
    let name = cursor.model_name("MODEL")?;
    let mut clauses = Clauses::default();
    let source = loop {
        if let Some(source) = parse_source(cursor, "TRAIN")? {
            break source;
        }
        clauses.parse_one(cursor)?;
    };
    clauses.finish(or_replace, if_not_exists, name, source)
}

/// The clauses so far.
#[derive(Default)]
struct Clauses {
    /// First words of the clauses that were given.
    given: Vec<&'static str>,
    algorithm: Option<String>,
    transform: Vec<crate::statements::TransformItem>,
    targets: Vec<String>,
    features: Option<Vec<String>>,
    weight: Option<String>,
    partition_by: Vec<String>,
    continue_from: Option<(String, Option<u64>)>,
    layers: Vec<LayersClause>,
    options: Vec<(String, gradlake_engine::OptionValue)>,
}

impl Clauses {
    /// Takes one clause.
    fn parse_one(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let Some(&clause) = CLAUSES.iter().find(|clause| cursor.is_word(clause)) else {
            let hint = match cursor.peek() {
                Some(Token::Word(word)) => nearest(&word.value, CLAUSES),
                _ => None,
            };
            let error = cursor.expected(
                "USING, TRANSFORM, TARGET, FEATURES, WEIGHT, PARTITION BY, CONTINUE, LAYERS, WITH, \
                 AS query or FROM table",
            );
            return plan_err!("{}{}", error.message(), suggestion(hint));
        };
        // (LAYERS may come once for each branch.)
        if self.given.contains(&clause) && clause != "LAYERS" {
            let by = if clause == "PARTITION" { " BY" } else { "" };
            return Err(cursor.error(&format!("clause {clause}{by} is given twice, again")));
        }
        self.given.push(clause);
        *cursor = cursor.after();
        match clause {
            "USING" => self.algorithm = Some(cursor.name("the name of an algorithm after USING")?),
            "TRANSFORM" => self.transform = parse_transform(cursor)?,
            "TARGET" => self.targets = parse_targets(cursor)?,
            "FEATURES" => {
                let mut inside = cursor.parenthesized("after FEATURES")?;
                let names = parse_columns(&mut inside, "FEATURES")?;
                inside.end("the names of FEATURES")?;
                self.features = Some(names);
            }
            "WEIGHT" => self.weight = Some(parse_column(cursor, "WEIGHT")?),
            "PARTITION" => {
                cursor.expect_words(&["BY"], "after PARTITION")?;
                self.partition_by = parse_columns(cursor, "PARTITION BY")?;
            }
            "CONTINUE" => {
                self.continue_from = Some((cursor.model_name("CONTINUE")?, cursor.version()?));
            }
            "LAYERS" => self.layers.push(parse_layers(cursor)?),
            _ => self.options = parse_options(cursor)?,
        }
        Ok(())
    }

    fn finish(
        self,
        or_replace: bool,
        if_not_exists: bool,
        name: String,
        source: Source,
    ) -> Result<Train> {
        let Some(algorithm) = self.algorithm else {
            return plan_err!(
                "TRAIN MODEL {} has no algorithm; add USING and one of {}",
                quoted(&name),
                Algorithm::names().join(", ")
            );
        };
        let train = Train {
            or_replace,
            if_not_exists,
            name,
            algorithm,
            transform: self.transform,
            targets: self.targets,
            features: self.features,
            weight: self.weight,
            partition_by: self.partition_by,
            continue_from: self.continue_from,
            layers: self.layers,
            options: self.options,
            source,
        };
        check_roles(&train)?;
        Ok(train)
    }
}

/// `name`, or `(name, ...)`.
fn parse_targets(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    // An expression in parentheses is refused as an expression.
    let is_list = matches!(cursor.peek(), Some(Token::LParen))
        && matches!(cursor.after().peek(), Some(Token::Word(_)))
        && matches!(cursor.after().after().peek(), Some(Token::Comma | Token::RParen));
    if !is_list {
        return Ok(vec![parse_column(cursor, "TARGET")?]);
    }
    let mut inside = cursor.parenthesized("after TARGET")?;
    let names = parse_columns(&mut inside, "TARGET")?;
    inside.end("the names of TARGET")?;
    Ok(names)
}

/// A column has one role.
fn check_roles(train: &Train) -> Result<()> {
    let one = |role, name: &Option<String>| name.iter().map(|n| (role, n.clone())).collect();
    let many = |role, names: &[String]| names.iter().map(|n| (role, n.clone())).collect();
    let roles: [Vec<(&str, String)>; 4] = [
        many("TARGET", &train.targets),
        one("WEIGHT", &train.weight),
        many("PARTITION BY", &train.partition_by),
        many("FEATURES", train.features.as_deref().unwrap_or_default()),
    ];
    let mut taken: HashMap<String, &str> = HashMap::new();
    for (role, name) in roles.into_iter().flatten() {
        match taken.get(&name) {
            Some(other) if *other == role => {
                return plan_err!("{role} names column {name} twice");
            }
            Some(other) => {
                return plan_err!(
                    "column {name} stands in {other} and in {role}; it can have one role"
                );
            }
            None => taken.insert(name, role),
        };
    }
    Ok(())
}

/// `name, ...`
fn parse_columns(cursor: &mut Cursor<'_>, clause: &str) -> Result<Vec<String>> {
    let mut names = vec![parse_column(cursor, clause)?];
    while cursor.take(&Token::Comma) {
        names.push(parse_column(cursor, clause)?);
    }
    Ok(names)
}

/// Takes the name of a column; for an expression, the error says what to do.
fn parse_column(cursor: &mut Cursor<'_>, clause: &str) -> Result<String> {
    let start = *cursor;
    let mut after = start.after();
    let ends = |at: &Cursor<'_>| {
        at.is_at_end()
            || matches!(at.peek(), Some(Token::Comma | Token::RParen))
            || ["AS", "FROM"].iter().chain(&CLAUSES).any(|word| at.is_word(word))
    };
    let begins_expression = ["CASE", "NOT"].iter().any(|word| start.is_word(word)) && !ends(&after);
    let is_operator = match after.peek() {
        Some(Token::Word(_)) => OPERATORS.iter().any(|word| after.is_word(word)),
        _ => !ends(&after),
    };
    match start.peek() {
        Some(Token::Word(_)) if !begins_expression && !is_operator => {
            return cursor.name("the name of a column");
        }
        None | Some(Token::Comma | Token::RParen) => {
            return Err(start.expected(&format!("the name of a column in {clause}")));
        }
        _ => {}
    }
    // The expression reaches to the next clause outside of parentheses.
    let mut depth = 0_usize;
    while !after.is_at_end() && (depth > 0 || !ends(&after)) {
        match after.peek() {
            Some(Token::LParen) => depth += 1,
            Some(Token::RParen) => depth = depth.saturating_sub(1),
            _ => {}
        }
        after = after.after();
    }
    let length = start.rest().len() - after.rest().len();
    let expression = start.script.text(&start.rest()[..length]);
    let leaving = match (clause, start.peek(), start.after().peek()) {
        (_, _, Some(Token::LParen)) => String::new(),
        ("TARGET", Some(Token::Word(word)), _) => format!(", leaving {} out", word.value),
        _ => String::new(),
    };
    Err(start.error(&format!(
        "{clause} takes the name of a column; give the expression a name in the query \
         ({expression} AS some_name{leaving}) and write that name here, found {expression}"
    )))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use gradlake_engine::TrainRequest;

    use crate::parsers::parse_one;

    /// A model records the statement, and a checkpoint asks the user to run it again.
    #[tokio::test]
    async fn the_statement_of_a_builder_is_read_again() {
        let rows = SessionContext::new()
            .sql("SELECT 1.0 AS x, 2.0 AS \"Y\", 1.0 AS w, 1 AS g, 2 AS \"h i\"")
            .await
            .unwrap();
        let request = TrainRequest::builder("My model", "mlp_regressor", rows)
            .or_replace()
            .transform("x", "x * 2")
            .target("Y")
            .features(["x"])
            .weight("w")
            .partition_by(["g", "h i"])
            .continue_from("Other", Some(3))
            .option("hidden", vec![8, 4])
            .option("optimizer", "sgd")
            .build()
            .unwrap();
        let statement = parse_one(&request.statement).unwrap();
        assert_eq!(statement.to_string(), request.statement);
    }
}
