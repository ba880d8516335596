// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room for file data in private memory, and the operations that wait for it.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Buffer, Source};
use super::pool::{Lease, Pool, Purpose};
use crate::collections::{Line, memory};
use crate::engine::Engine;
use crate::engine::at_once::INLINE_MAX;
use crate::sys::{Buffers, PAGE};
use crate::types::errno::Result;
use crate::types::request::RequestFlags;

use std::num::NonZeroU64;

// The least read of data to be kept when the pool is nearly full.
const KEPT_READ_MIN: u64 = 64 << 10;

// The most waiting operations for which too little room is found before the rest is left waiting.
const POOL_WAITERS_TRIED: usize = 32;

/// An operation that waits: slot and id.
pub(super) type Waiter = (u32, u64);

/// The pool and the operations that wait for it.
pub(super) struct Room {
    pub(super) pool: Pool,
    /// The blocks of the pool that are registered with the engine.
    registered: Box<[bool]>,
    /// Operations whose data passes through.
    pub(super) passing: Line<Waiter>,
    /// Operations that keep their data until it is sent.
    pub(super) kept: Line<Waiter>,
    /// Memory has come back since the waiting operations were tried.
    pub(super) freed: bool,
    /// For short ranges, which are sent before anything else happens.
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

    /// The line of one kind.
    pub(super) fn line(&mut self, kept: bool) -> &mut Line<Waiter> {
        if kept { &mut self.kept } else { &mut self.passing }
    }

    /// One use of a lease less.
    pub(super) fn release(&mut self, lease: Lease) {
        self.pool.release(lease);
        self.freed = true;
    }

    /// Bytes set aside for EXACT come back.
    pub(super) fn unreserve(&mut self, bytes: u64) {
        self.pool.unreserve(bytes);
        self.freed = true;
    }

    /// The registered buffer in which a lease lies, if the engine takes one.
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

    /// Gives memory back after a while of idleness; nothing waits.
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
    // At most one place in each line, or those that come often would keep the others from being tried.
    pub(super) fn wait_for_pool(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        let entry = (slot as u32, job.id);
        job.data.waits.for_pool = true;
        // EXACT with its room set aside waits for those whose data passes to leave it.
        let (line, stands_there) = if job.is_held() && job.data.reserved.is_none() {
            (&mut self.room.kept, &mut job.data.waits.in_kept_line)
        } else {
            (&mut self.room.passing, &mut job.data.waits.in_passing_line)
        };
        if std::mem::replace(stands_there, true) {
            return;
        }
        if let Err(error) = line.push(entry) {
            job.operation.fail(error.negative());
        }
        if line.len() > 2 * self.jobs.len() + 64 {
            line.retain(|&(slot, id)| self.jobs.get(slot as usize).is_some_and(|job| job.id == id));
        }
    }

    // First come, first served, each kind for itself; but who waits for much does not hold up
    // those for whom there is room.
    pub(super) fn serve_pool_waiters(&mut self) {
        if !std::mem::take(&mut self.room.freed) {
            return;
        }
        for kept in [false, true] {
            let mut refused = 0;
            let mut left = self.room.line(kept).len();
            while refused < POOL_WAITERS_TRIED && left > 0 {
                let Some((slot, id)) = self.room.line(kept).pop() else {
                    break;
                };
                left -= 1;
                let slot = slot as usize;
                if self.jobs.get(slot).is_none_or(|job| job.id != id) {
                    continue;
                }
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
                    // Its turn came meanwhile, and found the peer slow: nothing is read for it until
                    // that one takes something.
                    continue;
                }
                let passing = job.data.passing;
                job.data.passing &= !kept || job.available() > 0 || job.operation.is_reading();
                self.read_ahead(slot);
                let job = &mut self.jobs[slot];
                if job.data.waits.for_pool {
                    // It may stand in the other line, too, and nobody else would tell it to pass.
                    job.data.passing = passing;
                    refused += 1;
                }
            }
            // Those refused have lined up anew, behind those not tried.
            let line = self.room.line(kept);
            let again = line.len().saturating_sub(left);
            let _ = line.bring_forward(again); // there is room for what was taken out
        }
    }

    // Finds out whether a new operation may take room in the pool.
    pub(super) fn place(&mut self, slot: usize) {
        self.jobs[slot].data.may_hold = match self.schedule.ahead(slot) {
            Some(ahead) => self.jobs[ahead].data.may_hold && self.jobs[ahead].has_its_room(),
            None => true,
        };
        if let Some(behind) = self.schedule.behind(slot) {
            self.jobs[behind].data.may_hold = false;
        }
        self.let_hold(slot);
    }

    // Lets those behind take room, as far as those ahead of them have theirs.
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

    // After a short read the lease has room left, which counts as taken: go on there.
    pub(super) fn rest_of_lease(&mut self, slot: usize, at: u64, length: u64) -> Option<Buffer> {
        let job = &self.jobs[slot];
        let Source::Buffers(buffers) = &job.data.source else {
            return None;
        };
        let last = buffers.back().filter(|last| last.start + last.length == at)?;
        let (lease, skip) = (last.lease, last.skip + last.length);
        let room = self.room.pool.span(lease).len() as u64 - skip;
        if room == 0 || job.file.as_ref().is_none_or(|file| file.facts.direct) {
            return None;
        }
        self.room.pool.retain(lease);
        Some(Buffer { lease, start: at, skip, length: length.min(room) })
    }

    // Room for up to `length` bytes: less when the pool is nearly full.
    pub(super) fn lease_for(&mut self, slot: usize, at: u64, length: u64) -> Option<Buffer> {
        let job = &self.jobs[slot];
        let file = job.file.as_ref()?;
        let offset = job.operation.task().offset + at;
        let purpose = if job.data.reserved.is_some() {
            Purpose::Reserved
        } else if job.is_held() || job.data.zero_copy {
            Purpose::Kept
        } else {
            Purpose::Passing
        };
        // EAGER may wait for more room, zero-copy goes without.  What passes, and EXACT with its room
        // set aside, must find what there is, in whatever pieces: nobody else may make room.
        let least = if purpose == Purpose::Kept { KEPT_READ_MIN } else { PAGE };
        let rest = job.operation.file_length() - at;
        let mut length = length;
        loop {
            if length < rest {
                length = file.up_to_block(offset, length);
            }
            let (skip, bytes) = file.alignment(offset, length);
            if let Some(lease) = self.room.pool.acquire(bytes, purpose) {
                return Some(Buffer { lease, start: at, skip, length });
            }
            if length <= least {
                return None;
            }
            length = (length / 2).max(least);
        }
    }

    // EXACT needs all its room before it starts, or two of them could wait for each other.
    pub(super) fn reserve(&mut self, slot: usize) -> bool {
        let job = &mut self.jobs[slot];
        if !job.operation.task().flags.contains(RequestFlags::EXACT) || job.data.reserved.is_some()
        {
            return true;
        }
        let range = job.operation.file_length().min(self.room.pool.kept_max());
        let bytes = range.next_multiple_of(PAGE);
        if !self.room.pool.may_keep(bytes) {
            return false;
        }
        self.room.pool.reserve(bytes);
        job.data.reserved = NonZeroU64::new(bytes);
        true
    }
}
