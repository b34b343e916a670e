//! The README's table of options is the one that the code checks by.

use gradlake_engine::option_table;

/// One line an option: name, what it takes, defaults by algorithm, what it does.
fn markdown() -> Vec<String> {
    option_table()
        .into_iter()
        .map(|row| {
            let mut defaults: Vec<(String, Vec<&str>)> = vec![];
            for (algorithm, value) in &row.defaults {
                match defaults.iter_mut().find(|(known, _)| known == value) {
                    Some((_, of)) => of.push(algorithm.name()),
                    None => defaults.push((value.clone(), vec![algorithm.name()])),
                }
            }
            let text = match defaults.as_slice() {
                [] => "-".to_owned(),
                [(value, _)] => format!("`{value}`"),
                many => many
                    .iter()
                    .map(|(value, of)| format!("`{value}` ({})", of.join(", ")))
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            let escaped = |text: &str| text.replace('|', "\\|");
            format!(
                "| `{}` | {} | {} | {} |",
                row.name,
                escaped(&row.range),
                escaped(&text),
                escaped(row.doc)
            )
        })
        .collect()
}

#[test]
fn the_readme_has_every_option_as_it_is() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let missing: Vec<String> =
        markdown().into_iter().filter(|line| !readme.contains(line.as_str())).collect();
    assert!(missing.is_empty(), "lines that README.md lacks:\n{}", missing.join("\n"));
}
