// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the data of an operation comes from: chooses the way, maps windows, starts reads into the
//! pool and takes their results.  Room in the pool is decided in `room`, sends in `send`.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Buffer, Handling, Inspection, Source};
use crate::decide::operation::Phase;
use crate::decide::plan::{self, Known, PageCache, Way, ZeroCopy};
use crate::decide::pool_size::POOL_PAGE;
use crate::decide::token::{Kind, Token};
use crate::engine::at_once::{self, LONG_MIN};
use crate::engine::helpers::{self, Task};
use crate::engine::kernel::Kernel;
use crate::engine::known_costs::Begun;
use crate::engine::{Engine, Read};
use crate::types::request::{RequestFlags, TO_EOF};

// The first read, in bytes, of a file that is not known to be quick.
const FIRST_READ: u64 = 64 << 10;

/// The outcome of [`Driver::find_data`].
pub(super) enum Found {
    /// The next bytes have been sent by reference, and the turn is over.
    Sent,
    /// They are at hand, or come later.  Some: the cost is to be measured, for [`Driver::learn`].
    Begun(Option<Begun>),
}

impl<E: Engine> Driver<E> {
    /// Chooses the way of the next bytes of the range and begins it.
    pub(super) fn find_data(&mut self, socket: usize, slot: usize, bytes: &mut u64) -> Found {
        const NOTHING: Found = Found::Begun(None);
        let chunk = self.shared.settings.chunk_bytes;
        let zero_copy = self.zero_copy_state(socket, slot);
        let may_keep = self.room.pool.may_keep(chunk);
        if !self.is_to_be_found(slot) {
            return NOTHING;
        }
        let Some(mut known) = self.facts_for_plan(slot, zero_copy, may_keep) else {
            return NOTHING;
        };
        if known.page_cache != PageCache::Excluded {
            let lent = Known { resident: true, ..known };
            if plan::choose(&lent) == Way::PageCache && self.take_piece(slot, chunk) {
                return NOTHING;
            }
            // Some of it is not in the page cache, or there is no window.
            known.page_cache = PageCache::Excluded;
        }
        known.by_reference = self.takes_references(socket, slot);
        if known.by_reference && self.send_kept(socket, slot, bytes) {
            return Found::Sent;
        }
        let length = known.remaining.min(chunk);
        if self.is_long_copy(slot, &known, length) {
            self.jobs[slot].data.handling = Handling::Copied;
            return Found::Begun(self.fetch_warm(slot, length));
        }
        if plan::depends_on_residency(&known) {
            known.resident = self.is_resident(slot, length);
        }
        let way = plan::choose(&known);
        if way == Way::ByReference && self.send_by_reference(socket, slot, chunk, bytes) {
            return Found::Sent;
        }
        self.jobs[slot].data.handling = match way {
            Way::PooledZeroCopy => Handling::ZeroCopy,
            _ => Handling::Copied,
        };
        let is_mapped = way == Way::Mapped && self.may_map(slot) && self.map_piece(slot);
        if !is_mapped {
            self.read_ahead(slot);
        }
        NOTHING
    }

    // Drops what was sent; returns whether a way for the next bytes is to be chosen: what is kept is
    // read ahead as far as there is room.
    fn is_to_be_found(&mut self, slot: usize) -> bool {
        debug_assert_eq!(self.jobs[slot].available(), 0);
        self.drop_source_of(slot);
        let job = &mut self.jobs[slot];
        job.data.passing = false;
        if job.operation.is_reading() {
            return false;
        }
        if job.is_held() {
            self.read_ahead(slot);
            let job = &mut self.jobs[slot];
            let exact = job.operation.task().flags.contains(RequestFlags::EXACT);
            if exact || !job.data.waits.for_pool || job.operation.is_reading() {
                return false;
            }
            job.data.passing = true;
        }
        true
    }

    // Returns what is known for the choice of a way, except whether the data is resident.
    pub(super) fn facts_for_plan(
        &mut self,
        slot: usize,
        zero_copy: ZeroCopy,
        may_keep: bool,
    ) -> Option<Known> {
        let chunk = self.shared.settings.chunk_bytes;
        let page_cache = self.page_cache(slot);
        let job = &self.jobs[slot];
        let file = job.file.as_ref()?;
        let files = &self.shared.known_files;
        let remaining = job.operation.file_length() - job.operation.range_sent();
        let now = || self.engine.kernel().now();
        Some(Known {
            remaining,
            resident: false,
            mappable: file.mappable && files.is_direct(&file.facts),
            exact_end: job.operation.task().length == TO_EOF,
            zero_copy,
            pool_has_room: may_keep,
            may_pin: self.zero_copies.allows(remaining.min(chunk), now),
            page_cache,
            by_reference: false,
        })
    }

    // Starts the next read into the pool, if one is due and there is room.
    pub(super) fn read_ahead(&mut self, slot: usize) {
        self.start_read(slot);
        if !self.jobs[slot].operation.is_reading() {
            self.discharge_job(slot);
        }
    }

    /// Returns the most bytes of one read into the pool.
    pub(super) fn read_max(&self) -> u64 {
        self.shared.settings.chunk_bytes.min(self.room.pool.lease_max() / 2).max(POOL_PAGE)
    }

    fn start_read(&mut self, slot: usize) {
        let chunk = self.read_max();
        let job = &mut self.jobs[slot];
        let held = job.is_held();
        if job.data.inspection != Inspection::Done {
            return;
        }
        // A window at hand is sent first, and data that is read must not replace it.
        let has_window = matches!(job.data.source, Source::Window(_) | Source::Lent { .. });
        if held && !job.data.may_hold || has_window {
            return;
        }
        let ahead = if held { u64::MAX } else { 1 };
        let Some((at, mut length)) = job.operation.want_read(ahead, chunk) else {
            return;
        };
        let Some(facts) = job.file.as_ref().map(|file| file.facts) else { return };
        let known_files = &self.shared.known_files;
        let direct = known_files.is_direct(&facts);
        if !held && known_files.is_to_be_tried(&facts) {
            // The rest may then be mapped, and needs no room in the pool.
            length = length.min(FIRST_READ);
        }
        if !direct && !self.charge(slot, facts.mount, length) {
            return;
        }
        if !self.reserve(slot) {
            return self.wait_for_pool(slot);
        }
        if let Some(reserved) = self.jobs[slot].reserved() {
            if at >= reserved {
                // A file of unknown size has more data than EXACT accepts.
                return self.jobs[slot].operation.fail(-libc::EMSGSIZE);
            }
            length = length.min(reserved - at);
        }
        let mut place = self.rest_of_lease(slot, at, length);
        place = place.or_else(|| self.lease_for(slot, at, length));
        if place.is_none() && self.jobs[slot].data.handling == Handling::ZeroCopy && !held {
            self.jobs[slot].data.handling = Handling::Copied;
            place = self.lease_for(slot, at, length);
        }
        let Some(place) = place else {
            if self.room.pool.resident() == 0 && (!held || self.room.pool.may_keep(POOL_PAGE)) {
                // The system gives no memory at all, so there is none to wait for.
                return self.jobs[slot].operation.fail(-libc::ENOMEM);
            }
            return self.wait_for_pool(slot);
        };
        self.read_into(slot, place, direct);
    }

    // Reads the next bytes of the range into `place`.  `direct`: see
    // [`crate::engine::known_files::KnownFiles::is_direct`].
    fn read_into(&mut self, slot: usize, place: Buffer, direct: bool) {
        let buffer = self.room.registered_buffer(place.lease, &mut self.engine);
        let job = &mut self.jobs[slot];
        if let Err(error) = job.reserve_buffer() {
            job.operation.fail(error.negative());
            return self.room.release(place.lease);
        }
        let Some(file) = &mut job.file else { return };
        let offset = job.operation.task().offset + place.start;
        let (align, bytes) = file.alignment(offset, place.length.into());
        let into = self
            .room
            .pool
            .span(place.lease)
            .part(place.skip as usize - align as usize, bytes as usize);
        job.data.reading = Some(place);
        job.operation.read_started();
        let (token, facts) = (Token::new(Kind::Read, slot, job.id), file.facts);
        let (offset, through_ring, file) = (offset - align, file.through_ring, file.fd);
        if !direct {
            let task = Task::Read { file, offset, into, must_wait: false };
            if let Err(error) = self.engine.start_call(helpers::BlockingCall { token, facts, task })
            {
                self.give_up_call(slot);
                self.jobs[slot].operation.fail(error.negative());
            }
            return;
        }
        let read = Read { file, facts, offset, into, buffer, through_ring };
        let through_ring = self.engine.read(token, read);
        if let Some(file) = &mut self.jobs[slot].file {
            file.through_ring = through_ring;
        }
    }

    pub(super) fn on_read(&mut self, token: Token, result: i32) {
        if self.take_back(token) {
            return;
        }
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        let job = &mut self.jobs[slot];
        let (Some(mut buffer), Some(file)) = (job.data.reading.take(), &job.file) else {
            return;
        };
        let wanted = job.operation.phase() == Phase::Running;
        let (align, _) = file.alignment(job.operation.task().offset + buffer.start, 0);
        let count = (result.max(0) as u32).saturating_sub(align as u32).min(buffer.length);
        let end = job.operation.task().offset + buffer.start + u64::from(count);
        let is_cut = wanted && u64::from(count) >= LONG_MIN && self.was_cut(slot, end);
        let (count, result) = if is_cut { (0, -libc::EAGAIN) } else { (count, result) };
        let job = &mut self.jobs[slot];
        if count > 0 && wanted {
            buffer.length = count;
            job.push(buffer);
            job.operation.read_done(buffer.start, count.into());
        } else {
            self.room.release(buffer.lease);
            let job = &mut self.jobs[slot];
            match -result {
                libc::EAGAIN | libc::EINTR => job.operation.read_again(),
                _ if result >= 0 => job.operation.read_done(buffer.start, 0),
                _ => job.operation.read_failed(result),
            }
        }
        self.discharge_job(slot);
        if self.jobs[slot].is_held() {
            self.read_ahead(slot);
            self.let_hold(slot);
        }
        self.proceed(slot);
    }

    // Returns whether a file whose bytes up to `end` have been read was truncated meanwhile, unless
    // that query may wait.
    fn was_cut(&self, slot: usize, end: u64) -> bool {
        let known = &self.shared.known_files;
        let Some(file) = &self.jobs[slot].file else { return false };
        !file.facts.direct
            && known.is_direct(&file.facts)
            && at_once::was_cut(self.engine.kernel(), file.fd, end)
    }

    // Gives up the data of an operation whose peer has been slow for a while: it makes room for
    // others and is read again later.
    pub(super) fn give_up_data(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        let is_waiting = self.socket(socket).waiting && self.schedule.first(socket) == Some(slot);
        let job = &mut self.jobs[slot];
        job.sending.lingers = false;
        // EAGER may have found room to keep its data since the alarm was set.
        if is_waiting
            && !job.is_held()
            && !job.operation.is_reading()
            && !job.operation.is_sending()
        {
            while let Some(lease) = job.take_lease() {
                self.room.release(lease);
            }
            let job = &mut self.jobs[slot];
            job.operation.forget_held();
            job.data.passing = false;
            if job.is_held() {
                // EAGER does not wait for its peer once there is room to keep data.
                self.read_ahead(slot);
                self.settle(slot);
            }
        }
    }

    // Releases the buffers that have been sent.
    pub(super) fn consume(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        let sent = job.operation.range_sent();
        let is_window = matches!(job.data.source, Source::Window(_) | Source::Lent { .. });
        if is_window && job.available() == 0 {
            return self.drop_source_of(slot);
        }
        let Source::Buffers(buffers) = &mut job.data.source else {
            return;
        };
        while let Some(front) = buffers.front().filter(|front| front.end() <= sent) {
            self.room.release(front.lease);
            buffers.pop_front();
        }
    }
}
