// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of data that is in the page cache, by the way that costs least on this machine.  The read
//! and the send are calls that return at once: nothing is gained by queuing so long a copy.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::Handling;
use crate::decide::costs::COPY_MIN;
use crate::decide::plan::{self, Known, Way};
use crate::engine::Engine;
use crate::engine::at_once;
use crate::engine::kernel::Kernel;
use crate::engine::known_costs::Begun;
use crate::types::copying::Copying;

impl<E: Engine> Driver<E> {
    /// Returns whether the next `length` bytes, if they are in the page cache, are worth the choice of
    /// a way of copying: [`Driver::fetch_warm`].
    pub(super) fn is_long_copy(&self, slot: usize, known: &Known, length: u64) -> bool {
        length >= COPY_MIN
            && plan::choose(&Known { resident: true, ..*known }) == Way::Mapped
            && !self.jobs[slot].is_held()
            && self.may_map(slot)
    }

    /// Returns whether the file may be mapped.
    pub(super) fn may_map(&self, slot: usize) -> bool {
        let file = self.jobs[slot].file.as_ref();
        file.is_some_and(|file| self.shared.known_files.may_map(&file.facts, file.fd))
    }

    /// Returns whether the next `length` bytes are in the page cache, and no helper is to read them.
    pub(super) fn is_resident(&self, slot: usize, length: u64) -> bool {
        let (files, kernel) = (&self.shared.known_files, self.engine.kernel());
        let job = &self.jobs[slot];
        let Some((fd, facts)) = job.file.as_ref().map(|file| (file.fd, file.facts)) else {
            return false;
        };
        let offset = job.operation.task().offset + job.operation.range_sent();
        let is_resident = || kernel.is_resident(fd, offset, length);
        let timed = || files.timed(facts.mount, facts.inode, is_resident);
        !files.streams.has(facts.inode, offset)
            && files.streams.watch(kernel, (fd, &facts), offset + length, timed)
    }

    /// Brings up to `most` of the next bytes to hand by the way that costs least, if they are in the
    /// page cache; otherwise begins to read them.  Some: the cost is to be measured, for
    /// [`Driver::learn`].
    pub(super) fn fetch_warm(&mut self, slot: usize, most: u64) -> Option<Begun> {
        let (kernel, costs) = (self.engine.kernel(), &self.shared.known_files.costs);
        // Shorter pieces are not worth a turn each.
        let is_long = |way: Copying| way.piece().is_none_or(|piece| piece >= COPY_MIN);
        let choice = costs.choose(most, is_long);
        let begun = choice.and_then(|choice| costs.begin(kernel, choice, most));
        let is_at_hand = match choice.map(|choice| choice.way.piece()) {
            // Without room in the pool it is mapped.
            Some(Some(piece)) => self.read_now(slot, piece.min(most)) || self.map_now(slot, most),
            Some(None) => self.map_now(slot, most),
            None => false,
        };
        if !is_at_hand {
            self.read_ahead(slot);
        }
        begun.filter(|_| is_at_hand)
    }

    /// Maps the next piece.  False: that is not possible.
    pub(super) fn map_piece(&mut self, slot: usize) -> bool {
        self.jobs[slot].map(self.engine.kernel(), self.shared.settings.chunk_bytes)
    }

    // Maps the next piece, if `most` of the next bytes are in the page cache.
    fn map_now(&mut self, slot: usize, most: u64) -> bool {
        self.is_resident(slot, most) && self.map_piece(slot)
    }

    // Reads up to `most` of the next bytes into the pool.  False: there is no room, or they are not
    // in the page cache any more.
    fn read_now(&mut self, slot: usize, most: u64) -> bool {
        let most = most.min(self.read_max());
        let job = &mut self.jobs[slot];
        let Some((at, length)) = job.operation.want_read(1, most) else { return false };
        let Some((fd, facts)) = job.file.as_ref().map(|file| (file.fd, file.facts)) else {
            return false;
        };
        let offset = job.operation.task().offset + at;
        let is_for_helper = self.shared.known_files.streams.has(facts.inode, offset);
        if facts.direct || is_for_helper || job.reserve_buffer().is_err() {
            return false;
        }
        let Some(mut buffer) = self.lease_for(slot, at, length) else { return false };
        let into = self.room.pool.span(buffer.lease).part(0, buffer.length as usize);
        let (kernel, known) = (self.engine.kernel(), &self.shared.known_files);
        let read = || kernel.read_into_pool(fd, offset, into);
        let timed = || known.timed(facts.mount, facts.inode, read);
        let end = offset + buffer.length as u64;
        let count = known.streams.watch(kernel, (fd, &facts), end, timed).unwrap_or(0);
        let job = &mut self.jobs[slot];
        if count == 0 || at_once::was_cut(kernel, fd, offset + count as u64) {
            self.room.release(buffer.lease);
            return false;
        }
        buffer.length = count as u32;
        job.operation.read_started();
        job.push(buffer);
        job.operation.read_done(at, count as u64);
        job.data.handling = Handling::Warm;
        true
    }

    /// Learns from a copy of which the socket has taken `bytes`.
    pub(super) fn learn(&mut self, begun: Begun, bytes: u64) {
        self.shared.known_files.costs.learn(self.engine.kernel(), begun, bytes);
    }
}
