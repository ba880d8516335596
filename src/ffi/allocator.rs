// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library's allocator: the system's, and a small reserve for when the system has no memory.
//!
//! Allocations that grow with the load may fail, see [`crate::collections::memory`].  The others
//! are small: reference counts, the channel, what the standard library allocates for itself.  If
//! such an allocation fails, Rust ends the process, which is the host's.
//!
//! Nothing here waits: a forked child may find the reserve in any state, and no lock is held.

use crate::collections::memory::RESERVE;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

struct Allocator;

/// The blocks of one size.
struct Class {
    size: usize,
    count: usize,
    /// The offset in the arena of the first block.
    offset: usize,
    /// The index in [`Arena::taken`] of the first word of their bits.
    word: usize,
}

// The largest block is for the channel of a context.
const CLASSES: [Class; 5] = [
    Class { size: 64, count: 256, offset: 192 << 10, word: 0 },
    Class { size: 256, count: 128, offset: 160 << 10, word: 4 },
    Class { size: 1 << 10, count: 32, offset: 128 << 10, word: 6 },
    Class { size: 8 << 10, count: 8, offset: 64 << 10, word: 7 },
    Class { size: 32 << 10, count: 2, offset: 0, word: 8 },
];
const WORDS: usize = 9;
const ARENA: usize = 208 << 10;
const ALIGN: usize = 4096;

/// Memory set aside at load time, and a bit for each block that is in use.
#[repr(C, align(4096))]
struct Arena {
    memory: UnsafeCell<[u8; ARENA]>,
    taken: [AtomicU64; WORDS],
}

// SAFETY: a block belongs to the thread that has set its bit.
unsafe impl Sync for Arena {}

// All zeros, because pages that are never touched use no memory.
static RESERVED: Arena = Arena::new();

impl Arena {
    const fn new() -> Arena {
        let taken = [const { AtomicU64::new(0) }; WORDS];
        Arena { memory: UnsafeCell::new([0; ARENA]), taken }
    }

    fn take(&self, layout: Layout) -> *mut u8 {
        let least = layout.size().max(layout.align());
        let fitting = CLASSES.iter().filter(|class| class.size >= least && layout.align() <= ALIGN);
        match fitting.into_iter().find_map(|class| class.take(&self.taken)) {
            Some(offset) => self.memory.get().cast::<u8>().wrapping_add(offset),
            None => ptr::null_mut(),
        }
    }

    fn offset_of(&self, memory: *mut u8) -> Option<usize> {
        let offset = (memory as usize).wrapping_sub(self.memory.get() as usize);
        (offset < ARENA).then_some(offset)
    }

    fn give_back(&self, offset: usize) {
        let holds = |class: &&Class| {
            (class.offset..class.offset + class.size * class.count).contains(&offset)
        };
        if let Some(class) = CLASSES.iter().find(holds) {
            class.give_back(&self.taken, offset);
        }
    }
}

impl Class {
    fn take(&self, taken: &[AtomicU64; WORDS]) -> Option<usize> {
        let words = taken.iter().skip(self.word).take(self.count.div_ceil(64));
        for (index, word) in words.enumerate() {
            let usable = u64::MAX >> (64 - self.count.min(64));
            loop {
                let free = !word.load(Ordering::Relaxed) & usable;
                if free == 0 {
                    break;
                }
                let bit = free.trailing_zeros();
                if word.fetch_or(1 << bit, Ordering::Acquire) & 1 << bit == 0 {
                    return Some(self.offset + (index * 64 + bit as usize) * self.size);
                }
            }
        }
        None
    }

    fn give_back(&self, taken: &[AtomicU64; WORDS], offset: usize) {
        let block = (offset - self.offset) / self.size;
        if let Some(word) = taken.get(self.word + block / 64) {
            word.fetch_and(!(1 << (block % 64)), Ordering::Release);
        }
    }
}

fn take(layout: Layout) -> *mut u8 {
    let memory = RESERVED.take(layout);
    if !memory.is_null() {
        RESERVE.took();
    }
    memory
}

fn give_back(offset: usize) {
    RESERVED.give_back(offset);
    RESERVE.gave_back();
}

// SAFETY: each block is the system's or, with one owner at a time, the reserve's, large enough and
// aligned to its size or to ALIGN.  The address shows which of the two it is.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { take(layout) } else { memory }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            return memory;
        }
        let memory = take(layout);
        if !memory.is_null() {
            // SAFETY: the block is new and has this size.
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match RESERVED.offset_of(memory) {
            Some(offset) => give_back(offset),
            // SAFETY: as the caller promises; it is not the reserve's.
            None => unsafe { System.dealloc(memory, layout) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let is_reserved = RESERVED.offset_of(memory).is_some();
        if !is_reserved {
            // SAFETY: as the caller promises; it is not the reserve's.
            let moved = unsafe { System.realloc(memory, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the size is that of the caller, the alignment as before.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: two blocks of at least that length; the old one is given back once.
        unsafe {
            let moved = if is_reserved { self.alloc(new) } else { take(new) };
            if !moved.is_null() {
                ptr::copy_nonoverlapping(memory, moved, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Its own arena, because other tests use the library's.
    static ARENA_OF_TEST: Arena = Arena::new();

    #[test]
    fn blocks_of_the_reserve_stay_apart_and_come_back() {
        let layout = |size: usize| Layout::from_size_align(size, 16).unwrap();
        for _ in 0..3 {
            let mut blocks: Vec<(usize, usize)> = Vec::with_capacity(512);
            for size in [1, 64, 65, 1000, 5000, 32 << 10] {
                loop {
                    let memory = ARENA_OF_TEST.take(layout(size));
                    if memory.is_null() {
                        break;
                    }
                    blocks.push((memory as usize, size));
                }
            }
            assert_eq!(blocks.len(), 256 + 128 + 32 + 8 + 2);
            blocks.sort_unstable();
            assert!(blocks.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
            for (address, _) in blocks {
                ARENA_OF_TEST.give_back(ARENA_OF_TEST.offset_of(address as *mut u8).unwrap());
            }
        }
        assert!(ARENA_OF_TEST.take(layout((32 << 10) + 1)).is_null());
        assert!(ARENA_OF_TEST.take(Layout::from_size_align(64, 8192).unwrap()).is_null());
    }
}
