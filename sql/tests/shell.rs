//! The binary `gradlake` as its users meet it: arguments, pipes, formats, exit codes.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The binary in a folder of its own.
fn gradlake(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gradlake"));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    gradlake(folder.path()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Runs and expects success and a silent standard error.
fn results(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    stdout(&output).to_owned()
}

#[test]
fn help_and_version() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for word in [
        "--command",
        "--file",
        "--format",
        "--maxrows",
        "--quiet",
        "--warehouse",
        "--memory-limit",
        "--threads",
        "Examples:",
        "TRAIN MODEL",
    ] {
        assert!(stdout(&output).contains(word), "{word}");
    }
    let output = run(&["--version"]);
    assert_eq!(stdout(&output), format!("gradlake {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["--nonsense"][..],
        &["--format", "xml"],
        &["--memory-limit", "lots"],
        &["--maxrows", "few"],
        &["--threads", "0"],
        &["-f", "no-such-file.sql"],
        &["-c"],
        &["SELECT 1"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert!(stderr(&output).starts_with("error: "), "{arguments:?}");
    }
}

#[test]
fn nothing_to_do_is_success() {
    assert_eq!(results(&["-c", " ; -- nothing"]), "");
    assert_eq!(results(&[]), "", "standard input is empty");
}

#[test]

fn every_format_shows_a_select() {
    let sql = "SELECT 1 AS x, 'a,b' AS y, CAST(NULL AS DOUBLE) AS z";
    let expected = [
        ("csv", "x,y,z\n1,\"a,b\",\n"),
        ("json", "[{\"x\":1,\"y\":\"a,b\",\"z\":null}]\n"),
        ("ndjson", "{\"x\":1,\"y\":\"a,b\",\"z\":null}\n"),
        (
            "table",
            "+---+-----+------+\n| x | y   | z    |\n+---+-----+------+\n\
             | 1 | a,b | NULL |\n+---+-----+------+\n",
        ),
    ];
    for (format, text) in expected {
        assert_eq!(results(&["-c", sql, "--format", format]), text, "{format}");
    }
}

#[test]

fn an_empty_result_has_its_header() {
    let sql = "SELECT 1 AS x WHERE false";
    assert_eq!(results(&["-c", sql, "--format", "csv"]), "x\n");
    assert_eq!(results(&["-c", sql, "--format", "json"]), "[]\n");
    assert_eq!(results(&["-c", sql, "--format", "ndjson"]), "");
    assert_eq!(results(&["-c", sql]), "+---+\n| x |\n+---+\n+---+\n");
}

#[test]

fn a_table_is_whole_in_a_pipe_and_cut_by_maxrows() {
    let sql = "SELECT value FROM generate_series(1, 100) ORDER BY value";
    assert_eq!(results(&["-c", sql]).lines().count(), 104);
    let text = results(&["-c", sql, "--maxrows", "2"]);
    assert!(text.ends_with("... 98 more rows (--maxrows N or inf shows more)\n"), "{text}");
    assert_eq!(text.lines().count(), 7);
}

#[test]

fn statements_run_in_the_order_given() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("two.sql");
    std::fs::write(&file, "\u{feff}-- first; comment\nSELECT 2 AS x;\nSELECT ';' AS x;").unwrap();
    let output = gradlake(folder.path())
        .args(["-c", "SELECT 1 AS x", "-f", "two.sql", "-c", "SELECT 4 AS x", "-f", "-"])
        .args(["--format", "csv", "--quiet"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(stdout(&output), "x\n1\nx\n2\nx\n;\nx\n4\nx\n2\nx\n;\n");
}

#[test]

fn standard_input_is_a_script() {
    let folder = TempDir::new().unwrap();
    let mut child = gradlake(folder.path())
        .args(["--format", "ndjson"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"SELECT 1 AS x;\nSELECT 2\nAS x").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "{\"x\":1}\n{\"x\":2}\n");
}

#[test]

fn a_failure_exits_with_1_and_ends_the_script() {
    let output = run(&[
        "--format",
        "csv",
        "-c",
        "SELECT 1 AS x;\nSELECT nope FROM nowhere;\nSELECT 3",
        "-c",
        "SELECT 4",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "x\n1\n");
    let text = stderr(&output);
    assert!(text.starts_with("error: line 2: "), "{text}");
    assert!(text.contains("nowhere"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("Error during planning"), "{text}");
}

#[test]

fn errors_name_file_and_line() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("bad.sql"), "SELECT 1;\n\nSELEC 2;\n").unwrap();
    let output = gradlake(folder.path()).args(["-f", "bad.sql"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.starts_with("error: bad.sql, line 3: "), "{text}");
    assert!(text.contains("SELEC"), "{text}");
    assert!(text.trim_end().ends_with("at line 3, column 1"), "{text}");
}

#[test]

fn an_unclosed_quote_fails_after_what_stands_before_it() {
    let output = run(&["--format", "csv", "-c", "SELECT 1 AS x; SELECT 'abc"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "x\n1\n");
    assert!(stderr(&output).starts_with("error: "));
}

#[test]
fn a_script_that_is_no_text_is_an_error() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("bad.sql"), b"SELECT '\xff'").unwrap();
    let output = gradlake(folder.path()).args(["-f", "bad.sql"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: bad.sql is not UTF-8 text"));
}

#[test]

fn a_reader_that_leaves_is_success() {
    for format in ["table", "csv", "json", "ndjson"] {
        let folder = TempDir::new().unwrap();
        let mut child = gradlake(folder.path())
            .args(["--format", format])
            .args(["-c", "SELECT value FROM generate_series(1, 10000000)", "-c", "SELECT nope"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0; 10]).unwrap();
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert_eq!(stderr(&output), "", "{format}");
        assert_eq!(output.status.code(), Some(0), "{format}");
    }
}

#[cfg(target_os = "linux")]
#[test]

fn a_full_disk_is_an_error() {
    let folder = TempDir::new().unwrap();
    let output = gradlake(folder.path())
        .args(["-c", "SELECT 1"])
        .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: cannot write the result: "), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]

fn a_signal_stops_a_query() {
    for signal in ["-INT", "-TERM"] {
        let folder = TempDir::new().unwrap();
        let mut child = gradlake(folder.path())
            .args(["--format", "csv", "-c", "SELECT 1 AS x"])
            .args(["-c", "SELECT count(*) FROM generate_series(1, 100000000000)"])
            .args(["-c", "SELECT 3 AS x"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The first result shows that the signals are listened to.
        let mut first = [0; 4];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(&first, b"x\n1\n");
        std::thread::sleep(std::time::Duration::from_millis(200));
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}");
        assert_eq!(stderr(&output), "error: interrupted\n", "{signal}");
        assert_eq!(stdout(&output), "", "{signal}");
    }
}

#[test]

fn nested_values_have_a_form_in_every_format() {
    let sql = "SELECT [1, 2] AS v, named_struct('label', 'a', 'prob', 0.5) AS p";
    assert_eq!(
        results(&["-c", sql, "--format", "csv"]),
        "v,p\n\"[1,2]\",\"{\"\"label\"\":\"\"a\"\",\"\"prob\"\":0.5}\"\n"
    );
    assert_eq!(
        results(&["-c", sql, "--format", "ndjson"]),
        "{\"v\":[1,2],\"p\":{\"label\":\"a\",\"prob\":0.5}}\n"
    );
}

#[test]
fn standard_input_is_an_unbounded_table() {
    let folder = TempDir::new().unwrap();
    let sql = "CREATE UNBOUNDED EXTERNAL TABLE t (x BIGINT, s VARCHAR) STORED AS CSV LOCATION '-' \
               OPTIONS (has_header false); SELECT s, x + 1 AS y FROM t WHERE x <> 2;";
    let mut shell = gradlake(folder.path())
        .args(["--format", "csv", "-q", "-c", sql])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"1,a\n2,b\nno row\n3,c\n4,d").unwrap();
    drop(input);
    let output = shell.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut rows: Vec<_> = stdout(&output).lines().collect();
    rows.sort_unstable();
    assert_eq!(rows, ["a,2", "c,4", "d,5", "s,y"]);
}

/// Runs a script with `-f`, in a pipe and by `\i`, which must all give the same.
fn script(text: &str) -> Output {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("s.sql"), text).unwrap();
    let run = |arguments: &[&str], input: &str| {
        let mut child = gradlake(folder.path());
        let child = child.args(arguments).stdin(Stdio::piped());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let file = run(&["-f", "s.sql"], "");
    for other in [run(&[], text), run(&["-f", "-"], text), run(&["-c", "\\i s.sql"], "")] {
        assert_eq!(stdout(&other), stdout(&file));
        assert_eq!(other.status.code(), file.status.code());
    }
    file
}

#[test]
fn scripts_have_backslash_commands_and_a_line_for_the_system() {
    let output = script("#!/usr/bin/env -S gradlake -f\n\\pset format csv\nSELECT 1 AS x;\n");
    assert_eq!((stdout(&output), stderr(&output)), ("x\n1\n", ""));
    let output =
        script("CREATE TABLE t AS SELECT 1 AS a;\n\\pset format csv\n\\d t\n\\q\nnonsense");
    assert_eq!(stdout(&output), "column_name,data_type,is_nullable\na,Int64,NO\n");
    assert_eq!(output.status.code(), Some(0));
    let output = script("SELECT 1 AS x;\n\\nonsense\nSELECT 2 AS x;");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().count(), 5);
    let expected = "error: s.sql, line 2: unknown command '\\nonsense', \\? lists the commands\n";
    assert_eq!(stderr(&output), expected);
    assert_eq!(results(&["--format", "csv", "-c", "SHOW MODELS; \\m"]).lines().count(), 2);
    for nothing in ["-- a comment", "", ";", "/* two */", "#!/usr/bin/env gradlake"] {
        assert_eq!(results(&["-c", nothing]), "", "{nothing}");
        assert_eq!(stdout(&script(nothing)), "", "{nothing}");
    }
}

#[test]
fn null_and_the_empty_text_differ_in_csv() {
    let rows = "SELECT 1 AS n, 'a' AS c UNION ALL SELECT 2, '' UNION ALL SELECT 3, NULL ORDER BY n";
    let expected = "n,c\n1,a\n2,\"\"\n3,\n";
    assert_eq!(results(&["--format", "csv", "-c", rows]), expected);
    let folder = TempDir::new().unwrap();
    let copy = format!("COPY ({rows}) TO 'x.csv'");
    assert!(gradlake(folder.path()).args(["-c", &copy]).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(folder.path().join("x.csv")).unwrap(), expected);
}

#[test]
fn predictions_are_copied_as_the_shell_writes_them() {
    let folder = TempDir::new().unwrap();
    let train = "TRAIN MODEL m USING logistic_regression TARGET k \
                 AS SELECT value AS x, value % 2 = 0 AS k FROM generate_series(1, 50)";
    let predict = "PREDICT MODEL m AS SELECT 1 AS x";
    let copy = format!("COPY ({predict}) TO 'p.csv'");
    let output = gradlake(folder.path())
        .args(["-q", "--format", "csv", "-c", train, "-c", "\\o shown.csv", "-c", predict])
        .args(["-c", "\\o", "-c", &copy])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("p.csv"), read("shown.csv"));
    assert!(read("p.csv").starts_with("x,predicted_k,predicted_k_probs\n1,"), "{}", read("p.csv"));
    assert!(read("p.csv").contains("\"[{\"\"label\"\":"), "{}", read("p.csv"));
}

/// What fails before any row, after some, and after so many that files were begun.
#[test]
fn a_copy_that_fails_leaves_what_was_there() {
    let folder = TempDir::new().unwrap();
    let failures = [
        "SELECT no_such_column AS x",
        "SELECT 1 / 0 AS x",
        "SELECT 1000 / (999 - value) AS x FROM generate_series(1, 1000)",
        "SELECT repeat('x', 1000) AS t, 1 / (100000 - value) AS x FROM generate_series(1, 100000)",
    ];
    for format in ["csv", "json", "parquet", "arrow"] {
        let file = folder.path().join(format!("old.{format}"));
        for query in failures {
            std::fs::write(&file, "what was there").unwrap();
            for target in [format!("old.{format}"), format!("new.{format}")] {
                let copy = format!("COPY ({query}) TO '{target}'");
                let output = gradlake(folder.path()).args(["-c", &copy]).output().unwrap();
                assert_eq!(output.status.code(), Some(1), "{copy}");
                assert_eq!(stderr(&output).lines().count(), 1, "{copy}: {}", stderr(&output));
            }
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "what was there", "{query}");
        }
        let copy = format!("COPY (SELECT 1 AS x) TO 'old.{format}'");
        assert!(gradlake(folder.path()).args(["-c", &copy]).status().unwrap().success());
        assert!(std::fs::read(&file).unwrap() != b"what was there");
    }
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["old.arrow", "old.csv", "old.json", "old.parquet"]);
}
