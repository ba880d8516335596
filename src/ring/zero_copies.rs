// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zero-copy sends whose memory the kernel still uses, and what was learnt from them.  A lease is
//! released only after the notification, and pages of a file are lent until then.  Sockets on which
//! the kernel copies anyway get plain sends.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{Buffer, Source};
use super::pool::Lease;
use crate::collections::Table;
use crate::decide::budget::Budget;
use crate::decide::operation::Portion;
use crate::decide::plan;
use crate::decide::plan::{PageCache, ZeroCopy};
use crate::decide::token::{Kind, Token};
use crate::engine::kernel::Kernel;
use crate::engine::{Engine, ZeroCopySend};
use crate::sys;
use crate::types::completion::CompletionFlags;

use crate::types::errno::Result;
use crate::types::stats::Counters;
use std::time::Instant;

// After this many copies in a row, zero-copy is given up on a socket where it was real.
const COPIED_MAX: u32 = 4;

// The most zero-copy sends in flight before one has been real.
const TRIALS_MAX: usize = 4;

// After this many sockets in a row on which zero-copy was useless, it is tried on one socket in 64.
const USELESS_MAX: u32 = 4;

/// A zero-copy send whose memory the kernel still uses.
pub(super) struct ZeroCopyUse {
    /// The memory in the pool; None: the file's own pages.
    pub(super) lease: Option<Lease>,
    /// The slot of the operation in the table of jobs, and its id.
    pub(super) slot: u32,
    pub(super) id: u64,
    pub(super) cookie: u64,
    /// Bytes passed to the kernel and counted as pinned; 0 after [`ZeroCopies::unpin`].
    pub(super) asked: u64,
    /// Bytes that the socket took.
    pub(super) sent: u64,
    generation: u64,
}

impl ZeroCopyUse {
    /// Describes a send of `asked` bytes in `lease`, for the operation `id` in `slot`.
    pub(super) fn new(
        lease: Option<Lease>,
        (slot, id): (usize, u64),
        cookie: u64,
        asked: u64,
    ) -> Self {
        ZeroCopyUse { lease, slot: slot as u32, id, cookie, asked, sent: 0, generation: 0 }
    }
}

/// The zero-copy sends of a context.
pub(super) struct ZeroCopies {
    uses: Table<ZeroCopyUse>,
    budget: Budget,
    /// How many sockets in a row had no use for zero-copy.
    useless_in_a_row: u32,
    /// Whether zero-copy has been real on any socket.
    was_real: bool,
    sockets_seen: u32,
    generation: u64,
    /// The socket of the latest notification, and whether its send was real.
    latest: (u64, bool),
}

impl Default for ZeroCopies {
    fn default() -> ZeroCopies {
        ZeroCopies {
            uses: Table::default(),
            budget: Budget::new(sys::PAGE),
            useless_in_a_row: 0,
            was_real: false,
            sockets_seen: 0,
            generation: 0,
            latest: (0, false),
        }
    }
}

impl ZeroCopies {
    pub(super) fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Returns whether a send of this length may pin its memory now.
    pub(super) fn allows(&self, length: u64, now: impl Fn() -> Instant) -> bool {
        self.budget.allows(length, now)
    }

    /// Makes room for one more send.
    pub(super) fn reserve(&mut self) -> Result<()> {
        self.uses.reserve()
    }

    /// Records a send that goes to the kernel, for which there is room; returns its slot and
    /// generation.
    pub(super) fn begin(&mut self, mut begun: ZeroCopyUse) -> (usize, u64) {
        self.budget.take(begun.asked);
        self.generation += 1;
        begun.generation = self.generation;
        (self.uses.insert(begun).expect("there is room"), self.generation)
    }

    /// Returns the send of a token.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut ZeroCopyUse> {
        self.uses.get_mut(token.slot()).filter(|used| token.is_of(used.generation))
    }

    /// Records that the memory of a send was within the limit.
    pub(super) fn fitted(&mut self) {
        self.budget.fitted();
    }

    /// Records that the kernel refused a send for lack of memory.
    pub(super) fn refused(&mut self, now: Instant) {
        self.budget.refused(now);
    }

    /// Counts the bytes of a send as no longer pinned, though its notification may follow.
    pub(super) fn unpin(&mut self, token: Token) {
        if let Some(used) = self.get_mut(token) {
            let asked = std::mem::take(&mut used.asked);
            self.budget.give_back(asked); // counts two pages even for no bytes, so only once
        }
    }

    /// Removes a send whose memory the kernel no longer uses.
    pub(super) fn end(&mut self, token: Token) -> Option<ZeroCopyUse> {
        self.get_mut(token)?;
        let used = self.uses.remove(token.slot());
        if used.asked > 0 {
            self.budget.give_back(used.asked);
        }
        Some(used)
    }

    /// Returns whether the kernel has copied a send, by its notification.  A send that shares a packet
    /// with the one before is always reported as copied, directly after that one, whose outcome it
    /// shares (io_link_skb() in io_uring/notif.c, Linux 6.10).
    fn was_copied(&mut self, cookie: u64, copied: bool) -> bool {
        let copied = copied && self.latest != (cookie, true);
        self.latest = (cookie, !copied);
        copied
    }

    /// Records whether zero-copy was real on one more socket.
    pub(super) fn learn(&mut self, real: bool) {
        self.useless_in_a_row = if real { 0 } else { self.useless_in_a_row.saturating_add(1) };
        self.was_real |= real;
    }

    /// Returns whether a trial on a new socket is not worthwhile, judged by earlier sockets.
    pub(super) fn is_hopeless(&mut self) -> bool {
        self.sockets_seen = self.sockets_seen.wrapping_add(1);
        self.useless_in_a_row >= USELESS_MAX && self.sockets_seen % 64 != 0
    }

    /// Returns whether enough trials are in flight: their data stays in the pool until the peer
    /// takes it.
    pub(super) fn has_enough_trials(&self) -> bool {
        self.uses.len() >= TRIALS_MAX && !self.was_real
    }

    /// Releases memory after a peak; no send is in flight.
    pub(super) fn shrink(&mut self) {
        self.uses.shrink();
    }
}

impl<E: Engine> Driver<E> {
    pub(super) fn send_zero_copy(&mut self, socket: usize, slot: usize, portion: &Portion) -> bool {
        let job = &mut self.jobs[slot];
        if portion.header.1 > 0 || portion.range.1 == 0 {
            return false;
        }
        let lease = match &job.data.source {
            Source::Lent { .. } => None,
            Source::Buffers(buffers) if job.data.zero_copy => match buffers.front() {
                Some(&Buffer { lease, .. }) => Some(lease),
                None => return false,
            },
            _ => return false,
        };
        let now = || self.engine.kernel().now();
        let is_allowed = self.zero_copies.allows(portion.range.1, now);
        if !is_allowed || self.zero_copies.reserve().is_err() {
            return false;
        }
        let span = job.next_bytes(&self.room.pool, portion.range);
        let more = portion.more || portion.zeros > 0 || portion.trailer.1 > 0;
        job.operation.send_started(more);
        let begun = ZeroCopyUse::new(lease, (slot, job.id), job.cookie, portion.range.1);
        if let Some(lease) = lease {
            self.room.pool.retain(lease);
        }
        let send = ZeroCopySend {
            socket: self.socket(socket).number(),
            span,
            flags: if more { libc::MSG_MORE } else { 0 },
        };
        let (index, generation) = self.zero_copies.begin(begun);
        let state = &mut self.socket(socket).zero_copy;
        if *state == Some(ZeroCopy::Untried) {
            *state = Some(ZeroCopy::Trying);
        }
        self.engine.send_zero_copy(Token::new(Kind::ZeroCopy, index, generation), send);
        true
    }

    pub(super) fn on_zero_copy_sent(&mut self, token: Token, result: i32, more: bool) {
        let Some(used) = self.zero_copies.get_mut(token) else {
            return;
        };
        used.sent = result.max(0) as u64;
        let (slot, id, cookie, asked) = (used.slot as usize, used.id, used.cookie, used.asked);
        let used_lease = used.lease;
        let refused = matches!(-result, libc::ENOMEM | libc::ENOBUFS);
        if refused {
            // A notification may follow all the same.
            self.zero_copies.unpin(token);
        }
        let is_lent = used_lease.is_none();
        if !more {
            self.end_zero_copy(token);
        }
        if refused {
            self.zero_copies.refused(self.engine.kernel().now());
        } else {
            // Also if the socket took nothing: the kernel counts the memory before it sends.
            self.zero_copies.fitted();
        }
        if self.jobs.get(slot).is_none_or(|job| job.id != id) {
            return;
        }
        if result >= 0 {
            let job = &mut self.jobs[slot];
            if is_lent && more {
                job.operation.lend();
            }
            job.operation.sent(result as u64, CompletionFlags::empty(), u64::MAX);
            job.sending.unresolved += result as u64;
            Counters::add(&self.shared.counters.wire_bytes, result as u64);
            Counters::add(&self.shared.counters.file_bytes, result as u64);
            self.progressed(slot);
            self.consume(slot);
            if (result as u64) < asked {
                return self.wait_for_peer(slot);
            }
            return self.proceed(slot);
        }
        if let Some(socket) = self.schedule.find(cookie) {
            // No notification will report the outcome of the trial.
            let state = &mut self.socket(socket).zero_copy;
            *state = state.filter(|state| *state != ZeroCopy::Trying).or(Some(ZeroCopy::Untried));
        }
        match -result {
            libc::EAGAIN | libc::EINTR => self.on_send_error(slot, result),
            libc::EFAULT if is_lent => self.on_send_error(slot, result),
            // Not supported on this socket: copy instead.
            libc::EOPNOTSUPP | libc::EINVAL | libc::EFAULT => {
                self.learn_zero_copy(cookie, false);
                self.send_copy(slot);
            }
            // Not with the memory that may be pinned now, which says nothing about the socket.
            libc::ENOMEM | libc::ENOBUFS => self.send_copy(slot),
            _ => self.on_send_error(slot, result),
        }
    }

    // Sends bytes at hand as a copy instead of with zero-copy.
    pub(super) fn send_copy(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        job.operation.send_refused();
        job.data.zero_copy = false;
        if matches!(job.data.source, Source::Lent { .. }) {
            self.drop_source_of(slot);
        }
        self.proceed(slot);
    }

    // Releases what a send used; returns what is known of it.
    fn end_zero_copy(&mut self, token: Token) -> Option<ZeroCopyUse> {
        let used = self.zero_copies.end(token)?;
        if let Some(lease) = used.lease {
            self.room.release(lease);
        }
        Some(used)
    }

    pub(super) fn on_released(&mut self, token: Token, copied: bool) {
        let Some(used) = self.end_zero_copy(token) else {
            return;
        };
        if used.sent == 0 {
            return;
        }
        let copied = self.zero_copies.was_copied(used.cookie, copied);
        let counters = &self.shared.counters;
        Counters::add(&counters.zerocopy_notified, 1);
        if copied {
            Counters::add(&counters.zerocopy_copied_anyway, 1);
            Counters::add(&counters.bytes_copied, used.sent);
        } else {
            Counters::add(&counters.bytes_zerocopy, used.sent);
            let lent = if used.lease.is_none() { used.sent } else { 0 };
            Counters::add(&counters.bytes_page_cache, lent);
        }
        if !copied || !self.was_copied_once(used.cookie) {
            self.learn_zero_copy(used.cookie, !copied);
        }
        let slot = used.slot as usize;
        if self.jobs.get(slot).is_some_and(|job| job.id == used.id) {
            let job = &mut self.jobs[slot];
            job.sending.unresolved = job.sending.unresolved.saturating_sub(used.sent);
            job.operation.mark(if copied {
                CompletionFlags::WAS_COPIED
            } else {
                CompletionFlags::WAS_ZEROCOPY
            });
            if used.lease.is_none() {
                job.operation.give_back();
                self.settle(slot);
            }
        }
    }

    pub(super) fn learn_zero_copy(&mut self, cookie: u64, real: bool) {
        self.zero_copies.learn(real);
        if let Some(socket) = self.schedule.find(cookie) {
            let state = if real { ZeroCopy::Real } else { ZeroCopy::Useless };
            let socket = self.socket(socket);
            socket.zero_copy = Some(state);
            socket.copied = 0;
        }
    }

    // Returns whether a copy is to be ignored: where zero-copy has been real, the kernel may still
    // copy occasionally, for example a retransmitted packet.
    pub(super) fn was_copied_once(&mut self, cookie: u64) -> bool {
        let Some(socket) = self.schedule.find(cookie) else {
            return false;
        };
        let socket = self.socket(socket);
        socket.copied += 1;
        socket.zero_copy == Some(ZeroCopy::Real) && socket.copied < COPIED_MAX
    }

    pub(super) fn zero_copy_state(&mut self, socket: usize, slot: usize) -> ZeroCopy {
        let remaining = {
            let operation = &self.jobs[slot].operation;
            operation.file_length().saturating_sub(operation.range_sent())
        };
        let least = match self.page_cache(slot) {
            PageCache::Mapped => plan::PAGE_CACHE_MAPPED_MIN,
            PageCache::NotMapped => plan::PAGE_CACHE_MIN,
            PageCache::Excluded => plan::ZERO_COPY_MIN,
        };
        if remaining < least || !self.engine.has_zero_copy() {
            return ZeroCopy::Useless;
        }
        if let Some(state) = self.socket(socket).known_zero_copy() {
            return state;
        }
        let fd = self.socket(socket).number();
        let is_local = !self.engine.kernel().leaves_the_machine(fd);
        self.socket(socket).is_local = is_local;
        let state = if is_local || self.zero_copies.is_hopeless() {
            ZeroCopy::Useless
        } else if self.zero_copies.has_enough_trials() && least == plan::ZERO_COPY_MIN {
            return ZeroCopy::Useless;
        } else {
            ZeroCopy::Untried
        };
        self.socket(socket).zero_copy = Some(state);
        state
    }
}
