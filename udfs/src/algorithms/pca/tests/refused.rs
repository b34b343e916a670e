//! What has no components, edge cases that have, and the choice of the method.

use super::*;

fn error(data: &Data, given: &[(&str, OptionValue)]) -> String {
    let made = estimator(data, false, given);
    let error = match made {
        Ok(made) => finish(made, data, data, 1).map(|_| ()),
        Err(error) => Err(error),
    };
    error.unwrap_err().strip_backtrace()
}

#[test]
fn more_components_than_there_can_be_are_refused() {
    let data = Data::of(4, (0..12).map(|i| (i * i) as f32).collect());
    let nine = [("components", number("9"))];
    assert!(error(&data, &nine).contains("components is 9, but there are only 4 inputs"));
    let one = Data::of(1, vec![1.0, 2.0]);
    assert!(error(&one, &nine).contains("components is 9, but there is only 1 input"));
    for svd in ["covariance", "randomized"] {
        let given = [("components", number("4")), ("svd", word(svd))];
        let text = error(&data, &given);
        assert!(text.contains("components is 4, but there are only 3 rows"), "{text}");
        let given = [("components", number("1")), ("svd", word(svd))];
        let text = error(&data.take(&[0]), &given);
        assert!(text.contains("at least 2 rows with a weight, but there is 1"), "{text}");
        let equal = data.take(&[1, 1, 1]);
        let text = error(&equal, &given);
        assert!(text.contains("all 3 rows have the same inputs"), "{text}");
        let mut none = data.clone();
        none.weight.fill(0.0);
        assert!(error(&none, &given).contains("no row with a weight"));
        let mut infinite = data.clone();
        infinite.dense[5] = f32::INFINITY;
        let text = error(&infinite, &given);
        assert!(text.contains("needs finite inputs"), "{text}");
    }
}

#[test]
fn bad_weights_are_refused() {
    let mut data = Data::of(2, (0..12).map(|i| (i * i) as f32).collect());
    data.weight[3] = -1.0;
    for svd in ["covariance", "randomized"] {
        let mut made = estimator(&data, false, &[("svd", word(svd))]).unwrap();
        let Next::Run(request) = made.next().unwrap() else { panic!("no round") };
        let mut replica = request.round.replica(0).unwrap();
        let text = replica.update(&data.batch()).unwrap_err().to_string();
        assert!(text.contains("row weights should be finite and at least 0"), "{text}");
    }
}

/// One column, a column of one value, categories alone, fewer rows than inputs.
#[test]
fn edge_cases_have_components() {
    let one = fit(&Data::of(1, vec![1.0, 2.0, 3.0, 6.0]), &[]);
    assert_eq!(one.parameters[..2], [1.0, 3.0]);
    assert!((one.parameters[2] - 14.0 / 3.0).abs() < 1e-6);
    assert_eq!(one.loss, 0.0);
    for svd in ["covariance", "randomized"] {
        let data = Data::of(2, vec![1.0, 7.0, 2.0, 7.0, 6.0, 7.0]);
        let fitted = fit(&data, &[("svd", word(svd))]);
        let [components, mean, variances, _] = tensors(&data, &fitted);
        close("components", &components, &[1.0, 0.0, 0.0, 1.0], 1e-15);
        assert_eq!(mean, [3.0, 7.0]);
        close("variances", &variances, &[7.0, 0.0], 1e-6);
        let mut categories = Data::decaying(100, 1, 1);
        categories.width.dense = 0;
        categories.dense.clear();
        let fitted = fit(&categories, &[("components", number("3")), ("svd", word(svd))]);
        let [_, mean, ..] = tensors(&categories, &fitted);
        assert!((mean[3..].iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert_eq!(scores(&trained(&categories, &fitted), &categories).len(), 300);
    }
    let wide = Data::of(9, (0..27).map(|i| ((i * 7) % 11) as f32).collect());
    let fitted = fit(&wide, &[]);
    assert_eq!(fitted.description.unwrap().outputs(), 2);
    assert!(fitted.loss < 1e-12);
}

#[test]
fn options_are_counts_or_shares() {
    let wanted = |value| options(&[("components", value)]).components;
    assert_eq!(wanted(number("3")), Components::Count(3));
    assert_eq!(wanted(number("0.5")), Components::Share(0.5));
    assert_eq!(wanted(word("auto")), Components::Auto);
    assert_eq!(options(&[]).components, Components::Auto);
    let refused = |given: &[(&str, OptionValue)]| {
        let given: Vec<_> = given.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        TrainOptions::check(Algorithm::PCA, &given).unwrap_err().strip_backtrace()
    };
    for value in ["0", "1.5", "-1", "65537"] {
        let text = refused(&[("components", number(value))]);
        assert!(text.contains("option components must be auto, a whole number from 1"), "{text}");
    }
    let text = refused(&[("components", number("0.5")), ("svd", word("randomized"))]);
    assert!(text.contains("components = 0.5 is a share of the variance"), "{text}");
    assert!(refused(&[("learning_rate", number("0.5"))]).contains("pca takes no option"));
    assert!(options(&[]).for_stream(false).is_ok());
    let random = options(&[("svd", word("randomized"))]).for_stream(false).unwrap_err();
    assert!(random.to_string().contains("option svd must be covariance with"), "{random}");
    let written = options(&[("components", number("0.25"))]).written_out();
    assert_eq!(written["components"], "0.25");
    assert_eq!((&*written["whiten"], &*written["svd"]), ("FALSE", "auto"));
}

#[test]
fn the_method_is_by_operations() {
    let method = |inputs, given: &[(&str, OptionValue)]| {
        let options = options(given);
        let width = Width { dense: inputs, bytes: 0, columns: 0, categories: 0, targets: 0 };
        let shape = Shape { width, classes: None, rows: 1000 };
        let description = PcaDescription { components: None, whiten: false };
        super::method(&options, &description, &shape, false)
    };
    assert_eq!(method(2000, &[("components", number("2"))]), Method::Covariance);
    assert_eq!(method(2001, &[("components", number("2"))]), Method::Randomized);
    assert_eq!(method(3000, &[("components", number("200"))]), Method::Covariance);
    assert_eq!(method(3000, &[("components", number("0.5"))]), Method::Covariance);
    assert_eq!(method(50_000, &[]), Method::Randomized);
    assert_eq!(method(10, &[("svd", word("randomized"))]), Method::Randomized);
    assert_eq!(method(50_000, &[("svd", word("covariance"))]), Method::Covariance);
}
