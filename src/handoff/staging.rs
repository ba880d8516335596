// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of headers and trailers, made by submit and kept until the operation ends.  They count
//! against the context's memory; small ones, which are common, are reused instead of freed.
#![forbid(unsafe_code)]

use crate::collections::memory;
use crate::decide::operation::{PADDING_MAX, Portion};
use crate::sys::{self, PARTS_MAX, Span};
use crate::types::errno::{Errno, Result};
use crate::types::request::Request;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

static ZEROS: [u8; PADDING_MAX as usize] = [0; PADDING_MAX as usize];

const SMALL: usize = 256;
const SMALL_KEPT: usize = 256;

/// The most bytes of header and trailer together.
pub const STAGED_MAX: usize = 1 << 20;
/// The most entries of header and of trailer: IOV_MAX.
pub const IOVECS_MAX: usize = 1024;

/// A header and a trailer, one after the other, preceded by their lengths.
#[derive(Debug, Default)]
pub struct Staged(Option<Box<[u8]>>);

const LENGTHS: usize = 8;

impl Staged {
    /// Returns the bytes of the header.
    pub fn header_length(&self) -> u32 {
        self.length(0)
    }

    /// Returns the bytes of the trailer.
    pub fn trailer_length(&self) -> u32 {
        self.length(LENGTHS / 2)
    }

    fn length(&self, at: usize) -> u32 {
        let bytes = self.0.as_deref().and_then(|bytes| bytes[at..].first_chunk());
        bytes.map_or(0, |&length| u32::from_ne_bytes(length))
    }

    /// Returns a part of the header: first byte and length.
    pub fn header(&self, (from, length): (u32, u32)) -> Span {
        self.span(from, length)
    }

    /// Returns a part of the trailer: first byte and length.
    pub fn trailer(&self, (from, length): (u32, u32)) -> Span {
        self.span(self.header_length() + from, length)
    }

    /// Returns the parts of a portion, in the order in which they are sent; `data`: the range's
    /// bytes.
    pub fn parts(&self, portion: &Portion, data: Span) -> [Span; PARTS_MAX] {
        [
            self.header(portion.header),
            data,
            Span::of(&ZEROS[..portion.zeros as usize]),
            self.trailer(portion.trailer),
        ]
    }

    fn span(&self, from: u32, length: u32) -> Span {
        if length == 0 {
            return Span::of(&[]);
        }
        let bytes = self.0.as_deref().unwrap_or_default();
        Span::of(&bytes[LENGTHS + from as usize..][..length as usize])
    }
}

/// Returns the bytes of the header and of the trailer of a request.  EMSGSIZE: too many bytes or
/// slices; EFAULT: a slice has no address.
pub fn lengths(request: &Request<'_>) -> Result<(usize, usize)> {
    let (header, trailer) = (request.header, request.trailer);
    let too_much = Errno(libc::EMSGSIZE);
    if header.len() > IOVECS_MAX || trailer.len() > IOVECS_MAX {
        return Err(too_much);
    }
    if sys::has_null(header) || sys::has_null(trailer) {
        return Err(Errno(libc::EFAULT));
    }
    let header = sys::total_length(header).ok_or(too_much)?;
    let trailer = sys::total_length(trailer).ok_or(too_much)?;
    match header.checked_add(trailer) {
        Some(sum) if sum <= STAGED_MAX => Ok((header, trailer)),
        _ => Err(too_much),
    }
}

/// The memory for staged copies.
#[derive(Debug)]
pub struct Staging {
    /// Small copies that are not in use.
    free: Mutex<Vec<Box<[u8]>>>,
    /// Bytes in use.
    used: AtomicU64,
    /// The most bytes in use.
    limit: u64,
}

impl Staging {
    /// Creates it, for at most `limit` bytes at a time.
    pub fn new(limit: u64) -> Staging {
        Staging { free: Mutex::default(), used: AtomicU64::new(0), limit }
    }

    /// Copies header and trailer, with the lengths from [`lengths`].  EAGAIN: no room until other
    /// operations have ended; EMSGSIZE: more than the limit; ENOMEM.
    pub fn copy(&self, request: &Request<'_>, (header, trailer): (usize, usize)) -> Result<Staged> {
        let length = header + trailer;
        if length == 0 {
            return Ok(Staged::default());
        }
        let mut bytes = self.take(length)?;
        bytes[..4].copy_from_slice(&(header as u32).to_ne_bytes());
        bytes[4..LENGTHS].copy_from_slice(&(trailer as u32).to_ne_bytes());
        let (into_header, into_trailer) = bytes[LENGTHS..].split_at_mut(header);
        sys::gather(request.header, into_header);
        sys::gather(request.trailer, into_trailer);
        Ok(Staged(Some(bytes)))
    }

    fn take(&self, length: usize) -> Result<Box<[u8]>> {
        let size = length.max(SMALL);
        if size as u64 > self.limit {
            return Err(Errno(libc::EMSGSIZE));
        }
        if self.used.fetch_add(size as u64, Ordering::Relaxed) + size as u64 > self.limit {
            self.used.fetch_sub(size as u64, Ordering::Relaxed);
            return Err(Errno(libc::EAGAIN));
        }
        if let Some(recycled) = if size == SMALL { self.lock().pop() } else { None } {
            return Ok(recycled);
        }
        memory::filled(0, LENGTHS + size).inspect_err(|_| {
            self.used.fetch_sub(size as u64, Ordering::Relaxed);
        })
    }

    /// Takes a copy back.
    pub fn release(&self, staged: Staged) {
        let Some(bytes) = staged.0 else { return };
        let size = bytes.len() - LENGTHS;
        self.used.fetch_sub(size as u64, Ordering::Relaxed);
        if size == SMALL {
            let mut free = self.lock();
            if free.len() < SMALL_KEPT && memory::reserve(&mut free, 1).is_ok() {
                free.push(bytes);
            }
        }
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
