//! JSON files as one table: objects line by line, or one array of objects.

mod array;
mod format;
mod seen;
mod source;

pub(crate) use format::JsonFilesFactory;
