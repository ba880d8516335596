// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots of any length: a range that is to be kept and is longer than the pool takes is cloned
//! by a helper, where the file system shares extents.  The operation then reads the clone, which
//! nobody else can change, in place of the file.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::{File, Inspection};
use crate::decide::operation::{self, Phase};
use crate::decide::token::{Kind, Token};
use crate::engine::Engine;
use crate::engine::helpers::{BlockingCall, Task};
use crate::engine::kernel::Kernel;
use crate::sys;
use crate::types::completion::Event as Report;
use crate::types::errno::{Errno, Result};
use crate::types::file::{Content, FileFacts, FileState};
use crate::types::request::{RequestFlags, TO_EOF};
use crate::types::stats::Counters;

impl<E: Engine> Driver<E> {
    // Has a helper clone the range of an operation whose size has been queried, if the range is to
    // be kept and is too long for that.
    pub(super) fn clone_long(&mut self, slot: usize) {
        let job = &self.jobs[slot];
        let range = job.operation.file_length();
        let is_long = range != TO_EOF && range > self.room.pool.kept_max();
        if !is_long || !job.is_held() || job.operation.phase() != Phase::Running {
            return;
        }
        if let Err(error) = self.start_clone(slot) {
            self.do_without_clone(slot, error);
        }
    }

    fn start_clone(&mut self, slot: usize) -> Result<()> {
        let job = &mut self.jobs[slot];
        let Some(file) = &job.file else { return Err(Errno(libc::EINVAL)) };
        let (file, facts) = (file.fd, file.facts);
        if !self.engine.kernel().may_clone(&facts) {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let operation::Task { offset, length, .. } = *job.operation.task();
        let token = Token::new(Kind::Clone, slot, job.id);
        let dir = self.shared.settings.snapshot_dir.clone();
        let task = Task::Clone { file, offset, length, dir };
        self.engine.start_call(BlockingCall { token, facts, task })?;
        job.data.inspection = Inspection::Cloning;
        Ok(())
    }

    // EAGER keeps as much as the pool takes.
    fn do_without_clone(&mut self, slot: usize, error: Errno) {
        let job = &mut self.jobs[slot];
        if job.operation.task().flags.contains(RequestFlags::EXACT) {
            let is_passing = matches!(error.0, libc::ENOMEM | libc::EIO);
            let errno = if is_passing { error.0 } else { libc::EMSGSIZE };
            job.operation.fail(-errno);
        }
    }

    pub(super) fn on_cloned(&mut self, token: Token, clone: Result<sys::Clone>) {
        let clone = clone.and_then(|clone| self.files.reserve().map(|()| clone));
        let clone = clone.map(|sys::Clone { fd, state }| {
            self.shared.descriptors.add_one();
            let FileState { kind, size, inode, mount } = state;
            let content = Content::Changing; // though not by others: it is read as any file
            (fd, FileFacts { kind, size, inode, mount, direct: false, content })
        });
        let slot = if self.take_back(token) { None } else { self.slot_of(token) };
        let slot = slot.filter(|&slot| self.jobs[slot].stop_asking());
        let Some(slot) = slot else {
            if let Ok((fd, facts)) = clone {
                self.close_by_helper(fd, facts);
            }
            return;
        };
        self.jobs[slot].data.inspection = Inspection::Done;
        match clone.and_then(|(fd, facts)| self.files.insert_clone(fd, facts)) {
            Ok(entry) => self.use_clone(slot, entry),
            Err(error) => self.do_without_clone(slot, error),
        }
        if self.jobs[slot].is_held() {
            self.read_ahead(slot);
        }
        self.let_hold(slot);
        self.proceed(slot);
    }

    // Takes the clone in place of the file.
    fn use_clone(&mut self, slot: usize, entry: usize) {
        let (fd, facts) = self.files.describe(entry);
        let file = File::new(fd, entry, facts);
        let socket = self.schedule.socket_of(slot);
        let job = &mut self.jobs[slot];
        let original = job.file.replace(file);
        if job.operation.phase() == Phase::Running {
            // It needs no room in the pool before others.
            let available = facts.size.saturating_sub(job.operation.task().offset);
            job.operation.cloned(available);
            self.socket(socket).kept -= 1;
            Counters::add(&self.shared.counters.snapshots_cloned, 1);
            self.report_clone(slot);
        }
        if let Some(original) = original {
            self.close_file(original.entry as usize);
        }
    }

    fn report_clone(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        if job.reply.is_none() && job.operation.take_clone_event() {
            let completion = job.completion(0, Report::Snapshot);
            self.report(completion, None);
        }
    }
}
