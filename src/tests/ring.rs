// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring thread's driver under every order of events: whatever happens, what each socket has
//! taken is what was asked for, every operation ends once and tells the truth, and nothing is left.
#![forbid(unsafe_code)]

use super::callers::{LARGE_POOL, Message, Scale, World};
use super::expected::Expected;
use super::machine::Machine;
use super::{Script, cases, page_bytes, script};
use crate::engine::Engine;
use crate::handoff::claims::Turn;
use crate::handoff::port::Registration;
use crate::handoff::questions::Question;
use crate::handoff::submissions::Arrival;
use crate::types::completion::Completion;
use proptest::prelude::*;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

// As in src/ring/thread.rs.
const HEARTBEAT: Duration = Duration::from_secs(1);

// As in src/ring/peers.rs: EAGER may have data at hand that is not kept, and gives it up after this.
const LINGER: Duration = Duration::from_millis(50);

// So many rounds are enough for everything to end, once all goes well.
const ROUNDS_MAX: u32 = 10_000;

/// How the life of a context ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// With what is in flight.
    Finishes,
    /// It is destroyed.
    FailsAll,
    /// Its engine has failed.
    Abandons,
}

impl World {
    // One round of the ring thread (src/ring/thread.rs).
    fn round(&mut self) {
        self.arrive();
        self.driver.alarms();
        self.flush();
        self.driver.turns();
        self.flush();
        let has_turns = self.driver.has_turns();
        let now = self.kernel.machine().now;
        let alarm = self.driver.next_alarm().map(|at| at.saturating_duration_since(now));
        let timeout = match has_turns {
            true => Duration::ZERO,
            false => alarm.map_or(HEARTBEAT, |until| until.min(HEARTBEAT)),
        };
        if timeout > Duration::ZERO {
            self.check_waiting(timeout);
        }
        let mut events = std::mem::take(&mut self.events);
        let turned = self.driver.engine.turn(Some(timeout), &mut events);
        turned.expect("the engine does not fail");
        self.driver.handle_all(events.drain(..));
        self.events = events;
    }

    // Messages arrive.
    fn arrive(&mut self) {
        while self.kernel.machine().pick(4) != 3 {
            match self.transit.pop_front() {
                Some(message) => self.take(message),
                None => return self.driver.forget_cuts(),
            }
        }
    }

    fn take(&mut self, message: Message) {
        let (submission, socket, file) = match message {
            Message::Submitted { submission, socket, file } => (submission, socket, file),
            Message::Released(claim) => return self.driver.claim_released(claim),
            Message::Registered(registration, fd) => return self.registered(registration, fd),
            Message::Unregistered(Registration::File(handle)) => {
                return self.driver.unregister_file(handle);
            }
            Message::Unregistered(Registration::Socket(handle)) => {
                return self.driver.unregister_socket(handle);
            }
        };
        let operation = submission.user_data as usize;
        let choice = self.kernel.machine().pick(64);
        let mut machine = self.kernel.machine();
        let expected = &mut machine.operations[operation];
        expected.has_arrived = true;
        match choice {
            // Its message could not be sent, and nothing of it has gone out.
            62 if submission.turn != Turn::Ahead => {
                expected.is_withdrawn = true;
                drop(machine);
                return self.driver.arrived(Arrival::Withdrawn(submission));
            }
            63 => {
                expected.may_fail_with(libc::EBADF);
                if submission.turn != Turn::Ahead {
                    self.order[expected.socket].push(operation);
                }
                drop(machine);
                let arrival = Arrival::Whole(submission, socket, file);
                return self.driver.reject(arrival, -libc::EBADF);
            }
            _ => {}
        }
        if submission.turn != Turn::Ahead {
            self.order[expected.socket].push(operation);
        }
        drop(machine);
        self.driver.arrived(Arrival::Whole(submission, socket, file));
    }

    fn registered(&mut self, registration: Registration, fd: Option<OwnedFd>) {
        match registration {
            Registration::File(handle) => self.driver.register_file(handle, fd),
            Registration::Socket(handle) => self.driver.register_socket(handle, fd),
        }
    }

    fn flush(&mut self) {
        self.driver.flush();
        if self.kernel.machine().pick(8) != 7 {
            self.poll();
        }
    }

    // A caller takes all completions.
    fn poll(&mut self) {
        let mut taken: Vec<Completion> = Vec::new();
        let shared = &self.shared;
        let each = |entry| taken.push(shared.taken(entry));
        shared.completions.take(usize::MAX, Some(Duration::ZERO), each).expect("no wait");
        let mut machine = self.kernel.machine();
        let (epoch, now) = (machine.epoch, machine.now);
        for completion in taken {
            let at = completion.user_data as usize;
            let is_stuck = machine.was_stuck(machine.operations[at].socket);
            let expected = &mut machine.operations[at];
            assert_eq!(completion.id, expected.id);
            expected.report(completion, epoch, shared.cuts.next_id());
            if let (Some(since), true) = (self.calm_since, expected.done.is_some()) {
                expected.check_time(now, since, is_stuck);
            }
        }
        machine.epoch += 1;
        let resets = shared.counters.connections_reset.load(Ordering::Relaxed);
        assert_eq!(resets, machine.resets);
    }

    // The driver waits: what a socket holds back must be announced.
    fn check_waiting(&self, timeout: Duration) {
        let machine = self.kernel.machine();
        let lingers = timeout <= LINGER;
        let is_quiet = !machine.is_busy() && !lingers && self.shared.completions.is_empty();
        let in_use = self.shared.counters.pool_in_use.load(Ordering::Relaxed);
        if is_quiet && in_use < self.scale.pool / 8 {
            let owes = machine.operations.iter().find(|expected| expected.owes_snapshot());
            assert!(owes.is_none(), "a snapshot waits for the peer: {owes:?}");
        }
        let sockets = machine.sockets.iter().enumerate();
        for (at, socket) in sockets.filter(|(_, socket)| socket.holds_back) {
            let may = machine.may_hold_back(socket) || socket.was_full;
            assert!(
                may || machine.is_followed(at),
                "data is held back, and nothing follows: {}",
                machine.story(at)
            );
        }
    }

    // ---- the script ----------------------------------------------------------------

    fn step(&mut self) {
        let choice = self.kernel.machine().script.pick(32);
        match choice {
            0..=5 => self.submit(),
            6..=8 => self.try_send(),
            9..=12 => self.with_file(Machine::change),
            13..=16 => self.with_socket(Machine::peer_reads),
            17 => self.with_socket(Machine::report_in_vain),
            18 if self.kernel.machine().script.pick(4) == 3 => {
                self.with_socket(|machine, socket| machine.reset(socket, libc::ECONNRESET));
            }
            18 => self.with_socket(|machine, socket| machine.sockets[socket].is_silent = true),
            19 if self.kernel.machine().script.pick(2) == 1 => self.cancel(),
            20 => self.poll(),
            21 => self.with_file(|machine, file| machine.files[file].is_hung = true),
            22 => self.with_file(|machine, file| machine.files[file].is_hung = false),
            23 => {
                let known = &self.shared.known_files;
                self.kernel.machine().learn_speed(known);
            }
            24 => self.register(),
            25 if self.kernel.machine().script.pick(3) == 2 => self.unregister(),
            _ => self.round(),
        }
    }

    fn with_file(&mut self, act: impl FnOnce(&mut Machine, usize)) {
        let mut machine = self.kernel.machine();
        let count = machine.originals();
        let file = machine.script.pick(count) as usize;
        act(&mut machine, file);
    }

    fn with_socket(&mut self, act: impl FnOnce(&mut Machine, usize)) {
        let mut machine = self.kernel.machine();
        let count = machine.sockets.len() as u64;
        let socket = machine.script.pick(count) as usize;
        act(&mut machine, socket);
    }

    // ---- the end -------------------------------------------------------------------

    // From here on all goes well, so that it must come to an end.
    fn finish(&mut self, end: End) {
        {
            let mut machine = self.kernel.machine();
            machine.is_calm = true;
            self.calm_since = Some(machine.now);
        }
        while !self.transit.is_empty() {
            self.arrive();
        }
        if end == End::FailsAll {
            self.fail_all();
        }
        // What waits for a file that does not answer goes on waiting.  All else ends, if the pool
        // has more room than a read of that file and the data kept behind it take.
        let is_large = self.scale.pool >= LARGE_POOL;
        self.go_on(|machine| {
            let mut all = machine.operations.iter();
            let hung = |expected: &Expected| match is_large {
                true => machine.waits_for_hung(expected),
                false => machine.files.iter().any(|file| file.is_hung),
            };
            all.all(|expected| {
                expected.is_over() || hung(expected) || machine.waits_for_pages(expected)
            })
        });
        let count = self.kernel.machine().operations.len();
        for operation in 0..count {
            let id = self.kernel.machine().operations[operation].id;
            if !self.kernel.machine().operations[operation].is_over() {
                self.ask(&Question::Cancel(id));
            }
        }
        self.go_on(|machine| machine.operations.iter().all(|expected| expected.is_over()));
        self.clear_up();
    }

    // Nothing is left of what has ended.
    fn clear_up(&mut self) {
        self.unregister_all();
        while !self.transit.is_empty() {
            self.arrive();
        }
        self.kernel.machine().release_pages();
        self.kernel.machine().files.iter_mut().for_each(|file| file.is_hung = false);
        let mut rounds = 0;
        while !self.driver.is_idle() || self.kernel.machine().is_busy() {
            self.round();
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "something stays in use");
        }
        self.driver.flush();
        assert_eq!(self.shared.counters.window_bytes.load(Ordering::Relaxed), 0);
    }

    fn fail_all(&mut self) {
        let mut machine = self.kernel.machine();
        let now = machine.now;
        for expected in &mut machine.operations {
            expected.is_to_end(libc::ECANCELED, now);
        }
        drop(machine);
        self.driver.fail_all(-libc::ECANCELED);
        self.driver.unregister_all();
    }

    // The engine has failed: it is not known what the kernel does with what it has.
    fn abandon(mut self) {
        while !self.transit.is_empty() {
            self.arrive();
        }
        let mut machine = self.kernel.machine();
        machine.is_abandoned = true;
        machine.operations.iter_mut().for_each(|expected| expected.may_fail_with(libc::EIO));
        drop(machine);
        self.driver.abandon(-libc::EIO);
        self.driver.flush();
        self.poll();
        let machine = self.kernel.machine();
        assert!(machine.operations.iter().all(|expected| expected.is_over()), "no DONE");
        for (at, socket) in machine.sockets.iter().enumerate() {
            assert!(socket.was_reset || !machine.has_lent(at), "pages are lent after DONE");
        }
        assert!(self.shared.permits.is_none_taken());
        drop(machine);
        self.driver.leak();
    }

    fn go_on(&mut self, is_over: impl Fn(&Machine) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if is_over(&self.kernel.machine()) {
                return;
            }
            let count = self.kernel.machine().sockets.len();
            (0..count).for_each(|socket| self.kernel.machine().peer_reads(socket));
            self.round();
        }
        let machine = self.kernel.machine();
        let left: Vec<_> = machine.operations.iter().filter(|left| !left.is_over()).collect();
        let (has_turns, alarm) = (self.driver.has_turns(), self.driver.next_alarm());
        panic!("does not end: turns {has_turns}, alarm {alarm:?}, {left:#?}");
    }

    fn check_end(mut self) {
        self.driver.trim();
        let Self { kernel, shared, driver, order, .. } = self;
        assert_eq!(driver.pinned(), 0);
        drop(driver);
        assert_eq!(shared.counters.pool_in_use.load(Ordering::Relaxed), 0);
        assert_eq!(shared.counters.pool_resident.load(Ordering::Relaxed), 0);
        assert_eq!(shared.staging.used(), 0);
        assert!(shared.permits.is_none_taken());
        assert!(!shared.cuts.is_any_in_transit());
        assert_eq!(shared.descriptors.used(), 0);
        assert!(shared.claims.is_empty());
        let mut machine = kernel.machine();
        machine.check_end();
        machine.check_cuts(&order);
        for (socket, order) in machine.sockets.iter().zip(&order) {
            let mut runs: Vec<_> = socket.wire.iter().rev().copied().collect();
            for &operation in order {
                let expected = &machine.operations[operation];
                expected.check(&machine);
                expected.check_wire(operation, &machine, &mut runs);
            }
            assert!(runs.is_empty(), "more bytes than wire_bytes says");
        }
    }
}

fn scale() -> impl Strategy<Value = Scale> {
    let chunk = prop_oneof![
        2 => 50..400u64,
        2 => Just(4096u64),
        2 => Just(16u64 << 10),
        2 => Just(64u64 << 10),
        1 => Just(256u64 << 10),
        1 => Just(1u64 << 20),
    ];
    let pool = prop_oneof![2 => Just(64u64 << 10), 2 => Just(256u64 << 10), 1 => Just(LARGE_POOL)];
    let windows = prop_oneof![1 => Just(1u64 << 20), 1 => Just(4u64 << 20), 2 => Just(64u64 << 20)];
    (chunk, pool, windows, page_bytes()).prop_map(|(chunk, pool, windows, page)| {
        let range = (chunk * 12).min(3 << 20);
        Scale { chunk, pool, range, windows, page }
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![8 => Just(End::Finishes), 1 => Just(End::FailsAll), 1 => Just(End::Abandons)]
}

fn run(scale: Scale, script: Script, end: End) {
    let mut world = World::new(scale, script);
    while !world.kernel.machine().script.is_over() {
        world.step();
    }
    if end == End::Abandons {
        return world.abandon();
    }
    world.finish(end);
    world.check_end();
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn model_ring_sends_what_was_asked_for_and_ends_everything_once(
        scale in scale(),
        script in script(400),
        end in end(),
    ) {
        run(scale, script, end);
    }
}
