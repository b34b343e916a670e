//! Compares the single-pass load with collecting, fitting and encoding the same rows.

use std::fs::File;
use std::path::Path;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use gradlake_udfs::kernels::rng::mix;
use gradlake_udfs::kernels::rng::unit;
use gradlake_udfs::{Algorithm, SplitRule};

use super::*;
use crate::session::{Engine, EngineOptions};
use crate::table::{Encoding, RawTable, Side, TargetKind};

/// Rows of all types that the single-pass load takes, from number `first` on.
fn rows(first: usize, n: usize) -> Vec<(&'static str, ArrayRef)> {
    let draw = |what: u64, i: usize| unit(mix(7, what, i as u64)) * 9.0 - 4.0;
    let all = first..first + n;
    let single = all.clone().map(|i| match i % 13 {
        3 => None,
        4 => Some(f32::NAN),
        5 => Some(f32::INFINITY),
        _ => Some(draw(1, i)),
    });
    let double = all.clone().map(|i| (i % 17 != 2).then(|| f64::from(draw(2, i))));
    let whole = all.clone().map(|i| (i % 11 != 2).then_some(i as i32 - 70));
    let truth = all.clone().map(|i| (i % 7 != 2).then_some(draw(3, i) > 1.0));
    vec![
        ("single", Arc::new(single.collect::<Float32Array>())),
        ("double", Arc::new(double.collect::<Float64Array>())),
        ("whole", Arc::new(whole.collect::<Int32Array>())),
        ("truth", Arc::new(truth.collect::<BooleanArray>())),
        ("number", Arc::new(all.clone().map(|i| f64::from(draw(4, i))).collect::<Float64Array>())),
        ("weight", Arc::new(all.clone().map(|i| draw(5, i).abs()).collect::<Float32Array>())),
        ("class", Arc::new(all.map(|i| 5 * i64::from(draw(6, i) > 0.0)).collect::<Int64Array>())),
    ]
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>, group: usize) {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .set_data_page_row_count_limit(3000)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn roles(features: &[&str], batch: &[(&str, ArrayRef)], target: &str, weight: bool) -> Roles {
    let data_type =
        |name: &str| batch.iter().find(|(own, _)| *own == name).unwrap().1.data_type().clone();
    let kind = if target == "class" { TargetKind::Class } else { TargetKind::Number };
    Roles {
        algorithm: match kind {
            TargetKind::Class => Algorithm::LOGISTIC_REGRESSION,
            TargetKind::Number | TargetKind::None => Algorithm::LINEAR_REGRESSION,
        },
        inputs: features.iter().map(|name| ((*name).to_owned(), data_type(name))).collect(),
        targets: vec![target.to_owned()],
        kind,
        weight: weight.then(|| "weight".to_owned()),
        partition_by: vec![],
        split: None,
    }
}

async fn plan(engine: &Engine, folder: &Path) -> Arc<dyn ExecutionPlan> {
    let sql = format!("SELECT * FROM '{}/'", folder.display());
    let plan = engine.context().sql(&sql).await.unwrap().into_unoptimized_plan();
    let state = engine.training_state();
    state.create_physical_plan(&plan).await.unwrap()
}

fn engine(threads: usize) -> Engine {
    limited(threads, None)
}

fn limited(threads: usize, memory_limit: Option<usize>) -> Engine {
    let threads = Some(threads);
    Engine::open(EngineOptions { threads, memory_limit, ..Default::default() }).unwrap()
}

async fn load(
    engine: &Engine,
    plan: &Arc<dyn ExecutionPlan>,
    roles: &Roles,
    shuffle: Option<u64>,
    classes: usize,
) -> Option<SinglePassLoad> {
    let pages = PageRows::of(plan.as_ref(), engine.training_state().runtime_env()).unwrap();
    let holds = Arc::new(move |n| n <= classes);
    let arrangement = Arrangement { shuffle, standardize: true, holds };
    let resources = engine.resources(&engine.training_state()).unwrap();
    SinglePassLoad::read(pages, roles, |_, _| Some(arrangement), &resources, &|_| {}).await.unwrap()
}

/// A hash and the labels and weights of all rows.
fn content(table: &EncodedTable) -> (u64, Vec<Vec<f32>>) {
    let mut columns = vec![];
    for index in 0..table.chunk_count() {
        let chunk = table.chunk(index).unwrap();
        columns.push(chunk.dense.values().to_vec());
        columns.push(chunk.label.values().to_vec());
        columns.push(chunk.weight.values().to_vec());
    }
    (table.data_hash(), columns)
}

#[tokio::test]
async fn rows_of_a_single_pass_have_the_bits_of_those_that_are_kept_and_encoded() {
    let folder = tempfile::tempdir().unwrap();
    // Files, row groups and threads cut blocks; one file is within a block.
    let all = rows(0, 60_000);
    let mut first = 0;
    for (i, (n, group)) in [(30_001, 12_000), (999, 500), (29_000, 40_000)].into_iter().enumerate()
    {
        write(&folder.path().join(format!("{i}.parquet")), rows(first, n), group);
        first += n;
    }
    assert_eq!(first, 60_000);
    let features = ["single", "double", "whole", "truth"];
    for (target, weight) in [("class", true), ("class", false), ("number", true)] {
        let roles = roles(&features, &all, target, weight);
        for shuffle in [None, Some(5)] {
            let mut found = vec![];
            // The rows are 1.4 MB encoded.
            for (threads, limit) in
                [(1, None), (2, None), (7, None), (1, Some(1 << 20)), (7, Some(1 << 20))]
            {
                let engine = limited(threads, limit);
                let plan = plan(&engine, folder.path()).await;
                let own = load(&engine, &plan, &roles, shuffle, 2).await.unwrap();
                assert_eq!(own.rows(), 60_000);
                let fitted = own.fit(true).unwrap();
                let own = own
                    .encode(&fitted.encoder, &fitted.labels, &ClassWeights::Balanced, &fitted)
                    .await
                    .unwrap();
                assert_eq!(own.spilled_bytes() > 0, limit.is_some());
                found.push(content(&own));
                drop(own);
                if threads > 2 {
                    continue;
                }
                let state = engine.training_state();
                let resources = engine.resources(&state).unwrap();
                let streams = execute_stream_partitioned(plan, state.task_ctx()).unwrap();
                let raw = RawTable::collect(streams, &roles, &resources, &|_| {}).await.unwrap();
                let (_, subset) = raw.groups().remove(0);
                let mask = raw.split(&subset, &SplitRule::None).await.unwrap();
                let kept = raw.fit(&subset, &mask, true, true).await.unwrap();
                assert!(kept.encoder == fitted.encoder && kept.labels == fitted.labels);
                let encoding = Encoding {
                    encoder: &kept.encoder,
                    labels: &kept.labels,
                    class_weights: &ClassWeights::Balanced,
                    fitted: &kept,
                    shuffle,
                    is_last: true,
                };
                let kept = EncodedTable::encode(&raw, &subset, &mask, Side::Training, encoding);
                found.push(content(&kept.await.unwrap()));
            }
            assert!(found.iter().all(|own| *own == found[0]), "{target} {weight} {shuffle:?}");
        }
    }
}

#[tokio::test]
async fn what_a_single_pass_cannot_load_is_left_to_others() {
    let engine = engine(2);
    let n = 40_000;
    let with = |name: &'static str, column: ArrayRef| {
        let mut all = rows(0, n);
        all.iter_mut().filter(|(own, _)| *own == name).for_each(|own| own.1 = column.clone());
        all
    };
    let late = |odd: f64| (0..n).map(move |i| if i == n - 9 { odd } else { 1.0 });
    let ints =
        |odd: Option<i64>| (0..n).map(move |i| if i == n - 9 { odd } else { Some(i as i64 % 2) });
    let packed = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let names = (0..n).map(|i| ["a", "b"][i % 2]);
    let packed = cast(&StringArray::from_iter_values(names), &packed).unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|_| "a")));
    for (what, columns, classes, target) in [
        ("as it is", rows(0, n), 2, "class"),
        (
            "a number that float32 lacks",
            with("double", Arc::new(Float64Array::from_iter_values(late(0.1)))),
            2,
            "class",
        ),
        (
            "such a target",
            with("number", Arc::new(Float64Array::from_iter_values(late(0.1)))),
            2,
            "number",
        ),
        ("no target", with("class", Arc::new(ints(None).collect::<Int64Array>())), 2, "class"),
        (
            "a third class",
            with("class", Arc::new(ints(Some(7)).collect::<Int64Array>())),
            2,
            "class",
        ),
        (
            "three classes",
            with("class", Arc::new(ints(Some(7)).collect::<Int64Array>())),
            3,
            "class",
        ),
        (
            "a negative weight",
            with("weight", Arc::new(late(-1.0).map(|w| w as f32).collect::<Float32Array>())),
            2,
            "class",
        ),
        ("texts", with("whole", texts), 2, "class"),
        ("a dictionary of classes", with("class", packed), 2, "class"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let roles = roles(&["single", "double", "whole"], &columns, target, true);
        write(&folder.path().join("a.parquet"), columns, n);
        let plan = plan(&engine, folder.path()).await;
        let found = load(&engine, &plan, &roles, Some(1), classes).await;
        let is_single_pass = matches!(what, "as it is" | "three classes");
        assert_eq!(found.is_some(), is_single_pass, "{what}");
    }
}
