//! The language of Gradlake and its shell.

pub mod parsers;
mod planning;
mod relation;
pub mod session;
pub mod shell;
pub mod statements;
mod wildcard;

pub use session::{Session, SessionOptions};
pub use shell::message::sentence;
