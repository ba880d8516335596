// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a context goes on, is shut down, or is beyond use.
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
    /// The errno that calls give because the context is beyond use; 0: it is well.
    dead: AtomicI32,
}

impl Life {
    /// The error that calls give because the context is beyond use, if it is.
    pub fn alive(&self) -> Result<()> {
        match self.errno() {
            0 => Ok(()),
            errno => Err(Errno(errno)),
        }
    }

    /// The same as a number; 0: the context is well.
    pub fn errno(&self) -> i32 {
        self.dead.load(Ordering::SeqCst)
    }

    /// Marks the context as beyond use, with the first reason given.
    pub fn die(&self, errno: i32) {
        let _ = self.dead.compare_exchange(0, errno, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The same, if something that it cannot do without has failed.
    pub fn or_die(&self, result: Result<()>) {
        if let Err(error) = result {
            self.die(error.0);
        }
    }

    /// Marks the context as being shut down.
    pub fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
        self.die(libc::ESHUTDOWN);
    }

    /// The status with which everything in flight ends, if the context does not go on.
    pub fn ending(&self) -> Option<i32> {
        if self.shutting_down.load(Ordering::SeqCst) {
            return Some(-libc::ECANCELED);
        }
        self.alive().is_err().then_some(-libc::EBADF)
    }
}
