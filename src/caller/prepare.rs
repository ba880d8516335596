// SPDX-License-Identifier: MIT OR Apache-2.0
//! Turns a request into a submission: the checks, permits and copies before an operation is
//! accepted.  If the request is refused, nothing stays taken.
#![forbid(unsafe_code)]

use super::Caller;
use super::inline::Numbers;
use crate::collections::memory;
use crate::decide::operation::{Operation, Task};
use crate::engine::clones;
use crate::engine::frozen;
use crate::engine::kernel::System;
use crate::engine::known_files::KnownFiles;
use crate::handoff::claims::Turn;
use crate::handoff::port::Registration;
use crate::handoff::registrations::Registered;
use crate::handoff::shared::KNOWN_SOCKETS;
use crate::handoff::staging::{self, Staged};
use crate::handoff::submissions::{Handles, Submission};
use crate::sys;
use crate::types::errno::{Errno, Result};
use crate::types::file::{Content, FileFacts, FileKind, FileState};
use crate::types::handle::Handle;
use crate::types::request::{Descriptor, Request, RequestFlags};
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

/// A submission that is ready, and the numbers of its descriptors in the caller's table.
#[derive(Debug)]
pub(super) struct Prepared {
    pub submission: Submission,
    pub numbers: Numbers,
}

/// A descriptor of a request after its checks.
#[derive(Clone, Copy)]
struct Checked<Facts> {
    number: RawFd,
    facts: Facts,
    handle: Option<Handle>,
}

impl Caller {
    /// Checks a request, takes a permit and copies header and trailer.
    pub(super) fn prepare(&self, request: &Request<'_>) -> Result<Prepared> {
        self.shared.life.alive()?;
        request.check()?;
        let lengths = staging::lengths(request)?;
        let socket = self.socket_of(request.socket)?;
        let file = request.file.map(|file| self.file_of(request, file)).transpose()?;
        let registered = Handles { socket: socket.handle, file: file.and_then(|file| file.handle) };
        let is_sent = |descriptor: Option<Handle>| u32::from(descriptor.is_none());
        let descriptors = is_sent(socket.handle) + file.map_or(0, |file| is_sent(file.handle));
        let staged = self.take_room(request, lengths, descriptors)?;
        let submission = Submission {
            id: 0,
            cookie: socket.facts,
            user_data: request.user_data,
            operation: Operation::new(Task {
                header: staged.header_length(),
                trailer: staged.trailer_length(),
                offset: request.offset,
                length: request.length,
                flags: request.flags,
            }),
            staged,
            file: file.map(|file| file.facts),
            registered,
            is_announced: true,
            deadline: request.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            reply: None,
            turn: Turn::InOrder,
        };
        let numbers = Numbers { socket: socket.number, file: file.map(|file| file.number) };
        Ok(Prepared { submission, numbers })
    }

    fn socket_of(&self, socket: Descriptor) -> Result<Checked<u64>> {
        match socket {
            Descriptor::Number(number) => {
                Ok(Checked { number, facts: self.check_socket(number)?, handle: None })
            }
            Descriptor::Registered(handle) => {
                let Registered { number, facts, .. } =
                    self.shared.registered.sockets.find(handle)?;
                Ok(Checked { number, facts, handle: Some(handle) })
            }
        }
    }

    fn file_of(&self, request: &Request<'_>, file: Descriptor) -> Result<Checked<FileFacts>> {
        let checked = match file {
            Descriptor::Number(number) => {
                Checked { number, facts: check_file(number)?, handle: None }
            }
            Descriptor::Registered(handle) => {
                let Registered { number, facts, .. } = self.shared.registered.files.find(handle)?;
                Checked { number, facts, handle: Some(handle) }
            }
        };
        self.check_exact(request, &checked)?;
        Ok(checked)
    }

    /// Registers a file; returns its handle.
    pub fn register_file(&self, number: RawFd) -> Result<Handle> {
        self.shared.life.alive()?;
        // Operations find the size out by themselves.
        let mut facts = FileFacts { size: 0, ..check_file(number)? };
        self.shared.known_files.look_up(facts.kind, facts.mount);
        frozen::find_out(&System, &self.shared.known_files, number, &mut facts);
        let files = &self.shared.registered.files;
        let handle = self.register(number, || files.add(number, facts), Registration::File)?;
        Ok(handle)
    }

    /// Registers a socket; returns its handle.
    pub fn register_socket(&self, number: RawFd) -> Result<Handle> {
        self.shared.life.alive()?;
        let cookie = self.check_socket(number)?;
        let sockets = &self.shared.registered.sockets;
        self.register(number, || sockets.add(number, cookie), Registration::Socket)
    }

    fn register(
        &self,
        number: RawFd,
        add: impl FnOnce() -> Result<Handle>,
        named: impl FnOnce(Handle) -> Registration,
    ) -> Result<Handle> {
        let shared = &self.shared;
        shared.descriptors.take(1, || shared.are_descriptors_in_transit())?;
        let handle = add().inspect_err(|_| shared.descriptors.give_back(1))?;
        let registration = named(handle);
        self.port.register(registration, number).inspect_err(|_| {
            match registration {
                Registration::File(handle) => shared.registered.files.remove(handle),
                Registration::Socket(handle) => shared.registered.sockets.remove(handle),
            }
            shared.descriptors.give_back(1);
        })?;
        Ok(handle)
    }

    /// Unregisters a file or a socket.  EBADF: the handle is none.
    pub fn unregister(&self, registration: Registration) -> Result<()> {
        match registration {
            Registration::File(handle) => self.shared.registered.files.retire(handle)?,
            Registration::Socket(handle) => self.shared.registered.sockets.retire(handle)?,
        }
        self.port.unregister(registration);
        Ok(())
    }

    // Takes what Shared::give_back() gives back.
    fn take_room(
        &self,
        request: &Request<'_>,
        lengths: (usize, usize),
        descriptors: u32,
    ) -> Result<Staged> {
        let shared = &self.shared;
        let notifies = RequestFlags::NOTIFY_SNAPSHOT | RequestFlags::NOTIFY_SENT;
        let events = (request.flags & notifies).bits().count_ones();
        shared.permits.take(events, &shared.completions)?;
        let taken = shared.descriptors.take(descriptors, || shared.are_descriptors_in_transit());
        let staged = taken.and_then(|()| {
            shared
                .staging
                .copy(request, lengths)
                .inspect_err(|_| shared.descriptors.give_back(descriptors))
        });
        staged.inspect_err(|_| shared.permits.give_back(events))
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

    // Returns EMSGSIZE for an EXACT range that is longer than the pool takes, of a file that can
    // change and cannot be cloned.
    fn check_exact(&self, request: &Request<'_>, checked: &Checked<FileFacts>) -> Result<()> {
        if !request.flags.contains(RequestFlags::EXACT) {
            return Ok(());
        }
        let file = &checked.facts;
        // The size of a network file may be out of date; the ring thread queries the server.
        let is_sure = |known: &KnownFiles| {
            !request.is_open_ended() || known.look_up(file.kind, file.mount).is_local()
        };
        let length = match request.is_open_ended() {
            true => file.size.saturating_sub(request.offset),
            false => request.length,
        };
        let is_too_long = length > self.exact_max && is_sure(&self.shared.known_files);
        if is_too_long && !clones::may_clone(file) && !self.is_frozen(checked) {
            return Err(Errno(libc::EMSGSIZE));
        }
        Ok(())
    }

    // Returns whether the content of the file cannot change.
    fn is_frozen(&self, file: &Checked<FileFacts>) -> bool {
        // The ring thread finds out for itself, of its own descriptor.
        let mut facts = file.facts;
        match file.handle {
            // The caller may have closed its number.
            Some(_) => facts.content == Content::Frozen,
            None => frozen::find_out(&System, &self.shared.known_files, file.number, &mut facts),
        }
    }
}

fn check_file(file: RawFd) -> Result<FileFacts> {
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
    let direct = flags & libc::O_DIRECT != 0;
    let FileState { kind, size, inode, mount } = state;
    // Only a regular file that is read through the page cache can be sent by reference.
    let may_be_frozen = kind == FileKind::Regular && !direct;
    let content = if may_be_frozen { Content::Unknown } else { Content::Changing };
    Ok(FileFacts { kind, size, inode, mount, direct, content })
}
