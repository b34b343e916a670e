//! Options of a training that learns every row once, as it arrives.

use datafusion_common::{Result, plan_err};

use crate::algorithms::OptionGroup;

use super::{
    ClassWeights, Parallel, ScheduleKind, Solver, Split, Statistics, Svd, TrainOptions, Warmup,
};

impl TrainOptions {
    /// Sets the options that were not given to their values for one pass in order, and refuses
    /// options that it does not support. `because` names the option or table that requires online
    /// training.
    ///
    /// # Errors
    /// When an option needs all rows at once; the error names it.
    pub fn go_online(&mut self, because: &str) -> Result<()> {
        let wrong = [
            ("epochs", self.epochs != 1, "1"),
            ("shuffle", self.shuffle, "FALSE"),
            ("split", !matches!(self.split, Split::Auto | Split::None), "none"),
            ("early_stop", self.early_stop, "FALSE"),
            ("patience", true, "left out"),
            ("min_delta", true, "left out"),
            ("split_column", true, "left out"),
            ("split_fraction", true, "left out"),
            ("tolerance", true, "left out"),
            ("init", true, "left out"),
            ("restarts", self.restarts != 1, "1"),
            ("solver", !matches!(self.solver, Solver::Auto | Solver::Sgd), "sgd"),
            ("replicas", self.replicas.is_some_and(|n| n > 1) && !self.is_gradient(), "1"),
            ("round_rows", true, "left out"),
            ("class_weights", self.class_weights == ClassWeights::Balanced, "none or a map"),
            ("schedule", !self.is_endless(), "constant"),
            ("svd", self.svd == Svd::Randomized, "covariance"),
        ];
        if let Some((name, _, right)) =
            wrong.iter().find(|(name, wrong, _)| *wrong && self.is_given(name))
        {
            return plan_err!(
                "option {name} must be {right} with {because}, which takes every row once as it \
                 comes"
            );
        }
        self.epochs = 1;
        self.shuffle = false;
        self.split = Split::None;
        self.early_stop = false;
        self.solver = Solver::Sgd;
        // The automatic l2 depends on the number of rows, which is not known before the end.
        self.l2 = Some(self.l2.unwrap_or(0.0));
        if self.optimizer.takes_rows() && !self.is_given("standardize") {
            // The optimizer normalises by itself, and running statistics would change the scale of
            // its inputs.
            self.standardize = false;
        }
        Ok(())
    }

    /// Refuses options that are for unbounded tables, or for rows that are learned from as they
    /// come, where they are not.
    ///
    /// # Errors
    /// When there is one; the error names it.
    pub fn check_table(&self) -> Result<()> {
        if self.publish_every.is_some() {
            return plan_err!(
                "option publish_every needs an unbounded table; a training on a table publishes \
                 once, at its end"
            );
        }
        let own = ["decay", "batch_size"].into_iter().find(|name| self.is_given(name));
        let has_batches = self.algorithm.takes(OptionGroup::Gradient);
        match own.filter(|_| !has_batches && self.statistics != Statistics::Running) {
            Some(name) => plan_err!(
                "option {name} of {} is for an unbounded table or for statistics = running, but here \
                 every row counts in each pass; leave it out",
                self.algorithm
            ),
            None => Ok(()),
        }
    }

    /// The options of a training on an unbounded table. Its statistics are those of the rows so
    /// far, unless it continues a model with statistics of its own.
    ///
    /// # Errors
    /// See [`TrainOptions::go_online`].
    pub fn for_stream(&self, continues: bool) -> Result<Self> {
        let mut options = self.clone();
        options.go_online("an unbounded table")?;
        match (continues, self.is_given("statistics"), self.statistics) {
            (true, true, Statistics::Running) => {
                return plan_err!(
                    "CONTINUE keeps the encoder of the model, so statistics must be fixed"
                );
            }
            (false, true, Statistics::Fixed) => {
                return plan_err!(
                    "statistics must be running on an unbounded table, whose rows are not known \
                     before; CONTINUE of a model trained on a table brings fixed ones"
                );
            }
            (true, ..) => options.statistics = Statistics::Fixed,
            (false, ..) => options.statistics = Statistics::Running,
        }
        Ok(options)
    }

    fn is_gradient(&self) -> bool {
        self.parallel == Parallel::Gradient
    }

    /// Whether the learning rate does not depend on the number of steps to come.
    fn is_endless(&self) -> bool {
        self.schedule.kind == ScheduleKind::Constant
            && matches!(self.schedule.warmup, Warmup::Steps(_) | Warmup::Share(0.0))
    }
}

#[cfg(test)]
mod tests {
    use crate::algorithms::Algorithm;

    use super::super::OptionValue;
    use super::*;

    fn check(given: &[(&str, OptionValue)]) -> Result<TrainOptions> {
        let given: Vec<_> = given.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        TrainOptions::check(Algorithm::LOGISTIC_REGRESSION, &given)
    }

    fn word(text: &str) -> OptionValue {
        OptionValue::Word(text.to_owned())
    }

    #[test]
    fn one_pass_is_what_running_statistics_mean() {
        let options = check(&[("statistics", word("running"))]).unwrap();
        assert_eq!((options.epochs, options.shuffle, options.split), (1, false, Split::None));
        assert_eq!((options.solver, options.l2), (Solver::Sgd, Some(0.0)));
        assert_eq!(check(&[]).unwrap().l2, None);
        for (name, value, expected) in [
            ("epochs", OptionValue::Number("2".to_owned()), "epochs must be 1"),
            ("shuffle", OptionValue::Bool(true), "shuffle must be FALSE"),
            ("split", word("random"), "split must be none"),
            ("replicas", OptionValue::Number("2".to_owned()), "replicas must be 1"),
            ("schedule", word("cosine"), "schedule must be constant"),
            ("solver", word("newton"), "solver must be sgd"),
        ] {
            let error = check(&[("statistics", word("running")), (name, value)]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn what_needs_no_standardisation_has_none_of_running_statistics() {
        let with = |more: &[(&str, OptionValue)]| {
            let own = ("optimizer", word("adaptive_invariant"));
            check(&[&[own], more].concat()).unwrap()
        };
        let running = ("statistics", word("running"));
        assert!(with(&[]).standardize);
        assert!(!with(&[]).for_stream(false).unwrap().standardize);
        assert!(!with(std::slice::from_ref(&running)).standardize);
        assert!(with(&[running.clone(), ("standardize", OptionValue::Bool(true))]).standardize);
        assert!(check(&[running]).unwrap().standardize);
    }

    #[test]
    fn streams_are_running_unless_continued() {
        let options = check(&[]).unwrap();
        assert_eq!(options.for_stream(false).unwrap().statistics, Statistics::Running);
        assert_eq!(options.for_stream(true).unwrap().statistics, Statistics::Fixed);
        let fixed = check(&[("statistics", word("fixed"))]).unwrap();
        let error = fixed.for_stream(false).unwrap_err().to_string();
        assert!(error.contains("must be running on an unbounded table"), "{error}");
    }
}
