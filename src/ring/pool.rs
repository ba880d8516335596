// SPDX-License-Identifier: MIT OR Apache-2.0
//! Private memory for file data: huge-page blocks, cut into runs of pool pages.  Each lease counts
//! the requests that refer to it.  The pool grows with use up to its limit and shrinks when idle; who
//! waits for room is decided in `room`.

use crate::collections::{Table, memory};
use crate::decide::pool_size::{BLOCK, POOL_PAGE, blocks, kept_of};
use crate::sys::{Mapping, SpanMut};
use crate::types::errno::Result;
use std::num::NonZeroU32;

const PAGES: usize = (BLOCK / POOL_PAGE) as usize;
const _: () = assert!(PAGES <= u16::MAX as usize);

/// The purpose of a lease, which decides how much of the pool it may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Data that is sent at once or given up: it may use what the others leave.
    Passing,
    /// Data that is kept until a peer has taken it or the kernel has released it: EAGER, EXACT,
    /// zero-copy.  At most three quarters of the pool, so that it cannot block the rest.
    Kept,
    /// Kept data that [`Pool::reserve`] has counted already.
    Reserved,
}

/// A run of pages in a block.  Its owner returns it with [`Pool::release`].
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Lease(NonZeroU32); // the slot of its run, plus one

impl Lease {
    fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// 12 bytes, 16 with its place in the table, because an operation that keeps data has one or more.
#[derive(Debug)]
struct Run {
    /// The number of its first page: each block counts for [`PAGES`], also a smaller one.
    from: u32,
    pages: u16,
    purpose: Purpose,
    /// Requests that refer to it.
    uses: u32,
}

impl Run {
    /// Returns the index of its block.
    fn block(&self) -> usize {
        self.from as usize / PAGES
    }

    /// Returns its first page in the block, and how many pages it has.
    fn pages(&self) -> (usize, usize) {
        (self.from as usize % PAGES, self.pages.into())
    }
}

#[derive(Debug)]
struct Block {
    memory: Mapping,
    /// A bit for each leased page.
    taken: [u64; PAGES / 64],
    /// Pages that are not leased.
    free: usize,
}

/// The private memory of one context.
#[derive(Debug)]
pub struct Pool {
    blocks: Vec<Option<Block>>,
    /// The size of a block in bytes.
    block_size: u64,
    runs: Table<Run>,
    /// Bytes leased.
    in_use: u64,
    /// Bytes of kept leases, and bytes that are reserved.
    kept: u64,
}

impl Pool {
    /// Creates a pool of at most `limit` bytes.
    pub fn new(limit: u64) -> Result<Pool> {
        let (block_size, count) = blocks(limit);
        let mut blocks = memory::list(count)?;
        blocks.resize_with(count, || None);
        Ok(Pool { blocks, block_size, runs: Table::default(), in_use: 0, kept: 0 })
    }

    /// Returns the longest lease in bytes.
    pub fn lease_max(&self) -> u64 {
        self.block_size
    }

    /// Returns the most bytes that leases of purpose [`Purpose::Kept`] may have together.
    pub fn kept_max(&self) -> u64 {
        kept_of(self.block_size, self.blocks.len())
    }

    /// Returns whether `length` further bytes may be kept.
    pub fn may_keep(&self, length: u64) -> bool {
        self.kept + length.next_multiple_of(POOL_PAGE) <= self.kept_max()
    }

    /// Counts `length` bytes as kept, before they are acquired.
    pub fn reserve(&mut self, length: u64) {
        self.kept += length;
    }

    /// Undoes [`Pool::reserve`].
    pub fn unreserve(&mut self, length: u64) {
        self.kept -= length;
    }

    /// Leases a run of at least `length` bytes.  None: no room now.
    pub fn acquire(&mut self, length: u64, purpose: Purpose) -> Option<Lease> {
        let bytes = length.next_multiple_of(POOL_PAGE);
        debug_assert!(bytes > 0 && bytes <= self.block_size);
        if purpose == Purpose::Kept && !self.may_keep(bytes) {
            return None;
        }
        let pages = (bytes / POOL_PAGE) as usize;
        self.runs.reserve().ok()?;
        let (block, first) = self.find(pages).or_else(|| self.grow())?;
        self.mark(block, first, pages, true);
        self.in_use += bytes;
        if purpose == Purpose::Kept {
            self.kept += bytes;
        }
        let from = (block * PAGES + first) as u32;
        let run = Run { from, pages: pages as u16, purpose, uses: 1 };
        self.runs.insert(run).ok().map(|slot| Lease(NonZeroU32::MIN.saturating_add(slot as u32)))
    }

    fn find(&self, pages: usize) -> Option<(usize, usize)> {
        let total = (self.block_size / POOL_PAGE) as usize;
        self.blocks.iter().enumerate().find_map(|(index, block)| {
            let block = block.as_ref().filter(|block| block.free >= pages)?;
            if block.free == total {
                return Some((index, 0));
            }
            block.find(pages, total).map(|first| (index, first))
        })
    }

    fn grow(&mut self) -> Option<(usize, usize)> {
        let index = self.blocks.iter().position(Option::is_none)?;
        let memory = Mapping::huge(self.block_size as usize).ok()?;
        let free = (self.block_size / POOL_PAGE) as usize;
        self.blocks[index] = Some(Block { memory, taken: [0; PAGES / 64], free });
        Some((index, 0))
    }

    fn mark(&mut self, block: usize, first: usize, pages: usize, taken: bool) {
        let block = self.blocks[block].as_mut().expect("a lease's block stays");
        for page in first..first + pages {
            let bit = 1 << (page % 64);
            if taken {
                block.taken[page / 64] |= bit;
            } else {
                block.taken[page / 64] &= !bit;
            }
        }
        if taken {
            block.free -= pages;
        } else {
            block.free += pages;
        }
    }

    /// Returns the memory of a lease.
    pub fn span(&self, lease: Lease) -> SpanMut {
        let run = &self.runs[lease.slot()];
        let block = self.blocks[run.block()].as_ref().expect("a lease's block stays");
        let (page, (first, pages)) = (POOL_PAGE as usize, run.pages());
        block.memory.span_mut().part(first * page, pages * page)
    }

    /// Returns the number of a lease's block, for the table of registered buffers.
    pub fn block_of(&self, lease: Lease) -> usize {
        self.runs[lease.slot()].block()
    }

    /// Returns the memory of a block, if it is allocated.
    pub fn block_span(&self, block: usize) -> Option<SpanMut> {
        self.blocks[block].as_ref().map(|block| block.memory.span_mut())
    }

    /// Returns the most blocks that there may be.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Adds a request that refers to the lease: it needs one more [`Pool::release`].
    pub fn retain(&mut self, lease: Lease) {
        self.runs[lease.slot()].uses += 1;
    }

    /// Gives a lease back; the memory is free once no request refers to it.
    pub fn release(&mut self, lease: Lease) {
        let run = &mut self.runs[lease.slot()];
        run.uses -= 1;
        if run.uses > 0 {
            return;
        }
        let run = self.runs.remove(lease.slot());
        let (first, pages) = run.pages();
        let bytes = pages as u64 * POOL_PAGE;
        self.mark(run.block(), first, pages, false);
        self.in_use -= bytes;
        if run.purpose == Purpose::Kept {
            self.kept -= bytes;
        }
    }

    /// Returns the blocks without leases.  They must be unregistered before [`Pool::drop_block`].
    pub fn idle_blocks(&self) -> impl Iterator<Item = usize> + '_ {
        let total = (self.block_size / POOL_PAGE) as usize;
        let is_idle = move |block: &Option<Block>| block.as_ref().is_some_and(|b| b.free == total);
        self.blocks.iter().enumerate().filter_map(move |(i, block)| is_idle(block).then_some(i))
    }

    /// Gives an idle block's memory back to the kernel.
    pub fn drop_block(&mut self, block: usize) {
        debug_assert!(self.idle_blocks().any(|idle| idle == block));
        self.blocks[block] = None;
        self.runs.shrink();
    }

    /// Returns the bytes leased.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Returns the bytes of memory held from the system.
    pub fn resident(&self) -> u64 {
        self.blocks.iter().flatten().count() as u64 * self.block_size
    }

    /// Leaves all memory mapped until the process ends, because the kernel may still use some of
    /// it.
    pub fn leak(&mut self) {
        for block in self.blocks.drain(..).flatten() {
            std::mem::forget(block.memory);
        }
    }

    /// Leaves the memory of a lease mapped until the process ends.
    pub fn leak_lease(&mut self, lease: Lease) {
        let block = self.block_of(lease);
        if let Some(block) = self.blocks.get_mut(block).and_then(Option::take) {
            std::mem::forget(block.memory);
        }
    }

    /// Returns the most bytes that leases may have together.
    pub fn limit(&self) -> u64 {
        self.blocks.len() as u64 * self.block_size
    }
}

impl Block {
    fn find(&self, pages: usize, total: usize) -> Option<usize> {
        let mut start = 0;
        for page in 0..total {
            if self.taken[page / 64] & (1 << (page % 64)) != 0 {
                start = page + 1;
            } else if page + 1 - start == pages {
                return Some(start);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Span;

    #[test]
    fn leases_do_not_overlap_and_come_back() {
        let mut pool = Pool::new(4 * BLOCK).expect("memory");
        let mut leases: Vec<Lease> = Vec::new();
        for length in [1, 5000, 65536, 1 << 20, 2 << 20, 300_000, 2 << 20] {
            leases.push(pool.acquire(length, Purpose::Passing).expect("room"));
        }
        let spans: Vec<Span> = leases.iter().map(|&lease| pool.span(lease).as_span()).collect();
        for (index, a) in spans.iter().enumerate() {
            for b in &spans[index + 1..] {
                assert!(a.address + a.length <= b.address || b.address + b.length <= a.address);
            }
        }
        pool.retain(leases[0]);
        for &lease in &leases {
            pool.release(lease);
        }
        assert_eq!(pool.in_use(), POOL_PAGE);
        pool.release(leases[0]);
        assert_eq!((pool.in_use(), pool.idle_blocks().count()), (0, 3));
        for block in 0..3 {
            pool.drop_block(block);
        }
        assert_eq!(pool.resident(), 0);
    }

    #[test]
    fn what_is_kept_leaves_a_quarter_for_the_rest() {
        let mut pool = Pool::new(4 * BLOCK).expect("memory");
        assert!(pool.acquire(BLOCK, Purpose::Kept).is_some());
        assert!(pool.acquire(BLOCK, Purpose::Kept).is_some());
        assert!(pool.acquire(BLOCK, Purpose::Kept).is_some());
        assert!(pool.acquire(POOL_PAGE, Purpose::Kept).is_none());
        assert!(pool.acquire(BLOCK, Purpose::Passing).is_some());
        assert!(pool.acquire(POOL_PAGE, Purpose::Passing).is_none());
    }
}
