// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sockets that have operations, and the state of each: its wait, its pace and its zero-copy
//! history.  The state lasts as long as the socket has operations.
#![forbid(unsafe_code)]

use crate::collections::{NumberMap, Parts, memory};
use crate::decide::pace::Pace;
use crate::decide::plan::ZeroCopy;
use crate::decide::timers::Moment;
use crate::handoff::claims::{Claims, HeldBack};
use crate::handoff::shared::KNOWN_SOCKETS;
use crate::sys;
use crate::types::errno::Result;
use crate::types::handle::Handle;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

/// The state of the wait for room in a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// No wait is with the kernel.
    None,
    /// A wait is with the kernel.
    Armed,
    /// A wait is being taken back.
    Disarming,
}

// After so many pieces, zero-copy is tried again where it was useless: routes change.
const TRIED_AGAIN_AFTER: u32 = 1000;

/// A socket with operations, or that is registered.
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    /// It takes nothing now: its operations wait for room.
    pub(super) waiting: bool,
    /// A look has shown room since it last took data.
    pub(super) has_looked: bool,
    pub(super) wait: Wait,
    /// The low half of the latest wait's generation; 0: the engine does not know the number.
    pub(super) generation: u32,
    /// Whether it is an AF_UNIX socket; None until that mattered.
    pub(super) is_unix: Option<bool>,
    pub(super) pace: Pace,
    /// When it is looked at, whatever the kernel reports.
    pub(super) look_at: Option<Moment>,
    pub(super) zero_copy: Option<ZeroCopy>,
    /// How often in a row the kernel has copied a zero-copy send; where zero-copy is useless, pieces
    /// sent without it.
    pub(super) copied: u32,
    /// The peer is on this machine, so that zero-copy is never real.
    pub(super) is_local: bool,
    /// How often it is registered: until that is 0, it stays open without operations.
    pub(super) registrations: u32,
    /// Operations that keep their data (EAGER, EXACT).
    pub(super) kept: u32,
    /// The library has reset its connection.
    pub(super) was_reset: bool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Socket {
        Socket {
            fd,
            waiting: false,
            has_looked: false,
            wait: Wait::None,
            generation: 0,
            is_unix: None,
            pace: Pace::default(),
            look_at: None,
            zero_copy: None,
            copied: 0,
            is_local: false,
            registrations: 0,
            kept: 0,
            was_reset: false,
        }
    }

    pub(super) fn number(&self) -> RawFd {
        sys::number(&self.fd)
    }

    /// Returns what is known of zero-copy here.  None: it is to be tried, maybe again.
    pub(super) fn known_zero_copy(&mut self) -> Option<ZeroCopy> {
        if self.zero_copy == Some(ZeroCopy::Useless) && !self.is_local {
            self.copied += 1;
            if self.copied > TRIED_AGAIN_AFTER {
                (self.copied, self.zero_copy) = (0, None);
            }
        }
        self.zero_copy
    }
}

/// All sockets that have operations, by their number in the schedule.
pub(super) struct Sockets {
    table: Parts<Option<Socket>>,
    /// Cookies of sockets that are known to be connected stream sockets.
    checked: Box<[u64]>,
    pub(super) held_back: HeldBack,
    /// The cookies of registered sockets, by handle.
    registered: NumberMap<u64>,
    generation: u64,
}

impl Sockets {
    pub(super) fn new(claims: Arc<Claims>) -> Result<Sockets> {
        let checked = memory::filled(0, KNOWN_SOCKETS)?;
        let held_back = HeldBack::new(claims);
        let (table, registered) = (Parts::default(), NumberMap::default());
        Ok(Sockets { table, checked, held_back, registered, generation: 0 })
    }

    /// Makes room for all sockets up to and including `last`.
    pub(super) fn reserve(&mut self, last: usize) -> Result<()> {
        while self.table.len() <= last {
            self.table.push(None)?;
        }
        Ok(())
    }

    pub(super) fn open(&mut self, socket: usize, fd: OwnedFd) {
        self.table[socket] = Some(Socket::new(fd));
    }

    pub(super) fn close(&mut self, socket: usize) -> Option<Socket> {
        self.table[socket].take()
    }

    pub(super) fn get(&self, socket: usize) -> Option<&Socket> {
        self.table.get(socket)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, socket: usize) -> Option<&mut Socket> {
        self.table.get_mut(socket)?.as_mut()
    }

    /// Records that a socket is registered.
    pub(super) fn register(&mut self, handle: Handle, cookie: u64) -> Result<()> {
        self.registered.entry(handle.number().into(), cookie).map(|_| ())
    }

    /// Forgets a handle; returns the cookie, whose registration remains to be removed.
    pub(super) fn unregister(&mut self, handle: Handle) -> Option<u64> {
        self.registered.remove(handle.number().into())
    }

    /// Forgets all handles; as [`Sockets::unregister`] for each.
    pub(super) fn unregister_all(&mut self) -> impl Iterator<Item = u64> + use<> {
        std::mem::take(&mut self.registered).into_values()
    }

    /// Returns whether a socket is known to be a connected stream socket.
    pub(super) fn is_checked(&self, cookie: u64) -> bool {
        self.checked[cookie as usize % KNOWN_SOCKETS] == cookie
    }

    /// Remembers that a socket is a connected stream socket.
    pub(super) fn remember_checked(&mut self, cookie: u64) {
        self.checked[cookie as usize % KNOWN_SOCKETS] = cookie;
    }

    /// Returns a generation for a new wait; its low half is not 0.
    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        if self.generation as u32 == 0 {
            self.generation += 1;
        }
        self.generation
    }

    /// Releases memory after a peak; no socket has operations.
    pub(super) fn shrink(&mut self) {
        if self.registered.is_empty() {
            self.table = Parts::default();
        }
        self.registered.shrink();
        self.held_back.shrink();
    }
}
