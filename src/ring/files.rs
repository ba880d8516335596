// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that operations read: each open file once, with the number of its uses.  Closing is
//! left to the driver, because on some file systems it may wait.
#![forbid(unsafe_code)]

use crate::collections::{NumberMap, Table};
use crate::engine::frozen;
use crate::engine::kernel::Kernel;
use crate::engine::known_files::KnownFiles;
use crate::sys;
use crate::types::errno::Result;
use crate::types::file::{FileFacts, Size};
use crate::types::handle::Handle;
use std::os::fd::{OwnedFd, RawFd};

/// An open file.
pub(super) struct OpenFile {
    pub(super) fd: OwnedFd,
    pub(super) facts: FileFacts,
    /// Operations, and calls that outlived theirs, that use the file.
    uses: u32,
    /// It has been found that a mapping shows what read(2) gives, which holds while it is open.
    may_map: bool,
    /// It is a private copy.  Closing it removes it from the disk, which may take long.
    pub(super) is_clone: bool,
    /// The size, and the moment when it was queried.
    size: Option<(u64, Result<Size>)>,
}

/// The open files of a context.
#[derive(Default)]
pub(super) struct Files {
    open: Table<OpenFile>,
    /// The latest entry of each inode, among those that operations may share.
    by_inode: NumberMap<u32>,
    /// The entries of registered files, by handle.
    registered: NumberMap<u32>,
    /// Counts the moments before which a size is out of date.
    moment: u64,
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
        let (may_map, is_clone, size) = (false, false, None);
        let open = OpenFile { fd, facts, uses: 1, may_map, is_clone, size };
        let entry = self.open.insert(open)?;
        if may_share {
            // Without memory for it, later operations do not share the file.
            if let Ok(latest) = self.by_inode.entry(facts.inode, 0) {
                *latest = entry as u32;
            }
        }
        Ok(entry)
    }

    /// Adds a private copy of a range of a file, with one use.
    pub(super) fn insert_clone(&mut self, fd: OwnedFd, facts: FileFacts) -> Result<usize> {
        let entry = self.insert(fd, facts, false)?;
        self.open[entry].is_clone = true;
        Ok(entry)
    }

    /// Makes room for one more registered file.
    pub(super) fn reserve_handle(&mut self) -> Result<()> {
        self.registered.reserve()
    }

    /// Adds a registered file.
    pub(super) fn register(&mut self, handle: Handle, fd: OwnedFd, facts: FileFacts) -> Result<()> {
        let entry = self.insert(fd, facts, false)?;
        self.registered.entry(handle.number().into(), entry as u32).map(|_| ())
    }

    /// Returns the entry of a registered file.
    pub(super) fn registered(&self, handle: Handle) -> Option<usize> {
        self.registered.get(handle.number().into()).map(|entry| entry as usize)
    }

    /// Forgets a handle; returns the entry, whose use by the registration remains to be removed.
    pub(super) fn unregister(&mut self, handle: Handle) -> Option<usize> {
        self.registered.remove(handle.number().into()).map(|entry| entry as usize)
    }

    /// Forgets all handles; as [`Files::unregister`] for each.
    pub(super) fn unregister_all(&mut self) -> impl Iterator<Item = usize> + use<> {
        std::mem::take(&mut self.registered).into_values().map(|entry| entry as usize)
    }

    /// Returns descriptor and facts of an entry.
    pub(super) fn describe(&self, entry: usize) -> (RawFd, FileFacts) {
        let open = &self.open[entry];
        (sys::number(&open.fd), open.facts)
    }

    /// Returns the descriptor of an entry.
    pub(super) fn number(&self, entry: usize) -> RawFd {
        sys::number(&self.open[entry].fd)
    }

    /// Returns whether a file may be mapped; `found` finds out.
    pub(super) fn may_map(&mut self, entry: usize, found: impl FnOnce() -> bool) -> bool {
        let open = &mut self.open[entry];
        open.may_map = open.may_map || found();
        open.may_map
    }

    /// Returns whether the content of a file can never change.
    pub(super) fn is_frozen(
        &mut self,
        entry: usize,
        kernel: &impl Kernel,
        known: &KnownFiles,
    ) -> bool {
        let OpenFile { fd, facts, .. } = &mut self.open[entry];
        frozen::find_out(kernel, known, sys::number(fd), facts)
    }

    /// Makes the sizes out of date that were queried before.
    pub(super) fn begin_moment(&mut self) {
        self.moment += 1;
    }

    /// Returns the size of a file, queried since [`Files::begin_moment`]; see [`Kernel::size`].
    pub(super) fn size(&mut self, entry: usize, kernel: &impl Kernel) -> Result<Size> {
        let open = &mut self.open[entry];
        match open.size {
            Some((moment, size)) if moment == self.moment => size,
            _ => {
                let size = kernel.size(sys::number(&open.fd), &open.facts);
                open.size = Some((self.moment, size));
                size
            }
        }
    }

    /// Returns whether only one operation uses a file.
    pub(super) fn has_one_use(&self, entry: usize) -> bool {
        self.open[entry].uses == 1
    }

    /// Adds one use.
    pub(super) fn retain(&mut self, entry: usize) {
        self.open[entry].uses += 1;
    }

    /// Removes one use.  True: it was the last one.  Then no operation finds the file any more, and
    /// the caller takes it out and closes it.
    pub(super) fn release(&mut self, entry: usize) -> bool {
        let open = &mut self.open[entry];
        open.uses -= 1;
        let is_last = open.uses == 0;
        let inode = open.facts.inode;
        if is_last && self.by_inode.get(inode) == Some(entry as u32) {
            self.by_inode.remove(inode);
        }
        is_last
    }

    /// Takes an entry out, whatever its uses.
    pub(super) fn take(&mut self, entry: usize) -> Option<OpenFile> {
        self.open.contains(entry).then(|| self.open.remove(entry))
    }

    /// Releases memory after a peak; no operation uses a file.
    pub(super) fn shrink(&mut self) {
        self.open.shrink();
        self.registered.shrink();
        self.by_inode = NumberMap::default();
    }
}
