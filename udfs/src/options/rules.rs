//! Rules for options that are valid each and contradictory in combination.

use datafusion_common::{Result, plan_err};

use super::entries::{is_full_batch, options};
use super::{Choice, Components, Parallel, Solver, Split, Statistics, Svd, TrainOptions};
use crate::algorithms::OptionGroup;
use crate::learner::Loss;

impl TrainOptions {
    /// Applies the rules between options.
    pub(super) fn check_rules(&mut self) -> Result<()> {
        if self.statistics == Statistics::Running {
            self.go_online("statistics = running")?;
        }
        self.check_quantiles()?;
        self.check_solver()?;
        self.check_network()?;
        self.check_rows()?;
        self.check_components()?;
        self.check_split()?;
        self.check_stopping()?;
        let is_linear = self.hidden.is_empty() && !self.algorithm.takes(OptionGroup::Networks);
        if !self.intercept && self.is_given("intercept_learning_rate") && is_linear {
            return plan_err!(
                "option intercept_learning_rate does not go with intercept = FALSE; leave one of \
                 them out"
            );
        }
        Ok(())
    }

    /// Quantiles belong to their loss, and have a default with it.
    fn check_quantiles(&mut self) -> Result<()> {
        let has_quantiles = self.loss == Some(Loss::Quantile);
        match (has_quantiles, self.is_given("quantiles")) {
            (true, false) => self.quantiles = vec![0.1, 0.5, 0.9],
            (false, true) => {
                return plan_err!(
                    "option quantiles goes with loss = 'quantile' alone, but loss is {}",
                    self.loss.map_or("auto", Choice::name)
                );
            }
            _ => {}
        }
        if has_quantiles && self.optimizer.takes_rows() {
            return plan_err!(
                "optimizer = {} cannot learn loss = 'quantile'; choose another optimizer",
                self.optimizer.name()
            );
        }
        Ok(())
    }

    /// Options that only mini-batch training can use decide `auto`, and contradict another solver.
    fn check_solver(&mut self) -> Result<()> {
        if !self.algorithm.takes(OptionGroup::Gradient) {
            return Ok(());
        }
        let own = options().filter(|option| option.is_of_steps);
        let needs_steps = own.map(|option| option.name).find(|name| self.is_given(name));
        let is_tolerance_given = self.is_given("tolerance");
        match (self.solver, needs_steps) {
            (Solver::Auto | Solver::Sgd, Some(name)) if is_tolerance_given => {
                return plan_err!(
                    "option tolerance ends the steps of newton, lbfgs and irls and does not go with \
                     {name}, which only training by mini-batches takes; leave one of them out"
                );
            }
            (Solver::Sgd, None) if is_tolerance_given => {
                return plan_err!(
                    "option tolerance ends the steps of newton, lbfgs and irls and does not go with \
                     solver = sgd; leave it out"
                );
            }
            (Solver::Auto, Some(_)) => self.solver = Solver::Sgd,
            _ => {}
        }
        if !is_full_batch(self.solver) {
            return Ok(());
        }
        let solver = self.solver.name();
        if let Some(name) = needs_steps {
            return plan_err!(
                "option {name} does not go with solver = {solver}, which takes all rows at once; \
                 leave it out or set solver = sgd"
            );
        }
        if self.solver == Solver::Lbfgs {
            return match self.loss {
                Some(loss) if !loss.has_gradient() => plan_err!(
                    "solver = lbfgs needs a loss that has a derivative everywhere, which {} has \
                     not; choose another loss or set solver = sgd",
                    loss.name()
                ),
                _ => Ok(()),
            };
        }
        if self.solver == Solver::Irls {
            return match (self.loss, self.l1) {
                (Some(Loss::Quantile), Some(l1)) if l1 > 0.0 => plan_err!(
                    "option l1 does not go with solver = irls; leave it out or set solver = sgd"
                ),
                (Some(Loss::Quantile), _) => Ok(()),
                (loss, _) => plan_err!(
                    "solver = irls goes with loss = 'quantile' alone, but loss is {}",
                    loss.map_or("auto", Choice::name)
                ),
            };
        }
        let name = match self.loss {
            _ if self.l1.is_some_and(|l1| l1 > 0.0) => "l1",
            None | Some(Loss::Squared) => return Ok(()),
            Some(_) => "loss",
        };
        let other = if self.loss == Some(Loss::Quantile) { "irls" } else { "lbfgs" };
        plan_err!(
            "option {name} does not go with solver = {solver}; leave it out or set solver = {other}"
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

    /// The limits of an optimizer that learns row by row.
    fn check_rows(&self) -> Result<()> {
        if self.algorithm.takes(OptionGroup::Networks) && self.parallel == Parallel::Gradient {
            return plan_err!(
                "option parallel must not be gradient for {}, which cuts mini-batches itself; leave \
                 it out",
                self.algorithm
            );
        }
        if !self.optimizer.takes_rows() {
            return Ok(());
        }
        let name = self.optimizer.name();
        if self.algorithm.takes(OptionGroup::Networks) {
            return plan_err!(
                "optimizer = {name} learns linear models, but {} is none; choose another optimizer",
                self.algorithm
            );
        }
        if !self.hidden.is_empty() {
            return plan_err!(
                "optimizer = {name} learns linear models, but hidden is {}; choose another \
                 optimizer, or hidden = []",
                self.written_out().get("hidden").map_or("", String::as_str)
            );
        }
        if self.parallel == Parallel::Gradient {
            return plan_err!(
                "option parallel must not be gradient with optimizer = {name}, which takes the rows \
                 of a mini-batch one after another"
            );
        }
        Ok(())
    }

    /// A share of the variance needs all eigenvalues.
    fn check_components(&self) -> Result<()> {
        match (self.components, self.svd) {
            (Components::Share(share), Svd::Randomized) => plan_err!(
                "components = {share} is a share of the variance, which svd = randomized cannot \
                 know, since it finds only the first components; set svd = covariance or a whole \
                 number of components"
            ),
            _ => Ok(()),
        }
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
                    self.split.name()
                );
            }
        }
        if self.is_given("split_fraction") && matches!(self.split, Split::Column | Split::None) {
            return plan_err!(
                "option split_fraction goes with split = auto, random or sequential, but split is {}",
                self.split.name()
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
