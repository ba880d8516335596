// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an operation must come to, by the contract alone: from what was asked for, what was
//! learnt of the file and what went wrong first.
#![forbid(unsafe_code)]

use crate::decide::operation::Task;
use crate::types::request::{RequestFlags, TO_EOF};

/// The expectation of one operation.
#[derive(Debug)]
pub(super) struct Oracle {
    task: Task,
    /// Bytes of the range that the file gives; TO_EOF while unknown.
    pub(super) file_end: u64,
    /// The status it must end with, once that is decided.
    pub(super) status: Option<i32>,
    /// A missing end is to be filled with zeros.
    pub(super) is_padded: bool,
}

impl Oracle {
    pub(super) fn new(task: Task) -> Oracle {
        Oracle { task, file_end: task.length, status: None, is_padded: false }
    }

    /// Bytes of the range, padding included; TO_EOF while unknown.
    pub(super) fn range(&self) -> u64 {
        if self.task.length == TO_EOF { self.file_end } else { self.task.length }
    }

    /// The file has been seen to give only `available` bytes of the range, of which `sent` have
    /// gone out already.
    pub(super) fn learn(&mut self, available: u64, sent: u64) {
        if self.status.is_some() || available >= self.file_end {
            return;
        }
        if self.task.length == TO_EOF {
            self.file_end = available.max(sent);
        } else if self.task.flags.contains(RequestFlags::ZERO_PAD) {
            self.file_end = available;
            self.is_padded = true;
        } else {
            self.fail(-libc::ENODATA);
        }
    }

    /// What comes first counts.
    pub(super) fn fail(&mut self, status: i32) {
        self.status.get_or_insert(status);
    }

    /// The socket has taken `wire` bytes in all.
    pub(super) fn sent(&mut self, wire: u64) {
        let all = [u64::from(self.task.header), self.range(), u64::from(self.task.trailer)];
        let total = all.into_iter().try_fold(0, u64::checked_add);
        if self.range() != TO_EOF && total == Some(wire) {
            self.status.get_or_insert(0);
        }
    }
}
