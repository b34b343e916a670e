//! The shell's answers to the line editor: completions, and whether the input is complete.

use std::cell::RefCell;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::command::{NAMES, plain_word};
use super::script::is_complete;

/// The helper of the line editor.
pub struct Assistant {
    /// Asks the session for names; called only when a completion is wanted.
    load: Box<dyn Fn() -> Option<Vec<String>>>,
    names: RefCell<Vec<String>>,
    stale: RefCell<bool>,
    files: FilenameCompleter,
}

impl Assistant {
    /// An assistant that takes names from `load`, which returns none when it took too long.
    pub fn new(load: impl Fn() -> Option<Vec<String>> + 'static) -> Self {
        Self {
            load: Box::new(load),
            names: RefCell::default(),
            stale: RefCell::new(true),
            files: FilenameCompleter::new(),
        }
    }

    /// Marks the names as stale after a statement: there may be new ones.
    pub fn forget_names(&self) {
        self.stale.replace(true);
    }

    fn matching(&self, word: &str) -> Vec<Pair> {
        if self.stale.replace(false) {
            match (self.load)() {
                Some(names) => drop(self.names.replace(names)),
                None => self.forget_names(),
            }
        }
        matching(&self.names.borrow(), word)
    }
}

fn matching(names: &[String], word: &str) -> Vec<Pair> {
    let lower = word.to_lowercase();
    let mut found: Vec<Pair> = names
        .iter()
        .filter(|name| name.to_lowercase().starts_with(&lower))
        .map(|name| {
            // If the user types in lower case, keywords are completed in lower case.
            let keyword = name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c == ' ');
            let small = word.chars().any(char::is_lowercase);
            let replacement = if keyword && small { name.to_lowercase() } else { name.clone() };
            Pair { display: replacement.clone(), replacement }
        })
        .collect();
    found.sort_by(|a, b| a.replacement.cmp(&b.replacement));
    found.dedup_by(|a, b| a.replacement == b.replacement);
    found
}

/// Where the word before the cursor begins.
fn word_start(before: &str) -> usize {
    let part = |c: char| c.is_alphanumeric() || "_.\"$".contains(c);
    before.trim_end_matches(part).len()
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..pos).unwrap_or(line);
        if let Some(command) = before.strip_prefix('\\') {
            return match command.split_once(' ') {
                Some(("i" | "o", _)) => self.files.complete_path(line, pos),
                Some(("pset", _)) => {
                    let words = ["format", "maxrows", "table", "csv", "json", "ndjson", "inf"];
                    let start = word_start(before);
                    let word = before.get(start..).unwrap_or_default();
                    Ok((start, matching(&words.map(str::to_owned), word)))
                }
                Some(_) => {
                    let start = word_start(before);
                    Ok((start, self.matching(before.get(start..).unwrap_or_default())))
                }
                None => Ok((0, matching(&NAMES.map(str::to_owned), before))),
            };
        }
        // Inside a quoted string: FROM 'data/...
        if before.matches('\'').count() % 2 == 1 {
            return self.files.complete_path(line, pos);
        }
        let start = word_start(before);
        match before.get(start..).unwrap_or_default() {
            "" => Ok((pos, vec![])),
            word => Ok((start, self.matching(word))),
        }
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input();
        if plain_word(input).is_some() || is_complete(input) {
            Ok(ValidationResult::Valid(None))
        } else {
            Ok(ValidationResult::Incomplete)
        }
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use rustyline::history::MemHistory;

    use super::*;

    fn complete(assistant: &Assistant, line: &str) -> (usize, Vec<String>) {
        let history = MemHistory::new();
        let (start, pairs) = assistant.complete(line, line.len(), &Context::new(&history)).unwrap();
        (start, pairs.into_iter().map(|pair| pair.replacement).collect())
    }

    fn assistant() -> Assistant {
        let names = ["SELECT", "SET", "sepal_width", "model.iris.weights", "Sé"];
        Assistant::new(move || Some(names.map(str::to_owned).to_vec()))
    }

    #[test]
    fn words_are_completed_in_the_case_they_are_typed() {
        let assistant = assistant();
        assert_eq!(
            complete(&assistant, "se"),
            (0, vec!["select", "sepal_width", "set"].into_iter().map(str::to_owned).collect())
        );
        assert_eq!(complete(&assistant, "SEL"), (0, vec!["SELECT".to_owned()]));
        assert_eq!(complete(&assistant, "SELECT SEP"), (7, vec!["sepal_width".to_owned()]));
        assert_eq!(
            complete(&assistant, "SELECT * FROM model.i"),
            (14, vec!["model.iris.weights".to_owned()])
        );
        assert_eq!(complete(&assistant, "SELECT sé").1, ["Sé"]);
        assert_eq!(complete(&assistant, "SELECT ").1, Vec::<String>::new());
        assert_eq!(complete(&assistant, r"\ps"), (0, vec![r"\pset".to_owned()]));
        assert_eq!(complete(&assistant, r"\pset format nd").1, ["ndjson"]);
        assert_eq!(complete(&assistant, r"\d sep"), (3, vec!["sepal_width".to_owned()]));
    }

    #[test]
    fn files_are_completed_in_quotes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rides.parquet"), "").unwrap();
        let line = format!("SELECT * FROM '{}/ri", folder.path().display());
        let (_, found) = complete(&assistant(), &line);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("rides.parquet"), "{found:?}");
    }

    #[test]
    fn names_are_asked_for_once_a_statement_and_again_when_late() {
        let asked = Rc::new(Cell::new(0));
        let answers = asked.clone();
        let assistant = Assistant::new(move || {
            answers.set(answers.get() + 1);
            (answers.get() > 1).then(|| vec!["abc".to_owned()])
        });
        assert!(complete(&assistant, "a").1.is_empty());
        assert_eq!(complete(&assistant, "a").1, ["abc"]);
        assert_eq!(complete(&assistant, "a").1, ["abc"]);
        assert_eq!(asked.get(), 2);
        assistant.forget_names();
        complete(&assistant, "a");
        assert_eq!(asked.get(), 3);
    }
}
