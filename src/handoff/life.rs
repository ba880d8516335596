// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of a context: in use, shut down, or unusable.
//!
//! | event | transition |
//! |---|---|
//! | a call begins, or has failed | [`Life::alive`] |
//! | something has failed that the context cannot do without | [`Life::die`], [`Life::or_die`] |
//! | the context is dropped | [`Life::shut_down`] |
//! | the ring thread begins a round | [`Life::ending`] |
#![forbid(unsafe_code)]

use crate::handoff::sync::{AtomicBool, AtomicI32, Ordering};
use crate::types::errno::{Errno, Result};

/// The state of a context.
#[derive(Debug, Default)]
pub(crate) struct Life {
    shutting_down: AtomicBool,
    /// The errno of calls on an unusable context; 0: the context is usable.
    dead: AtomicI32,
}

impl Life {
    /// Returns the error of calls on the context, if it is unusable.
    pub fn alive(&self) -> Result<()> {
        match self.errno() {
            0 => Ok(()),
            errno => Err(Errno(errno)),
        }
    }

    /// Returns the errno as a number; 0: the context is usable.
    pub fn errno(&self) -> i32 {
        self.dead.load(Ordering::SeqCst)
    }

    /// Makes the context unusable, with the first reason given.
    pub fn die(&self, errno: i32) {
        let _ = self.dead.compare_exchange(0, errno, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Makes the context unusable if `result` is an error.
    pub fn or_die(&self, result: Result<()>) {
        if let Err(error) = result {
            self.die(error.0);
        }
    }

    /// Marks the context as shut down.
    pub fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
        self.die(libc::ESHUTDOWN);
    }

    /// Returns the status with which everything in flight ends, if the context is ending.
    pub fn ending(&self) -> Option<i32> {
        if self.shutting_down.load(Ordering::SeqCst) {
            return Some(-libc::ECANCELED);
        }
        self.alive().is_err().then_some(-libc::EBADF)
    }
}
