// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every system call that is not the ring's, as a safe function.
//!
//! Calls that hand the kernel an address take a [`Span`], which only the owners of memory
//! (a [`Mapping`], the pool, a staged header) can make.

use once_cell::race::OnceBool;
use std::cell::UnsafeCell;
use std::fmt;
use std::io::IoSlice;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

/// A positive error number of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// What the last failed libc call of this thread left behind.
    pub fn last() -> Errno {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// As the C interface gives it: negative.
    pub fn negative(self) -> i32 {
        -self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

/// A result whose error is the kernel's number.
pub type Result<T> = std::result::Result<T, Errno>;

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

fn check_size(result: isize) -> Result<usize> {
    if result < 0 { Err(Errno::last()) } else { Ok(result as usize) }
}

/// Puts the calling thread's errno back when it goes out of scope: functions that return
/// -errno leave errno alone.
pub struct KeepErrno(i32);

impl KeepErrno {
    /// Remembers errno as it is now.
    pub fn new() -> KeepErrno {
        KeepErrno(errno())
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        set_errno(self.0);
    }
}

/// The calling thread's errno.
pub fn errno() -> i32 {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's errno.
pub fn set_errno(value: i32) {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = value }
}

// ---- memory ------------------------------------------------------------------------

/// An address range handed to the kernel.  It says nothing of its life: whoever makes one keeps
/// the memory mapped until the request that uses it has completed.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub(crate) address: usize,
    pub(crate) length: usize,
}

impl Span {
    /// The addresses of a slice.
    pub fn of(bytes: &[u8]) -> Span {
        Span { address: bytes.as_ptr() as usize, length: bytes.len() }
    }

    /// How many bytes it covers.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Part of it; panics when that reaches outside.
    pub fn part(&self, from: usize, length: usize) -> Span {
        assert!(from <= self.length && length <= self.length - from);
        Span { address: self.address + from, length }
    }

    pub(crate) fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.address as *mut libc::c_void, iov_len: self.length }
    }
}

/// Memory of its own mapping, unmapped when dropped: a window of a file or anonymous memory.
#[derive(Debug)]
pub struct Mapping {
    address: usize,
    length: usize,
}

/// 4096: the only page size that the targets of this library have.
pub const PAGE: u64 = 4096;

impl Mapping {
    /// A window of a file, to be read by the kernel only (a page lost to truncation would raise
    /// SIGBUS here, but gives EFAULT there).  `offset` must be a multiple of [`PAGE`].  Not
    /// inherited by a child forked meanwhile, where nobody would unmap it, and it would keep the
    /// file's locks held.
    fn of_file(file: RawFd, offset: u64, length: usize) -> Result<Mapping> {
        let at = libc::off_t::try_from(offset).map_err(|_| Errno(libc::EOVERFLOW))?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let address = unsafe {
            libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file, at)
        };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let mapping = Mapping { address: address as usize, length };
        mapping.advise(libc::MADV_DONTFORK);
        Ok(mapping)
    }

    /// Anonymous zeroed memory, aligned to its own power-of-two `length`, that asks for huge
    /// pages and is not inherited by a forked child.
    pub fn huge(length: usize) -> Result<Mapping> {
        debug_assert!(length.is_power_of_two());
        let wide = Mapping::anonymous(length * 2)?;
        let start = wide.address.next_multiple_of(length);
        let end = wide.address + wide.length;
        let mapping = Mapping { address: start, length };
        unmap(wide.address, start - wide.address);
        unmap(start + length, end - start - length);
        mem::forget(wide);
        mapping.advise(libc::MADV_HUGEPAGE);
        mapping.advise(libc::MADV_DONTFORK);
        Ok(mapping)
    }

    fn anonymous(length: usize) -> Result<Mapping> {
        // SAFETY: as in of_file().
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Mapping { address: address as usize, length })
    }

    // Advice may be refused (no huge pages in this kernel) and costs speed only.
    fn advise(&self, advice: libc::c_int) -> bool {
        // SAFETY: the range is this mapping's own, and none of the advice used here makes
        // memory that Rust refers to change.
        unsafe { libc::madvise(self.address as *mut libc::c_void, self.length, advice) == 0 }
    }

    /// All of it.
    pub fn span(&self) -> Span {
        Span { address: self.address, length: self.length }
    }
}

/// Bytes of a file in memory, wherever in a page they begin; see `Mapping::of_file`.
#[derive(Debug)]
pub struct FileWindow {
    mapping: Mapping,
    /// Bytes of the mapping before the window.
    skip: usize,
}

impl FileWindow {
    /// A window of `length` bytes from `offset` on.
    pub fn new(file: RawFd, offset: u64, length: usize) -> Result<FileWindow> {
        let skip = offset % PAGE;
        let mapping = Mapping::of_file(file, offset - skip, skip as usize + length)?;
        Ok(FileWindow { mapping, skip: skip as usize })
    }

    /// The window.
    pub fn span(&self) -> Span {
        self.mapping.span().part(self.skip, self.mapping.length - self.skip)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unmap(self.address, self.length);
    }
}

fn unmap(address: usize, length: usize) {
    if length > 0 {
        // SAFETY: only called with ranges of mappings made in this module, which nothing in Rust
        // holds a reference into.
        unsafe { libc::munmap(address as *mut libc::c_void, length) };
    }
}

/// A mark that reads true in the process that made it and false in its forked children
/// (MADV_WIPEONFORK, Linux 4.14).
#[derive(Debug)]
pub struct ForkMark(Mapping);

impl ForkMark {
    /// Makes one for this process.
    pub fn new() -> Result<ForkMark> {
        let mapping = Mapping::anonymous(PAGE as usize)?;
        if !mapping.advise(libc::MADV_WIPEONFORK) {
            return Err(Errno::last());
        }
        let mark = ForkMark(mapping);
        mark.word().store(1, std::sync::atomic::Ordering::Relaxed);
        Ok(mark)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped, zeroed and aligned for as long as self lives.
        unsafe { &*(self.0.address as *const AtomicU32) }
    }

    /// Whether the calling process made it.
    pub fn is_own_process(&self) -> bool {
        self.word().load(std::sync::atomic::Ordering::Relaxed) == 1
    }
}

// ---- iovecs of a caller ---------------------------------------------------------------

fn as_iovecs<'a>(slices: &'a [IoSlice<'_>]) -> &'a [libc::iovec] {
    // SAFETY: std documents IoSlice as ABI compatible with iovec on Unix.
    unsafe { &*(ptr::from_ref(slices) as *const [libc::iovec]) }
}

/// The bytes of all slices together; None when that overflows.
pub fn total_length(slices: &[IoSlice<'_>]) -> Option<usize> {
    as_iovecs(slices).iter().try_fold(0usize, |sum, iov| sum.checked_add(iov.iov_len))
}

/// Whether a slice with a length has NULL for an address, as a C caller's might.
pub fn has_null(slices: &[IoSlice<'_>]) -> bool {
    as_iovecs(slices).iter().any(|iov| iov.iov_len > 0 && iov.iov_base.is_null())
}

/// Copies the slices one behind the other.  `into` must be at least as long as they are together.
/// Empty slices may have any address, NULL included, since C callers pass such.
pub fn gather(slices: &[IoSlice<'_>], into: &mut [u8]) {
    let mut at = 0;
    for iov in as_iovecs(slices).iter().filter(|iov| iov.iov_len > 0) {
        // SAFETY: a non-empty IoSlice points to iov_len readable bytes.
        let bytes = unsafe { std::slice::from_raw_parts(iov.iov_base as *const u8, iov.iov_len) };
        into[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    }
}

// ---- descriptors ----------------------------------------------------------------------

/// What kind of thing a descriptor refers to, as far as this library cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A pipe or FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// Anything else.
    Other,
}

/// What fstat(2) says, as far as this library cares.
#[derive(Clone, Copy, Debug)]
pub struct FileState {
    /// Its kind.
    pub kind: FileKind,
    /// st_size; 0 for block devices, see [`device_size`].
    pub size: u64,
    /// st_dev and st_ino, mixed: different for different files as a rule, the same for the same.
    pub inode: u64,
    /// Where its file system is mounted.
    pub mount: Mount,
}

/// Which mount a file was opened through.  It tells file systems apart; st_dev does not, since
/// overlayfs reports the devices of its layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mount(u64);

impl Mount {
    // 48 bits: numbers of mounts are given in a row.
    const NUMBER: u64 = (1 << 48) - 1;
    const UNIQUE: u64 = 1 << 63;

    /// A number that no other mount has, or will have until the next boot.
    pub const fn numbered(number: u64) -> Mount {
        Mount(number & Mount::NUMBER | Mount::UNIQUE)
    }

    // Both may be used again when this mount has gone.
    fn of_device(mount: u64, device: u64) -> Mount {
        let mixed = (device << 32 ^ device >> 32 ^ mount).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Mount(mixed >> 16)
    }

    /// The number, below 2^48.
    pub fn number(self) -> u64 {
        self.0 & Mount::NUMBER
    }

    /// Whether the number is never used again.
    pub fn is_unique(self) -> bool {
        self.0 & Mount::UNIQUE != 0
    }
}

fn kind_of(mode: libc::mode_t) -> FileKind {
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

/// A clock for what takes milliseconds: it costs next to nothing, and its steps are up to 10 ms.
pub fn coarse_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
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

fn socket_option<T: Default>(fd: RawFd, level: i32, option: i32) -> Result<T> {
    let mut value = T::default();
    let mut length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: value has room for length bytes; only plain integers and bytes are asked for.
    check(unsafe { libc::getsockopt(fd, level, option, (&raw mut value).cast(), &mut length) })?;
    Ok(value)
}

/// SO_COOKIE: a number that no other socket has or will have until the next boot
/// (Linux 4.6, socket(7)).
pub fn socket_cookie(fd: RawFd) -> Result<u64> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_COOKIE)
}

/// SO_TYPE, for example SOCK_STREAM.
pub fn socket_type(fd: RawFd) -> Result<i32> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)
}

/// SO_PROTOCOL, for example IPPROTO_TCP; 0 in AF_UNIX.
pub fn socket_protocol(fd: RawFd) -> Result<i32> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)
}

/// SO_DOMAIN, for example AF_INET.
pub fn socket_domain(fd: RawFd) -> Result<i32> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)
}

/// Whether a TCP socket's peer is, as far as its address tells, on another machine.
pub fn leaves_the_machine(fd: RawFd) -> bool {
    let (own, peer) = (address_of(fd, libc::getsockname), address_of(fd, libc::getpeername));
    match (own, peer) {
        (Some(own), Some(peer)) => own != peer && !peer.to_canonical().is_loopback(),
        _ => false,
    }
}

type AddressCall =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn address_of(fd: RawFd, call: AddressCall) -> Option<std::net::IpAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the storage has room for any address; zeroed it is valid, and a sockaddr_in or
    // sockaddr_in6 may be read from it where the family says so.
    unsafe {
        if call(fd, storage.as_mut_ptr().cast(), &mut length) != 0 {
            return None;
        }
        match i32::from((*storage.as_ptr()).ss_family) {
            libc::AF_INET => {
                let address = &*storage.as_ptr().cast::<libc::sockaddr_in>();
                Some(std::net::Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let address = &*storage.as_ptr().cast::<libc::sockaddr_in6>();
                Some(std::net::Ipv6Addr::from(address.sin6_addr.s6_addr).to_canonical())
            }
            _ => None,
        }
    }
}

/// SO_ACCEPTCONN: whether it listens.
pub fn is_listening(fd: RawFd) -> Result<bool> {
    Ok(socket_option::<i32>(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0)
}

/// The soft RLIMIT_MEMLOCK in bytes: what the user may lock or have pinned, all processes together.
pub fn lock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the struct.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    if done != 0 { 0 } else { limit.rlim_cur }
}

/// The soft RLIMIT_NOFILE: one more than the highest number a descriptor may get.
pub fn descriptor_limit() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the struct.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if done != 0 { u32::MAX } else { u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX) }
}

/// A pair of connected stream sockets, close-on-exec: the library's own messages travel on it.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel fills both numbers with new descriptors that nobody else owns.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Gives the calling thread a descriptor table of its own in which only `keep` is left, under a
/// number above 2, and returns that.  0 to 2 are taken by something harmless, so that a message
/// to standard error can never end up in a descriptor received later.
pub fn own_descriptor_table(keep: RawFd) -> Result<OwnedFd> {
    unshare_table(keep)?;
    // SAFETY: keep is open in this table, which is this thread's alone from here on.
    let moved = check(unsafe { libc::fcntl(keep, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: moved is new; keep is this table's copy, which nobody else can name.
    let moved = unsafe {
        libc::close(keep);
        OwnedFd::from_raw_fd(moved)
    };
    loop {
        // SAFETY: makes a new descriptor; it takes the lowest free number.
        let filler = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        if filler > 2 {
            // SAFETY: just made here.
            unsafe { libc::close(filler) };
            return Ok(moved);
        }
    }
}

// close_range(2) with CLOSE_RANGE_UNSHARE (Linux 5.9) copies no entry that it closes, and
// container profiles allow it where they refuse unshare(2).
fn unshare_table(keep: RawFd) -> Result<()> {
    let above = (keep + 1) as libc::c_uint;
    let whole = libc::c_uint::MAX;
    let close_range = |first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint| {
        // SAFETY: closes numbers of this thread's own table only, see the callers below.
        let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
        check(done as libc::c_int)
    };
    if close_range(above, whole, libc::CLOSE_RANGE_UNSHARE).is_ok() {
        if keep > 0 {
            close_range(0, (keep - 1) as libc::c_uint, 0)?;
        }
        return Ok(());
    }
    // SAFETY: affects the calling thread only.
    check(unsafe { libc::unshare(libc::CLONE_FILES) })?;
    for fd in open_numbers().into_iter().filter(|&fd| fd != keep) {
        // SAFETY: the table is this thread's own copy.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

// The numbers that may be open in the calling thread's table: RLIMIT_NOFILE may have been lowered
// since they were opened.
fn open_numbers() -> Vec<RawFd> {
    const NR_OPEN: RawFd = 1 << 20;
    let parse = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    match std::fs::read_dir("/proc/thread-self/fd") {
        Ok(entries) => entries.flatten().filter_map(parse).collect(),
        Err(_) => (0..NR_OPEN).collect(),
    }
}

// ---- messages with descriptors --------------------------------------------------------

/// The most descriptors that one message carries (SCM_MAX_FD is 253).
pub const MESSAGE_FDS_MAX: usize = 252;

const CONTROL_WORDS: usize = 130; // room for a cmsghdr and MESSAGE_FDS_MAX numbers, aligned

fn message(iov: &mut libc::iovec, control: &mut [u64], control_length: usize) -> libc::msghdr {
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = iov;
    header.msg_iovlen = 1;
    if control_length > 0 {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control_length as _;
    }
    header
}

/// Sends `payload` with copies of `fds`; waits when the receiver lags behind.
pub fn send_descriptors(socket: RawFd, payload: &[u8], fds: &[RawFd]) -> Result<()> {
    assert!(fds.len() <= MESSAGE_FDS_MAX);
    let mut iov = Span::of(payload).iovec();
    let mut control = [0u64; CONTROL_WORDS];
    let data_length = mem::size_of_val(fds) as u32;
    // SAFETY: computes a number.
    let room = unsafe { libc::CMSG_SPACE(data_length) };
    let space = if fds.is_empty() { 0 } else { room };
    let header = message(&mut iov, &mut control, space as usize);
    if !fds.is_empty() {
        // SAFETY: control is aligned and large enough for one header and all numbers.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(data_length) as _;
            ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(first).cast(), fds.len());
        }
    }
    let mut patience = 10_000;
    loop {
        // SAFETY: header refers to live locals.
        let sent = unsafe { libc::sendmsg(socket, &header, libc::MSG_NOSIGNAL) };
        match check_size(sent) {
            Ok(count) if count == payload.len() => return Ok(()),
            // A message this small is one piece in the kernel: it goes whole or not at all.
            Ok(_) => return Err(Errno(libc::EIO)),
            Err(Errno(libc::EINTR)) => {}
            Err(Errno(libc::EAGAIN)) => {
                let _ = wait_for(socket, libc::POLLOUT, None);
            }
            // More descriptors of this user are in messages than RLIMIT_NOFILE: the receiver will
            // have taken ours soon.
            Err(Errno(libc::ETOOMANYREFS)) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Receives exactly one message of `payload.len()` bytes and the descriptors that came with it,
/// close-on-exec, appended to `fds`.  Ok(false): the other end is gone.  EAGAIN: none waits.
pub fn receive_descriptors(
    socket: RawFd,
    payload: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<bool> {
    let mut iov = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    let mut control = [0u64; CONTROL_WORDS];
    let mut header = message(&mut iov, &mut control, CONTROL_WORDS * 8);
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: header refers to live locals and the caller's buffer.
    let count = check_size(unsafe { libc::recvmsg(socket, &mut header, flags) })?;
    // SAFETY: the kernel has filled the control buffer up to msg_controllen.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&header);
        if !first.is_null() && (*first).cmsg_type == libc::SCM_RIGHTS {
            let bytes = (*first).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let data = libc::CMSG_DATA(first).cast::<RawFd>();
            for index in 0..bytes / mem::size_of::<RawFd>() {
                fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
            }
        }
    }
    match count {
        0 => Ok(false),
        n if n == payload.len() => Ok(true),
        _ => Err(Errno(libc::EIO)),
    }
}

/// Receives one message as [`receive_descriptors`] does, without the descriptors and
/// without memory for them, from a socket that refuses more; false: there is none.
pub fn read_message(socket: RawFd, payload: &mut [u8]) -> bool {
    loop {
        // SAFETY: writes into a live slice.
        let got = unsafe { libc::read(socket, payload.as_mut_ptr().cast(), payload.len()) };
        match check_size(got) {
            Ok(count) => return count == payload.len(),
            Err(Errno(libc::EINTR)) => {}
            Err(_) => return false,
        }
    }
}

/// Lets the other end's sends fail from here on; what has been sent can still be received.
pub fn refuse_messages(socket: RawFd) {
    // SAFETY: no memory involved.
    unsafe { libc::shutdown(socket, libc::SHUT_RD) };
}

/// Writes one byte, or finds that enough wait there already, or that nobody can read it any more;
/// false: the kernel has no memory now.
pub fn ring_bell(socket: RawFd) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: one byte from a static.
    let sent = check_size(unsafe { libc::send(socket, c"!".as_ptr().cast(), 1, flags) });
    !matches!(sent, Err(Errno(libc::ENOBUFS | libc::ENOMEM | libc::EINTR)))
}

/// Takes up to `count` bytes of the bell away; returns how many there were.
pub fn clear_bell(socket: RawFd, count: u32) -> u32 {
    let mut sink = [0u8; 64];
    let most = (count as usize).min(sink.len());
    // SAFETY: the buffer has room for `most` bytes.
    let got = unsafe { libc::recv(socket, sink.as_mut_ptr().cast(), most, libc::MSG_DONTWAIT) };
    got.max(0) as u32
}

/// Waits until `fd` is ready for `events`; Ok(false) when the time ran out.
pub fn wait_for(fd: RawFd, events: i16, timeout: Option<Duration>) -> Result<bool> {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let time = timeout.map(timespec);
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: one entry, and a null or valid timespec.
    Ok(check(unsafe { libc::ppoll(&mut entry, 1, time, ptr::null()) })? > 0)
}

pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos() as _,
    }
}

// ---- moving data ----------------------------------------------------------------------

/// sendmsg(2) of a few parts, never blocking, never raising SIGPIPE.  `flags` may add MSG_MORE.
pub fn send_parts(socket: RawFd, parts: &[Span], flags: i32) -> Result<usize> {
    let mut iovecs = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; PARTS_MAX];
    for (iovec, part) in iovecs.iter_mut().zip(parts) {
        *iovec = part.iovec();
    }
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = iovecs.as_mut_ptr();
    header.msg_iovlen = parts.len().min(PARTS_MAX) as _;
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads the parts; addresses that have gone give EFAULT.
    check_size(unsafe { libc::sendmsg(socket, &header, flags) })
}

/// The most parts that one send is made of: header, file, padding, trailer.
pub const PARTS_MAX: usize = 4;

/// send(2) with the caller's own flags and blocking mode, for sendfile's blocking callers.
pub(crate) fn send_span(socket: RawFd, span: Span, flags: i32) -> Result<usize> {
    let (address, none) = (span.iovec().iov_base, ptr::null::<libc::c_void>());
    // SAFETY: the kernel reads the span; addresses that have gone give EFAULT.  Not libc's send(),
    // which is a cancellation point; so below.
    let done =
        unsafe { libc::syscall(libc::SYS_sendto, socket, address, span.length, flags, none, 0) };
    check_size(done as isize)
}

/// write(2).
pub fn write_bytes(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: reads from a live slice.
    let done = unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) };
    check_size(done as isize)
}

/// pread(2).
pub fn read_at(file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    read_span(file, offset, Span { address: into.as_mut_ptr() as usize, length: into.len() })
}

/// preadv2(2) with RWF_NOWAIT (Linux 4.14): EAGAIN where the disk would have to be asked.
pub fn read_at_without_waiting(file: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    let into = Span { address: into.as_mut_ptr() as usize, length: into.len() };
    read_span_without_waiting(file, offset, into)
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
pub(crate) fn read_span_without_waiting(file: RawFd, offset: u64, into: Span) -> Result<usize> {
    let (iovec, at) = (into.iovec(), offset as libc::off_t);
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
pub(crate) fn read_span(file: RawFd, offset: u64, into: Span) -> Result<usize> {
    let (address, at) = (into.address as *mut libc::c_void, offset as libc::off_t);
    // SAFETY: as above.
    let done = unsafe { libc::syscall(libc::SYS_pread64, file, address, into.length, at) };
    check_size(done as isize)
}

const SYS_CACHESTAT: libc::c_long = 451;

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
fn is_cached(file: RawFd, offset: u64, length: u64) -> Option<bool> {
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
fn can_be_read(file: RawFd, offset: u64, length: u64) -> Result<bool> {
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
fn is_in_core(file: RawFd, offset: u64, length: u64) -> bool {
    match (is_on_tmpfs(file), is_cached(file, offset, length)) {
        (true, cached) => cached != Some(false),
        (false, Some(_)) => is_settled(file, offset, length),
        (false, None) => false,
    }
}

fn is_on_tmpfs(file: RawFd) -> bool {
    magic_of_file(file) == Ok(libc::TMPFS_MAGIC as u64)
}

// Whether all pages are there, and none of them is only being read.
fn is_settled(file: RawFd, offset: u64, length: u64) -> bool {
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

// ---- epoll, eventfd -------------------------------------------------------------------

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// How many waits are reported together at most.
    pub const MOST: usize = 128;

    /// A new one, close-on-exec.
    pub fn new() -> Result<Epoll> {
        // SAFETY: a new descriptor that nobody else owns.
        unsafe {
            let fd = check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            Ok(Epoll(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Watches `fd`, also when a watch that fired once is still there.
    pub fn add(&self, fd: RawFd, events: u32, data: u64) -> Result<()> {
        let mut event = libc::epoll_event { events, u64: data };
        let mut control = |operation| {
            // SAFETY: the event is live for the call.
            check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) })
        };
        match control(libc::EPOLL_CTL_ADD) {
            Err(Errno(libc::EEXIST)) => control(libc::EPOLL_CTL_MOD).map(|_| ()),
            other => other.map(|_| ()),
        }
    }

    /// Ends the watch, if there is one.
    pub fn remove(&self, fd: RawFd) {
        let none = ptr::null_mut();
        // SAFETY: EPOLL_CTL_DEL takes no event.
        unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, none) };
    }

    /// Waits and appends the data of what fired.
    pub fn wait(&self, timeout: Option<Duration>, fired: &mut Vec<(u64, u32)>) -> Result<()> {
        const MOST: usize = Epoll::MOST;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let timeout_ms = match timeout {
            None => -1,
            // Rounded up, or a wait of less than a millisecond would spin.
            Some(time) => i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
        };
        let epoll = self.0.as_raw_fd();
        // SAFETY: there is room for MOST events.
        let done =
            check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), MOST as i32, timeout_ms) });
        match done {
            Ok(count) => {
                fired.extend(events[..count as usize].iter().map(|event| (event.u64, event.events)))
            }
            Err(Errno(libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// An eventfd by which one thread wakes another that waits in epoll.
#[derive(Debug)]
pub struct WakeUp(OwnedFd);

impl WakeUp {
    /// A new one, close-on-exec.
    pub fn new() -> Result<WakeUp> {
        // SAFETY: a new descriptor that nobody else owns.
        unsafe {
            let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            Ok(WakeUp(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// To watch for EPOLLIN.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Makes it readable.
    pub fn ring(&self) {
        let _ = write_bytes(self.0.as_raw_fd(), &1u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight bytes of room.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
    }
}

// ---- threads --------------------------------------------------------------------------

/// futex(2) wait, private to the process: returns when `word` is no longer `expected`, somebody
/// wakes it, the time runs out (ETIMEDOUT) or a signal handler has run (EINTR).
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
    let time = futex_time(timeout);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the time are live for the whole call.
    let done = unsafe {
        libc::syscall(libc::SYS_futex, ptr::from_ref(word), operation, expected, &raw const time)
    };
    match check(done as libc::c_int) {
        Ok(_) | Err(Errno(libc::EAGAIN)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The time limit of a futex(2) wait.  There always is one: with it the kernel never restarts the
/// call after a handler, whatever SA_RESTART says (ERESTART_RESTARTBLOCK), which is what
/// snapsend_poll() promises.
pub(crate) fn futex_time(timeout: Option<Duration>) -> libc::timespec {
    timespec(timeout.unwrap_or(Duration::from_secs(1 << 30)))
}

/// futex(2) wake of up to `count` waiters.
pub fn futex_wake(word: &AtomicU32, count: u32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: only the address is used.
    unsafe { libc::syscall(libc::SYS_futex, ptr::from_ref(word), operation, count) };
}

/// Blocks every signal on the calling thread, and so on the threads it starts, until dropped.
pub struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    /// Blocks all signals.
    pub fn new() -> SignalsBlocked {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut old = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset fills the set; pthread_sigmask writes the old one and cannot fail
        // with a valid `how`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
            SignalsBlocked(old.assume_init())
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// The number of a descriptor, for calls that take one.
pub fn number(fd: &OwnedFd) -> RawFd {
    fd.as_raw_fd()
}

/// Forgets a descriptor without closing its number, which is not ours any more.
pub fn abandon(fd: OwnedFd) {
    mem::forget(fd);
}

/// A thread made by pthread_create(3) itself: std's would leave a destructor in the calling
/// thread, which keeps the library from being unloaded.
#[derive(Debug)]
pub struct Thread(libc::pthread_t);

type ThreadBody = Box<dyn FnOnce() + Send>;

extern "C" fn thread_main(argument: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: spawn() gave a leaked Box<ThreadBody> to this thread alone.
    let body = unsafe { Box::from_raw(argument.cast::<ThreadBody>()) };
    // For good: an unwinding would meet the panic fence, which ends the process.
    disable_cancellation();
    body();
    ptr::null_mut()
}

impl Thread {
    /// Runs `body`, which must not panic, on a new thread with all signals blocked.
    pub fn spawn(body: ThreadBody) -> Result<Thread> {
        const STACK: usize = 256 << 10;
        // The host's thread-local variables lie there, too.
        let stack = STACK + thread_locals();
        let argument = Box::into_raw(Box::new(body));
        let _blocked = SignalsBlocked::new();
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        // SAFETY: the attributes are initialised before use and destroyed after; the argument
        // belongs to the new thread when there is one.
        unsafe {
            libc::pthread_attr_init(attributes.as_mut_ptr());
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
            let error = libc::pthread_create(
                thread.as_mut_ptr(),
                attributes.as_ptr(),
                thread_main,
                argument.cast(),
            );
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            if error != 0 {
                drop(Box::from_raw(argument));
                return Err(Errno(error));
            }
            Ok(Thread(thread.assume_init()))
        }
    }

    /// Lets it end by itself.
    pub fn detach(self) {
        // SAFETY: the handle is used once.
        unsafe { libc::pthread_detach(self.0) };
    }

    /// Waits for its end.
    pub fn join(self) {
        // SAFETY: the handle is used once.
        unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
    }
}

/// The kernel's number of the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Waits until a ring thread that has been joined, its helpers and the kernel's workers for its
/// ring have left the process: pthread_join(3) returns some milliseconds before.  Not longer than a
/// second: where a debugger looks on, an ended thread stays until that has seen it.
pub fn wait_until_gone(thread: i32) {
    let mut pause = Duration::from_micros(20);
    let mut left = Duration::from_secs(1);
    while left > Duration::ZERO && (is_there(thread) || has_remains_of(thread)) {
        std::thread::sleep(pause);
        left = left.saturating_sub(pause);
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

fn is_there(thread: i32) -> bool {
    // SAFETY: signal 0 is none; it only asks whether there is such a thread in this process.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) == 0 }
}

// Whether all other threads of the process belonged to this one.  With any of the host's, or of
// another context's, the process is not one of a single thread whatever becomes of them.
fn has_remains_of(thread: i32) -> bool {
    let own = thread_id();
    let mut found = false;
    // SAFETY: the name is a C string; NULL where there is no /proc or no memory.
    let tasks = unsafe { libc::opendir(c"/proc/self/task".as_ptr()) };
    if tasks.is_null() {
        return false;
    }
    // SAFETY: the directory is open and this thread's alone; an entry is valid until the next.
    while let Some(entry) = unsafe { libc::readdir(tasks).as_ref() } {
        // SAFETY: the kernel ends each name with a zero.
        let name = unsafe { std::ffi::CStr::from_ptr(entry.d_name.as_ptr()) };
        let id = name.to_str().ok().and_then(|name| name.parse::<i32>().ok());
        let Some(id) = id.filter(|id| *id != own) else { continue };
        match belongs_to(id, thread) {
            Some(true) => found = true,
            Some(false) => {
                found = false;
                break;
            }
            None => {}
        }
    }
    // SAFETY: it was opened here.
    unsafe { libc::closedir(tasks) };
    found
}

// By the name that it has; None: it is gone.
fn belongs_to(id: i32, ring_thread: i32) -> Option<bool> {
    use std::io::{Read, Write};
    let mut path = [0u8; 64];
    write!(&mut path[..], "/proc/self/task/{id}/comm\0").ok()?;
    let path = std::ffi::CStr::from_bytes_until_nul(&path).ok()?;
    // SAFETY: the path is a C string, and the descriptor a new one that nobody else owns.
    let mut comm = unsafe {
        let fd = check(libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)).ok()?;
        std::fs::File::from_raw_fd(fd)
    };
    let (mut name, mut worker) = ([0u8; 32], [0u8; 32]);
    let length = comm.read(&mut name).ok()?;
    writeln!(&mut worker[..], "iou-wrk-{ring_thread}").ok()?;
    let name = &name[..length];
    Some(name == b"snapsend-read\n" || !name.is_empty() && worker.starts_with(name))
}

// What glibc takes from each thread's stack before the thread has any of it: its thread-local
// variables and a few KiB.  0: not glibc, which is the only one that counts them there.
fn thread_locals() -> usize {
    type Least = unsafe extern "C" fn(*const libc::pthread_attr_t) -> libc::size_t;
    // SAFETY: the name is a C string.
    let least = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr()) };
    // SAFETY: the symbol is a function of this type in every glibc since 2.15; it may be absent, for
    // which Option has its None.
    let least = unsafe { mem::transmute::<*mut libc::c_void, Option<Least>>(least) };
    // SAFETY: it only adds sizes up; glibc does not look at the attributes.
    least.map_or(0, |least| unsafe { least(ptr::null()) })
}

/// Gives the calling thread a name, for top -H and the like.
pub fn name_thread(name: &std::ffi::CStr) {
    // SAFETY: the name is a C string; the kernel cuts it at 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Whether system calls may be made that only find out how something is best done (docs/KERNELS.md
/// lists them): not where the environment has SNAPSEND_PROBES=none, for hosts under a seccomp
/// filter that ends the process.  Read once, when the library is loaded: hosts change the
/// environment later (nginx), and reading it then would race with them.
pub fn probes_allowed() -> bool {
    static ALLOWED: OnceBool = OnceBool::new();
    ALLOWED.get_or_init(|| {
        // SAFETY: the name is a C string; the value is one, and read before anything can change it.
        unsafe {
            let value = libc::getenv(c"SNAPSEND_PROBES".as_ptr());
            value.is_null() || std::ffi::CStr::from_ptr(value) != c"none"
        }
    })
}

#[used]
#[unsafe(link_section = ".init_array")]
static READ_ENVIRONMENT: extern "C" fn() = read_environment;

extern "C" fn read_environment() {
    probes_allowed();
}

/// Whether the kernel is `major`.`minor` or later, as uname(2) tells.
pub fn kernel_is_since(major: u32, minor: u32) -> bool {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: fills the struct, whose strings end with a zero; zeroed it is valid, too.
    let release = unsafe {
        libc::uname(names.as_mut_ptr());
        std::ffi::CStr::from_ptr((*names.as_ptr()).release.as_ptr()).to_bytes()
    };
    let mut numbers = release.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        digits.iter().fold(0u32, |sum, digit| sum.wrapping_mul(10) + u32::from(digit - b'0'))
    });
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Keeps the library's code in memory for the rest of the process, whatever dlclose(3) says.
pub fn keep_library() {
    let mut own = MaybeUninit::<libc::Dl_info>::zeroed();
    let address = keep_library as fn() as *const libc::c_void;
    let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: dladdr fills the struct if it knows the address, with the name of a loaded object,
    // which dlopen only looks up.  The handle is not used: what is linked into a program itself has
    // none, and is never unloaded.
    unsafe {
        if libc::dladdr(address, own.as_mut_ptr()) != 0 && !(*own.as_ptr()).dli_fname.is_null() {
            libc::dlopen((*own.as_ptr()).dli_fname, flags);
        }
    }
}

/// Whether the kernel has cachestat(2), by its version (Linux 6.5): trying would end the process
/// under a seccomp filter that kills.
pub fn has_cachestat() -> bool {
    kernel_is_since(6, 5)
}

// ---- what stands in for sendfile(2) and splice(2) -------------------------------------

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

/// A thread's cancellation state and type.
#[derive(Clone, Copy, Debug)]
pub struct Cancellation {
    state: libc::c_int,
    kind: libc::c_int,
}

const CANCEL_DISABLE: libc::c_int = 1;
const CANCEL_DEFERRED: libc::c_int = 0;
const CANCEL_ASYNCHRONOUS: libc::c_int = 1;

// A cancelled thread is unwound from within them.
unsafe extern "C-unwind" {
    fn pthread_setcancelstate(state: libc::c_int, old: *mut libc::c_int) -> libc::c_int;
    fn pthread_setcanceltype(kind: libc::c_int, old: *mut libc::c_int) -> libc::c_int;
}

/// From here on pthread_cancel(3) does nothing to the calling thread, until that is undone.  Without
/// a system call.  The type is set, too: glibc's handler of a cancellation that is on its way looks
/// at nothing else.  So does it in libc's cancellation points, which make the type asynchronous, and
/// are not to be called meanwhile; raw system calls are none.
pub fn disable_cancellation() -> Cancellation {
    let mut old = Cancellation { state: 0, kind: 0 };
    // SAFETY: these write one number each.
    unsafe {
        pthread_setcancelstate(CANCEL_DISABLE, &mut old.state);
        pthread_setcanceltype(CANCEL_DEFERRED, &mut old.kind);
    }
    old
}

/// Undoes [`disable_cancellation`]; a thread that has been cancelled asynchronously ends here.
pub fn restore_cancellation(caller: Cancellation) {
    let mut ignored = 0;
    // SAFETY: as above.  In this order: glibc looks for a cancellation where the type is set.
    unsafe {
        pthread_setcancelstate(caller.state, &mut ignored);
        pthread_setcanceltype(caller.kind, &mut ignored);
    }
}

/// Runs a system call with the caller's cancellation, and as a cancellation point where
/// `is_point`.  The thread may end in it, so that nothing may be held meanwhile, neither by the
/// callers nor by `call`, and it is unwound from any instruction: out of line, and without anything
/// to clean up, since Rust would take an instruction that is no call for one that never unwinds.
#[inline(never)]
pub fn with_cancellation(
    caller: Cancellation,
    is_point: bool,
    call: impl Fn() -> isize,
) -> Result<usize> {
    // As libc's own cancellation points do it; also ends a thread that is cancelled already.
    let kind = if is_point { CANCEL_ASYNCHRONOUS } else { caller.kind };
    restore_cancellation(Cancellation { kind, ..caller });
    let result = call();
    disable_cancellation();
    check_size(result)
}

/// A thread's signal mask.
#[derive(Clone, Copy, Debug)]
pub struct SignalMask(u64);

/// Blocks the signals whose handlers could come between two system calls unnoticed, and returns
/// what the mask was.  Those of a fault or a system call of the thread itself stay as they are, or
/// they would end the process; so do those of libc's own (32 and 33), for which another thread may
/// be waiting.
pub fn hold_signals() -> SignalMask {
    let of_the_thread = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
        32,
        33,
    ];
    let bits = of_the_thread.iter().fold(0u64, |bits, signal| bits | 1 << (signal - 1));
    let (blocked, mut old) = (!bits, 0u64);
    // SAFETY: reads and writes masks of the kernel's size, eight bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const blocked,
            &raw mut old,
            size_of::<u64>(),
        )
    };
    SignalMask(old)
}

/// Undoes [`hold_signals`]; handlers of what has come meanwhile run here.
pub fn release_signals(mask: SignalMask) {
    // SAFETY: as above.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask.0,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

/// ppoll(2) for POLLOUT, or for nothing but the time where `socket` is -1, with the signals of
/// `mask` let through as it begins to wait.  As the kernel answers: 0 when the time ran out.
pub(crate) fn poll_writable(socket: RawFd, timeout: Option<Duration>, mask: SignalMask) -> isize {
    let mut entry = libc::pollfd { fd: socket, events: libc::POLLOUT, revents: 0 };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut time_address = ptr::null_mut();
    if let Some(timeout) = timeout {
        time.tv_sec = timeout.as_secs() as libc::time_t;
        time.tv_nsec = libc::c_long::from(timeout.subsec_nanos());
        time_address = &raw mut time;
    }
    // SAFETY: one entry, no or a valid time, a mask of the kernel's size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            &raw mut entry,
            1usize,
            time_address,
            &raw const mask.0,
            size_of::<u64>(),
        )
    };
    done as isize
}

#[repr(align(4096))]
struct UnreadablePage(#[allow(dead_code)] UnsafeCell<[u8; PAGE as usize]>);

// SAFETY: nothing ever looks into it.
unsafe impl Sync for UnreadablePage {}

/// Waits on the calling thread until a socket takes data, exactly as a blocking send(2) waits
/// (SO_SNDTIMEO, handlers with and without SA_RESTART, SIGPIPE, O_NONBLOCK), and sends nothing: the
/// byte to be sent cannot be read, which stream sockets find out after they have waited.  EFAULT:
/// there is room.
pub(crate) fn wait_for_room(socket: RawFd) -> isize {
    static UNREADABLE: UnreadablePage = UnreadablePage(UnsafeCell::new([0; PAGE as usize]));
    static IS_READY: OnceBool = OnceBool::new();
    let address = UNREADABLE.0.get().cast::<libc::c_void>();
    // SAFETY: a whole page of our own that nothing looks into.  Once for each process, or twice.
    let make = || unsafe { libc::mprotect(address, PAGE as usize, libc::PROT_NONE) == 0 };
    if !IS_READY.get_or_init(make) {
        return -1; // with ENOMEM
    }
    let none = ptr::null::<libc::c_void>();
    // SAFETY: the kernel checks the address.
    let done = unsafe { libc::syscall(libc::SYS_sendto, socket, address, 1usize, 0, none, 0) };
    done as isize
}

/// SO_SNDTIMEO; None: no limit.
pub fn send_timeout(socket: RawFd) -> Option<Duration> {
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = mem::size_of::<libc::timeval>() as libc::socklen_t;
    // SAFETY: the value has `length` bytes.
    let done = unsafe {
        let address = (&raw mut value).cast();
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, address, &mut length)
    };
    let time = Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1000);
    (done == 0 && !time.is_zero()).then_some(time)
}

/// Waits until a pipe has room, as sendfile(2) into it does, and moves nothing.
pub(crate) fn wait_for_pipe(pipe: RawFd, file: RawFd) -> isize {
    let mut offset: libc::off_t = 0;
    // SAFETY: as in raw_sendfile(); the offset lives as long as the call.
    let done = unsafe { libc::syscall(libc::SYS_sendfile, pipe, file, &raw mut offset, 0usize) };
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

/// MSG_MORE for a send after which more follows, 0 otherwise and on a socket with TLS in the kernel
/// (TCP_ULP "tls").  There it leaves a record open that only a later send completes: if none comes,
/// because the file was cut or the operation cancelled, what is in it is never sent, not even at
/// close (tls_sw_release_resources_tx() in net/tls/tls_sw.c).
pub fn more_flag(socket: RawFd, more: bool) -> libc::c_int {
    if more && !has_tls(socket) { libc::MSG_MORE } else { 0 }
}

fn has_tls(socket: RawFd) -> bool {
    socket_option::<[u8; 4]>(socket, libc::IPPROTO_TCP, libc::TCP_ULP) == Ok(*b"tls\0")
}

/// Lets a TCP socket transmit what MSG_MORE held back, unless its owner has corked it.
pub fn push_tcp(socket: RawFd) {
    if socket_option::<i32>(socket, libc::IPPROTO_TCP, libc::TCP_CORK) != Ok(0) {
        return;
    }
    let off: libc::c_int = 0;
    let length = mem::size_of_val(&off) as libc::socklen_t;
    // What is off already stays off: the kernel pushes what is pending, and that is all.
    // SAFETY: the value has `length` bytes.
    unsafe {
        libc::setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_CORK, (&raw const off).cast(), length)
    };
}

/// Whether ppoll(2) says one of `events` at once.  A descriptor that cannot be polled is ready: the
/// call that follows tells.
pub fn is_ready(fd: RawFd, events: i16) -> bool {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one entry.
    let count = unsafe {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let no_mask = ptr::null::<u64>();
        libc::syscall(libc::SYS_ppoll, &raw mut entry, 1usize, &raw const now, no_mask, 8usize)
    };
    count < 0 || entry.revents & (events | libc::POLLNVAL) != 0
}

/// F_GETPIPE_SZ: how many bytes fit into an empty pipe.
pub fn pipe_capacity(pipe: RawFd) -> u64 {
    // SAFETY: takes no further argument.
    check(unsafe { libc::fcntl(pipe, libc::F_GETPIPE_SZ) }).map_or(PAGE, |size| size as u64)
}

/// Writes as much as a pipe has room for, without waiting for more; EAGAIN when it is full.
/// EOPNOTSUPP: that cannot be had for certain, as it must be where `never_waits`.
pub fn write_what_fits(pipe: RawFd, bytes: &[u8], never_waits: bool) -> Result<usize> {
    if probes_allowed() {
        let iovec = Span::of(bytes).iovec();
        // SAFETY: the iovec is that of a live slice.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pwritev2,
                pipe,
                &raw const iovec,
                1usize,
                -1i64,
                -1i64,
                libc::RWF_NOWAIT,
            )
        };
        match check_size(done as isize) {
            // Linux before 6.5, FIFOs, and sandboxes.
            Err(Errno(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)) => {}
            done => return done,
        }
    }
    if status_flags(pipe)? & libc::O_NONBLOCK != 0 {
        return write_bytes(pipe, bytes);
    }
    // Another writer could fill it between the two calls.
    if never_waits {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    let mut written = 0;
    for page in bytes.chunks(libc::PIPE_BUF) {
        // Writable means that a page fits, and PIPE_BUF bytes go whole.
        if !is_ready(pipe, libc::POLLOUT | libc::POLLERR) {
            break;
        }
        match write_bytes(pipe, page) {
            Ok(length) => written += length,
            Err(_) if written > 0 => break,
            Err(error) => return Err(error),
        }
    }
    if written > 0 { Ok(written) } else { Err(Errno(libc::EAGAIN)) }
}

/// Buffers that data passes through, without a lock and without malloc: a signal handler may run
/// in the middle of anything here and call it again, a forked child finds nothing locked, and no
/// destructor in the host's threads keeps the library from being unloaded.
#[derive(Debug)]
pub struct Buffers<const KEPT: usize> {
    kept: [AtomicPtr<u8>; KEPT],
    length: usize,
}

impl<const KEPT: usize> Buffers<KEPT> {
    /// None made yet.
    pub const fn new(length: usize) -> Buffers<KEPT> {
        Buffers { kept: [const { AtomicPtr::new(ptr::null_mut()) }; KEPT], length }
    }

    /// Lends one.  ENOMEM when there is none to be had.
    pub fn with<T>(&self, body: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
        Ok(self.lend(self.take()?, body))
    }

    /// Lends one, or, where there is none to be had, a page of the stack.
    pub fn with_any<T>(&self, body: impl FnOnce(&mut [u8]) -> T) -> T {
        match self.take() {
            Ok(buffer) => self.lend(buffer, body),
            Err(_) => with_stack_page(body),
        }
    }

    fn lend<T>(&self, buffer: *mut u8, body: impl FnOnce(&mut [u8]) -> T) -> T {
        // SAFETY: `length` zeroed or initialised bytes that nobody else has: they came from a
        // slot, which was left empty, or are new.
        let result = body(unsafe { std::slice::from_raw_parts_mut(buffer, self.length) });
        let put = |slot: &AtomicPtr<u8>| {
            let (null, done) = (ptr::null_mut(), Ordering::Release);
            slot.compare_exchange(null, buffer, done, Ordering::Relaxed).is_ok()
        };
        if !self.kept.iter().any(put) {
            unmap(buffer as usize, self.length);
        }
        result
    }

    fn take(&self) -> Result<*mut u8> {
        let take = |slot: &AtomicPtr<u8>| slot.swap(ptr::null_mut(), Ordering::Acquire);
        if let Some(buffer) = self.kept.iter().map(take).find(|buffer| !buffer.is_null()) {
            return Ok(buffer);
        }
        let mapping = Mapping::anonymous(self.length)?;
        let address = mapping.address as *mut u8;
        mem::forget(mapping);
        Ok(address)
    }

    /// Gives those that nobody has borrowed back to the system.
    pub fn trim(&self) {
        for slot in &self.kept {
            let buffer = slot.swap(ptr::null_mut(), Ordering::Acquire);
            if !buffer.is_null() {
                unmap(buffer as usize, self.length);
            }
        }
    }
}

impl<const KEPT: usize> Drop for Buffers<KEPT> {
    fn drop(&mut self) {
        self.trim();
    }
}

// Out of line: only those who need it pay for it with stack.  Aligned, for files with O_DIRECT.
#[inline(never)]
fn with_stack_page<T>(body: impl FnOnce(&mut [u8]) -> T) -> T {
    #[repr(align(4096))]
    struct Page([u8; PAGE as usize]);
    body(&mut Page([0; PAGE as usize]).0)
}
