//! Files as people have them, read as tables: by name, with the types of all rows, or refused with
//! one sentence that names the file.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, RecordBatch,
};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use arrow::util::pretty::pretty_format_batches;
use common::Database;
use datafusion::parquet::arrow::ArrowWriter;

/// A database and what it says of files that are written into its folder.
struct Files(Database);

impl Files {
    async fn new(files: &[(&str, &str)]) -> Self {
        let database = Database::open().await;
        for (name, content) in files {
            let path = database.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Self(database)
    }

    fn sql(&self, sql: &str) -> String {
        sql.replace("@/", &format!("{}/", self.0.folder.path().display()))
    }

    /// The rows of a statement, cells with blanks between them.
    async fn rows(&self, sql: &str) -> Vec<String> {
        let batch = self.0.rows(&self.sql(sql)).await;
        let table = pretty_format_batches(&[batch]).unwrap().to_string();
        let cells = |line: &str| {
            let cells = line.trim_matches('|').split('|').map(str::trim);
            cells.collect::<Vec<_>>().join(" ")
        };
        let lines: Vec<&str> = table.lines().collect();
        let rows = lines.get(3..lines.len() - 1).unwrap_or_default();
        rows.iter().map(|line| cells(line)).collect()
    }

    /// The sentence of a statement, without the folder.
    async fn error(&self, sql: &str) -> String {
        let folder = self.0.folder.path().display().to_string();
        let error = self.0.error(&self.sql(sql)).await;
        assert!(!error.contains('\n'), "{error}");
        error.replace(&format!("{folder}/"), "@/").replace(&folder[1..], "@")
    }
}

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let fields = columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

#[tokio::test]
async fn csv_files_of_a_folder_are_read_by_name() {
    let files = Files::new(&[
        ("d/a.csv", "x,y\n1,2\n2,4\n"),
        ("d/b.csv", "y,x\n6,3\n8,4\n"),
        ("d/c.csv", "x;y\n0,5;1\n"),
        ("d/e.csv", "y,other\n10,5\n"),
        ("d/f.csv", ""),
    ])
    .await;
    let rows = files.rows("SELECT x, y FROM '@/d/' ORDER BY y").await;
    assert_eq!(rows, ["0.5 1", "1.0 2", "2.0 4", "3.0 6", "4.0 8", " 10"]);
    let rows = files.rows("SELECT sum(y) FROM '@/d/' WHERE other = 5").await;
    assert_eq!(rows, ["10"]);
    assert_eq!(files.rows("SELECT count(*) FROM '@/d/'").await, ["6"]);
    // The same where columns are declared.
    files
        .rows(
            "CREATE EXTERNAL TABLE t (y BIGINT, x DOUBLE) STORED AS CSV LOCATION '@/d/' \
             OPTIONS ('has_header' 'true')",
        )
        .await;
    assert_eq!(files.rows("SELECT sum(x), sum(y) FROM t").await, ["10.5 31"]);
    let sql = "CREATE EXTERNAL TABLE u (p DOUBLE, q DOUBLE) STORED AS CSV LOCATION '@/d/a.csv'";
    files.rows(sql).await;
    let error = files.error("SELECT * FROM u").await;
    assert!(error.contains("a.csv has none of the columns of the table (p, q)"), "{error}");
}

#[tokio::test]
async fn types_are_those_of_all_rows_and_missing_numbers_are_null() {
    let mut late = "x,y\n".to_owned();
    (1..=1500).for_each(|i| late.push_str(&format!("{i},{}\n", 2 * i)));
    late.push_str("1.5,3\n");
    let files = Files::new(&[
        ("late.csv", &late),
        ("na.csv", "x,c,n\nNA,NA,1\n2,b,null\n-,c,N/A\n 4, d,7\n"),
        ("comment.csv", "# by a tool\nx,y\n1,2\n"),
        ("r.csv", "x;y\n1,5;2\n2;3\n"),
    ])
    .await;
    assert_eq!(files.rows("SELECT min(x), count(*) FROM '@/late.csv'").await, ["1.0 1501"]);
    let rows = files.rows("SELECT arrow_typeof(x), x, c, n FROM '@/na.csv'").await;
    assert_eq!(rows, ["Int64  NA 1", "Int64 2 b ", "Int64  c ", "Int64 4 d 7"]);
    assert_eq!(files.rows("SELECT x, y FROM '@/comment.csv'").await, ["1 2"]);
    assert_eq!(files.rows("SELECT x, y FROM '@/r.csv'").await, ["1.5 2", "2.0 3"]);
}

#[tokio::test]
async fn what_would_change_in_silence_is_refused() {
    let files = Files::new(&[
        ("none.csv", "1.5,2\n3,4\n"),
        ("twice.csv", "x,x\n1,2\n"),
        ("again.csv", "x,y\n1,2\nx,y\n3,4\n"),
        ("ragged.csv", "x,y\n1,2,3\n"),
        ("int.csv", "x\n1\n2.5\n"),
        ("list.json", "{\"a\": 1}\n{\"a\": [1]}\n"),
        ("rubbish.json", "{\"a\": 1}\nrubbish\n"),
    ])
    .await;
    for (sql, expected) in [
        ("SELECT * FROM '@/none.csv'", "none.csv, 1.5,2, is a row and no header"),
        ("SELECT * FROM '@/twice.csv'", "twice.csv has two columns that are called x"),
        ("SELECT * FROM '@/again.csv'", "line 3 of @/again.csv repeats the header"),
        ("SELECT * FROM '@/ragged.csv'", "ragged.csv has 3 fields, and its header has 2"),
        (
            "SELECT * FROM '@/list.json'",
            "the key a is a number in one object and a list in another",
        ),
        ("SELECT * FROM '@/rubbish.json'", "rubbish.json cannot be read as JSON: expected"),
    ] {
        let error = files.error(sql).await;
        assert!(error.contains(expected), "{sql}: {error}");
    }
    let create = "CREATE EXTERNAL TABLE t (x BIGINT) STORED AS CSV LOCATION '@/int.csv'";
    files.rows(create).await;
    let error = files.error("SELECT * FROM t").await;
    let expected = "int.csv has '2.5' in row 2 of column x, which is no Int64; declare the column";
    assert!(error.contains(expected), "{error}");
}

#[tokio::test]
async fn json_numbers_are_read_as_they_are_written() {
    let mut late = String::new();
    (1..=1500).for_each(|i| late.push_str(&format!("{{\"x\": {i}, \"y\": {}}}\n", 2 * i)));
    late.push_str("{\"x\": 1.9, \"y\": 3}\n");
    let files = Files::new(&[
        ("late.json", &late),
        ("array.json", "[\n {\"x\": 1, \"s\": \"a\"},\n {\"x\": 2.5, \"s\": 7}\n]\n"),
        ("a.ndjson", "{\"x\": 1}\n"),
        ("a.jsonl", "{\"x\": 2}\n{\"x\": 9007199254740993}\n"),
        ("pretty.json", "{\n  \"x\": 1\n}\n{\n  \"x\": 2\n}\n"),
        ("int.json", "{\"x\": 1.9}\n"),
        ("whole.json", "{\"x\": 2.0}\n{\"x\": 1e3}\n"),
    ])
    .await;
    assert_eq!(files.rows("SELECT x FROM '@/late.json' WHERE y = 3").await, ["1.9"]);
    assert_eq!(files.rows("SELECT x, s FROM '@/array.json'").await, ["1.0 a", "2.5 7"]);
    assert_eq!(files.rows("SELECT x FROM '@/a.ndjson'").await, ["1"]);
    assert_eq!(files.rows("SELECT max(x) FROM '@/a.jsonl'").await, ["9007199254740993"]);
    assert_eq!(files.rows("SELECT sum(x) FROM '@/pretty.json'").await, ["3"]);
    for (table, file) in [("t", "int"), ("u", "whole")] {
        files
            .rows(&format!(
                "CREATE EXTERNAL TABLE {table} (x BIGINT) STORED AS JSON LOCATION '@/{file}.json'"
            ))
            .await;
    }
    let error = files.error("SELECT * FROM t").await;
    assert!(error.contains("int.json has 1.9 for x, which is Int64; declare it"), "{error}");
    assert_eq!(files.rows("SELECT sum(x) FROM u").await, ["1002"]);
}

#[tokio::test]
async fn parquet_files_whose_types_differ_are_read_by_the_wider() {
    let files = Files::new(&[("f/.keep", "")]).await;
    let folder = files.0.path("f");
    write_parquet(
        &folder.join("a.parquet"),
        vec![("x", Arc::new(Int32Array::from(vec![1, 2]))), ("y", floats(&[2.0, 4.0]))],
    );
    write_parquet(
        &folder.join("b.parquet"),
        vec![("y", floats(&[3.0])), ("x", floats(&[1.5])), ("z", floats(&[9.0]))],
    );
    let rows = files.rows("SELECT x, y, z FROM '@/f/' ORDER BY x").await;
    assert_eq!(rows, ["1.0 2.0 ", "1.5 3.0 9.0", "2.0 4.0 "]);
    let train = "TRAIN MODEL m USING linear_regression TARGET y FEATURES (x) FROM '@/f/'";
    files.rows(train).await;
    let rows = files.rows("SELECT round(predicted_y, 3) FROM (PREDICT MODEL m FROM '@/f/')").await;
    assert_eq!(rows.len(), 3);
    write_parquet(
        &folder.join("c.parquet"),
        vec![("x", Arc::new(arrow::array::StringArray::from(vec!["a"])))],
    );
    let error = files.error("SELECT * FROM '@/f/'").await;
    assert!(error.contains("column x is ") && error.contains("declare it"), "{error}");
    assert!(error.contains("a.parquet") && error.contains("c.parquet"), "{error}");
}

#[tokio::test]
async fn what_a_parquet_reader_fails_on_is_a_sentence_or_is_read() {
    let files = Files::new(&[("cut.parquet", "PAR1PAR1PAR1"), ("no.parquet", "rubbish")]).await;
    // A pandas categorical of booleans.
    let keys = arrow::array::Int8Array::from(vec![0, 1, 0]);
    let values: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    let categories = DictionaryArray::<Int8Type>::new(keys, values);
    let category = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Boolean));
    assert_eq!(arrow::array::Array::data_type(&categories), &category);
    let path = files.0.path("categories.parquet");
    write_parquet(&path, vec![("c", Arc::new(categories)), ("y", floats(&[1.0, 2.0, 1.0]))]);
    let rows = files.rows("SELECT c, y FROM '@/categories.parquet'").await;
    assert_eq!(rows, ["true 1.0", "false 2.0", "true 1.0"]);
    files.rows("TRAIN MODEL m USING linear_regression TARGET y FROM '@/categories.parquet'").await;
    for file in ["cut", "no"] {
        let error = files.error(&format!("SELECT * FROM '@/{file}.parquet'")).await;
        assert!(error.contains(&format!("{file}.parquet cannot be read as Parquet")), "{error}");
    }
    // Bytes that are damaged in the middle: the footer is whole.
    let path = files.0.path("damaged.parquet");
    let many: Vec<f64> = (0..5000).map(f64::from).collect();
    write_parquet(&path, vec![("x", floats(&many)), ("y", floats(&many))]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4..2000].fill(0xAB);
    std::fs::write(&path, bytes).unwrap();
    for sql in [
        "SELECT sum(x) FROM '@/damaged.parquet'",
        "TRAIN MODEL n USING linear_regression TARGET y FROM '@/damaged.parquet'",
    ] {
        let error = files.error(sql).await;
        assert!(error.contains("damaged.parquet cannot be read: "), "{sql}: {error}");
    }
}

#[tokio::test]
async fn folders_as_spark_and_hive_write_them() {
    let files = Files::new(&[
        ("out/part-0.csv", "x,y\n1,2\n"),
        ("out/_SUCCESS", ""),
        ("out/.part-0.csv.crc", "crc"),
        ("out/part-1.csv.tmp", "rubbish"),
        ("out/README.md", "# notes"),
        ("out/_temporary/0/part-9.csv", "x,y\n9,9\n"),
        ("hive/year=2023/city=a/x.csv", "x\n1\n"),
        ("hive/year=2024/city=__HIVE_DEFAULT_PARTITION__/x.csv", "x\n2\n3\n"),
        ("delta/_delta_log/00000000000000000000.json", "{}"),
        ("delta/a.parquet", "PAR1"),
        ("tabs.tsv", "x\ty\n1\ta b\n"),
    ])
    .await;
    assert_eq!(files.rows("SELECT x, y FROM '@/out/'").await, ["1 2"]);
    assert_eq!(files.rows("SELECT x, y FROM '@/out'").await, ["1 2"]);
    let sql = "SELECT year + 1, city, sum(x) FROM '@/hive/' GROUP BY 1, 2 ORDER BY 1";
    assert_eq!(files.rows(sql).await, ["2024 a 1", "2025  5"]);
    let sql = "SELECT sum(x) FROM '@/hive/' WHERE year = 2024 AND city IS NULL";
    assert_eq!(files.rows(sql).await, ["5"]);
    let error = files.error("SELECT * FROM '@/delta/'").await;
    assert!(error.contains("is a Delta table, whose log says which of its files count"), "{error}");
    assert_eq!(files.rows("SELECT x, y FROM '@/tabs.tsv'").await, ["1 a b"]);
    for (path, expected) in [
        ("none/", "there is no file or folder @/none/"),
        ("none.csv", "there is no file @/none.csv"),
        ("out/README.md", "does not tell its format"),
    ] {
        let error = files.error(&format!("SELECT * FROM '@/{path}'")).await;
        assert!(error.contains(expected), "{path}: {error}");
    }
}

#[tokio::test]
async fn compressed_texts_are_read() {
    let files = Files::new(&[("a.csv", "x,y\n1,2\n3,4\n")]).await;
    for (ending, compression) in [("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz"), ("zst", "zstd")] {
        let copy = format!(
            "COPY (SELECT * FROM '@/a.csv') TO '@/{ending}/b.csv.{ending}' STORED AS CSV OPTIONS \
             ('format.compression' '{compression}')"
        );
        files.rows(&copy).await;
        let rows = files.rows(&format!("SELECT x, y FROM '@/{ending}/b.csv.{ending}'")).await;
        assert_eq!(rows, ["1 2", "3 4"], "{ending}");
        let rows = files.rows(&format!("SELECT sum(x) FROM '@/{ending}/'")).await;
        assert_eq!(rows, ["4"], "{ending}");
    }
}

#[tokio::test]
async fn rows_are_inserted_into_folders() {
    let files = Files::new(&[("t/a.csv", "x,y\n1,2\n")]).await;
    files.rows("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '@/t/'").await;
    files.rows("INSERT INTO t VALUES (3, 4)").await;
    assert_eq!(files.rows("SELECT sum(x), sum(y) FROM t").await, ["4 6"]);
    files.rows("CREATE EXTERNAL TABLE u STORED AS CSV LOCATION '@/t/a.csv'").await;
    let error = files.error("INSERT INTO u VALUES (3, 4)").await;
    assert!(error.contains("rows are inserted into a folder"), "{error}");
}
