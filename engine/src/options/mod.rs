//! Options of a training: unchecked name-value pairs become checked [`TrainOptions`] before any
//! data is read.

mod nearest;
mod value;

pub use nearest::nearest;
pub use value::OptionValue;
