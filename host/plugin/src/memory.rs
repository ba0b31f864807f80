//! Guests' linear memory, in huge pages where the kernel has some.
//!
//! ```text
//! base (2 MiB aligned)        size                       reserved + guard
//!  |  readable and writable    |  not to be touched: a trap   |
//! ```
//!
//! An index of a gigabyte is read at random: with pages of 4 KiB most of the time goes
//! into finding them, on virtual machines twice over. The kernel's default is to give
//! huge pages only to those who ask.

#![allow(unsafe_code)]

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};
use std::ffi::c_void;
use std::ptr::null_mut;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Makes memory for guests.
pub(crate) struct Memories;

/// One guest's memory. It never moves.
struct Memory {
    base: *mut u8,
    size: usize,
    reserved: usize,
    mapped: *mut c_void,
    length: usize,
}

/// A huge page.
const HUGE: usize = 2 << 20;

// SAFETY: the memory it makes is zero-filled, never moves, is readable and writable up
// to its size, and traps from there to the end of reservation and guard.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved.or(maximum).unwrap_or(minimum).max(minimum);
        let mut memory = Memory::reserve(reserved, guard).map_err(|e| e.to_string())?;
        memory.open(minimum).map_err(|e| e.to_string())?;
        Ok(Box::new(memory))
    }
}

// === impl Memory ===

impl Memory {
    fn reserve(reserved: usize, guard: usize) -> rustix::io::Result<Self> {
        let length = reserved
            .checked_add(guard)
            .and_then(|bytes| bytes.checked_add(HUGE))
            .ok_or(rustix::io::Errno::NOMEM)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, which nobody else knows.
        let mapped = unsafe { mmap_anonymous(null_mut(), length, ProtFlags::empty(), flags)? };
        let base = mapped.cast::<u8>();
        let offset = base.align_offset(HUGE);
        let memory = Self {
            // Within the mapping: it is longer by a huge page than what is used of it.
            base: base.wrapping_add(offset),
            size: 0,
            reserved,
            mapped,
            length,
        };
        // SAFETY: within the mapping. Without huge pages everything works, slower.
        let _ = unsafe { madvise(memory.base.cast(), reserved, Advice::LinuxHugepage) };
        Ok(memory)
    }

    /// Makes it readable and writable up to `size`.
    fn open(&mut self, size: usize) -> rustix::io::Result<()> {
        if size > self.reserved {
            return Err(rustix::io::Errno::NOMEM);
        }
        if size > self.size {
            let from = self.base.wrapping_add(self.size).cast();
            let flags = MprotectFlags::READ | MprotectFlags::WRITE;
            // SAFETY: within the mapping, which is this memory's alone; sizes are whole
            // wasm pages, so that both ends are at pages.
            unsafe { mprotect(from, size - self.size, flags)? };
            let (first, end) = (self.size / HUGE * HUGE, size / HUGE * HUGE);
            self.size = size;
            // A huge page that grew bit by bit is made of small ones.
            if first < end {
                let first = self.base.wrapping_add(first).cast();
                // SAFETY: as above; contents stay. It may be refused: nothing is lost.
                unsafe { libc::madvise(first, HUGE, libc::MADV_COLLAPSE) };
            }
        }
        Ok(())
    }
}

// SAFETY: as for `Memories`.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.reserved
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        Ok(self.open(size).map_err(std::io::Error::from)?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base
    }
}

// SAFETY: it owns what it points to, and changes nothing through a shared reference.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this memory's own mapping, used by nobody any more.
        if let Err(error) = unsafe { munmap(self.mapped, self.length) } {
            tracing::error!(%error, "a plugin's memory cannot be given back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_in_place_zeroed_and_aligned() {
        let mut memory = Memory::reserve(4 << 30, 32 << 20).unwrap();
        assert_eq!(memory.as_ptr() as usize % HUGE, 0);
        let base = memory.as_ptr();
        for size in [1 << 16, 3 << 20, 100 << 20] {
            memory.grow_to(size).unwrap();
            assert_eq!((memory.byte_size(), memory.as_ptr()), (size, base));
            // SAFETY: within its size, and nobody else has it.
            unsafe {
                let last = base.add(size - 1);
                assert_eq!(*last, 0);
                *last = 7;
                assert_eq!(*base.add((1 << 16) - 1), 7);
            }
        }
        assert!(memory.grow_to((4 << 30) + 1).is_err());
        assert_eq!(memory.byte_size(), 100 << 20);
    }
}
