//! Runs training: sessions, encoded tables, rounds, the model store, checkpoints.
//!
//! This crate parses no statement of ours and prints nothing: progress leaves it as events.

mod catalog;
mod clock;
mod dictionaries;
mod evaluation;
mod event;
mod files;
mod inspection;
mod names;
mod object_stores;
mod online;
mod operators;
mod output;
mod pages;
mod prediction;
mod registry;
mod request;
mod row_groups;
mod scan;
mod session;
mod source;
mod stopping;
mod store;
mod table;
mod thread_pool;
mod training;
mod transform;

pub(crate) use gradlake_udfs::options;

pub use catalog::MODEL_CATALOG;
pub use evaluation::{reported, reported_schema};
pub use event::{Event, EventSink, Position};
pub use files::ENDINGS;
pub use gradlake_udfs::options::{OptionRow, OptionValue, TrainOptions, nearest, option_table};
pub use names::{quoted, suggestion};
pub use online::{is_unbounded, unbounded_table};
pub use output::csv::CsvText;
pub use prediction::PredictOptions;
pub use request::{TrainRequest, TrainRequestBuilder, check_layers};
pub use session::{DEFAULT_WAREHOUSE, Engine, EngineOptions};
pub use source::{Cursor, Lag, Ledger, Report, SourceTable, with_warnings};
pub use stopping::STOPPED;
pub use store::{FORMAT_VERSION, ModelStore, Publish, failpoints};
pub use training::explain;
