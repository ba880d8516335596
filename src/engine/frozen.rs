// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files whose content cannot change: finds them, and puts references to their pages into a socket.
//! A reference needs no copy, and the operation is done when it is in the socket.  The ring thread
//! and the calling thread (`caller`) both use it.
#![forbid(unsafe_code)]

use super::at_once::Passed;
use super::kernel::Kernel;
use super::known_files::{FileSystem, KnownFiles};
use crate::decide::operation::Operation;
use crate::types::errno::{Errno, Result};
use crate::types::file::{Content, FileFacts};
use std::os::fd::RawFd;

// The last bytes of a range that go with what follows it: little to copy.
const LEFT: u64 = 4 << 10;

/// Finds out, once for each open file, whether its content can change.
pub(crate) fn find_out(
    kernel: &impl Kernel,
    known: &KnownFiles,
    file: RawFd,
    facts: &mut FileFacts,
) -> bool {
    if facts.content == Content::Unknown {
        let file_system = known.file_system(facts.kind, facts.mount);
        if kernel.is_frozen(file, file_system.is_local()) {
            facts.content = Content::Frozen;
            if file_system == FileSystem::Unknown {
                // It has seals, so it is in memory.  A memfd's mount cannot be looked up.
                known.learn_file_system(facts.mount, FileSystem::Mapped);
            }
        } else if file_system != FileSystem::Unknown {
            facts.content = Content::Changing;
        }
    }
    facts.content == Content::Frozen
}

/// Sends as much of the range as fits now, at most `most` bytes, by reference.  The header has been
/// sent, and the file is in the page cache.  The caller reports the outcome to the operation.  None:
/// there is nothing to send.
pub(crate) fn send(
    kernel: &impl Kernel,
    socket: RawFd,
    file: RawFd,
    operation: &mut Operation,
    most: u64,
) -> Option<Passed> {
    let portion = operation.want_send(most, most).filter(|portion| portion.header.1 == 0)?;
    let (from, length) = portion.range;
    let is_last = from + length == operation.file_length();
    let is_followed = portion.more || portion.zeros > 0 || portion.trailer.1 > 0;
    // sendfile(2) cannot announce more.
    let left = if is_last && is_followed { LEFT } else { 0 };
    let asked = length.checked_sub(left).filter(|&asked| asked > 0)?;
    let sent = kernel.send_file(socket, file, operation.task().offset + from, asked);
    // If it took a part, the kernel has announced the rest.
    operation.send_started(sent != Ok(asked as usize));
    Some(Passed { asked, sent })
}

/// Returns whether a send failed because of the file, or was refused: then the data is read, which
/// shows the reason.
pub(crate) fn is_for_another_way(sent: Result<usize>) -> bool {
    matches!(
        sent,
        Ok(0)
            | Err(Errno(libc::EIO | libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP))
    )
}
