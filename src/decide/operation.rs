// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of one operation: events in, next steps out.  No I/O, no clock, no descriptors.
//!
//! Everything sent is one line of bytes: header, range, padding, trailer.  `wire` says how far
//! the socket has taken it; all other positions follow from it.
#![forbid(unsafe_code)]

use crate::types::completion::CompletionFlags;
use crate::types::file::Size;
use crate::types::request::{RequestFlags, TO_EOF};

/// The most zeros in one portion.
pub const PADDING_MAX: u64 = 64 << 10;

/// What is asked for, after the checks.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Bytes of the header.
    pub header: u32,
    /// Bytes of the trailer.
    pub trailer: u32,
    /// Where the range starts in the file.
    pub offset: u64,
    /// Bytes of the range, or TO_EOF.
    pub length: u64,
    /// Request flags.
    pub flags: RequestFlags,
}

/// Where an operation is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Not looked at yet.
    Queued,
    /// Reading and sending.
    Running,
    /// Ended with this status (0 or -errno); requests may still be with the kernel.
    Ending(i32),
}

/// The next bytes to send, as positions within header, range and trailer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Portion {
    /// First byte of the header that goes, and how many.
    pub header: (u32, u32),
    /// First byte of the range that goes, and how many.
    pub range: (u64, u64),
    /// Zeros after it.
    pub zeros: u64,
    /// First byte of the trailer that goes, and how many.
    pub trailer: (u32, u32),
    /// Whether more follows this portion (MSG_MORE).
    pub more: bool,
}

impl Portion {
    /// All its bytes.
    pub fn len(&self) -> u64 {
        u64::from(self.header.1) + self.range.1 + self.zeros + u64::from(self.trailer.1)
    }
}

/// The state of one operation.
#[derive(Clone, Debug)]
pub struct Operation {
    task: Task,
    phase: Phase,
    range: u64,       // bytes of the range, padding included; TO_EOF until known
    file_length: u64, // of them, those that the file gives; the rest is padding
    held: u64,        // bytes of the range that are in private memory or sent already
    wire: u64,        // bytes of everything that the socket has taken
    reading: bool,
    sending: bool,
    sending_more: bool, // what is being sent goes with MSG_MORE
    sent_more: bool,    // what was sent last did
    snapshot_told: bool,
    was: u8, // the flags, which are few
}

impl Operation {
    /// A new one.
    pub fn new(task: Task) -> Operation {
        Operation {
            task,
            phase: Phase::Queued,
            range: task.length,
            file_length: task.length,
            held: 0,
            wire: 0,
            reading: false,
            sending: false,
            sending_more: false,
            sent_more: false,
            snapshot_told: false,
            was: 0,
        }
    }

    /// Whether SNAPSHOT was asked for and has not been reported.
    pub fn owes_snapshot(&self) -> bool {
        self.task.flags.contains(RequestFlags::NOTIFY_SNAPSHOT) && !self.snapshot_told
    }

    /// Looks at the file's size, once, before anything else.
    pub fn start(&mut self, size: Size) {
        debug_assert_eq!(self.phase, Phase::Queued);
        self.phase = Phase::Running;
        match size {
            Size::NoFile => self.set_end(0),
            Size::Known(size) => {
                let available = size.saturating_sub(self.task.offset);
                if available < self.range {
                    self.short(available);
                }
            }
            Size::Unknown => {}
        }
        self.finish_when_complete();
    }

    /// Goes on, in another thread, where the first left off: the file may have changed.
    pub fn resume(&mut self, size: Size) {
        if let (Size::Known(size), true) = (size, self.range_sent() < self.file_length) {
            self.short(size.saturating_sub(self.task.offset));
        }
        self.finish_when_complete();
    }

    /// The file has only `available` bytes from the range's start.
    pub fn short(&mut self, available: u64) {
        if self.phase != Phase::Running || available >= self.file_length {
            return;
        }
        if self.task.length == TO_EOF {
            self.set_end(available.max(self.range_sent()));
        } else if self.task.flags.contains(RequestFlags::ZERO_PAD) {
            self.file_length = available;
            self.held = self.held.min(available.max(self.range_sent()));
            self.was |= CompletionFlags::WAS_PADDED.bits() as u8;
        } else {
            self.fail(-libc::ENODATA);
        }
        self.finish_when_complete();
    }

    fn set_end(&mut self, end: u64) {
        self.range = end;
        self.file_length = end;
        self.held = self.held.min(end);
    }

    /// The next read into private memory: position in the range and length.  `ahead`: how many
    /// bytes may wait in memory; `chunk`: the most of one read.
    pub fn want_read(&self, ahead: u64, chunk: u64) -> Option<(u64, u64)> {
        if self.phase != Phase::Running || self.reading {
            return None;
        }
        let held = self.held.max(self.range_sent());
        let waiting = held - self.range_sent();
        let length = self.file_length.saturating_sub(held).min(chunk);
        (length > 0 && waiting < ahead).then_some((held, length))
    }

    /// A read is with the kernel.
    pub fn read_started(&mut self) {
        debug_assert!(!self.reading);
        self.reading = true;
    }

    /// `at..at + count` of the range is in private memory now; 0: the file ends at `at`.
    pub fn read_done(&mut self, at: u64, count: u64) {
        self.reading = false;
        if count == 0 {
            self.short(at);
        } else {
            self.held = self.held.max(at + count).min(self.file_length);
        }
        self.finish_when_complete();
    }

    /// A read has failed.
    pub fn read_failed(&mut self, status: i32) {
        self.reading = false;
        self.fail(status);
    }

    /// A read was interrupted; it may be started again.
    pub fn read_again(&mut self) {
        self.reading = false;
    }

    /// What was read but not sent has been given up, to be read again.
    pub fn forget_held(&mut self) {
        self.held = self.range_sent();
    }

    /// Whether the file's next bytes are needed and none are in private memory.
    pub fn needs_data(&self) -> bool {
        self.phase == Phase::Running
            && self.held <= self.range_sent()
            && self.range_sent() < self.file_length
    }

    /// The next bytes to send, when `available` bytes of the range from [`Operation::range_sent`]
    /// on are at hand.  None: nothing can be sent now.
    pub fn want_send(&self, available: u64, chunk: u64) -> Option<Portion> {
        if self.phase != Phase::Running || self.sending || !self.may_send(available) {
            return None;
        }
        let sent = self.range_sent();
        let header = u64::from(self.task.header);
        let mut portion = Portion::default();
        let header_sent = self.wire.min(header) as u32;
        portion.header = (header_sent, self.task.header - header_sent);
        portion.range = (sent, self.file_length.saturating_sub(sent).min(available).min(chunk));
        let reached = sent + portion.range.1;
        if reached >= self.file_length && self.range != TO_EOF {
            portion.zeros = (self.range - reached).min(PADDING_MAX);
            if reached + portion.zeros == self.range {
                let trailer_sent = self.wire.saturating_sub(header + self.range) as u32;
                portion.trailer = (trailer_sent, self.task.trailer - trailer_sent);
            }
        }
        // Data held back for what the file does not give after all would be late.
        let is_at_hand =
            reached >= self.file_length || self.held > reached || available > portion.range.1;
        let follows = is_at_hand && self.wire + portion.len() < self.total();
        portion.more = self.task.flags.contains(RequestFlags::MORE) || follows;
        (portion.len() > 0).then_some(portion)
    }

    // The header waits for the first data: until that is there the file may turn out to be short.
    fn may_send(&self, available: u64) -> bool {
        if self.task.flags.contains(RequestFlags::EXACT) {
            return self.held >= self.file_length;
        }
        self.range_sent() >= self.file_length || available > 0
    }

    /// A send is with the kernel, with MSG_MORE or without.
    pub fn send_started(&mut self, more: bool) {
        debug_assert!(!self.sending);
        self.sending = true;
        self.sending_more = more;
    }

    /// The socket has taken `count` bytes more, of which `was` tells the way of the file's.
    /// `available`: how many bytes of the range the file turns out to have, or u64::MAX.
    pub fn sent(&mut self, count: u64, was: CompletionFlags, available: u64) {
        self.sending = false;
        let before = self.range_sent();
        self.wire += count;
        if count > 0 {
            self.sent_more = self.sending_more;
        }
        if self.range_sent() > before {
            self.was |= was.bits() as u8;
        }
        self.held = self.held.max(self.range_sent().min(self.file_length));
        if available < self.file_length {
            self.short(available);
        }
        self.finish_when_complete();
    }

    /// The way of bytes that were sent before has become known.
    pub fn mark(&mut self, was: CompletionFlags) {
        self.was |= was.bits() as u8;
    }

    /// A send has failed.
    pub fn send_failed(&mut self, status: i32) {
        self.sending = false;
        self.fail(status);
    }

    /// The socket is full; nothing was taken.
    pub fn send_refused(&mut self) {
        self.sending = false;
    }

    /// Ends it with a negative status, unless it has ended already.
    pub fn fail(&mut self, status: i32) {
        debug_assert!(status < 0);
        if !matches!(self.phase, Phase::Ending(_)) {
            self.phase = Phase::Ending(status);
        }
    }

    fn finish_when_complete(&mut self) {
        if self.phase == Phase::Running && self.wire == self.total() {
            self.phase = Phase::Ending(0);
        }
    }

    fn total(&self) -> u64 {
        u64::from(self.task.header)
            .saturating_add(self.range)
            .saturating_add(u64::from(self.task.trailer))
    }

    /// Whether the whole range has been snapshotted and this has not been said yet, though it
    /// was asked for.  True once.  `keeps`: what is held stays until it is sent; otherwise it may
    /// be given up and read again, and only what the socket has taken counts.
    pub fn take_snapshot_event(&mut self, keeps: bool) -> bool {
        let snapshotted = if keeps { self.held.max(self.range_sent()) } else { self.range_sent() };
        let due = self.task.flags.contains(RequestFlags::NOTIFY_SNAPSHOT)
            && !self.snapshot_told
            && matches!(self.phase, Phase::Running | Phase::Ending(0))
            && snapshotted >= self.file_length;
        self.snapshot_told |= due;
        due
    }

    /// Its status, once it has ended and the kernel has no request of it.
    pub fn ended(&self) -> Option<i32> {
        match self.phase {
            Phase::Ending(status) if !self.reading && !self.sending => Some(status),
            _ => None,
        }
    }

    /// Whether all of the range is in private memory or sent, or it needs none any more.
    pub fn is_all_held(&self) -> bool {
        match self.phase {
            Phase::Queued => false,
            Phase::Running => self.held.max(self.range_sent()) >= self.file_length,
            Phase::Ending(_) => true,
        }
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether a read is with the kernel.
    pub fn is_reading(&self) -> bool {
        self.reading
    }

    /// Whether a send is with the kernel.
    pub fn is_sending(&self) -> bool {
        self.sending
    }

    /// Whether it failed after some bytes had gone out, so that the stream is cut.
    pub fn is_cut(&self) -> bool {
        matches!(self.phase, Phase::Ending(status) if status < 0) && self.wire > 0
    }

    /// Whether it has ended and the socket may hold some of it back, for what does not follow.
    pub fn is_held_back(&self) -> bool {
        let may_hold =
            self.phase == Phase::Ending(0) && self.task.flags.contains(RequestFlags::MORE);
        self.sent_more && matches!(self.phase, Phase::Ending(_)) && !may_hold
    }

    /// Whether header and trailer are not needed any more.
    pub fn has_sent_staged(&self) -> bool {
        self.task.trailer == 0 && self.wire >= u64::from(self.task.header)
    }

    /// Bytes of the range, padding included, that the socket has taken.
    pub fn range_sent(&self) -> u64 {
        self.wire.saturating_sub(u64::from(self.task.header)).min(self.range)
    }

    /// Bytes of the range that the file is to give; TO_EOF while unknown.
    pub fn file_length(&self) -> u64 {
        self.file_length
    }

    /// All bytes that the socket has taken.
    pub fn wire(&self) -> u64 {
        self.wire
    }

    /// WAS_* so far.
    pub fn was(&self) -> CompletionFlags {
        CompletionFlags::from_bits_retain(self.was.into())
    }

    /// What was asked for.
    pub fn task(&self) -> &Task {
        &self.task
    }
}
