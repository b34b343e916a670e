//! What is stored and shown: description, fields, tables, scores.

use arrow::array::AsArray;
use arrow::datatypes::{Fields, Float64Type, Int64Type};

use super::oracle::{digits, iris};
use super::*;

#[test]
fn a_description_comes_back_from_json() {
    for (components, whiten) in [(Some(3), true), (None, false)] {
        let own = PcaDescription { components, whiten };
        let json = own.to_json();
        assert_eq!(serde_json::from_str::<PcaDescription>(&json).unwrap(), own);
        let read = (SPEC.read)(&json).unwrap();
        assert_eq!(read.to_json(), json);
    }
    assert!((SPEC.read)("{").is_err());
    let description = PcaDescription { components: Some(2), whiten: false };
    let names: Vec<_> = description.fields(&[]).iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["principal_component_1", "principal_component_2"]);
    assert!(description.network().is_none());
    let error = description.check_continued("m", &options(&[])).unwrap_err().to_string();
    assert!(error.contains("CONTINUE cannot go on with model m"), "{error}");
}

#[test]
fn parts_are_one_column_a_component_and_null_beyond() {
    let data = iris();
    let fitted = fit(&data, &[("components", number("2"))]);
    let member = trained(&data, &fitted);
    let own = scores(&member, &data);
    let single: Vec<f32> = own.iter().map(|score| *score as f32).collect();
    let more = PcaDescription { components: Some(3), whiten: false };
    let fields = Fields::from(more.fields(&[]));
    let predictor = member.description.predictor(&member).unwrap();
    let parts = predictor.parts(&single, &fields, 0.5, &mut vec![]).unwrap();
    assert_eq!(parts.len(), 3);
    for (i, part) in parts[..2].iter().enumerate() {
        let values = part.as_primitive::<Float64Type>().values();
        assert!(values.iter().enumerate().all(|(row, value)| *value == own[2 * row + i]));
    }
    assert_eq!(parts[2].null_count(), data.rows());
}

/// The score of a row does not depend on the rows beside it, and is `(x - mean) . component`.
#[test]
fn scores_are_products_row_by_row() {
    for data in [Data::decaying(600, 9, 9), digits()] {
        let given = [("components", number("12"))];
        let member = trained(&data, &fit(&data, &given));
        let all = scores(&member, &data);
        let [components, mean, ..] = tensors(&data, &fit(&data, &given));
        let Width { dense: d, columns: c, .. } = data.width;
        let n = data.width.inputs();
        for row in [0, 5, 199] {
            let own = data.take(&[row]);
            assert_eq!(scores(&member, &own), all[row * 12..(row + 1) * 12]);
            let mut x: Vec<f64> = own.dense.iter().map(|x| f64::from(*x)).collect();
            x.resize(n, 0.0);
            for code in own.codes.iter().take(c).filter(|code| **code != NO_CATEGORY) {
                x[d + *code as usize] = 1.0;
            }
            let score = |j: usize| -> f64 {
                (0..n).map(|i| (x[i] - mean[i]) * components[j * n + i]).sum()
            };
            let expected: Vec<f64> = (0..12).map(score).collect();
            close("score", &all[row * 12..(row + 1) * 12], &expected, 1e-5);
        }
    }
}

/// Whitened scores have variance 1, and 0 where there is none.
#[test]
fn whitened_scores_have_unit_variance() {
    let dense = (0..300).flat_map(|i| {
        let x = unit(mix(3, 3, i)) - 0.5;
        [x, 2.0 * x, unit(mix(3, 4, i))]
    });
    let dense: Vec<f32> = dense.collect();
    let data = Data::of(3, dense);
    let given = [("components", number("3")), ("whiten", OptionValue::Bool(true))];
    let own = scores(&trained(&data, &fit(&data, &given)), &data);
    for (j, expected) in [(0, 1.0), (1, 1.0), (2, 0.0)] {
        let square: f64 = own.iter().skip(j).step_by(3).map(|score| score * score).sum();
        assert!((square / 299.0 - expected).abs() < 1e-4, "{j}: {}", square / 299.0);
    }
}

#[test]
fn tables_name_features_and_categories() {
    let data = Data::decaying(300, 2, 2);
    let fitted = fit(&data, &[("components", number("3"))]);
    let member = trained(&data, &fitted);
    let [components, _, variances, total] = tensors(&data, &fitted);
    let table = member.description.table(&member, "components").unwrap();
    assert_eq!(table.num_rows(), 3 * 8);
    let column = |name: &str| table.column_by_name(name).unwrap();
    let ids = column("principal_component_id").as_primitive::<Int64Type>().values();
    assert_eq!((ids[0], ids[7], ids[8], ids[23]), (1, 1, 2, 3));
    let features: Vec<_> = column("feature").as_string::<i32>().iter().flatten().collect();
    assert_eq!(features[..8], ["x0", "x1", "c0", "c0", "c0", "c1", "c1", "c1"]);
    let categories: Vec<_> = column("category").as_string::<i32>().iter().collect();
    assert_eq!(categories[1..4], [None, Some("t000"), Some("t001")]);
    assert_eq!(**column("value").as_primitive::<Float64Type>().values(), components[..]);
    let table = member.description.table(&member, "component_info").unwrap();
    let column = |name: &str| {
        table.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec()
    };
    assert_eq!(column("eigenvalue"), variances);
    let ratios = column("explained_variance_ratio");
    assert_eq!(ratios[1], variances[1] / total[0]);
    let sum: f64 = ratios.iter().sum();
    assert!((column("cumulative_explained_variance_ratio")[2] - sum).abs() < 1e-15);
    assert!(member.description.table(&member, "weights").is_err());
}
