//! The mathematics of Gradlake as functions of DataFusion: kernels, learners, optimizers,
//! encoders, metrics, and the algorithms that are made of them.
//!
//! This crate does no I/O, parses no SQL and spawns nothing.

mod algorithms;
mod batch;
mod description;
mod encoder;
mod estimator;
mod exact;
mod functions;
pub mod kernels;
mod learner;
mod metrics;
mod model;
mod names;
pub mod network;
mod optimizer;
pub mod options;
mod parallel;
mod resolver;
mod round;
mod scorer;
mod state;
mod steps;

pub use algorithms::{
    Algorithm, AlgorithmSpec, Method, OptionGroup, Outline, RoundLayout, Setup, Shape, SplitRule,
    TargetRule, TrainingPlan, start_state,
};
pub use batch::{
    Decoder, Element, FieldSpec, Gather, MiniBatch, NO_CATEGORY, RowSchema, Rows, RowsMut, Width,
};
pub use description::{Description, Head, Measure, Predictor};
pub use encoder::{
    ByteScale, Categories, CodeMap, Column, Encoder, Feature, FeatureKind, Input, InputKind,
    Interner, OneShot, RawRows, RunningEncoder, RunningState, Scale, Statistics, Values,
    flatten_columns, flatten_fields, hash_rows, is_plain, is_single, plain_rows,
};
pub use estimator::{
    Estimator, Fitted, Iterations, Next, OnlineEstimator, OnlineFit, Request, RoundRows,
};
pub use exact::{
    CovarianceSum, GradientSum, GramSum, Lbfgs, LbfgsOptions, LinearShape, Newton, NewtonSum,
    PassSum,
};
pub use functions::assert_true::assert_true_udf;
pub use functions::measure::measure_udaf;
pub use functions::predict::{predict_udfs, prediction_part_udf};
pub use functions::train::{TRAIN, train_udaf};
pub use learner::{
    Activation, Layout, Learner, Loss, LossSum, Network, Reshape, Scoring, ScoringScratch, Scratch,
    StepKey, probabilities,
};
pub use metrics::{Confusion, LogLoss, Ranking, Residuals, metric_functions};
pub use model::{
    HistoryEntry, LabelScale, Labels, Member, Metric, Model, NetworkSpec, Target, Trained,
    target_names,
};
pub use names::Names;
pub use optimizer::{Optimizer, Schedule, StepSize};
pub use parallel::{ParallelFor, Sequential};
pub use resolver::StateResolver;
pub use round::{
    DecodingRound, Descent, Interrupt, Interrupted, LossRound, Partial, Progress, Replica, Round,
    SgdRound,
};
pub use scorer::{LatestScorer, MODEL_ROWS, MODEL_VERSION, Scorer, prediction_parts};
pub use state::State;
pub use steps::{Reads, StepPlan, Stepper};
