// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room for file data in private memory, and the operations that wait for it.
#![forbid(unsafe_code)]

use super::pool::{Lease, Pool};
use crate::caller::inline::INLINE_MAX;
use crate::collections::{Line, memory};
use crate::engine::Engine;
use crate::sys::Buffers;
use crate::types::errno::Result;

/// An operation that waits: slot and id.
pub(super) type Waiter = (u32, u64);

/// The pool and the operations that wait for it.
pub(super) struct Room {
    pub(super) pool: Pool,
    /// The blocks of the pool that are registered with the engine.
    registered: Box<[bool]>,
    /// Operations whose data passes through.
    pub(super) passing: Line<Waiter>,
    /// Operations that keep their data until it is sent.
    pub(super) kept: Line<Waiter>,
    /// Memory has come back since the waiting operations were tried.
    pub(super) freed: bool,
    /// For short ranges, which are sent before anything else happens.
    pub(super) scratch: Buffers<1>,
}

impl Room {
    pub(super) fn new(pool: Pool) -> Result<Room> {
        Ok(Room {
            registered: memory::filled(false, pool.block_count())?,
            pool,
            passing: Line::default(),
            kept: Line::default(),
            freed: false,
            scratch: Buffers::new(INLINE_MAX as usize),
        })
    }

    /// The line of one kind.
    pub(super) fn line(&mut self, kept: bool) -> &mut Line<Waiter> {
        if kept { &mut self.kept } else { &mut self.passing }
    }

    /// One use of a lease less.
    pub(super) fn release(&mut self, lease: Lease) {
        self.pool.release(lease);
        self.freed = true;
    }

    /// Bytes set aside for EXACT come back.
    pub(super) fn unreserve(&mut self, bytes: u64) {
        self.pool.unreserve(bytes);
        self.freed = true;
    }

    /// The registered buffer in which a lease lies, if the engine takes one.
    pub(super) fn registered_buffer(
        &mut self,
        lease: Lease,
        engine: &mut impl Engine,
    ) -> Option<u16> {
        let block = self.pool.block_of(lease);
        if !self.registered[block] {
            let span = self.pool.block_span(block)?;
            self.registered[block] = engine.register(block as u16, span);
        }
        self.registered[block].then_some(block as u16)
    }

    /// Gives memory back after a while of idleness; nothing waits.
    pub(super) fn shrink(&mut self, engine: &mut impl Engine) {
        loop {
            let idle = self.pool.idle_blocks().next();
            let Some(block) = idle else { break };
            let registered = std::mem::take(&mut self.registered[block]);
            if let Some(span) = self.pool.block_span(block).filter(|_| registered) {
                engine.unregister(block as u16, span);
            }
            self.pool.drop_block(block);
        }
        self.passing = Line::default();
        self.kept = Line::default();
        self.scratch.trim();
    }
}
