// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring thread's sleep.

use crate::check;
use crate::handoff::doorbell::{Doorbell, Slept};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// Messages are sent and the bell is rung by two threads; the third sleeps until both have come.
#[test]
fn no_message_is_slept_through() {
    check(|| {
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

/// A flag, as that of the end, is set and the bell rung: only the bell puts the flag in order.
#[test]
fn no_flag_is_slept_through() {
    check(|| {
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
