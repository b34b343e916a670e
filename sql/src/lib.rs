//! The language of Gradlake and its shell.

pub mod session;
pub mod shell;

pub use session::{Session, SessionOptions};
