//! Prepares the rows of a member for training: split, encoder, labels, network.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::{internal_datafusion_err, plan_datafusion_err};
use datafusion::error::DataFusionError;
use gradlake_udfs::{
    Description, Encoder, LabelScale, Labels, Loss, Model, Outline, Shape, SplitRule, TargetRule,
    Trained, TrainingPlan, Width,
};

use super::member::{Failure, MemberTraining, Shared};
use crate::table::{EncodedTable, Encoding, Fitted, Mask, RawTable, Side, SinglePassLoad, Subset};

/// The rows of a member, ready for training.
pub struct Prepared {
    pub encoder: Encoder,
    pub labels: Labels,
    pub description: Arc<dyn Description>,
    pub plan: TrainingPlan,
    pub train: Arc<EncodedTable>,
    pub eval: Option<Arc<EncodedTable>>,
    pub skipped: BTreeMap<String, u64>,
    pub parent: Option<Trained>,
}

/// What is decided about the rows of a member before they are encoded.
pub struct Decided {
    pub plan: TrainingPlan,
    /// Which rows train.
    pub mask: Mask,
    pub fitted: Fitted,
    pub parent: Option<Trained>,
}

impl MemberTraining<'_> {
    /// Fits the encoder, decides on the training and splits the rows.
    pub async fn decide(&self, raw: &RawTable, subset: &Subset) -> Result<Decided, Failure> {
        let options = &self.shared.request.options;
        let parent = match &self.shared.parent {
            Some(parent) => Some(self.parent_member(parent)?),
            None => None,
        };
        if subset.rows() == 0 {
            return Err(Failure::Untrainable(super::no_rows(subset.skipped())));
        }
        // The plan decides on the split, but depends on the encoded width, which the split may
        // narrow. So the plan uses the width of all rows, and the encoder is fitted again if there
        // is a split.
        let mut mask = raw.split(subset, &SplitRule::None).await?;
        let standardize_target = self.standardize_target();
        let mut fitted = raw.fit(subset, &mask, options.standardize, standardize_target).await?;
        let plan = self.plan(&fitted, parent.as_ref(), subset.rows())?;
        if plan.split != SplitRule::None {
            mask = raw.split(subset, &plan.split).await?;
            fitted = raw.fit(subset, &mask, options.standardize, standardize_target).await?;
        }
        if mask.training_rows() == 0 {
            return Err(Failure::Untrainable(format!(
                "the split leaves none of {} rows for training",
                subset.rows()
            )));
        }
        Ok(Decided { plan, mask, fitted, parent })
    }

    /// Splits, fits and encodes the rows; if they are all rows of the table (`is_only`), it
    /// releases them as they are encoded.
    pub async fn prepare(
        &self,
        raw: &RawTable,
        subset: &Subset,
        is_only: bool,
    ) -> Result<Prepared, Failure> {
        let options = &self.shared.request.options;
        let Decided { plan, mask, fitted, parent } = self.decide(raw, subset).await?;
        let (encoder, labels, description) = self.setup(&fitted, parent.as_ref())?;
        let encode = |side: Side, shuffle: Option<u64>, is_last: bool| {
            let encoding = Encoding {
                encoder: &encoder,
                labels: &labels,
                class_weights: &options.class_weights,
                fitted: &fitted,
                shuffle,
                is_last,
            };
            EncodedTable::encode(raw, subset, &mask, side, encoding)
        };
        let eval = match mask.evaluation_rows() {
            0 => None,
            _ => Some(encode(Side::Evaluation, None, false).await?).filter(|t| t.rows() > 0),
        };
        let train = Arc::new(encode(Side::Training, plan.shuffle, is_only).await?);
        if train.rows() == 0 {
            return Err(Failure::Untrainable("no row is left to train on".to_owned()));
        }
        let mut skipped = subset.skipped().clone();
        for table in [Some(train.as_ref()), eval.as_ref()].into_iter().flatten() {
            for (cause, n) in table.skipped() {
                *skipped.entry(cause.clone()).or_default() += n;
            }
        }
        let eval = eval.map(Arc::new);
        Ok(Prepared { encoder, labels, description, plan, train, eval, skipped, parent })
    }

    /// Fits and encodes rows of a single-pass load; all of them train.
    pub async fn prepare_single_pass(&self, load: SinglePassLoad) -> Result<Prepared, Failure> {
        let options = &self.shared.request.options;
        let fitted = load.fit(self.standardize_target())?;
        let plan = self.plan(&fitted, None, load.rows())?;
        if plan.split != SplitRule::None || plan.shuffle != load.shuffle() {
            return Err(Failure::Failed(internal_datafusion_err!(
                "rows are not in the order and split that {} wants them",
                plan.method.name()
            )));
        }
        let (encoder, labels, description) = self.setup(&fitted, None)?;
        let train = load.encode(&encoder, &labels, &options.class_weights, &fitted).await?;
        let (train, skipped) = (Arc::new(train), BTreeMap::new());
        let (eval, parent) = (None, None);
        Ok(Prepared { encoder, labels, description, plan, train, eval, skipped, parent })
    }

    pub fn standardize_target(&self) -> bool {
        let request = &self.shared.request;
        request.options.standardize && request.algorithm.spec().target == TargetRule::Number
    }

    /// The plan of a training on `rows` rows.
    pub fn plan(
        &self,
        fitted: &Fitted,
        parent: Option<&Trained>,
        rows: u64,
    ) -> Result<TrainingPlan, Failure> {
        let description = self.description(&fitted.encoder, &fitted.labels, parent)?;
        let width = Width { targets: fitted.labels.targets(), ..fitted.encoder.width() };
        let shape = Shape { width, classes: fitted.labels.classes(), rows };
        let options = &self.shared.request.options;
        Ok(TrainingPlan::decide(options, description.as_ref(), &shape, parent.is_some()))
    }

    /// The encoder, the labels and what is learned for training rows, or those of the model to
    /// continue.
    pub fn setup(
        &self,
        fitted: &Fitted,
        parent: Option<&Trained>,
    ) -> Result<(Encoder, Labels, Arc<dyn Description>), Failure> {
        let (encoder, labels) = match parent {
            Some(parent) if parent.labels.targets() != fitted.labels.targets() => {
                return Err(Failure::Failed(plan_datafusion_err!(
                    "the target {} has {} numbers a row, but the model to continue was trained on {}",
                    self.shared.columns.target_names(),
                    fitted.labels.targets(),
                    parent.labels.targets()
                )));
            }
            Some(parent) => (parent.encoder.clone(), parent.labels.clone()),
            None => (fitted.encoder.clone(), fitted.labels.clone()),
        };
        let description = self.description(&encoder, &labels, parent)?;
        let is_poisson = description.head().is_some_and(|own| own.loss == Loss::Poisson);
        // Only a loss with a scale of its own needs a raw target; see `NetworkSpec`.
        let labels = match labels {
            Labels::Numbers(scales) if is_poisson => {
                Labels::Numbers(vec![LabelScale::NONE; scales.len()])
            }
            labels => labels,
        };
        if is_poisson && fitted.smallest_target < 0.0 {
            return Err(Failure::Untrainable(format!(
                "loss = 'poisson' needs a target of at least 0, but {} has {}",
                self.shared.columns.target_names(),
                fitted.smallest_target
            )));
        }
        Ok((encoder, labels, description))
    }

    /// The member of the model to continue that has the same key.
    pub fn parent_member(&self, parent: &Model) -> Result<Trained, Failure> {
        match parent.members.iter().find(|m| m.key == self.key) {
            Some(member) => match &member.outcome {
                Ok(trained) => Ok(trained.as_ref().clone()),
                Err(reason) => Err(Failure::Untrainable(format!(
                    "model {} has no model for {} to continue: {reason}",
                    parent.name, self.label
                ))),
            },
            None => Err(Failure::Untrainable(format!(
                "model {} has no model for {} to continue",
                parent.name, self.label
            ))),
        }
    }

    /// Refuses labels that cannot be learned.
    fn check_labels(&self, labels: &Labels) -> Result<(), Failure> {
        let target = self.shared.columns.target_names();
        match labels {
            Labels::Classes(classes) if classes.len() < 2 => {
                let only = classes.first().map_or("none".to_owned(), ToString::to_string);
                Err(Failure::Untrainable(format!(
                    "the target {target} has one class only, {only}; a classifier needs two"
                )))
            }
            _ => Ok(()),
        }
    }

    /// What is learned for these labels.
    fn description(
        &self,
        encoder: &Encoder,
        labels: &Labels,
        parent: Option<&Trained>,
    ) -> Result<Arc<dyn Description>, Failure> {
        self.check_labels(labels)?;
        let Shared { request, columns, .. } = self.shared;
        let outline = Outline {
            options: &request.options,
            target: &columns.target_names(),
            classes: labels.classes(),
            targets: labels.targets(),
            parent,
            layers: &request.layers,
            encoder: Some(encoder),
        };
        outline.describe().map_err(untrainable)
    }
}

/// The failure of rows that do not fit the options.
pub fn untrainable(error: DataFusionError) -> Failure {
    match error {
        DataFusionError::Plan(reason) => Failure::Untrainable(reason),
        error => Failure::Failed(error),
    }
}
