// SPDX-License-Identifier: MIT OR Apache-2.0
//! The channel with both ends: groups of several callers, one submission at a time, and notices
//! of them in any order, some of which cannot be sent.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::decide::operation::{Operation, Task};
use crate::handoff::claims::Turn;
use crate::handoff::life::Life;
use crate::handoff::staging::Staged;
use crate::handoff::submissions::{
    self, Arrival, Arrivals, HandOver, Handles, IdRange, Submission,
};
use crate::sys;
use crate::types::file::{FileFacts, FileKind, Mount};
use crossbeam_channel::Sender;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;

/// Callers at a time.
const CALLERS: usize = 3;

/// A group on its way: its submissions, and how many of them are in the channel.
#[derive(Clone, Copy)]
struct Group {
    ids: IdRange,
    pushed: u32,
}

struct World {
    life: Life,
    hand_over: HandOver,
    channel: Sender<Submission>,
    arrivals: RefCell<Arrivals>,
    next_id: u64,
    callers: [Option<Group>; CALLERS],
    /// Notices that have been sent, or could not be.
    sent: Vec<IdRange>,
    withdrawn: BTreeSet<u64>,
    /// Those not carried out yet.
    expected: BTreeSet<u64>,
}

/// Every third submission has a file.
fn has_file(id: u64) -> bool {
    id % 3 == 0
}

fn submission(id: u64) -> Submission {
    let task = Task { header: 0, trailer: 0, offset: 0, length: 0, flags: Default::default() };
    let facts = FileFacts {
        kind: FileKind::Regular,
        size: 1,
        inode: 1,
        mount: Mount::numbered(1),
        direct: false,
    };
    Submission {
        id,
        cookie: id,
        user_data: 0,
        operation: Operation::new(task),
        staged: Staged::default(),
        file: has_file(id).then_some(facts),
        registered: Handles::default(),
        is_announced: true,
        deadline: None,
        reply: None,
        turn: Turn::InOrder,
    }
}

impl World {
    fn new() -> World {
        // The least that a channel may take: it is often full.
        let (channel, arrivals) = submissions::channel(1).expect("memory");
        World {
            life: Life::default(),
            hand_over: HandOver::default(),
            channel,
            arrivals: RefCell::new(arrivals),
            next_id: 1,
            callers: [None; CALLERS],
            sent: Vec::new(),
            withdrawn: BTreeSet::new(),
            expected: BTreeSet::new(),
        }
    }

    fn step(&mut self, script: &mut Script) {
        let caller = script.pick(CALLERS as u64) as usize;
        match script.pick(12) {
            0..=7 => self.call(caller, script),
            8 | 9 => self.read_notice(script.pick(3) as usize),
            10 => self.read_withdrawn(),
            _ => self.arrivals.borrow_mut().make_way(&self.hand_over),
        }
    }

    // The caller's next step: it begins a group, pushes some of it, or sends the notice.
    fn call(&mut self, caller: usize, script: &mut Script) {
        let Some(mut group) = self.callers[caller] else {
            let count = [1, 2, 60][script.pick(3) as usize];
            let ids = IdRange { first: self.next_id, count };
            self.next_id += u64::from(count);
            self.callers[caller] = Some(Group { ids, pushed: 0 });
            return;
        };
        if group.pushed == group.ids.count {
            self.callers[caller] = None;
            return self.announce(group.ids, script.pick(4) == 1);
        }
        for _ in 0..(group.ids.count - group.pushed).min(script.pick(40) as u32 + 1) {
            let id = group.ids.first + u64::from(group.pushed);
            // Asked for room, the ring thread makes some.
            let make_way = || self.arrivals.borrow_mut().make_way(&self.hand_over);
            let back = self.hand_over.push(submission(id), &self.channel, &self.life, make_way);
            assert!(back.is_none(), "refused, with room and memory");
            self.expected.insert(id);
            group.pushed += 1;
        }
        self.callers[caller] = Some(group);
    }

    fn announce(&mut self, ids: IdRange, fails: bool) {
        if fails {
            assert!(self.hand_over.withdraw(ids), "no memory");
            self.withdrawn.extend(ids.first..ids.first + u64::from(ids.count));
        } else {
            self.sent.push(ids);
        }
    }

    fn read_notice(&mut self, index: usize) {
        if index >= self.sent.len() {
            return;
        }
        let ids = self.sent.remove(index);
        let open = || OwnedFd::from(File::open("/dev/null").expect("it is there"));
        let (mut descriptors, mut numbers) = (Vec::new(), Vec::new());
        for id in ids.first..ids.first + u64::from(ids.count) {
            let (socket, file) = (open(), has_file(id).then(open));
            numbers.push((id, sys::number(&socket), file.as_ref().map(sys::number)));
            descriptors.push(socket);
            descriptors.extend(file);
        }
        let mut arrived = Vec::new();
        self.arrivals.borrow_mut().each(ids, 0, descriptors.into_iter(), |arrival| {
            let Arrival::Whole(submission, socket, file) = arrival else { panic!("no memory") };
            let numbers =
                (sys::number(&socket.expect("it has one")), file.as_ref().map(sys::number));
            arrived.push((submission.id, numbers.0, numbers.1));
        });
        assert_eq!(arrived, numbers, "not those that the notice names, with their descriptors");
        for (id, ..) in arrived {
            assert!(self.expected.remove(&id), "carried out twice");
        }
    }

    fn read_withdrawn(&mut self) {
        let mut arrived = BTreeSet::new();
        assert_eq!(self.hand_over.has_withdrawn(), !self.withdrawn.is_empty());
        self.arrivals.borrow_mut().each_withdrawn(&self.hand_over, |arrival| {
            let Arrival::Withdrawn(submission) = arrival else { panic!("no memory") };
            arrived.insert(submission.id);
        });
        assert_eq!(arrived, std::mem::take(&mut self.withdrawn), "not those withdrawn");
        for id in arrived {
            assert!(self.expected.remove(&id), "given back twice");
        }
    }

    fn finish(&mut self) {
        for caller in 0..CALLERS {
            while self.callers[caller].is_some() {
                self.call(caller, &mut Script::default());
            }
        }
        while !self.sent.is_empty() {
            self.read_notice(0);
        }
        self.read_withdrawn();
        assert!(self.expected.is_empty(), "never arrived: {:?}", self.expected);
        assert!(self.channel.is_empty(), "something is left that no notice names");
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn model_submissions_arrive_as_their_notices_say(mut script in script(200)) {
        let mut world = World::new();
        while !script.is_over() {
            world.step(&mut script);
        }
        world.finish();
    }
}
