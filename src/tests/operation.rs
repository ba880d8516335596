// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of one operation: whatever happens in whatever order, what goes out is what was asked
//! for, and the end comes once and tells the truth.
#![forbid(unsafe_code)]

use super::wire::Part;
use super::world::{File, World};
use super::{Script, cases, script};
use crate::decide::operation::{Operation, Task};
use crate::types::completion::CompletionFlags;
use crate::types::request::{RequestFlags, TO_EOF};
use proptest::prelude::*;

/// An operation about to be submitted.
#[derive(Clone, Debug)]
struct Case {
    task: Task,
    file: Option<File>,
    chunk: u64,
    send_chunk: u64,
    inline: bool,
}

fn staged_length() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0u32), 6 => 1..20u32, 1 => Just(1 << 20)]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 8 => 1..80u64, 4 => Just(TO_EOF), 1 => 65_000..200_000u64]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 8 => 0..40u64, 1 => Just(i64::MAX as u64 - 300_000)]
}

prop_compose! {
    fn file()(
        size in prop_oneof![1 => Just(0), 8 => 1..160u64],
        hides_size in prop::bool::weighted(0.15),
        mappable in prop::bool::weighted(0.8),
    ) -> File {
        File { size, hides_size, mappable }
    }
}

prop_compose! {
    fn case()(
        (header, trailer) in (staged_length(), staged_length()),
        (offset, length) in (offset(), length()),
        flags in 0u32..32,
        file in prop::option::weighted(0.95, file()),
        beyond in prop::option::weighted(0.8, 0..30u64),
        chunk in prop_oneof![6 => 1..50u64, 1 => Just(100_000)],
        smaller in prop::option::weighted(0.2, 1..50u64),
        inline in prop::bool::weighted(0.3),
    ) -> Case {
        let mut flags = RequestFlags::from_bits_truncate(flags);
        // What Request::check() lets pass.
        if length == TO_EOF || flags.contains(RequestFlags::EXACT) {
            flags -= RequestFlags::ZERO_PAD;
        }
        let length = if file.is_some() { length } else { 0 };
        let mut file = file;
        if let (Some(file), Some(beyond)) = (&mut file, beyond) {
            // Mostly all of the range is there, to begin with.
            file.size = if length < 100 { offset + length + beyond } else { offset + 3 * beyond };
        }
        let send_chunk = chunk.min(smaller.unwrap_or(chunk));
        Case { task: Task { header, trailer, offset, length, flags }, file, chunk, send_chunk, inline }
    }
}

/// From submission to the end.
fn run(case: &Case, script: Script) -> World {
    let mut world = World::new(case.task, case.file, case.chunk, script);
    world.send_chunk = case.send_chunk;
    if case.inline {
        world.run_inline();
    }
    if world.done.is_none() {
        world.accept();
    }
    while world.done.is_none() && !world.script.is_over() {
        step(&mut world);
    }
    // From here on all goes well, so that it must come to an end.
    for _ in 0..2000 {
        if world.done.is_some() {
            return world;
        }
        go_on(&mut world);
    }
    panic!("does not end");
}

fn step(world: &mut World) {
    match world.script.pick(32) {
        0..=4 => go_on(world),
        // Another operation on the same socket, or a spurious event.
        6..=9 => world.turn(),
        10..=14 => world.finish_read(),
        15..=20 => world.finish_send(),
        21 | 22 => world.peer_reads(),
        23..=25 => world.change_file(),
        5 if world.sends_from_window() => world.change_file(),
        26 if world.lingers => world.give_up_data(),
        27 => world.serve_pool_waiters(),
        28 => world.room_kept = false,
        29 => world.room_passing = false,
        30 if world.script.pick(8) == 1 => world.end(-libc::ECANCELED),
        31 if world.script.pick(8) == 1 => world.end(-libc::ETIMEDOUT),
        _ => go_on(world),
    }
}

// The next thing that must happen sooner or later.
fn go_on(world: &mut World) {
    if world.reading.is_some() {
        world.read_all();
    } else if world.sending.is_some() {
        world.send_takes(u64::MAX);
    } else if world.ready && !world.armed {
        world.turn();
    } else if world.armed {
        world.peer_reads();
    } else if world.is_waiting_for_pool() {
        world.serve_pool_waiters();
    } else if std::mem::take(&mut world.retry) {
        world.proceed();
    } else {
        panic!("nothing would ever happen again");
    }
}

fn check_end(world: &mut World) {
    let (task, oracle) = (world.task, &world.oracle);
    let status = world.done.expect("it has ended");
    assert!(world.reading.is_none() && world.sending.is_none());
    world.wire.check(task.header.into(), oracle.range(), task.trailer.into());
    let zeros = world.wire.count(&[Part::Hole, Part::Padding]);
    if status == 0 {
        let staged = u64::from(task.header) + u64::from(task.trailer);
        assert_eq!(world.wire.len(), staged + oracle.range());
        assert!(zeros == 0 || oracle.is_padded, "zeros that nobody asked for");
        assert!(world.has(RequestFlags::ZERO_PAD) || !oracle.is_padded);
        let due = world.has(RequestFlags::NOTIFY_SNAPSHOT) && !world.is_inline;
        assert!(!due || world.told.is_some(), "the snapshot was never reported");
    }
    let is_cut = status < 0 && world.wire.len() > 0;
    assert_eq!(world.operation.is_cut(), is_cut);
    // What the socket may still hold back must be let go, unless more was announced.
    let may_hold = status == 0 && world.has(RequestFlags::MORE);
    assert_eq!(world.operation.take_held_back(), world.sent_more && !may_hold);
    check_flags(world);
    // It stays ended, and wants nothing more.
    assert_eq!(world.operation.ended(), Some(status));
    assert_eq!(world.operation.want_send(1, 1), None);
    assert_eq!(world.operation.want_read(u64::MAX, 1), None);
    assert!(!world.operation.needs_data());
    assert!(status == 0 || !world.operation.take_snapshot_event(true));
}

fn check_flags(world: &World) {
    let mut padded = CompletionFlags::empty();
    padded.set(CompletionFlags::WAS_PADDED, world.oracle.is_padded);
    let (due, possible) = (world.was_due | padded, world.was_possible | padded);
    let was = world.operation.was();
    assert!(was.contains(due) && possible.contains(was), "{due:?} <= {was:?} <= {possible:?}");
}

proptest! {
    #![proptest_config(cases(300_000))]

    #[test]
    fn model_operation_sends_what_was_asked_for_and_ends_once(case in case(), script in script(150)) {
        let mut world = run(&case, script);
        check_end(&mut world);
    }
}

#[test]
fn model_operation_adds_up_what_becomes_known_of_its_way() {
    let task = Task { header: 0, trailer: 0, offset: 0, length: 10, flags: RequestFlags::empty() };
    let mut operation = Operation::new(task);
    assert_eq!(operation.was(), CompletionFlags::empty());
    operation.mark(CompletionFlags::WAS_ZEROCOPY);
    operation.mark(CompletionFlags::WAS_COPIED);
    let both = CompletionFlags::WAS_ZEROCOPY | CompletionFlags::WAS_COPIED;
    assert_eq!(operation.was(), both);
}
