// SPDX-License-Identifier: MIT OR Apache-2.0
//! The part of each call that the calling thread carries out: checks, copies of header and trailer,
//! inline sends, hand-over to the ring thread, and poll.  It never waits for a peer, except in
//! `poll`, `send` and sendfile, whose callers asked for that.
#![forbid(unsafe_code)]

mod frozen;
pub mod inline;
pub mod poll;
mod prepare;
mod send;
pub mod sendfile;
mod submit;

use crate::decide::pool_size;
use crate::handoff::port::Port;
use crate::handoff::shared::Shared;
use crate::sys::Buffers;
use crate::types::copying::READ_MAX;
use crate::types::errno::Result;
use prepare::KnownSockets;
use std::sync::{Arc, Mutex};
use submit::Group;

/// The state of a context that its calling threads use.
#[derive(Debug)]
pub(crate) struct Caller {
    pub shared: Arc<Shared>,
    pub port: Port,
    /// The longest range that EXACT accepts, in bytes.
    pub exact_max: u64,
    known_sockets: KnownSockets,
    /// Buffers for ranges in transit.
    scratch: Buffers<2>,
    group: Mutex<Group>,
}

impl Caller {
    /// Creates the state; `port` is the calling threads' end of the channel.
    pub fn new(shared: Arc<Shared>, port: Port) -> Result<Caller> {
        Ok(Caller {
            exact_max: pool_size::exact_max(&shared.settings),
            known_sockets: KnownSockets::new()?,
            scratch: Buffers::new(READ_MAX.min(shared.settings.chunk_bytes) as usize),
            group: Mutex::default(),
            shared,
            port,
        })
    }
}
