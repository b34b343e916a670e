//! Runs every script of `sql/` and every program of `programs/` in the folder of the repository.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gradlake_examples::repository;
use gradlake_sql::{Session, SessionOptions, sentence};

#[path = "../programs"]
#[allow(dead_code, reason = "main is for cargo run")]
mod programs {
    pub mod model_as_table;
    pub mod train_and_predict;
    pub mod train_from_dataframe;
    pub mod watch_training;
}

/// The files of a folder of the repository with that extension, in order.
fn files(folder: &str, extension: &str) -> io::Result<Vec<PathBuf>> {
    std::env::set_current_dir(repository())?;
    let mut files = vec![];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{folder} has no .{extension} files");
    Ok(files)
}

/// Runs a script as `gradlake -f` does, on a warehouse of its own.
async fn run_script(script: &Path) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let warehouse = Some(folder.path().display().to_string());
    let session = Session::open(SessionOptions { warehouse, ..Default::default() }).await?;
    let text = std::fs::read_to_string(script)?;
    if !text.contains("assert_true(") {
        return Err("it asserts nothing".into());
    }
    for statement in Session::split(&text)? {
        let result = session.collect(&statement, Arc::new(|_event| {})).await;
        let rows = result.map_err(|error| format!("{}\n{statement}", sentence(&error)))?;
        // Whoever runs it reads the names of the columns.
        let schema = rows.first().map(|rows| rows.schema());
        let mut names = schema.iter().flat_map(|schema| schema.fields()).map(|field| field.name());
        if let Some(name) = names.find(|name| name.contains('(')) {
            return Err(format!("a column is called {name}\n{statement}").into());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_script_runs() {
    let mut failures = vec![];
    for script in files("examples/sql", "sql").unwrap() {
        if let Err(error) = run_script(&script).await {
            failures.push(format!("{}: {error}", script.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn train_and_predict() {
    programs::train_and_predict::run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn train_from_dataframe() {
    programs::train_from_dataframe::run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_training() {
    programs::watch_training::run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn model_as_table() {
    programs::model_as_table::run().await.unwrap();
}

/// A program must stand in Cargo.toml, and above with a test of its own.
#[test]
fn every_program_has_a_test() {
    for program in files("examples/programs", "rs").unwrap() {
        let name = program.file_stem().unwrap().to_str().unwrap();
        assert!(
            include_str!("all.rs").contains(&format!("programs::{name}::run()")),
            "{name} has no test in tests/all.rs"
        );
        assert!(
            include_str!("../Cargo.toml").contains(&format!("path = \"programs/{name}.rs\"")),
            "{name} is no example in Cargo.toml"
        );
    }
}

/// Every file of data has its source and its licence in the README, and none has a licence that
/// forbids use for money.
#[test]
fn every_file_of_data_has_a_licence() {
    let readme = include_str!("../data/README.md");
    for file in files("examples/data", "parquet").unwrap() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let row = readme.lines().find(|line| line.contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in examples/data/README.md"));
        let cells: Vec<_> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells.len(), 4, "{name}: file, what, licence and source");
        let licences = ["CC BY 4.0", "CC0", "MIT", "public"];
        assert!(licences.contains(&cells[2]), "{name}: the licence {} is not known", cells[2]);
    }
}
