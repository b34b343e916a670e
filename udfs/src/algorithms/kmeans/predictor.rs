//! The prediction of clusters: the nearest centroid, and the distances to some.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_common::{Result, internal_err};

use super::block::Block;
use super::centroids::Centroids;
use crate::batch::MiniBatch;
use crate::description::Predictor;
use crate::kernels::nearest::ROWS;
use crate::learner::ScoringScratch;
use crate::options::Distance;

/// Maximum number of centroids whose distances a prediction has.
pub(super) const NEAREST: usize = 5;

/// The parts of a prediction, named as BigQuery ML names them: `centroid_id` from 1, and
/// `nearest_centroids_distance`, a list of centroids with their distances, nearest first.
pub(super) fn fields() -> Vec<Field> {
    let pair = Fields::from(vec![
        Field::new("centroid_id", DataType::Int64, false),
        Field::new("distance", DataType::Float64, false),
    ]);
    let item: FieldRef = Arc::new(Field::new_list_field(DataType::Struct(pair), true));
    vec![
        Field::new("centroid_id", DataType::Int64, true),
        Field::new("nearest_centroids_distance", DataType::List(item), true),
    ]
}

/// Trained clusters, ready to predict.
#[derive(Debug)]
pub(super) struct KmeansPredictor {
    centroids: Arc<Centroids>,
}

impl KmeansPredictor {
    pub(super) fn new(centroids: Arc<Centroids>) -> Self {
        Self { centroids }
    }

    /// The distance of a raw number.
    fn distance(&self, score: f32) -> f64 {
        match self.centroids.distance {
            Distance::Euclidean => f64::from(score).sqrt(),
            Distance::Cosine => f64::from(score),
        }
    }
}

impl Predictor for KmeansPredictor {
    fn outputs(&self) -> usize {
        self.centroids.k
    }

    fn scratch(&self, _rows: usize) -> ScoringScratch {
        ScoringScratch::default()
    }

    /// Squared distances `[rows, k]`; `1 - cos` with cosines.
    fn scores(&self, rows: &MiniBatch<'_>, _scratch: &mut ScoringScratch, out: &mut [f32]) {
        let (d, c, k) =
            (self.centroids.width.dense, self.centroids.width.columns, self.centroids.k);
        let mut block = Block::default();
        for start in (0..rows.rows).step_by(ROWS) {
            let end = rows.rows.min(start + ROWS);
            let own = MiniBatch {
                rows: end - start,
                dense: &rows.dense[start * d..end * d],
                codes: &rows.codes[start * c..end * c],
                ..MiniBatch::default()
            };
            block.distances(&self.centroids, &own, &mut out[start * k..end * k]);
        }
    }

    fn parts(
        &self,
        scores: &[f32],
        fields: &Fields,
        _threshold: f64,
        _spare: &mut Vec<f64>,
    ) -> Result<Vec<ArrayRef>> {
        let k = self.centroids.k;
        let (rows, n) = (scores.len() / k, k.min(NEAREST));
        let mut first = Vec::with_capacity(rows);
        let (mut ids, mut distances) = (Vec::with_capacity(rows * n), vec![]);
        for row in scores.chunks_exact(k) {
            let own = nearest(row, n);
            first.push(own[0] as i64 + 1);
            ids.extend(own[..n].iter().map(|j| *j as i64 + 1));
            distances.extend(own[..n].iter().map(|j| self.distance(row[*j])));
        }
        let list = fields.get(1).map(|field| field.data_type());
        let Some(DataType::List(item)) = list else {
            return internal_err!("nearest_centroids_distance must be a list");
        };
        let DataType::Struct(pair) = item.data_type() else {
            return internal_err!("nearest_centroids_distance must be a list of struct");
        };
        let pairs = StructArray::try_new(
            pair.clone(),
            vec![Arc::new(Int64Array::from(ids)), Arc::new(Float64Array::from(distances))],
            None,
        )?;
        let offsets = OffsetBuffer::from_repeated_length(n, rows);
        let list = ListArray::try_new(Arc::clone(item), offsets, Arc::new(pairs), None)?;
        Ok(vec![Arc::new(Int64Array::from(first)), Arc::new(list)])
    }
}

/// The numbers of the `n` least scores of a row, ascending; of equal scores, the first counts.
fn nearest(row: &[f32], n: usize) -> [usize; NEAREST] {
    let mut own = [0; NEAREST];
    let mut found = 0;
    for (j, score) in row.iter().enumerate() {
        if found == n && *score >= row[own[n - 1]] {
            continue;
        }
        let at = own[..found].partition_point(|other| row[*other] <= *score);
        found = n.min(found + 1);
        own[at..found].rotate_right(1);
        own[at] = j;
    }
    own
}
