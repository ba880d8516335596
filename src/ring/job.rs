// SPDX-License-Identifier: MIT OR Apache-2.0
//! One operation in flight and everything it holds: its file, data, staged bytes and waits.  The
//! state of the transfer itself is in `decide::operation`.
#![forbid(unsafe_code)]

use crate::collections::{Numbered, ShortQueue};
use crate::decide::frozen::FROZEN_MIN;
use crate::decide::operation::{Operation, Phase};
use crate::decide::pool_size::POOL_PAGE;
use crate::engine::kernel::Kernel;
use crate::handoff::staging::Staged;
use crate::handoff::submissions::{Answer, Submission};
use crate::ring::pool::{Lease, Pool};
use crate::sys::{FileWindow, Span};
use crate::types::completion::{Completion, Event as Report};
use crate::types::errno::Result;
use crate::types::file::{Content, FileFacts, FileKind, Size};
use crate::types::request::RequestFlags;

use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The file of an operation.
pub(super) struct File {
    pub(super) fd: RawFd,
    /// Its entry among the driver's open files, which owns the descriptor.
    pub(super) entry: u32,
    pub(super) facts: FileFacts,
    /// Whether windows may be mapped; cleared once one cannot be used.
    pub(super) mappable: bool,
    /// See [`crate::engine::Read::through_ring`].
    pub(super) through_ring: bool,
    /// It is registered, so that windows of it stay.
    pub(super) is_registered: bool,
    /// The operation has ended while a call on the file was in flight.
    pub(super) leaving: bool,
}

impl File {
    /// Returns an open file of which nothing is known but these facts.
    pub(super) fn new(fd: RawFd, entry: usize, facts: FileFacts) -> File {
        File {
            fd,
            entry: entry as u32,
            facts,
            mappable: true,
            through_ring: false,
            is_registered: false,
            leaving: false,
        }
    }

    /// Returns the aligned read for `length` bytes at `offset`: the bytes read before them, and the
    /// length of the whole read.  O_DIRECT requires whole blocks: a pool page has one or more.
    pub(super) fn alignment(&self, offset: u64, length: u64) -> (u64, u64) {
        if self.facts.direct {
            let skip = offset % POOL_PAGE;
            (skip, (skip + length).next_multiple_of(POOL_PAGE))
        } else {
            (0, length)
        }
    }

    /// Returns the most of `length` bytes at `offset` after which the next read begins at a block: with
    /// O_DIRECT each read takes room for whole blocks.
    pub(super) fn up_to_block(&self, offset: u64, length: u64) -> u64 {
        let past = (offset + length) % POOL_PAGE;
        if self.facts.direct && past < length { length - past } else { length }
    }

    /// Returns the file's current size, see [`Kernel::size`].
    pub(super) fn size(&self, kernel: &impl Kernel) -> Result<Size> {
        kernel.size(self.fd, &self.facts)
    }
}

/// A mapped piece of the range.
pub(super) struct Window {
    pub(super) bytes: FileWindow,
    /// Position in the range of its first byte.
    pub(super) start: u64,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.bytes.span().len() as u64
    }
}

/// A piece of the range in private memory.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    pub(super) lease: Lease,
    /// Position in the range of its first byte.
    pub(super) start: u64,
    /// Bytes of the lease before the data.
    pub(super) skip: u32,
    pub(super) length: u32,
}

impl Buffer {
    /// Returns the position in the range behind its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + u64::from(self.length)
    }
}

/// The place of the next bytes of the range.
pub(super) enum Source {
    None,
    Window(Window),
    /// Pages of the file itself, in a window that is kept.
    Lent {
        window: u32,
        span: Span,
        /// Position in the range of the first byte.
        start: u64,
    },
    Buffers(ShortQueue<Buffer>),
}

impl Numbered for Job {
    fn number(&self) -> u64 {
        self.id
    }
}

/// The state of the query for the file's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inspection {
    /// Not queried, or the query was withdrawn.
    Outstanding,
    /// The range is short: the read finds the end of the file.
    Postponed,
    /// It waits until a helper may query it, see [`super::slow`].
    Waiting,
    /// A helper is querying it.
    Asked,
    /// A helper is taking a private copy of the range, see [`super::clones`].
    Cloning,
    /// The size is known, or known to be unknowable.
    Done,
}

/// What an operation waits for before it reads more of its file.
#[derive(Default)]
pub(super) struct Waits {
    /// The latest attempt found no room in the pool.
    pub(super) for_pool: bool,
    /// It is in the line of operations that keep their data.
    pub(super) in_kept_line: bool,
    /// It is in the line of operations whose data passes.
    pub(super) in_passing_line: bool,
    /// Its file system has as many reads in flight as it may have, see [`super::slow`].
    pub(super) for_file_system: bool,
}

/// How data in private memory is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    /// It is copied.
    Copied,
    /// It is copied, and comes from the page cache: it is read again rather than held for a slow peer.
    Warm,
    /// It is sent with zero-copy.
    ZeroCopy,
}

/// The file data at hand, and the room that it takes.
pub(super) struct Data {
    pub(super) inspection: Inspection,
    pub(super) source: Source,
    /// The destination of the read in flight.
    pub(super) reading: Option<Buffer>,
    /// Pool pages reserved for EXACT.
    pub(super) reserved_pages: Option<NonZeroU32>,
    /// Pool pages charged to the file system's share of the pool.
    pub(super) charged_pages: u32,
    pub(super) handling: Handling,
    /// EAGER found no room to keep data when its turn came: the next piece is not kept.
    pub(super) passing: bool,
    /// All operations ahead on the socket have the room in the pool that they need.  Until then
    /// this one takes none: it could deprive them of the room that they need to finish.
    pub(super) may_hold: bool,
    pub(super) waits: Waits,
}

/// The sends of an operation.
#[derive(Default)]
pub(super) struct Sending {
    /// Bytes of the send that is with the kernel.
    pub(super) asked: u32,
    /// Bytes sent with zero-copy whose notification has not arrived.
    pub(super) unresolved: u64,
    /// See [`super::Driver::pass_at_once`].
    pub(super) tried_at_once: bool,
    /// The alarm after which its data is given up is set.
    pub(super) lingers: bool,
    /// Everything is in the socket, and the next operation has the turn.
    pub(super) passed_on: bool,
    /// How often the alarm has been set after which its pages are taken from the socket.
    pub(super) resets: u8,
}

/// One operation in flight and everything it holds.
pub(super) struct Job {
    pub(super) operation: Operation,
    pub(super) id: u64,
    pub(super) user_data: u64,
    pub(super) cookie: u64,
    pub(super) staged: Staged,
    /// Where one caller waits for the completion; None: it goes to the queue.
    pub(super) reply: Option<Arc<Answer>>,
    pub(super) file: Option<File>,
    pub(super) data: Data,
    pub(super) sending: Sending,
}

// With its places in the other tables, an operation in flight has at most 512 bytes.
const _: () = assert!(size_of::<Job>() <= 264);
const _: () = assert!(size_of::<ShortQueue<Buffer>>() <= 32);

impl Job {
    /// Creates the job of a submission that has arrived.
    pub(super) fn new(mut submission: Submission, file: Option<File>) -> Job {
        Job {
            operation: submission.operation.clone(),
            id: submission.id,
            user_data: submission.user_data,
            cookie: submission.cookie,
            staged: std::mem::take(&mut submission.staged),
            reply: submission.reply.take(),
            file,
            data: Data {
                inspection: Inspection::Outstanding,
                source: Source::None,
                reading: None,
                reserved_pages: None,
                charged_pages: 0,
                handling: Handling::Copied,
                passing: false,
                may_hold: false,
                waits: Waits::default(),
            },
            sending: Sending::default(),
        }
    }

    /// Returns whether a helper makes a call on the file other than a read.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.data.inspection, Inspection::Asked | Inspection::Cloning)
    }

    /// Ends a helper's query of the file; returns whether there was one.
    pub(super) fn stop_asking(&mut self) -> bool {
        let asked = self.is_asking();
        if asked {
            self.data.inspection = Inspection::Outstanding;
        }
        asked
    }

    /// Returns whether its id has the same low half, which, with its slot, identifies its own
    /// alarms.
    pub(super) fn has_low_id(&self, id: u64) -> bool {
        self.id as u32 == id as u32
    }

    /// Returns whether the caller lends the file's own pages (ZEROCOPY).  A caller that waits for
    /// DONE does not wait for the peer as well.
    pub(super) fn lends(&self) -> bool {
        let flags = self.operation.task().flags;
        flags.contains(RequestFlags::ZEROCOPY) && self.file.is_some() && self.reply.is_none()
    }

    /// Returns whether its data is to be kept until it is sent (EAGER, EXACT).
    pub(super) fn is_kept(&self) -> bool {
        self.operation.task().flags.intersects(RequestFlags::KEPT)
    }

    /// Returns whether data that was read stays until it is sent.  An EAGER operation for which there
    /// is no room lets a piece pass.
    /// Content that cannot change need not be kept.
    pub(super) fn is_held(&self) -> bool {
        self.is_kept() && !self.data.passing && !self.operation.is_frozen()
    }

    /// Returns whether the rest of the range can be read in one piece, and none of it is being read
    /// or at hand.
    pub(super) fn is_short(&self, most: u64) -> bool {
        let reads_at_will =
            |file: &File| file.facts.kind == FileKind::Regular && !file.facts.direct;
        self.operation.phase() == Phase::Running
            && !self.operation.is_reading()
            && matches!(self.data.source, Source::None)
            && self.operation.file_length().saturating_sub(self.operation.range_sent()) <= most
            && !self.operation.task().flags.intersects(RequestFlags::KEPT)
            && self.file.as_ref().is_none_or(reads_at_will)
    }

    /// Returns whether the content of its file cannot change, and what is left of its range is long
    /// enough to be sent by reference.
    pub(super) fn goes_by_reference(&self) -> bool {
        let left = self.operation.file_length().saturating_sub(self.operation.range_sent());
        self.operation.is_frozen() && left >= FROZEN_MIN
    }

    /// Returns whether it has begun and all of its range may be sent as lent pages.
    pub(super) fn can_lend_all(&self) -> bool {
        self.data.inspection == Inspection::Done
            && self.operation.needs_data()
            && self.operation.file_length() == self.operation.range()
    }

    /// Returns whether its size need not be queried: it is to be sent at once, and a read of its
    /// range finds the end of the file.
    pub(super) fn can_find_end(&self, most: u64) -> bool {
        let length = self.operation.task().length;
        let may_change = |file: &File| file.facts.content == Content::Changing;
        let may = |file: &File| file.is_registered && (length < FROZEN_MIN || may_change(file));
        self.file.as_ref().is_some_and(may)
            && self.operation.phase() == Phase::Queued
            && length <= most
            && !self.sending.tried_at_once
            && !self.operation.task().flags.intersects(RequestFlags::KEPT | RequestFlags::ZEROCOPY)
    }

    /// Returns how many bytes of the pool are reserved for it.
    pub(super) fn reserved(&self) -> Option<u64> {
        self.data.reserved_pages.map(|pages| u64::from(pages.get()) * POOL_PAGE)
    }

    /// Returns the most bytes of the range that are left, without a query; 0: it is over.
    pub(super) fn remaining_at_most(&self) -> u64 {
        let task = self.operation.task();
        let available = match (self.operation.phase(), &self.file) {
            (Phase::Ending(_) | Phase::Acknowledging(_), _) | (_, None) => 0,
            (_, Some(file)) => {
                let size = file.facts.known_size();
                size.map_or(u64::MAX, |size| size.saturating_sub(task.offset))
            }
        };
        task.length.min(available).saturating_sub(self.operation.range_sent())
    }

    /// Returns whether it needs no more room in the pool than it has.
    pub(super) fn has_its_room(&self) -> bool {
        !self.is_held() || self.operation.is_all_held()
    }

    /// Returns the bytes at hand from the socket's position on.
    pub(super) fn available(&self) -> u64 {
        let end = match &self.data.source {
            Source::None => 0,
            Source::Window(window) => window.end(),
            Source::Lent { span, start, .. } => start + span.len() as u64,
            Source::Buffers(buffers) => buffers.front().map_or(0, Buffer::end),
        };
        end.saturating_sub(self.operation.range_sent())
    }

    /// Returns the address range of bytes at hand.
    pub(super) fn next_bytes(&self, pool: &Pool, (from, length): (u64, u64)) -> Span {
        let part = |span: Span, start: u64, skip: u64| {
            span.part((from - start + skip) as usize, length as usize)
        };
        match &self.data.source {
            _ if length == 0 => Span::of(&[]),
            Source::None => Span::of(&[]),
            Source::Window(window) => part(window.bytes.span(), window.start, 0),
            Source::Lent { span, start, .. } => part(*span, *start, 0),
            Source::Buffers(buffers) => {
                let front = buffers.front().expect("bytes are at hand");
                part(pool.span(front.lease).as_span(), front.start, front.skip.into())
            }
        }
    }

    /// Maps the next window; false if that is impossible.
    pub(super) fn map(&mut self, kernel: &impl Kernel, chunk: u64) -> bool {
        let Some(file) = &mut self.file else {
            return false;
        };
        let offset = self.operation.task().offset;
        match file.size(kernel) {
            Ok(Size::Known(size)) => self.operation.short(size.saturating_sub(offset)),
            Ok(_) => {
                file.mappable = false;
                return false;
            }
            Err(error) => self.operation.fail(error.negative()),
        }
        if !self.operation.needs_data() {
            return true;
        }
        let start = self.operation.range_sent();
        let end = self.operation.file_length().min(start + chunk);
        let length = (end - start) as usize;
        match kernel.map(file.fd, offset + start, length) {
            Ok(bytes) => {
                self.data.source = Source::Window(Window { bytes, start });
                true
            }
            Err(_) => {
                file.mappable = false;
                false
            }
        }
    }

    /// Returns how many bytes of the range the file has now, if that matters for the bytes just
    /// sent: from a mapping of a truncated file, zeros beyond its end may have been sent.  If the
    /// size cannot be found out, the operation fails.
    pub(super) fn available_in_file(&mut self, kernel: &impl Kernel) -> u64 {
        match self.data.source {
            Source::Window(_) => self.available_now(kernel),
            _ => u64::MAX,
        }
    }

    /// Returns how many bytes of the range the file has now.  If the size cannot be found out, the
    /// operation fails.
    pub(super) fn available_now(&mut self, kernel: &impl Kernel) -> u64 {
        let Some(file) = &self.file else { return u64::MAX };
        match file.size(kernel) {
            Ok(Size::Known(size)) => size.saturating_sub(self.operation.task().offset),
            Ok(_) => 0,
            Err(error) => {
                self.operation.fail(error.negative());
                0
            }
        }
    }

    /// Makes room for the next [`Job::push`].
    pub(super) fn reserve_buffer(&mut self) -> Result<()> {
        if !matches!(self.data.source, Source::Buffers(_)) {
            self.data.source = Source::Buffers(ShortQueue::default());
        }
        let Source::Buffers(buffers) = &mut self.data.source else { return Ok(()) };
        buffers.reserve()
    }

    pub(super) fn push(&mut self, buffer: Buffer) {
        match &mut self.data.source {
            Source::Buffers(buffers) => buffers.push_back(buffer),
            source => *source = Source::Buffers(ShortQueue::One(buffer)),
        }
    }

    /// Takes the next buffer out, if that is where the bytes at hand are.
    pub(super) fn take_lease(&mut self) -> Option<Lease> {
        let Source::Buffers(buffers) = &mut self.data.source else { return None };
        buffers.pop_front().map(|buffer| buffer.lease)
    }

    pub(super) fn completion(&self, status: i32, event: Report) -> Completion {
        Completion {
            id: self.id,
            user_data: self.user_data,
            file_bytes: self.operation.range_sent(),
            wire_bytes: self.operation.wire(),
            status,
            event,
            flags: self.operation.was(),
        }
    }
}
