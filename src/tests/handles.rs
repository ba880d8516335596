// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callers that register files and sockets, name them in requests, and unregister them again.
#![forbid(unsafe_code)]

use super::callers::{Message, World};
use super::expected::Expected;
use super::machine::Thing;
use crate::handoff::port::Registration;
use crate::handoff::submissions::Handles;
use crate::types::file::{Content, FileFacts};
use crate::types::handle::Handle;

/// A descriptor that has been registered.
pub(super) struct Registered {
    handle: Handle,
    thing: Thing,
    /// It has been unregistered.
    is_over: bool,
    /// The ring thread has not got it.
    is_lost: bool,
}

impl Registered {
    fn registration(&self) -> Registration {
        match self.thing {
            Thing::File(_) => Registration::File(self.handle),
            Thing::Socket(_) => Registration::Socket(self.handle),
        }
    }

    /// With which errors an operation may end that names it.
    pub(super) fn explain(&self, expected: &mut Expected) {
        if self.is_lost {
            expected.may_fail_with(libc::EMFILE);
            expected.may_fail_with(libc::EBADF);
            expected.lacks_socket |= matches!(self.thing, Thing::Socket(_));
        }
    }
}

impl World {
    /// Registers a file or a socket; the descriptor may get lost on its way.
    pub(super) fn register(&mut self) {
        let mut machine = self.kernel.machine();
        let (files, sockets) = (machine.originals(), machine.sockets.len() as u64);
        let thing = match machine.script.pick(2) {
            0 => Thing::File(machine.script.pick(files) as usize),
            _ => Thing::Socket(machine.script.pick(sockets) as usize),
        };
        let is_lost = machine.script.pick(8) == 7;
        self.shared.descriptors.take(1, || false).expect("few descriptors");
        let registered = &self.shared.registered;
        let handle = match thing {
            Thing::File(file) => {
                let facts = machine.files[file].facts;
                let is_frozen = machine.files[file].is_frozen;
                let content = match is_frozen {
                    _ if machine.script.pick(3) == 2 => Content::Unknown,
                    true => Content::Frozen,
                    false => Content::Changing,
                };
                let facts = FileFacts { size: 0, content, ..facts };
                registered.files.add(-1, facts)
            }
            Thing::Socket(socket) => registered.sockets.add(-1, machine.sockets[socket].cookie),
        };
        let handle = handle.expect("memory");
        let fd = (!is_lost).then(|| machine.descriptor(thing));
        let known = Registered { handle, thing, is_over: false, is_lost };
        self.transit.push_back(Message::Registered(known.registration(), fd));
        drop(machine);
        self.handles.push(known);
    }

    /// Unregisters something.  Operations that were submitted by another thread may arrive behind.
    pub(super) fn unregister(&mut self) {
        let count = self.handles.len().max(1) as u64;
        let at = self.kernel.machine().script.pick(count) as usize;
        let Some(known) = self.handles.get_mut(at).filter(|known| !known.is_over) else { return };
        known.is_over = true;
        let registration = known.registration();
        self.retire(registration);
        let is_its = |message: &Message| match message {
            Message::Registered(registered, _) => *registered == registration,
            _ => false,
        };
        let first = self.transit.iter().position(is_its).map_or(0, |at| at + 1);
        let most = (self.transit.len() - first) as u64;
        let ahead = self.kernel.machine().pick(most.min(3) + 1) as usize;
        let at = self.transit.len() - ahead;
        for message in self.transit.iter().skip(at) {
            let Message::Submitted { submission, .. } = message else { continue };
            if names(submission.registered, registration) {
                let mut machine = self.kernel.machine();
                let expected = &mut machine.operations[submission.user_data as usize];
                expected.may_fail_with(libc::EBADF);
                expected.lacks_socket |= matches!(registration, Registration::Socket(_));
            }
        }
        self.transit.insert(at, Message::Unregistered(registration));
    }

    fn retire(&self, registration: Registration) {
        let registered = &self.shared.registered;
        let retired = match registration {
            Registration::File(handle) => registered.files.retire(handle),
            Registration::Socket(handle) => registered.sockets.retire(handle),
        };
        retired.expect("it was registered");
    }

    /// Unregisters everything.
    pub(super) fn unregister_all(&mut self) {
        let handles = std::mem::take(&mut self.handles);
        for known in handles.iter().filter(|known| !known.is_over) {
            self.retire(known.registration());
            self.transit.push_back(Message::Unregistered(known.registration()));
        }
    }

    /// Chooses a handle for something, or None for a descriptor.  Outer None: it is refused.
    pub(super) fn choose_handle(&self, thing: Thing) -> Option<Option<Handle>> {
        let its = self.handles.iter().filter(|known| known.thing == thing);
        let choice = self.kernel.machine().script.pick(2 * its.clone().count().max(1) as u64);
        let Some(known) = its.into_iter().nth(choice as usize) else { return Some(None) };
        let registered = &self.shared.registered;
        let found = match known.registration() {
            Registration::File(handle) => registered.files.find(handle).map(|_| ()),
            Registration::Socket(handle) => registered.sockets.find(handle).map(|_| ()),
        };
        let is_expected = found.is_ok() || known.is_over || known.is_lost;
        assert!(is_expected, "a registered descriptor is refused: {found:?}");
        assert!(found.is_err() || !known.is_over, "a stale handle is accepted");
        found.ok().map(|()| Some(known.handle))
    }

    /// What these handles name.
    pub(super) fn handles_in(&self, handles: Handles) -> impl Iterator<Item = &Registered> {
        self.handles.iter().filter(move |known| names(handles, known.registration()))
    }
}

fn names(handles: Handles, registration: Registration) -> bool {
    match registration {
        Registration::File(handle) => handles.file == Some(handle),
        Registration::Socket(handle) => handles.socket == Some(handle),
    }
}
