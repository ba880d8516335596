// SPDX-License-Identifier: MIT OR Apache-2.0
//! Turns a request into a submission: the checks, permits and copies before an operation is
//! accepted.  If the request is refused, nothing stays taken.
#![forbid(unsafe_code)]

use super::Caller;
use crate::collections::memory;
use crate::decide::operation::{Operation, Task};
use crate::engine::known_files::KnownFiles;
use crate::handoff::claims::Turn;
use crate::handoff::shared::KNOWN_SOCKETS;
use crate::handoff::staging::{self, Staged};
use crate::handoff::submissions::Submission;
use crate::sys;
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileFacts, FileKind, FileState};
use crate::types::request::{Request, RequestFlags};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Cookies of sockets known to be stream sockets that do not listen, so that the checks run once.
#[derive(Debug)]
pub(super) struct KnownSockets(Box<[AtomicU64]>);

impl KnownSockets {
    pub(super) fn new() -> Result<KnownSockets> {
        let mut known = memory::list(KNOWN_SOCKETS)?;
        known.extend((0..KNOWN_SOCKETS).map(|_| AtomicU64::new(0)));
        Ok(KnownSockets(known.into_boxed_slice()))
    }

    fn place(&self, cookie: u64) -> &AtomicU64 {
        &self.0[cookie as usize % KNOWN_SOCKETS]
    }
}

impl Caller {
    /// Checks a request, takes a permit and copies header and trailer.
    pub(super) fn prepare(&self, request: &Request<'_>) -> Result<Submission> {
        self.shared.life.alive()?;
        request.check(self.exact_max)?;
        let lengths = staging::lengths(request)?;
        let cookie = self.check_socket(request.socket)?;
        let file = request.file.map(|file| self.check_file(request, file)).transpose()?;
        let staged = self.take_room(request, lengths, 1 + u32::from(file.is_some()))?;
        Ok(Submission {
            id: 0,
            cookie,
            user_data: request.user_data,
            operation: Operation::new(Task {
                header: staged.header_length(),
                trailer: staged.trailer_length(),
                offset: request.offset,
                length: request.length,
                flags: request.flags,
            }),
            staged,
            file,
            deadline: request.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            reply: None,
            turn: Turn::InOrder,
        })
    }

    // Takes what Shared::give_back() gives back.
    fn take_room(
        &self,
        request: &Request<'_>,
        lengths: (usize, usize),
        descriptors: u32,
    ) -> Result<Staged> {
        let shared = &self.shared;
        let with_snapshot = request.flags.contains(RequestFlags::NOTIFY_SNAPSHOT);
        shared.permits.take(with_snapshot, &shared.completions)?;
        let taken = shared.descriptors.take(descriptors, || shared.cuts.is_any_in_transit());
        let staged = taken.and_then(|()| {
            shared
                .staging
                .copy(request, lengths)
                .inspect_err(|_| shared.descriptors.give_back(descriptors))
        });
        staged.inspect_err(|_| shared.permits.give_back(with_snapshot))
    }

    fn check_socket(&self, socket: RawFd) -> Result<u64> {
        let cookie = sys::socket_cookie(socket)?;
        let known = self.known_sockets.place(cookie);
        if known.load(Ordering::Relaxed) == cookie {
            return Ok(cookie);
        }
        // SCTP's one-to-one sockets have this type as well, but send messages: none may exceed the
        // send buffer (EMSGSIZE), and data sent in pieces arrives as several messages.
        if sys::socket_type(socket)? != libc::SOCK_STREAM
            || sys::socket_protocol(socket)? == libc::IPPROTO_SCTP
        {
            return Err(Errno(libc::ESOCKTNOSUPPORT));
        }
        if sys::is_listening(socket)? {
            return Err(Errno(libc::ENOTCONN));
        }
        known.store(cookie, Ordering::Relaxed);
        Ok(cookie)
    }

    fn check_file(&self, request: &Request<'_>, file: RawFd) -> Result<FileFacts> {
        let state = sys::file_state_without_sync(file)?;
        match state.kind {
            FileKind::Regular | FileKind::Block => {}
            FileKind::Directory => return Err(Errno(libc::EISDIR)),
            _ => return Err(Errno(libc::EINVAL)),
        }
        let flags = sys::status_flags(file)?;
        if flags & libc::O_ACCMODE == libc::O_WRONLY || flags & libc::O_PATH != 0 {
            return Err(Errno(libc::EBADF));
        }
        let exact = request.flags.contains(RequestFlags::EXACT) && request.is_open_ended();
        // The size of a network file may be out of date; the ring thread queries the server.
        let is_too_long = |known: &KnownFiles| {
            known.look_up(state.kind, state.mount).is_local()
                && state.size.saturating_sub(request.offset) > self.exact_max
        };
        if exact && is_too_long(&self.shared.known_files) {
            return Err(Errno(libc::EMSGSIZE));
        }
        let direct = flags & libc::O_DIRECT != 0;
        let FileState { kind, size, inode, mount } = state;
        Ok(FileFacts { kind, size, inode, mount, direct })
    }
}
