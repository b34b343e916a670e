//! JSON files as one table: objects line by line, or one array of objects.

mod array;
mod format;
mod reading;
mod seen;

pub(crate) use format::JsonFilesFactory;
