// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submissions as they arrive: checks that their descriptors are those that submit inspected, and
//! enters them in every table.  Room in all tables is reserved first, so that an arrival is
//! accepted or refused as a whole.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{File, Job};
use super::slow::Close;
use super::sockets::Socket;
use crate::decide::timers::Alarm;
use crate::engine::Engine;
use crate::engine::kernel::Kernel;
use crate::handoff::claims::Turn;
use crate::handoff::submissions::{Arrival, Handles, Submission};
use crate::sys;
use crate::types::errno::Result;
use crate::types::file::FileFacts;
use crate::types::request::RequestFlags;
use std::os::fd::OwnedFd;
use std::time::Instant;

// From this many descriptors on, it pays to find out by a system call whether a file is open
// already.
const SHARE_FILES_FROM: u32 = 128;

impl<E: Engine> Driver<E> {
    /// Takes a submission that has arrived.
    pub fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Whole(submission, socket, file) => self.accept(submission, socket, file),
            Arrival::Refused(_) => self.reject(arrival, -libc::ENOMEM),
            Arrival::Withdrawn(submission) => self.withdraw(submission),
        }
    }

    // Takes a submission and the ring thread's copies of its descriptors.
    fn accept(&mut self, submission: Submission, socket: Option<OwnedFd>, file: Option<OwnedFd>) {
        self.shared.cuts.arrived();
        self.files.begin_moment();
        if let Some(status) = self.lacks_registered(&submission) {
            return self.refuse(submission, socket, file, status);
        }
        let Handles { socket: socket_handle, file: file_handle } = submission.registered;
        let has_file = file.is_some() || file_handle.is_some();
        let missing =
            socket.is_some() == socket_handle.is_some() || has_file != submission.file.is_some();
        match socket {
            Some(fd) if self.is_other_socket(submission.cookie, &fd) => {
                self.refuse(submission, None, file, -libc::EBADF);
            }
            // The descriptor table was full after all, and the kernel dropped the descriptors.
            socket if missing => self.refuse(submission, socket, file, -libc::EMFILE),
            socket => self.enqueue(submission, socket, file),
        }
    }

    // Returns the status of a submission with a handle whose descriptor is not here: unregistered
    // while submit ran, or lost when it was registered.
    fn lacks_registered(&self, submission: &Submission) -> Option<i32> {
        let Handles { socket, file } = submission.registered;
        let registered = &self.shared.registered;
        if let Some(handle) = socket.filter(|_| self.schedule.find(submission.cookie).is_none()) {
            return Some(registered.sockets.error(handle).negative());
        }
        let file = file.filter(|&handle| self.files.registered(handle).is_none())?;
        Some(registered.files.error(file).negative())
    }

    // Returns whether the number was given to another socket while submit ran.  If there is an
    // entry for the cookie already, the entry's socket is used and no check is needed.
    pub(super) fn is_other_socket(&mut self, cookie: u64, fd: &OwnedFd) -> bool {
        if self.schedule.find(cookie).is_some() {
            return false;
        }
        let fd = sys::number(fd);
        if self.engine.kernel().cookie(fd) != Ok(cookie) {
            return true;
        }
        if !self.sockets.is_checked(cookie) {
            if !self.engine.kernel().is_stream(fd) {
                return true;
            }
            self.sockets.remember_checked(cookie);
        }
        false
    }

    /// Ends a submission that came too late to be carried out.
    pub fn reject(&mut self, arrival: Arrival, status: i32) {
        let (submission, socket, file) = match arrival {
            Arrival::Whole(submission, socket, file) => (submission, socket, file),
            Arrival::Refused(submission) | Arrival::Withdrawn(submission) => {
                (submission, None, None)
            }
        };
        self.shared.cuts.arrived();
        let socket = socket.filter(|fd| !self.is_other_socket(submission.cookie, fd));
        self.refuse(submission, socket, file, status);
    }

    pub(super) fn refuse(
        &mut self,
        submission: Submission,
        socket: Option<OwnedFd>,
        file: Option<OwnedFd>,
        status: i32,
    ) {
        self.shared.descriptors.give_back(submission.descriptor_count());
        if let Some((fd, facts)) = file.zip(submission.file) {
            self.shared.descriptors.add_one();
            self.close_copy(fd, facts);
        }
        let mut job = Job::new(submission, None);
        job.operation.fail(status);
        // The calling thread may have sent the beginning.
        if job.operation.take_held_back() {
            let registered = || {
                let socket = self.schedule.find(job.cookie).and_then(|at| self.sockets.get(at));
                socket.map(Socket::number)
            };
            let number = socket.as_ref().map(sys::number).or_else(registered);
            number.inspect(|&number| self.engine.kernel().push(number));
        }
        self.release(&mut job);
        if job.operation.is_cut() {
            self.shared.life.or_die(self.shared.cuts.record(job.cookie));
        }
        self.sockets.held_back.left(job.cookie);
        self.report_done(job);
    }

    pub(super) fn enqueue(
        &mut self,
        submission: Submission,
        fd: Option<OwnedFd>,
        file: Option<OwnedFd>,
    ) {
        let room = self.make_room();
        let is_held_back = match room.and_then(|()| self.sockets.held_back.arrived(submission.turn))
        {
            Ok(is_held_back) => is_held_back,
            Err(error) => return self.refuse(submission, fd, file, error.negative()),
        };
        let (id, cookie, deadline) = (submission.id, submission.cookie, submission.deadline);
        let flags = submission.operation.task().flags;
        let front = submission.turn == Turn::Ahead;
        let file = submission.file.map(|facts| match (file, submission.registered.file) {
            (Some(fd), _) => self.open_file(fd, facts, flags).expect("there is room"),
            (None, handle) => self.use_registered(handle, facts),
        });
        let socket = match fd {
            Some(fd) => self.open_socket(cookie, fd).expect("there is room"),
            None => self.schedule.find(cookie).expect("a registered socket is open"),
        };
        let slot = self.jobs.insert(Job::new(submission, file)).expect("there is room");
        self.schedule.enqueue(socket, slot, front).expect("there is room");
        self.place(socket, slot);
        if let Some(at) = deadline {
            let entry = (id, slot as u32, Alarm::Deadline);
            self.timers.set(at, entry).expect("there is room");
        }
        if is_held_back {
            self.schedule.park(socket);
        }
        self.ready(socket);
        if self.jobs[slot].is_held() && !is_held_back {
            self.begin(slot);
            if self.jobs[slot].is_held() {
                self.read_ahead(slot);
            }
            self.settle(slot);
        }
    }

    // Makes room for one more operation in every table, so that nothing fails halfway.
    pub(super) fn make_room(&mut self) -> Result<()> {
        self.jobs.reserve()?;
        self.schedule.reserve(self.jobs.end())?;
        self.sockets.reserve(self.schedule.end())?;
        self.files.reserve()?;
        self.timers.reserve()
    }

    // Sets an alarm; without memory for it the operation fails.
    pub(super) fn set_alarm(&mut self, slot: usize, at: Instant, alarm: Alarm) {
        let entry = (self.jobs[slot].id, slot as u32, alarm);
        if let Err(error) = self.timers.set(at, entry) {
            self.jobs[slot].operation.fail(error.negative());
        }
    }

    // Undoes a submission whose descriptors could not be sent.
    fn withdraw(&mut self, mut submission: Submission) {
        self.shared.cuts.arrived();
        self.sockets.held_back.left(submission.cookie);
        self.shared.give_back(&mut submission);
    }

    // Enters a file.  With many descriptors in use, or for windows, the same open file is kept only
    // once.
    pub(super) fn open_file(
        &mut self,
        fd: OwnedFd,
        facts: FileFacts,
        flags: RequestFlags,
    ) -> Result<File> {
        let may_share = flags.contains(RequestFlags::ZEROCOPY)
            || self.shared.descriptors.used() > SHARE_FILES_FROM;
        let shared =
            if may_share { self.files.share(self.engine.kernel(), &fd, &facts) } else { None };
        let entry = match shared {
            Some(entry) => {
                self.close_copy(fd, facts);
                entry
            }
            None => self.files.insert(fd, facts, may_share)?,
        };
        let fd = self.files.number(entry);
        Ok(File::new(fd, entry, facts))
    }

    // Removes one use of a file.  Some: the ring thread's copy is closed later.
    pub(super) fn close_file(&mut self, entry: usize) -> Option<Close> {
        if !self.files.release(entry) {
            return None;
        }
        if !self.windows.unmap_few(entry as u32) {
            let token = self.slow.close_token();
            if self.windows.unmap_later(entry as u32, token) {
                return Some(Close::Windows(token));
            }
        }
        let open = self.files.take(entry)?;
        if open.is_clone {
            return self.close_by_helper(open.fd, open.facts).map(Close::Helper);
        }
        self.close_copy(open.fd, open.facts).map(Close::Helper)
    }

    pub(super) fn open_socket(&mut self, cookie: u64, fd: OwnedFd) -> Result<usize> {
        if let Some(socket) = self.schedule.find(cookie) {
            // The same socket again: one copy is enough.
            drop(fd);
            self.shared.descriptors.give_back(1);
            return Ok(socket);
        }
        let socket = self.schedule.open(cookie)?;
        self.sockets.open(socket, fd);
        Ok(socket)
    }
}
