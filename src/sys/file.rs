// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files: their state, the part of them in the page cache, reads, and the offsets of sendfile's
//! callers.  Whether a call may wait for a disk or a server is part of each function's contract.

use super::*;
use crate::types::errno::{Errno, Result};
use crate::types::file::{FileKind, FileState, Mount};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

pub(super) fn kind_of(mode: libc::mode_t) -> FileKind {
    match mode & libc::S_IFMT {
        libc::S_IFREG => FileKind::Regular,
        libc::S_IFBLK => FileKind::Block,
        libc::S_IFDIR => FileKind::Directory,
        libc::S_IFIFO => FileKind::Pipe,
        libc::S_IFSOCK => FileKind::Socket,
        _ => FileKind::Other,
    }
}

/// Returns the state by fstat(2).  On a network file system this may query the server.
pub fn file_state(fd: RawFd) -> Result<FileState> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the whole struct when it succeeds.
    let stat = unsafe {
        check(libc::fstat(fd, stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    let is_block = stat.st_mode & libc::S_IFMT == libc::S_IFBLK;
    let device = if is_block { stat.st_rdev } else { stat.st_dev };
    Ok(FileState {
        kind: kind_of(stat.st_mode),
        size: stat.st_size as u64,
        inode: stat.st_ino ^ stat.st_dev.rotate_left(32),
        mount: Mount::of_device(0, device),
    })
}

/// Returns the state without querying a server (AT_STATX_DONT_SYNC): the size of a network file may
/// be out of date.
pub fn file_state_without_sync(fd: RawFd) -> Result<FileState> {
    const MOUNT: libc::c_uint = libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE;
    let mut stat = MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let mask = libc::STATX_BASIC_STATS | MOUNT;
    // SAFETY: the path is a valid empty string; statx fills the struct when it succeeds.
    let done = unsafe { check(libc::statx(fd, c"".as_ptr(), flags, mask, stat.as_mut_ptr())) };
    match done {
        Ok(_) => {
            // SAFETY: filled, see above.
            let stat = unsafe { stat.assume_init() };
            let device = libc::makedev(stat.stx_dev_major, stat.stx_dev_minor);
            let kind = kind_of(stat.stx_mode.into());
            let mount = if kind == FileKind::Block {
                // Each device is a file system of its own here.
                Mount::of_device(0, libc::makedev(stat.stx_rdev_major, stat.stx_rdev_minor))
            } else if stat.stx_mask & libc::STATX_MNT_ID_UNIQUE != 0 {
                Mount::numbered(stat.stx_mnt_id)
            } else {
                Mount::of_device(stat.stx_mnt_id, device)
            };
            let inode = stat.stx_ino ^ device.rotate_left(32);
            Ok(FileState { kind, size: stat.stx_size, inode, mount })
        }
        // Old kernels and seccomp profiles.  glibc's substitute for a missing statx rejects these
        // flags with EINVAL.
        Err(Errno(libc::ENOSYS | libc::EPERM | libc::EINVAL)) => file_state(fd),
        Err(error) => Err(error),
    }
}

/// Returns the magic number of a mount's file system without querying that file system
/// (statmount(2), Linux 6.8).  None: refused, or the mount is not in the caller's namespace, as
/// that of memfd_create(2).
pub fn magic_of_mount(mount: Mount) -> Option<u64> {
    const SYS_STATMOUNT: libc::c_long = 457;
    const STATMOUNT_SB_BASIC: u64 = 1;
    // struct mnt_id_req: its size (32 bits), no descriptor, the mount's number, the requested
    // fields.
    let request = [24, mount.number(), STATMOUNT_SB_BASIC];
    // struct statmount: size and options, mask, device, magic number; the rest is not used.
    let mut answer = [0u64; 64];
    let length = mem::size_of_val(&answer);
    if !mount.is_unique() {
        return None;
    }
    // SAFETY: the request has the 24 bytes that it states, and the answer has room for `length`.
    let done = unsafe {
        libc::syscall(SYS_STATMOUNT, request.as_ptr(), answer.as_mut_ptr(), length, 0u32)
    };
    (done == 0 && answer[1] & STATMOUNT_SB_BASIC != 0).then_some(answer[3])
}

/// Returns the magic number of a file's file system by fstatfs(2), which may query a server.
pub fn magic_of_file(file: RawFd) -> Result<u64> {
    let mut state = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: there is room for the struct, and it is read only after the kernel has filled it.
    unsafe {
        check(libc::fstatfs(file, state.as_mut_ptr()))?;
        // Sign-extended where the type is signed.
        Ok(state.assume_init().f_type as u64 & 0xffff_ffff)
    }
}

/// Returns the size of a block device in bytes (BLKGETSIZE64).
pub fn device_size(fd: RawFd) -> Result<u64> {
    const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
    let mut size = 0u64;
    // SAFETY: the request writes one u64.
    check(unsafe { libc::ioctl(fd, BLKGETSIZE64 as _, &mut size) })?;
    Ok(size)
}

/// Returns whether two numbers of this thread's table refer to the same open file description
/// (kcmp(2)); false where that cannot be found out.
pub fn is_same_file(one: RawFd, other: RawFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: only numbers are passed.
    unsafe {
        let thread = libc::gettid();
        libc::syscall(libc::SYS_kcmp, thread, thread, KCMP_FILE, one, other) == 0
    }
}

/// Returns the access mode and status flags (F_GETFL).
pub fn status_flags(fd: RawFd) -> Result<i32> {
    // SAFETY: F_GETFL takes no further argument.
    check(unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

/// Writes by write(2).
pub fn write_bytes(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: reads from a live slice.
    let done = unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) };
    check_size(done as isize)
}

/// Reads by pread(2).
pub fn read_at(file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    read_span(file, offset, SpanMut::of(into))
}

/// Reads by preadv2(2) with RWF_NOWAIT (Linux 4.14); EAGAIN where the disk would be needed.
pub fn read_at_without_waiting(file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    read_span_without_waiting(file, offset, SpanMut::of(into))
}

/// Reads as [`read_at_without_waiting`] does.  On file systems that do not support RWF_NOWAIT it
/// reads if the whole range is in the page cache.
pub fn read_warm(file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    match read_at_without_waiting(file, offset, into) {
        Err(Errno(libc::EOPNOTSUPP)) if is_in_core(file, offset, into.len() as u64) => {
            read_at(file, offset, into)
        }
        done => done,
    }
}

/// Reads as [`read_at_without_waiting`] does, into the pool's memory.
pub(crate) fn read_span_without_waiting(file: RawFd, offset: u64, into: SpanMut) -> Result<usize> {
    let (iovec, at) = (into.as_span().iovec(), offset as libc::off_t);
    // SAFETY: the span's owner keeps the memory mapped, and nothing reads it until this is done.
    let done = unsafe {
        // Only 32-bit machines take the offset in two halves.
        libc::syscall(
            libc::SYS_preadv2,
            file,
            &raw const iovec,
            1usize,
            at,
            0usize,
            libc::RWF_NOWAIT,
        )
    };
    check_size(done as isize)
}

/// Reads by pread(2) into the pool's memory.
pub(crate) fn read_span(file: RawFd, offset: u64, into: SpanMut) -> Result<usize> {
    let Span { address, length } = into.as_span();
    let (address, at) = (address as *mut libc::c_void, offset as libc::off_t);
    // SAFETY: as above.
    let done = unsafe { libc::syscall(libc::SYS_pread64, file, address, length, at) };
    check_size(done as isize)
}

pub(super) const SYS_CACHESTAT: libc::c_long = 451;

/// Returns whether the range, or a mapping of it, can be read without waiting for the disk.
pub fn is_resident(file: RawFd, offset: u64, length: u64) -> bool {
    match can_be_read(file, offset, length) {
        Err(Errno(libc::EOPNOTSUPP)) => is_in_core(file, offset, length),
        Ok(true) => is_cached(file, offset, length) != Some(false),
        _ => false,
    }
}

// Returns how many pages of `page` bytes a range touches.  Shifts are cheaper than divisions by a
// number that the compiler does not know.
fn pages_of(offset: u64, length: u64, page: u64) -> u64 {
    let shift = page.trailing_zeros();
    ((offset + length + page - 1) >> shift) - (offset >> shift)
}

/// Returns whether every byte has a page, including pages that are still being read from the disk.
/// None: cachestat(2) needs Linux 6.5, and is refused for files that the caller could not write.
pub fn is_cached(file: RawFd, offset: u64, length: u64) -> Option<bool> {
    #[repr(C)]
    struct Range {
        offset: u64,
        length: u64,
    }
    let range = Range { offset, length };
    let mut stat = [0u64; 5];
    // SAFETY: both structs are as the kernel's cachestat_range and cachestat.
    let done = unsafe { libc::syscall(SYS_CACHESTAT, file, &range, stat.as_mut_ptr(), 0u32) };
    (done == 0).then_some(stat[0] >= pages_of(offset, length, page_size()))
}

// Reads single bytes without waiting, one in each 64 KiB: a request of readahead to the disk,
// usually 128 KiB, completes as a whole or not at all.
pub(super) fn can_be_read(file: RawFd, offset: u64, length: u64) -> Result<bool> {
    const STRIDE: u64 = 64 << 10;
    let last = offset + length - 1;
    for at in (offset..last).step_by(STRIDE as usize).chain([last]) {
        if read_at_without_waiting(file, at, &mut [0])? != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

// Returns whether all pages are in memory, on file systems that do not support RWF_NOWAIT: tmpfs,
// which never waits, overlayfs, where cachestat(2) finds no page, and FUSE.  To callers whom
// cachestat(2) refuses, mincore(2) reports every page as present.
pub(super) fn is_in_core(file: RawFd, offset: u64, length: u64) -> bool {
    match (is_on_tmpfs(file), is_cached(file, offset, length)) {
        (true, cached) => cached != Some(false),
        (false, Some(_)) => is_settled(file, offset, length),
        (false, None) => false,
    }
}

/// Returns whether mincore(2) tells the truth about a mapping of this file.  To callers that could
/// not write the file it reports every page as present (Linux 5.2); cachestat(2) refuses them.
pub fn may_ask_residency(file: RawFd) -> bool {
    is_cached(file, 0, 1).is_some()
}

/// Returns whether all pages of a span, which lies in a window of a file, are present and none is
/// still being read (mincore(2)).
pub fn is_mapped_resident(span: Span) -> bool {
    const STEP: usize = 256;
    let page = page_size();
    let end = span.address + span.length;
    let mut first = span.address - offset_in_page(span.address as u64) as usize;
    while first < end {
        let mut pages = [0u8; STEP];
        let length = (end - first).min(STEP * page as usize);
        let count = pages_of(0, length as u64, page) as usize;
        // SAFETY: there is a byte for each page.  The addresses are only looked up.
        let done = unsafe { libc::mincore(first as *mut libc::c_void, length, pages.as_mut_ptr()) };
        if done != 0 || pages[..count].iter().any(|page| page & 1 == 0) {
            return false;
        }
        first += length;
    }
    true
}

pub(super) fn is_on_tmpfs(file: RawFd) -> bool {
    magic_of_file(file) == Ok(crate::types::magic::TMPFS)
}

// Returns whether all pages are present and none is still being read.
pub(super) fn is_settled(file: RawFd, offset: u64, length: u64) -> bool {
    const STEP: u64 = 1 << 20;
    let (first, end, page) = (offset - offset_in_page(offset), offset + length, page_size());
    (first..end).step_by(STEP as usize).all(|at| {
        let mut pages = [0u8; STEP as usize / PAGE_MIN];
        let length = (end - at).min(STEP) as usize;
        let Ok(mapping) = Mapping::of_file(file, at, length) else { return false };
        // SAFETY: the range is the mapping's own, and there is a byte for each of its pages.
        let done = unsafe {
            libc::mincore(mapping.address as *mut libc::c_void, length, pages.as_mut_ptr())
        };
        let count = pages_of(0, length as u64, page) as usize;
        done == 0 && pages[..count].iter().all(|page| page & 1 != 0)
    })
}

/// Calls sendfile(2).
pub fn kernel_sendfile(
    out: RawFd,
    file: RawFd,
    offset: CallerOffset,
    count: usize,
) -> Result<usize> {
    check_size(raw_sendfile(out, file, offset, count))
}

/// Moves the file position by `delta` (lseek(2)); returns the new position.
pub fn seek_by(file: RawFd, delta: i64) -> Result<u64> {
    // SAFETY: no memory involved.
    let position = unsafe { libc::lseek(file, delta, libc::SEEK_CUR) };
    check_size(position as isize).map(|at| at as u64)
}

/// Returns the number of a descriptor, for calls that take one.
pub fn number(fd: &OwnedFd) -> RawFd {
    fd.as_raw_fd()
}

/// Drops a descriptor without closing its number, which does not belong to the library any more.
pub fn abandon(fd: OwnedFd) {
    mem::forget(fd);
}

/// Returns whether the kernel has cachestat(2), by its version (Linux 6.5): a trial would end the
/// process under a seccomp filter that kills.
pub fn has_cachestat() -> bool {
    kernel_is_since(6, 5)
}

/// The offset argument of a caller of sendfile(2) or splice(2): an address that may be invalid.
#[derive(Clone, Copy, Debug)]
pub struct CallerOffset(*mut libc::off_t);

impl CallerOffset {
    /// NULL: the call uses the file position.
    pub const NONE: CallerOffset = CallerOffset(ptr::null_mut());

    /// Wraps the caller's argument.
    ///
    /// # Safety
    /// The address is NULL, or, if it is mapped, the caller lends it for this call.  Before any
    /// access the kernel checks whether it is mapped.
    pub unsafe fn new(address: *mut libc::off_t) -> CallerOffset {
        CallerOffset(address)
    }

    /// Runs `body` with an offset of the library's own, which must not outlive `body`.
    pub fn with<T>(offset: Option<&mut libc::off_t>, body: impl FnOnce(CallerOffset) -> T) -> T {
        body(offset.map_or(CallerOffset::NONE, |offset| CallerOffset(offset)))
    }

    /// Returns whether it is NULL.
    pub fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// Returns whether it is NULL or the kernel can read and write it.
    pub fn is_valid(self) -> bool {
        // With invalid descriptors always EBADF, but only after the pointer has been read and
        // written.
        self.is_none()
            || self.is_in_our_page()
            || kernel_sendfile(-1, -1, self, 0) != Err(Errno(libc::EFAULT))
    }

    // Returns whether all of it is in a page that holds a variable of this function, as a variable
    // of a near caller usually is: such a page is readable and writable.  A part of a page that is
    // as long as the smallest pages is enough.
    fn is_in_our_page(self) -> bool {
        let own = 0u8;
        let own = std::hint::black_box(&raw const own) as usize;
        let first = self.0 as usize;
        let last = first.wrapping_add(size_of::<libc::off_t>() - 1);
        [first, last].map(|address| address / PAGE_MIN) == [own / PAGE_MIN; 2]
    }

    /// Returns the value.  Only after [`CallerOffset::is_valid`] or a system call has proved it
    /// valid.
    pub(crate) fn load(self) -> Option<libc::off_t> {
        // SAFETY: not null, and found to be valid.
        (!self.is_none()).then(|| unsafe { self.0.read_unaligned() })
    }

    /// Writes the value, under the same condition as [`CallerOffset::load`]; false if it is NULL.
    pub(crate) fn store(self, value: libc::off_t) -> bool {
        if !self.is_none() {
            // SAFETY: as above.
            unsafe { self.0.write_unaligned(value) };
        }
        !self.is_none()
    }
}

/// Calls splice(2) and returns the kernel's result unchanged, for [`with_cancellation`].
pub(crate) fn raw_splice(
    file: RawFd,
    offset: CallerOffset,
    out: RawFd,
    out_offset: CallerOffset,
    count: usize,
    flags: u32,
) -> isize {
    // SAFETY: the raw call checks the pointers itself; see raw_sendfile().
    let done =
        unsafe { libc::syscall(libc::SYS_splice, file, offset.0, out, out_offset.0, count, flags) };
    done as isize
}

/// Calls sendfile(2) and returns the kernel's result unchanged, for [`with_cancellation`].
pub(crate) fn raw_sendfile(out: RawFd, file: RawFd, offset: CallerOffset, count: usize) -> isize {
    // SAFETY: the raw call checks the pointer itself.  libc's symbol is not used because the
    // LD_PRELOAD library interposes it.
    unsafe { libc::syscall(libc::SYS_sendfile, out, file, offset.0, count) as isize }
}

/// Checks that sendfile(2) accepts this offset: EOVERFLOW beyond the file system's limit.
pub fn kernel_accepts_offset(out: RawFd, file: RawFd, offset: u64) -> Result<()> {
    let mut offset = offset as libc::off_t;
    kernel_sendfile(out, file, CallerOffset(&raw mut offset), 0).map(|_| ())
}

/// Starts reading into the page cache (readahead(2)).  Advice only.
pub fn read_ahead(file: RawFd, offset: u64, length: u64) {
    let (Ok(at), Ok(length)) = (libc::off64_t::try_from(offset), usize::try_from(length)) else {
        return;
    };
    // SAFETY: no memory involved.
    unsafe { libc::readahead(file, at, length) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_pages_at_both_ends() {
        for page in [4 << 10, 16 << 10, 64 << 10] {
            for (offset, length, pages) in [
                (0, 1, 1),
                (0, page, 1),
                (0, page + 1, 2),
                (page - 1, 1, 1),
                (page - 1, 2, 2),
                (page, page, 1),
                (3 * page + 5, 2 * page, 3),
            ] {
                assert_eq!(pages_of(offset, length, page), pages, "{offset}, {length}");
            }
        }
    }
}
