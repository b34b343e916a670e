//! What the parameters of principal components mean.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};
use datafusion_common::{Result, exec_datafusion_err, internal_err, plan_err};
use serde::{Deserialize, Serialize};

use super::measure::PcaMeasure;
use super::predictor::PcaPredictor;
use super::tables;
use crate::batch::Width;
use crate::description::{Description, Measure, Predictor};
use crate::learner::{Layout, Role};
use crate::model::{Target, Trained};
use crate::options::{Components, TrainOptions};

/// The description of principal components.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcaDescription {
    /// Their number, `k`; None before a training that decides on it.
    pub components: Option<usize>,
    /// Whether scores are divided by their standard deviation.
    pub whiten: bool,
}

/// The tensors of the flat parameters, borrowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensors<'a> {
    /// `[k, n]`: orthonormal directions.
    pub(super) components: &'a [f32],
    /// `[n]`: the mean of the inputs.
    pub(super) mean: &'a [f32],
    /// `[k]`, descending: the variance of the scores.
    pub(super) variances: &'a [f32],
    /// The sum of the variances of all inputs.
    pub(super) total: f32,
}

impl PcaDescription {
    /// Reads a description that [`Description::to_json`] wrote.
    ///
    /// # Errors
    /// When it is no such description.
    pub fn read(json: &str) -> Result<Arc<dyn Description>> {
        let read: Self = serde_json::from_str(json)
            .map_err(|e| exec_datafusion_err!("the description of a pca is damaged: {e}"))?;
        Ok(Arc::new(read))
    }

    /// The number of components, or the most that there can be before the training.
    fn count(&self, width: Width) -> usize {
        self.components.unwrap_or_else(|| width.inputs().min(Components::DEFAULT))
    }

    /// The tensors of `parameters`.
    ///
    /// # Errors
    /// When they do not fit the width.
    pub(super) fn tensors<'a>(&self, parameters: &'a [f32], width: Width) -> Result<Tensors<'a>> {
        let (n, k) = (width.inputs(), self.count(width));
        if parameters.len() != self.layout(width).len() {
            return internal_err!(
                "{k} principal components of {n} inputs have {} parameters",
                parameters.len()
            );
        }
        let (components, rest) = parameters.split_at(k * n);
        let (mean, rest) = rest.split_at(n);
        let (variances, total) = rest.split_at(k);
        Ok(Tensors { components, mean, variances, total: total[0] })
    }
}

impl Description for PcaDescription {
    fn to_json(&self) -> String {
        let components = self.components.map_or_else(|| "null".to_owned(), |k| k.to_string());
        format!(r#"{{"components":{components},"whiten":{}}}"#, self.whiten)
    }

    fn layout(&self, width: Width) -> Layout {
        let (n, k) = (width.inputs(), self.count(width));
        let mut layout = Layout::default();
        layout.push(0, "components", vec![k, n], Role::Weight);
        layout.push(0, "mean", vec![n], Role::Bias);
        layout.push(0, "explained_variance", vec![k], Role::Bias);
        layout.push(0, "total_variance", vec![1], Role::Bias);
        layout
    }

    fn outputs(&self) -> usize {
        self.components.unwrap_or(Components::DEFAULT)
    }

    fn fields(&self, _targets: &[Target]) -> Vec<Field> {
        let names = (1..=self.components.unwrap_or(0)).map(|i| format!("principal_component_{i}"));
        names.map(|name| Field::new(name, DataType::Float64, true)).collect()
    }

    fn predictor(&self, trained: &Trained) -> Result<Box<dyn Predictor>> {
        let width = trained.encoder.width();
        let tensors = self.tensors(&trained.parameters, width)?;
        Ok(Box::new(PcaPredictor::new(tensors, width, self.whiten)))
    }

    fn measure(&self, parameters: &[f32], width: Width) -> Result<Option<Box<dyn Measure>>> {
        let tensors = self.tensors(parameters, width)?;
        Ok(Some(Box::new(PcaMeasure::new(tensors, width)?)))
    }

    fn table(&self, trained: &Trained, name: &str) -> Result<RecordBatch> {
        let tensors = self.tensors(&trained.parameters, trained.encoder.width())?;
        match name {
            tables::COMPONENTS => tables::components(tensors, &trained.encoder),
            tables::INFO => tables::info(tensors),
            _ => plan_err!("a pca has no table {name}"),
        }
    }

    fn check_continued(&self, model: &str, _options: &TrainOptions) -> Result<()> {
        plan_err!(
            "CONTINUE cannot go on with model {model}, since the components of a pca do not hold \
             the sums over its rows; train it again over all rows"
        )
    }
}
