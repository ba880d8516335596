// SPDX-License-Identifier: MIT OR Apache-2.0
//! The channel with both ends: groups of several callers, one submission at a time, with a notice
//! or without, some of which cannot be sent; between them descriptors that are registered and
//! unregistered, and questions.
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
use crate::types::file::{Content, FileFacts, FileKind, Mount};
use crate::types::handle::Handle;
use crossbeam_channel::Sender;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};

/// Callers at a time.
const CALLERS: usize = 3;

/// A group on its way: its submissions, and how many of them are in the channel.
#[derive(Clone, Copy)]
struct Group {
    ids: IdRange,
    pushed: u32,
    /// The handle of the socket of some, or of all that need no notice.
    handle: Option<Handle>,
    is_announced: bool,
}

/// What a caller does.
#[derive(Clone, Copy)]
enum Doing {
    Submits(Group),
    /// Its descriptor is about to be sent, or has been, which is not known yet.
    Registers {
        handle: Handle,
        is_sent: bool,
    },
}

/// A message to the ring thread.
enum Message {
    Submitted(IdRange),
    Registered(Handle),
    Unregistered(Handle),
    /// With the submissions that were handed over before.
    Asked(BTreeSet<u64>),
}

struct World {
    life: Life,
    link: HandOver,
    channel: Sender<Submission>,
    arrivals: RefCell<Arrivals>,
    next_id: u64,
    callers: [Option<Doing>; CALLERS],
    /// Messages that have been sent, each with the id that was next; and what could not be sent.
    sent: VecDeque<(Message, u64)>,
    withdrawn: BTreeSet<u64>,
    /// Those not carried out yet, with their callers; those handed over, those with a handle and
    /// those that must find its descriptor; how far each caller's have been taken.
    expected: BTreeMap<u64, usize>,
    handed_over: BTreeSet<u64>,
    with_handle: BTreeSet<u64>,
    finds_handle: BTreeSet<u64>,
    taken: [u64; CALLERS],
    /// How many handles there were, those that callers may use, and those of the ring thread.
    handles: u32,
    usable: Vec<Handle>,
    open: Vec<Handle>,
    /// The ring thread reads all messages, and then takes what waits with a smaller id.
    catches_up: Option<u64>,
}

/// Every third submission with a notice has a file, and every fifth a registered socket.
fn has_file(id: u64) -> bool {
    id % 3 == 0
}

fn submission(id: u64, group: &Group) -> Submission {
    let task = Task { header: 0, trailer: 0, offset: 0, length: 0, flags: Default::default() };
    let facts = FileFacts {
        kind: FileKind::Regular,
        size: 1,
        inode: 1,
        mount: Mount::numbered(1),
        direct: false,
        content: Content::Unknown,
    };
    let is_first = id == group.ids.first;
    let may_be_registered = !group.is_announced || id % 5 == 0 && !is_first;
    Submission {
        id,
        cookie: id,
        user_data: 0,
        operation: Operation::new(task),
        staged: Staged::default(),
        file: (group.is_announced && has_file(id)).then_some(facts),
        registered: Handles {
            socket: group.handle.filter(|_| may_be_registered),
            ..Handles::default()
        },
        is_announced: group.is_announced,
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
            link: HandOver::default(),
            channel,
            arrivals: RefCell::new(arrivals),
            next_id: 1,
            callers: [None; CALLERS],
            sent: VecDeque::new(),
            withdrawn: BTreeSet::new(),
            expected: BTreeMap::new(),
            handed_over: BTreeSet::new(),
            with_handle: BTreeSet::new(),
            finds_handle: BTreeSet::new(),
            taken: [0; CALLERS],
            handles: 0,
            usable: Vec::new(),
            open: Vec::new(),
            catches_up: None,
        }
    }

    fn step(&mut self, script: &mut Script) {
        let caller = script.pick(CALLERS as u64) as usize;
        match script.pick(14) {
            0..=7 => self.call(caller, script),
            8 | 9 => self.read_message(),
            10 => self.read_withdrawn(),
            11 => self.arrivals.borrow_mut().make_way(&self.link),
            12 => self.pop(),
            _ => self.catch_up(),
        }
    }

    // ---- callers -------------------------------------------------------------------

    // The caller's next step.
    fn call(&mut self, caller: usize, script: &mut Script) {
        match self.callers[caller].take() {
            None => self.begin(caller, script),
            Some(Doing::Registers { is_sent: false, .. }) if script.pick(4) == 1 => {
                self.link.not_registered();
            }
            Some(Doing::Registers { handle, is_sent: false }) => {
                self.send(Message::Registered(handle));
                self.callers[caller] = Some(Doing::Registers { handle, is_sent: true });
            }
            Some(Doing::Registers { handle, .. }) => self.usable.push(handle),
            Some(Doing::Submits(group)) if group.pushed < group.ids.count => {
                self.push(caller, group, script.pick(40) as u32 + 1);
            }
            Some(Doing::Submits(group)) => {
                let ids = group.ids.first..group.ids.first + u64::from(group.ids.count);
                if !group.is_announced {
                    return; // They are handed over already.
                }
                if script.pick(4) == 1 {
                    assert!(self.link.withdraw(group.ids), "no memory");
                    self.withdrawn.extend(ids);
                } else {
                    ids.for_each(|id| self.hand_over(id, &group));
                    self.send(Message::Submitted(group.ids));
                }
            }
        }
    }

    // The caller begins a group, or something else.
    fn begin(&mut self, caller: usize, script: &mut Script) {
        let known = script.pick(self.usable.len().max(1) as u64) as usize;
        let handle = self.usable.get(known).copied();
        match script.pick(12) {
            8 => {
                self.handles += 1;
                let handle = Handle::numbered(self.handles);
                self.link.registers();
                self.callers[caller] = Some(Doing::Registers { handle, is_sent: false });
            }
            9 if handle.is_some() => {
                let handle = self.usable.remove(known);
                self.send(Message::Unregistered(handle));
            }
            10 => self.send(Message::Asked(self.handed_over.clone())),
            choice => {
                let is_announced = choice < 4 || handle.is_none();
                let count = [1, 2, 60][script.pick(3) as usize];
                let ids = IdRange { first: self.next_id, count };
                self.next_id += u64::from(count);
                let group = Group { ids, pushed: 0, handle, is_announced };
                self.callers[caller] = Some(Doing::Submits(group));
            }
        }
    }

    fn push(&mut self, caller: usize, mut group: Group, most: u32) {
        for _ in 0..(group.ids.count - group.pushed).min(most) {
            let id = group.ids.first + u64::from(group.pushed);
            // Asked for room, the ring thread makes some.
            let make_way = || self.arrivals.borrow_mut().make_way(&self.link);
            let new = submission(id, &group);
            if new.registered.socket.is_some() {
                self.with_handle.insert(id);
            }
            let back = self.link.push(new, &self.channel, &self.life, make_way);
            assert!(back.is_none(), "refused, with room and memory");
            self.expected.insert(id, caller);
            if !group.is_announced {
                self.hand_over(id, &group);
            }
            group.pushed += 1;
        }
        self.callers[caller] = Some(Doing::Submits(group));
    }

    // From here on a submission must be found by what comes behind it, and find its handle, unless
    // that has been unregistered in between.
    fn hand_over(&mut self, id: u64, group: &Group) {
        self.handed_over.insert(id);
        if group.handle.is_some_and(|handle| self.usable.contains(&handle)) {
            self.finds_handle.insert(id);
        }
    }

    fn send(&mut self, message: Message) {
        self.sent.push_back((message, self.next_id));
    }

    // ---- the ring thread -----------------------------------------------------------

    // As act_on() in src/ring/thread.rs.
    fn read_message(&mut self) {
        let Some((message, next_id)) = self.sent.pop_front() else { return };
        if let Message::Submitted(ids) = message {
            return self.read_notice(ids, next_id);
        }
        self.take_before(next_id);
        match message {
            Message::Submitted(_) => {}
            Message::Registered(handle) => {
                self.arrivals.borrow_mut().registered();
                self.open.push(handle);
            }
            Message::Unregistered(handle) => self.open.retain(|&open| open != handle),
            Message::Asked(before) => {
                let missed = before.iter().find(|id| self.expected.contains_key(id));
                assert_eq!(missed, None, "a question does not see what was submitted before");
            }
        }
    }

    fn take_before(&mut self, next_id: u64) {
        let mut arrived = Vec::new();
        self.arrivals.borrow_mut().catch_up(next_id, |arrival| note(&mut arrived, arrival));
        self.check(&arrived);
    }

    fn read_notice(&mut self, ids: IdRange, next_id: u64) {
        let open = || OwnedFd::from(File::open("/dev/null").expect("it is there"));
        let (mut descriptors, mut named) = (Vec::new(), Vec::new());
        for id in ids.first..ids.first + u64::from(ids.count) {
            let socket = (!self.with_handle.contains(&id)).then(open);
            let file = has_file(id).then(open);
            named.push((id, socket.as_ref().map(sys::number), file.as_ref().map(sys::number)));
            descriptors.extend(socket.into_iter().chain(file));
        }
        let mut arrived = Vec::new();
        let each = |arrival| note(&mut arrived, arrival);
        self.arrivals.borrow_mut().each(ids, next_id, descriptors.into_iter(), each);
        self.check(&arrived);
        let announced = arrived.iter().filter(|arrived| arrived.is_announced);
        let announced: Vec<_> =
            announced.map(|&Arrived { id, socket, file, .. }| (id, socket, file)).collect();
        assert_eq!(announced, named, "not those that the notice names, with their descriptors");
    }

    // As take_unannounced() in src/ring/thread.rs, with other steps in between.
    fn pop(&mut self) {
        let mut arrived = Vec::new();
        let each = |arrival| note(&mut arrived, arrival);
        if self.arrivals.borrow_mut().pop(&self.link, each) {
            self.catches_up = Some(self.next_id);
        }
        self.check(&arrived);
    }

    fn catch_up(&mut self) {
        if self.sent.is_empty() {
            if let Some(next_id) = self.catches_up.take() {
                self.take_before(next_id);
            }
        }
    }

    // Each comes once, after what its caller has submitted before and while its handle is open.
    fn check(&mut self, all: &[Arrived]) {
        for arrived in all {
            let caller = self.expected.remove(&arrived.id).expect("carried out twice");
            assert!(self.taken[caller] < arrived.id, "ahead of an earlier one of its caller");
            self.taken[caller] = arrived.id;
            let Some(handle) = arrived.handle else { continue };
            let is_due = self.finds_handle.contains(&arrived.id);
            assert!(!is_due || self.open.contains(&handle), "its descriptor is not there");
        }
    }

    fn read_withdrawn(&mut self) {
        let mut arrived = BTreeSet::new();
        assert_eq!(self.link.has_withdrawn(), !self.withdrawn.is_empty());
        self.arrivals.borrow_mut().each_withdrawn(&self.link, |arrival| {
            let Arrival::Withdrawn(submission) = arrival else { panic!("no memory") };
            arrived.insert(submission.id);
        });
        assert_eq!(arrived, std::mem::take(&mut self.withdrawn), "not those withdrawn");
        for id in arrived {
            assert!(self.expected.remove(&id).is_some(), "given back twice");
        }
    }

    fn finish(&mut self) {
        for caller in 0..CALLERS {
            while self.callers[caller].is_some() {
                self.call(caller, &mut Script::default());
            }
        }
        while !self.sent.is_empty() {
            self.read_message();
        }
        self.read_withdrawn();
        self.pop();
        self.catch_up();
        assert!(self.expected.is_empty(), "never arrived: {:?}", self.expected);
        assert!(self.channel.is_empty(), "something is left that no notice names");
        assert!(!self.arrivals.borrow().has_unannounced());
    }
}

/// A submission that has been taken, with its descriptors.
struct Arrived {
    id: u64,
    socket: Option<RawFd>,
    file: Option<RawFd>,
    handle: Option<Handle>,
    is_announced: bool,
}

fn note(all: &mut Vec<Arrived>, arrival: Arrival) {
    let Arrival::Whole(submission, socket, file) = arrival else { panic!("no memory") };
    all.push(Arrived {
        id: submission.id,
        socket: socket.as_ref().map(sys::number),
        file: file.as_ref().map(sys::number),
        handle: submission.registered.socket,
        is_announced: submission.is_announced,
    });
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn model_submissions_arrive_in_order_and_once(mut script in script(200)) {
        let mut world = World::new();
        while !script.is_over() {
            world.step(&mut script);
        }
        world.finish();
    }
}
