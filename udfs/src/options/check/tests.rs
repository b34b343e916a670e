//! Options are checked before any data is read.

mod refused;

use std::time::Duration;

use super::super::{ScheduleKind, Warmup};
use super::*;
use crate::learner::Loss;

fn word(text: &str) -> OptionValue {
    OptionValue::Word(text.to_owned())
}

fn string(text: &str) -> OptionValue {
    OptionValue::String(text.to_owned())
}

fn number(text: &str) -> OptionValue {
    OptionValue::Number(text.to_owned())
}

fn list(values: &[&str]) -> OptionValue {
    OptionValue::List(values.iter().map(|n| number(n)).collect())
}

fn map(entries: &[(&str, OptionValue)]) -> OptionValue {
    OptionValue::Map(entries.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect())
}

fn check(algorithm: Algorithm, given: &[(&str, OptionValue)]) -> Result<TrainOptions> {
    let given: Vec<_> = given.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    TrainOptions::check(algorithm, &given)
}

fn error(algorithm: Algorithm, given: &[(&str, OptionValue)]) -> String {
    check(algorithm, given).unwrap_err().strip_backtrace().replacen(
        "Error during planning: ",
        "",
        1,
    )
}

const LINEAR_REGRESSION: Algorithm = Algorithm::LINEAR_REGRESSION;
const LOGISTIC_REGRESSION: Algorithm = Algorithm::LOGISTIC_REGRESSION;
const LINEAR_SVM: Algorithm = Algorithm::LINEAR_SVM;
const MLP_CLASSIFIER: Algorithm = Algorithm::MLP_CLASSIFIER;
const MLP_REGRESSOR: Algorithm = Algorithm::MLP_REGRESSOR;

#[test]
fn nothing_given() {
    for algorithm in Algorithm::all() {
        assert_eq!(check(algorithm, &[]).unwrap(), TrainOptions::default_of(algorithm));
    }
    assert_eq!(check(LINEAR_SVM, &[]).unwrap().solver, Solver::Auto);
    assert_eq!(check(MLP_CLASSIFIER, &[]).unwrap().solver, Solver::Sgd);
    assert_eq!(check(LOGISTIC_REGRESSION, &[]).unwrap().solver, Solver::Auto);
    assert_eq!(check(MLP_REGRESSOR, &[]).unwrap().hidden, [128]);
    assert!(check(LINEAR_REGRESSION, &[]).unwrap().hidden.is_empty());
}

#[test]
fn quantiles_have_a_default_with_their_loss_alone() {
    let of = |given: &[(&str, OptionValue)]| check(LINEAR_REGRESSION, given).unwrap();
    assert!(of(&[]).quantiles.is_empty() && !of(&[]).written_out().contains_key("quantiles"));
    let quantile = || ("loss", word("quantile"));
    assert_eq!(of(&[quantile()]).written_out()["quantiles"], "[0.1, 0.5, 0.9]");
    let given = of(&[("quantiles", list(&["0.05", ".5"])), quantile(), ("solver", word("irls"))]);
    assert_eq!((given.quantiles.as_slice(), given.solver), (&[0.05, 0.5][..], Solver::Irls));
    assert_eq!(given.written_out()["quantiles"], "[0.05, 0.5]");
}

#[test]
fn every_option_is_read() {
    let options = check(
        MLP_CLASSIFIER,
        &[
            ("momentum", number("0.8")),
            ("epochs", number("3")),
            ("batch_size", number("1e3")),
            ("learning_rate", number(".5")),
            ("intercept_learning_rate", number("0")),
            ("schedule", map(&[("kind", string("cosine")), ("warmup", number("0.05"))])),
            // After `momentum`, which applies to it nevertheless.
            ("optimizer", string("Nesterov")),
            ("l1", number("1e-4")),
            ("l2", number("0.1")),
            ("dropout", number("0.25")),
            ("hidden", list(&["256", "128"])),
            ("activation", word("gelu")),
            ("loss", word("softmax")),
            ("statistics", string("fixed")),
            ("standardize", OptionValue::Bool(false)),
            ("intercept", OptionValue::Bool(false)),
            ("class_weights", map(&[("yes", number("2"))])),
            ("seed", number("18446744073709551615")),
            ("replicas", number("2")),
            ("parallel", string("gradient")),
            ("shuffle", OptionValue::Bool(false)),
            ("round_rows", number("5000")),
            ("split", string("column")),
            ("split_column", string("Is Test")),
            ("early_stop", OptionValue::Bool(true)),
            ("patience", number("7")),
            ("min_delta", number("0.001")),
            ("max_seconds", number("60")),
            ("checkpoint_every", string("2 minutes")),
            ("keep_versions", number("3")),
        ],
    )
    .unwrap();
    assert_eq!(options.optimizer, Optimizer::Nesterov { momentum: 0.8 });
    assert_eq!((options.epochs, options.batch_size), (3, 1000));
    assert_eq!((options.learning_rate, options.intercept_learning_rate), (0.5, Some(0.0)));
    assert_eq!(options.schedule.kind, ScheduleKind::Cosine);
    assert_eq!(options.schedule.warmup, Warmup::Share(0.05));
    assert_eq!((options.l1, options.l2, options.dropout), (Some(1e-4), Some(0.1), 0.25));
    assert_eq!(
        (options.hidden.as_slice(), options.activation),
        (&[256, 128][..], Activation::Gelu)
    );
    assert_eq!(options.loss, Some(Loss::Softmax));
    assert!(!options.standardize && !options.intercept && !options.shuffle);
    assert_eq!(options.class_weights, ClassWeights::Map(vec![("yes".to_owned(), 2.0)]));
    assert_eq!(options.seed, u64::MAX);
    assert_eq!((options.replicas, options.parallel), (Some(2), Parallel::Gradient));
    assert_eq!(options.round_rows, Some(5000));
    assert_eq!((options.split, options.split_column.as_deref()), (Split::Column, Some("Is Test")));
    assert_eq!((options.early_stop, options.patience, options.min_delta), (true, 7, 0.001));
    assert_eq!(options.max_seconds, Some(60.0));
    assert_eq!(options.checkpoint_every, Duration::from_secs(120));
    assert_eq!(options.keep_versions, Some(3));
    assert!(options.is_given("epochs") && !options.is_given("tolerance"));
}

#[test]
fn an_optimizer_brings_its_rate_unless_one_is_given() {
    let rate = |given: &[(&str, OptionValue)]| check(MLP_REGRESSOR, given).unwrap().learning_rate;
    assert_eq!(rate(&[]), 0.001);
    assert_eq!(rate(&[("optimizer", word("sgd"))]), 0.1);
    assert_eq!(rate(&[("learning_rate", number("7")), ("optimizer", word("sgd"))]), 7.0);
}

#[test]
fn options_of_steps_decide_auto() {
    let solver = |given: &[(&str, OptionValue)]| check(LOGISTIC_REGRESSION, given).unwrap().solver;
    for given in [
        ("epochs", number("2")),
        ("optimizer", word("ftrl")),
        ("beta1", number("0.5")),
        ("parallel", string("gradient")),
    ] {
        assert_eq!(solver(std::slice::from_ref(&given)), Solver::Sgd, "{given:?}");
    }
    for given in [
        ("l1", number("0.1")),
        ("l2", number("0.1")),
        ("tolerance", number("1e-8")),
        ("split", word("random")),
        ("seed", number("1")),
        ("solver", word("auto")),
    ] {
        assert_eq!(solver(std::slice::from_ref(&given)), Solver::Auto, "{given:?}");
    }
    let huber = check(LINEAR_REGRESSION, &[("loss", word("huber"))]).unwrap();
    assert_eq!(huber.solver, Solver::Auto);
}

#[test]
fn schedules() {
    let schedule = |value| check(LINEAR_SVM, &[("schedule", value)]).unwrap().schedule;
    assert_eq!(
        schedule(map(&[
            ("kind", word("step")),
            ("epochs", number("3")),
            ("factor", number("0.5"))
        ]))
        .kind,
        ScheduleKind::Step { epochs: Some(3.0), factor: 0.5 }
    );
    assert_eq!(schedule(word("step")).kind, ScheduleKind::Step { epochs: None, factor: 0.1 });
    assert_eq!(
        schedule(string("exponential")).kind,
        ScheduleKind::Exponential { epochs: 1.0, factor: 0.9 }
    );
    let warm = schedule(map(&[("warmup", number("100"))]));
    assert_eq!((warm.kind, warm.warmup), (ScheduleKind::Constant, Warmup::Steps(100)));
    assert_eq!(
        error(
            LINEAR_SVM,
            &[("schedule", map(&[("kind", word("cosine")), ("epochs", number("3"))]))]
        ),
        "schedule 'cosine' takes 'kind', 'warmup', found 'epochs'"
    );
    assert_eq!(
        error(LINEAR_SVM, &[("schedule", map(&[("kind", word("step")), ("factor", number("2"))]))]),
        "'factor' of schedule must be a number above 0 and at most 1, but is 2"
    );
    assert_eq!(
        error(LINEAR_SVM, &[("schedule", map(&[("warmup", number("1.5"))]))]),
        "'warmup' of schedule must be a share of all steps from 0 to below 1, or a whole \
         number of steps, but is 1.5"
    );
}

#[test]
fn durations() {
    for (value, seconds) in [
        (number("0"), 0.0),
        (number("2.5"), 2.5),
        (string("30 seconds"), 30.0),
        (string("1 minute"), 60.0),
        (string("1.5h"), 5400.0),
        (string("250 ms"), 0.25),
        (string("2 days"), 172_800.0),
    ] {
        let options = check(LINEAR_SVM, &[("checkpoint_every", value.clone())]).unwrap();
        assert_eq!(options.checkpoint_every.as_secs_f64(), seconds, "{value}");
    }
}

/// The options that are written out give the same options when they are read.
#[test]
fn written_options_are_read_again() {
    let cases: [&[(&str, &str)]; 14] = [
        &[],
        &[("solver", "sgd")],
        &[("solver", "lbfgs"), ("l1", "0.5")],
        &[("solver", "normal"), ("l2", "0.5"), ("split", "sequential")],
        &[("solver", "newton"), ("tolerance", "0.001"), ("split", "none")],
        &[("optimizer", "ftrl"), ("epsilon", "0.5"), ("l1", "0.01")],
        &[("optimizer", "nesterov"), ("momentum", "0.7"), ("split", "none")],
        &[("optimizer", "adaptive_invariant"), ("hidden", "[]")],
        &[("optimizer", "rmsprop"), ("beta2", "0.5"), ("early_stop", "FALSE")],
        &[("schedule", "{'kind': 'step', 'epochs': 2.5, 'factor': 0.3, 'warmup': 0.1}")],
        &[("schedule", "{'warmup': 50}"), ("intercept", "FALSE"), ("keep_versions", "2")],
        &[("hidden", "[]"), ("max_seconds", "1.5"), ("replicas", "3")],
        &[("hidden", "[3, 2]"), ("dropout", "0.1"), ("activation", "elu")],
        &[("split", "column"), ("split_column", "'A b'"), ("class_weights", "{'x': 0.5}")],
    ];
    let mut checked = 0;
    for algorithm in Algorithm::all() {
        for case in cases {
            let given: Vec<_> =
                case.iter().map(|(k, v)| ((*k).to_owned(), OptionValue::of_text(v))).collect();
            let Ok(mut options) = TrainOptions::check(algorithm, &given) else { continue };
            let written: Vec<_> = options
                .written_out()
                .iter()
                .map(|(k, v)| (k.clone(), OptionValue::of_text(v)))
                .collect();
            if options.solver == Solver::Auto {
                // The solver is not decided yet: the options of mini-batch training are also
                // written out.
                continue;
            }
            let mut again = TrainOptions::check(algorithm, &written).unwrap();
            options.given.clear();
            again.given.clear();
            assert_eq!(again, options, "{algorithm} {case:?}");
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked}");
}

#[test]
fn what_takes_no_part_is_not_written() {
    let written = TrainOptions::default_of(LINEAR_SVM).written_out();
    assert_eq!(written["optimizer"], "adam");
    assert_eq!(written["seed"], "0");
    assert_eq!(written["checkpoint_every"], "60");
    assert_eq!(written["l2"], "auto");
    assert_eq!(written["intercept"], "TRUE");
    for name in ["momentum", "hidden", "beta3", "split_column"] {
        assert!(!written.contains_key(name), "{name}");
    }
}
