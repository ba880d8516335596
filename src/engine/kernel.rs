// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls whose result is needed at once, as a trait that the models simulate.  None of
//! them waits for a peer, a disk or a server.
#![forbid(unsafe_code)]

use crate::decide::frozen::{self, Traits};
use crate::engine::clones;
use crate::sys::{self, FileWindow, Span, SpanMut};
use crate::types::errno::Result;
use crate::types::file::{FileFacts, FileKind, Size};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Calls to the kernel that return at once.
pub trait Kernel {
    /// Returns CLOCK_MONOTONIC.
    fn now(&self) -> Instant;

    /// Returns the processor time of the calling thread, see [`sys::thread_time`].
    fn thread_time(&self) -> Duration;

    /// Returns SO_COOKIE, see [`sys::socket_cookie`].
    fn cookie(&self, socket: RawFd) -> Result<u64>;

    /// Returns whether the socket is of type SOCK_STREAM and does not listen.
    fn is_stream(&self, socket: RawFd) -> bool;

    /// Returns whether the socket is in AF_UNIX.
    fn is_unix(&self, socket: RawFd) -> bool;

    /// Returns whether the peer is on another machine, see [`sys::leaves_the_machine`].
    fn leaves_the_machine(&self, socket: RawFd) -> bool;

    /// Returns whether poll(2) reports POLLOUT, also after a failure of the socket.
    fn has_room(&self, socket: RawFd) -> bool;

    /// Returns MSG_MORE, or 0 where it must not be used, see [`sys::more_flag`].
    fn more_flag(&self, socket: RawFd, more: bool) -> i32;

    /// Sends as much as fits now of up to [`sys::PARTS_MAX`] parts.  Without parts it sends
    /// nothing, and fails if a send would fail permanently.
    fn send(&self, socket: RawFd, parts: &[Span], flags: i32) -> Result<usize>;

    /// Transmits the data that MSG_MORE held back, see [`sys::push_tcp`].
    fn push(&self, socket: RawFd);

    /// Returns the file's current size without querying a server; see [`FileFacts::size_by`].
    fn size(&self, file: RawFd, facts: &FileFacts) -> Result<Size>;

    /// Returns whether both numbers refer to the same open file description; false if unknown.
    fn is_same_file(&self, one: RawFd, other: RawFd) -> bool;

    /// Returns whether the range is in the page cache, see [`sys::is_resident`].
    fn is_resident(&self, file: RawFd, offset: u64, length: u64) -> bool;

    /// Returns whether the range has pages in the page cache, see [`sys::is_cached`].
    fn is_cached(&self, file: RawFd, offset: u64, length: u64) -> Option<bool>;

    /// Returns whether a trial to clone the file makes sense, see [`clones::may_clone`].
    fn may_clone(&self, facts: &FileFacts) -> bool;

    /// Maps a range, to be sent from the mapping.
    fn map(&self, file: RawFd, offset: u64, length: usize) -> Result<FileWindow>;

    /// Returns whether [`Kernel::is_mapped_resident`] tells the truth about windows of this file: the
    /// kernel reports every page as present to callers that could not write the file.
    fn may_ask_residency(&self, file: RawFd) -> bool;

    /// Returns whether all pages of a window are in the page cache.
    fn is_mapped_resident(&self, span: Span) -> bool;

    /// Resets a TCP connection and drops what the peer has not acknowledged, see
    /// [`sys::disconnect`].
    fn disconnect(&self, socket: RawFd) -> Result<()>;

    /// Ends the waits of other threads on a socket, see [`sys::end_waits`].
    fn end_waits(&self, socket: RawFd);

    /// Reads a range from the page cache, see [`sys::read_warm`]; EAGAIN: it is not all there.
    fn read_warm(&self, file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize>;

    /// Returns whether the content of a file can never change, see [`frozen`].  `is_local`:
    /// its file system may be queried.
    fn is_frozen(&self, file: RawFd, is_local: bool) -> bool;

    /// Returns whether [`Kernel::send_file`] may be used, see [`sys::takes_references`].
    fn takes_references(&self, socket: RawFd) -> bool;

    /// Puts references to a range of a file, which is in the page cache, into a socket: as much as
    /// fits now.
    fn send_file(&self, socket: RawFd, file: RawFd, offset: u64, length: u64) -> Result<usize>;

    /// Reads as much of a range as is in the page cache into the pool's memory, see
    /// [`sys::read_span_without_waiting`].
    fn read_into_pool(&self, file: RawFd, offset: u64, into: SpanMut) -> Result<usize>;
}

/// The kernel that this process runs on.
#[derive(Debug)]
pub struct System;

impl Kernel for System {
    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn thread_time(&self) -> Duration {
        sys::thread_time()
    }

    fn cookie(&self, socket: RawFd) -> Result<u64> {
        sys::socket_cookie(socket)
    }

    fn is_stream(&self, socket: RawFd) -> bool {
        sys::socket_type(socket) == Ok(libc::SOCK_STREAM) && sys::is_listening(socket) == Ok(false)
    }

    fn is_unix(&self, socket: RawFd) -> bool {
        sys::socket_domain(socket) == Ok(libc::AF_UNIX)
    }

    fn leaves_the_machine(&self, socket: RawFd) -> bool {
        sys::leaves_the_machine(socket)
    }

    fn has_room(&self, socket: RawFd) -> bool {
        sys::is_ready(socket, libc::POLLOUT)
    }

    #[inline]
    fn more_flag(&self, socket: RawFd, more: bool) -> i32 {
        sys::more_flag(socket, more)
    }

    #[inline]
    fn send(&self, socket: RawFd, parts: &[Span], flags: i32) -> Result<usize> {
        sys::send_parts(socket, parts, flags)
    }

    fn push(&self, socket: RawFd) {
        sys::push_tcp(socket);
    }

    fn size(&self, file: RawFd, facts: &FileFacts) -> Result<Size> {
        let mut state = sys::file_state_without_sync(file)?;
        if state.kind == FileKind::Block {
            state.size = sys::device_size(file)?;
        }
        facts.size_by(&state)
    }

    fn is_same_file(&self, one: RawFd, other: RawFd) -> bool {
        sys::probes_allowed() && sys::is_same_file(one, other)
    }

    fn is_resident(&self, file: RawFd, offset: u64, length: u64) -> bool {
        sys::is_resident(file, offset, length)
    }

    fn is_cached(&self, file: RawFd, offset: u64, length: u64) -> Option<bool> {
        sys::is_cached(file, offset, length)
    }

    fn may_clone(&self, facts: &FileFacts) -> bool {
        clones::may_clone(facts)
    }

    fn map(&self, file: RawFd, offset: u64, length: usize) -> Result<FileWindow> {
        FileWindow::new(file, offset, length)
    }

    fn may_ask_residency(&self, file: RawFd) -> bool {
        sys::may_ask_residency(file)
    }

    #[inline]
    fn is_mapped_resident(&self, span: Span) -> bool {
        sys::is_mapped_resident(span)
    }

    fn disconnect(&self, socket: RawFd) -> Result<()> {
        sys::disconnect(socket)
    }

    fn end_waits(&self, socket: RawFd) {
        sys::end_waits(socket);
    }

    #[inline]
    fn read_warm(&self, file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
        sys::read_warm(file, offset, into)
    }

    fn is_frozen(&self, file: RawFd, is_local: bool) -> bool {
        if !sys::probes_allowed() {
            return false;
        }
        let seals = sys::seals(file);
        // File systems in memory answer without a wait.
        if !is_local && seals.is_none() {
            return false;
        }
        let Ok(magic) = sys::magic_of_file(file) else { return false };
        let mut traits = Traits { magic, seals, ..Traits::default() };
        if frozen::depends_on_attributes(magic) {
            let Some(found) = sys::attributes(file) else { return false };
            (traits.has_verity, traits.is_dax) = (found.has_verity, found.is_dax);
        }
        frozen::is_frozen(&traits)
    }

    fn takes_references(&self, socket: RawFd) -> bool {
        sys::takes_references(socket)
    }

    fn send_file(&self, socket: RawFd, file: RawFd, offset: u64, length: u64) -> Result<usize> {
        sys::send_file(socket, file, offset, length as usize)
    }

    fn read_into_pool(&self, file: RawFd, offset: u64, into: SpanMut) -> Result<usize> {
        sys::read_span_without_waiting(file, offset, into)
    }
}
