//! `LAYERS [FOR column, ... | FOR *] ( layer, ... )`.

use datafusion::error::Result;
use datafusion::sql::sqlparser::tokenizer::Token;
use gradlake_udfs::network::{Branch, LayerSpec, LayersClause, Value};

use super::cursor::Cursor;

/// Layers inside of layers at most.
const MAX_DEPTH: usize = 16;

/// Takes the clause after LAYERS.
pub(super) fn parse_layers(cursor: &mut Cursor<'_>) -> Result<LayersClause> {
    let branch = if cursor.take_words(&["FOR"]) { parse_branch(cursor)? } else { Branch::Trunk };
    let mut inside = cursor.parenthesized("after LAYERS")?;
    let layers = parse_list(&mut inside, 0)?;
    if inside.is_at_end() {
        return Ok(LayersClause { branch, layers });
    }
    Err(inside.expected("a comma or ) after a layer"))
}

fn parse_branch(cursor: &mut Cursor<'_>) -> Result<Branch> {
    if cursor.take(&Token::Mul) {
        return Ok(Branch::Others);
    }
    let mut columns = vec![];
    loop {
        columns.push(cursor.name("the name of a column, or *, after LAYERS FOR")?);
        if !cursor.take(&Token::Comma) {
            return Ok(Branch::Columns(columns));
        }
    }
}

/// Takes `layer, ...`.
fn parse_list(cursor: &mut Cursor<'_>, depth: usize) -> Result<Vec<LayerSpec>> {
    let mut layers = vec![parse_layer(cursor, depth)?];
    while cursor.take(&Token::Comma) {
        layers.push(parse_layer(cursor, depth)?);
    }
    Ok(layers)
}

/// Takes `conv(32, 3, padding => 'same') AS stem`, `relu`, or `residual(conv(32, 3), relu)`.
fn parse_layer(cursor: &mut Cursor<'_>, depth: usize) -> Result<LayerSpec> {
    if depth > MAX_DEPTH {
        return Err(cursor.error("layers are nested too deeply"));
    }
    let mut layer = LayerSpec::new(&cursor.name("the name of a layer")?.to_lowercase());
    if cursor.peek() == Some(&Token::LParen) {
        let mut inside = cursor.parenthesized("after the name of a layer")?;
        while !inside.is_at_end() {
            parse_argument(&mut inside, &mut layer, depth)?;
            if !inside.is_at_end() {
                inside.expect(&Token::Comma, "or ) after an argument of a layer")?;
                if inside.is_at_end() {
                    return Err(inside.expected("another argument after the comma"));
                }
            }
        }
    }
    if cursor.take_words(&["AS"]) {
        layer.alias = Some(cursor.name("the name of the layer after AS")?);
    }
    Ok(layer)
}

/// Takes a value, `name => value`, or a layer.
fn parse_argument(cursor: &mut Cursor<'_>, layer: &mut LayerSpec, depth: usize) -> Result<()> {
    if let Some(Token::Word(word)) = cursor.peek()
        && word.quote_style.is_none()
    {
        let is_flag = ["true", "false"].iter().any(|flag| word.value.eq_ignore_ascii_case(flag));
        if cursor.after().peek() == Some(&Token::RArrow) {
            let name = cursor.name("the name of an argument")?;
            cursor.expect(&Token::RArrow, "after the name of an argument")?;
            layer.named.push((name, parse_value(cursor)?));
            return Ok(());
        }
        if !is_flag {
            layer.layers.push(parse_layer(cursor, depth + 1)?);
            return Ok(());
        }
    }
    if !layer.named.is_empty() {
        return Err(cursor.error("an argument without a name must stand before those with a name"));
    }
    layer.positional.push(parse_value(cursor)?);
    Ok(())
}

/// Takes a number, a string, TRUE, FALSE, or a list of them.
fn parse_value(cursor: &mut Cursor<'_>) -> Result<Value> {
    let start = *cursor;
    let is_negative = cursor.take(&Token::Minus);
    let value = match cursor.peek() {
        Some(Token::Number(text, false)) => match text.parse::<f64>() {
            Ok(number) => Some(Value::Number(if is_negative { -number } else { number })),
            Err(_) => None,
        },
        _ if is_negative => None,
        Some(Token::SingleQuotedString(text)) => Some(Value::Text(text.clone())),
        Some(Token::Word(word)) if word.quote_style.is_none() => {
            Some(match word.value.to_lowercase().as_str() {
                "true" => Value::Flag(true),
                "false" => Value::Flag(false),
                word => Value::Text(word.to_owned()),
            })
        }
        Some(Token::LBracket) => {
            *cursor = cursor.after();
            return parse_values(cursor);
        }
        _ => None,
    };
    let Some(value) = value else {
        return Err(start.expected(
            "the value of an argument (a number, a string in single quotes, TRUE, FALSE or \
             [value, ...])",
        ));
    };
    *cursor = cursor.after();
    Ok(value)
}

/// Takes the values of a list after its `[`.
fn parse_values(cursor: &mut Cursor<'_>) -> Result<Value> {
    let mut values = vec![];
    loop {
        values.push(parse_value(cursor)?);
        if cursor.take(&Token::RBracket) {
            return Ok(Value::List(values));
        }
        cursor.expect(&Token::Comma, "or ] in a list")?;
    }
}
