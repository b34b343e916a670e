//! Runs scripts: the statements and the backslash commands in them.

use std::path::Path;

use datafusion::common::plan_datafusion_err;

use super::command::{self, Command, HELP};
use super::message::{Place, located};
use super::output::Output;
use super::runner::{Ended, Runner};
use super::script::{Statement, statements};

/// Maximum depth of includes; beyond it, a file must include itself.
const MAX_INCLUDED: usize = 32;

impl Runner {
    /// Runs a script up to the first statement that does not run to its end. `\q` ends it.
    pub async fn run_script(&mut self, script: &str, file: Option<&Path>) -> Ended {
        let say_line = script.trim().contains('\n');
        match self.run_text(script, file, say_line).await {
            Ended::Quit => Ended::Done,
            ended => ended,
        }
    }

    /// Runs the statements and commands of a script or of the prompt.
    pub async fn run_text(&mut self, text: &str, file: Option<&Path>, say_line: bool) -> Ended {
        for Statement { text, line, column } in statements(text) {
            let file = file.map(|path| path.display().to_string());
            let place = Place { file, line, column, say_line };
            let ended = if text.starts_with('\\') {
                match command::parse(text) {
                    Ok(command) => self.obey(command, &place).await,
                    Err(error) => self.refuse(&error, &place),
                }
            } else {
                self.run(text, &place).await
            };
            if ended != Ended::Done {
                return ended;
            }
        }
        Ended::Done
    }

    /// Runs a command.
    pub async fn obey(&mut self, command: Command, place: &Place) -> Ended {
        match command {
            Command::Help => self.say(HELP),
            Command::Quit => return Ended::Quit,
            Command::Statement(sql) => return self.run(&sql, place).await,
            Command::Include(path) => return self.include(&path, place).await,
            Command::Output(None) => self.redirect(Output::stdout()),
            Command::Output(Some(path)) => match Output::file(&path) {
                Ok(output) => self.redirect(output),
                Err(error) => {
                    let text = format!("cannot write {}: {error}", path.display());
                    return self.refuse(&text, place);
                }
            },
            Command::Settings => {
                let rows = self.settings.max_rows.map_or("inf".to_owned(), |n| n.to_string());
                let format = format!("{:?}", self.settings.format).to_lowercase();
                let quiet = if self.settings.quiet { "on" } else { "off" };
                self.say(&format!("format {format}, maxrows {rows}, quiet {quiet}"));
            }
            Command::Format(format) => self.settings.format = format,
            Command::MaxRows(rows) => self.settings.max_rows = rows.0,
            Command::Quiet(quiet) => self.settings.quiet = quiet.unwrap_or(!self.settings.quiet),
        }
        Ended::Done
    }

    async fn include(&mut self, path: &Path, place: &Place) -> Ended {
        if self.included >= MAX_INCLUDED {
            let text = format!(
                r"\i {} is {MAX_INCLUDED} files deep: a file that includes itself has no end",
                path.display()
            );
            return self.refuse(&text, place);
        }
        match super::read(std::fs::read(path), path) {
            Ok(script) => {
                self.included += 1;
                let ended = Box::pin(self.run_script(&script, Some(path))).await;
                self.included -= 1;
                ended
            }
            Err(error) => self.refuse(&error, place),
        }
    }

    /// Prints what is wrong with a command.
    fn refuse(&mut self, text: &str, place: &Place) -> Ended {
        self.error(&located(&plan_datafusion_err!("{text}"), place));
        Ended::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::super::runner::stage::stage;
    use super::*;

    #[test]
    fn commands_of_a_script_are_obeyed_in_their_turn() {
        let mut stage = stage();
        let script = "rows 1;\n  \\pset format ndjson\nrows 1; \\pset format csv\nrows 1";
        assert_eq!(stage.script(script), Ended::Done);
        assert_eq!(stage.results.text(), "x\n0\n0\n{\"x\":0}\n{\"x\":0}\nx\n0\n0\n");
        assert_eq!(stage.console.text(), "");
    }

    #[test]
    fn a_wrong_command_ends_a_script_and_names_the_line() {
        let mut stage = stage();
        assert_eq!(stage.script("rows 1;\n\\nonsense 'x\nrows 1"), Ended::Failed);
        assert_eq!(stage.results.text(), "x\n0\n0\n");
        let console = stage.console.text();
        assert!(console.starts_with("error: line 2: unknown command '\\nonsense'"), "{console}");
    }

    #[test]
    fn a_script_may_quit_and_include_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("quits.sql"), "#!/usr/bin/env gradlake\nrows 0;\n\\q\nfail;").unwrap();
        std::fs::write(path("endless.sql"), format!("\\i '{}'", path("endless.sql"))).unwrap();
        std::fs::write(path("fails.sql"), "rows 0;\nfail").unwrap();
        let mut stage = stage();
        let script = format!("\\i '{}'\nrows 0;\n\\q\nfail", path("quits.sql"));
        assert_eq!(stage.script(&script), Ended::Done);
        assert_eq!(stage.results.text(), "x\n0\nx\n0\n");
        assert_eq!(stage.script(&format!("\\i {}", path("fails.sql"))), Ended::Failed);
        assert!(stage.console.text().ends_with("fails.sql, line 2: no such table 't'\n"));
        assert_eq!(stage.script(&format!("\\i {}", path("endless.sql"))), Ended::Failed);
        let console = stage.console.text();
        assert!(console.contains("endless.sql is 32 files deep"), "{console}");
        assert_eq!(stage.script("\\i /no/such/file.sql"), Ended::Failed);
        assert!(stage.console.text().contains("cannot read /no/such/file.sql: "));
    }
}
