//! `PREDICT MODEL`, as a statement and in place of a subquery.
//!
//! sqlparser cannot be extended with a new kind of query, so `(PREDICT MODEL m VERSION 3 AS query)`
//! becomes the tokens `(SELECT * FROM predict_rows('m', (query), version => 3))` before sqlparser
//! reads them. The other tokens keep their positions, so sqlparser's errors point into the
//! statement as written.

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::sql::sqlparser::keywords::{
    Keyword, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_TABLE_ALIAS,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::{Cursor, closing};
use super::option_parser::parse_options;
use super::script::{Script, is_significant};
use super::source_parser::parse_source;
use crate::statements::{PREDICT_ROWS, Predict, options_text};

/// Parses a statement from PREDICT to its end.
pub(super) fn parse_predict(cursor: &mut Cursor<'_>) -> Result<Predict> {
    cursor.expect_words(&["PREDICT"], "at the beginning")?;
    cursor.expect_words(&["MODEL"], "after PREDICT")?;
    let name = cursor.model_name("MODEL")?;
    let (version, options) = parse_version_and_options(cursor, "PREDICT")?;
    match parse_source(cursor, "PREDICT")? {
        Some(source) => Ok(Predict { name, version, options, source }),
        None => Err(cursor.expected("VERSION, WITH, AS query or FROM table after PREDICT MODEL")),
    }
}

/// The options of WITH.
type Options = Vec<(String, gradlake_engine::OptionValue)>;

/// `[VERSION n] [WITH (...)]` in either order, each once.
pub(super) fn parse_version_and_options(
    cursor: &mut Cursor<'_>,
    statement: &str,
) -> Result<(Option<u64>, Options)> {
    let (mut version, mut options) = (None, None);
    loop {
        let start = *cursor;
        let (clause, is_repeated) = if cursor.is_word("VERSION") {
            ("VERSION", version.is_some())
        } else if cursor.is_word("WITH") {
            ("WITH", options.is_some())
        } else {
            return Ok((version, options.unwrap_or_default()));
        };
        if is_repeated {
            return Err(
                start.error(&format!("clause {clause} of {statement} is given twice, again"))
            );
        }
        if clause == "VERSION" {
            version = cursor.version()?;
        } else {
            *cursor = cursor.after();
            options = Some(parse_options(cursor)?);
        }
    }
}

/// The tokens of a statement, with each inner `PREDICT MODEL ...` replaced by its `predict_rows`
/// call.
pub(super) fn replace_predictions(
    script: &Script<'_>,
    tokens: &[TokenWithSpan],
) -> Result<Vec<TokenWithSpan>> {
    let mut replaced: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if !stands_for_query(script, &tokens[..at], rest) {
            replaced.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let length = closing(rest).unwrap_or(rest.len());
        replaced.extend(twin(script, &rest[..length])?);
        at += length;
    }
    Ok(replaced)
}

/// Whether `rest` begins with a PREDICT in the place of a query, and not with a column or table of
/// that name followed by the alias `model`.
fn stands_for_query(script: &Script<'_>, before: &[TokenWithSpan], rest: &[TokenWithSpan]) -> bool {
    if !rest.first().is_some_and(is_significant) {
        return false;
    }
    let mut cursor = Cursor::new(script, rest);
    if !cursor.take_words(&["PREDICT", "MODEL"]) {
        return false;
    }
    let Some(previous) = before.iter().rev().find(|token| is_significant(token)) else {
        // The first word of the statement: `parse_predict` reads it.
        return false;
    };
    if let Token::Word(word) = &previous.token {
        let leads = [Keyword::AS, Keyword::EXPLAIN, Keyword::ANALYZE, Keyword::VERBOSE];
        if leads.contains(&word.keyword) {
            return true;
        }
    }
    if previous.token == Token::LParen {
        return true;
    }
    // INSERT INTO t PREDICT ..., WITH c AS (...) PREDICT ..., UNION ALL PREDICT ...
    let is_name = match cursor.peek() {
        Some(Token::Word(word)) => {
            !RESERVED_FOR_COLUMN_ALIAS.contains(&word.keyword)
                && !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    };
    let next = cursor.after();
    is_name
        && (next.is_word("AS")
            || next.is_word("FROM")
            || (next.is_word("VERSION") && matches!(next.after().peek(), Some(Token::Number(..))))
            || (next.is_word("WITH") && next.after().peek() == Some(&Token::LParen)))
}

/// The `predict_rows` call that replaces the tokens `PREDICT MODEL ...`.
fn twin(script: &Script<'_>, tokens: &[TokenWithSpan]) -> Result<Vec<TokenWithSpan>> {
    let mut cursor = Cursor::new(script, tokens);
    let Some(first) = tokens.first() else {
        return plan_err!("expected PREDICT MODEL, found nothing");
    };
    let inner = replace_predictions(script, tokens)?;
    // The statement is parsed here for its errors and its head; the query's own tokens go into the
    // call.
    let mut checked = Cursor::new(script, &inner);
    let predict = parse_predict(&mut checked)?;
    let body = loop {
        if cursor.is_word("AS") {
            // This includes the AS before the query, so that a PREDICT right after the AS is
            // recognised.
            let replaced = replace_predictions(script, cursor.rest())?;
            break replaced
                .into_iter()
                .skip_while(|token| !is_significant(token))
                .skip(1)
                .collect();
        }
        if cursor.is_word("FROM") {
            let mut body = words(&["SELECT"]);
            body.push(Token::Mul);
            let mut body: Vec<_> = spanned(body, first);
            body.extend_from_slice(cursor.rest());
            break body;
        }
        if cursor.peek() == Some(&Token::LParen) {
            cursor.parenthesized("after WITH")?;
        } else {
            cursor = cursor.after();
        }
        if cursor.is_at_end() {
            return plan_err!("PREDICT MODEL {} has neither AS nor FROM", predict.name);
        }
    };
    let mut head = words(&["SELECT"]);
    head.push(Token::Mul);
    head.extend(words(&["FROM", PREDICT_ROWS]));
    head.extend([
        Token::LParen,
        Token::SingleQuotedString(predict.name.clone()),
        Token::Comma,
        Token::LParen,
    ]);
    let mut tail = vec![Token::RParen];
    if let Some(version) = predict.version {
        tail.push(Token::Comma);
        tail.extend(words(&["version"]));
        tail.extend([Token::RArrow, Token::Number(version.to_string(), false)]);
    }
    if !predict.options.is_empty() {
        tail.push(Token::Comma);
        tail.extend(words(&["options"]));
        tail.extend([Token::RArrow, Token::SingleQuotedString(options_text(&predict.options))]);
    }
    tail.push(Token::RParen);
    Ok([spanned(head, first), body, spanned(tail, first)].concat())
}

fn words(words: &[&str]) -> Vec<Token> {
    words.iter().map(|word| Token::make_keyword(word)).collect()
}

/// Gives new tokens the position of the PREDICT.
fn spanned(tokens: Vec<Token>, at: &TokenWithSpan) -> Vec<TokenWithSpan> {
    tokens.into_iter().map(|token| TokenWithSpan { token, span: at.span }).collect()
}
