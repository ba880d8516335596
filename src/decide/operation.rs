// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of one operation: events in, next steps out.  No I/O, no clock, no descriptors.
//!
//! All bytes to send form one sequence: header, range, padding, trailer.  `wire` is the position
//! that the socket has reached in it; all other positions follow from it.
#![forbid(unsafe_code)]

use crate::types::completion::CompletionFlags;
use crate::types::file::Size;
use crate::types::request::{RequestFlags, TO_EOF};

/// The most zeros in one portion, in bytes.
pub const PADDING_MAX: u64 = 64 << 10;

/// A request after its checks.  Packed, because each operation in flight has one: 28 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
pub struct Task {
    /// Bytes of the header.
    pub header: u32,
    /// Bytes of the trailer.
    pub trailer: u32,
    /// Where the range starts in the file.
    pub offset: u64,
    /// Bytes of the range; TO_EOF: up to the end of the file.
    pub length: u64,
    /// The request's flags.
    pub flags: RequestFlags,
}

/// The phase of an operation's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Accepted; [`Operation::start`] has not run.
    Queued,
    /// Reading and sending.
    Running,
    /// Everything is in the socket, and the kernel may still read the file's own pages.  The status
    /// is that of the end if they have to be taken from it; 0: nothing asks for the end.
    Acknowledging(i32),
    /// Ended with this status (0 or -errno); requests may still be with the kernel.
    Ending(i32),
}

/// The next bytes to send, as positions in header, range and trailer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Portion {
    /// First byte of the header to send, and how many.
    pub header: (u32, u32),
    /// First byte of the range to send, and how many.
    pub range: (u64, u64),
    /// Zeros to send after it.
    pub zeros: u64,
    /// First byte of the trailer to send, and how many.
    pub trailer: (u32, u32),
    /// Whether more follows this portion (MSG_MORE).
    pub more: bool,
}

impl Portion {
    /// Returns the number of its bytes.
    pub fn len(&self) -> u64 {
        u64::from(self.header.1) + self.range.1 + self.zeros + u64::from(self.trailer.1)
    }
}

/// The state of one operation.  Positions and lengths are in bytes.
#[derive(Clone, Debug)]
pub struct Operation {
    task: Task,
    phase: Phase,
    range: u64,       // bytes of the range, padding included; TO_EOF until known
    file_length: u64, // of these, the bytes that the file provides; the rest is padding
    held: u64,        // bytes of the range that are in private memory or already sent
    wire: u64,        // bytes of the whole sequence that the socket has taken
    reading: bool,
    sending: Option<bool>, // whether the send that is with the kernel has MSG_MORE
    sent_more: bool,       // the last send that took bytes had MSG_MORE
    snapshot_told: bool,
    sent_told: bool,
    was: u8,         // WAS_* flags; eight bits suffice
    lent: u32,       // sends of the file's own pages that the kernel may still read
    unchecked: bool, // the file may have become shorter since such a send
    frozen: bool,    // the file's content cannot change
}

// Each pending operation has one, see `ring::job`.
const _: () = assert!(size_of::<Operation>() <= 80);

impl Operation {
    /// Returns an operation that has not started.
    pub fn new(task: Task) -> Operation {
        Operation {
            task,
            phase: Phase::Queued,
            range: task.length,
            file_length: task.length,
            held: 0,
            wire: 0,
            reading: false,
            sending: None,
            sent_more: false,
            snapshot_told: false,
            sent_told: false,
            was: 0,
            lent: 0,
            unchecked: false,
            frozen: false,
        }
    }

    /// Returns how many of SNAPSHOT and SENT were requested and have not been reported.
    pub fn owed_events(&self) -> u32 {
        let flags = self.task.flags;
        u32::from(flags.contains(RequestFlags::NOTIFY_SNAPSHOT) && !self.snapshot_told)
            + u32::from(flags.contains(RequestFlags::NOTIFY_SENT) && !self.sent_told)
    }

    /// Starts the operation with the size of its file.  Called once, before any other event.
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

    /// Records that a private copy of the whole range has been taken, with `available` bytes from the
    /// range's start.  Nothing remains to be kept: the copy is sent as data that passes.
    pub fn cloned(&mut self, available: u64) {
        if self.phase != Phase::Running {
            return;
        }
        self.task.flags &= !RequestFlags::KEPT;
        if self.task.length == TO_EOF {
            // The file may have grown since its size was queried.
            self.set_end(available.max(self.range_sent()));
        }
        self.short(available);
        self.finish_when_complete();
    }

    /// Returns true, once, if SNAPSHOT was requested; the snapshot of the whole range has been taken.
    pub fn take_clone_event(&mut self) -> bool {
        self.take_snapshot_event_if(true)
    }

    /// Resumes, on another thread, with a new size: the file may have changed in between.
    pub fn resume(&mut self, size: Size) {
        if let (Size::Known(size), true) = (size, self.range_sent() < self.file_length) {
            self.short(size.saturating_sub(self.task.offset));
        }
        self.finish_when_complete();
    }

    /// Records that the file has only `available` bytes from the range's start.
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

    /// Records that the content of the file cannot change, so that it is its own snapshot.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Returns whether the content of the file is known never to change.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Returns the next read into private memory: position in the range and length.  No read starts
    /// while `ahead` bytes wait in memory; `chunk` is the most of one read.
    pub fn want_read(&self, ahead: u64, chunk: u64) -> Option<(u64, u64)> {
        if self.phase != Phase::Running || self.reading {
            return None;
        }
        let held = self.held.max(self.range_sent());
        let waiting = held - self.range_sent();
        let length = self.file_length.saturating_sub(held).min(chunk);
        (length > 0 && waiting < ahead).then_some((held, length))
    }

    /// Records that a read is with the kernel.
    pub fn read_started(&mut self) {
        debug_assert!(!self.reading);
        self.reading = true;
    }

    /// Records that `at..at + count` of the range is in private memory; 0: the file ends at `at`.
    pub fn read_done(&mut self, at: u64, count: u64) {
        self.reading = false;
        if count == 0 {
            self.short(at);
        } else {
            self.held = self.held.max(at + count).min(self.file_length);
        }
        self.finish_when_complete();
    }

    /// Records that a read failed.
    pub fn read_failed(&mut self, status: i32) {
        self.reading = false;
        self.fail(status);
    }

    /// Records that a read was interrupted; it may be started again.
    pub fn read_again(&mut self) {
        self.reading = false;
    }

    /// Records that data which was read but not sent has been given up, to be read again.
    pub fn forget_held(&mut self) {
        self.held = self.range_sent();
    }

    /// Returns whether the file's next bytes are needed and none are in private memory.
    pub fn needs_data(&self) -> bool {
        self.phase == Phase::Running
            && self.held <= self.range_sent()
            && self.range_sent() < self.file_length
    }

    /// Returns the next bytes to send if `available` bytes of the range from
    /// [`Operation::range_sent`] on are at hand.  None: nothing can be sent now.
    pub fn want_send(&self, available: u64, chunk: u64) -> Option<Portion> {
        if self.phase != Phase::Running || self.is_sending() || !self.may_send(available) {
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
        // MSG_MORE only with the following bytes at hand: for bytes that the file then lacks, the
        // socket would hold these back too long.
        let is_at_hand =
            reached >= self.file_length || self.held > reached || available > portion.range.1;
        let follows = is_at_hand && self.wire + portion.len() < self.total();
        portion.more = self.task.flags.contains(RequestFlags::MORE) || follows;
        (portion.len() > 0).then_some(portion)
    }

    // Returns whether a portion may be sent.  The header waits for the first data: until then the
    // file may turn out to be short.
    fn may_send(&self, available: u64) -> bool {
        if self.task.flags.contains(RequestFlags::EXACT) && !self.frozen {
            return self.held >= self.file_length;
        }
        self.range_sent() >= self.file_length || available > 0
    }

    /// Records that a send is with the kernel, with MSG_MORE or without.
    pub fn send_started(&mut self, more: bool) {
        debug_assert!(!self.is_sending());
        self.sending = Some(more);
    }

    /// Records that the socket has taken `count` more bytes; `was` is the way of the file's bytes
    /// among them.  `available`: bytes of the range that the file turned out to have, or u64::MAX.
    pub fn sent(&mut self, count: u64, was: CompletionFlags, available: u64) {
        let more = self.sending.take();
        let before = self.range_sent();
        self.wire += count;
        if count > 0 {
            self.sent_more = more == Some(true);
        }
        if self.range_sent() > before {
            self.was |= was.bits() as u8;
        }
        self.held = self.held.max(self.range_sent().min(self.file_length));
        if available < self.file_length {
            self.short(available);
        }
        self.finish_when_complete();
        if let (Phase::Ending(status), true) = (self.phase, self.lent > 0) {
            // It was to end while the last bytes were with the kernel.
            if self.wire == self.total() && status < 0 {
                self.phase = Phase::Acknowledging(status);
            }
        }
    }

    /// Records that the send whose result follows has put pages of the file itself into the socket.
    pub fn lend(&mut self) {
        self.lent += 1;
        self.unchecked = true;
    }

    /// Records that the kernel no longer reads the pages of one such send.
    pub fn give_back(&mut self) {
        self.lent = self.lent.saturating_sub(1);
    }

    /// Returns whether the kernel may still read the file's own pages.
    pub fn is_lent(&self) -> bool {
        self.lent > 0
    }

    /// Returns whether the file's size is to be looked at, for [`Operation::checked`]: all of the
    /// range is in the socket, and the kernel has given all pages back.
    pub fn wants_check(&self) -> bool {
        let is_over = match self.phase {
            Phase::Running => self.range_sent() >= self.file_length,
            Phase::Acknowledging(_) => true,
            _ => false,
        };
        self.unchecked && self.lent == 0 && is_over
    }

    /// Records that the file has `available` bytes from the range's start, after the kernel has given
    /// its pages back.  If that is less than was sent, zeros were sent up to the end of a page.
    pub fn checked(&mut self, available: u64) {
        self.unchecked = false;
        let is_short = available < self.file_length;
        let pads = self.task.flags.contains(RequestFlags::ZERO_PAD);
        if is_short && pads {
            self.was |= CompletionFlags::WAS_PADDED.bits() as u8;
        }
        match self.phase {
            Phase::Running if is_short && !pads => self.fail(-libc::ENODATA),
            Phase::Acknowledging(_) if is_short && !pads => {
                self.phase = Phase::Ending(-libc::ENODATA);
            }
            Phase::Acknowledging(_) => self.phase = Phase::Ending(0),
            _ => {}
        }
    }

    /// Records that the size of the file could not be found out.
    pub fn check_failed(&mut self, status: i32) {
        debug_assert!(self.wants_check() && status < 0);
        self.unchecked = false;
        self.phase = Phase::Ending(status);
    }

    /// Records that the connection was reset, because the operation had to end.
    pub fn was_reset(&mut self) {
        if let Phase::Acknowledging(status) = self.phase {
            self.phase = Phase::Ending(status);
        }
    }

    /// Gives up waiting for pages that the kernel does not give back.
    pub fn forget_lent(&mut self) {
        self.lent = 0;
    }

    /// Returns whether it is to end although the kernel may still read the file's own pages.
    pub fn is_held_up(&self) -> bool {
        let is_to_end = match self.phase {
            Phase::Acknowledging(status) => status < 0,
            Phase::Ending(_) => true,
            _ => false,
        };
        is_to_end && self.lent > 0
    }

    /// Records the way of bytes that were sent before.
    pub fn mark(&mut self, was: CompletionFlags) {
        self.was |= was.bits() as u8;
    }

    /// Records that a send failed.
    pub fn send_failed(&mut self, status: i32) {
        self.sending = None;
        self.fail(status);
    }

    /// Records that the socket is full and took nothing.
    pub fn send_refused(&mut self) {
        self.sending = None;
    }

    /// Ends the operation with a negative status, unless it has ended already.  If everything is in
    /// the socket, it only limits how long the operation waits for the acknowledgement.
    pub fn fail(&mut self, status: i32) {
        debug_assert!(status < 0);
        match self.phase {
            Phase::Ending(_) => {}
            Phase::Acknowledging(0) => self.phase = Phase::Acknowledging(status),
            Phase::Acknowledging(_) => {}
            Phase::Queued | Phase::Running => self.phase = Phase::Ending(status),
        }
    }

    fn finish_when_complete(&mut self) {
        if self.phase == Phase::Running && self.wire == self.total() {
            let is_open = self.lent > 0 || self.unchecked;
            self.phase = if is_open { Phase::Acknowledging(0) } else { Phase::Ending(0) };
        }
    }

    fn total(&self) -> u64 {
        u64::from(self.task.header)
            .saturating_add(self.range)
            .saturating_add(u64::from(self.task.trailer))
    }

    /// Returns true, once, if the whole range has been snapshotted and SNAPSHOT was requested.
    /// `keeps`: data in private memory stays until it is sent.  Otherwise it may be given up and
    /// read again, and only bytes that the socket has taken count.
    pub fn take_snapshot_event(&mut self, keeps: bool) -> bool {
        let snapshotted = if keeps { self.held.max(self.range_sent()) } else { self.range_sent() };
        let is_whole = self.frozen || snapshotted >= self.file_length;
        self.take_snapshot_event_if(is_whole && !self.unchecked)
    }

    fn take_snapshot_event_if(&mut self, is_taken: bool) -> bool {
        let due = is_taken
            && self.task.flags.contains(RequestFlags::NOTIFY_SNAPSHOT)
            && !self.snapshot_told
            && matches!(self.phase, Phase::Running | Phase::Ending(0));
        self.snapshot_told |= due;
        due
    }

    /// Returns true, once, if all bytes are in the socket and SENT was requested.
    pub fn take_sent_event(&mut self) -> bool {
        let due = self.task.flags.contains(RequestFlags::NOTIFY_SENT)
            && !self.sent_told
            && matches!(self.phase, Phase::Acknowledging(_) | Phase::Ending(0));
        self.sent_told |= due;
        due
    }

    /// Returns its status after it has ended and the kernel has no request of it.
    pub fn ended(&self) -> Option<i32> {
        match self.phase {
            Phase::Ending(status) if !self.reading && !self.is_sending() && self.lent == 0 => {
                Some(status)
            }
            _ => None,
        }
    }

    /// Returns whether all of the range is in private memory or sent, or none is needed any more.
    pub fn is_all_held(&self) -> bool {
        match self.phase {
            Phase::Queued => false,
            Phase::Running => self.held.max(self.range_sent()) >= self.file_length,
            Phase::Acknowledging(_) | Phase::Ending(_) => true,
        }
    }

    /// Returns its phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns whether a read is with the kernel.
    pub fn is_reading(&self) -> bool {
        self.reading
    }

    /// Returns whether a send is with the kernel.
    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Returns whether it failed after bytes were sent, so that the stream is incomplete.
    pub fn is_cut(&self) -> bool {
        matches!(self.phase, Phase::Ending(status) if status < 0) && self.wire > 0
    }

    /// Returns, once, whether it is ending and the socket may hold back bytes for data that does
    /// not follow.
    pub fn take_held_back(&mut self) -> bool {
        let may_hold =
            self.phase == Phase::Ending(0) && self.task.flags.contains(RequestFlags::MORE);
        let is_held_back = self.sent_more && matches!(self.phase, Phase::Ending(_)) && !may_hold;
        self.sent_more &= !is_held_back;
        is_held_back
    }

    /// Returns whether header and trailer are no longer needed.
    pub fn has_sent_staged(&self) -> bool {
        self.task.trailer == 0 && self.wire >= u64::from(self.task.header)
    }

    /// Returns the bytes of the range, padding included, that the socket has taken.
    pub fn range_sent(&self) -> u64 {
        self.wire.saturating_sub(u64::from(self.task.header)).min(self.range)
    }

    /// Returns the bytes of the range that the file provides; TO_EOF while unknown.
    pub fn file_length(&self) -> u64 {
        self.file_length
    }

    /// Returns the bytes of the range, padding included; TO_EOF while unknown.
    pub fn range(&self) -> u64 {
        self.range
    }

    /// Returns all bytes that the socket has taken.
    pub fn wire(&self) -> u64 {
        self.wire
    }

    /// Returns the WAS_* flags so far.
    pub fn was(&self) -> CompletionFlags {
        CompletionFlags::from_bits_retain(self.was.into())
    }

    /// Returns the request.
    pub fn task(&self) -> &Task {
        &self.task
    }
}
