//! Words that the prompt completes besides names: those of SQL, of Gradlake's statements, their
//! algorithms and their options.

use std::collections::BTreeSet;

use gradlake_engine::option_table;
use gradlake_udfs::Algorithm;

/// Words of statements, in the case in which they are shown.
const WORDS: [&str; 84] = [
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CONTINUE",
    "COPY",
    "CREATE",
    "CROSS",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EVALUATE",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "FALSE",
    "FEATURES",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IF",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "MODEL",
    "MODELS",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OPTIONS",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "PREDICT",
    "RENAME",
    "REPLACE",
    "RIGHT",
    "SELECT",
    "SET",
    "SHOW",
    "STORED",
    "TABLE",
    "TABLES",
    "TARGET",
    "THEN",
    "TO",
    "TRAIN",
    "TRAINING",
    "TRANSFORM",
    "TRUE",
    "UNBOUNDED",
    "UNION",
    "USING",
    "VALUES",
    "VERSION",
    "VIEW",
    "WEIGHT",
    "WHEN",
    "WHERE",
    "WITH",
    "predict_proba",
    "rejected",
];

/// Every word.
pub fn words() -> Vec<String> {
    let options =
        option_table().into_iter().flat_map(|row| [row.name].into_iter().chain(row.words));
    let all = WORDS.into_iter().chain(options).chain(Algorithm::names());
    let all: BTreeSet<&str> = all.collect();
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_algorithms_and_options_are_there() {
        let words = words();
        for word in ["TRAIN", "TRANSFORM", "logistic_regression", "learning_rate", "adamw", "lbfgs"]
        {
            assert!(words.iter().any(|w| w == word), "{word}");
        }
    }
}
