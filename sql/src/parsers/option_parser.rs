//! `WITH ( name = value, ... )`.

use datafusion::error::Result;
use datafusion::sql::sqlparser::tokenizer::Token;
use gradlake_engine::OptionValue;

use super::cursor::Cursor;

/// Takes `( name = value, ... )` after WITH.
pub(super) fn parse_options(cursor: &mut Cursor<'_>) -> Result<Vec<(String, OptionValue)>> {
    let mut inside = cursor.parenthesized("after WITH")?;
    let options = parse_option_list(&mut inside)?;
    if inside.is_at_end() {
        return Ok(options);
    }
    Err(inside.expected("a comma or ) after the value of an option"))
}

/// Takes `name = value, ...`.
pub(super) fn parse_option_list(cursor: &mut Cursor<'_>) -> Result<Vec<(String, OptionValue)>> {
    let mut options = vec![];
    loop {
        let name = cursor.name("the name of an option")?;
        cursor.expect(&Token::Eq, &format!("after option {name}"))?;
        options.push((name, parse_value(cursor)?));
        if !cursor.take(&Token::Comma) {
            return Ok(options);
        }
    }
}

fn parse_value(cursor: &mut Cursor<'_>) -> Result<OptionValue> {
    let start = *cursor;
    let value = match cursor.peek() {
        Some(Token::SingleQuotedString(text)) => OptionValue::String(text.clone()),
        Some(Token::Number(text, false)) => OptionValue::Number(text.clone()),
        Some(Token::Word(word)) if word.quote_style.is_none() => {
            match word.value.to_lowercase().as_str() {
                "true" => OptionValue::Bool(true),
                "false" => OptionValue::Bool(false),
                word => OptionValue::Word(word.to_owned()),
            }
        }
        Some(Token::Minus) => match cursor.after().peek() {
            Some(Token::Number(text, false)) => {
                *cursor = cursor.after();
                OptionValue::Number(format!("-{text}"))
            }
            _ => return Err(cursor.after().expected("a number after -")),
        },
        Some(Token::LBracket) => {
            *cursor = cursor.after();
            return parse_list(cursor);
        }
        Some(Token::LBrace) => {
            *cursor = cursor.after();
            return parse_map(cursor);
        }
        _ => {
            return Err(start.expected(
                "the value of an option (a string in single quotes, a number, TRUE, FALSE, a \
                 word, [value, ...] or {'key': value, ...})",
            ));
        }
    };
    *cursor = cursor.after();
    Ok(value)
}

/// Takes the values of a list after its `[`.
fn parse_list(cursor: &mut Cursor<'_>) -> Result<OptionValue> {
    let mut values = vec![];
    if cursor.take(&Token::RBracket) {
        return Ok(OptionValue::List(values));
    }
    loop {
        values.push(parse_value(cursor)?);
        if cursor.take(&Token::RBracket) {
            return Ok(OptionValue::List(values));
        }
        cursor.expect(&Token::Comma, "or ] in a list")?;
    }
}

/// Takes the entries of a map after its `{`.
fn parse_map(cursor: &mut Cursor<'_>) -> Result<OptionValue> {
    let mut entries: Vec<(String, OptionValue)> = vec![];
    if cursor.take(&Token::RBrace) {
        return Ok(OptionValue::Map(entries));
    }
    loop {
        let Some(Token::SingleQuotedString(key)) = cursor.peek() else {
            return Err(cursor.expected("a key in single quotes, as in {'key': value}"));
        };
        if entries.iter().any(|(other, _)| other == key) {
            return Err(cursor.error(&format!("key '{key}' is given twice, again")));
        }
        *cursor = cursor.after();
        cursor.expect(&Token::Colon, &format!("after the key '{key}'"))?;
        entries.push((key.clone(), parse_value(cursor)?));
        if cursor.take(&Token::RBrace) {
            return Ok(OptionValue::Map(entries));
        }
        cursor.expect(&Token::Comma, "or } in a map")?;
    }
}
