//! Options of a training: unchecked name-value pairs become checked [`TrainOptions`] before any
//! data is read.

mod value;

pub use value::OptionValue;
