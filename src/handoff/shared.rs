// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state that calling threads and the ring thread of a context share: one part for each
//! protocol.
#![forbid(unsafe_code)]

use crate::engine::known_files::KnownFiles;
use crate::handoff::claims::Claims;
use crate::handoff::completions::{Completions, Entry};
use crate::handoff::cuts::Cuts;
use crate::handoff::doorbell::Doorbell;
use crate::handoff::life::Life;
use crate::handoff::permits::{Descriptors, Permits};
use crate::handoff::questions::Questions;
use crate::handoff::registrations::Registrations;
use crate::handoff::staging::Staging;
use crate::handoff::submissions::{HandOver, Submission};
use crate::types::completion::Completion;
use crate::types::file::FileFacts;
use crate::types::options::Settings;
use crate::types::stats::Counters;
use std::sync::Arc;

/// How many sockets are remembered as suitable, by callers and by the ring thread separately.
/// Cookies are consecutive, so that this many new connections have different places.
pub(crate) const KNOWN_SOCKETS: usize = 1024;

/// The state that calling threads and the ring thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub settings: Settings,
    pub counters: Counters,
    /// Shared with the helpers.
    pub known_files: Arc<KnownFiles>,
    pub life: Life,
    pub link: Link,
    pub completions: Completions,
    pub permits: Permits,
    pub descriptors: Descriptors,
    pub staging: Staging,
    /// Shared with the ring thread's tables.
    pub claims: Arc<Claims>,
    pub cuts: Cuts,
    pub registered: Registered,
}

/// The way from calling threads to the ring thread.  `handoff/port.rs` has its two ends.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub doorbell: Doorbell,
    pub hand_over: HandOver,
    pub questions: Questions,
}

/// The registered descriptors of a context.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    pub files: Registrations<FileFacts>,
    /// With their cookies.
    pub sockets: Registrations<u64>,
}

impl Shared {
    /// Creates the state of a context with these settings.
    pub fn new(settings: Settings) -> Shared {
        Shared {
            counters: Counters::default(),
            known_files: Arc::default(),
            life: Life::default(),
            link: Link::default(),
            completions: Completions::default(),
            permits: Permits::new(settings.max_ops),
            descriptors: Descriptors::default(),
            staging: Staging::new(settings.staging_bytes),
            settings,
            claims: Arc::default(),
            cuts: Cuts::default(),
            registered: Registered::default(),
        }
    }

    /// Records that an entry was taken from the completion queue; returns its completion.
    pub fn taken(&self, entry: Entry) -> Completion {
        if let Some(cookie) = entry.cut {
            self.cuts.done_taken(cookie.get());
        }
        self.permits.event_taken(entry.completion.event);
        entry.completion
    }

    /// Returns whether messages are in transit that may free descriptors.
    pub fn are_descriptors_in_transit(&self) -> bool {
        let Registered { files, sockets } = &self.registered;
        self.cuts.is_any_in_transit() || files.is_any_leaving() || sockets.is_any_leaving()
    }

    /// Gives back what a submission took that is not carried out.
    pub fn give_back(&self, submission: &mut Submission) {
        self.staging.release(std::mem::take(&mut submission.staged));
        self.permits.give_back(submission.operation.owed_events());
        self.descriptors.give_back(submission.descriptor_count());
    }
}
