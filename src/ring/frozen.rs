// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files whose content cannot change.  Nothing of them is kept or waited for: to other machines their
//! pages go with zero-copy (`zero_copy_sends`), and are forgotten when they are in the socket; to
//! local peers, and where zero-copy is not real, sendfile(2) puts references into the socket.
#![forbid(unsafe_code)]

use super::Driver;
use super::job::Job;
use crate::decide::frozen::FROZEN_MIN;
use crate::decide::operation::Phase;
use crate::engine::at_once::Passed;
use crate::engine::kernel::Kernel;
use crate::engine::{Engine, frozen};
use crate::types::completion::CompletionFlags;
use crate::types::stats::Counters;

impl<E: Engine> Driver<E> {
    /// Finds out whether the content of a file can change, if the range is long enough for that to
    /// matter.  The operation has begun.
    pub(super) fn find_frozen(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        let Some(file) = &mut job.file else { return };
        let left = job.operation.file_length().saturating_sub(job.operation.range_sent());
        if job.operation.phase() != Phase::Running || left < FROZEN_MIN {
            return;
        }
        let (entry, kernel) = (file.entry as usize, self.engine.kernel());
        if self.files.is_frozen(entry, kernel, &self.shared.known_files) {
            job.operation.freeze();
        }
    }

    /// Returns whether references to the file's pages may be put into the socket.
    pub(super) fn takes_references(&mut self, socket: usize, slot: usize) -> bool {
        let job = &self.jobs[slot];
        let Some(file) = job.file.as_ref().filter(|_| job.goes_by_reference()) else {
            return false;
        };
        let is_direct = self.shared.known_files.is_direct(&file.facts);
        let number = self.socket(socket).number();
        is_direct && self.engine.kernel().takes_references(number)
    }

    /// Sends the next bytes of a registered file by reference, if its windows show that they are in
    /// the page cache: that is remembered for a moment, and costs no system call.
    pub(super) fn send_kept(&mut self, socket: usize, slot: usize, bytes: &mut u64) -> bool {
        let chunk = self.shared.settings.chunk_bytes;
        let job = &self.jobs[slot];
        let has_windows = job.file.as_ref().is_some_and(|file| file.is_registered && file.mappable);
        if !has_windows || !self.take_piece(slot, chunk) {
            return false;
        }
        let most = self.jobs[slot].available();
        self.drop_source_of(slot);
        self.send_by_reference(socket, slot, most, bytes)
    }

    /// Sends up to `most` of the next bytes of the range by reference, after the header.  False: it
    /// was not possible, and the operation is unaffected.
    pub(super) fn send_by_reference(
        &mut self,
        socket: usize,
        slot: usize,
        most: u64,
        bytes: &mut u64,
    ) -> bool {
        let job = &self.jobs[slot];
        let id = job.id;
        let portion = job.operation.want_send(most, most);
        if let Some(portion) = portion.filter(|portion| portion.header.1 > 0) {
            self.send_header(socket, slot, &portion);
            let is_sent = |job: &Job| job.operation.wire() >= job.operation.task().header.into();
            let goes_on = self.jobs.get(slot).is_some_and(|job| job.id == id && is_sent(job));
            if !goes_on || self.socket(socket).waiting {
                return true;
            }
        }
        let number = self.socket(socket).number();
        let job = &mut self.jobs[slot];
        let Some(file) = job.file.as_ref().map(|file| file.fd) else { return false };
        let kernel = self.engine.kernel();
        let passed = frozen::send(kernel, number, file, &mut job.operation, most);
        let Some(Passed { asked, sent }) = passed else { return false };
        *bytes = asked;
        if frozen::is_for_another_way(sent) {
            job.operation.send_refused();
            return false;
        }
        job.sending.asked = asked as u32;
        match sent {
            Ok(count) => self.on_reference_sent(slot, count as u64),
            Err(error) => self.on_send_error(slot, error.negative()),
        }
        true
    }

    fn on_reference_sent(&mut self, slot: usize, count: u64) {
        let job = &mut self.jobs[slot];
        job.operation.sent(count, CompletionFlags::WAS_ZEROCOPY, u64::MAX);
        let is_full = count < u64::from(job.sending.asked) && job.operation.ended().is_none();
        let counters = &self.shared.counters;
        for counter in [
            &counters.wire_bytes,
            &counters.file_bytes,
            &counters.bytes_zerocopy,
            &counters.bytes_frozen,
        ] {
            Counters::add(counter, count);
        }
        self.progressed(slot);
        if is_full { self.wait_for_peer(slot) } else { self.proceed(slot) }
    }
}
