// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process: errno, limits, descriptor table, environment and kernel version.

use super::*;
use crate::types::copying::Copying;
use crate::types::errno::Result;
use once_cell::race::{OnceBool, OnceNonZeroUsize};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Restores the calling thread's errno when it is dropped: functions that return -errno must not
/// change errno.
pub struct KeepErrno(i32);

impl KeepErrno {
    /// Saves the current errno.
    pub fn new() -> KeepErrno {
        KeepErrno(errno())
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        set_errno(self.0);
    }
}

/// Returns the calling thread's errno.
pub fn errno() -> i32 {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's errno.
pub fn set_errno(value: i32) {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = value }
}

/// Returns a cheap monotonic time, which advances in steps of up to 10 ms.
pub fn coarse_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns the processor time that the calling thread has used.  A system call of half a
/// microsecond.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns the soft RLIMIT_MEMLOCK in bytes: what all processes of the user together may lock or
/// have pinned.
pub fn lock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the struct.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    if done != 0 { 0 } else { limit.rlim_cur }
}

/// Returns the soft RLIMIT_NOFILE: one more than the highest number of a new descriptor.
pub fn descriptor_limit() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the struct.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if done != 0 { u32::MAX } else { u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX) }
}

/// Gives the calling thread its own descriptor table with only `keep` in it, moved to a number
/// above 2, and returns that number.  Numbers 0 to 2 are filled with eventfds, so that a message to
/// standard error never reaches a descriptor received later.
pub fn own_descriptor_table(keep: RawFd) -> Result<OwnedFd> {
    unshare_table(keep)?;
    // SAFETY: keep is open in this table, which belongs to this thread alone from here on.
    let moved = check(unsafe { libc::fcntl(keep, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: moved is new; keep is this table's copy, and no other code knows its number.
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

// Unshares the descriptor table and closes all except `keep`.  close_range(2) with
// CLOSE_RANGE_UNSHARE (Linux 5.9) does not copy the entries that it closes, and container profiles
// that refuse unshare(2) allow it.
pub(super) fn unshare_table(keep: RawFd) -> Result<()> {
    let above = (keep + 1) as libc::c_uint;
    let whole = libc::c_uint::MAX;
    let close_range = |first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint| {
        // SAFETY: closes numbers of this thread's own table only, see the calls below.
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

// Returns the numbers that may be open in the calling thread's table.  RLIMIT_NOFILE may have been
// lowered since they were opened, so it is no bound.
pub(super) fn open_numbers() -> Vec<RawFd> {
    const NR_OPEN: RawFd = 1 << 20;
    let parse = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    match std::fs::read_dir("/proc/thread-self/fd") {
        Ok(entries) => entries.flatten().filter_map(parse).collect(),
        Err(_) => (0..NR_OPEN).collect(),
    }
}

/// Returns whether system calls may be made that only find out how something is best done
/// (docs/KERNELS.md lists them).  SNAPSEND_PROBES=none in the environment forbids them, for hosts
/// under a seccomp filter that ends the process.  The variable is read once, when the library is
/// loaded: hosts such as nginx change the environment later, and a read then would race with them.
pub fn probes_allowed() -> bool {
    static ALLOWED: OnceBool = OnceBool::new();
    ALLOWED.get_or_init(|| {
        // SAFETY: name and value are C strings, and the value is read before anything can change
        // it.
        unsafe {
            let value = libc::getenv(c"SNAPSEND_PROBES".as_ptr());
            value.is_null() || std::ffi::CStr::from_ptr(value) != c"none"
        }
    })
}

/// Returns the way of copying that SNAPSEND_COPY in the environment prescribes, for tests.  It is
/// read when the library is loaded, as above.
pub fn pinned_copying() -> Option<Copying> {
    Copying::ALL.get(pinned_index().get() - 1).copied()
}

// One more than the index of the way; beyond the last: none is prescribed.
fn pinned_index() -> NonZeroUsize {
    static PINNED: OnceNonZeroUsize = OnceNonZeroUsize::new();
    PINNED.get_or_init(|| {
        // SAFETY: as in probes_allowed().
        let named = unsafe {
            let value = libc::getenv(c"SNAPSEND_COPY".as_ptr());
            let name = (!value.is_null()).then(|| std::ffi::CStr::from_ptr(value).to_bytes());
            name.and_then(Copying::named)
        };
        let index = named.map_or(Copying::ALL.len(), |way| way as usize);
        NonZeroUsize::MIN.saturating_add(index)
    })
}

#[used]
#[unsafe(link_section = ".init_array")]
pub(super) static READ_ENVIRONMENT: extern "C" fn() = read_environment;

extern "C" fn read_environment() {
    probes_allowed();
    pinned_index();
}

/// Returns whether the kernel is `major`.`minor` or later, according to uname(2).
pub fn kernel_is_since(major: u32, minor: u32) -> bool {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: fills the struct, whose strings end with a zero; zeroed, it is valid as well.
    let release = unsafe {
        libc::uname(names.as_mut_ptr());
        std::ffi::CStr::from_ptr((*names.as_ptr()).release.as_ptr()).to_bytes()
    };
    let mut numbers = release.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        digits.iter().fold(0u32, |sum, digit| sum.wrapping_mul(10) + u32::from(digit - b'0'))
    });
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Keeps the library's code in memory until the process ends, even after dlclose(3).
pub fn keep_library() {
    let mut own = MaybeUninit::<libc::Dl_info>::zeroed();
    let address = keep_library as fn() as *const libc::c_void;
    let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: if dladdr knows the address, it fills the struct with the name of a loaded object,
    // which dlopen only looks up.  The handle is not used.  Code linked into the program itself
    // gets none, and is never unloaded.
    unsafe {
        if libc::dladdr(address, own.as_mut_ptr()) != 0 && !(*own.as_ptr()).dli_fname.is_null() {
            libc::dlopen((*own.as_ptr()).dli_fname, flags);
        }
    }
}
