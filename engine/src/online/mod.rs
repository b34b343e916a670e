//! Online training: each row is used once, in the order of arrival. Rows come from an unbounded
//! table or (with `statistics = 'running'`) from any query.
//!
//! ```text
//! query ──► Intake (rows that can be learned from, as numbers) ──► mini-batches
//!                                                                    │
//!     progressive loss and metrics ◄── scores before the step ◄── Learner ──► step
//!                                                                    │
//!                                  checkpoint (cursor, state) ◄──────┴──► version
//! ```
//! Mini-batches are cut by the number of rows alone, across the batches of the query; statistics
//! advance row by row. So the weights depend on the rows and their order, not on how the rows
//! arrived: a stream and a table of its rows give the same bits.

mod checkpoint;
mod copy;
mod endless;
mod intake;
mod latest;
mod learner;
mod physical;
mod progressive;
mod query;
mod report;
mod stream;
mod target;
mod training;

pub(crate) use endless::RefuseEndless;
pub(crate) use latest::LatestModels;
pub(crate) use query::StreamQuery;
pub use query::{is_unbounded, unbounded_table};
pub use report::stream_schema;
pub(crate) use training::{OnlineTraining, check_online};
