//! Memory for many rows. An [`Allocation`] goes back to the operating system as soon as it is
//! released: an allocator keeps freed memory for a while, so raw rows would stay in memory beside
//! the encoded ones. A [`PooledBuffer`] goes back to its [`BufferPool`].

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use datafusion::arrow::buffer::{Buffer, MutableBuffer};
use datafusion::common::Result;
use memmap2::MmapMut;

use crate::table::parallel::lock;

/// From this many bytes on, memory is mapped from the operating system directly.
const LARGE: usize = 1 << 22;
/// Alignment of the spans of an allocation in bytes: a cache line.
const ALIGN: usize = 64;

/// Zeroed memory that is written and then read.
pub(in crate::table) struct Allocation(Memory);

enum Memory {
    Small(MutableBuffer),
    Large(MmapMut),
}

/// The size of the pages of a large allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::table) enum PageSize {
    /// For memory that is filled at once, or from its beginning to its end.
    Huge,
    /// For memory that is filled at random positions while other memory is released: one row in
    /// each huge page would commit all of it at once.
    Small,
}

impl Allocation {
    /// `bytes` zeros.
    ///
    /// # Errors
    /// When the system does not provide the memory.
    pub(in crate::table) fn zeroed(bytes: usize, pages: PageSize) -> Result<Self> {
        if bytes < LARGE {
            return Ok(Self(Memory::Small(MutableBuffer::from_len_zeroed(bytes))));
        }
        let memory = MmapMut::map_anon(bytes)?;
        #[cfg(target_os = "linux")]
        {
            use memmap2::Advice::{HugePage, NoHugePage};
            // A system without huge pages refuses the advice, which does not matter.
            let _ = memory.advise(match pages {
                PageSize::Huge => HugePage,
                PageSize::Small => NoHugePage,
            });
        }
        Ok(Self(Memory::Large(memory)))
    }

    /// Its length in bytes.
    pub(in crate::table) fn len(&self) -> usize {
        match &self.0 {
            Memory::Small(memory) => memory.len(),
            Memory::Large(memory) => memory.len(),
        }
    }

    /// The bytes, to write to.
    pub(in crate::table) fn bytes(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Small(memory) => memory.as_slice_mut(),
            Memory::Large(memory) => memory,
        }
    }

    /// Makes the memory read-only; it is released with its last buffer.
    pub(in crate::table) fn freeze(self) -> SharedBuffer {
        SharedBuffer(Bytes::from_owner(self))
    }
}

impl AsRef<[u8]> for Allocation {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Memory::Small(memory) => memory.as_slice(),
            Memory::Large(memory) => memory,
        }
    }
}

/// Read-only memory that buffers share.
pub(in crate::table) struct SharedBuffer(Bytes);

impl SharedBuffer {
    /// A part of it.
    pub(in crate::table) fn buffer(&self, span: Span) -> Buffer {
        Buffer::from(self.0.slice(span.start..span.end()))
    }
}

/// A part of an allocation.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::table) struct Span {
    /// Where it begins.
    pub start: usize,
    /// Its bytes.
    pub bytes: usize,
}

impl Span {
    /// Where it ends.
    pub(in crate::table) fn end(self) -> usize {
        self.start + self.bytes
    }

    /// Where the next span begins.
    pub(in crate::table) fn next(self) -> usize {
        self.end().next_multiple_of(ALIGN)
    }
}

/// A pool of buffers that are reused. Memory that is freed and allocated anew may have gone to the
/// operating system in between, which then zeroes every page of it.
#[derive(Default)]
pub(in crate::table) struct BufferPool(Mutex<Vec<Vec<u8>>>);

/// Memory of a pool, which returns to the pool with its last buffer.
pub(in crate::table) struct PooledBuffer {
    memory: Vec<u8>,
    bytes: usize,
    shelf: Arc<BufferPool>,
}

impl BufferPool {
    /// Bytes of idle buffers at most.
    const MOST: usize = 16 << 20;

    /// A buffer of `bytes` bytes with arbitrary content.
    pub(in crate::table) fn take(self: &Arc<Self>, bytes: usize) -> PooledBuffer {
        let mut memory = lock(&self.0).pop().unwrap_or_default();
        if memory.len() < bytes {
            // The old content is not copied.
            memory = vec![0; bytes];
        }
        PooledBuffer { memory, bytes, shelf: Arc::clone(self) }
    }
}

impl PooledBuffer {
    /// The bytes, to write to.
    pub(in crate::table) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[..self.bytes]
    }

    /// Makes the memory read-only.
    pub(in crate::table) fn freeze(self) -> Buffer {
        Buffer::from(Bytes::from_owner(self))
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.bytes]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut pieces = lock(&self.shelf.0);
        if pieces.iter().chain([&memory]).map(Vec::len).sum::<usize>() <= BufferPool::MOST {
            pieces.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_shelf_is_used_again_when_nothing_refers_to_it() {
        let shelf = Arc::new(BufferPool::default());
        let mut first = shelf.take(1000);
        first.bytes().fill(7);
        let first = first.freeze();
        let at = first.as_ptr();
        let part = first.slice_with_length(10, 20);
        drop(first);
        let mut other = shelf.take(1000);
        other.bytes().fill(8);
        assert_ne!(other.freeze().as_ptr(), at, "memory in use is lent again");
        assert_eq!(part.as_slice(), [7; 20]);
        drop(part);
        // Either may be the next; a smaller buffer takes no new memory, a larger one does.
        let both = [shelf.take(400).freeze(), shelf.take(1000).freeze()];
        assert!(both.iter().any(|buffer| buffer.as_ptr() == at));
        assert_eq!(both.map(|buffer| buffer.len()), [400, 1000]);
        assert_eq!(shelf.take(2000).freeze().len(), 2000);
        // Idle buffers stay below the limit.
        for piece in [shelf.take(BufferPool::MOST), shelf.take(BufferPool::MOST), shelf.take(9)] {
            drop(piece);
        }
        assert!(lock(&shelf.0).iter().map(Vec::len).sum::<usize>() <= BufferPool::MOST);
        drop(shelf.take(BufferPool::MOST + 1));
        assert!(lock(&shelf.0).iter().all(|piece| piece.len() <= BufferPool::MOST));
    }
}
