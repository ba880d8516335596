// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring thread's sleep.

use crate::check;
use crate::handoff::doorbell::{Doorbell, Found, Slept};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
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

/// The kernel as the ring thread waits for it: only a message ends the wait.
struct Kernel {
    doorbell: Doorbell,
    work: Mutex<u32>,
    messages: Mutex<u32>,
    has_message: Condvar,
}

impl Kernel {
    fn send_message(&self) {
        *self.messages.lock().unwrap() += 1;
        self.has_message.notify_one();
        self.doorbell.wake();
    }

    fn publish_work(&self) {
        *self.work.lock().unwrap() += 1;
        if self.doorbell.ring() == Found::InKernel {
            self.send_message();
        }
    }

    fn wait(&self) {
        if self.doorbell.begin_wait(|| *self.work.lock().unwrap() > 0) {
            let mut messages = self.messages.lock().unwrap();
            while *messages == 0 {
                messages = self.has_message.wait(messages).unwrap();
            }
            *messages = 0;
            drop(messages);
            self.doorbell.end_wait();
        }
    }
}

/// A message is sent, and work is published without one, while the ring thread waits for the
/// kernel, again and again, until it has seen the work.
#[test]
fn no_work_is_waited_through() {
    check(|| {
        let kernel = Arc::new(Kernel {
            doorbell: Doorbell::default(),
            work: Mutex::new(0),
            messages: Mutex::new(0),
            has_message: Condvar::new(),
        });
        let callers = [Kernel::send_message, Kernel::publish_work].map(|call| {
            let kernel = kernel.clone();
            thread::spawn(move || call(&kernel))
        });
        while *kernel.work.lock().unwrap() == 0 {
            kernel.wait();
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
}
