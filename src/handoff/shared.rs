// SPDX-License-Identifier: MIT OR Apache-2.0
//! What callers and the ring thread share: counts, claims and flags.
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::engine::known_files::KnownFiles;
use crate::handoff::claims::Claims;
use crate::handoff::completions::{Completions, Entry};
use crate::handoff::cuts::Cuts;
use crate::handoff::doorbell::Doorbell;
use crate::handoff::permits::{Descriptors, Permits};
use crate::handoff::port::Questions;
use crate::handoff::staging::Staging;
use crate::types::completion::Completion;
use crate::types::errno::{Errno, Result};
use crate::types::options::Settings;
use crate::types::stats::Counters;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// How many sockets are remembered as being of the right kind, by callers and by the ring thread
/// each for itself.  Cookies are numbers in a row, so that as many connections have a place each.
pub(crate) const KNOWN_SOCKETS: usize = 1024;

/// What callers and the ring thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub settings: Settings,
    pub exact_max: u64,
    pub completions: Completions,
    pub counters: Counters,
    pub staging: Staging,
    /// The helpers have it, too.
    pub known_files: Arc<KnownFiles>,
    /// The ring thread has no memory for more submissions than the hand-over takes.
    pub hand_over_stuck: AtomicBool,
    pub questions: Questions,
    pub pool_in_use: AtomicU64,
    pub pool_resident: AtomicU64,
    pub permits: Permits,
    pub cuts: Cuts,
    pub descriptors: Descriptors,
    pub doorbell: Doorbell,
    /// The ring thread's side has them, too.
    pub claims: Arc<Claims>,
    pub shutting_down: AtomicBool,
    /// The errno that calls give because the context is beyond use; 0: it is well.
    pub dead: AtomicI32,
    /// Cookies of sockets known to be connected-type stream sockets, so that it is asked once.
    known_sockets: Box<[AtomicU64]>,
    /// Ids, the first and how many, of submissions whose message could not be sent.
    withdrawn: Mutex<Vec<(u64, u32)>>,
    has_withdrawn: AtomicBool,
}

impl Shared {
    /// For a context with these settings.
    pub fn new(settings: Settings) -> Result<Shared> {
        let known_sockets = (0..KNOWN_SOCKETS).map(|_| AtomicU64::new(0));
        let mut known = memory::list(KNOWN_SOCKETS)?;
        known.extend(known_sockets);
        Ok(Shared {
            settings,
            exact_max: crate::decide::pool_size::kept_max(
                settings.pool_bytes - settings.staging_bytes,
            ),
            completions: Completions::default(),
            counters: Counters::default(),
            staging: Staging::new(settings.staging_bytes),
            known_files: Arc::default(),
            hand_over_stuck: AtomicBool::new(false),
            questions: Questions::default(),
            pool_in_use: AtomicU64::new(0),
            pool_resident: AtomicU64::new(0),
            permits: Permits::new(settings.max_ops),
            cuts: Cuts::default(),
            descriptors: Descriptors::default(),
            doorbell: Doorbell::default(),
            claims: Arc::default(),
            shutting_down: AtomicBool::new(false),
            dead: AtomicI32::new(0),
            known_sockets: known.into_boxed_slice(),
            withdrawn: Mutex::default(),
            has_withdrawn: AtomicBool::new(false),
        })
    }

    /// An entry has been taken from the completion queue; what poll gives of it.
    pub fn taken(&self, entry: Entry) -> Completion {
        if let Some(cookie) = entry.cut {
            self.cuts.done_taken(cookie.get());
        }
        self.permits.event_taken(entry.completion.event);
        entry.completion
    }

    /// Submissions that have been handed over, but are not to be carried out.  Not a message: it
    /// is because those cannot be sent that this is needed.  False: there is no memory until the
    /// ring thread has taken those before.
    #[must_use]
    pub fn withdraw(&self, first: u64, count: u32) -> bool {
        let mut withdrawn = self.withdrawn();
        let has_room = memory::reserve(&mut withdrawn, 1).is_ok();
        if has_room {
            withdrawn.push((first, count));
            self.has_withdrawn.store(true, Ordering::SeqCst);
        }
        has_room
    }

    /// Whether [`Shared::take_withdrawn`] has something.
    pub fn has_withdrawn(&self) -> bool {
        self.has_withdrawn.load(Ordering::SeqCst)
    }

    /// All that have been withdrawn since.
    pub fn take_withdrawn(&self) -> Vec<(u64, u32)> {
        self.has_withdrawn.store(false, Ordering::SeqCst);
        std::mem::take(&mut self.withdrawn())
    }

    fn withdrawn(&self) -> MutexGuard<'_, Vec<(u64, u32)>> {
        self.withdrawn.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether a socket is known to be a stream socket that does not listen.
    pub fn is_known_socket(&self, cookie: u64) -> bool {
        self.known_sockets[cookie as usize % KNOWN_SOCKETS].load(Ordering::Relaxed) == cookie
    }

    /// Remembers that.
    pub fn learn_socket(&self, cookie: u64) {
        self.known_sockets[cookie as usize % KNOWN_SOCKETS].store(cookie, Ordering::Relaxed);
    }

    /// The error that calls give because the context is beyond use, if it is.
    pub fn alive(&self) -> Result<()> {
        match self.dead.load(Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(Errno(errno)),
        }
    }

    /// Marks the context as beyond use, with the first reason given.
    pub fn die(&self, errno: i32) {
        let _ = self.dead.compare_exchange(0, errno, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Marks it as beyond use if something that it cannot do without has failed.
    pub fn or_die(&self, result: Result<()>) {
        if let Err(error) = result {
            self.die(error.0);
        }
    }
}
