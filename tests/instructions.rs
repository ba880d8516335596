// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many instructions the pure parts take for one operation, which does not depend on what else
//! the machine does: each part runs under valgrind's callgrind and must stay below its bound.
//!
//! The bounds are half as much again as was counted on x86-64 with Rust 1.95.  One that is passed
//! is either a loss to be mended, or the price of something: then it is raised, and the commit says
//! for what.  As a program: `instructions PART` drives one part.
#![allow(missing_docs)]

// The parts are private: they are compiled in here, beside what they need themselves.
#[allow(dead_code, unused_imports)]
#[path = "../src/collections/mod.rs"]
mod collections;
#[allow(dead_code, unused_imports)]
#[path = "../src/decide/mod.rs"]
mod decide;
#[allow(dead_code, unused_imports)]
#[path = "../src/sys/mod.rs"]
mod sys;
#[allow(dead_code, unused_imports)]
#[path = "../src/types/mod.rs"]
mod types;
#[allow(dead_code, unused_imports)]
#[path = "../src/handoff"]
mod handoff {
    pub mod completions;
    pub mod sync;
}
#[allow(dead_code, unused_imports)]
#[path = "../src/ring"]
mod ring {
    pub mod pool;
}

use decide::operation::{Operation, Task};
use decide::plan::{Known, PageCache, ZeroCopy};
use decide::schedule::Schedule;
use decide::timers::{Alarm, Timers};
use decide::token::{Kind, Token};
use handoff::completions::{Completions, Entry};
use ring::pool::{Pool, Purpose};
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use types::completion::{Completion, CompletionFlags};
use types::file::Size;
use types::request::RequestFlags;

const ROUNDS: u64 = 2000;
const SOCKETS: usize = 64;
const BATCH: u64 = 32;
const PIECE: u64 = 1 << 20;

/// A part: its name, what drives it, how often a round of that uses it, and the bound.
struct Part {
    name: &'static str,
    drive: fn(u64),
    in_round: u64,
    most: u64,
}

const PARTS: [Part; 8] = [
    Part { name: "operation, an answer in one send", drive: answer, in_round: 1, most: 130 },
    Part { name: "operation, a piece of 1 MiB", drive: pieces, in_round: 16, most: 170 },
    Part { name: "plan, a way for a piece", drive: ways, in_round: 16, most: 90 },
    Part {
        name: "schedule, an operation on one of 64 sockets",
        drive: turns,
        in_round: SOCKETS as u64,
        most: 440,
    },
    Part { name: "completions, one of a batch of 32", drive: batches, in_round: BATCH, most: 135 },
    Part { name: "pool, a lease of 64 KiB", drive: leases, in_round: 16, most: 2900 },
    Part { name: "timers, one set and due", drive: alarms, in_round: BATCH, most: 380 },
    Part { name: "token, there and back", drive: tokens, in_round: BATCH, most: 30 },
];

// ---- the parts -----------------------------------------------------------------------------

fn task(header: u32, length: u64) -> Task {
    black_box(Task { header, trailer: 0, offset: 0, length, flags: RequestFlags::empty() })
}

fn answer(_: u64) {
    let mut operation = Operation::new(task(64, 4096));
    operation.start(black_box(Size::Known(1 << 30)));
    let portion = operation.want_send(black_box(4096), PIECE).expect("all of it");
    operation.send_started(false);
    operation.sent(black_box(portion.len()), CompletionFlags::WAS_COPIED, u64::MAX);
    assert_eq!(operation.ended(), Some(0));
}

fn pieces(_: u64) {
    let mut operation = Operation::new(task(0, 16 * PIECE));
    operation.start(black_box(Size::Known(1 << 30)));
    while operation.ended().is_none() {
        let (at, length) = operation.want_read(1, black_box(PIECE)).expect("a read");
        operation.read_started();
        operation.read_done(at, black_box(length));
        let portion = operation.want_send(black_box(length), PIECE).expect("a send");
        operation.send_started(false);
        operation.sent(black_box(portion.len()), CompletionFlags::WAS_COPIED, u64::MAX);
    }
}

fn ways(_: u64) {
    let zero_copy = [ZeroCopy::Untried, ZeroCopy::Trying, ZeroCopy::Real, ZeroCopy::Useless];
    for index in 0..16 {
        let known = black_box(Known {
            remaining: PIECE >> (index / 4),
            resident: index % 2 == 0,
            mappable: true,
            exact_end: false,
            zero_copy: zero_copy[index % 4],
            pool_has_room: true,
            may_pin: true,
            page_cache: PageCache::Excluded,
            by_reference: false,
        });
        if decide::plan::depends_on_residency(&known) {
            black_box(decide::plan::choose(&known));
        }
    }
}

fn turns(round: u64) {
    thread_local! {
        static SCHEDULE: std::cell::RefCell<Schedule> = std::cell::RefCell::default();
    }
    SCHEDULE.with_borrow_mut(|schedule| {
        for slot in 0..SOCKETS {
            let socket = schedule.open(black_box(round << 20 | slot as u64)).expect("memory");
            schedule.enqueue(socket, slot, false).expect("memory");
            schedule.ready(socket, slot % 2 == 0);
        }
        while let Some(socket) = schedule.next_turn() {
            let slot = schedule.first(socket).expect("an operation");
            let socket = schedule.remove(slot);
            schedule.close(socket);
        }
        assert!(schedule.is_empty());
    });
}

fn batches(round: u64) {
    thread_local! {
        static QUEUE: (Completions, std::cell::RefCell<Vec<Entry>>) = Default::default();
    }
    QUEUE.with(|(completions, batch)| {
        let mut batch = batch.borrow_mut();
        for index in 0..BATCH {
            let completion = Completion { id: round + index, ..Completion::default() };
            batch.push(black_box(Entry { completion, cut: None }));
        }
        let _ = completions.push(&mut batch);
        let taken = completions.take(64, Some(Duration::ZERO), |entry| {
            black_box(entry);
        });
        assert_eq!(taken.expect("no wait").count, BATCH as usize);
    });
}

fn leases(_: u64) {
    thread_local! {
        static POOL: std::cell::RefCell<Pool> = std::cell::RefCell::new(Pool::new(32 << 20).expect("memory"));
    }
    POOL.with_borrow_mut(|pool| {
        let leases: [_; 16] = std::array::from_fn(|_| {
            pool.acquire(black_box(64 << 10), Purpose::Passing).expect("room")
        });
        for lease in leases {
            black_box(pool.span(lease));
            pool.release(lease);
        }
    });
}

fn alarms(_: u64) {
    thread_local! {
        static TIMERS: (Instant, std::cell::RefCell<Timers>) = (Instant::now(), Default::default());
    }
    TIMERS.with(|(begin, timers)| {
        let mut timers = timers.borrow_mut();
        for index in 0..BATCH {
            let at = *begin + Duration::from_millis(black_box(index * 7 % BATCH));
            timers.set(at, (index, index as u32, Alarm::Linger)).expect("memory");
        }
        let now = *begin + Duration::from_secs(1);
        while let Some(entry) = timers.take_due(black_box(now)) {
            black_box(entry);
        }
    });
}

fn tokens(round: u64) {
    for slot in 0..BATCH as usize {
        let raw = black_box(Token::new(Kind::Send, slot, round).raw());
        let token = Token::from_raw(raw).expect("ours");
        assert!(token.is_of(round) && token.slot() == slot && token.kind() == Kind::Send);
    }
}

// ---- counting ------------------------------------------------------------------------------

/// What callgrind counts, by name.
#[inline(never)]
fn driven_rounds(part: &Part, rounds: u64) {
    for round in 0..rounds {
        (part.drive)(round);
    }
}

// The instructions of one use; None, with a word why, where they cannot be counted.
fn count(part: &Part) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*driven_rounds*")
        .args([own.as_os_str(), part.name.as_ref()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind ended with {}: {words}", output.status));
    }
    let collected = words.lines().find_map(|line| line.split_once("Collected : "));
    let total: u64 = collected.and_then(|(_, number)| number.trim().parse().ok()).unwrap_or(0);
    Ok(total.div_ceil(ROUNDS * part.in_round))
}

fn check(part: &Part) -> bool {
    let count = match count(part) {
        Ok(count) => count,
        Err(why) => {
            println!("FAIL {}: {why}", part.name);
            return false;
        }
    };
    // Nothing counted is not a success: then the function was not found.
    let good = (1..=part.most).contains(&count);
    let word = if good { "ok  " } else { "FAIL" };
    println!("{word} {}: {count} instructions, at most {}", part.name, part.most);
    good
}

fn main() -> ExitCode {
    if let Some(part) =
        PARTS.iter().find(|part| std::env::args().nth(1).as_deref() == Some(part.name))
    {
        // Tables and queues have their size by then.
        (part.drive)(0);
        driven_rounds(part, ROUNDS);
        return ExitCode::SUCCESS;
    }
    let missing = if cfg!(debug_assertions) {
        Some("the bounds are those of a release build")
    } else if !cfg!(target_arch = "x86_64") {
        Some("the bounds are those of x86-64")
    } else if Command::new("valgrind").arg("--version").output().is_err() {
        Some("valgrind is not installed")
    } else {
        None
    };
    if let Some(missing) = missing {
        println!("SKIP instruction counts: {missing}");
        return ExitCode::SUCCESS;
    }
    let failed = PARTS.iter().filter(|part| !check(part)).count();
    println!("instruction counts: {} parts, {failed} failed", PARTS.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
