// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of data that is in the page cache, by the way that costs least on this machine.  The read
//! and the send are calls that return at once: nothing is gained by queuing so long a copy.
#![forbid(unsafe_code)]

use super::Driver;
use crate::decide::costs::COPY_MIN;
use crate::engine::Engine;
use crate::engine::at_once;
use crate::engine::kernel::Kernel;
use crate::engine::known_costs::Begun;
use crate::types::copying::Copying;

impl<E: Engine> Driver<E> {
    /// Brings up to `most` of the next bytes, which are in the page cache and may be mapped, to
    /// hand.  Some: the cost is to be measured, for [`Driver::learn`].
    pub(super) fn fetch_warm(&mut self, slot: usize, most: u64) -> Option<Begun> {
        let (kernel, costs) = (self.engine.kernel(), &self.shared.known_files.costs);
        // Shorter pieces are not worth a turn each.
        let is_long = |way: Copying| way.piece().is_none_or(|piece| piece >= COPY_MIN);
        let choice = costs.choose(most, is_long)?;
        let begun = costs.begin(kernel, choice, most);
        let is_at_hand = match choice.way.piece() {
            None => self.jobs[slot].map(kernel, self.shared.settings.chunk_bytes),
            Some(piece) => self.read_now(slot, piece.min(most)),
        };
        if !is_at_hand {
            self.read_ahead(slot);
        }
        begun.filter(|_| is_at_hand)
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
        if facts.direct || job.reserve_buffer().is_err() {
            return false;
        }
        let offset = job.operation.task().offset + at;
        let Some(mut buffer) = self.lease_for(slot, at, length) else { return false };
        let into = self.room.pool.span(buffer.lease).part(0, buffer.length as usize);
        let (kernel, known) = (self.engine.kernel(), &self.shared.known_files);
        let read = || kernel.read_into_pool(fd, offset, into);
        let count = known.timed(facts.mount, facts.inode, read).unwrap_or(0);
        let job = &mut self.jobs[slot];
        if count == 0 || at_once::was_cut(kernel, fd, offset + count as u64) {
            self.room.release(buffer.lease);
            return false;
        }
        buffer.length = count as u32;
        job.operation.read_started();
        job.push(buffer);
        job.operation.read_done(at, count as u64);
        true
    }

    /// Learns from a copy of which the socket has taken `bytes`.
    pub(super) fn learn(&mut self, begun: Begun, bytes: u64) {
        self.shared.known_files.costs.learn(self.engine.kernel(), begun, bytes);
    }
}
