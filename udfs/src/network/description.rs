//! What a training of a network of any layers learned.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Field;
use datafusion_common::{Result, exec_datafusion_err, plan_err};
use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::clause::LayersClause;
use super::learner::LayeredNetwork;
use super::objective::Objective;
use super::predictor::LayersPredictor;
use super::table;
use crate::batch::Width;
use crate::description::{Description, Head, Predictor};
use crate::learner::{Layout, Learner, Loss};
use crate::model::{Target, Trained};
use crate::options::TrainOptions;
use crate::scorer::head_fields;

/// The table of a model that lists its layers.
pub const LAYERS: &str = "layers";

/// An architecture with its loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkDescription {
    /// The graph of layers.
    pub architecture: Architecture,
    /// The clauses that it was made of; none where it follows from the features.
    pub clauses: Vec<LayersClause>,
    /// What is minimised.
    pub loss: Loss,
    /// Quantiles of [`Loss::Quantile`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<f64>,
    /// Share of a label that is spread over all classes in training.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Raw outputs.
    pub outputs: usize,
}

impl NetworkDescription {
    /// Reads what [`Description::to_json`] wrote.
    ///
    /// # Errors
    /// When it is no such text, or a layer does not fit what it reads.
    pub fn read(json: &str) -> Result<Arc<dyn Description>> {
        let own: Self = serde_json::from_str(json)
            .map_err(|error| exec_datafusion_err!("the network cannot be read: {error}"))?;
        own.architecture.outputs()?;
        Ok(Arc::new(own))
    }

    /// What is minimised.
    pub fn objective(&self) -> Objective {
        let quantiles = self.quantiles.iter().map(|quantile| *quantile as f32).collect();
        Objective { loss: self.loss, quantiles, smoothing: self.label_smoothing }
    }

    /// Its outputs.
    pub fn head(&self) -> Head<'_> {
        Head { loss: self.loss, quantiles: &self.quantiles, outputs: self.outputs }
    }

    /// The network for rows of this width.
    ///
    /// # Errors
    /// When a layer does not fit what it reads.
    pub fn network(&self, width: Width) -> Result<LayeredNetwork> {
        LayeredNetwork::new(self.architecture.clone(), self.objective(), width)
    }
}

impl Description for NetworkDescription {
    fn layers(&self) -> Option<&NetworkDescription> {
        Some(self)
    }

    fn learner(&self, width: Width) -> Result<Option<Arc<dyn Learner>>> {
        Ok(Some(Arc::new(self.network(width)?)))
    }

    fn head(&self) -> Option<Head<'_>> {
        Some(NetworkDescription::head(self))
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn layout(&self, width: Width) -> Layout {
        self.network(width).map(|network| network.layout().clone()).unwrap_or_default()
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn fields(&self, targets: &[Target]) -> Vec<Field> {
        head_fields(NetworkDescription::head(self), targets)
    }

    fn predictor(&self, trained: &Trained) -> Result<Box<dyn Predictor>> {
        let network = self.network(trained.encoder.width())?;
        Ok(Box::new(LayersPredictor::new(network, NetworkDescription::head(self), trained)?))
    }

    fn table(&self, _: &Trained, name: &str) -> Result<RecordBatch> {
        match name {
            LAYERS => table::layers(&self.architecture),
            other => plan_err!("there is no table {other}"),
        }
    }

    fn check_continued(&self, model: &str, options: &TrainOptions) -> Result<()> {
        let changes = [
            ("loss", options.loss.is_some_and(|loss| loss != self.loss)),
            ("quantiles", options.quantiles != self.quantiles),
        ];
        match changes.iter().find(|(name, changed)| *changed && options.is_given(name)) {
            Some((name, _)) => plan_err!(
                "CONTINUE keeps the network of model {model}, which option {name} would change; \
                 leave it out"
            ),
            None => Ok(()),
        }
    }
}
