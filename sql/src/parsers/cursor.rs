//! Reads tokens one by one, with errors that say what was found and where.

use datafusion::common::plan_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::script::{Script, is_significant};
use crate::statements::folded;

/// A position among the tokens of one statement.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) script: &'a Script<'a>,
    tokens: &'a [TokenWithSpan],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(script: &'a Script<'a>, tokens: &'a [TokenWithSpan]) -> Self {
        Self { script, tokens }.skipped()
    }

    /// Moves over white space and comments.
    fn skipped(mut self) -> Self {
        while let [first, rest @ ..] = self.tokens {
            if is_significant(first) {
                break;
            }
            self.tokens = rest;
        }
        self
    }

    /// The tokens from here on.
    pub(super) fn rest(&self) -> &'a [TokenWithSpan] {
        self.tokens
    }

    /// The next token, without taking it.
    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.first().map(|token| &token.token)
    }

    /// The position after the next token.
    pub(super) fn after(&self) -> Self {
        let tokens = self.tokens.get(1..).unwrap_or_default();
        Self { tokens, ..*self }.skipped()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether the next token is this word, unquoted, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w))
            if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
    }

    /// Whether the next tokens are these words.
    pub(super) fn is_words(&self, words: &[&str]) -> bool {
        let mut cursor = *self;
        words.iter().all(|word| {
            let is_it = cursor.is_word(word);
            cursor = cursor.after();
            is_it
        })
    }

    /// Takes these words if they are next.
    pub(super) fn take_words(&mut self, words: &[&str]) -> bool {
        let is_next = self.is_words(words);
        if is_next {
            words.iter().for_each(|_| *self = self.after());
        }
        is_next
    }

    /// Takes this token if it is next.
    pub(super) fn take(&mut self, token: &Token) -> bool {
        let is_next = self.peek() == Some(token);
        if is_next {
            *self = self.after();
        }
        is_next
    }

    /// Takes words that must be next.
    pub(super) fn expect_words(&mut self, words: &[&str], place: &str) -> Result<()> {
        if self.take_words(words) {
            return Ok(());
        }
        Err(self.expected(&format!("{} {place}", words.join(" "))))
    }

    /// Takes a token that must be next.
    pub(super) fn expect(&mut self, token: &Token, place: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.expected(&format!("{token} {place}"))) }
    }

    /// Takes an identifier, which keeps its quotes.
    pub(super) fn ident(&mut self, what: &str) -> Result<Ident> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let ident = Ident {
                    value: word.value.clone(),
                    ..word.clone().into_ident(self.tokens[0].span)
                };
                *self = self.after();
                Ok(ident)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Takes a name and folds it unless it is quoted.
    pub(super) fn name(&mut self, what: &str) -> Result<String> {
        Ok(folded(&self.ident(what)?))
    }

    /// Takes the name of a model.
    pub(super) fn model_name(&mut self, place: &str) -> Result<String> {
        let start = self.tokens;
        let name = self.name(&format!("the name of a model after {place}"))?;
        if !matches!(self.peek(), Some(Token::Minus | Token::Period | Token::Div)) {
            return Ok(name);
        }
        // The whole of `my-model`: all tokens up to the next space.
        let whole = start.iter().take_while(|token| is_significant(token)).count();
        let whole = self.script.text(&start[..whole]);
        Err(self.error(&format!(
            "the name of a model with other characters than letters, digits and _ must be \
             quoted, as in \"{whole}\", found {whole}"
        )))
    }

    /// Takes `VERSION n` if it is next.
    pub(super) fn version(&mut self) -> Result<Option<u64>> {
        if self.take_words(&["VERSION"]) { self.version_number().map(Some) } else { Ok(None) }
    }

    /// Takes the number after VERSION.
    pub(super) fn version_number(&mut self) -> Result<u64> {
        let number = match self.peek() {
            Some(Token::Number(text, false)) => text.parse().ok().filter(|n| *n > 0),
            _ => None,
        };
        let Some(number) = number else {
            return Err(self.expected("a whole number from 1 on after VERSION"));
        };
        *self = self.after();
        Ok(number)
    }

    /// Takes what is in parentheses; the opening one must be the next token.
    pub(super) fn parenthesized(&mut self, place: &str) -> Result<Cursor<'a>> {
        let open = *self;
        self.expect(&Token::LParen, place)?;
        let Some(length) = closing(self.tokens) else {
            return Err(open.error(&format!("the parenthesis {place} is never closed, opened")));
        };
        let inside = Self { tokens: &self.tokens[..length], ..*self };
        *self = Self { tokens: &self.tokens[length + 1..], ..*self }.skipped();
        Ok(inside)
    }

    /// Checks that the statement ends here.
    pub(super) fn end(&self, place: &str) -> Result<()> {
        if self.is_at_end() {
            return Ok(());
        }
        Err(self.error(&format!(
            "expected the end of the statement after {place}, found {}",
            excerpt(self.script.text(self.tokens))
        )))
    }

    /// `expected ..., found ... at line ..., column ...`
    pub(super) fn expected(&self, what: &str) -> DataFusionError {
        let found = self.peek().map_or_else(|| "the end".to_owned(), ToString::to_string);
        self.error(&format!("expected {what}, found {found}"))
    }

    /// An error with the sentence and the position of the next token.
    pub(super) fn error(&self, sentence: &str) -> DataFusionError {
        plan_datafusion_err!("{sentence}{}", self.place())
    }

    /// ` at line 1, column 2`; nothing at the end.
    pub(super) fn place(&self) -> String {
        self.tokens.first().map_or_else(String::new, |token| {
            let start = token.span.start;
            format!(" at line {}, column {}", start.line, start.column)
        })
    }

    /// Parses all tokens from here on with sqlparser.
    ///
    /// # Errors
    /// sqlparser's errors in our wording, or an error if tokens are left.
    pub(super) fn parse_all<T>(
        &self,
        place: &str,
        parse: impl FnOnce(&mut Parser<'_>) -> std::result::Result<T, ParserError>,
    ) -> Result<T> {
        let mut parser =
            Parser::new(&GenericDialect {}).with_tokens_with_locations(self.tokens.to_vec());
        let result = parse(&mut parser).map_err(|error| {
            let message = match error {
                ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
                ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
            };
            plan_datafusion_err!("{place} cannot be read: {}", in_our_words(&message))
        })?;
        let left = parser.peek_token();
        if left.token == Token::EOF {
            return Ok(result);
        }
        let at = self.tokens.iter().position(|token| token.span == left.span).unwrap_or_default();
        Self { tokens: &self.tokens[at..], ..*self }.end(place)?;
        Ok(result)
    }
}

/// The index of the `)` that closes a parenthesis opened before these tokens.
pub(super) fn closing(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0_usize;
    tokens.iter().position(|token| match token.token {
        Token::LParen => {
            depth += 1;
            false
        }
        Token::RParen if depth == 0 => true,
        Token::RParen => {
            depth -= 1;
            false
        }
        _ => false,
    })
}

/// At most 60 characters of a text, in one line.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", line[..at].trim_end()),
        None => line,
    }
}

/// `Expected: x, found: y at Line: 1, Column: 2` in the wording of our errors.
fn in_our_words(message: &str) -> String {
    message
        .replacen("Expected: ", "expected ", 1)
        .replacen(", found: EOF", ", found the end", 1)
        .replacen(", found: ", ", found ", 1)
        .replacen(" at Line: ", " at line ", 1)
        .replacen(", Column: ", ", column ", 1)
}
