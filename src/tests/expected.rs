// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an operation must come to, by the contract alone: from what was asked for, from the sizes
//! that its file has had, and from what went wrong.
#![forbid(unsafe_code)]

use super::machine::{Machine, NOBODY, Run};
use super::memory::What;
use super::wire::{Part, Wire};
use crate::decide::operation::Task;
use crate::types::completion::{Completion, CompletionFlags, Event};
use crate::types::request::{RequestFlags, TO_EOF};
use std::time::{Duration, Instant};

// How long an operation that is to end waits for an acknowledgement, and then for pages that are
// not returned, as in src/ring/lent.rs; and how long it waits for calls on its file, as in
// src/ring/slow.rs, and for the last alarm.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);
const LOOKS: Duration = Duration::from_secs(5);
const CALLS: Duration = Duration::from_millis(200);

/// An operation that has been submitted, and what has been reported of it.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) id: u64,
    pub(super) task: Task,
    pub(super) socket: usize,
    pub(super) file: Option<usize>,
    /// When it was submitted, and when DONE was taken.
    pub(super) submitted: u32,
    pub(super) submitted_at: Instant,
    pub(super) done_at: u32,
    /// Operations submitted before that have smaller ids.
    pub(super) done_before: u64,
    pub(super) deadline: Option<Instant>,
    pub(super) has_arrived: bool,
    /// Its socket may not reach the ring thread, which then cannot push what is held back.
    pub(super) lacks_socket: bool,
    /// The calling thread has sent a part and not looked at the size: reads find the end.
    pub(super) reads_to_end: bool,
    /// When it was told to end.
    to_end_at: Option<Instant>,
    /// It was cancelled before anything else went wrong.
    cancelled_first: bool,
    /// How far its latest read has come, and bytes that have been read to be kept.
    pub(super) read_until: u64,
    pub(super) read: u64,
    /// When SNAPSHOT was taken, and SENT with the bytes on the wire.
    pub(super) told: Option<u32>,
    pub(super) sent_told: Option<(u32, u64)>,
    pub(super) done: Option<Completion>,
    /// Errors that it may end with.
    may_fail: Vec<i32>,
    /// The epoch of the clone of its file.
    pub(super) cloned: Option<u32>,
    /// It was withdrawn, so that nothing is reported.
    pub(super) is_withdrawn: bool,
}

impl Expected {
    pub(super) fn new(
        task: Task,
        socket: usize,
        file: Option<usize>,
        (submitted, submitted_at): (u32, Instant),
    ) -> Expected {
        Expected {
            id: 0,
            task,
            socket,
            file,
            submitted,
            submitted_at,
            done_at: u32::MAX,
            done_before: u64::MAX,
            deadline: None,
            has_arrived: false,
            lacks_socket: false,
            reads_to_end: false,
            to_end_at: None,
            cancelled_first: false,
            read_until: 0,
            read: 0,
            told: None,
            sent_told: None,
            done: None,
            may_fail: Vec::new(),
            cloned: None,
            is_withdrawn: false,
        }
    }

    pub(super) fn has(&self, flag: RequestFlags) -> bool {
        self.task.flags.contains(flag)
    }

    pub(super) fn is_over(&self) -> bool {
        self.done.is_some() || self.is_withdrawn
    }

    pub(super) fn may_fail_with(&mut self, errno: i32) {
        self.may_fail.push(errno);
    }

    /// It is cancelled, after its socket has failed or before.
    pub(super) fn is_cancelled(&mut self, now: Instant, has_failed: bool) {
        let is_late = self.deadline.is_some_and(|at| at <= now);
        let is_first = self.has_arrived && self.may_fail.is_empty() && !has_failed && !is_late;
        self.cancelled_first |= is_first;
        self.is_to_end(libc::ECANCELED, now);
    }

    /// It is told to end, which has no effect on one that has not arrived.
    pub(super) fn is_to_end(&mut self, errno: i32, now: Instant) {
        self.may_fail_with(errno);
        if self.has_arrived {
            self.to_end_at.get_or_insert(now);
        }
    }

    /// Some of the file has been read for it.
    pub(super) fn has_read(&mut self, offset: u64, count: u64) {
        self.read += count;
        self.read_until = offset + count;
    }

    pub(super) fn file_number(&self) -> usize {
        self.file.expect("an operation with a file")
    }

    /// How much of the range the file had at each moment of the operation's life.
    fn available<'a>(&'a self, machine: &'a Machine) -> impl Iterator<Item = u64> + 'a {
        let file = self.file.map(|file| &machine.files[file]);
        let sizes = file
            .into_iter()
            .flat_map(|file| file.sizes_between(self.submitted, self.done_at.min(machine.epoch)));
        sizes.map(|size| size.saturating_sub(self.task.offset))
    }

    /// A completion has been taken.
    pub(super) fn report(&mut self, completion: Completion, epoch: u32, next_id: u64) {
        assert_eq!(self.done, None, "something is reported after DONE");
        assert!(!self.is_withdrawn, "an operation that was withdrawn is reported");
        match completion.event {
            Event::Snapshot => {
                assert!(self.has(RequestFlags::NOTIFY_SNAPSHOT), "nobody asked for the snapshot");
                assert_eq!(self.told, None, "the snapshot is reported twice");
                self.told = Some(epoch);
            }
            Event::Sent => {
                assert!(self.has(RequestFlags::NOTIFY_SENT), "nobody asked for SENT");
                assert_eq!(self.sent_told, None, "SENT is reported twice");
                self.sent_told = Some((epoch, completion.wire_bytes));
            }
            Event::Done => {
                let sent = self.sent_told.is_none_or(|(_, sent)| sent == completion.wire_bytes);
                assert!(sent, "more was sent after SENT");
                self.done = Some(completion);
                self.done_at = epoch;
                self.done_before = next_id;
            }
        }
    }

    /// Everything has gone well since `calm_since`: whether DONE came in time.
    pub(super) fn check_time(&self, now: Instant, calm_since: Instant, is_stuck: bool) {
        let deadline = self.deadline.filter(|&at| at <= now);
        let Some(at) = self.to_end_at.into_iter().chain(deadline).min() else { return };
        let looks = if is_stuck { LOOKS } else { Duration::ZERO };
        let last = at.max(calm_since) + ACKNOWLEDGED_WITHIN + looks + CALLS;
        assert!(now <= last, "{:?} too late: {self:?}", now - last);
    }

    /// Whether it has failed after bytes of it were sent.
    pub(super) fn is_cut(&self) -> bool {
        self.done.is_some_and(|done| done.status < 0 && done.wire_bytes > 0)
    }

    /// Whether all its bytes are in the socket.
    pub(super) fn has_sent_all(&self, machine: &Machine) -> bool {
        let Some(done) = self.done else { return false };
        let staged = u64::from(self.task.header) + u64::from(self.task.trailer);
        let may_end = |end| match self.task.length {
            TO_EOF => self.available(machine).any(|available| available <= end),
            length => length == end,
        };
        done.wire_bytes == staged + done.file_bytes && may_end(done.file_bytes)
    }

    /// Whether these bytes of a file may be its own.
    pub(super) fn may_have_sent(&self, run: &Run) -> bool {
        let at = run.piece.at.checked_sub(self.task.offset);
        run.is_lent()
            && self.has(RequestFlags::ZEROCOPY)
            && self.file == Some(run.piece.owner)
            && at.is_some_and(|at| at < self.task.length)
    }

    /// It was submitted behind one that was cut off, before its caller could know.
    pub(super) fn check_behind_cut(&self) {
        let done = self.done.expect("DONE");
        assert_eq!(done.wire_bytes, 0, "{self:?} went out behind a cut");
    }

    /// Whether DONE tells the truth.
    pub(super) fn check(&self, machine: &Machine) {
        let done = self.done.expect("DONE");
        let inline = done.flags.contains(CompletionFlags::WAS_INLINE);
        let explained = match -done.status {
            0 => true,
            libc::ENODATA => self.was_short(machine),
            libc::ETIMEDOUT => self.deadline.is_some_and(|at| at <= machine.now),
            errno => {
                machine.sockets[self.socket].failed == Some(errno) || self.may_fail.contains(&errno)
            }
        };
        assert!(explained, "nothing explains {done:?} of {self:?}");
        let may_follow = [0, libc::ECANCELED, libc::ENODATA, libc::EMSGSIZE];
        let is_first = !self.cancelled_first || may_follow.contains(&-done.status);
        assert!(is_first, "{done:?} of {self:?}, which was cancelled before");
        // With everything in the socket, only a reset makes it fail.
        let is_asked = matches!(-done.status, libc::ECANCELED | libc::ETIMEDOUT);
        let was_reset = machine.sockets[self.socket].was_reset;
        assert!(!is_asked || self.sent_told.is_none() || was_reset, "{self:?} was sent");
        assert!(self.sent_told.is_none() || self.has_sent_all(machine), "SENT came too early");
        if done.status == 0 {
            self.check_whole(machine, done);
            let due = self.has(RequestFlags::NOTIFY_SNAPSHOT) && !inline;
            assert!(!due || self.told.is_some(), "the snapshot was never reported");
            let due = self.has(RequestFlags::NOTIFY_SENT) && !inline;
            assert!(!due || self.sent_told.is_some(), "SENT was never reported");
        } else if self.is_always_short(machine) && !self.reads_to_end {
            assert_eq!(done.wire_bytes, 0, "the size was not looked at");
        }
    }

    // Whether the file lacked a part of the range, or of what was lent.
    fn was_short(&self, machine: &Machine) -> bool {
        let lent = self.has(RequestFlags::ZEROCOPY).then_some(self.done).flatten();
        let end = match self.task.length {
            TO_EOF => lent.map_or(0, |done| done.file_bytes),
            length => length,
        };
        !self.has(RequestFlags::ZERO_PAD)
            && self.available(machine).any(|available| available < end)
    }

    // Whether it never had all of the range, and said so.
    fn is_always_short(&self, machine: &Machine) -> bool {
        let Some(file) = self.file.map(|file| &machine.files[file]) else { return false };
        let may =
            self.task.length != TO_EOF && !self.has(RequestFlags::ZERO_PAD) && self.task.length > 0;
        let says = |available| available < self.task.length && available > 0 && !file.hides_size;
        let is_empty = |available| available == 0;
        may && (self.available(machine).all(says) || self.available(machine).all(is_empty))
    }

    fn check_whole(&self, machine: &Machine, done: Completion) {
        let staged = u64::from(self.task.header) + u64::from(self.task.trailer);
        assert_eq!(done.wire_bytes, staged + done.file_bytes);
        if self.task.length == TO_EOF {
            let least = self.available(machine).min().unwrap_or(0);
            let most = self.available(machine).max().unwrap_or(0);
            assert!((least..=most).contains(&done.file_bytes), "ends at no end of the file");
        } else {
            assert_eq!(done.file_bytes, { self.task.length });
        }
    }

    /// Looks at what the socket has taken of it: `wire_bytes` of these runs, which are taken away.
    pub(super) fn check_wire(&self, index: usize, machine: &Machine, runs: &mut Vec<Run>) {
        let done = self.done.expect("DONE");
        let (mut wire, mut left, mut first) = (Wire::default(), done.wire_bytes, u32::MAX);
        let (mut ways, mut lent_until, mut more) = ([0; 2], None, true);
        while left > 0 {
            let run = runs.last_mut().expect("fewer bytes than wire_bytes says");
            let length = run.piece.length.min(left);
            left -= length;
            let mut part = *run;
            part.piece.length = length;
            run.piece.at += length;
            run.piece.length -= length;
            if run.piece.length == 0 {
                runs.pop();
            }
            self.check_owner(index, machine, &part);
            more = part.more;
            first = first.min(part.epoch);
            if matches!(part.piece.what, What::File(_) | What::Frozen) || part.is_lent() {
                ways[usize::from(part.is_zero_copy)] += length;
            }
            lent_until = lent_until.max(part.is_lent().then_some(part.until));
            self.put(machine, &mut wire, part, first);
        }
        let has_tls = machine.sockets[self.socket].manner.has_tls;
        let is_due = self.has(RequestFlags::MORE) && done.status == 0 && !has_tls;
        assert!(!is_due || more, "MORE was forgotten");
        // Where the range has no end of its own, what has been sent of it tells.
        let range = self.task.length;
        let range = if range == TO_EOF { done.file_bytes } else { range };
        wire.check(self.task.header.into(), range, self.task.trailer.into());
        assert_eq!(done.file_bytes, wire.range());
        let zeros = wire.count(&[Part::Hole, Part::Padding]);
        let padded = done.flags.contains(CompletionFlags::WAS_PADDED);
        assert!(done.status != 0 || zeros == 0 || padded, "zeros that nobody asked for");
        assert!(!padded || self.has(RequestFlags::ZERO_PAD));
        assert!(
            ways[0] == 0 || done.flags.contains(CompletionFlags::WAS_COPIED),
            "copied, and not said"
        );
        if let (Some(until), 0) = (lent_until, done.status) {
            let sizes = machine.files[self.file_number()].sizes_between(until, self.done_at);
            let end = sizes.max().unwrap_or(0).saturating_sub(self.task.offset);
            assert!(padded || end >= done.file_bytes, "the file was cut while its pages were lent");
        }
        let zero_copy = done.flags.contains(CompletionFlags::WAS_ZEROCOPY);
        assert!(!zero_copy || ways[1] > 0, "nothing was sent without a copy");
        assert!(
            ways[1] == 0 || zero_copy || done.flags.contains(CompletionFlags::WAS_COPIED),
            "no way is said"
        );
    }

    // These bytes are its own, and were read while they might be.
    fn check_owner(&self, index: usize, machine: &Machine, run: &Run) {
        let owner = run.piece.owner;
        let is_its = match run.piece.what {
            What::Zero => owner == NOBODY,
            What::Header | What::Trailer => owner == index,
            What::File(_) | What::Window | What::Frozen => self.file == Some(owner),
        };
        let story = || machine.story(self.socket);
        assert!(is_its, "bytes of {owner} within those of {index}: {}", story());
        assert!(!run.is_lent() || self.has(RequestFlags::ZEROCOPY), "nobody has lent its pages");
        assert!(run.until <= self.done_at, "DONE before the last notification: {}", story());
        let after_sent = self.sent_told.is_some_and(|(told, _)| run.epoch > told);
        assert!(!after_sent, "sent after SENT was reported");
    }

    // One run more on its wire, of which the first byte went at the epoch `first`.
    fn put(&self, machine: &Machine, wire: &mut Wire, run: Run, first: u32) {
        let piece = run.piece;
        let at = piece.at.wrapping_sub(self.task.offset);
        match piece.what {
            What::Header => wire.put(Part::Header, piece.at, piece.length),
            What::Trailer => wire.put(Part::Trailer, piece.at, piece.length),
            What::Zero => wire.put(Part::Padding, wire.range(), piece.length),
            What::File(epoch) => {
                assert!(epoch >= self.submitted, "data from before it was submitted");
                let is_frozen = machine.files[piece.owner].is_frozen;
                let is_told = is_frozen || self.told.is_none_or(|told| epoch <= told);
                assert!(is_told, "data from after the snapshot");
                // Only what the calling thread has sent is older than the clone.
                let is_older = |cloned| epoch < cloned && !self.has(RequestFlags::EXACT);
                let is_its = self.cloned.is_none_or(|cloned| epoch == cloned || is_older(cloned));
                assert!(is_its, "data from another instant than the clone's");
                assert!(
                    !self.has(RequestFlags::EXACT) || epoch <= first || is_frozen,
                    "RequestFlags::EXACT: read after the first byte"
                );
                wire.put(Part::File, at, piece.length);
            }
            What::Frozen => wire.put(Part::File, at, piece.length),
            What::Window => {
                let (from, to) = self.hole(machine, run);
                wire.put(Part::File, at, from);
                wire.put(Part::Hole, at + from, to - from);
                wire.put(Part::File, at + to, piece.length - to);
            }
        }
    }

    // Which bytes of a window were zeros that the file never had.  Where it has grown since, it has
    // had them.
    fn hole(&self, machine: &Machine, run: Run) -> (u64, u64) {
        let last = self.told.unwrap_or(self.done_at);
        assert!(!run.is_lent() || run.until <= last, "SNAPSHOT before the last notification");
        let file = &machine.files[self.file_number()];
        let shown = |epoch| {
            let size = file.sizes_between(epoch, epoch).next().unwrap_or(0);
            let since = file.sizes_between(epoch, last).max().unwrap_or(0);
            let part = |at: u64| at.saturating_sub(run.piece.at).min(run.piece.length);
            (part(since), part(size.next_multiple_of(machine.page)).max(part(since)))
        };
        let seen = file.changes_between(run.epoch, run.until).chain([run.epoch]).map(shown);
        seen.max_by_key(|(from, to)| to - from).unwrap_or((0, 0))
    }

    /// Whether data is held back for more that is not announced.
    pub(super) fn may_hold_back(&self) -> bool {
        let has_failed = self.done.is_some_and(|done| done.status != 0);
        if has_failed { self.lacks_socket } else { self.has(RequestFlags::MORE) }
    }

    /// Whether its snapshot has been taken, and is not reported.
    pub(super) fn owes_snapshot(&self) -> bool {
        let is_due = self.keeps()
            && self.has(RequestFlags::NOTIFY_SNAPSHOT)
            && self.task.length > 0
            && self.read >= self.task.length;
        is_due && self.told.is_none() && !self.is_over()
    }

    /// Whether what is read of it stays until it is sent.
    pub(super) fn keeps(&self) -> bool {
        self.task.flags.intersects(RequestFlags::KEPT)
    }
}
