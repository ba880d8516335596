// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clones of files: an unnamed file that shares a range's extents (FICLONERANGE).  All of these
//! calls may wait for the disk.

use super::*;
use crate::types::file::FileState;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

// The largest block of the file systems concerned.
const BLOCK: u64 = 64 << 10;

// Attempts while others change the file's size.
const ATTEMPTS: usize = 16;

/// A private copy of a range, at the same positions as in the file.  It ends where the file did.
#[derive(Debug)]
pub struct Clone {
    /// The only descriptor of an unnamed file.
    pub fd: OwnedFd,
    /// Its state.
    pub state: FileState,
}

/// Clones `length` bytes at `offset`, or the rest of the file if that is less, as they are at one
/// instant.  The unnamed file is made in `dir`; None: in the directory of the file.
///
/// The range is widened to whole blocks, so that one call of FICLONERANGE, which holds the inode's
/// lock, takes all of it.  EOPNOTSUPP, EXDEV, EINVAL, EACCES, ENOSPC, EDQUOT, EROFS and others: the
/// file cannot be cloned, or not there.
pub fn clone_range(file: RawFd, offset: u64, length: u64, dir: Option<&CStr>) -> Result<Clone> {
    let fd = match dir {
        Some(dir) => unnamed_file(dir)?,
        None => unnamed_file_beside(file)?,
    };
    share_extents(file, fd.as_raw_fd(), offset, length)?;
    let state = file_state_without_sync(fd.as_raw_fd())?;
    Ok(Clone { fd, state })
}

// Creates a file that no directory will ever name (O_TMPFILE with O_EXCL).
fn unnamed_file(dir: &CStr) -> Result<OwnedFd> {
    let flags = libc::O_TMPFILE | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC | libc::O_LARGEFILE;
    // SAFETY: the path is a C string, and the descriptor belongs to nobody else.
    unsafe {
        let fd = check(libc::open(dir.as_ptr(), flags, 0o600))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

// Creates it in the directory of a file, according to /proc.  Where the path is out of date, the
// directory is another one; FICLONERANGE refuses it if it is on another file system.
fn unnamed_file_beside(file: RawFd) -> Result<OwnedFd> {
    // A helper shares the ring thread's descriptor table, which is not that of the process.
    let link = std::io::Cursor::new([0u8; 64]);
    let link = write_link(link, file)?;
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the path is a C string, and the buffer has room for its length.
    let length = check_size(unsafe {
        libc::readlink(link.as_ptr().cast(), path.as_mut_ptr().cast(), path.len())
    })?;
    let end = path[..length].iter().rposition(|&byte| byte == b'/');
    // The path of a file outside of the root directory does not begin with a slash.
    let end = end.filter(|_| path[0] == b'/' && length < path.len());
    let end = end.ok_or(Errno(libc::ENOENT))?.max(1);
    path[end] = 0;
    let dir = CStr::from_bytes_until_nul(&path).map_err(|_| Errno(libc::ENOENT))?;
    unnamed_file(dir)
}

fn write_link(mut link: std::io::Cursor<[u8; 64]>, file: RawFd) -> Result<[u8; 64]> {
    use std::io::Write;
    write!(link, "/proc/thread-self/fd/{file}\0").map_err(|_| Errno(libc::ENAMETOOLONG))?;
    Ok(link.into_inner())
}

fn share_extents(file: RawFd, into: RawFd, offset: u64, length: u64) -> Result<()> {
    let start = offset / BLOCK * BLOCK;
    let end = offset.saturating_add(length).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
    let mut refused = Errno(libc::EINVAL);
    for _ in 0..ATTEMPTS {
        let size = size_of_file(file)?;
        if size <= offset {
            return Ok(());
        }
        // 0: up to the end of the file, which need not be that of a block.
        let length = if end >= size { 0 } else { end - start };
        match share(file, into, start, length) {
            Err(Errno(libc::EINTR)) => {}
            // The file has become shorter, or only one of the two has checksums (btrfs).
            Err(error @ Errno(libc::EINVAL)) => {
                refused = error;
                if size_of_file(file)? == size && !copy_no_cow(file, into)? {
                    break;
                }
            }
            done => return done,
        }
    }
    Err(refused)
}

fn size_of_file(file: RawFd) -> Result<u64> {
    file_state_without_sync(file).map(|state| state.size)
}

fn share(file: RawFd, into: RawFd, start: u64, length: u64) -> Result<()> {
    const FICLONERANGE: libc::c_ulong = 0x4020_940d;
    // struct file_clone_range: the source, its offset and length, the offset in the destination.
    let range = [file as u64, start, length, start];
    // SAFETY: the request reads these 32 bytes.
    check(unsafe { libc::ioctl(into, FICLONERANGE as _, range.as_ptr()) }).map(|_| ())
}

// Their numbers have the size of a long, which they do not use.
const FS_IOC_GETFLAGS: libc::c_ulong =
    0x8000_6601 | (size_of::<libc::c_long>() as libc::c_ulong) << 16;
const FS_IOC_SETFLAGS: libc::c_ulong =
    0x4000_6602 | (size_of::<libc::c_long>() as libc::c_ulong) << 16;

// Gives an empty file the attribute of another one that it is not copied on write (chattr +C).
// False: both had or lacked it.
fn copy_no_cow(from: RawFd, to: RawFd) -> Result<bool> {
    const FS_COMPR_FL: libc::c_int = 0x0000_0004;
    const FS_NOCOW_FL: libc::c_int = 0x0080_0000;
    let (one, other) = (inode_flags(from)?, inode_flags(to)?);
    if (one ^ other) & FS_NOCOW_FL == 0 {
        return Ok(false);
    }
    // Compression, which a directory hands on, excludes the attribute, and goes by a step of its own.
    let uncompressed = other & !FS_COMPR_FL;
    if uncompressed != other {
        set_inode_flags(to, uncompressed)?;
    }
    set_inode_flags(to, uncompressed ^ FS_NOCOW_FL)?;
    Ok(true)
}

fn set_inode_flags(file: RawFd, flags: libc::c_int) -> Result<()> {
    // SAFETY: the request reads one int.
    check(unsafe { libc::ioctl(file, FS_IOC_SETFLAGS as _, &raw const flags) }).map(|_| ())
}

fn inode_flags(file: RawFd) -> Result<libc::c_int> {
    let mut flags: [libc::c_int; 2] = [0; 2];
    // SAFETY: the request writes one int, and there is room for a long.
    check(unsafe { libc::ioctl(file, FS_IOC_GETFLAGS as _, flags.as_mut_ptr()) })?;
    Ok(flags[0])
}
