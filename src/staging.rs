// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of headers and trailers, made by submit, kept until the operation ends.  They count
//! against the context's memory; the common small ones are used again instead of freed.
#![forbid(unsafe_code)]

use crate::operation::PADDING_MAX;
use crate::request::Request;
use crate::sys::{self, Errno, Result, Span};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeros to send as padding.
pub static ZEROS: [u8; PADDING_MAX as usize] = [0; PADDING_MAX as usize];

const SMALL: usize = 256;
const SMALL_KEPT: usize = 256;

/// A header and a trailer, one behind the other.
#[derive(Debug, Default)]
pub struct Staged {
    bytes: Option<Box<[u8]>>,
    header: u32,
    trailer: u32,
}

impl Staged {
    /// Bytes of the header.
    pub fn header_length(&self) -> u32 {
        self.header
    }

    /// Bytes of the trailer.
    pub fn trailer_length(&self) -> u32 {
        self.trailer
    }

    /// Part of the header: first byte and length.
    pub fn header(&self, (from, length): (u32, u32)) -> Span {
        self.span(from, length)
    }

    /// Part of the trailer: first byte and length.
    pub fn trailer(&self, (from, length): (u32, u32)) -> Span {
        self.span(self.header + from, length)
    }

    fn span(&self, from: u32, length: u32) -> Span {
        if length == 0 {
            return Span::of(&[]);
        }
        let bytes = self.bytes.as_deref().unwrap_or_default();
        Span::of(&bytes[from as usize..(from + length) as usize])
    }
}

/// Where they come from.
#[derive(Debug)]
pub struct Staging {
    free: Mutex<Vec<Box<[u8]>>>,
    used: AtomicU64,
    limit: u64,
}

impl Staging {
    /// At most `limit` bytes in use at a time.
    pub fn new(limit: u64) -> Staging {
        Staging { free: Mutex::default(), used: AtomicU64::new(0), limit }
    }

    /// Copies header and trailer.  EAGAIN: no room before others have ended; EMSGSIZE: there will
    /// never be.
    pub fn copy(&self, request: &Request<'_>) -> Result<Staged> {
        let (header, trailer) = request.staged_length()?;
        let length = header + trailer;
        if length == 0 {
            return Ok(Staged::default());
        }
        let mut bytes = self.take(length)?;
        sys::gather(request.header, &mut bytes[..header]);
        sys::gather(request.trailer, &mut bytes[header..]);
        Ok(Staged { bytes: Some(bytes), header: header as u32, trailer: trailer as u32 })
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
        let recycled = if size == SMALL { self.lock().pop() } else { None };
        Ok(recycled.unwrap_or_else(|| vec![0; size].into_boxed_slice()))
    }

    /// Takes one back.
    pub fn release(&self, staged: Staged) {
        let Some(bytes) = staged.bytes else { return };
        self.used.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() == SMALL {
            let mut free = self.lock();
            if free.len() < SMALL_KEPT {
                free.push(bytes);
            }
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
