//! A training that is saved, restored or stopped in every phase.

use super::super::estimator::Phase;
use super::*;

fn settings(data: &Data, init: Init) -> KmeansSettings {
    let mut settings = data.settings(5);
    settings.start.init = init;
    settings.restarts = 2;
    settings.has_evaluation = true;
    settings
}

/// Runs rounds until the end, or `limit` of them.
fn run(data: &Data, estimator: &mut KmeansEstimator, limit: usize) -> usize {
    let mut rounds = 0;
    while rounds < limit
        && let Next::Run(request) = estimator.next().unwrap()
    {
        assert_eq!(is_evaluation(&request), estimator.phase == Phase::Evaluating);
        let bytes = data.run(&request, 3, 64).unwrap();
        estimator.take(bytes, Duration::from_millis(2)).unwrap();
        rounds += 1;
    }
    rounds
}

#[test]
fn a_training_restored_after_any_round_is_the_same_bit_for_bit() {
    let data = Data::mixed(250, 3);
    for init in [Init::Scalable, Init::PlusPlus, Init::Random] {
        let mut whole = data.estimator(settings(&data, init));
        let rounds = run(&data, &mut whole, usize::MAX);
        let whole = Box::new(whole).finish().unwrap();
        assert!(whole.eval_loss.is_some());
        let mut phases = vec![];
        for at in 0..=rounds {
            let mut first = data.estimator(settings(&data, init));
            run(&data, &mut first, at);
            if !phases.contains(&first.phase) {
                phases.push(first.phase);
            }
            let saved = first.save().unwrap();
            let mut second = data.estimator(settings(&data, init));
            second.restore(&saved).unwrap();
            assert_eq!(second.save().unwrap(), saved);
            run(&data, &mut second, usize::MAX);
            let own = Box::new(second).finish().unwrap();
            assert_eq!(bits(&own), bits(&whole), "{init:?} {at}");
            assert_eq!(own.eval_loss, whole.eval_loss);
        }
        assert!(phases.len() >= 4, "{phases:?}");
    }
    let saved = data.estimator(settings(&data, Init::Random)).save().unwrap();
    let mut other = data.estimator(data.settings(5));
    assert!(other.restore(&saved[..saved.len() - 3]).is_err());
}

#[test]
fn a_stopped_training_ends_with_the_best_so_far() {
    let data = Data::blobs(300, 2, 9);
    let mut settings = data.settings(9);
    settings.tolerance = 0.0;
    let mut estimator = data.estimator(settings);
    estimator.stop();
    run(&data, &mut estimator, usize::MAX);
    // The start and one round.
    assert_eq!(estimator.completed(), 1);
    let fitted = Box::new(estimator).finish().unwrap();
    assert!(fitted.loss <= fitted.history[0].loss, "{} {:?}", fitted.loss, fitted.history);
    assert_eq!(fitted.parameters.len(), 9 * 3);
    let warning = fitted.warning.unwrap();
    assert!(warning.contains("max_seconds is used up"), "{warning}");
}

#[test]
fn too_few_rounds_are_told() {
    let data = Data::blobs(300, 2, 20);
    let mut settings = data.settings(20);
    settings.rounds = 1;
    let mut estimator = data.starting_at(settings, &(0..20).collect::<Vec<_>>());
    run(&data, &mut estimator, usize::MAX);
    let fitted = Box::new(estimator).finish().unwrap();
    assert_eq!(fitted.warning.as_deref(), Some("kmeans did not converge in 1 round"));
    // Loss and counts are measured at the result.
    let centroids: Vec<f64> = fitted.parameters[..40].iter().map(|c| f64::from(*c)).collect();
    let naive: f64 = data.naive(&centroids).iter().map(|own| own.1).sum::<f64>() / 300.0;
    close(&[fitted.loss], &[naive], 1e-6);
}
