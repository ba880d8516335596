// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room for file data in the pool, and the lines of operations that wait for it.  Three rules
//! prevent deadlock: kept data leaves room for passing data, an operation takes room only after
//! those ahead of it on the socket, and EXACT reserves all its room at once.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Buffer, Handling, Job, Source};
use super::pool::{Lease, Pool, Purpose};
use crate::collections::{Line, Register, memory};
use crate::decide::pool_size::POOL_PAGE;
use crate::engine::Engine;
use crate::engine::at_once::INLINE_MAX;
use crate::sys::Buffers;
use crate::types::errno::Result;
use crate::types::request::RequestFlags;

use std::num::NonZeroU32;

// The smallest read, in bytes, of data to be kept when the pool is nearly full.
const KEPT_READ_MIN: u64 = 64 << 10;

// After this many waiting operations that found too little room, the rest is not tried.
const POOL_WAITERS_TRIED: usize = 32;

/// A waiting operation: its slot and the low half of its id, see [`Job::has_low_id`].
#[derive(Clone, Copy)]
pub(super) struct Waiter {
    slot: u32,
    id: u32,
}

impl Waiter {
    pub(super) fn new(slot: usize, job: &Job) -> Waiter {
        Waiter { slot: slot as u32, id: job.id as u32 }
    }

    /// Returns its slot, if the operation has not ended.
    pub(super) fn living(self, jobs: &Register<Job>) -> Option<usize> {
        let slot = self.slot as usize;
        jobs.get(slot).is_some_and(|job| job.has_low_id(self.id.into())).then_some(slot)
    }

    /// Adds the operation to a line, from which those that have ended go when they are the most.
    pub(super) fn wait_in(self, line: &mut Line<Waiter>, jobs: &Register<Job>) -> Result<()> {
        if line.len() > 2 * jobs.len() + 64 {
            line.retain(|waiter| waiter.living(jobs).is_some());
        }
        line.push(self)
    }
}

/// The pool and the operations that wait for it.
pub(super) struct Room {
    pub(super) pool: Pool,
    /// Which blocks of the pool are registered with the engine.
    registered: Box<[bool]>,
    /// Operations whose data passes through.
    pub(super) passing: Line<Waiter>,
    /// Operations that keep their data until it is sent.
    pub(super) kept: Line<Waiter>,
    /// Memory has been released since the waiting operations were tried.
    pub(super) freed: bool,
    /// A buffer for short ranges, which are sent at once.
    pub(super) scratch: Buffers<1>,
}

impl Room {
    pub(super) fn new(pool: Pool) -> Result<Room> {
        Ok(Room {
            registered: memory::filled(false, pool.block_count())?,
            pool,
            passing: Line::default(),
            kept: Line::default(),
            freed: false,
            scratch: Buffers::new(INLINE_MAX as usize),
        })
    }

    /// Returns the line of one kind.
    pub(super) fn line(&mut self, kept: bool) -> &mut Line<Waiter> {
        if kept { &mut self.kept } else { &mut self.passing }
    }

    /// Removes one use of a lease.
    pub(super) fn release(&mut self, lease: Lease) {
        self.pool.release(lease);
        self.freed = true;
    }

    /// Gives back bytes that were reserved for EXACT.
    pub(super) fn unreserve(&mut self, bytes: u64) {
        self.pool.unreserve(bytes);
        self.freed = true;
    }

    /// Returns the registered buffer that contains a lease, if the engine accepts it.
    pub(super) fn registered_buffer(
        &mut self,
        lease: Lease,
        engine: &mut impl Engine,
    ) -> Option<u16> {
        let block = self.pool.block_of(lease);
        if !self.registered[block] {
            let span = self.pool.block_span(block)?;
            self.registered[block] = engine.register(block as u16, span);
        }
        self.registered[block].then_some(block as u16)
    }

    /// Releases memory after a period without work; nothing waits.
    pub(super) fn shrink(&mut self, engine: &mut impl Engine) {
        loop {
            let idle = self.pool.idle_blocks().next();
            let Some(block) = idle else { break };
            let registered = std::mem::take(&mut self.registered[block]);
            if let Some(span) = self.pool.block_span(block).filter(|_| registered) {
                engine.unregister(block as u16, span);
            }
            self.pool.drop_block(block);
        }
        self.passing = Line::default();
        self.kept = Line::default();
        self.scratch.trim();
    }
}

impl<E: Engine> Driver<E> {
    // Puts an operation in a line, at most once in each, or those that come often would keep the
    // others from being tried.
    pub(super) fn wait_for_pool(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        let entry = Waiter::new(slot, job);
        job.data.waits.for_pool = true;
        // EXACT with reserved room waits for passing data to leave it.
        let (line, stands_there) = if job.is_held() && job.data.reserved_pages.is_none() {
            (&mut self.room.kept, &mut job.data.waits.in_kept_line)
        } else {
            (&mut self.room.passing, &mut job.data.waits.in_passing_line)
        };
        if std::mem::replace(stands_there, true) {
            return;
        }
        if let Err(error) = entry.wait_in(line, &self.jobs) {
            self.jobs[slot].operation.fail(error.negative());
        }
    }

    // Tries the waiting operations in order, each line by itself.  One that needs much room does
    // not delay those for which there is room.
    pub(super) fn serve_pool_waiters(&mut self) {
        if !std::mem::take(&mut self.room.freed) {
            return;
        }
        for kept in [false, true] {
            let mut refused = 0;
            let mut left = self.room.line(kept).len();
            while refused < POOL_WAITERS_TRIED && left > 0 {
                let Some(waiter) = self.room.line(kept).pop() else {
                    break;
                };
                left -= 1;
                let Some(slot) = waiter.living(&self.jobs) else { continue };
                let socket = self.schedule.socket_of(slot);
                let waiting = self.socket(socket).waiting;
                let job = &mut self.jobs[slot];
                *if kept {
                    &mut job.data.waits.in_kept_line
                } else {
                    &mut job.data.waits.in_passing_line
                } = false;
                job.data.waits.for_pool = false;
                if !job.is_held() && waiting {
                    // It had its turn in between and found the peer slow: nothing is read for it
                    // until the peer takes data.
                    continue;
                }
                let passing = job.data.passing;
                job.data.passing &= !kept || job.available() > 0 || job.operation.is_reading();
                self.read_ahead(slot);
                let job = &mut self.jobs[slot];
                if job.data.waits.for_pool {
                    // It may be in the other line as well, and nothing else would make it pass
                    // again.
                    job.data.passing = passing;
                    refused += 1;
                }
            }
            // Those refused are back in the line, behind those not tried.
            let line = self.room.line(kept);
            let again = line.len().saturating_sub(left);
            let _ = line.bring_forward(again); // there is room for what was taken out
        }
    }

    // Determines whether a new operation may take room in the pool.
    pub(super) fn place(&mut self, socket: usize, slot: usize) {
        let is_kept = self.jobs[slot].is_kept();
        let state = self.socket(socket);
        state.kept += u32::from(is_kept);
        if state.kept == 0 {
            // Nothing here waits for room that it has to leave to others.
            self.jobs[slot].data.may_hold = true;
            return;
        }
        self.jobs[slot].data.may_hold = match self.schedule.ahead(slot) {
            Some(ahead) => self.jobs[ahead].data.may_hold && self.jobs[ahead].has_its_room(),
            None => true,
        };
        if let Some(behind) = self.schedule.behind(slot) {
            self.jobs[behind].data.may_hold = false;
        }
        self.let_hold(slot);
    }

    // Lets the operations behind take room, as far as those ahead of them have theirs.
    pub(super) fn let_hold(&mut self, from: usize) {
        let mut slot = from;
        while self.jobs[slot].data.may_hold && self.jobs[slot].has_its_room() {
            let Some(behind) = self.schedule.behind(slot) else {
                return;
            };
            if std::mem::replace(&mut self.jobs[behind].data.may_hold, true) {
                return;
            }
            if self.jobs[behind].is_held() {
                self.read_ahead(behind);
            }
            slot = behind;
        }
    }

    // Returns the rest of the last lease: after a short read it has room left, which counts as
    // taken.
    pub(super) fn rest_of_lease(&mut self, slot: usize, at: u64, length: u64) -> Option<Buffer> {
        let job = &self.jobs[slot];
        let Source::Buffers(buffers) = &job.data.source else {
            return None;
        };
        let last = buffers.back().filter(|last| last.end() == at)?;
        let (lease, skip) = (last.lease, last.skip + last.length);
        let room = self.room.pool.span(lease).len() as u32 - skip;
        if room == 0 || job.file.as_ref().is_none_or(|file| file.facts.direct) {
            return None;
        }
        self.room.pool.retain(lease);
        Some(Buffer { lease, start: at, skip, length: length.min(room.into()) as u32 })
    }

    // Leases room for up to `length` bytes: less if the pool is nearly full.
    pub(super) fn lease_for(&mut self, slot: usize, at: u64, length: u64) -> Option<Buffer> {
        let job = &self.jobs[slot];
        let file = job.file.as_ref()?;
        let offset = job.operation.task().offset + at;
        let purpose = if job.data.reserved_pages.is_some() {
            Purpose::Reserved
        } else if job.is_held() || job.data.handling == Handling::ZeroCopy {
            Purpose::Kept
        } else {
            Purpose::Passing
        };
        // EAGER can wait for more room, and zero-copy can do without.  Passing data, and EXACT with
        // reserved room, must use whatever pieces there are: no other operation may make room.
        let least = if purpose == Purpose::Kept { KEPT_READ_MIN } else { POOL_PAGE };
        let rest = job.operation.file_length() - at;
        let mut length = length;
        loop {
            if length < rest {
                length = file.up_to_block(offset, length);
            }
            let (skip, bytes) = file.alignment(offset, length);
            if let Some(lease) = self.room.pool.acquire(bytes, purpose) {
                return Some(Buffer { lease, start: at, skip: skip as u32, length: length as u32 });
            }
            if bytes <= least {
                return None;
            }
            // With O_DIRECT the first block begins `skip` bytes before the data.
            length = (bytes / 2).max(least).next_multiple_of(POOL_PAGE) - skip;
        }
    }

    // Reserves all room of an EXACT operation before it starts, or two of them could wait for each
    // other.
    pub(super) fn reserve(&mut self, slot: usize) -> bool {
        let job = &mut self.jobs[slot];
        let keeps_all = job.operation.task().flags.contains(RequestFlags::EXACT) && job.is_held();
        if !keeps_all || job.data.reserved_pages.is_some() {
            return true;
        }
        let range = job.operation.file_length().min(self.room.pool.kept_max());
        let bytes = range.next_multiple_of(POOL_PAGE);
        if !self.room.pool.may_keep(bytes) {
            return false;
        }
        self.room.pool.reserve(bytes);
        job.data.reserved_pages = NonZeroU32::new((bytes / POOL_PAGE) as u32);
        true
    }
}
