// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine carries out the steps that the ring thread decides: with io_uring, or with plain
//! system calls.  The ring thread's sends, reads, waits and queries pass through the traits here,
//! so that the models can run it over a simulated kernel.
//!
//! An engine never waits for a peer while it holds data: a send takes what fits now or gives
//! EAGAIN, and waiting for room is a separate request that holds no memory.

pub mod at_once;
pub mod clones;
pub mod frozen;
pub mod helpers;
pub mod kept;
pub mod kernel;
pub mod known_costs;
pub mod known_files;
pub mod portable;
pub mod streams;
pub mod uring;

use crate::decide::token::Token;
use crate::sys::{self, Span, SpanMut};
use crate::types::errno::Result;
use crate::types::file::{FileFacts, Size};
use kernel::Kernel;
use std::os::fd::RawFd;
use std::time::Duration;

/// An event that an engine reports.
#[derive(Debug)]
pub enum EngineEvent {
    /// A request has completed.  `more`: the kernel still has it, and another event follows:
    /// [`EngineEvent::Released`] for a send, another report for a wait.
    Completed {
        /// The token of the request.
        token: Token,
        /// A count or -errno.
        result: i32,
        /// Whether another event follows.
        more: bool,
    },
    /// The kernel no longer uses the memory of a zero-copy send.
    Released {
        /// The token of the request.
        token: Token,
        /// Whether the kernel copied the data after all.
        copied: bool,
    },
    /// A helper has inspected a file.
    Inspected {
        /// The token of the request.
        token: Token,
        /// The file's size.
        found: Result<Size>,
    },
    /// A helper has cloned a range of a file.
    Cloned {
        /// The token of the request.
        token: Token,
        /// The clone.
        clone: Result<sys::Clone>,
    },
}

/// A read into the pool's memory.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The file.
    pub file: RawFd,
    /// The facts about the file.
    pub facts: FileFacts,
    /// The position in the file.
    pub offset: u64,
    /// The destination.
    pub into: SpanMut,
    /// The registered buffer that contains the destination, if there is one.
    pub buffer: Option<u16>,
    /// An earlier read of this file has shown that the kernel reads it asynchronously.  Others are
    /// read within io_uring_enter(2) if their file system has a poll method, as FUSE has
    /// (io_file_supports_nowait() in io_uring/rw.c, seen on 6.18).
    pub through_ring: bool,
}

/// A zero-copy send, by address even where the memory is registered.  With a registered huge page
/// the kernel also charges the socket for everything before the data (io_sg_from_iter() in
/// io_uring/net.c, seen on 6.18), so that 190 KB in flight filled a send buffer of 4 MiB.
#[derive(Clone, Copy, Debug)]
pub struct ZeroCopySend<'a> {
    /// The socket.
    pub socket: RawFd,
    /// The data: at most [`crate::sys::LENT_MAX`] parts.
    pub parts: &'a [Span],
    /// MSG_MORE or 0.
    pub flags: i32,
}

/// Carries out requests.  Each request is answered by [`EngineEvent::Completed`] with its token.
/// The caller keeps the memory of spans mapped until then, and after `more` until the release.
pub trait Engine {
    /// The kernel that [`Engine::kernel`] gives access to.
    type Kernel: Kernel;

    /// Returns the kernel, for calls that return at once.
    fn kernel(&self) -> &Self::Kernel;

    /// Sends as much as fits now of up to [`crate::sys::PARTS_MAX`] parts.
    fn send(&mut self, token: Token, socket: RawFd, parts: &[Span], flags: i32);

    /// Returns whether [`Engine::send_zero_copy`] may be used.
    fn has_zero_copy(&self) -> bool;

    /// Sends as much as fits now, with zero-copy if the kernel can.
    fn send_zero_copy(&mut self, token: Token, send: ZeroCopySend<'_>);

    /// Reads from a quick file (see [`crate::engine::known_files`]) into the pool's memory.  Never
    /// delays anything else, even if the file is not in the page cache.  Returns whether this file
    /// can be read through the ring, see [`Read::through_ring`].
    fn read(&mut self, token: Token, read: Read) -> bool;

    /// Passes a call that may wait to a helper thread; its outcome is an event.  ENOMEM.
    fn start_call(&mut self, job: helpers::BlockingCall) -> Result<()>;

    /// Takes a call back; false: it has begun, and its event follows.
    fn withdraw_call(&mut self, token: Token) -> bool;

    /// Releases what ended helper threads still hold.
    fn trim(&mut self);

    /// Waits until the socket has room or has failed; the result is the state that poll(2) reports.
    /// `changes`: reports the state now and then each change, with `more` set, until the wait is
    /// taken back.
    fn arm(&mut self, token: Token, socket: RawFd, changes: bool);

    /// Takes a wait back; its token still completes, without `more`.
    fn disarm(&mut self, token: Token, socket: RawFd);

    /// Registers a block of the pool; false if the kernel refuses.
    fn register(&mut self, index: u16, block: SpanMut) -> bool;

    /// Unregisters a block of the pool.
    fn unregister(&mut self, index: u16, block: SpanMut);

    /// Returns whether requests are queued that the next [`Engine::turn`] completes, so that it does
    /// not wait.
    fn has_sends_queued(&self) -> bool;

    /// Carries out queued requests, waits for at least one event unless `timeout` is zero (None:
    /// indefinitely), and exchanges the empty `events` for all events, also if it fails.  An error
    /// here is final.
    fn turn(&mut self, timeout: Option<Duration>, events: &mut Vec<EngineEvent>) -> Result<()>;

    /// Forgets the socket's number, which is about to be closed.
    fn released(&mut self, _socket: RawFd) {}

    /// Returns, and resets, how often the kernel was entered.
    fn take_enters(&mut self) -> u64;
}
