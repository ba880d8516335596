// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the calling thread does by itself.
#![forbid(unsafe_code)]

pub mod inline;
pub mod poll;
mod prepare;
mod send;
pub mod sendfile;
mod submit;

use crate::decide::pool_size;
use crate::engine::at_once::INLINE_MAX;
use crate::handoff::port::Port;
use crate::handoff::shared::Shared;
use crate::sys::Buffers;
use crate::types::errno::Result;
use prepare::KnownSockets;
use std::sync::{Arc, Mutex};
use submit::Group;

/// What calls on a context stand on.
#[derive(Debug)]
pub(crate) struct Caller {
    pub shared: Arc<Shared>,
    pub port: Port,
    /// The longest range that EXACT takes.
    pub exact_max: u64,
    known_sockets: KnownSockets,
    /// Where short ranges pass through.
    scratch: Buffers<2>,
    group: Mutex<Group>,
}

impl Caller {
    /// For a context with these, of which `port` is the calling threads' end.
    pub fn new(shared: Arc<Shared>, port: Port) -> Result<Caller> {
        let settings = &shared.settings;
        Ok(Caller {
            exact_max: pool_size::kept_max(settings.pool_bytes - settings.staging_bytes),
            known_sockets: KnownSockets::new()?,
            scratch: Buffers::new(INLINE_MAX as usize),
            group: Mutex::default(),
            shared,
            port,
        })
    }
}
