//! Against the numbers of `tests/oracle/kmeans.py`.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
pub(super) struct Expected {
    pub(super) k: usize,
    pub(super) start: Vec<usize>,
    pub(super) centroids: Vec<f64>,
    pub(super) inertia: f64,
    pub(super) rounds: usize,
    pub(super) davies_bouldin: f64,
    pub(super) silhouette: f64,
}

#[derive(Deserialize)]
pub(super) struct Iris {
    x: Vec<f32>,
    pub(super) lloyd: Expected,
    weighted: Expected,
    pub(super) cosine: Expected,
    best: f64,
}

#[derive(Deserialize)]
struct Digits {
    x: Vec<String>,
    lloyd: Expected,
    best: f64,
}

#[derive(Deserialize)]
pub(super) struct Mixed {
    x: Vec<f32>,
    codes: Vec<i64>,
    pub(super) lloyd: Expected,
}

#[derive(Deserialize)]
pub(super) struct Oracle {
    pub(super) iris: Iris,
    digits: Digits,
    pub(super) mixed: Mixed,
}

impl Oracle {
    pub(super) fn read() -> Self {
        let text = include_str!("../../../../tests/oracle/kmeans.json");
        serde_json::from_str(text).expect("numbers of kmeans.py")
    }

    pub(super) fn iris(&self) -> Data {
        Data::new(4, self.iris.x.clone())
    }

    fn digits(&self) -> Data {
        let pixels = self.digits.x.iter().flat_map(|row| row.bytes());
        Data::new(64, pixels.map(|pixel| f32::from(pixel - b'a')).collect())
    }

    pub(super) fn mixed(&self) -> Data {
        let Mixed { x, codes, .. } = &self.mixed;
        let codes = codes.iter().map(|code| u32::try_from(*code).unwrap_or(NO_CATEGORY));
        Data {
            width: Width { dense: 2, bytes: 0, columns: 2, categories: 5, targets: 0 },
            codes: codes.collect(),
            ..Data::new(2, x.clone())
        }
    }
}

/// The centroids and the weighted sum of distances that an expected case leads to.
fn check(data: &Data, expected: &Expected, distance: Distance) {
    let mut settings = data.settings(expected.k);
    settings.start.distance = distance;
    let fitted = data.fit(data.starting_at(settings, &expected.start)).unwrap();
    let (centroids, counts) = fitted.parameters.split_at(expected.centroids.len());
    let centroids: Vec<f64> = centroids.iter().map(|c| f64::from(*c)).collect();
    close(&centroids, &expected.centroids, 1e-6);
    close(&[fitted.loss * data.weight()], &[expected.inertia], 1e-6);
    let count: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    close(&[count], &[data.weight()], 1e-6);
    assert!(expected.rounds == 0 || fitted.history.len() == expected.rounds, "{expected:?}");
    assert!(fitted.warning.is_none(), "{:?}", fitted.warning);
    let losses: Vec<f64> = fitted.history.iter().map(|entry| entry.loss).collect();
    assert!(losses.is_sorted_by(|a, b| *b <= a * (1.0 + 1e-9)), "{losses:?}");
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} clusters in {} rounds", self.k, self.rounds)
    }
}

#[test]
fn the_same_start_leads_to_the_clusters_of_scikit_learn() {
    let oracle = Oracle::read();
    check(&oracle.iris(), &oracle.iris.lloyd, Distance::Euclidean);
    check(&oracle.digits(), &oracle.digits.lloyd, Distance::Euclidean);
    check(&oracle.mixed(), &oracle.mixed.lloyd, Distance::Euclidean);
    check(&oracle.iris(), &oracle.iris.cosine, Distance::Cosine);
    let mut weighted = oracle.iris();
    for (i, weight) in weighted.weight.iter_mut().enumerate() {
        *weight = 1.0 + (i % 3) as f32;
    }
    check(&weighted, &oracle.iris.weighted, Distance::Euclidean);
}

/// (On these 600 rows of digits, ten starts of scikit-learn end 0.02 to 0.19 % above its best of
/// many.)
#[test]
fn restarts_find_the_best_clusters_of_scikit_learn() {
    let oracle = Oracle::read();
    for (data, k, best) in
        [(oracle.iris(), 3, oracle.iris.best), (oracle.digits(), 10, oracle.digits.best)]
    {
        for init in [Init::Scalable, Init::PlusPlus] {
            let mut settings = data.settings(k);
            settings.restarts = 10;
            settings.start.init = init;
            let fitted = data.fit(data.estimator(settings)).unwrap();
            let inertia = fitted.loss * data.weight();
            assert!(inertia < best * 1.002, "{init:?}: {inertia}, scikit-learn has {best}");
        }
    }
}
