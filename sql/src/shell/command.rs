//! The backslash commands of the prompt and of scripts.

use std::path::PathBuf;

use clap::ValueEnum;

use super::args::{Format, MaxRows};

/// What `\?` prints.
pub const HELP: &str = r"Statements end with ';' and may span lines. Commands end with their line; scripts may have them too.
  \? or \h           this help
  \q or Ctrl-D       leave
  \d                 list tables
  \d NAME            columns of a table
  \m                 list models
  \m NAME            describe a model
  \i FILE            run the statements of a file
  \o FILE            send results to a file; \o alone: back to the terminal
  \pset              show the settings
  \pset format F     table, csv, json or ndjson
  \pset maxrows N    rows of a table at most: a number, or inf
  \quiet [on|off]    without progress, notes, row counts and timings
Ctrl-C stops a running statement; a training keeps its checkpoint, and the same statement resumes it.";

/// The names of all commands, for completion.
pub const NAMES: [&str; 9] = [r"\?", r"\h", r"\q", r"\d", r"\m", r"\i", r"\o", r"\pset", r"\quiet"];

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Leave.
    Quit,
    /// Run this statement.
    Statement(String),
    /// Run a file.
    Include(PathBuf),
    /// Send results to a file, or back.
    Output(Option<PathBuf>),
    /// Print the settings.
    Settings,
    /// Choose a format.
    Format(Format),
    /// Choose the length of tables.
    MaxRows(MaxRows),
    /// Be quiet, be verbose, or toggle.
    Quiet(Option<bool>),
}

/// `quit`, `exit` and `help`, which users type without a backslash (only at the prompt).
pub fn plain_word(line: &str) -> Option<Command> {
    let word = line.trim().trim_end_matches(';').trim_end().to_ascii_lowercase();
    match word.as_str() {
        "quit" | "exit" => Some(Command::Quit),
        "help" => Some(Command::Help),
        _ => None,
    }
}

/// Reads a command.
pub fn parse(line: &str) -> Result<Command, String> {
    if let Some(command) = plain_word(line) {
        return Ok(command);
    }
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let none = |command| match rest {
        "" => Ok(command),
        _ => Err(format!("{name} takes no argument, but got '{rest}'")),
    };
    match name {
        r"\?" | r"\h" => Ok(Command::Help),
        r"\q" => none(Command::Quit),
        r"\d" if rest.is_empty() => Ok(Command::Statement("SHOW TABLES".to_owned())),
        r"\d" => Ok(Command::Statement(format!("DESCRIBE {rest}"))),
        r"\m" if rest.is_empty() => Ok(Command::Statement("SHOW MODELS".to_owned())),
        r"\m" => Ok(Command::Statement(format!("DESCRIBE MODEL {rest}"))),
        r"\i" if rest.is_empty() => Err(r"\i needs the name of a file".to_owned()),
        r"\i" => Ok(Command::Include(path(rest))),
        r"\o" => Ok(Command::Output((!rest.is_empty()).then(|| path(rest)))),
        r"\quiet" => match rest.to_ascii_lowercase().as_str() {
            "" => Ok(Command::Quiet(None)),
            "on" | "true" => Ok(Command::Quiet(Some(true))),
            "off" | "false" => Ok(Command::Quiet(Some(false))),
            _ => Err(format!(r"\quiet takes on or off, but got '{rest}'")),
        },
        r"\pset" => pset(rest),
        _ => Err(format!(r"unknown command '{name}', \? lists the commands")),
    }
}

fn pset(rest: &str) -> Result<Command, String> {
    let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let value = value.trim();
    match name {
        "" => Ok(Command::Settings),
        "format" => Format::from_str(value, true)
            .map(Command::Format)
            .map_err(|_| format!("format is table, csv, json or ndjson, but got '{value}'")),
        "maxrows" => value
            .parse()
            .map(Command::MaxRows)
            .map_err(|_| format!("maxrows is a number or inf, but got '{value}'")),
        _ => Err(format!("unknown setting '{name}', known are format and maxrows")),
    }
}

fn path(text: &str) -> PathBuf {
    let unquoted = ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text);
    PathBuf::from(unquoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let statement = |text: &str| Command::Statement(text.to_owned());
        for (line, command) in [
            (r"\?", Command::Help),
            (r" \h ", Command::Help),
            (r"\q", Command::Quit),
            ("exit", Command::Quit),
            ("QUIT;", Command::Quit),
            ("help", Command::Help),
            (r"\d", statement("SHOW TABLES")),
            (r"\d model.m.weights;", statement("DESCRIBE model.m.weights")),
            (r"\m", statement("SHOW MODELS")),
            (r"\m m", statement("DESCRIBE MODEL m")),
            (r"\i 'a b.sql'", Command::Include("a b.sql".into())),
            (r"\o out.csv", Command::Output(Some("out.csv".into()))),
            (r"\o", Command::Output(None)),
            (r"\pset", Command::Settings),
            (r"\pset format CSV", Command::Format(Format::Csv)),
            (r"\pset maxrows inf", Command::MaxRows(MaxRows(None))),
            (r"\quiet", Command::Quiet(None)),
            (r"\quiet off", Command::Quiet(Some(false))),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
        for line in ["SELECT 1;", "exit_code", "help me;", ""] {
            assert_eq!(plain_word(line), None, "{line}");
        }
    }

    #[test]
    fn wrong_commands_say_what_is_right() {
        for (line, part) in [
            (r"\x", r"\? lists the commands"),
            (r"\i", "needs the name of a file"),
            (r"\q now", "takes no argument"),
            (r"\pset format xml", "table, csv, json or ndjson"),
            (r"\pset maxrows x", "a number or inf"),
            (r"\pset color on", "known are format and maxrows"),
            (r"\quiet maybe", "on or off"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_command() {
        for name in NAMES {
            assert!(HELP.contains(name), "{name}");
            assert!(!matches!(parse(name), Err(error) if error.contains("unknown")), "{name}");
        }
    }
}
