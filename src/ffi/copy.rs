// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of structs that are passed with their size, as openat2(2) takes them.  This is the only
//! place where a caller's struct of another version is read or written.

use super::FAULT;
use crate::types::errno::{Errno, Result};
use std::mem::{MaybeUninit, size_of};
use std::ptr;

/// A struct of plain integers and pointers, for which every bit pattern is valid.
///
/// # Safety
/// The type has only such fields.
pub unsafe trait Plain: Copy {
    /// Its size in bytes in the first version.
    const FIRST_SIZE: usize;
}

// SAFETY: integers and a raw pointer only.
unsafe impl Plain for super::snapsend_options {
    const FIRST_SIZE: usize = 32;
}
// SAFETY: integers and raw pointers only.
unsafe impl Plain for super::snapsend_request {
    const FIRST_SIZE: usize = 64;
}
// SAFETY: integers only.
unsafe impl Plain for super::snapsend_info {
    const FIRST_SIZE: usize = 40;
}
// SAFETY: integers only.
unsafe impl Plain for super::snapsend_stats {
    const FIRST_SIZE: usize = 128;
}

/// Reads a caller's struct of `size` bytes.  A shorter one is filled up with zeros; the unknown
/// tail of a longer one must be zero (E2BIG).  EFAULT: null.  EINVAL: smaller than the first
/// version.
///
/// # Safety
/// `from` is null or valid for reads of `size` bytes.
pub unsafe fn copy_in<T: Plain>(from: *const T, size: usize) -> Result<T> {
    if from.is_null() {
        return Err(FAULT);
    }
    if size < T::FIRST_SIZE {
        return Err(Errno(libc::EINVAL));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    let known = size.min(size_of::<T>());
    // SAFETY: both sides have `known` bytes; zeroed and copied bytes are valid for Plain; the
    // tail lies within the caller's `size` bytes.
    unsafe {
        ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast(), known);
        let tail = std::slice::from_raw_parts(from.cast::<u8>().add(known), size - known);
        if tail.iter().any(|&byte| byte != 0) {
            return Err(Errno(libc::E2BIG));
        }
        Ok(value.assume_init())
    }
}

/// Fills a caller's struct of `size` bytes; bytes beyond the known ones become zero.
///
/// # Safety
/// `to` is null or valid for writes of `size` bytes.
pub unsafe fn copy_out<T: Plain>(value: &T, to: *mut T, size: usize) -> Result<i32> {
    if to.is_null() {
        return Err(FAULT);
    }
    if size < T::FIRST_SIZE {
        return Err(Errno(libc::EINVAL));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: both sides have `known` bytes, and the tail lies within the caller's.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), to.cast(), known);
        ptr::write_bytes(to.cast::<u8>().add(known), 0, size - known);
    }
    Ok(0)
}
