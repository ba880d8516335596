// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory and address ranges handed to the kernel: spans, mappings, file windows, the fork mark and
//! lock-free buffers.  Rust code never reads a window of a file that can be truncated, because a
//! lost page would raise SIGBUS; only the kernel reads it.

use crate::types::errno::{Errno, Result};
use once_cell::race::OnceNonZeroUsize;
use std::io::IoSlice;
use std::mem::{self};
use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// An address range that the kernel may read.  It has no lifetime: its creator keeps the memory
/// mapped until the request that uses it has completed.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub(crate) address: usize,
    pub(crate) length: usize,
}

impl Span {
    /// Returns the addresses of a slice.
    pub fn of(bytes: &[u8]) -> Span {
        Span { address: bytes.as_ptr() as usize, length: bytes.len() }
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns a part of it; panics if that reaches outside.
    pub fn part(&self, from: usize, length: usize) -> Span {
        assert!(from <= self.length && length <= self.length - from);
        Span { address: self.address + from, length }
    }

    pub(crate) fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.address as *mut libc::c_void, iov_len: self.length }
    }
}

/// An address range that the kernel may write to.  It has no lifetime either.  Outside this room
/// only a [`Mapping`] makes one, so that the kernel never changes a slice that Rust refers to.
#[derive(Clone, Copy, Debug)]
pub struct SpanMut(Span);

impl SpanMut {
    pub(super) fn of(bytes: &mut [u8]) -> SpanMut {
        SpanMut(Span::of(bytes))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.length
    }

    /// Returns a part of it; panics if that reaches outside.
    pub fn part(&self, from: usize, length: usize) -> SpanMut {
        SpanMut(self.0.part(from, length))
    }

    /// Returns the same range, for reading.
    pub fn as_span(&self) -> Span {
        self.0
    }
}

/// Memory with a mapping of its own, unmapped when dropped: a window of a file or anonymous memory.
#[derive(Debug)]
pub struct Mapping {
    pub(super) address: usize,
    length: usize,
}

/// The smallest page size in bytes of the machines that the library supports.
pub(super) const PAGE_MIN: usize = 4 << 10;

/// The largest one.
pub(super) const PAGE_MAX: usize = if cfg!(target_arch = "x86_64") { PAGE_MIN } else { 64 << 10 };

/// Returns the size of a page of memory in bytes, a power of two (sysconf(3), queried once).
#[inline]
pub fn page_size() -> u64 {
    static SIZE: OnceNonZeroUsize = OnceNonZeroUsize::new();
    let query = || {
        // SAFETY: no memory involved.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let size = usize::try_from(size).ok().and_then(NonZeroUsize::new);
        size.expect("every system has a page size")
    };
    SIZE.get_or_init(query).get() as u64
}

/// Returns how far into a page an offset or an address is, in bytes.
#[inline]
pub fn offset_in_page(offset: u64) -> u64 {
    offset & (page_size() - 1)
}

impl Mapping {
    /// Maps a window of a file that only the kernel reads: a page lost to truncation would raise
    /// SIGBUS here, but gives EFAULT there.  `offset` must be a multiple of the page size.  A
    /// forked child does not inherit the window: nothing would unmap it there, and it would keep
    /// the file's locks held.
    pub(super) fn of_file(file: RawFd, offset: u64, length: usize) -> Result<Mapping> {
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

    /// Maps anonymous zeroed memory, aligned to its own power-of-two `length` in bytes, which is at
    /// least a page, with huge pages if possible.  A forked child does not inherit it.
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

    // Gives advice on the mapping.  Advice may be refused (a kernel without huge pages); that costs
    // only speed, except for the fork mark.
    fn advise(&self, advice: libc::c_int) -> bool {
        // SAFETY: the range is this mapping's own, and none of the advice used here makes
        // memory that Rust refers to change.
        unsafe { libc::madvise(self.address as *mut libc::c_void, self.length, advice) == 0 }
    }

    /// Returns all of it, for reading.
    pub fn span(&self) -> Span {
        Span { address: self.address, length: self.length }
    }

    /// Returns all of it, for writing.  In a window of a file, writing gives EFAULT.
    pub fn span_mut(&self) -> SpanMut {
        SpanMut(self.span())
    }
}

/// Bytes of a file in memory, at any offset within a page; see `Mapping::of_file`.
#[derive(Debug)]
pub struct FileWindow {
    mapping: Mapping,
    /// Bytes of the mapping before the window.
    skip: usize,
}

impl FileWindow {
    /// Maps `length` bytes from `offset` on.
    pub fn new(file: RawFd, offset: u64, length: usize) -> Result<FileWindow> {
        let skip = offset_in_page(offset);
        let mapping = Mapping::of_file(file, offset - skip, skip as usize + length)?;
        Ok(FileWindow { mapping, skip: skip as usize })
    }

    /// Returns the window.
    pub fn span(&self) -> Span {
        self.mapping.span().part(self.skip, self.mapping.length - self.skip)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unmap(self.address, self.length);
    }
}

pub(super) fn unmap(address: usize, length: usize) {
    if length > 0 {
        // SAFETY: only called with ranges of mappings made in this module, which no reference in
        // Rust points into.
        unsafe { libc::munmap(address as *mut libc::c_void, length) };
    }
}

/// A mark that reads true in the process that created it and false in its forked children
/// (MADV_WIPEONFORK, Linux 4.14).
#[derive(Debug)]
pub struct ForkMark(Mapping);

impl ForkMark {
    /// Creates a mark for this process.
    pub fn new() -> Result<ForkMark> {
        // The kernel maps, marks and unmaps whole pages.
        let mapping = Mapping::anonymous(size_of::<AtomicU32>())?;
        if !mapping.advise(libc::MADV_WIPEONFORK) {
            return Err(Errno::last());
        }
        let mark = ForkMark(mapping);
        mark.word().store(1, std::sync::atomic::Ordering::Relaxed);
        Ok(mark)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped, zeroed and aligned until self is dropped.
        unsafe { &*(self.0.address as *const AtomicU32) }
    }

    /// Returns whether the calling process created it.
    pub fn is_own_process(&self) -> bool {
        self.word().load(std::sync::atomic::Ordering::Relaxed) == 1
    }
}

pub(super) fn as_iovecs<'a>(slices: &'a [IoSlice<'_>]) -> &'a [libc::iovec] {
    // SAFETY: std documents IoSlice as ABI compatible with iovec on Unix.
    unsafe { &*(ptr::from_ref(slices) as *const [libc::iovec]) }
}

/// Returns the bytes of all slices together; None if the sum overflows.
pub fn total_length(slices: &[IoSlice<'_>]) -> Option<usize> {
    as_iovecs(slices).iter().try_fold(0usize, |sum, iov| sum.checked_add(iov.iov_len))
}

/// Returns whether a slice that is not empty has the address NULL, as a C caller's might.
pub fn has_null(slices: &[IoSlice<'_>]) -> bool {
    as_iovecs(slices).iter().any(|iov| iov.iov_len > 0 && iov.iov_base.is_null())
}

/// Copies the slices one after the other.  `into` must be at least as long as all of them.  Empty
/// slices may have any address, including NULL, because C callers pass such slices.
pub fn gather(slices: &[IoSlice<'_>], into: &mut [u8]) {
    let mut at = 0;
    for iov in as_iovecs(slices).iter().filter(|iov| iov.iov_len > 0) {
        // SAFETY: a non-empty IoSlice points to iov_len readable bytes.
        let bytes = unsafe { std::slice::from_raw_parts(iov.iov_base as *const u8, iov.iov_len) };
        into[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    }
}

/// Buffers for data in transit, without a lock and without malloc.  A signal handler may interrupt
/// anything here and call it again, a forked child finds no lock held, and no destructor in the
/// host's threads prevents the library from being unloaded.
#[derive(Debug)]
pub struct Buffers<const KEPT: usize> {
    kept: [AtomicPtr<u8>; KEPT],
    length: usize,
}

impl<const KEPT: usize> Buffers<KEPT> {
    /// Returns an empty set; buffers of `length` bytes are mapped on first use.
    pub const fn new(length: usize) -> Buffers<KEPT> {
        Buffers { kept: [const { AtomicPtr::new(ptr::null_mut()) }; KEPT], length }
    }

    /// Lends a buffer to `body`.  ENOMEM if there is no memory.
    pub fn with<T>(&self, body: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
        Ok(self.lend(self.take()?, body))
    }

    /// Lends a buffer to `body`, or 4 KiB of the stack if there is no memory.
    pub fn with_any<T>(&self, body: impl FnOnce(&mut [u8]) -> T) -> T {
        match self.take() {
            Ok(buffer) => self.lend(buffer, body),
            Err(_) => with_stack_buffer(body),
        }
    }

    fn lend<T>(&self, buffer: *mut u8, body: impl FnOnce(&mut [u8]) -> T) -> T {
        // SAFETY: `length` zeroed or initialised bytes with no other owner: they came from a slot,
        // which was left empty, or are new.
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

    /// Releases the buffers that are not lent.
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

// Lends 4 KiB of the stack.  Out of line, so that only calls that need it use the stack.  Aligned
// for files with O_DIRECT.
#[inline(never)]
pub(super) fn with_stack_buffer<T>(body: impl FnOnce(&mut [u8]) -> T) -> T {
    #[repr(align(4096))]
    struct Buffer([u8; 4096]);
    body(&mut Buffer([0; 4096]).0)
}
