//! Little-endian records: a tag of 4 bytes, a version, then 64-bit numbers.

use datafusion_common::{Result, exec_err};

use crate::batch::Width;

/// Builds a record.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A record that begins with `tag` and `version`.
    pub(crate) fn new(tag: [u8; 4], version: u32) -> Self {
        let mut bytes = tag.to_vec();
        bytes.extend_from_slice(&version.to_le_bytes());
        Self { bytes }
    }

    /// Reserves capacity for so many numbers, all at once.
    pub(crate) fn reserve(&mut self, numbers: usize) {
        self.bytes.reserve_exact(numbers * size_of::<f64>());
    }

    /// Appends integers.
    pub(crate) fn integers(&mut self, values: &[u64]) {
        self.eights(values, u64::to_le_bytes);
    }

    /// Appends numbers.
    pub(crate) fn numbers(&mut self, values: &[f64]) {
        self.eights(values, f64::to_le_bytes);
    }

    /// Appends the width of rows without their target: dense numbers, columns of categories and
    /// categories.
    pub(crate) fn width(&mut self, width: Width) {
        self.integers(&[width.dense, width.columns, width.categories].map(|n| n as u64));
    }

    /// Appends a record with its length.
    pub(crate) fn record(&mut self, record: &[u8]) {
        self.integers(&[record.len() as u64]);
        self.bytes.extend_from_slice(record);
    }

    fn eights<T: Copy>(&mut self, values: &[T], bytes: impl Fn(T) -> [u8; 8]) {
        let before = self.bytes.len();
        self.bytes.resize(before + 8 * values.len(), 0);
        let (places, _) = self.bytes[before..].as_chunks_mut();
        places.iter_mut().zip(values).for_each(|(to, value)| *to = bytes(*value));
    }

    /// The record.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a record; every length is checked before memory is allocated.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Checks tag and version of a record; `what` names it in errors.
    pub(crate) fn new(
        bytes: &'a [u8],
        tag: [u8; 4],
        version: u32,
        what: &'static str,
    ) -> Result<Self> {
        let mut reader = Self { rest: bytes, what };
        if reader.take(4)? != tag {
            return exec_err!("these bytes are not a {what}: they do not begin with its tag");
        }
        let mut found = [0; 4];
        found.copy_from_slice(reader.take(4)?);
        let found = u32::from_le_bytes(found);
        if found != version {
            return exec_err!("{what} has format version {found}, this build reads {version}");
        }
        Ok(reader)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => exec_err!(
                "{} is cut short: {count} more bytes expected, {} found",
                self.what,
                self.rest.len()
            ),
        }
    }

    /// The next integer.
    pub(crate) fn integer(&mut self) -> Result<u64> {
        let mut value = [0; 8];
        value.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(value))
    }

    /// The next integer as a dimension, small enough that products of two cannot overflow.
    pub(crate) fn dimension(&mut self) -> Result<usize> {
        let value = self.integer()?;
        if value >= 1 << 28 {
            return exec_err!("{} has the impossible dimension {value}", self.what);
        }
        Ok(value as usize)
    }

    /// The next width, as [`Writer::width`] appended it: without a target.
    pub(crate) fn width(&mut self) -> Result<Width> {
        let (dense, columns) = (self.dimension()?, self.dimension()?);
        Ok(Width { dense, bytes: 0, columns, categories: self.dimension()?, targets: 0 })
    }

    /// The next `count` numbers.
    pub(crate) fn numbers(&mut self, count: usize) -> Result<Vec<f64>> {
        let Some(bytes) = count.checked_mul(8) else {
            return exec_err!("{} cannot hold {count} numbers", self.what);
        };
        let (chunks, _) = self.take(bytes)?.as_chunks::<8>();
        Ok(chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect())
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.integer()?))
    }

    /// The next record, as [`Writer::record`] appended it.
    pub(crate) fn record(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.integer()?).unwrap_or(usize::MAX);
        self.take(length)
    }

    /// Refuses bytes after the end of the record.
    pub(crate) fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        exec_err!("{} has {} bytes too many", self.what, self.rest.len())
    }
}
