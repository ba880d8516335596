// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that operations read: each open file once, with the number of its uses.  Closing is
//! left to the driver, because on some file systems it may wait.
#![forbid(unsafe_code)]

use crate::collections::{NumberMap, Table};
use crate::engine::kernel::Kernel;
use crate::sys;
use crate::types::errno::Result;
use crate::types::file::FileFacts;
use std::os::fd::{OwnedFd, RawFd};

/// An open file.
pub(super) struct OpenFile {
    pub(super) fd: OwnedFd,
    pub(super) facts: FileFacts,
    /// Operations, and calls that outlived theirs, that use the file.
    uses: u32,
}

/// The open files of a context.
#[derive(Default)]
pub(super) struct Files {
    open: Table<OpenFile>,
    /// The latest entry of each inode, among those that operations may share.
    by_inode: NumberMap<u32>,
}

impl Files {
    /// Makes room for one more file.
    pub(super) fn reserve(&mut self) -> Result<()> {
        self.open.reserve()
    }

    /// Returns the entry that has this file open already, with one more use.
    pub(super) fn share(
        &mut self,
        kernel: &impl Kernel,
        fd: &OwnedFd,
        facts: &FileFacts,
    ) -> Option<usize> {
        let entry = self.by_inode.get(facts.inode)? as usize;
        let known = sys::number(&self.open[entry].fd);
        if !kernel.is_same_file(sys::number(fd), known) {
            return None;
        }
        self.open[entry].uses += 1;
        Some(entry)
    }

    /// Adds an entry with one use.  `may_share`: later operations may find it.
    pub(super) fn insert(
        &mut self,
        fd: OwnedFd,
        facts: FileFacts,
        may_share: bool,
    ) -> Result<usize> {
        let entry = self.open.insert(OpenFile { fd, facts, uses: 1 })?;
        if may_share {
            // Without memory for it, later operations do not share the file.
            if let Ok(latest) = self.by_inode.entry(facts.inode, 0) {
                *latest = entry as u32;
            }
        }
        Ok(entry)
    }

    /// Returns the descriptor of an entry.
    pub(super) fn number(&self, entry: usize) -> RawFd {
        sys::number(&self.open[entry].fd)
    }

    /// Adds one use.
    pub(super) fn retain(&mut self, entry: usize) {
        self.open[entry].uses += 1;
    }

    /// Removes one use.  Some: it was the last one, and the caller closes the file.
    pub(super) fn release(&mut self, entry: usize) -> Option<OpenFile> {
        let open = &mut self.open[entry];
        open.uses -= 1;
        if open.uses > 0 {
            return None;
        }
        let open = self.open.remove(entry);
        if self.by_inode.get(open.facts.inode) == Some(entry as u32) {
            self.by_inode.remove(open.facts.inode);
        }
        Some(open)
    }

    /// Takes an entry out, whatever its uses.
    pub(super) fn take(&mut self, entry: usize) -> Option<OpenFile> {
        self.open.contains(entry).then(|| self.open.remove(entry))
    }

    /// Releases memory after a peak; no file is open.
    pub(super) fn shrink(&mut self) {
        self.open.shrink();
        self.by_inode = NumberMap::default();
    }
}
