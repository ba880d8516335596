// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel, the peer and other processes do to a simulated operation.
#![forbid(unsafe_code)]

use super::wire::Part;
use super::world::{Buffer, File, Flight, Source, World};
use crate::decide::operation::{Phase, Portion};
use crate::types::completion::CompletionFlags;
use crate::types::file::Size;
use crate::types::request::RequestFlags;

/// Pages of the simulated files.
const PAGE: u64 = 16;

impl World {
    // ---- the file ------------------------------------------------------------------

    /// Somebody writes to the file, cuts it or lets it grow.
    pub(super) fn change_file(&mut self) {
        let choice = if self.sends_from_window() { 3 } else { self.script.pick(4) };
        let Some(file) = self.file else { return };
        let size = match choice {
            0 => file.size,
            1 => self.script.at_most(file.size),
            2 => file.size + self.script.pick(20),
            // To a place in what is being sent.
            _ => self.task.offset + self.wire.range() + self.script.pick(self.chunk.min(40) + 1),
        };
        self.resize(size);
    }

    pub(super) fn resize(&mut self, size: u64) {
        self.epoch += 1;
        if let Some(file) = &mut self.file {
            file.size = size;
        }
        if let Some(flight) = &mut self.sending {
            flight.sizes.push(size);
        }
    }

    fn in_file(&self) -> u64 {
        self.file.map_or(0, |file| file.size.saturating_sub(self.task.offset))
    }

    // ---- reads ---------------------------------------------------------------------

    /// The read that is with the kernel completes, somehow.
    pub(super) fn finish_read(&mut self) {
        if self.reading.is_none() {
            return;
        }
        match self.script.pick(24) {
            0..=7 => self.read_all(),
            18 | 19 if matches!(self.operation.phase(), Phase::Ending(_)) => self.abandon_read(),
            8..=19 => {
                let short = self.script.pick(self.chunk.min(1 << 15)) + 1;
                self.read_gives(short);
            }
            20 => self.on_read(Err(libc::EAGAIN)),
            21 => self.on_read(Err(libc::EINTR)),
            22 if self.script.pick(3) == 1 => self.on_read(Err(libc::EIO)),
            _ => self.read_all(),
        }
    }

    // It does not come back, and the operation that has ended goes without it.
    fn abandon_read(&mut self) {
        self.reading = None;
        self.operation.read_again();
        self.settle();
    }

    pub(super) fn read_all(&mut self) {
        self.read_gives(u64::MAX);
    }

    /// It gives up to `most` bytes; 0 only at the end of the file.
    pub(super) fn read_gives(&mut self, most: u64) {
        if let Some((at, length)) = self.reading {
            let count = length.min(self.in_file().saturating_sub(at)).min(most);
            self.on_read(Ok(count));
        }
    }

    // ---- sends ---------------------------------------------------------------------

    /// The send that is with the kernel completes, somehow.
    pub(super) fn finish_send(&mut self) {
        let Some(flight) = &self.sending else { return };
        let length = flight.portion.len();
        match self.script.pick(24) {
            0..=7 => self.send_takes(u64::MAX),
            8..=17 => {
                let part = self.script.at_most(length);
                self.send_takes(part);
            }
            18 => self.send_takes(0),
            19 => self.send_fails(libc::EAGAIN),
            20 => self.send_fails(libc::EINTR),
            21 => self.send_fails(libc::ENOBUFS),
            22 if self.sends_from_window() => self.page_is_lost(),
            22 if flight.zero_copy => self.send_fails(libc::EOPNOTSUPP),
            _ if self.script.pick(4) > 0 => self.send_takes(u64::MAX),
            _ => self.send_fails(libc::EPIPE),
        }
    }

    /// It takes up to `most` bytes.
    pub(super) fn send_takes(&mut self, most: u64) {
        let Some(flight) = self.sending.take() else { return };
        let sizes = flight.sizes.len() as u64;
        let seen = flight.sizes[self.script.pick(sizes) as usize];
        let whole = flight.portion.len();
        let possible = if flight.epoch.is_none() { self.readable(&flight, seen) } else { whole };
        if possible == 0 {
            return self.page_is_missing();
        }
        let count = possible.min(most);
        let gives = self.file_gives();
        self.deliver(&flight, count, seen);
        let was = match flight.zero_copy {
            true => CompletionFlags::empty(),
            false => CompletionFlags::WAS_COPIED,
        };
        let available = if flight.epoch.is_none() { gives } else { u64::MAX };
        self.note_way(&flight, count);
        self.oracle.learn(available, self.wire.range());
        self.oracle.sent(self.wire.len());
        self.operation.sent(count, was, available);
        if flight.zero_copy && self.script.pick(2) == 0 {
            let ways = [CompletionFlags::WAS_COPIED, CompletionFlags::WAS_ZEROCOPY];
            let was = ways[self.script.pick(2) as usize];
            self.was_due |= was;
            self.was_possible |= was;
            self.operation.mark(was);
        }
        self.consume();
        let is_full = count < whole && self.operation.ended().is_none();
        if is_full { self.wait_for_peer() } else { self.proceed() }
    }

    // How many bytes of a portion that goes from a mapping there are, when the file has `size`:
    // up to the end of its last page.
    fn readable(&self, flight: &Flight, size: u64) -> u64 {
        let Portion { header, range, .. } = flight.portion;
        let mapped = size.next_multiple_of(PAGE).saturating_sub(self.task.offset + range.0);
        if mapped >= range.1 {
            return flight.portion.len();
        }
        u64::from(header.1) + mapped
    }

    // What the driver asks after a send from a mapping.
    fn file_gives(&self) -> u64 {
        match self.file.map(|file| file.stat()) {
            Some(Size::Known(size)) => size.saturating_sub(self.task.offset),
            _ => 0,
        }
    }

    // The send found no page behind the mapping.
    fn page_is_missing(&mut self) {
        let gives = self.file_gives();
        self.oracle.learn(gives, self.wire.range());
        self.oracle.sent(self.wire.len());
        self.operation.sent(0, CompletionFlags::empty(), gives);
        self.source = Source::None;
        if let Some(file) = &mut self.file {
            file.mappable = false;
        }
        self.proceed();
    }

    // A page could not be read from the disk, or the file was cut and has grown again.
    fn page_is_lost(&mut self) {
        self.sending = None;
        self.page_is_missing();
    }

    // Puts the first `count` bytes of a portion on the wire.
    fn deliver(&mut self, flight: &Flight, count: u64, seen: u64) {
        let Portion { header, range, zeros, trailer, more } = flight.portion;
        if count > 0 {
            self.sent_more = more;
        }
        let mut left = count;
        let mut take = |length: u64| {
            let taken = length.min(left);
            left -= taken;
            taken
        };
        self.wire.put(Part::Header, header.0.into(), take(header.1.into()));
        let (from, length) = (range.0, take(range.1));
        if length > 0 {
            let epoch = flight.epoch.unwrap_or(self.epoch);
            let promised = self.told.is_none_or(|told| epoch <= told);
            assert!(promised, "data from after the snapshot went out");
            let first = *self.first_sent.get_or_insert(self.epoch);
            assert!(
                !self.has(RequestFlags::EXACT) || epoch <= first,
                "EXACT: read after the first byte went"
            );
        }
        // Zeros from beyond the end count as the file's where it has grown again since.
        let seen = seen.saturating_sub(self.task.offset).max(self.in_file());
        let real = match flight.epoch {
            Some(_) => length,
            None => length.min(seen.saturating_sub(from)),
        };
        self.wire.put(Part::File, from, real);
        self.wire.put(Part::Hole, from + real, length - real);
        self.wire.put(Part::Padding, range.0 + range.1, take(zeros));
        self.wire.put(Part::Trailer, trailer.0.into(), take(trailer.1.into()));
    }

    fn note_way(&mut self, flight: &Flight, count: u64) {
        let header = u64::from(flight.portion.header.1);
        if flight.zero_copy || count <= header {
            return;
        }
        if flight.portion.range.1 > 0 {
            self.was_due |= CompletionFlags::WAS_COPIED;
        }
        // Padding is taken for the file's data here.
        if flight.portion.range.1 + flight.portion.zeros > 0 {
            self.was_possible |= CompletionFlags::WAS_COPIED;
        }
    }

    fn send_fails(&mut self, errno: i32) {
        let Some(flight) = self.sending.take() else { return };
        match errno {
            libc::EOPNOTSUPP | libc::ENOBUFS if flight.zero_copy => {
                self.operation.send_refused();
                self.stop_zero_copy();
                self.proceed();
            }
            libc::EAGAIN => {
                self.operation.send_refused();
                self.wait_for_peer();
            }
            libc::EINTR => {
                self.operation.send_refused();
                self.proceed();
            }
            libc::ENOBUFS => {
                self.operation.send_refused();
                self.retry = true;
                self.settle();
            }
            _ => self.fail_send(errno),
        }
    }

    /// The socket has room again.
    pub(super) fn peer_reads(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.proceed();
        }
    }

    // ---- the calling thread --------------------------------------------------------

    /// Does what can be done on the calling thread (src/inline.rs); the rest goes on elsewhere.
    pub(super) fn run_inline(&mut self) {
        let size = match self.file {
            None => Size::NoFile,
            Some(_) if self.has(RequestFlags::EXACT) => return,
            Some(File { size, hides_size: false, .. }) if size > 0 => Size::Known(size),
            Some(_) => return,
        };
        self.is_inline = true;
        match size {
            Size::Known(size) => {
                self.oracle.learn(size.saturating_sub(self.task.offset), 0);
            }
            _ => self.oracle.learn(0, 0),
        }
        self.oracle.sent(0);
        self.operation.start(size);
        self.settle();
        if self.done.is_none() && self.fill() && self.done.is_none() {
            self.send_inline();
        }
        if self.done.is_none() {
            self.is_inline = false;
            self.source = Source::None;
            self.operation.forget_held();
        }
    }

    fn send_inline(&mut self) {
        let held = self.covered();
        let Some(portion) = self.operation.want_send(held, held) else { return };
        let sizes = vec![0];
        let flight = Flight { portion, epoch: Some(self.epoch), zero_copy: false, sizes };
        self.operation.send_started(portion.more);
        let count = match self.script.pick(8) {
            0..=2 => portion.len(),
            3..=5 => self.script.at_most(portion.len()),
            6 => return self.fail_send(libc::EPIPE),
            _ => return self.operation.send_refused(),
        };
        self.deliver(&flight, count, 0);
        self.note_way(&flight, count);
        self.oracle.sent(self.wire.len());
        self.operation.sent(count, CompletionFlags::WAS_COPIED, u64::MAX);
        self.consume();
        self.settle();
    }

    // Reads the whole range at once.  False: not without waiting.
    fn fill(&mut self) -> bool {
        if self.script.pick(4) == 1 {
            self.change_file();
        }
        let wanted = self.operation.file_length();
        if wanted == 0 {
            return true;
        }
        if self.script.pick(8) == 7 {
            return false;
        }
        let shorter = self.script.pick(4) == 1;
        let count = if shorter { self.script.at_most(wanted - 1).max(1) } else { wanted };
        let count = count.min(self.in_file());
        self.operation.read_started();
        if count == 0 {
            self.oracle.learn(0, self.wire.range());
        } else {
            self.push(Buffer { start: 0, length: count, epoch: self.epoch });
        }
        self.operation.read_done(0, count);
        self.oracle.sent(self.wire.len());
        self.settle();
        count == wanted
    }
}
