//! The first centroids, and what cannot be clustered.

use super::*;

const INITS: [Init; 3] = [Init::Scalable, Init::PlusPlus, Init::Random];

fn error(data: &Data, k: usize, init: Init) -> String {
    let mut settings = data.settings(k);
    settings.start.init = init;
    data.fit(data.estimator(settings)).unwrap_err().strip_backtrace()
}

#[test]
fn more_clusters_than_distinct_rows_are_refused() {
    let data = Data::new(2, vec![1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 5.0, 6.0, 3.0, 4.0]);
    for init in INITS {
        let text = error(&data, 5, init);
        assert!(text.contains("k is 5, but there are only 3 distinct rows"), "{init:?}: {text}");
        let mut settings = data.settings(3);
        settings.start.init = init;
        assert_eq!(data.fit(data.estimator(settings)).unwrap().loss, 0.0, "{init:?}");
        let same = Data::new(1, vec![7.0; 9]);
        let text = error(&same, 2, init);
        assert!(text.contains("k is 2, but there is only 1 distinct row"), "{init:?}: {text}");
        let fitted = same.fit(same.estimator(same.settings(1))).unwrap();
        assert_eq!((fitted.parameters, fitted.loss), (vec![7.0, 9.0], 0.0));
    }
    let mut none = Data::new(1, vec![1.0, 2.0]);
    none.weight.fill(0.0);
    assert!(error(&none, 1, Init::Scalable).contains("no row with a weight"));
    none.weight[1] = -1.0;
    assert!(error(&none, 1, Init::Scalable).contains("at least 0, but one is -1"));
}

#[test]
fn every_init_finds_clusters_that_are_apart() {
    let data = Data::blobs(600, 3, 5);
    for init in INITS {
        for seed in 0..5 {
            let mut settings = data.settings(5);
            settings.start.init = init;
            settings.start.seed = seed;
            settings.restarts = if init == Init::Random { 10 } else { 3 };
            let fitted = data.fit(data.estimator(settings)).unwrap();
            // The variance of the sum of two uniforms is 1/6.
            assert!(fitted.loss < 0.6, "{init:?} {seed}: {}", fitted.loss);
        }
    }
}

#[test]
fn a_start_depends_on_the_seed_and_not_on_pieces() {
    let data = Data::mixed(300, 4);
    let fit = |seed: u64, piece: usize| {
        let mut settings = data.settings(6);
        settings.start.seed = seed;
        let mut estimator = data.estimator(settings);
        while let Next::Run(request) = estimator.next().unwrap() {
            let bytes = data.run(&request, 3, piece).unwrap();
            estimator.take(bytes, Duration::ZERO).unwrap();
        }
        bits(&Box::new(estimator).finish().unwrap())
    };
    // Blocks are whole in both.
    assert_eq!(fit(1, 64), fit(1, 128));
    assert_ne!(fit(1, 64).0, fit(2, 64).0);
}

#[test]
fn heavy_rows_are_chosen_more_often() {
    let mut data = Data::new(1, (0..20u8).map(f32::from).collect());
    data.weight.fill(1e-6);
    data.weight[7] = 1.0;
    for seed in 0..20 {
        let mut settings = data.settings(1);
        (settings.start.seed, settings.start.init) = (seed, Init::Random);
        let mut estimator = data.estimator(settings);
        let Next::Run(request) = estimator.next().unwrap() else { unreachable!() };
        estimator.take(data.run(&request, 2, 5).unwrap(), Duration::ZERO).unwrap();
        assert_eq!(estimator.current.centroids, [7.0], "{seed}");
    }
}
