// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registered files and sockets: the ring thread's copies, which stay open until they are
//! unregistered and no operation uses them.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::File;
use crate::engine::Engine;
use crate::types::errno::{Errno, Result};
use crate::types::file::FileFacts;
use crate::types::handle::Handle;
use std::os::fd::OwnedFd;

impl<E: Engine> Driver<E> {
    /// Takes a file that has been registered.
    pub fn register_file(&mut self, handle: Handle, fd: Option<OwnedFd>) {
        let Some(facts) = self.shared.registered.files.facts(handle) else { return };
        let kept = self.received(fd).and_then(|fd| self.keep_file(handle, fd, facts));
        if let Err(error) = kept {
            self.shared.registered.files.fail(handle, error);
        }
    }

    // None: the descriptor table was full after all, and the kernel dropped the descriptor.
    fn received(&self, fd: Option<OwnedFd>) -> Result<OwnedFd> {
        fd.ok_or_else(|| {
            self.shared.descriptors.give_back(1);
            Errno(libc::EMFILE)
        })
    }

    fn keep_file(&mut self, handle: Handle, fd: OwnedFd, facts: FileFacts) -> Result<()> {
        let room = self.files.reserve().and_then(|()| self.files.reserve_handle());
        if room.is_err() {
            self.close_copy(fd, facts);
            return room;
        }
        self.files.register(handle, fd, facts)
    }

    /// Returns a registered file for an operation.
    pub(super) fn use_registered(&mut self, handle: Option<Handle>, facts: FileFacts) -> File {
        let found = handle.and_then(|handle| Some((handle, self.files.registered(handle)?)));
        let (handle, entry) = found.expect("a registered file is open");
        self.files.retain(entry);
        let (fd, known) = self.files.describe(entry);
        let mut facts = facts;
        if facts.content != known.content {
            // It was found out since the registration, at which the file system was not known.
            facts.content = known.content;
            let learn = |facts: &mut FileFacts| facts.content = known.content;
            self.shared.registered.files.update(handle, learn);
        }
        File { is_registered: true, ..File::new(fd, entry, facts) }
    }

    /// Takes a socket that has been registered.
    pub fn register_socket(&mut self, handle: Handle, fd: Option<OwnedFd>) {
        let Some(cookie) = self.shared.registered.sockets.facts(handle) else { return };
        let kept = self.received(fd).and_then(|fd| self.keep_socket(handle, cookie, fd));
        if let Err(error) = kept {
            self.shared.registered.sockets.fail(handle, error);
        }
    }

    fn keep_socket(&mut self, handle: Handle, cookie: u64, fd: OwnedFd) -> Result<()> {
        let room = self.schedule.reserve(0);
        let room = room.and_then(|()| self.sockets.reserve(self.schedule.end()));
        let kept = match room {
            Ok(()) if self.is_other_socket(cookie, &fd) => Err(Errno(libc::EBADF)),
            room => room.and_then(|()| self.sockets.register(handle, cookie)),
        };
        if kept.is_err() {
            self.shared.descriptors.give_back(1);
            return kept;
        }
        let socket = self.open_socket(cookie, fd).expect("there is room");
        self.socket(socket).registrations += 1;
        Ok(())
    }

    /// Closes a file that has been unregistered, once no operation uses it.
    pub fn unregister_file(&mut self, handle: Handle) {
        if let Some(entry) = self.files.unregister(handle) {
            self.close_file(entry);
        }
        self.shared.registered.files.remove(handle);
    }

    /// Closes a socket that has been unregistered, once it has no operations.
    pub fn unregister_socket(&mut self, handle: Handle) {
        if let Some(cookie) = self.sockets.unregister(handle) {
            self.drop_registration(cookie);
        }
        self.shared.registered.sockets.remove(handle);
    }

    fn drop_registration(&mut self, cookie: u64) {
        let socket = self.schedule.find(cookie).expect("a registered socket is open");
        let state = self.socket(socket);
        state.registrations -= 1;
        if state.registrations == 0 && self.schedule.is_vacant(socket) {
            self.close_socket(socket);
        }
    }

    /// Unregisters everything: the context ends.
    pub fn unregister_all(&mut self) {
        for entry in self.files.unregister_all() {
            self.close_file(entry);
        }
        for cookie in self.sockets.unregister_all() {
            self.drop_registration(cookie);
        }
    }
}
