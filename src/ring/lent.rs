// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages of the file itself that are in the socket (ZEROCOPY): how they get there, and how an
//! operation ends that has lent them.  Its DONE waits until the kernel has given all of them back.
//! If it must end earlier, the peer has a second to acknowledge them.  Then the connection is reset,
//! so that no later change of the file can be sent.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{File, Job, Source};
use crate::decide::operation::Phase;
use crate::decide::plan::PageCache;
use crate::decide::timers::Alarm;
use crate::engine::Engine;
use crate::engine::kernel::Kernel;
use crate::types::errno::Errno;
use crate::types::file::Size;
use crate::types::stats::Counters;
use std::time::Duration;

// How long an ended operation waits for the acknowledgement before the connection is reset.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

// How long after that the pages are looked for again: a reset may have been refused, and a packet
// may be in a device's queue.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

// After this many looks at a connection that has been reset, or if the context ends, they are not
// waited for any more: the device does not return its packets.
const LOOKS_MAX: u8 = 100;

impl<E: Engine> Driver<E> {
    /// Returns of what use the file's own pages are for the rest of the range.
    pub(super) fn page_cache(&mut self, slot: usize) -> PageCache {
        let job = &self.jobs[slot];
        let is_frozen = job.operation.is_frozen();
        let is_sent = |file: &&File| file.mappable && (is_frozen || job.lends());
        let Some(file) = job.file.as_ref().filter(is_sent) else {
            return PageCache::Excluded;
        };
        let known = &self.shared.known_files;
        if !is_frozen
            && !self.files.may_map(file.entry as usize, || known.may_map(&file.facts, file.fd))
        {
            return PageCache::Excluded;
        }
        let offset = job.operation.task().offset + job.operation.range_sent();
        match file.is_registered || self.windows.has(file.entry, offset) {
            true => PageCache::Mapped,
            false => PageCache::NotMapped,
        }
    }

    /// Takes the next piece of the range from a window, if all of it is in the page cache.
    pub(super) fn take_piece(&mut self, slot: usize, chunk: u64) -> bool {
        let kernel = self.engine.kernel();
        let job = &mut self.jobs[slot];
        let Some(file) = &mut job.file else { return false };
        let (start, task) = (job.operation.range_sent(), job.operation.task());
        let (entry, offset) = (file.entry, task.offset + start);
        let length = (job.operation.file_length() - start).min(chunk);
        if !self.windows.has(entry, offset) {
            let Ok(Size::Known(size)) = self.files.size(entry as usize, kernel) else {
                return false;
            };
            if offset >= size {
                return false;
            }
            if !file.is_registered && self.files.has_one_use(entry as usize) {
                // The operation has passed them, and unmapping all at its end would take long.
                while self.windows.unmap_of_file(entry) {}
            }
            match self.windows.map(kernel, (entry, file.fd), offset, size) {
                Ok(()) => {}
                // There may be room later.
                Err(Errno(libc::ENOMEM | libc::EOVERFLOW)) => return false,
                Err(_) => {
                    file.mappable = false;
                    return false;
                }
            }
        }
        let now = kernel.now();
        let Some(piece) = self.windows.take(entry, offset, length, now) else { return false };
        let (fd, facts, span) = (file.fd, file.facts, piece.span);
        let is_resident = || match piece.shows_residency {
            true => kernel.is_mapped_resident(span),
            false => kernel.is_resident(fd, offset, span.len() as u64),
        };
        let known = &self.shared.known_files;
        if !piece.is_found && !known.timed(facts.mount, facts.inode, is_resident) {
            self.windows.release(piece.window);
            return false;
        }
        self.windows.found(&piece);
        job.data.source = Source::Lent { window: piece.window, span, start };
        true
    }

    /// Forgets the bytes at hand; the leases of buffers have been released.
    pub(super) fn drop_source(&mut self, job: &mut Job) {
        if let Source::Lent { window, .. } = std::mem::replace(&mut job.data.source, Source::None) {
            self.windows.release(window);
        }
    }

    /// Does the same for an operation in the table.
    pub(super) fn drop_source_of(&mut self, slot: usize) {
        let source = std::mem::replace(&mut self.jobs[slot].data.source, Source::None);
        if let Source::Lent { window, .. } = source {
            self.windows.release(window);
        }
    }

    /// Looks at the file's size once all pages are back, gives the turn to the next operation once
    /// everything is in the socket, and limits the wait for the peer once the operation is to end.
    pub(super) fn settle_lent(&mut self, slot: usize) {
        let kernel = self.engine.kernel();
        let job = &mut self.jobs[slot];
        if job.operation.wants_check() {
            let size = job.file.as_ref().map(|file| self.files.size(file.entry as usize, kernel));
            let offset = job.operation.task().offset;
            match size {
                Some(Ok(Size::Known(size))) => job.operation.checked(size.saturating_sub(offset)),
                Some(Err(error)) => job.operation.check_failed(error.negative()),
                _ => job.operation.checked(0),
            }
        }
        let is_in_socket = matches!(job.operation.phase(), Phase::Acknowledging(_));
        if is_in_socket && !std::mem::replace(&mut job.sending.passed_on, true) {
            self.pass_on(slot);
        }
        let job = &self.jobs[slot];
        let is_held_up = job.operation.is_held_up() && !job.operation.is_sending();
        if is_held_up && job.sending.resets == 0 {
            self.limit_wait(slot);
        }
    }

    fn pass_on(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        self.schedule.pass_on(slot);
        if let Some(next) = self.schedule.first(socket) {
            if self.socket(socket).kept > 0 {
                self.let_begin(next);
            }
            self.ready(socket);
        }
    }

    fn limit_wait(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        // What MSG_MORE holds back cannot be acknowledged.
        let number = self.socket(socket).number();
        self.engine.kernel().push(number);
        self.look_for_pages(slot, ACKNOWLEDGED_WITHIN);
    }

    fn look_for_pages(&mut self, slot: usize, after: Duration) {
        let at = self.engine.kernel().now() + after;
        let job = &mut self.jobs[slot];
        job.sending.resets = job.sending.resets.saturating_add(1).min(LOOKS_MAX);
        let entry = (job.id, slot as u32, Alarm::Reset);
        if self.timers.set(at, entry).is_err() {
            // There is no memory for the alarm: no time is given, and the next event tries again.
            job.sending.resets = 0;
            self.reset(self.schedule.socket_of(slot));
        }
    }

    /// Takes the file's own pages from the socket of an ended operation, by a reset.
    pub(super) fn take_back_pages(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        if !job.operation.is_held_up() {
            return;
        }
        let looks = job.sending.resets;
        let socket = self.schedule.socket_of(slot);
        let may_forget = self.socket(socket).was_reset || self.shared.life.ending().is_some();
        if looks >= LOOKS_MAX && may_forget {
            let operation = &mut self.jobs[slot].operation;
            operation.was_reset();
            operation.forget_lent();
            return self.settle(slot);
        }
        self.reset(socket);
        self.look_for_pages(slot, LOOK_AGAIN);
    }

    // Resets a connection, unless that has been done, and ends the operations that have all their
    // bytes in it.
    fn reset(&mut self, socket: usize) {
        if self.socket(socket).was_reset || !self.disconnect(socket) {
            return;
        }
        let mut next = self.schedule.oldest(socket);
        while let Some(slot) = next {
            next = self.schedule.behind(slot);
            let job = &mut self.jobs[slot];
            if matches!(job.operation.phase(), Phase::Acknowledging(_)) {
                job.operation.fail(-libc::ECANCELED);
                job.operation.was_reset();
                if job.sending.resets == 0 {
                    self.look_for_pages(slot, LOOK_AGAIN);
                }
            }
        }
    }

    /// Resets a connection, unless that has been done.  False: that is not possible now, and the
    /// pages may still be sent.
    pub(super) fn disconnect(&mut self, socket: usize) -> bool {
        let state = self.socket(socket);
        let number = state.number();
        if state.was_reset {
            return true;
        }
        if self.engine.kernel().disconnect(number).is_err() {
            // A thread waits on the socket, or a filter refuses the call.
            self.engine.kernel().end_waits(number);
            return false;
        }
        Counters::add(&self.shared.counters.connections_reset, 1);
        self.socket(socket).was_reset = true;
        true
    }
}
