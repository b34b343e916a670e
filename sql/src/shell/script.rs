//! Scripts: finds where statements begin and end, by the tokens of the parser itself.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// One statement of a script, without the semicolon and without the comments before it, or a
/// command, which begins with a backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Its text.
    pub text: &'a str,
    /// Line of its first character in the script, from 1.
    pub line: u64,
    /// Column of its first character, in characters from 1.
    pub column: u64,
}

/// The statements of a script, without empty ones.
///
/// Text that cannot be split into tokens (an unclosed quote) belongs to the last statement, so that
/// the statements before it run and the parser reports what is wrong with it.
pub fn statements(script: &str) -> Vec<Statement<'_>> {
    scan(script).0
}

/// Whether the text can be run as it is: it ends with a semicolon outside of quotes and comments,
/// or holds no statement at all.
pub fn is_complete(input: &str) -> bool {
    let (statements, ending) = scan(input);
    match ending {
        Ending::Closed => true,
        Ending::Open => statements.is_empty(),
        Ending::Unterminated => false,
        // Another line would not fix it, so let the parser report the error.
        Ending::Malformed => true,
    }
}

/// How a script ends.
enum Ending {
    /// After a semicolon, apart from spaces and comments.
    Closed,
    /// In the middle of a statement, or without any.
    Open,
    /// Inside quotes or a comment.
    Unterminated,
    /// With text that is not a token.
    Malformed,
}

fn scan(script: &str) -> (Vec<Statement<'_>>, Ending) {
    let mut found = vec![];
    // A file that the system can run begins with a `#!` line.
    let (mut line, mut part) = match script.starts_with("#!") {
        true => (2, script.split_once('\n').map_or("", |(_, rest)| rest)),
        false => (1, script),
    };
    loop {
        let (command, ending) = scan_part(part, line, &mut found);
        let Some((offset, location)) = command else { return (found, ending) };
        let rest = part.get(offset..).unwrap_or_default();
        let (text, rest) = rest.split_once('\n').unwrap_or((rest, ""));
        line += location.line - 1;
        found.push(Statement { text: text.trim(), line, column: location.column });
        line += 1;
        part = rest;
    }
}

/// The statements before the first backslash in the place where a statement could begin, and the
/// position of that backslash. It begins a command that ends with its line and need not consist of
/// tokens.
fn scan_part<'a>(
    script: &'a str,
    first_line: u64,
    found: &mut Vec<Statement<'a>>,
) -> (Option<(usize, Location)>, Ending) {
    let mut tokens = Vec::new();
    // The dialect that DataFusion reads by default.
    let failure = Tokenizer::new(&GenericDialect {}, script)
        .with_unescape(false)
        .tokenize_with_location_into_buf(&mut tokens)
        .err();

    let mut statement = |begin, end, at: Location| {
        let at = Location { line: at.line + first_line - 1, ..at };
        found.push(statement(script, begin, end, at));
    };
    let mut cursor = Cursor::new(script);
    let mut start: Option<(usize, Location)> = None;
    let mut closed = first_line > 1;
    let mut end = cursor.offset(Location { line: 1, column: 1 });
    for TokenWithSpan { token, span } in &tokens {
        let offset = cursor.offset(span.start);
        match token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::Backslash if start.is_none() => {
                return (Some((offset, span.start)), Ending::Closed);
            }
            Token::SemiColon => {
                if let Some((begin, at)) = start.take() {
                    statement(begin, offset, at);
                }
                closed = true;
            }
            _ => {
                start.get_or_insert((offset, span.start));
                closed = false;
            }
        }
        end = cursor.offset(span.end);
    }
    if failure.is_some() {
        start.get_or_insert((end, cursor.location()));
    }
    if let Some((begin, at)) = start {
        statement(begin, script.len(), at);
    }
    let ending = match failure {
        Some(error) if error.message.contains("nterminated") || error.message.contains("EOF") => {
            Ending::Unterminated
        }
        Some(_) => Ending::Malformed,
        None if closed => Ending::Closed,
        None => Ending::Open,
    };
    (None, ending)
}

fn statement(script: &str, begin: usize, end: usize, at: Location) -> Statement<'_> {
    let text = script.get(begin..end).unwrap_or_default();
    let (mut line, mut column) = (at.line, at.column);
    // Only what follows the last good token can begin with spaces.
    for c in text.chars().take_while(|c| c.is_whitespace()) {
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    Statement { text: text.trim(), line, column }
}

/// Turns the tokenizer's lines and columns (in characters) into byte offsets, going forward.
struct Cursor<'a> {
    script: &'a str,
    offset: usize,
    line: u64,
    column: u64,
}

impl<'a> Cursor<'a> {
    fn new(script: &'a str) -> Self {
        Self { script, offset: 0, line: 1, column: 1 }
    }

    fn location(&self) -> Location {
        Location { line: self.line, column: self.column }
    }

    fn offset(&mut self, location: Location) -> usize {
        let rest = self.script.get(self.offset..).unwrap_or_default();
        for c in rest.chars() {
            if (self.line, self.column) >= (location.line, location.column) {
                break;
            }
            self.offset += c.len_utf8();
            (self.line, self.column) =
                if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(script: &str) -> Vec<(&str, u64, u64)> {
        statements(script).into_iter().map(|s| (s.text, s.line, s.column)).collect()
    }

    #[test]
    fn statements_know_their_place() {
        assert_eq!(
            split("SELECT 1;\n-- a; comment\n\n  SELECT 'ä;b' ; /* x;\n y */ SELECT\n2"),
            [("SELECT 1", 1, 1), ("SELECT 'ä;b'", 4, 3), ("SELECT\n2", 5, 7)]
        );
    }

    #[test]
    fn semicolons_in_quotes_split_nothing() {
        for text in [
            "SELECT ';'",
            "SELECT 'it''s; '",
            r#"SELECT ";" FROM t"#,
            "SELECT `a;b`",
            "SELECT $$a;b$$",
            "SELECT $x$a;$$;b$x$",
            "SELECT 1 /* ; /* ; */ ; */ + 1",
            "TRAIN MODEL m USING mlp_classifier WITH (hidden = [2, 3], class_weights = {'a;b': 1}) \
             AS SELECT 1",
        ] {
            assert_eq!(split(&format!("{text};{text}")).len(), 2, "{text}");
            assert_eq!(split(text), [(text, 1, 1)], "{text}");
        }
    }

    #[test]
    fn nothing_is_no_statement() {
        for text in ["", " \n ", ";;", " ; -- only a comment", "/* one */"] {
            assert_eq!(split(text), [], "{text:?}");
        }
    }

    #[test]
    fn a_backslash_where_a_statement_begins_is_a_command_to_the_end_of_its_line() {
        assert_eq!(
            split("SELECT 1;\n  \\o it's ; here\nSELECT ';\n\\x'; -- \\n\n\\q"),
            [
                ("SELECT 1", 1, 1),
                ("\\o it's ; here", 2, 3),
                ("SELECT ';\n\\x'", 3, 1),
                ("\\q", 5, 1)
            ]
        );
        assert_eq!(split("SELECT 1; \\d t;"), [("SELECT 1", 1, 1), ("\\d t;", 1, 11)]);
        assert_eq!(split("SELECT \\d"), [("SELECT \\d", 1, 1)]);
        assert!(is_complete("\\d t"));
        assert!(!is_complete("\\d t\nSELECT 1"));
    }

    #[test]
    fn a_line_for_the_system_is_no_statement() {
        assert_eq!(split("#!/usr/bin/env -S gradlake -f\nSELECT 1;"), [("SELECT 1", 2, 1)]);
        assert_eq!(split("#!/usr/bin/env gradlake"), []);
        assert_eq!(split("SELECT 1;\n#!x").len(), 2);
    }

    #[test]
    fn an_unclosed_quote_belongs_to_the_last_statement() {
        assert_eq!(
            split("SELECT 1;\nSELECT 'abc;\nSELECT 2;"),
            [("SELECT 1", 1, 1), ("SELECT 'abc;\nSELECT 2;", 2, 1)]
        );
        assert_eq!(split("SELECT 1;\n  'abc"), [("SELECT 1", 1, 1), ("'abc", 2, 3)]);
    }

    #[test]
    fn a_statement_is_complete_at_its_semicolon() {
        for text in [
            "",
            "SELECT 1;",
            "SELECT 1; -- done",
            "SELECT ';';",
            ";",
            "SELECT 1;\nSELECT 2;",
            "-- n",
        ] {
            assert!(is_complete(text), "{text:?}");
        }
        for text in
            ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "SELECT /* ;", "SELECT \"a;", "/* a"]
        {
            assert!(!is_complete(text), "{text:?}");
        }
    }
}
