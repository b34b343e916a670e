//! The area under the ROC curve.

/// Scores of rows of two classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    rows: Vec<(f64, f64, bool)>,
}

impl Ranking {
    /// Takes in a row: its score, whether it is of the positive class, its weight.
    pub fn add(&mut self, score: f64, positive: bool, weight: f64) {
        self.rows.push((score, weight, positive));
    }

    /// Takes in the rows of another.
    pub fn merge(&mut self, other: &Self) {
        self.rows.extend_from_slice(&other.rows);
    }

    /// The probability that a positive row has a higher score than a negative one, ties counted
    /// half; None where one of the two does not occur. Sorts: `O(n log n)`.
    pub fn roc_auc(mut self) -> Option<f64> {
        self.rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut area, mut negatives, mut positives) = (0.0, 0.0, 0.0);
        for ties in self.rows.chunk_by(|a, b| a.0 == b.0) {
            let sum = |of: bool| -> f64 {
                ties.iter().filter(|(_, _, positive)| *positive == of).map(|(_, w, _)| w).sum()
            };
            let (p, n) = (sum(true), sum(false));
            area += p * (negatives + n / 2.0);
            positives += p;
            negatives += n;
        }
        (positives > 0.0 && negatives > 0.0).then(|| area / (positives * negatives))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auc(rows: &[(f64, bool, f64)]) -> Option<f64> {
        let mut ranking = Ranking::default();
        rows.iter().for_each(|(s, p, w)| ranking.add(*s, *p, *w));
        ranking.roc_auc()
    }

    /// sklearn.metrics.roc_auc_score([0,0,1,1,1,0], [.1,.4,.35,.8,.4,.4]) = 0.6666666666666667;
    /// with sample_weight=[1,2,1,.5,1,3] = 0.5.
    #[test]
    fn ties_count_half_and_weights_count() {
        let rows = [
            (0.1, false, 1.0),
            (0.4, false, 2.0),
            (0.35, true, 1.0),
            (0.8, true, 0.5),
            (0.4, true, 1.0),
            (0.4, false, 3.0),
        ];
        let even = rows.map(|(s, p, _)| (s, p, 1.0));
        assert!((auc(&even).unwrap() - 0.666_666_666_666_666_7).abs() < 1e-12);
        let naive = |rows: &[(f64, bool, f64)]| {
            let (mut sum, mut all) = (0.0, 0.0);
            for p in rows.iter().filter(|r| r.1) {
                for n in rows.iter().filter(|r| !r.1) {
                    let won = if p.0 > n.0 {
                        1.0
                    } else if p.0 == n.0 {
                        0.5
                    } else {
                        0.0
                    };
                    sum += won * p.2 * n.2;
                    all += p.2 * n.2;
                }
            }
            sum / all
        };
        assert!((auc(&rows).unwrap() - 0.5).abs() < 1e-12);
        assert!((auc(&rows).unwrap() - naive(&rows)).abs() < 1e-12);
        assert_eq!(auc(&[(0.5, true, 1.0)]), None);
        assert_eq!(auc(&[]), None);
    }
}
