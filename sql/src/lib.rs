//! The language of Gradlake and its shell.

pub mod session;

pub use session::{Session, SessionOptions};
