//! Options that are right each and wrong together.

use datafusion::common::{Result, plan_err};
use gradlake_udfs::learner::Loss;

use super::{Parallel, Solver, Split, Statistics, TrainOptions};

/// Options that only training by steps can honour. Given one of them, `solver = auto` means sgd.
const OF_STEPS: [&str; 17] = [
    "epochs",
    "batch_size",
    "learning_rate",
    "intercept_learning_rate",
    "schedule",
    "optimizer",
    "momentum",
    "beta1",
    "beta2",
    "epsilon",
    "replicas",
    "parallel",
    "shuffle",
    "round_rows",
    "early_stop",
    "patience",
    "min_delta",
];

/// Whether only training by steps can honour an option.
pub(super) fn is_of_steps(name: &str) -> bool {
    OF_STEPS.contains(&name)
}

impl TrainOptions {
    /// Settles what options say about each other.
    pub(super) fn check_rules(&mut self) -> Result<()> {
        if self.statistics == Statistics::Running {
            self.go_online("statistics = running")?;
        }
        self.check_solver()?;
        self.check_network()?;
        self.check_rows()?;
        self.check_split()?;
        self.check_stopping()?;
        if !self.intercept && self.is_given("intercept_learning_rate") && self.hidden.is_empty() {
            return plan_err!(
                "option intercept_learning_rate does not go with intercept = FALSE; leave one of \
                 them out"
            );
        }
        Ok(())
    }

    /// What only steps can do settles `auto`, and contradicts an exact solver.
    fn check_solver(&mut self) -> Result<()> {
        let option = OF_STEPS.iter().find(|name| self.is_given(name)).copied();
        let needs_steps = match option {
            Some(name) => Some(name),
            None if self.l1.is_some_and(|l1| l1 > 0.0) => Some("l1"),
            None if !matches!(self.loss, None | Some(Loss::Squared)) => Some("loss"),
            None => None,
        };
        let (solver, name) = match (self.solver, needs_steps) {
            (Solver::Auto | Solver::Sgd, Some(name)) if self.is_given("tolerance") => {
                return plan_err!(
                    "option tolerance ends Newton steps and does not go with {name}, which only \
                     training by mini-batches takes; leave one of them out"
                );
            }
            (Solver::Sgd, None) if self.is_given("tolerance") => {
                return plan_err!(
                    "option tolerance ends Newton steps and does not go with solver = sgd; leave \
                     it out"
                );
            }
            (Solver::Auto, Some(_)) => {
                self.solver = Solver::Sgd;
                return Ok(());
            }
            (Solver::Normal, Some(name)) => ("normal", name),
            (Solver::Newton, Some(name)) => ("newton", name),
            _ => return Ok(()),
        };
        plan_err!(
            "option {name} does not go with the exact solver = {solver}; leave it out or set \
             solver = sgd"
        )
    }

    fn check_network(&self) -> Result<()> {
        let idle = ["dropout", "activation"].into_iter().find(|name| self.is_given(name));
        match idle {
            Some(name) if self.hidden.is_empty() => {
                plan_err!("option {name} needs a hidden layer, but hidden is []")
            }
            _ => Ok(()),
        }
    }

    /// What an optimizer that steps by rows cannot do.
    fn check_rows(&self) -> Result<()> {
        if !self.optimizer.takes_rows() {
            return Ok(());
        }
        let name = super::written::optimizer_name(&self.optimizer);
        if !self.hidden.is_empty() {
            return plan_err!(
                "optimizer = {name} learns linear models, but hidden is {}; choose another \
                 optimizer, or hidden = []",
                super::written::hidden(&self.hidden)
            );
        }
        if self.parallel == Some(Parallel::Gradient) {
            return plan_err!(
                "option parallel must not be gradient with optimizer = {name}, which takes the rows \
                 of a mini-batch one after another"
            );
        }
        Ok(())
    }

    fn check_split(&self) -> Result<()> {
        match (self.split, self.split_column.is_some()) {
            (Split::Column, false) => {
                return plan_err!(
                    "split = column needs split_column, the name of a boolean column"
                );
            }
            (Split::Column, true) | (_, false) => {}
            (_, true) => {
                return plan_err!(
                    "option split_column goes with split = column alone, but split is {}",
                    super::written::split_name(self.split)
                );
            }
        }
        if self.is_given("split_fraction") && matches!(self.split, Split::Column | Split::None) {
            return plan_err!(
                "option split_fraction goes with split = auto, random or sequential, but split is {}",
                super::written::split_name(self.split)
            );
        }
        Ok(())
    }

    fn check_stopping(&mut self) -> Result<()> {
        let given_early_stop = self.is_given("early_stop");
        let option = ["patience", "min_delta"].into_iter().find(|name| self.is_given(name));
        if self.split == Split::None {
            let stop = (given_early_stop && self.early_stop).then_some("early_stop");
            if let Some(name) = stop.or(option) {
                return plan_err!(
                    "option {name} needs evaluation rows, but split is none; choose another split"
                );
            }
            self.early_stop = false;
        }
        match option {
            Some(name) if !self.early_stop => {
                plan_err!(
                    "option {name} does not go with early_stop = FALSE; leave one of them out"
                )
            }
            _ => Ok(()),
        }
    }
}
