// SPDX-License-Identifier: MIT OR Apache-2.0
//! libsnapsend_preload.so: loaded with LD_PRELOAD, it replaces sendfile(2) and splice(2) of an
//! unmodified binary.  What they report as sent has been copied.
//!
//! At load time it only reads the configuration and, if statistics in a file are requested, maps
//! that file.

mod stats;

use libc::{c_int, c_uint, off_t, size_t, ssize_t};
use snapsend::preload::{CallerOffset, Moved, sendfile_then, splice_then};

// If the thread is cancelled, it is unwound from `body`, so there is nothing to clean up here.
fn answer(body: impl FnOnce() -> Moved) -> ssize_t {
    let errno = errno();
    let moved = body();
    match moved.result {
        Ok(count) => {
            set_errno(errno); // a probe may have changed it
            count as ssize_t
        }
        Err(error) => {
            set_errno(error.0);
            -1
        }
    }
}

fn errno() -> c_int {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() }
}

fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value }
}

/// Replaces sendfile(2).
///
/// # Safety
/// As sendfile(2): any address may be passed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendfile(
    out: c_int,
    file: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: the caller passes what it would pass to sendfile(2).
    let offset = unsafe { CallerOffset::new(offset) };
    answer(|| sendfile_then(out, file, offset, count, stats::count))
}

/// Replaces sendfile(2) under its name for programs built with 64-bit offsets.
///
/// # Safety
/// As sendfile(2): any address may be passed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendfile64(
    out: c_int,
    file: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: as above.
    let offset = unsafe { CallerOffset::new(offset) };
    answer(|| sendfile_then(out, file, offset, count, stats::count))
}

/// Replaces splice(2).
///
/// # Safety
/// As splice(2): any addresses may be passed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn splice(
    file: c_int,
    offset: *mut off_t,
    out: c_int,
    out_offset: *mut off_t,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: as above.
    let (offset, out_offset) =
        unsafe { (CallerOffset::new(offset), CallerOffset::new(out_offset)) };
    answer(|| splice_then(file, offset, out, out_offset, count, flags, stats::count))
}
