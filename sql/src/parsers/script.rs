//! The text of a script as tokens, and the way back from tokens to text.

use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// A script and its tokens, including white space and comments.
pub(super) struct Script<'a> {
    text: &'a str,
    /// Byte at which each line begins.
    lines: Vec<usize>,
    tokens: Vec<TokenWithSpan>,
}

impl<'a> Script<'a> {
    /// # Errors
    /// When a string, quoted name or comment does not end.
    pub(super) fn new(text: &'a str) -> Result<Self> {
        let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
        let tokens = tokens.map_err(|error| {
            let Location { line, column } = error.location;
            let what = error.message.trim_end_matches('.');
            plan_datafusion_err!("{what} at line {line}, column {column}")
        })?;
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Ok(Self { text, lines: lines.collect(), tokens })
    }

    /// The tokens of each statement, without semicolons and empty statements.
    pub(super) fn statements(&self) -> impl Iterator<Item = &[TokenWithSpan]> {
        self.tokens
            .split(|token| token.token == Token::SemiColon)
            .filter(|tokens| tokens.iter().any(is_significant))
    }

    /// The text from the first to the last of some tokens, without surrounding space.
    pub(super) fn text(&self, tokens: &[TokenWithSpan]) -> &'a str {
        let mut significant = tokens.iter().filter(|token| is_significant(token));
        let Some(first) = significant.next() else { return "" };
        let last = significant.next_back().unwrap_or(first);
        let range = self.offset(first.span.start)..self.offset(last.span.end);
        self.text.get(range).unwrap_or_default().trim()
    }

    /// The byte of a location, whose column counts characters from 1.
    fn offset(&self, location: Location) -> usize {
        let line = usize::try_from(location.line).unwrap_or(usize::MAX).saturating_sub(1);
        let column = usize::try_from(location.column).unwrap_or(usize::MAX).saturating_sub(1);
        let Some(&start) = self.lines.get(line) else { return self.text.len() };
        let rest = self.text.get(start..).unwrap_or_default();
        rest.char_indices().nth(column).map_or(self.text.len(), |(at, _)| start + at)
    }
}

/// Whether a token is more than white space or a comment.
pub(super) fn is_significant(token: &TokenWithSpan) -> bool {
    !matches!(token.token, Token::Whitespace(_) | Token::EOF)
}
