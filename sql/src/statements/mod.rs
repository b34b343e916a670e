//! Statements as trees. Each prints as its normalised text (upper-case keywords, clauses in one
//! order, names quoted where they must be), which parses to the same tree again.

use std::fmt;

use datafusion::sql::parser::Statement as DfStatement;

mod alter;
mod describe;
mod drop;
mod evaluate;
mod explain;
mod name;
mod predict;
mod source;
mod train;

pub use alter::{AlterModel, AlterModelAction};
pub use describe::DescribeModel;
pub use drop::DropModel;
pub use evaluate::Evaluate;
pub use explain::ExplainTrain;
pub use name::quoted;
pub(crate) use name::{exact, folded, options_text};
pub use predict::{PREDICT_ROWS, Predict, PredictRows};
pub use source::Source;
pub use train::{Train, TransformItem};

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `TRAIN MODEL ...`
    Train(Box<Train>),
    /// `PREDICT MODEL ...`
    Predict(Box<Predict>),
    /// `EVALUATE MODEL ...`
    Evaluate(Box<Evaluate>),
    /// `EXPLAIN [ANALYZE] TRAIN ...`
    ExplainTrain(ExplainTrain),
    /// `SHOW MODELS`
    ShowModels,
    /// `SHOW TRAINING`
    ShowTraining,
    /// `DESCRIBE MODEL ...`
    DescribeModel(DescribeModel),
    /// `DROP MODEL ...`
    DropModel(DropModel),
    /// `ALTER MODEL ...`
    AlterModel(AlterModel),
    /// Everything else: DataFusion's own, with `(PREDICT ...)` in it as calls of [`PREDICT_ROWS`].
    DataFusion(Box<DfStatement>),
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Train(train) => train.fmt(f),
            Statement::Predict(predict) => predict.fmt(f),
            Statement::Evaluate(evaluate) => evaluate.fmt(f),
            Statement::ExplainTrain(explain) => explain.fmt(f),
            Statement::ShowModels => f.write_str("SHOW MODELS"),
            Statement::ShowTraining => f.write_str("SHOW TRAINING"),
            Statement::DescribeModel(describe) => describe.fmt(f),
            Statement::DropModel(drop) => drop.fmt(f),
            Statement::AlterModel(alter) => alter.fmt(f),
            Statement::DataFusion(statement) => match statement.as_ref() {
                DfStatement::Statement(statement) => f.write_str(&exact(statement.as_ref())),
                statement => statement.fmt(f),
            },
        }
    }
}
