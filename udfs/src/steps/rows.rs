//! Steps of an optimizer that takes the rows of a mini-batch one by one.

use datafusion_common::{Result, internal_err};

use super::{Step, Steps};
use crate::batch::{Gather, Rows};
use crate::learner::Scratch;
use crate::optimizer::invariant::{self, RowScratch};
use crate::round::Descent;
use crate::state::State;

/// The working memory of such steps.
#[derive(Debug)]
pub(super) struct RowSteps {
    scratch: Scratch,
    row: RowScratch,
    gathered: Rows,
}

impl RowSteps {
    pub(super) fn new(descent: &Descent) -> Self {
        let learner = descent.learner.as_ref();
        Self {
            scratch: learner.scratch(descent.batch_size),
            row: RowScratch::new(learner.width(), learner.outputs()),
            gathered: Rows::default(),
        }
    }
}

impl Steps for RowSteps {
    fn step(&mut self, step: &Step<'_>, rows: &Gather<'_>, state: &mut State) -> Result<()> {
        let learner = step.descent.learner.as_ref();
        let Some(loss) = learner.linear_loss() else {
            return internal_err!(
                "{} was given a model that is not linear",
                step.descent.optimizer.name()
            );
        };
        let batch = rows.all(learner.width(), &mut self.gathered);
        let sum = invariant::learn(
            (learner, loss),
            &step.size,
            &batch,
            &mut state.parameters,
            &mut state.moments,
            (&mut self.scratch, &mut self.row),
        );
        state.round.add(sum);
        Ok(())
    }
}
