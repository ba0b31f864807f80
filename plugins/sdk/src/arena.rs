//! Memory for what the host hands over: a batch's columns, which live as long as one call.
//!
//! ```text
//! 64 KiB  | column | column | ...        free |      nothing alive: from the start again
//!         ^ base                   ^ next
//! ```
//! The host asks for memory for each column, through `cabi_realloc`, before it calls; the
//! bindings give it back when the call is over. The general allocator takes some 500
//! instructions for the two, as much as one block of an index takes. Here it is a number
//! that grows, and a count of what is alive. What does not fit, and what may be kept
//! (text has an alignment of 1), comes from the general allocator.
//!
//! Within a call the arena is closed: what imports answer then may be for C, the library's own
//! `poll` for one, which gives memory back to its `free`. Before the first call ended it is
//! closed as well, since constructors are run in it.
//!
//! Guarantees: memory is not given out again while any of it is alive. A plugin that keeps a
//! column makes the arena of no use, not unsafe. Not covered: C behind exports that a plugin
//! makes without [`export!`](crate::export); it takes the kit without this allocator.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

const BYTES: usize = 64 << 10;

/// Larger pieces would leave no room for the others.
const PIECE: usize = BYTES / 2;

/// The arena, and the allocator of everything else.
#[repr(C, align(16))]
pub(crate) struct Arena {
    memory: UnsafeCell<[u8; BYTES]>,
    next: Cell<usize>,
    alive: Cell<usize>,
    open: Cell<bool>,
}

// SAFETY: a component has one thread. (Tests use each arena in one.)
unsafe impl Sync for Arena {}

// === impl Arena ===

impl Arena {
    pub(crate) const fn new() -> Self {
        Self {
            memory: UnsafeCell::new([0; BYTES]),
            next: Cell::new(0),
            alive: Cell::new(0),
            open: Cell::new(false),
        }
    }

    /// Whether columns would be taken from it now.
    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Closes for a call; open again behind it.
    #[inline]
    pub(crate) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        self.open.set(false);
        let result = call();
        self.open.set(true);
        result
    }

    /// Memory for a column, here or elsewhere; null where there is none. `layout` is of more
    /// than nothing.
    #[inline]
    pub(crate) fn column(&self, layout: Layout) -> *mut u8 {
        let begin = match self.alive.get() {
            0 => 0,
            _ => self.next.get().next_multiple_of(layout.align()),
        };
        let fits = layout.size() <= PIECE && begin + layout.size() <= BYTES;
        if !self.is_open() || !fits || !(4..=16).contains(&layout.align()) {
            // SAFETY: the layout is of more than nothing.
            return unsafe { System.alloc(layout) };
        }
        self.next.set(begin + layout.size());
        self.alive.set(self.alive.get() + 1);
        // SAFETY: `begin` lies within.
        unsafe { self.memory.get().cast::<u8>().add(begin) }
    }

    #[inline]
    fn owns(&self, at: *mut u8) -> bool {
        (at as usize).wrapping_sub(self.memory.get() as usize) < BYTES
    }
}

// SAFETY: what is in the arena is never given out twice while it is alive, since the count
// is 0 only when all of it came back; all else is the system's.
unsafe impl GlobalAlloc for Arena {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if self.owns(at) {
            self.alive.set(self.alive.get() - 1);
        } else {
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(at, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.owns(at) {
            // SAFETY: as the caller promises.
            return unsafe { System.realloc(at, layout, size) };
        }
        // SAFETY: the caller promises that `size` fits the alignment and is not 0; both
        // places are as long as what is copied.
        unsafe {
            let to = System.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !to.is_null() {
                to.copy_from_nonoverlapping(at, layout.size().min(size));
                self.dealloc(at, layout);
            }
            to
        }
    }
}

/// What the host calls for memory. The library of C has one that only uses its own.
#[cfg(target_arch = "wasm32")]
pub(crate) mod exported {
    use super::{Arena, GlobalAlloc, Layout};

    #[global_allocator]
    pub(crate) static ARENA: Arena = Arena::new();

    /// As the canonical ABI defines it.
    #[unsafe(export_name = "cabi_realloc")]
    unsafe extern "C" fn cabi_realloc(
        old: *mut u8,
        old_size: usize,
        align: usize,
        size: usize,
    ) -> *mut u8 {
        if size == 0 {
            return align as *mut u8;
        }
        // SAFETY: the host gives back what it was given, and alignments of types.
        let at = unsafe {
            match old_size {
                0 => ARENA.column(Layout::from_size_align_unchecked(size, align)),
                old_size => {
                    let layout = Layout::from_size_align_unchecked(old_size, align);
                    ARENA.realloc(old, layout, size)
                }
            }
        };
        if at.is_null() {
            // Nothing can be said: imports may not be called while the host asks.
            core::arch::wasm32::unreachable();
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// Fills each piece with a byte of its own, and finds it there as long as it lives.
    #[test]
    fn what_is_alive_is_never_given_out_again() {
        let arena = Arena::new();
        arena.during(|| ());
        let sizes = [1usize, 8, 40, 4_096, PIECE, PIECE + 1, BYTES];
        let mut alive: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut state = 1u32;
        for n in 0..5_000u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = sizes[(state >> 8) as usize % sizes.len()];
            let one = layout(size, 1 << (state >> 20 & 3));
            let at = arena.column(one);
            assert!(!at.is_null() && at.align_offset(one.align()) == 0);
            // SAFETY: it was given out for so many bytes.
            unsafe { at.write_bytes(n as u8, one.size()) };
            alive.push((at, one, n as u8));
            // Now and then all go, the oldest first or last; otherwise one.
            let go = if state >> 28 == 0 { alive.len() } else { 1 };
            for _ in 0..go {
                let which = (state >> 16) as usize % alive.len();
                let (at, one, byte) = alive.swap_remove(which);
                // SAFETY: it is alive, and goes here.
                unsafe {
                    let bytes = std::slice::from_raw_parts(at, one.size());
                    assert!(bytes.iter().all(|b| *b == byte));
                    arena.dealloc(at, one);
                }
            }
        }
    }

    #[test]
    fn columns_follow_each_other_and_begin_anew() {
        let arena = Arena::new();
        arena.during(|| ());
        let (a, b) = (arena.column(layout(12, 4)), arena.column(layout(16, 8)));
        assert_eq!((b as usize - a as usize, arena.owns(a)), (16, true));
        // Text may be kept: it is none of the arena's.
        let text = arena.column(layout(5, 1));
        assert!(!arena.owns(text));
        // SAFETY: each is given back once, as it was asked for.
        unsafe {
            arena.dealloc(text, layout(5, 1));
            arena.dealloc(a, layout(12, 4));
            let c = arena.realloc(b, layout(16, 8), 64);
            assert!(!arena.owns(c) && arena.alive.get() == 0);
            arena.dealloc(c, layout(64, 8));
        }
        assert_eq!(arena.column(layout(8, 8)), a);
    }

    #[test]
    fn what_is_answered_within_a_call_is_the_systems() {
        let arena = Arena::new();
        let one = layout(64, 8);
        let first = arena.column(one);
        assert!(!arena.owns(first), "constructors run in the first call");
        let within = arena.during(|| arena.column(one));
        assert!(!arena.owns(within));
        assert!(arena.owns(arena.column(one)));
        // SAFETY: each is given back once, as it was asked for.
        unsafe {
            arena.dealloc(first, one);
            arena.dealloc(within, one);
        }
    }
}
