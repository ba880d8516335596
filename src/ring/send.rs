// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends of the next bytes, and their results.  Zero-copy sends are in `zero_copies`, waits for
//! slow peers in `peers`.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Handling, Job, Source};
use crate::decide::costs::COPY_MIN;
use crate::decide::operation::Portion;
use crate::decide::pace::Found;
use crate::decide::plan::ZeroCopy;
use crate::decide::token::{Kind, Token};
use crate::engine::at_once::{INLINE_MAX, Passed};
use crate::engine::kernel::Kernel;
use crate::engine::{Engine, at_once};
use crate::sys;
use crate::types::completion::CompletionFlags;

use crate::types::errno::Errno;
use crate::types::file::FileFacts;
use crate::types::stats::Counters;

impl<E: Engine> Driver<E> {
    // Sends a short range at once, on the first turn, if all of it is in the page cache and the
    // socket has room: that costs less than choosing a way.  True: it was tried.
    pub(super) fn pass_at_once(&mut self, socket: usize, slot: usize, bytes: &mut u64) -> bool {
        let most = self.at_once_max();
        let job = &mut self.jobs[slot];
        if std::mem::replace(&mut job.sending.tried_at_once, true) || !job.is_short(most) {
            return false;
        }
        if self.zero_copy_state(socket, slot) != ZeroCopy::Useless {
            return false;
        }
        if self.takes_references(socket, slot) {
            return self.send_kept(socket, slot, bytes);
        }
        let job = &mut self.jobs[slot];
        let file = job.file.as_ref().map(|file| (file.fd, file.facts));
        let known = &self.shared.known_files;
        let offset = job.operation.task().offset + job.operation.range_sent();
        let is_at_once =
            |facts: &FileFacts| known.is_direct(facts) && !known.streams.has(facts.inode, offset);
        if file.is_some_and(|(_, facts)| !is_at_once(&facts)) {
            return false;
        }
        let fd = self.socket(socket).number();
        let job = &mut self.jobs[slot];
        let known = &self.shared.known_files;
        let (kernel, staged) = (self.engine.kernel(), &job.staged);
        let pass = |scratch: &mut [u8]| {
            let parts = |portion: &Portion, data| staged.parts(portion, data);
            at_once::pass(kernel, fd, file, &mut job.operation, known, scratch, parts)
        };
        let Ok(Some(Passed { asked, sent })) = self.room.scratch.with(pass) else { return false };
        *bytes = asked;
        self.jobs[slot].sending.asked = asked as u32;
        self.sent(slot, sent.map_or_else(Errno::negative, |count| count as i32));
        true
    }

    pub(super) fn at_once_max(&self) -> u64 {
        INLINE_MAX.min(self.shared.settings.chunk_bytes)
    }

    // Sends the header by itself, so that pages of the file can follow in the same turn.  True: the
    // turn is over.
    pub(super) fn send_header_ahead(&mut self, socket: usize, slot: usize) -> bool {
        let job = &mut self.jobs[slot];
        if !matches!(job.data.source, Source::Lent { .. }) {
            return false;
        }
        let available = job.available();
        let portion = job.operation.want_send(available, available);
        let Some(portion) = portion.filter(|portion| portion.header.1 > 0) else { return false };
        let id = job.id;
        self.send_header(socket, slot, &portion);
        let goes_on = |job: &Job| job.id == id && matches!(job.data.source, Source::Lent { .. });
        !self.jobs.get(slot).is_some_and(goes_on)
    }

    /// Sends the header of a portion, announcing more; the operation may end with it.
    pub(super) fn send_header(&mut self, socket: usize, slot: usize, portion: &Portion) {
        let job = &mut self.jobs[slot];
        let header = job.staged.header(portion.header);
        job.operation.send_started(true);
        job.sending.asked = portion.header.1;
        let number = self.socket(socket).number();
        let kernel = self.engine.kernel();
        let sent = kernel.send(number, &[header], kernel.more_flag(number, true));
        self.sent(slot, sent.map_or_else(Errno::negative, |count| count as i32));
    }

    // Sends the next portion if it is at hand.
    pub(super) fn send_next(&mut self, socket: usize, slot: usize, bytes: &mut u64) -> bool {
        let chunk = self.shared.settings.chunk_bytes;
        let job = &mut self.jobs[slot];
        let available = job.available();
        let Some(mut portion) = job.operation.want_send(available, chunk) else {
            return false;
        };
        *bytes = portion.len();
        if let Some(length) = self.send_zero_copy(socket, slot, &portion) {
            *bytes = length;
            return true;
        }
        let job = &mut self.jobs[slot];
        if matches!(job.data.source, Source::Lent { .. }) {
            return self.find_other_way(socket, slot);
        }
        let by_itself = job.data.handling == Handling::ZeroCopy
            && self.zero_copies.allows(portion.range.1, || self.engine.kernel().now());
        if by_itself && portion.range.1 > 0 && portion.header.1 > 0 {
            // The header is sent ahead on its own, so that the data can be sent with zero-copy.
            portion.range.1 = 0;
            portion.zeros = 0;
            portion.trailer.1 = 0;
            portion.more = true;
        }
        let data = job.next_bytes(&self.room.pool, portion.range);
        let parts = job.staged.parts(&portion, data);
        job.operation.send_started(portion.more);
        job.sending.asked = parts.iter().map(|part| part.len() as u32).sum();
        let token = Token::new(Kind::Send, slot, job.id);
        let mut used = [parts[0]; sys::PARTS_MAX];
        let mut count = 0;
        for part in parts.into_iter().filter(|part| part.len() > 0) {
            used[count] = part;
            count += 1;
        }
        let fd = self.socket(socket).number();
        let flags = self.engine.kernel().more_flag(fd, portion.more);
        if portion.range.1 >= COPY_MIN {
            // The copy takes longer than a call of its own.
            let sent = self.engine.kernel().send(fd, &used[..count], flags);
            *bytes = sent.map_or(0, |count| count as u64);
            self.sent(slot, sent.map_or_else(Errno::negative, |count| count as i32));
        } else {
            self.engine.send(token, fd, &used[..count], flags);
        }
        true
    }

    // Gives lent pages up that cannot be sent without a copy now.
    fn find_other_way(&mut self, socket: usize, slot: usize) -> bool {
        if let Some(file) = &mut self.jobs[slot].file {
            file.mappable = false;
        }
        self.drop_source_of(slot);
        self.ready(socket);
        true
    }

    pub(super) fn on_sent(&mut self, token: Token, result: i32) {
        if let Some(slot) = self.slot_of(token) {
            self.sent(slot, result);
        }
    }

    fn sent(&mut self, slot: usize, result: i32) {
        if result >= 0 {
            let job = &mut self.jobs[slot];
            let before = job.operation.range_sent();
            let in_file = job.available_in_file(self.engine.kernel());
            job.operation.sent(result as u64, CompletionFlags::WAS_COPIED, in_file);
            let file_bytes = job.operation.range_sent() - before;
            if job.operation.has_sent_staged() {
                // A slow peer may delay the rest for long.
                self.shared.staging.release(std::mem::take(&mut job.staged));
            }
            let is_full = result < job.sending.asked as i32 && job.operation.ended().is_none();
            let counters = &self.shared.counters;
            Counters::add(&counters.wire_bytes, result as u64);
            Counters::add(&counters.file_bytes, file_bytes);
            Counters::add(&counters.bytes_copied, file_bytes);
            self.progressed(slot);
            self.consume(slot);
            if is_full { self.wait_for_peer(slot) } else { self.proceed(slot) }
        } else {
            self.on_send_error(slot, result);
        }
    }

    // Records that the socket has taken bytes.
    pub(super) fn progressed(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        let state = self.socket(socket);
        state.has_looked = false;
        state.was_reset = false;
        state.pace.progressed();
    }

    pub(super) fn on_send_error(&mut self, slot: usize, result: i32) {
        let job = &mut self.jobs[slot];
        match -result {
            libc::EAGAIN => {
                job.operation.send_refused();
                self.wait_for_peer(slot);
            }
            libc::EINTR => {
                job.operation.send_refused();
                self.proceed(slot);
            }
            libc::EFAULT if matches!(job.data.source, Source::Window(_) | Source::Lent { .. }) => {
                // The page is missing: the file was truncated, or reading it failed.  A read finds
                // out which.
                let in_file = job.available_now(self.engine.kernel());
                job.operation.sent(0, CompletionFlags::empty(), in_file);
                self.drop_source_of(slot);
                let job = &mut self.jobs[slot];
                if let Some(file) = &mut job.file {
                    file.mappable = false;
                }
                self.proceed(slot);
            }
            libc::ENOBUFS | libc::ENOMEM => {
                // The kernel does not report when memory is available again.
                job.operation.send_refused();
                self.look_later(slot, Found::Refusal);
                self.settle(slot);
            }
            _ => {
                job.operation.send_failed(result);
                self.settle(slot);
            }
        }
    }
}
