// SPDX-License-Identifier: MIT OR Apache-2.0
//! One operation in a simulated driver: it asks the operation what to do in the order in which
//! the real one does (src/driver/), and checks each answer.  kernel.rs has the other side.
#![forbid(unsafe_code)]

use super::Script;
use super::oracle::Oracle;
use super::wire::Wire;
use crate::decide::operation::{Operation, PADDING_MAX, Phase, Portion, Task};
use crate::types::completion::CompletionFlags;
use crate::types::file::Size;
use crate::types::request::{RequestFlags, TO_EOF};
use std::collections::VecDeque;

/// A file as a case starts with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) size: u64,
    /// Like those of /proc: says 0 and has more.
    pub(super) hides_size: bool,
    pub(super) mappable: bool,
}

impl File {
    /// What fstat(2) tells.
    pub(super) fn stat(&self) -> Size {
        match self.size {
            0 => Size::Unknown,
            _ if self.hides_size => Size::Unknown,
            size => Size::Known(size),
        }
    }
}

/// A piece of the range in private memory, as the file was at `epoch`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) epoch: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Where the next bytes of the range are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    None,
    Window(Window),
    Buffers(VecDeque<Buffer>),
}

/// A send that is with the kernel.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) portion: Portion,
    /// Of the data in private memory.  None: it goes from a mapping.
    pub(super) epoch: Option<u32>,
    pub(super) zero_copy: bool,
    /// The sizes that the file has had meanwhile.
    pub(super) sizes: Vec<u64>,
}

/// The way of the next piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Pooled,
    Mapped,
    ZeroCopy,
}

/// The operation and everything around it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) operation: Operation,
    pub(super) task: Task,
    pub(super) file: Option<File>,
    /// The most of one read, and of one send.
    pub(super) chunk: u64,
    pub(super) send_chunk: u64,
    pub(super) script: Script,
    pub(super) source: Source,
    pub(super) reading: Option<(u64, u64)>,
    pub(super) sending: Option<Flight>,
    pub(super) wire: Wire,
    pub(super) oracle: Oracle,
    /// Changes of the file so far.
    pub(super) epoch: u32,
    /// The epoch in which the first byte went out.
    pub(super) first_sent: Option<u32>,
    /// The epoch in which the snapshot was reported.
    pub(super) told: Option<u32>,
    /// Its status, once it has ended.
    pub(super) done: Option<i32>,
    pub(super) is_inline: bool,
    /// Whether the driver's known mistakes are made here too.
    /// The ring thread has looked at the file.
    pub(super) begun: bool,

    /// The socket has a place in the line.
    pub(super) ready: bool,
    /// A wait for room in the socket is with the kernel.
    pub(super) armed: bool,
    pub(super) lingers: bool,
    pub(super) retry: bool,
    /// Whether the pool has room for data that is kept, and for data that passes.
    pub(super) room_kept: bool,
    pub(super) room_passing: bool,
    waits_for_pool: bool,
    waits_kept: bool,
    waits_passing: bool,
    passing: bool,
    zero_copy: bool,
    /// What was sent last went with MSG_MORE.
    pub(super) sent_more: bool,
    /// WAS_* that must be there, and that may be.
    pub(super) was_due: CompletionFlags,
    pub(super) was_possible: CompletionFlags,
}

impl World {
    pub(super) fn new(task: Task, file: Option<File>, chunk: u64, script: Script) -> World {
        World {
            operation: Operation::new(task),
            task,
            file,
            chunk,
            send_chunk: chunk,
            script,
            source: Source::None,
            reading: None,
            sending: None,
            wire: Wire::default(),
            oracle: Oracle::new(task),
            epoch: 0,
            first_sent: None,
            told: None,
            done: None,
            is_inline: false,
            begun: false,
            ready: true,
            armed: false,
            lingers: false,
            retry: false,
            room_kept: true,
            room_passing: true,
            waits_for_pool: false,
            waits_kept: false,
            waits_passing: false,
            passing: false,
            zero_copy: false,
            sent_more: false,
            was_due: CompletionFlags::empty(),
            was_possible: CompletionFlags::empty(),
        }
    }

    pub(super) fn has(&self, flag: RequestFlags) -> bool {
        self.task.flags.intersects(flag)
    }

    /// EAGER or EXACT: what is read stays until it is sent.
    fn is_held(&self) -> bool {
        self.has(RequestFlags::KEPT) && !self.passing
    }

    pub(super) fn sends_from_window(&self) -> bool {
        self.sending.as_ref().is_some_and(|flight| flight.epoch.is_none())
    }

    /// Bytes at hand from where the socket has got to.
    fn available(&self) -> u64 {
        let end = match &self.source {
            Source::None => 0,
            Source::Window(window) => window.end,
            Source::Buffers(buffers) => buffers.front().map_or(0, |b| b.start + b.length),
        };
        end.saturating_sub(self.wire_range())
    }

    // Bytes of the range on the wire; the operation must agree.
    pub(super) fn wire_range(&self) -> u64 {
        assert_eq!(self.operation.range_sent(), self.wire.range());
        self.wire.range()
    }

    /// Up to where the range has been sent or lies in private memory, without a gap.
    pub(super) fn covered(&self) -> u64 {
        let mut covered = self.wire_range();
        if let Source::Buffers(buffers) = &self.source {
            for buffer in buffers {
                if buffer.start <= covered {
                    covered = covered.max(buffer.start + buffer.length);
                }
            }
        }
        covered
    }

    /// The ring thread takes it up; EAGER and EXACT start at once.
    pub(super) fn accept(&mut self) {
        if self.has(RequestFlags::KEPT) && self.script.pick(2) == 0 {
            self.begin();
            self.read_ahead();
            self.settle();
        }
    }

    /// The socket's turn: one step.
    pub(super) fn turn(&mut self) {
        self.ready = false;
        if self.armed {
            return;
        }
        self.begin();
        if self.sending.is_some() {
            // The driver does not ask then; the operation says so by itself.
            let portion = self.operation.want_send(self.available(), self.send_chunk);
            assert_eq!(portion, None, "two sends at once");
            return;
        }
        if !self.send_next() && self.operation.needs_data() {
            self.find_data();
            self.send_next();
        }
        self.settle();
    }

    fn begin(&mut self) {
        let phase = self.operation.phase();
        if std::mem::replace(&mut self.begun, true) || matches!(phase, Phase::Ending(_)) {
            return;
        }
        match self.file.map(|file| file.stat()) {
            None if phase == Phase::Queued => {
                self.oracle.learn(0, 0);
                self.operation.start(Size::NoFile);
            }
            None => self.operation.resume(Size::NoFile),
            Some(size) if phase == Phase::Queued => {
                self.learn_size(size);
                self.operation.start(size);
            }
            Some(size) => {
                if self.wire.range() < self.oracle.file_end {
                    self.learn_size(size);
                }
                self.operation.resume(size);
            }
        }
        self.oracle.sent(self.wire.len());
    }

    fn learn_size(&mut self, size: Size) {
        if let Size::Known(size) = size {
            let available = size.saturating_sub(self.task.offset);
            self.oracle.learn(available, self.wire.range());
        }
    }

    // Chooses a way for the next bytes of the range and sets out on it.
    fn find_data(&mut self) {
        assert!(!self.sends_from_window(), "the window goes while the kernel sends from it");
        assert_eq!(self.available(), 0, "data is at hand already");
        self.source = Source::None;
        self.passing = false;
        if self.operation.is_reading() {
            return;
        }
        if self.is_held() {
            self.read_ahead();
            if self.has(RequestFlags::EXACT) || !self.waits_for_pool || self.operation.is_reading()
            {
                return;
            }
            self.passing = true;
        }
        let Some(file) = self.file else { return };
        let way = [Way::Pooled, Way::Mapped, Way::Mapped, Way::ZeroCopy, Way::Mapped]
            [self.script.pick(5) as usize];
        self.zero_copy = way == Way::ZeroCopy;
        // As plan::choose() has it.
        let may_map = file.mappable && self.task.length != TO_EOF;
        if way == Way::Mapped && may_map && self.map() {
            return;
        }
        self.read_ahead();
    }

    // Maps the next window; false where that cannot be.
    fn map(&mut self) -> bool {
        let Some(file) = &mut self.file else { return false };
        match file.stat() {
            size @ Size::Known(bytes) => {
                self.learn_size(size);
                self.operation.short(bytes.saturating_sub(self.task.offset));
                self.oracle.sent(self.wire.len());
            }
            _ => {
                file.mappable = false;
                return false;
            }
        }
        if self.operation.needs_data() {
            let start = self.wire_range();
            let end = self.operation.file_length().min(start + self.chunk);
            self.source = Source::Window(Window { start, end });
        }
        true
    }

    /// Starts the next read, if one is due and there is room.
    pub(super) fn read_ahead(&mut self) {
        if matches!(self.source, Source::Window(_)) {
            return;
        }
        let held = self.is_held();
        let ahead = if held { u64::MAX } else { 1 };
        let Some((at, length)) = self.operation.want_read(ahead, self.chunk) else {
            return;
        };
        self.check_read(at, length, ahead);
        let kept = held || self.zero_copy;
        let room = if kept { self.room_kept } else { self.room_passing };
        self.zero_copy &= room || held;
        if !(room || !held && self.room_passing) {
            return self.wait_for_pool();
        }
        // Less where a lease has less room.
        let shorter = self.script.pick(4) == 1;
        let length = if shorter { self.script.at_most(length - 1).max(1) } else { length };
        self.operation.read_started();
        self.reading = Some((at, length));
    }

    fn check_read(&self, at: u64, length: u64, ahead: u64) {
        assert!(self.reading.is_none(), "two reads at once");
        assert!(length > 0 && length <= self.chunk);
        assert_eq!(at, self.covered(), "a read leaves a gap or reads again");
        assert!(at.saturating_add(length) <= self.oracle.file_end, "a read beyond the range");
        assert!(at - self.wire_range() < ahead, "reads further ahead than it may");
        assert_eq!(self.told, None, "reads the file after its snapshot has been reported");
    }

    fn wait_for_pool(&mut self) {
        self.waits_for_pool = true;
        let line = if self.is_held() { &mut self.waits_kept } else { &mut self.waits_passing };
        *line = true;
    }

    /// There is room in the pool again.
    pub(super) fn serve_pool_waiters(&mut self) {
        (self.room_kept, self.room_passing) = (true, true);
        for kept in [false, true] {
            let line = if kept { &mut self.waits_kept } else { &mut self.waits_passing };
            if !std::mem::take(line) {
                continue;
            }
            self.waits_for_pool = false;
            let has_data = self.available() > 0 || self.operation.is_reading();
            let passing = self.passing;
            self.passing &= !kept || has_data;
            self.read_ahead();
            if self.waits_for_pool {
                self.passing = passing;
            }
        }
    }

    pub(super) fn is_waiting_for_pool(&self) -> bool {
        self.waits_kept || self.waits_passing
    }

    // Sends the next portion if it is at hand.
    fn send_next(&mut self) -> bool {
        let available = self.available();
        let Some(mut portion) = self.operation.want_send(available, self.send_chunk) else {
            return false;
        };
        self.check_portion(&portion, available);
        let from_buffers = matches!(self.source, Source::Buffers(_));
        let zero_copy = self.zero_copy && from_buffers && portion.range.1 > 0;
        let alone = zero_copy && portion.header.1 == 0;
        if alone {
            portion.more |= portion.zeros > 0 || portion.trailer.1 > 0;
            portion.zeros = 0;
            portion.trailer.1 = 0;
        } else if self.zero_copy && portion.range.1 > 0 && portion.header.1 > 0 {
            portion.range.1 = 0;
            portion.zeros = 0;
            portion.trailer.1 = 0;
            portion.more = true;
        }
        self.operation.send_started(portion.more);
        let epoch = self.epoch_of(&portion);
        let sizes = vec![self.file.map_or(0, |file| file.size)];
        self.sending = Some(Flight { portion, epoch, zero_copy: alone, sizes });
        true
    }

    // When the data was read; None for a window.
    fn epoch_of(&self, portion: &Portion) -> Option<u32> {
        let (from, length) = portion.range;
        match &self.source {
            _ if length == 0 => Some(0),
            Source::None => panic!("there is no data to send"),
            Source::Window(window) => {
                assert!(from >= window.start && from + length <= window.end);
                None
            }
            Source::Buffers(buffers) => {
                let front = buffers.front().expect("data is at hand");
                assert!(from >= front.start && from + length <= front.start + front.length);
                Some(front.epoch)
            }
        }
    }

    fn check_portion(&self, portion: &Portion, available: u64) {
        assert!(self.sending.is_none(), "two sends at once");
        assert!(portion.len() > 0);
        assert!(portion.range.1 <= available.min(self.send_chunk), "more than is at hand");
        assert!(portion.zeros <= PADDING_MAX);
        let (sent, end) = (self.wire_range(), self.oracle.file_end);
        if self.has(RequestFlags::EXACT) {
            assert!(end != TO_EOF && self.covered() >= end, "EXACT, and not all is held");
        }
        let waits = sent < end && available == 0 && self.file.is_some();
        assert!(!waits, "the header went ahead of the data");
        // MSG_MORE where nothing follows at once would hold data back, the lack of it would cut a
        // segment.
        let header = u64::from(self.task.header);
        let trailer = u64::from(self.task.trailer);
        let total = header.saturating_add(self.oracle.range()).saturating_add(trailer);
        let reached = sent + portion.range.1;
        let is_at_hand = reached >= end || self.covered().max(sent + available) > reached;
        let follows = is_at_hand && self.wire.len() + portion.len() < total;
        assert_eq!(portion.more, self.has(RequestFlags::MORE) || follows);
        if reached + portion.zeros == self.oracle.range() {
            let trailer_end = portion.trailer.0 + portion.trailer.1;
            assert_eq!(trailer_end, self.task.trailer, "the trailer needs a send of its own");
        }
    }

    /// Something has happened: the next step, or the end.
    pub(super) fn proceed(&mut self) {
        self.ready |= self.operation.ended().is_none();
        self.settle();
    }

    pub(super) fn wait_for_peer(&mut self) {
        self.armed = true;
        match &self.source {
            Source::Buffers(buffers) if !buffers.is_empty() => self.lingers |= !self.is_held(),
            _ => self.source = Source::None,
        }
        self.settle();
    }

    /// The peer has been slow for a while: its data makes room for others.
    pub(super) fn give_up_data(&mut self) {
        self.lingers = false;
        let idle = self.reading.is_none() && self.sending.is_none();
        if self.armed && !self.is_held() && idle {
            self.source = Source::None;
            self.operation.forget_held();
            self.passing = false;
        }
    }

    /// Gives back the buffers that have been sent.
    pub(super) fn consume(&mut self) {
        let sent = self.wire_range();
        if let Source::Buffers(buffers) = &mut self.source {
            while buffers.front().is_some_and(|b| b.start + b.length <= sent) {
                buffers.pop_front();
            }
        }
    }

    pub(super) fn push(&mut self, buffer: Buffer) {
        match &mut self.source {
            Source::Buffers(buffers) => buffers.push_back(buffer),
            source => {
                assert!(!matches!(source, Source::Window(_)), "a read takes a window's place");
                *source = Source::Buffers(VecDeque::from([buffer]));
            }
        }
    }

    /// A read has completed, with this much or an error.
    pub(super) fn on_read(&mut self, result: Result<u64, i32>) {
        let Some((start, _)) = self.reading.take() else { return };
        match result {
            Ok(count) if count > 0 && self.operation.phase() == Phase::Running => {
                self.push(Buffer { start, length: count, epoch: self.epoch });
                self.operation.read_done(start, count);
            }
            Ok(_) => {
                self.oracle.learn(start, self.wire.range());
                self.operation.read_done(start, 0);
            }
            Err(libc::EAGAIN | libc::EINTR) => self.operation.read_again(),
            Err(errno) => {
                self.oracle.fail(-errno);
                self.operation.read_failed(-errno);
            }
        }
        self.oracle.sent(self.wire.len());
        if self.is_held() {
            self.read_ahead();
        }
        self.proceed();
    }

    /// Ends it from outside: cancelled, or out of time.
    pub(super) fn end(&mut self, status: i32) {
        self.oracle.fail(status);
        self.operation.fail(status);
        self.settle();
    }

    /// The kernel's last word on a send was a failure.
    pub(super) fn fail_send(&mut self, errno: i32) {
        self.oracle.fail(-errno);
        self.operation.send_failed(-errno);
        self.settle();
    }

    pub(super) fn stop_zero_copy(&mut self) {
        self.zero_copy = false;
    }

    /// Reports what is due, and looks whether the state is what it must be.
    pub(super) fn settle(&mut self) {
        if !self.is_inline {
            self.report_snapshot();
        }
        let expected = match self.oracle.status {
            Some(status) => Phase::Ending(status),
            None => Phase::Running,
        };
        if self.operation.phase() != Phase::Queued || self.oracle.status.is_some() {
            assert_eq!(self.operation.phase(), expected);
        }
        assert_eq!(self.operation.wire(), self.wire.len());
        self.check_questions();
        let idle = self.reading.is_none() && self.sending.is_none();
        let ended = self.oracle.status.filter(|_| idle);
        assert_eq!(self.operation.ended(), ended);
        self.done = ended;
    }

    // What the driver asks the operation about.
    fn check_questions(&self) {
        let operation = &self.operation;
        let owed = self.has(RequestFlags::NOTIFY_SNAPSHOT) && self.told.is_none();
        assert_eq!(operation.owed_events(), u32::from(owed));
        assert_eq!(operation.is_reading(), self.reading.is_some());
        assert_eq!(operation.is_sending(), self.sending.is_some());
        let all_held = match operation.phase() {
            Phase::Queued => false,
            Phase::Running => self.covered() >= self.oracle.file_end,
            Phase::Acknowledging(_) | Phase::Ending(_) => true,
        };
        assert_eq!(operation.is_all_held(), all_held);
        let needs_data = operation.phase() == Phase::Running
            && self.covered() <= self.wire_range()
            && self.wire_range() < self.oracle.file_end;
        assert_eq!(operation.needs_data(), needs_data);
    }

    fn report_snapshot(&mut self) {
        let end = self.oracle.file_end;
        if self.operation.take_snapshot_event(self.is_held()) {
            assert!(self.has(RequestFlags::NOTIFY_SNAPSHOT), "nobody asked for the snapshot");
            assert_eq!(self.told, None, "the snapshot is reported twice");
            assert!(matches!(self.oracle.status, None | Some(0)));
            assert!(end != TO_EOF && self.covered() >= end, "reported before it is taken");
            self.told = Some(self.epoch);
        }
        let running = self.operation.phase() == Phase::Running;
        if running && self.has(RequestFlags::NOTIFY_SNAPSHOT) && self.is_held() && end != TO_EOF {
            let taken = self.covered() >= end;
            assert!(!taken || self.told.is_some(), "the snapshot has been taken, and not reported");
        }
    }
}
