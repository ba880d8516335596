// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine for systems where io_uring is refused: epoll, sends that never block, reads that
//! never wait, and helper threads for reads that must.

use super::helpers::{BlockingCall, Helpers, ReadNow};
use super::{Engine, EngineEvent, Read, ZeroCopySend};
use crate::collections::memory;
use crate::decide::token::{Kind, Token};
use crate::engine::kernel::System;
use crate::engine::known_files::KnownFiles;
use crate::sys::{self, Epoll, Span, SpanMut};
use crate::types::errno::{Errno, Result};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// The portable engine.
pub struct Portable {
    epoll: Epoll,
    /// Events for the next turn to return.
    ready: Vec<EngineEvent>,
    fired: Vec<(u64, u32)>,
    helpers: Helpers,
    /// The error that ends the engine; the next turn reports it.
    broken: Option<Errno>,
    /// Entries into the kernel since they were last taken.
    enters: u64,
}

impl Portable {
    /// Creates the engine.  It also reports, as [`Kind::Intake`], when `intake` is readable.
    pub fn new(intake: RawFd, known: Arc<KnownFiles>) -> Result<Portable> {
        let epoll = Epoll::new()?;
        epoll.add(intake, libc::EPOLLIN as u32, Token::new(Kind::Intake, 0, 0).raw())?;
        let helpers = Helpers::new(known)?;
        epoll.add(helpers.descriptor(), libc::EPOLLIN as u32, HELPERS_DONE)?;
        let (ready, fired) = (memory::list(READY)?, memory::list(Epoll::MOST)?);
        Ok(Portable { epoll, ready, fired, helpers, broken: None, enters: 0 })
    }

    fn complete(&mut self, token: Token, result: Result<usize>) {
        let result = result.map_or_else(Errno::negative, |count| count as i32);
        self.report(EngineEvent::Completed { token, result, more: false });
    }

    // Adds an event for the next turn.  A lost event would be waited for indefinitely: without
    // memory for it, the engine fails.
    fn report(&mut self, event: EngineEvent) {
        match memory::reserve(&mut self.ready, 1) {
            Ok(()) => self.ready.push(event),
            Err(error) => self.broken = Some(error),
        }
    }
}

// Room for this many events is reserved at creation.
const READY: usize = 256;

// Not a token: tokens have a kind in their top byte.
const HELPERS_DONE: u64 = u64::MAX;

// Added to the token of a wait for changes; no kind has this bit.
const CHANGES: u64 = 1 << 63;

impl Engine for Portable {
    type Kernel = System;

    fn kernel(&self) -> &System {
        &System
    }

    fn send(&mut self, token: Token, socket: RawFd, parts: &[Span], flags: i32) {
        self.enters += 1;
        let sent = sys::send_parts(socket, parts, flags);
        self.complete(token, sent);
    }

    fn has_zero_copy(&self) -> bool {
        false
    }

    fn send_zero_copy(&mut self, token: Token, _send: ZeroCopySend<'_>) {
        self.complete(token, Err(Errno(libc::EOPNOTSUPP)));
    }

    fn read(&mut self, token: Token, read: Read) -> bool {
        self.enters += 1;
        match self.helpers.read_now(&read) {
            ReadNow::Over(done) => self.complete(token, done),
            ReadNow::Waits | ReadNow::ByHelper => {
                if let Err(error) = self.helpers.read_later(token, &read) {
                    self.complete(token, Err(error));
                }
            }
        }
        false
    }

    fn start_call(&mut self, job: BlockingCall) -> Result<()> {
        self.helpers.start(job)
    }

    fn withdraw_call(&mut self, token: Token) -> bool {
        self.helpers.withdraw(token)
    }

    fn trim(&mut self) {
        memory::shrink(&mut self.ready, READY);
        self.helpers.reap();
    }

    fn arm(&mut self, token: Token, socket: RawFd, changes: bool) {
        self.enters += 1;
        let (how, data) = match changes {
            true => (libc::EPOLLET, token.raw() | CHANGES),
            false => (libc::EPOLLONESHOT, token.raw()),
        };
        let events = libc::EPOLLOUT as u32 | how as u32;
        if let Err(error) = self.epoll.add(socket, events, data) {
            self.complete(token, Err(error));
        }
    }

    fn disarm(&mut self, token: Token, socket: RawFd) {
        self.enters += 1;
        self.epoll.remove(socket);
        self.complete(token, Err(Errno(libc::ECANCELED)));
    }

    fn register(&mut self, _index: u16, _block: SpanMut) -> bool {
        false
    }

    fn unregister(&mut self, _index: u16, _block: SpanMut) {}

    fn has_sends_queued(&self) -> bool {
        !self.ready.is_empty()
    }

    fn turn(&mut self, timeout: Option<Duration>, events: &mut Vec<EngineEvent>) -> Result<()> {
        let timeout = if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        self.enters += 1;
        let waited = self.epoll.wait(timeout, &mut self.fired);
        for index in 0..self.fired.len() {
            let (raw, state) = self.fired[index];
            if raw == HELPERS_DONE {
                self.helpers.collect(&mut self.ready);
            } else if let Some(token) = Token::from_raw(raw & !CHANGES) {
                let more = raw & CHANGES != 0;
                self.report(EngineEvent::Completed { token, result: state as i32, more });
            }
        }
        self.fired.clear();
        std::mem::swap(events, &mut self.ready);
        self.broken.map_or(waited, Err)
    }

    fn released(&mut self, socket: RawFd) {
        // Its file stays open in the caller's table, so closing our number would not remove the
        // watch.
        self.epoll.remove(socket);
    }

    fn take_enters(&mut self) -> u64 {
        std::mem::take(&mut self.enters)
    }
}
