// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process: its limits, its descriptor table, its environment, the kernel it runs on.

use super::*;
use crate::types::errno::Result;
use once_cell::race::OnceBool;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

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

/// A clock for what takes milliseconds: it costs next to nothing, and its steps are up to 10 ms.
pub fn coarse_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
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
pub(super) fn unshare_table(keep: RawFd) -> Result<()> {
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
pub(super) fn open_numbers() -> Vec<RawFd> {
    const NR_OPEN: RawFd = 1 << 20;
    let parse = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    match std::fs::read_dir("/proc/thread-self/fd") {
        Ok(entries) => entries.flatten().filter_map(parse).collect(),
        Err(_) => (0..NR_OPEN).collect(),
    }
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
pub(super) static READ_ENVIRONMENT: extern "C" fn() = read_environment;

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
