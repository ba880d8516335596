// SPDX-License-Identifier: MIT OR Apache-2.0
//! What carries out the steps: io_uring, or plain system calls.
//!
//! An engine never waits for a peer with data in hand: sends take what fits now or give EAGAIN,
//! and waiting for room is a request of its own that holds no memory.

pub mod at_once;
pub mod helpers;
pub mod kept;
pub mod kernel;
pub mod known_files;
pub mod portable;
pub mod uring;

use crate::decide::token::Token;
use crate::sys::{Span, SpanMut};
use crate::types::errno::Result;
use crate::types::file::{FileFacts, Size};
use kernel::Kernel;
use std::os::fd::RawFd;
use std::time::Duration;

/// What an engine reports.
#[derive(Clone, Copy, Debug)]
pub enum EngineEvent {
    /// A request has completed with this result (a count or -errno).  `more`: the kernel still
    /// has it, and something will follow: [`EngineEvent::Released`] of a send, another report of a wait.
    Completed {
        /// The request's.
        token: Token,
        /// A count or -errno.
        result: i32,
        /// Whether something follows.
        more: bool,
    },
    /// The kernel no longer uses the memory of a zero-copy send.
    Released {
        /// The request's.
        token: Token,
        /// Whether the kernel copied it after all.
        copied: bool,
    },
    /// A helper has looked at a file.
    Inspected {
        /// The request's.
        token: Token,
        /// Its size.
        found: Result<Size>,
    },
}

/// A read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// What to read.
    pub file: RawFd,
    /// What is known of it.
    pub facts: FileFacts,
    /// From where.
    pub offset: u64,
    /// Where to.
    pub into: SpanMut,
    /// The registered buffer it lies in, if it is registered.
    pub buffer: Option<u16>,
    /// An earlier read of the same file has shown that the kernel can read it asynchronously.
    /// io_uring reads other files in the middle of io_uring_enter(2) where their file system has
    /// a poll method, as FUSE has (io_file_supports_nowait() in io_uring/rw.c, seen on 6.18).
    pub through_ring: bool,
}

/// A zero-copy send.  By address, even where the memory is registered: of a registered huge page the
/// kernel charges the socket for all that lies before the data, too (io_sg_from_iter() in
/// io_uring/net.c, seen on 6.18), so that 190 KB in flight filled a send buffer of 4 MiB.
#[derive(Clone, Copy, Debug)]
pub struct ZeroCopySend {
    /// Where to.
    pub socket: RawFd,
    /// What.
    pub span: Span,
    /// MSG_MORE or 0.
    pub flags: i32,
}

/// Carries out steps.  Every request is answered by [`EngineEvent::Completed`] with its token; the
/// caller keeps the memory of spans mapped until then, and for `more` until the release.
pub trait Engine {
    /// The kernel that [`Engine::kernel`] asks.
    type Kernel: Kernel;

    /// For calls that are answered at once.
    fn kernel(&self) -> &Self::Kernel;

    /// Sends what fits now of up to [`crate::sys::PARTS_MAX`] parts.
    fn send(&mut self, token: Token, socket: RawFd, parts: &[Span], flags: i32);

    /// Whether [`Engine::send_zero_copy`] may be used.
    fn has_zero_copy(&self) -> bool;

    /// Sends what fits now, from the memory itself where the kernel can.
    fn send_zero_copy(&mut self, token: Token, send: ZeroCopySend);

    /// Reads into a span of the pool's a file that is quick (see [`crate::engine::known_files`]); never holds
    /// up anything else, however cold the file.
    /// True: this file can be read through the ring, see [`Read::through_ring`].
    fn read(&mut self, token: Token, read: Read) -> bool;

    /// Has a helper thread make a call that may wait; what it has done comes as an event.  ENOMEM.
    fn start_call(&mut self, job: helpers::BlockingCall) -> Result<()>;

    /// Takes a call back; false: it has begun already, and its event follows.
    fn withdraw_call(&mut self, token: Token) -> bool;

    /// Gives back what helper threads that have ended still hold.
    fn trim(&mut self);

    /// Waits until the socket has room, or has failed; the result is what poll(2) says of it.
    /// `changes`: reports its state now, and then each change of it, with `more` set, until the
    /// wait is taken back.
    fn arm(&mut self, token: Token, socket: RawFd, changes: bool);

    /// Takes a wait back; its token completes all the same, without `more`.
    fn disarm(&mut self, token: Token, socket: RawFd);

    /// Registers a block of the pool's; false where the kernel will not.
    fn register(&mut self, index: u16, block: SpanMut) -> bool;

    /// Undoes that.
    fn unregister(&mut self, index: u16, block: SpanMut);

    /// Carries out what is queued, waits for at least one event unless `timeout` is zero (None:
    /// for ever), and exchanges the empty `events` for all there are, also when it fails.  An error
    /// here is final.
    fn turn(&mut self, timeout: Option<Duration>, events: &mut Vec<EngineEvent>) -> Result<()>;

    /// The socket's number is about to be closed.
    fn released(&mut self, _socket: RawFd) {}

    /// How often the kernel was entered.
    fn take_enters(&mut self) -> u64;
}
