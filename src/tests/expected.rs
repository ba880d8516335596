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
use std::time::Instant;

/// An operation that has been submitted, and what has been reported of it.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) id: u64,
    pub(super) task: Task,
    pub(super) socket: usize,
    pub(super) file: Option<usize>,
    /// When it was submitted, and when DONE was taken.
    pub(super) submitted: u32,
    pub(super) done_at: u32,
    /// Operations submitted before that have smaller ids.
    pub(super) done_before: u64,
    pub(super) deadline: Option<Instant>,
    /// Bytes of the file that are on the wire, and that have been read to be kept.
    pub(super) sent: u64,
    pub(super) read: u64,
    /// When SNAPSHOT was taken.
    pub(super) told: Option<u32>,
    pub(super) done: Option<Completion>,
    /// Errors that it may end with.
    may_fail: Vec<i32>,
    /// It was withdrawn, so that nothing is reported.
    pub(super) is_withdrawn: bool,
}

impl Expected {
    pub(super) fn new(task: Task, socket: usize, file: Option<usize>, submitted: u32) -> Expected {
        Expected {
            id: 0,
            task,
            socket,
            file,
            submitted,
            done_at: u32::MAX,
            done_before: u64::MAX,
            deadline: None,
            sent: 0,
            read: 0,
            told: None,
            done: None,
            may_fail: Vec::new(),
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
            Event::Sent => panic!("nobody asked for SENT"),
            Event::Done => {
                self.done = Some(completion);
                self.done_at = epoch;
                self.done_before = next_id;
            }
        }
    }

    /// Whether it was cut off part-way.
    pub(super) fn is_cut(&self) -> bool {
        self.done.is_some_and(|done| done.status < 0 && done.wire_bytes > 0)
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
            libc::EMSGSIZE => self.has(RequestFlags::EXACT) && self.task.length == TO_EOF,
            errno => {
                machine.sockets[self.socket].failed == Some(errno) || self.may_fail.contains(&errno)
            }
        };
        assert!(explained, "nothing explains {done:?} of {self:?}");
        if done.status == 0 {
            self.check_whole(machine, done);
            let due = self.has(RequestFlags::NOTIFY_SNAPSHOT) && !inline;
            assert!(!due || self.told.is_some(), "the snapshot was never reported");
        } else if self.is_always_short(machine) {
            assert_eq!(done.wire_bytes, 0, "the size was not looked at");
        }
    }

    // Whether the file lacked a part of the range.
    fn was_short(&self, machine: &Machine) -> bool {
        let may = self.task.length != TO_EOF && !self.has(RequestFlags::ZERO_PAD);
        may && self.available(machine).any(|available| available < self.task.length)
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
            assert_eq!(done.file_bytes, self.task.length);
        }
    }

    /// Looks at what the socket has taken of it: `wire_bytes` of these runs, which are taken away.
    pub(super) fn check_wire(&self, index: usize, machine: &Machine, runs: &mut Vec<Run>) {
        let done = self.done.expect("DONE");
        let (mut wire, mut left, mut first) = (Wire::default(), done.wire_bytes, u32::MAX);
        let mut ways = [0; 2];
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
            let whose = part.piece.operation;
            assert!(
                whose == index || whose == NOBODY,
                "bytes of {whose} within those of {index}: {}",
                machine.story(self.socket)
            );
            first = first.min(part.epoch);
            if matches!(part.piece.what, What::File(_)) {
                ways[usize::from(part.is_zero_copy)] += length;
            }
            self.put(machine, &mut wire, part, first);
        }
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
        let zero_copy = done.flags.contains(CompletionFlags::WAS_ZEROCOPY);
        assert!(!zero_copy || ways[1] > 0, "nothing was sent without a copy");
        assert!(
            ways[1] == 0 || zero_copy || done.flags.contains(CompletionFlags::WAS_COPIED),
            "no way is said"
        );
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
                assert!(self.told.is_none_or(|told| epoch <= told), "data from after the snapshot");
                assert!(
                    !self.has(RequestFlags::EXACT) || epoch <= first,
                    "RequestFlags::EXACT: read after the first byte"
                );
                wire.put(Part::File, at, piece.length);
            }
            What::Window => {
                // Zeros that the file has had since, when it had grown.
                let until = self.told.unwrap_or(self.done_at);
                let file = &machine.files[self.file_number()];
                let end = file.sizes_between(run.epoch, until).max().unwrap_or(0);
                let real = end.saturating_sub(piece.at).min(piece.length);
                wire.put(Part::File, at, real);
                wire.put(Part::Hole, at + real, piece.length - real);
            }
        }
    }

    /// Whether data is held back for more that is not announced.
    pub(super) fn may_hold_back(&self) -> bool {
        self.has(RequestFlags::MORE) && self.done.is_none_or(|done| done.status == 0)
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
