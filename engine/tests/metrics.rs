//! Metrics in SQL beside scikit-learn's.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use gradlake_udfs::metric_functions;

async fn value(sql: &str, partitions: usize) -> Result<Option<f64>> {
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(2);
    let context = SessionContext::new_with_config(config);
    for metric in metric_functions() {
        context.register_udaf(metric.as_ref().clone());
    }
    let batches = context.sql(sql).await?.collect().await?;
    let column = batches[0].column(0).as_primitive::<Float64Type>().clone();
    Ok(column.is_valid(0).then(|| column.value(0)))
}

const ROWS: &str = "(VALUES ('no', 'no', 0.1, 1), ('yes', 'yes', 0.9, 2), ('yes', 'no', 0.4, 1),
    ('no', 'yes', 0.6, 1), ('yes', 'yes', 0.6, 3), (NULL, 'yes', 0.5, 1)) AS t(y, p, s, w)";

/// sklearn.metrics of y = [0,1,1,0,1], p = [0,1,0,1,1], s = [.1,.9,.4,.6,.6], also with
/// sample_weight = [1,2,1,1,3].
#[tokio::test]
async fn sql_gives_the_metrics_in_any_number_of_partitions() {
    let expected = [
        ("accuracy(y, p)", 0.6),
        ("accuracy(y, p, w)", 0.75),
        ("precision(y, p)", 2.0 / 3.0),
        ("recall(y, p, w)", 5.0 / 6.0),
        ("f1_score(y, p)", 2.0 / 3.0),
        ("roc_auc(y, s)", 0.75),
        ("roc_auc(y, s, w)", (2.0 * 2.0 + 1.0 + 3.0 * 1.5) / 12.0),
        (
            "log_loss(y, s)",
            -(0.9f64.ln() + 0.9f64.ln() + 0.4f64.ln() + 0.4f64.ln() + 0.6f64.ln()) / 5.0,
        ),
        ("mean_absolute_error(w, w + 1)", 1.0),
        ("root_mean_squared_error(w, w + 2)", 2.0),
    ];
    for (call, wanted) in expected {
        for partitions in [1, 4] {
            let sql = format!("SELECT {call} FROM {ROWS}");
            let got = value(&sql, partitions).await.unwrap().unwrap();
            assert!((got - wanted).abs() < 1e-12, "{call}: {got} {wanted}");
        }
    }
}

#[tokio::test]
async fn lists_of_probabilities_are_taken_in_any_order() {
    let item = |l: &str, p: f64| format!("named_struct('label', '{l}', 'prob', {p})");
    let list = |a, pa, b, pb| format!("make_array({}, {})", item(a, pa), item(b, pb));
    let rows = format!(
        "(SELECT 'no' AS y, {} AS p UNION ALL SELECT 'yes', {} UNION ALL SELECT 'yes', {}
          UNION ALL SELECT 'no', {})",
        list("no", 0.9, "yes", 0.1),
        list("yes", 0.8, "no", 0.2),
        list("no", 0.6, "yes", 0.4),
        list("yes", 0.6, "no", 0.4),
    );
    let loss = -(0.9f64.ln() + 0.8f64.ln() + 0.4f64.ln() + 0.4f64.ln()) / 4.0;
    for partitions in [1, 4] {
        let auc = value(&format!("SELECT roc_auc(y, p) FROM {rows}"), partitions).await;
        assert_eq!(auc.unwrap(), Some(0.75));
        let got = value(&format!("SELECT log_loss(y, p) FROM {rows}"), partitions).await;
        assert!((got.unwrap().unwrap() - loss).abs() < 1e-12);
    }
}

#[tokio::test]
async fn no_rows_and_one_class_give_null() {
    for call in ["accuracy(y, p)", "roc_auc(y, s)", "log_loss(y, s)", "r2_score(w, w)"] {
        let sql = format!("SELECT {call} FROM {ROWS} WHERE w > 10");
        assert_eq!(value(&sql, 1).await.unwrap(), None, "{call}");
    }
    let sql = format!("SELECT roc_auc(y, s) FROM {ROWS} WHERE y = 'yes'");
    assert_eq!(value(&sql, 1).await.unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_in_one_sentence() {
    for (call, expected) in [
        ("accuracy(y)", "takes a label, a prediction"),
        ("accuracy(y, s)", "cannot be compared"),
        ("r2_score(y, s)", "label of r2_score must be a number"),
        ("roc_auc(y, p)", "must be a number or a list of struct"),
        ("roc_auc(y, s / 0.0 * 0.0)", "is NaN"),
        ("log_loss(y, s + 3)", "a probability from 0 to 1, but is 3.1"),
        ("roc_auc(s, s)", "needs two labels"),
        ("accuracy(y, p, y)", "weight of accuracy must be a number"),
    ] {
        let error = value(&format!("SELECT {call} FROM {ROWS}"), 1).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{call}: {error}");
    }
}
