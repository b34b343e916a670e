//! What k-means learned: centroids in the encoded space, and the weight of their rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Field;
use datafusion_common::{Result, exec_datafusion_err, exec_err, plan_err};
use serde::{Deserialize, Serialize};

use super::centroids::Centroids;
use super::measure::KmeansMeasure;
use super::points::widened;
use super::predictor::{KmeansPredictor, fields};
use super::{CENTROIDS, table};
use crate::algorithms::Outline;
use crate::batch::Width;
use crate::description::{Description, Measure, Predictor};
use crate::learner::{Layout, Role};
use crate::model::{Target, Trained};
use crate::options::{Choice, Distance, TrainOptions};

/// The description of clusters. Its parameters are `centroids` `[k, d + t]`, then `counts` `[k]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct KmeansSpec {
    /// Number of clusters.
    pub(super) k: usize,
    /// The distance of a row to a centroid.
    pub(super) distance: Distance,
}

/// The same as JSON.
#[derive(Serialize, Deserialize)]
struct Json {
    k: usize,
    distance: String,
}

/// The clusters of these options, or those of the model to continue.
///
/// # Errors
/// When the model to continue has no clusters.
pub(super) fn describe(outline: &Outline<'_>) -> Result<KmeansSpec> {
    match outline.parent {
        Some(parent) => read(&parent.description.to_json()),
        None => Ok(KmeansSpec { k: outline.options.k, distance: outline.options.distance }),
    }
}

/// Reads the description that [`Description::to_json`] wrote.
///
/// # Errors
/// When it is no such description.
pub(super) fn read(json: &str) -> Result<KmeansSpec> {
    let Json { k, distance } = serde_json::from_str(json)
        .map_err(|e| exec_datafusion_err!("{json} does not describe clusters: {e}"))?;
    match Distance::named(&distance) {
        Some(distance) if k > 0 => Ok(KmeansSpec { k, distance }),
        Some(_) => exec_err!("{json} does not describe clusters: k is 0, it should be at least 1"),
        None => exec_err!(
            "{json} does not describe clusters: distance is {distance}, it should be one of {}",
            Distance::names().join(", ")
        ),
    }
}

impl KmeansSpec {
    /// Splits parameters into centroids `[k, d + t]` and counts `[k]`.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub(super) fn split(self, parameters: &[f32], width: Width) -> Result<(&[f32], &[f32])> {
        let numbers = self.k * width.inputs();
        if parameters.len() != numbers + self.k {
            return exec_err!(
                "{} clusters of {} inputs have {} parameters, but there are {}",
                self.k,
                width.inputs(),
                numbers + self.k,
                parameters.len()
            );
        }
        Ok(parameters.split_at(numbers))
    }

    fn centroids(self, parameters: &[f32], width: Width) -> Result<Arc<Centroids>> {
        let (centroids, _) = self.split(parameters, width)?;
        Ok(Arc::new(Centroids::new(width, self.distance, &widened(centroids))))
    }
}

impl Description for KmeansSpec {
    fn to_json(&self) -> String {
        format!("{{\"k\":{},\"distance\":\"{}\"}}", self.k, self.distance.name())
    }

    fn layout(&self, width: Width) -> Layout {
        let mut layout = Layout::default();
        layout.push(0, "centroids", vec![self.k, width.inputs()], Role::Weight);
        layout.push(0, "counts", vec![self.k], Role::Bias);
        layout
    }

    fn outputs(&self) -> usize {
        self.k
    }

    fn fields(&self, _targets: &[Target]) -> Vec<Field> {
        fields()
    }

    fn predictor(&self, trained: &Trained) -> Result<Box<dyn Predictor>> {
        let centroids = self.centroids(&trained.parameters, trained.encoder.width())?;
        Ok(Box::new(KmeansPredictor::new(centroids)))
    }

    fn measure(&self, parameters: &[f32], width: Width) -> Result<Option<Box<dyn Measure>>> {
        Ok(Some(Box::new(KmeansMeasure::new(self.centroids(parameters, width)?))))
    }

    fn table(&self, trained: &Trained, name: &str) -> Result<RecordBatch> {
        match name {
            CENTROIDS => table::centroids(*self, trained),
            _ => plan_err!("kmeans has no table {name}; its table is {CENTROIDS}"),
        }
    }

    fn check_continued(&self, model: &str, options: &TrainOptions) -> Result<()> {
        let changes = [
            ("k", options.k != self.k, self.k.to_string()),
            ("distance", options.distance != self.distance, self.distance.name().to_owned()),
        ];
        let mut changes = changes.iter().filter(|(name, ..)| options.is_given(name));
        if let Some((name, _, own)) = changes.find(|(_, changed, _)| *changed) {
            return plan_err!(
                "CONTINUE keeps the clusters of model {model}, whose {name} is {own}; leave option \
                 {name} out"
            );
        }
        let idle = [("init", true), ("restarts", options.restarts != 1)];
        match idle.iter().find(|(name, is_idle)| *is_idle && options.is_given(name)) {
            Some((name, _)) => plan_err!(
                "CONTINUE starts once, from the centroids of model {model}, so option {name} has no \
                 effect; leave it out"
            ),
            None => Ok(()),
        }
    }
}
