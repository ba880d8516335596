// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library's own protocols between threads under loom, which tries every order in which threads
//! can meet, with every value that a load may see by the rules of memory, and reports a deadlock
//! where a thread waits for what will never come.
//!
//! The modules are the library's files; what they stand on, its locks, atomics and futexes, is
//! loom's.  loom takes SeqCst for AcqRel: whatever passes here needs no more than that.  The
//! converse is left out: where the code relies on one order of all SeqCst operations, as in "each
//! stores to its own word and then reads the other's", loom reports an error that does not exist.
//! The library reads by an atomic addition or a swap in such places.
#![cfg(test)]
#![allow(dead_code, unused_imports)]

#[path = "../../../src/collections/mod.rs"]
mod collections;
#[path = "../../../src/types/mod.rs"]
mod types;

mod model {
    mod claims;
    mod completions;
    mod cuts;
    mod doorbell;
    mod permits;
}

#[path = "../../../src/handoff"]
mod handoff {
    pub mod claims;
    pub mod completions;
    pub mod cuts;
    pub mod doorbell;
    pub mod permits;

    pub mod sync {
        pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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

    pub fn descriptor_limit() -> u32 {
        1024
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

use loom::sync::{Condvar, Mutex};
use std::collections::VecDeque;

/// All orders with up to three preemptions; all of them without a limit take hours.
fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// Stands for what goes to the ring thread: the channel and the library's own socket.
struct Channel<T> {
    messages: Mutex<VecDeque<T>>,
    there: Condvar,
}

impl<T> Channel<T> {
    fn new() -> Channel<T> {
        Channel { messages: Mutex::new(VecDeque::new()), there: Condvar::new() }
    }

    fn send(&self, message: T) {
        self.messages.lock().unwrap().push_back(message);
        self.there.notify_one();
    }

    /// The next message, if there is one.
    fn look(&self) -> Option<T> {
        self.messages.lock().unwrap().pop_front()
    }

    /// The next message; a deadlock if none comes.
    fn receive(&self) -> T {
        let mut messages = self.messages.lock().unwrap();
        loop {
            match messages.pop_front() {
                Some(message) => return message,
                None => messages = self.there.wait(messages).unwrap(),
            }
        }
    }
}
