// SPDX-License-Identifier: MIT OR Apache-2.0
//! The completion queue and the bell.

use crate::check;
use crate::handoff::completions::{Completions, Entry};
use crate::types::completion::Completion;
use loom::sync::{Arc, Mutex};
use loom::thread;

fn entry(id: u64) -> Entry {
    Entry { completion: Completion { id, ..Completion::default() }, cut: None }
}

/// Two threads poll without a time limit, one batch of two and the end come: nobody is left.
#[test]
fn whoever_polls_is_woken() {
    check(|| {
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
    check(|| {
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
    check(|| {
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
            assert!(
                *bytes.lock().unwrap() > 0,
                "a completion waits, and the descriptor does not tell"
            );
            taken += poll();
        }
        poll();
        assert_eq!(*bytes.lock().unwrap(), 0, "readable, though nothing waits");
    });
}
