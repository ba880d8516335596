// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library's own doorbell and completion queue under loom, which tries every order in which
//! threads can meet, and reports a deadlock where one waits for what will never come.
//!
//! The modules are the library's files; what they stand on, its locks, atomics and futexes, is
//! loom's.  loom takes SeqCst for AcqRel, so that what stands on more than that is left out here.
//! `tests/mutants.sh` shows that mistakes in both are noticed.
#![cfg(test)]
#![allow(dead_code)]

#[path = "../../../src/collections/mod.rs"]
mod collections;
#[path = "../../../src/types/mod.rs"]
mod types;

#[path = "../../../src/handoff"]
mod handoff {
    pub mod completions;
    pub mod doorbell;

    pub mod sync {
        pub use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
        pub use loom::sync::{Condvar, Mutex, MutexGuard};
    }
}

/// Stands for the library's sys: futexes, made of a lock and a condition.
mod sys {
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::sync::{Condvar, Mutex};
    use std::time::Duration;

    use crate::types::errno::Result;

    loom::lazy_static! {
        // All words share one: no test sleeps on two.
        static ref LOCK: Mutex<()> = Mutex::new(());
        static ref CONDITION: Condvar = Condvar::new();
    }

    pub fn futex_wait(word: &AtomicU32, expected: u32, _limit: Option<Duration>) -> Result<()> {
        let guard = LOCK.lock().expect("the lock");
        if word.load(Ordering::SeqCst) == expected {
            drop(CONDITION.wait(guard));
        }
        Ok(())
    }

    pub fn futex_wake(_word: &AtomicU32, count: u32) {
        let _guard = LOCK.lock().expect("the lock");
        if count == 1 {
            CONDITION.notify_one();
        } else {
            CONDITION.notify_all();
        }
    }
}

use handoff::completions::{Completions, Entry};
use handoff::doorbell::{Doorbell, Slept};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use types::completion::Completion;

/// All orders with up to three preemptions; all of them without a limit take hours.
fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

fn entry(id: u64) -> Entry {
    Entry { completion: Completion { id, ..Completion::default() }, cut: None }
}

/// Messages are sent and the bell is rung by two threads; the third sleeps until both have come.
#[test]
fn no_message_is_slept_through() {
    model(|| {
        let doorbell = Arc::new(Doorbell::default());
        let messages = Arc::new(Mutex::new(0));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (doorbell, messages) = (doorbell.clone(), messages.clone());
                thread::spawn(move || {
                    *messages.lock().unwrap() += 1;
                    doorbell.ring();
                })
            })
            .collect();
        let mut received = 0;
        while received < 2 {
            let mut take = || {
                let taken = std::mem::take(&mut *messages.lock().unwrap());
                received += taken;
                taken > 0
            };
            if doorbell.sleep(None, &mut take) == Slept::UntilRung {
                take();
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

/// A flag, as that of the end, is set and the bell rung: nothing but the bell puts the flag in order.
#[test]
fn no_flag_is_slept_through() {
    model(|| {
        let doorbell = Arc::new(Doorbell::default());
        let flag = Arc::new(AtomicBool::new(false));
        let sender = {
            let (doorbell, flag) = (doorbell.clone(), flag.clone());
            thread::spawn(move || {
                flag.store(true, Ordering::Relaxed);
                doorbell.ring();
            })
        };
        let is_set = || flag.load(Ordering::Relaxed);
        while let Slept::Otherwise { .. } = doorbell.sleep(None, is_set) {}
        assert!(is_set(), "woken, and what for cannot be seen");
        sender.join().unwrap();
    });
}

/// Two threads poll without a time limit, one batch of two and the end come: nobody is left.
#[test]
fn whoever_polls_is_woken() {
    model(|| {
        let queue = Arc::new(Completions::default());
        let pollers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || queue.take(1, None, |_| {}).unwrap().count)
            })
            .collect();
        let _ = queue.push(&mut vec![entry(1), entry(2)]);
        let taken: usize = pollers.into_iter().map(|poller| poller.join().unwrap()).sum();
        assert_eq!(taken, 2);
    });
}

/// The context ends while somebody begins to wait.
#[test]
fn the_end_is_not_slept_through() {
    model(|| {
        let queue = Arc::new(Completions::default());
        let poller = {
            let queue = queue.clone();
            thread::spawn(move || queue.take(1, None, |_| {}).unwrap().count)
        };
        queue.close();
        assert_eq!(poller.join().unwrap(), 0);
    });
}

/// As many bytes as wait in the event descriptor, which no order may leave at none while
/// completions wait; and not at some for ever when none do.
#[test]
fn the_event_descriptor_tells_of_what_waits() {
    model(|| {
        let queue = Arc::new(Completions::default());
        let bytes = Arc::new(Mutex::new(0u32));
        queue.want_bell();
        let ring_thread = {
            let (queue, bytes) = (queue.clone(), bytes.clone());
            thread::spawn(move || {
                for id in 1..3 {
                    if queue.push(&mut vec![entry(id)]) {
                        *bytes.lock().unwrap() += 1;
                    }
                }
            })
        };
        let poll = || {
            // As Context::poll_each() does it.
            let taken = queue.take(1, Some(std::time::Duration::ZERO), |_| {}).unwrap();
            if taken.bell > 0 {
                let mut bytes = bytes.lock().unwrap();
                let cleared = taken.bell.min(*bytes);
                *bytes -= cleared;
                drop(bytes);
                queue.owe_bell(taken.bell - cleared);
            }
            taken.count
        };
        let mut taken = poll() + poll();
        ring_thread.join().unwrap();
        while taken < 2 {
            assert!(*bytes.lock().unwrap() > 0, "a completion waits, and the descriptor does not tell");
            taken += poll();
        }
        poll();
        assert_eq!(*bytes.lock().unwrap(), 0, "readable, though nothing waits");
    });
}
