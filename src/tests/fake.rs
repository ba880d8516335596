// SPDX-License-Identifier: MIT OR Apache-2.0
//! An engine whose kernel is simulated.
#![forbid(unsafe_code)]

use super::machine::{Machine, Request, placeholder};
use super::memory::{Piece, What};
use crate::decide::token::Token;
use crate::engine::helpers::{BlockingCall, Task};
use crate::engine::kernel::Kernel;
use crate::engine::{Engine, EngineEvent, Read, ZeroCopySend};
use crate::sys::{FileWindow, Span, SpanMut};
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileFacts, Size};
use std::cell::{RefCell, RefMut};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The simulated kernel, as the engine and the test have it.
#[derive(Clone, Debug)]
pub(super) struct Simulated(pub(super) Rc<RefCell<Machine>>);

impl Simulated {
    pub(super) fn machine(&self) -> RefMut<'_, Machine> {
        self.0.borrow_mut()
    }
}

impl Kernel for Simulated {
    fn now(&self) -> Instant {
        self.machine().now
    }

    fn thread_time(&self) -> Duration {
        let mut machine = self.machine();
        let used = Duration::from_micros(1 + machine.pick(300));
        machine.thread_time += used;
        machine.thread_time
    }

    fn cookie(&self, socket: RawFd) -> Result<u64> {
        let machine = self.machine();
        Ok(machine.sockets[machine.socket(socket)].cookie)
    }

    fn is_stream(&self, _socket: RawFd) -> bool {
        true
    }

    fn is_unix(&self, socket: RawFd) -> bool {
        let machine = self.machine();
        machine.sockets[machine.socket(socket)].manner.is_unix
    }

    fn leaves_the_machine(&self, socket: RawFd) -> bool {
        let machine = self.machine();
        machine.sockets[machine.socket(socket)].manner.is_remote
    }

    fn has_room(&self, socket: RawFd) -> bool {
        let mut machine = self.machine();
        let socket = machine.socket(socket);
        machine.has_room(socket)
    }

    fn more_flag(&self, socket: RawFd, more: bool) -> i32 {
        let machine = self.machine();
        let has_tls = machine.sockets[machine.socket(socket)].manner.has_tls;
        if more && !has_tls { libc::MSG_MORE } else { 0 }
    }

    fn send(&self, socket: RawFd, parts: &[Span], flags: i32) -> Result<usize> {
        let mut machine = self.machine();
        let socket = machine.socket(socket);
        let sent = machine.send(socket, parts, flags, false);
        usize::try_from(sent).map_err(|_| Errno(-sent))
    }

    fn push(&self, socket: RawFd) {
        let mut machine = self.machine();
        let socket = machine.socket(socket);
        machine.sockets[socket].holds_back = false;
    }

    fn size(&self, file: RawFd, _facts: &FileFacts) -> Result<Size> {
        Ok(self.machine().size(file))
    }

    fn is_same_file(&self, one: RawFd, other: RawFd) -> bool {
        let machine = self.machine();
        machine.compares && machine.thing(one) == machine.thing(other)
    }

    fn is_resident(&self, file: RawFd, _offset: u64, _length: u64) -> bool {
        let mut machine = self.machine();
        machine.file(file);
        machine.pick(4) != 3
    }

    fn is_cached(&self, file: RawFd, _offset: u64, _length: u64) -> Option<bool> {
        let mut machine = self.machine();
        machine.file(file);
        match machine.pick(3) {
            0 => None,
            picked => Some(picked == 1),
        }
    }

    fn may_clone(&self, _facts: &FileFacts) -> bool {
        self.machine().pick(4) != 3
    }

    fn map(&self, file: RawFd, offset: u64, length: usize) -> Result<FileWindow> {
        let mut machine = self.machine();
        let file = machine.file(file);
        match machine.pick(16) {
            14 => return Err(Errno(libc::ENOMEM)),
            15 => return Err(Errno(libc::ENODEV)),
            _ => {}
        }
        let window = FileWindow::new(placeholder(), offset % machine.page, length)?;
        let (owner, what) = match machine.files[file].of {
            Some((original, epoch)) => (original, What::File(epoch)),
            None => (file, What::Window),
        };
        let piece = Piece { owner, what, at: offset, length: length as u64 };
        machine.memory.write(window.span().address, piece);
        Ok(window)
    }

    fn may_ask_residency(&self, _file: RawFd) -> bool {
        self.machine().pick(4) != 3
    }

    fn is_mapped_resident(&self, _span: Span) -> bool {
        self.machine().pick(4) != 3
    }

    fn disconnect(&self, socket: RawFd) -> Result<()> {
        self.machine().disconnect(socket)
    }

    fn end_waits(&self, socket: RawFd) {
        let mut machine = self.machine();
        let socket = machine.socket(socket);
        machine.fail_socket(socket, libc::EPIPE);
    }

    fn read_warm(&self, file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
        let mut machine = self.machine();
        let file = machine.file(file);
        if machine.pick(6) == 5 {
            return Err(Errno(libc::EAGAIN));
        }
        Ok(machine.read(file, offset, Span::of(into)) as usize)
    }

    fn is_frozen(&self, file: RawFd, is_local: bool) -> bool {
        let machine = self.machine();
        is_local && machine.files[machine.file(file)].is_frozen
    }

    fn takes_references(&self, socket: RawFd) -> bool {
        let machine = self.machine();
        machine.sockets[machine.socket(socket)].manner.takes_references()
    }

    fn send_file(&self, socket: RawFd, file: RawFd, offset: u64, length: u64) -> Result<usize> {
        let mut machine = self.machine();
        let (socket, file) = (machine.socket(socket), machine.file(file));
        let sent = machine.send_file(socket, file, offset, length);
        usize::try_from(sent).map_err(|_| Errno(-sent))
    }

    fn read_into_pool(&self, file: RawFd, offset: u64, into: SpanMut) -> Result<usize> {
        let mut machine = self.machine();
        let file = machine.file(file);
        if machine.pick(6) == 5 {
            return Err(Errno(libc::EAGAIN));
        }
        Ok(machine.read(file, offset, into.as_span()) as usize)
    }
}

/// The engine.
#[derive(Debug)]
pub(super) struct Fake {
    pub(super) kernel: Simulated,
    registered: Vec<u16>,
}

impl Fake {
    pub(super) fn new(kernel: Simulated) -> Fake {
        Fake { kernel, registered: Vec::new() }
    }
}

impl Engine for Fake {
    type Kernel = Simulated;

    fn kernel(&self) -> &Simulated {
        &self.kernel
    }

    fn send(&mut self, token: Token, socket: RawFd, parts: &[Span], flags: i32) {
        let mut machine = self.kernel.machine();
        assert!(machine.file_bytes(parts) <= machine.chunk, "more than a chunk in one send");
        let request =
            Request::Send { socket: machine.socket(socket), parts: parts.to_vec(), flags };
        machine.request(token, request, false);
    }

    fn has_zero_copy(&self) -> bool {
        self.kernel.machine().has_zero_copy
    }

    fn send_zero_copy(&mut self, token: Token, send: ZeroCopySend<'_>) {
        let mut machine = self.kernel.machine();
        let ZeroCopySend { socket, parts, flags } = send;
        assert!(machine.file_bytes(parts) <= machine.chunk, "more than a chunk in one send");
        let (socket, parts) = (machine.socket(socket), parts.to_vec());
        let request = Request::ZeroCopy { socket, parts, flags };
        machine.request(token, request, false);
    }

    fn read(&mut self, token: Token, read: Read) -> bool {
        assert!(read.buffer.is_none_or(|index| self.registered.contains(&index)));
        let mut machine = self.kernel.machine();
        let file = machine.file(read.file);
        let (offset, into) = (read.offset, read.into.as_span());
        machine.note_read(token, file, offset);
        machine.request(token, Request::Read { file, offset, into }, false);
        machine.pick(2) == 1
    }

    fn start_call(&mut self, job: BlockingCall) -> Result<()> {
        let mut machine = self.kernel.machine();
        let request = match job.task {
            Task::Inspect { file, .. } => Request::Inspect { file: machine.file(file) },
            Task::Read { file, offset, into, .. } => {
                let file = machine.file(file);
                machine.note_read(job.token, file, offset);
                Request::Read { file, offset, into: into.as_span() }
            }
            Task::Clone { file, offset, length, .. } => {
                Request::Clone { file: machine.file(file), offset, length }
            }
            Task::Close(descriptor) => Request::Close(descriptor),
        };
        machine.request(job.token, request, true);
        Ok(())
    }

    fn withdraw_call(&mut self, token: Token) -> bool {
        self.kernel.machine().withdraw(token)
    }

    fn trim(&mut self) {}

    fn arm(&mut self, token: Token, socket: RawFd, changes: bool) {
        self.kernel.machine().arm(token, socket, changes);
    }

    fn disarm(&mut self, token: Token, socket: RawFd) {
        self.kernel.machine().disarm(token, socket);
    }

    fn register(&mut self, index: u16, _block: SpanMut) -> bool {
        let done = self.kernel.machine().pick(2) == 0;
        if done {
            self.registered.push(index);
        }
        done
    }

    fn unregister(&mut self, index: u16, _block: SpanMut) {
        self.registered.retain(|&registered| registered != index);
    }

    fn has_sends_queued(&self) -> bool {
        false
    }

    // Lets the kernel work until there is an event, or the time is over.
    fn turn(&mut self, timeout: Option<Duration>, events: &mut Vec<EngineEvent>) -> Result<()> {
        let mut machine = self.kernel.machine();
        let waits = timeout != Some(Duration::ZERO);
        while machine.pick(3) == 0 && machine.carry_out() {}
        while machine.pick(4) == 0 && machine.acknowledge() {}
        if waits && !machine.has_events() {
            machine.now += timeout.unwrap_or_default();
        }
        machine.deliver(events);
        Ok(())
    }

    fn released(&mut self, socket: RawFd) {
        self.kernel.machine().released(socket);
    }

    fn take_enters(&mut self) -> u64 {
        0
    }
}
