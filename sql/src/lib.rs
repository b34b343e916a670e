//! The language of Gradlake and its shell.

pub mod parsers;
pub mod session;
pub mod statements;

pub use session::{Session, SessionOptions};
