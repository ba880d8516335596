// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files: their state, what of them is cached, reads, and offsets of callers.

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

/// fstat(2).  On a network file system it may ask the server.
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

/// What is known without asking a server (AT_STATX_DONT_SYNC): where there is one, the size may
/// be an old one.
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
        // Old kernels and seccomp profiles; EINVAL is how glibc's stand-in for a missing statx
        // takes these flags.
        Err(Errno(libc::ENOSYS | libc::EPERM | libc::EINVAL)) => file_state(fd),
        Err(error) => Err(error),
    }
}

/// The magic number of a mount's file system, without asking that (statmount(2), Linux 6.8).
/// None: refused, or not a mount of the caller's namespace, as memfd_create(2) has one.
pub fn magic_of_mount(mount: Mount) -> Option<u64> {
    const SYS_STATMOUNT: libc::c_long = 457;
    const STATMOUNT_SB_BASIC: u64 = 1;
    // struct mnt_id_req: its size (32 bits), no descriptor, the number, what is asked for.
    let request = [24, mount.number(), STATMOUNT_SB_BASIC];
    // struct statmount: size and options, mask, device, magic number; the rest is not looked at.
    let mut answer = [0u64; 64];
    let length = mem::size_of_val(&answer);
    if !mount.is_unique() {
        return None;
    }
    // SAFETY: the request has the 24 bytes that it says, and the answer `length` of room.
    let done = unsafe {
        libc::syscall(SYS_STATMOUNT, request.as_ptr(), answer.as_mut_ptr(), length, 0u32)
    };
    (done == 0 && answer[1] & STATMOUNT_SB_BASIC != 0).then_some(answer[3])
}

/// The magic number of a file's file system (fstatfs(2)), which may ask a server.
pub fn magic_of_file(file: RawFd) -> Result<u64> {
    let mut state = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: there is room for what the kernel fills in, and it is read only then.
    unsafe {
        check(libc::fstatfs(file, state.as_mut_ptr()))?;
        // Sign-extended where the type is a signed one.
        Ok(state.assume_init().f_type as u64 & 0xffff_ffff)
    }
}

/// The size of a block device (BLKGETSIZE64).
pub fn device_size(fd: RawFd) -> Result<u64> {
    const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
    let mut size = 0u64;
    // SAFETY: the request writes one u64.
    check(unsafe { libc::ioctl(fd, BLKGETSIZE64 as _, &mut size) })?;
    Ok(size)
}

/// Whether two numbers of this thread's table refer to the same open file description (kcmp(2));
/// false where that cannot be found out.
pub fn is_same_file(one: RawFd, other: RawFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: only numbers are passed.
    unsafe {
        let thread = libc::gettid();
        libc::syscall(libc::SYS_kcmp, thread, thread, KCMP_FILE, one, other) == 0
    }
}

/// F_GETFL: access mode and status flags.
pub fn status_flags(fd: RawFd) -> Result<i32> {
    // SAFETY: F_GETFL takes no further argument.
    check(unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

/// write(2).
pub fn write_bytes(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: reads from a live slice.
    let done = unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) };
    check_size(done as isize)
}

/// pread(2).
pub fn read_at(file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    read_span(file, offset, SpanMut::of(into))
}

/// preadv2(2) with RWF_NOWAIT (Linux 4.14): EAGAIN where the disk would have to be asked.
pub fn read_at_without_waiting(file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    read_span_without_waiting(file, offset, SpanMut::of(into))
}

/// The same, also on file systems whose reads never say that they would wait, if the page cache has
/// it all.
pub fn read_warm(file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    match read_at_without_waiting(file, offset, into) {
        Err(Errno(libc::EOPNOTSUPP)) if is_in_core(file, offset, into.len() as u64) => {
            read_at(file, offset, into)
        }
        done => done,
    }
}

/// The same as [`read_at_without_waiting`], into memory of the pool's.
pub(crate) fn read_span_without_waiting(file: RawFd, offset: u64, into: SpanMut) -> Result<usize> {
    let (iovec, at) = (into.as_span().iovec(), offset as libc::off_t);
    // SAFETY: the span is memory that its owner keeps mapped and unread until this is done.
    let done = unsafe {
        // The offset is split into halves for machines of 32 bits only.
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

/// pread(2) into memory of the pool's.
pub(crate) fn read_span(file: RawFd, offset: u64, into: SpanMut) -> Result<usize> {
    let Span { address, length } = into.as_span();
    let (address, at) = (address as *mut libc::c_void, offset as libc::off_t);
    // SAFETY: as above.
    let done = unsafe { libc::syscall(libc::SYS_pread64, file, address, length, at) };
    check_size(done as isize)
}

pub(super) const SYS_CACHESTAT: libc::c_long = 451;

/// Whether the range can be read, or a mapping of it, without waiting for the disk.
pub fn is_resident(file: RawFd, offset: u64, length: u64) -> bool {
    match can_be_read(file, offset, length) {
        Err(Errno(libc::EOPNOTSUPP)) => is_in_core(file, offset, length),
        Ok(true) => is_cached(file, offset, length) != Some(false),
        _ => false,
    }
}

// Whether there is a page for every byte, be it one that is only being read from the disk yet.
// None: cachestat(2) came with Linux 6.5, and is refused for files that the caller could not write.
pub(super) fn is_cached(file: RawFd, offset: u64, length: u64) -> Option<bool> {
    #[repr(C)]
    struct Range {
        offset: u64,
        length: u64,
    }
    let range = Range { offset, length };
    let mut stat = [0u64; 5];
    // SAFETY: both structs are as the kernel's cachestat_range and cachestat.
    let done = unsafe { libc::syscall(SYS_CACHESTAT, file, &range, stat.as_mut_ptr(), 0u32) };
    let pages = (offset + length).div_ceil(PAGE) - offset / PAGE;
    (done == 0).then_some(stat[0] >= pages)
}

// Reads a byte here and there without waiting: what readahead asks the disk for, 128 KiB as a
// rule, comes whole or not at all.
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

// For file systems that never say that they can read without waiting: tmpfs, which always can, and
// overlayfs, where cachestat(2) finds no page, and FUSE.  mincore(2) says yes of all to those whom
// cachestat(2) refuses.
pub(super) fn is_in_core(file: RawFd, offset: u64, length: u64) -> bool {
    match (is_on_tmpfs(file), is_cached(file, offset, length)) {
        (true, cached) => cached != Some(false),
        (false, Some(_)) => is_settled(file, offset, length),
        (false, None) => false,
    }
}

pub(super) fn is_on_tmpfs(file: RawFd) -> bool {
    magic_of_file(file) == Ok(libc::TMPFS_MAGIC as u64)
}

// Whether all pages are there, and none of them is only being read.
pub(super) fn is_settled(file: RawFd, offset: u64, length: u64) -> bool {
    const STEP: u64 = 1 << 20;
    let (first, end) = (offset - offset % PAGE, offset + length);
    (first..end).step_by(STEP as usize).all(|at| {
        let mut pages = [0u8; (STEP / PAGE) as usize];
        let length = (end - at).min(STEP) as usize;
        let Ok(mapping) = Mapping::of_file(file, at, length) else { return false };
        // SAFETY: the range is the mapping's own, and there is a byte for each of its pages.
        let done = unsafe {
            libc::mincore(mapping.address as *mut libc::c_void, length, pages.as_mut_ptr())
        };
        done == 0 && pages[..length.div_ceil(PAGE as usize)].iter().all(|page| page & 1 != 0)
    })
}

/// sendfile(2) itself.
pub fn kernel_sendfile(
    out: RawFd,
    file: RawFd,
    offset: CallerOffset,
    count: usize,
) -> Result<usize> {
    check_size(raw_sendfile(out, file, offset, count))
}

/// lseek(2) by `delta` from the current position; returns the new position.
pub fn seek_by(file: RawFd, delta: i64) -> Result<u64> {
    // SAFETY: no memory involved.
    let position = unsafe { libc::lseek(file, delta, libc::SEEK_CUR) };
    check_size(position as isize).map(|at| at as u64)
}

/// The number of a descriptor, for calls that take one.
pub fn number(fd: &OwnedFd) -> RawFd {
    fd.as_raw_fd()
}

/// Forgets a descriptor without closing its number, which is not ours any more.
pub fn abandon(fd: OwnedFd) {
    mem::forget(fd);
}

/// Whether the kernel has cachestat(2), by its version (Linux 6.5): trying would end the process
/// under a seccomp filter that kills.
pub fn has_cachestat() -> bool {
    kernel_is_since(6, 5)
}

/// The offset argument of a caller of sendfile(2) or splice(2): an address that may be anything.
#[derive(Clone, Copy, Debug)]
pub struct CallerOffset(*mut libc::off_t);

impl CallerOffset {
    /// NULL: the file position is meant.
    pub const NONE: CallerOffset = CallerOffset(ptr::null_mut());

    /// Takes what the caller gave.
    ///
    /// # Safety
    /// NULL, or memory that is the caller's to lend for this call if it is memory at all: before
    /// anything else the kernel is asked whether it is.
    pub unsafe fn new(address: *mut libc::off_t) -> CallerOffset {
        CallerOffset(address)
    }

    /// For an offset of our own, while `body` runs.  What `body` is given must not outlive it.
    pub fn with<T>(offset: Option<&mut libc::off_t>, body: impl FnOnce(CallerOffset) -> T) -> T {
        body(offset.map_or(CallerOffset::NONE, |offset| CallerOffset(offset)))
    }

    /// Whether it is NULL.
    pub fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// Whether the kernel can read and write it; so it is when it is NULL.
    pub fn is_valid(self) -> bool {
        // Without descriptors always EBADF, once the pointer has been read and written.
        self.is_none()
            || self.is_in_our_page()
            || kernel_sendfile(-1, -1, self, 0) != Err(Errno(libc::EFAULT))
    }

    // Whether it is all in a page where this function has a variable of its own, as a variable of
    // its caller's caller mostly is: that page can be read and written.
    fn is_in_our_page(self) -> bool {
        let own = 0u8;
        let own = std::hint::black_box(&raw const own) as usize;
        let first = self.0 as usize;
        let last = first.wrapping_add(size_of::<libc::off_t>() - 1);
        [first, last].map(|address| address / PAGE as usize) == [own / PAGE as usize; 2]
    }

    /// The value; only once [`CallerOffset::is_valid`], or a call of the kernel's with it, said so.
    pub(crate) fn load(self) -> Option<libc::off_t> {
        // SAFETY: not null, and found to be valid.
        (!self.is_none()).then(|| unsafe { self.0.read_unaligned() })
    }

    /// Writes it; false when there is none.  Only as above.
    pub(crate) fn store(self, value: libc::off_t) -> bool {
        if !self.is_none() {
            // SAFETY: as above.
            unsafe { self.0.write_unaligned(value) };
        }
        !self.is_none()
    }
}

/// splice(2) itself, as the kernel answers, for [`with_cancellation`].
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

/// sendfile(2) itself, as the kernel answers, for [`with_cancellation`].
pub(crate) fn raw_sendfile(out: RawFd, file: RawFd, offset: CallerOffset, count: usize) -> isize {
    // SAFETY: the raw call checks the pointer itself; libc's symbol is not used because our own
    // shim interposes it.
    unsafe { libc::syscall(libc::SYS_sendfile, out, file, offset.0, count) as isize }
}

/// Whether sendfile(2) takes this offset: EOVERFLOW beyond what the file system can have.
pub fn kernel_accepts_offset(out: RawFd, file: RawFd, offset: u64) -> Result<()> {
    let mut offset = offset as libc::off_t;
    kernel_sendfile(out, file, CallerOffset(&raw mut offset), 0).map(|_| ())
}

/// readahead(2): starts reading into the page cache.  Advice only.
pub fn read_ahead(file: RawFd, offset: u64, length: u64) {
    let (Ok(at), Ok(length)) = (libc::off64_t::try_from(offset), usize::try_from(length)) else {
        return;
    };
    // SAFETY: no memory involved.
    unsafe { libc::readahead(file, at, length) };
}
