//! Models on disk: what is damaged, foreign or newer is refused by name and hurts nothing else; any
//! object store will do.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, Int32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use common::{Database, write_rows};
use datafusion::parquet::arrow::ArrowWriter;
use gradlake_engine::{Engine, EngineOptions, FORMAT_VERSION, ModelStore, Publish};
use gradlake_sql::Session;
use object_store::memory::InMemory;
use object_store::path::Path;

/// A session with the models `good` and `bad`, and the folder of `bad`'s only version.
async fn two_models() -> (Database, PathBuf, String) {
    let database = Database::open().await;
    let rows = database.path("rows.parquet");
    write_rows(&rows, 600).await;
    let rows = rows.display().to_string();
    for model in ["good", "bad"] {
        database
            .rows(&format!("TRAIN MODEL {model} USING logistic_regression TARGET k FROM '{rows}'"))
            .await;
    }
    let folder = database.rows("SELECT folder FROM model.bad.versions").await;
    let folder = database.path("warehouse").join(folder.column(0).as_string::<i32>().value(0));
    (database, folder, rows)
}

fn parquet(columns: Vec<(&str, arrow::array::ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = vec![];
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// A file that no gradlake wrote.
fn foreign() -> Vec<u8> {
    parquet(vec![("x", Arc::new(Int32Array::from(vec![1, 2, 3])))])
}

#[tokio::test]
async fn a_damaged_version_is_refused_by_name_and_others_stay() {
    let files = [
        "manifest.parquet",
        "members.parquet",
        "features.parquet",
        "parameters.parquet",
        "optimizer.parquet",
        "history.parquet",
        "metrics.parquet",
    ];
    for file in files {
        let (database, folder, rows) = two_models().await;
        let whole = std::fs::read(folder.join(file)).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x40;
        for (what, bytes, expected) in [
            ("cut off", Some(whole[..whole.len() / 2].to_vec()), "is damaged"),
            ("a bit turned", Some(flipped), "is damaged"),
            ("empty", Some(vec![]), "is damaged"),
            ("foreign", Some(foreign()), "is damaged"),
            ("gone", None, "is missing"),
        ] {
            match bytes {
                Some(bytes) => std::fs::write(folder.join(file), bytes).unwrap(),
                None => std::fs::remove_file(folder.join(file)).unwrap(),
            }
            let error = database.error(&format!("PREDICT MODEL bad FROM '{rows}'")).await;
            assert!(error.contains(expected) && error.contains(file), "{file} {what}: {error}");
            assert!(!error.contains('\n'), "{error}");
            database.rows(&format!("PREDICT MODEL good FROM '{rows}'")).await;
            let models = database.rows("SHOW MODELS").await;
            assert_eq!(models.num_rows(), 2, "{file} {what}");
        }
        // It can be replaced, and then the new version is used.
        let train =
            format!("TRAIN OR REPLACE MODEL bad USING logistic_regression TARGET k FROM '{rows}'");
        database.rows(&train).await;
        database.rows(&format!("PREDICT MODEL bad FROM '{rows}'")).await;
    }
}

#[tokio::test]
async fn a_log_that_is_damaged_foreign_or_newer_is_refused() {
    let (database, _, rows) = two_models().await;
    let log = database.path("warehouse/models/bad/log");
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let last = entries.last().unwrap();
    let whole = std::fs::read(last).unwrap();
    let newer = {
        let batch = gradlake_newer(&whole);
        let mut bytes = vec![];
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    };
    for (what, bytes, expected) in [
        ("cut off", whole[..whole.len() / 2].to_vec(), "is no Parquet file"),
        ("foreign", foreign(), "log/"),
        ("newer", newer, "use a newer gradlake"),
    ] {
        std::fs::write(last, &bytes).unwrap();
        for sql in [
            format!("PREDICT MODEL bad FROM '{rows}'"),
            "DESCRIBE MODEL bad".to_owned(),
            format!("TRAIN OR REPLACE MODEL bad USING logistic_regression TARGET k FROM '{rows}'"),
        ] {
            let error = database.error(&sql).await;
            assert!(error.contains(expected) && error.contains("bad"), "{what}: {error}");
        }
        database.rows(&format!("PREDICT MODEL good FROM '{rows}'")).await;
        assert_eq!(std::fs::read(last).unwrap(), bytes, "{what}: it was overwritten");
    }
    std::fs::write(last, whole).unwrap();
    database.rows(&format!("PREDICT MODEL bad FROM '{rows}'")).await;
}

/// The same entry as if a later format had written it.
fn gradlake_newer(entry: &[u8]) -> RecordBatch {
    let bytes = bytes::Bytes::copy_from_slice(entry);
    let reader =
        datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 1024);
    let batch = reader.unwrap().next().unwrap().unwrap();
    let at = batch.schema().index_of("format_version").unwrap();
    let mut columns = batch.columns().to_vec();
    columns[at] = Arc::new(UInt32Array::from_value(FORMAT_VERSION + 1, batch.num_rows()));
    let mut fields: Vec<Field> =
        batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields[at] = Field::new("format_version", DataType::UInt32, false);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// What a warehouse holds beside models is nobody's business.
#[tokio::test]
async fn strange_files_in_a_warehouse_are_left_alone() {
    let (database, folder, rows) = two_models().await;
    let models = database.path("warehouse/models");
    std::fs::write(models.join("notes.txt"), "mine").unwrap();
    std::fs::create_dir_all(models.join("..data/log")).unwrap();
    std::fs::create_dir_all(models.join("no model")).unwrap();
    std::fs::write(models.join("bad/log/README"), "mine").unwrap();
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    assert_eq!(database.rows("SHOW MODELS").await.num_rows(), 2);
    database.rows(&format!("PREDICT MODEL bad FROM '{rows}'")).await;
    assert!(models.join("notes.txt").exists() && models.join("bad/log/README").exists());
}

/// On an object store without folders, links or syncs everything goes through the same code.
#[tokio::test]
async fn a_warehouse_in_memory_does_all_that_a_folder_does() {
    let store = || async {
        let memory: Arc<dyn object_store::ObjectStore> = Arc::new(InMemory::new());
        let store = ModelStore::from_object_store(memory, Path::from("lake/models"), "memory");
        let engine = Engine::with_store(store.clone(), EngineOptions::default()).unwrap();
        (Session::on(engine).unwrap(), store)
    };
    let (session, models) = store().await;
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.parquet");
    write_rows(&rows, 900).await;
    let rows = rows.display().to_string();
    let run = |sql: String| {
        let session = &session;
        async move {
            let rows = session.collect(&sql, Arc::new(|_| {})).await;
            rows.unwrap_or_else(|e| panic!("{sql}: {e}"))
        }
    };
    let train = format!(
        "TRAIN OR REPLACE MODEL m USING mlp_classifier TARGET k \
         WITH (hidden = [4], epochs = 3, checkpoint_every = 0, round_rows = 128) FROM '{rows}'"
    );
    run(train.clone()).await;
    run(train.clone()).await;
    let predicted = run(format!("SELECT predicted_k FROM (PREDICT MODEL m FROM '{rows}')")).await;
    assert_eq!(predicted.iter().map(RecordBatch::num_rows).sum::<usize>(), 900);
    run("ALTER MODEL m SET VERSION 1".to_owned()).await;
    run("ALTER MODEL m RENAME TO n".to_owned()).await;
    assert_eq!(models.current_version("n").await.unwrap(), 1);
    assert!(!models.contains("m").await.unwrap());
    run("DROP MODEL n VERSION 2".to_owned()).await;
    let weights = run("SELECT * FROM model.n.parameters".to_owned()).await;
    assert_eq!(weights[0].num_rows(), 4);
    run("DROP MODEL n".to_owned()).await;
    assert!(models.list().await.unwrap().is_empty());
}

/// Eight writers at once, without a lease: every number is given once, and what lost a race says
/// so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_never_overwrite_each_other() {
    let (database, ..) = two_models().await;
    let store = database.session.engine().store().clone();
    let model = store.load("good", None).await.unwrap();
    let mut tasks = vec![];
    for _ in 0..8 {
        let (store, mut model) = (store.clone(), model.clone());
        model.name = "raced".to_owned();
        tasks.push(tokio::spawn(async move {
            store.publish(&Arc::new(model), Publish::Replace, None, None).await
        }));
    }
    let mut published = vec![];
    for task in tasks {
        match task.await.unwrap() {
            Ok(version) => published.push(version),
            Err(error) => assert!(error.to_string().contains("was published by somebody else")),
        }
    }
    published.sort_unstable();
    let (versions, current) = store.versions("raced").await.unwrap();
    let numbers: Vec<u64> = versions.iter().map(|entry| entry.version).collect();
    assert_eq!(numbers, published);
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(current, *numbers.last().unwrap());
    for version in numbers {
        store.load("raced", Some(version)).await.unwrap();
    }
}
