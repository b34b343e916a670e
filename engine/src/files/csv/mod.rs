//! CSV files as one table: columns are found by the names in each file's header.

mod cells;
mod format;
mod layout;
mod reading;

pub(crate) use format::CsvFilesFactory;
