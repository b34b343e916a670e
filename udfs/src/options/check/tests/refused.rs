//! Options that are refused, with the sentence that says why.

use super::*;

#[test]
fn unknown_repeated_and_foreign_options() {
    let one = || number("1");
    assert_eq!(
        error(LINEAR_SVM, &[("epoch", one())]),
        "unknown option epoch; did you mean epochs?"
    );
    assert_eq!(
        error(LINEAR_SVM, &[("trees", one())]),
        format!(
            "unknown option trees; TRAIN takes {}",
            options().map(|option| option.name).collect::<Vec<_>>().join(", ")
        )
    );
    assert_eq!(
        error(LINEAR_SVM, &[("epochs", one()), ("epochs", one())]),
        "option epochs is given twice"
    );
    assert_eq!(
        error(LINEAR_REGRESSION, &[("hidden", list(&["3"]))]),
        "linear_regression takes no option hidden; it belongs to mlp_classifier, mlp_regressor"
    );
    assert_eq!(
        error(MLP_CLASSIFIER, &[("solver", word("newton"))]),
        "mlp_classifier takes no option solver; it belongs to linear_regression, \
         logistic_regression, linear_svm"
    );
    assert_eq!(
        error(LOGISTIC_REGRESSION, &[("loss", word("hinge"))]),
        "logistic_regression takes no option loss; it belongs to linear_regression, \
         linear_svm, mlp_classifier, mlp_regressor, network_classifier, network_regressor"
    );
    assert_eq!(
        error(MLP_REGRESSOR, &[("class_weights", word("balanced"))]),
        "mlp_regressor takes no option class_weights; it belongs to logistic_regression, \
         linear_svm, mlp_classifier, network_classifier"
    );
    assert_eq!(
        error(LINEAR_SVM, &[("solver", word("newton"))]),
        "option solver of linear_svm must be one of auto, lbfgs, sgd, but is newton"
    );
}

/// Every option refuses these, with its own range.
#[test]
fn values_out_of_range() {
    for (name, values) in [
        ("epochs", vec![number("0"), number("-1"), number("1.5"), string("10"), number("1000001")]),
        ("batch_size", vec![number("0"), number("1048577"), word("auto")]),
        ("learning_rate", vec![number("0"), number("-0.1"), number("1001"), number("1e999")]),
        ("intercept_learning_rate", vec![number("-1"), word("none")]),
        ("schedule", vec![number("1"), word("linear"), map(&[("kind", number("1"))])]),
        ("optimizer", vec![number("1"), word("lbfgs")]),
        ("l1", vec![number("-1"), word("x")]),
        ("l2", vec![number("-1"), number("1e7")]),
        ("dropout", vec![number("1"), number("-0.1"), number("0.99999999999")]),
        ("hidden", vec![number("3"), list(&["0"]), list(&["65537"]), list(&["1"; 33])]),
        ("activation", vec![number("1"), word("swish")]),
        ("statistics", vec![word("some"), number("1")]),
        ("standardize", vec![number("1"), word("yes")]),
        ("intercept", vec![number("1")]),
        (
            "class_weights",
            vec![
                number("1"),
                word("x"),
                map(&[]),
                map(&[("a", number("0"))]),
                map(&[("a", word("b"))]),
            ],
        ),
        ("seed", vec![number("-1"), number("18446744073709551616"), number("0.5")]),
        ("replicas", vec![number("0"), number("1025")]),
        ("parallel", vec![word("threads")]),
        ("shuffle", vec![word("no")]),
        ("round_rows", vec![number("0")]),
        ("split", vec![word("some"), number("0.1")]),
        ("split_column", vec![number("1")]),
        ("split_fraction", vec![number("0"), number("1")]),
        ("early_stop", vec![number("0")]),
        ("patience", vec![number("0")]),
        ("min_delta", vec![number("-1")]),
        ("max_seconds", vec![number("0"), string("a minute")]),
        (
            "checkpoint_every",
            vec![number("-1"), string("minute"), string("3 weeks"), word("never")],
        ),
        ("keep_versions", vec![number("0")]),
    ] {
        let spec = find(name).unwrap();
        for value in values {
            assert_eq!(
                error(MLP_CLASSIFIER, &[(name, value.clone())]),
                format!("option {name} must be {}, but is {value}", spec.kind.range())
            );
        }
    }
    assert_eq!(
        error(LOGISTIC_REGRESSION, &[("tolerance", number("2"))]),
        "option tolerance must be a number from 0 to 1, but is 2"
    );
    assert_eq!(
        error(LINEAR_REGRESSION, &[("solver", word("exact"))]),
        "option solver of linear_regression must be one of auto, normal, lbfgs, irls, sgd, but is exact"
    );
}

#[test]
fn quantiles_that_are_none() {
    for text in ["[]", "[0.5, 0.5]", "[0.9, 0.1]", "[0, 0.5]", "[0.5, 1]", "[-0.1]", "0.5"] {
        assert_eq!(
            error(MLP_REGRESSOR, &[("quantiles", OptionValue::of_text(text))]),
            format!(
                "option quantiles must be a list of 1 to 99 ascending numbers above 0 and below 1, \
                 but is {text}"
            )
        );
    }
    let many = (1..=100).map(|i| f64::from(i) / 101.0).collect::<Vec<_>>();
    assert!(error(MLP_REGRESSOR, &[("quantiles", many.into())]).contains("a list of 1 to 99"));
    assert!(
        error(MLP_CLASSIFIER, &[("quantiles", list(&["0.5"]))])
            .ends_with("it belongs to linear_regression, mlp_regressor, network_regressor")
    );
}

#[test]
fn a_misspelt_value() {
    assert_eq!(
        error(MLP_CLASSIFIER, &[("optimizer", string("addam"))]),
        "option optimizer must be one of sgd, momentum, nesterov, adagrad, rmsprop, adam, \
         adamw, ftrl, adaptive_invariant, but is 'addam'; did you mean adam?"
    );
    assert_eq!(
        error(LINEAR_SVM, &[("loss", word("squaredhinge"))]),
        "option loss of linear_svm must be one of auto, hinge, squared_hinge, but is \
         squaredhinge; did you mean squared_hinge?"
    );
    assert_eq!(
        error(MLP_REGRESSOR, &[("loss", word("softmax"))]),
        "option loss of mlp_regressor must be one of auto, squared, absolute, huber, poisson, \
         quantile, but is softmax"
    );
    assert_eq!(
        error(LINEAR_REGRESSION, &[("solver", word("newton"))]),
        "option solver of linear_regression must be one of auto, normal, lbfgs, irls, sgd, but is newton"
    );
    assert_eq!(
        error(LINEAR_SVM, &[("statistics", string("rolling"))]),
        "option statistics must be one of fixed, running, but is 'rolling'"
    );
}

#[test]
fn contradictions() {
    let no = || OptionValue::Bool(false);
    let yes = || OptionValue::Bool(true);
    let one = || number("1");
    let half = || number("0.5");
    type Case = (Algorithm, Vec<(&'static str, OptionValue)>, &'static str);
    let cases: Vec<Case> = vec![
        (
            MLP_CLASSIFIER,
            vec![("momentum", half()), ("optimizer", word("adam"))],
            "option momentum does not go with optimizer = adam; it belongs to momentum and \
             nesterov",
        ),
        (
            MLP_CLASSIFIER,
            vec![("beta1", half()), ("optimizer", word("rmsprop"))],
            "option beta1 does not go with optimizer = rmsprop; it belongs to adam and adamw",
        ),
        (
            MLP_CLASSIFIER,
            vec![("beta2", half()), ("optimizer", word("sgd"))],
            "option beta2 does not go with optimizer = sgd; it belongs to rmsprop, adam and \
             adamw",
        ),
        (
            MLP_CLASSIFIER,
            vec![("epsilon", half()), ("optimizer", word("momentum"))],
            "option epsilon does not go with optimizer = momentum; it belongs to adagrad, \
             rmsprop, adam, adamw and ftrl",
        ),
        (
            LINEAR_REGRESSION,
            vec![("l1", half()), ("solver", word("normal"))],
            "option l1 does not go with solver = normal; leave it out or set solver = lbfgs",
        ),
        (
            LOGISTIC_REGRESSION,
            vec![("epochs", one()), ("solver", word("newton"))],
            "option epochs does not go with solver = newton, which takes all rows at once; leave \
             it out or set solver = sgd",
        ),
        (
            LINEAR_REGRESSION,
            vec![("loss", word("huber")), ("solver", word("normal"))],
            "option loss does not go with solver = normal; leave it out or set solver = lbfgs",
        ),
        (
            LINEAR_REGRESSION,
            vec![("loss", word("quantile")), ("solver", word("normal"))],
            "option loss does not go with solver = normal; leave it out or set solver = irls",
        ),
        (
            LINEAR_REGRESSION,
            vec![("loss", word("quantile")), ("solver", word("lbfgs"))],
            "solver = lbfgs needs a loss that has a derivative everywhere, which quantile has not; \
             choose another loss or set solver = sgd",
        ),
        (
            LINEAR_REGRESSION,
            vec![("loss", word("huber")), ("solver", word("irls"))],
            "solver = irls goes with loss = 'quantile' alone, but loss is huber",
        ),
        (
            LINEAR_REGRESSION,
            vec![("loss", word("quantile")), ("solver", word("irls")), ("l1", half())],
            "option l1 does not go with solver = irls; leave it out or set solver = sgd",
        ),
        (
            LINEAR_REGRESSION,
            vec![("quantiles", list(&["0.5"]))],
            "option quantiles goes with loss = 'quantile' alone, but loss is auto",
        ),
        (
            MLP_REGRESSOR,
            vec![("loss", word("huber")), ("quantiles", list(&["0.5"]))],
            "option quantiles goes with loss = 'quantile' alone, but loss is huber",
        ),
        (
            LINEAR_REGRESSION,
            vec![("loss", word("quantile")), ("optimizer", word("adaptive_invariant"))],
            "optimizer = adaptive_invariant cannot learn loss = 'quantile'; choose another \
             optimizer",
        ),
        (
            LINEAR_SVM,
            vec![("loss", word("hinge")), ("solver", word("lbfgs"))],
            "solver = lbfgs needs a loss that has a derivative everywhere, which hinge has not; \
             choose another loss or set solver = sgd",
        ),
        (
            LINEAR_SVM,
            vec![("momentum", half()), ("solver", word("lbfgs"))],
            "option momentum does not go with optimizer = adam; it belongs to momentum and \
             nesterov",
        ),
        (
            LOGISTIC_REGRESSION,
            vec![("tolerance", half()), ("solver", word("sgd"))],
            "option tolerance ends the steps of newton, lbfgs and irls and does not go with solver = sgd; \
             leave it out",
        ),
        (
            LOGISTIC_REGRESSION,
            vec![("tolerance", half()), ("batch_size", one())],
            "option tolerance ends the steps of newton, lbfgs and irls and does not go with batch_size, \
             which only training by mini-batches takes; leave one of them out",
        ),
        (
            MLP_CLASSIFIER,
            vec![("dropout", half()), ("hidden", list(&[]))],
            "option dropout needs a hidden layer, but hidden is []",
        ),
        (
            LINEAR_SVM,
            vec![("split", word("column"))],
            "split = column needs split_column, the name of a boolean column",
        ),
        (
            LINEAR_SVM,
            vec![("split_column", string("x"))],
            "option split_column goes with split = column alone, but split is auto",
        ),
        (
            LINEAR_SVM,
            vec![("split_fraction", half()), ("split", word("none"))],
            "option split_fraction goes with split = auto, random or sequential, but split is \
             none",
        ),
        (
            LINEAR_SVM,
            vec![("early_stop", yes()), ("split", word("none"))],
            "option early_stop needs evaluation rows, but split is none; choose another split",
        ),
        (
            MLP_CLASSIFIER,
            vec![("optimizer", word("adaptive_invariant"))],
            "optimizer = adaptive_invariant learns linear models, but hidden is [128]; choose \
             another optimizer, or hidden = []",
        ),
        (
            LINEAR_SVM,
            vec![("optimizer", word("adaptive_invariant")), ("parallel", word("gradient"))],
            "option parallel must not be gradient with optimizer = adaptive_invariant, which \
             takes the rows of a mini-batch one after another",
        ),
        (
            LINEAR_SVM,
            vec![("epsilon", half()), ("optimizer", word("adaptive_invariant"))],
            "option epsilon does not go with optimizer = adaptive_invariant; it belongs to \
             adagrad, rmsprop, adam, adamw and ftrl",
        ),
        (
            LINEAR_SVM,
            vec![("patience", one()), ("split", word("none"))],
            "option patience needs evaluation rows, but split is none; choose another split",
        ),
        (
            LINEAR_SVM,
            vec![("min_delta", one()), ("early_stop", no())],
            "option min_delta does not go with early_stop = FALSE; leave one of them out",
        ),
        (
            LINEAR_SVM,
            vec![("intercept_learning_rate", one()), ("intercept", no())],
            "option intercept_learning_rate does not go with intercept = FALSE; leave one of \
             them out",
        ),
    ];
    for (algorithm, given, expected) in cases {
        assert_eq!(error(algorithm, &given), expected);
    }
    // These look contradictory but are allowed.
    for (algorithm, given) in [
        (LINEAR_SVM, vec![("early_stop", no()), ("split", word("none"))]),
        (LINEAR_REGRESSION, vec![("l1", number("0")), ("solver", word("normal"))]),
        (MLP_CLASSIFIER, vec![("replicas", number("4")), ("parallel", word("gradient"))]),
        (MLP_CLASSIFIER, vec![("intercept_learning_rate", one()), ("intercept", no())]),
    ] {
        check(algorithm, &given).unwrap();
    }
}
