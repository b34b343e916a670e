//! Memory for many rows, which goes back to the system as soon as it is let go of. An allocator keeps what
//! it is given back for a while, so raw rows that are encoded would stay beside the encoded ones.

use bytes::Bytes;
use datafusion::arrow::buffer::{Buffer, MutableBuffer};
use datafusion::common::Result;
use memmap2::MmapMut;

/// Bytes from which memory is asked of the system itself.
const LARGE: usize = 1 << 22;
/// Bytes that what lies in a region is aligned to: a line of the cache.
const ALIGN: usize = 64;

/// Zeroed memory that is written and then read.
pub(super) struct Region(Memory);

enum Memory {
    Small(MutableBuffer),
    Large(MmapMut),
}

/// The pages that a region of much memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageSize {
    /// For what is filled at once, or from its beginning to its end.
    Huge,
    /// For what is filled everywhere a little while other memory is given back: a row in each huge page
    /// would take all of it at once.
    Small,
}

impl Region {
    /// `bytes` zeros.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub(super) fn zeroed(bytes: usize, pages: PageSize) -> Result<Self> {
        if bytes < LARGE {
            return Ok(Self(Memory::Small(MutableBuffer::from_len_zeroed(bytes))));
        }
        let memory = MmapMut::map_anon(bytes)?;
        #[cfg(target_os = "linux")]
        {
            use memmap2::Advice::{HugePage, NoHugePage};
            // A system without huge pages has nothing to say to it.
            let _ = memory.advise(match pages {
                PageSize::Huge => HugePage,
                PageSize::Small => NoHugePage,
            });
        }
        Ok(Self(Memory::Large(memory)))
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Memory::Small(memory) => memory.len(),
            Memory::Large(memory) => memory.len(),
        }
    }

    /// What is written to.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Small(memory) => memory.as_slice_mut(),
            Memory::Large(memory) => memory,
        }
    }

    /// What is read; it is let go of with the last buffer of it.
    pub(super) fn freeze(self) -> Frozen {
        Frozen(Bytes::from_owner(self))
    }
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Memory::Small(memory) => memory.as_slice(),
            Memory::Large(memory) => memory,
        }
    }
}

/// Memory that is only read.
pub(super) struct Frozen(Bytes);

impl Frozen {
    /// A part of it.
    pub(super) fn buffer(&self, span: Span) -> Buffer {
        Buffer::from(self.0.slice(span.start..span.end()))
    }
}

/// A part of a region.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    /// Where it begins.
    pub start: usize,
    /// Its bytes.
    pub bytes: usize,
}

impl Span {
    /// Where it ends.
    pub(super) fn end(self) -> usize {
        self.start + self.bytes
    }

    /// Where what follows begins.
    pub(super) fn next(self) -> usize {
        self.end().next_multiple_of(ALIGN)
    }
}
