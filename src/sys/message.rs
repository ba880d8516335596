// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages with descriptors, and the doorbell, on the library's own socket pair.  A message is
//! small and always sent and received as a whole.

use super::*;
use crate::types::errno::{Errno, Result};
use std::mem::{self};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// The most descriptors that one message carries (SCM_MAX_FD is 253).
pub const MESSAGE_FDS_MAX: usize = 252;

// Room for a cmsghdr and MESSAGE_FDS_MAX numbers, aligned.
pub(super) const CONTROL_WORDS: usize = 130;

pub(super) fn message(
    iov: &mut libc::iovec,
    control: &mut [u64],
    control_length: usize,
) -> libc::msghdr {
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

/// Sends `payload` with copies of `fds`; waits if the receiver lags behind.
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
            // The kernel queues a message this small as one piece: it is sent as a whole or not at
            // all.
            Ok(_) => return Err(Errno(libc::EIO)),
            Err(Errno(libc::EINTR)) => {}
            Err(Errno(libc::EAGAIN)) => {
                let _ = wait_for(socket, libc::POLLOUT, None);
            }
            // More descriptors of this user are in flight in messages than RLIMIT_NOFILE allows.
            // The receiver will soon have taken ours.
            Err(Errno(libc::ETOOMANYREFS)) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Receives exactly one message of `payload.len()` bytes, and appends to `fds` the descriptors that
/// came with it, close-on-exec.  Ok(false): the other end is closed.  EAGAIN: none waits.
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

/// Receives one message as [`receive_descriptors`] does, but drops its descriptors and allocates
/// nothing; for a socket that refuses further messages.  False: no message is left.
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

/// Makes the other end's later sends fail; messages already sent can still be received.
pub fn refuse_messages(socket: RawFd) {
    // SAFETY: no memory involved.
    unsafe { libc::shutdown(socket, libc::SHUT_RD) };
}

/// Writes one byte.  Also true if enough bytes wait already or the other end is closed; false: the
/// kernel has no memory at the moment.
pub fn ring_bell(socket: RawFd) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: one byte from a static.
    let sent = check_size(unsafe { libc::send(socket, c"!".as_ptr().cast(), 1, flags) });
    !matches!(sent, Err(Errno(libc::ENOBUFS | libc::ENOMEM | libc::EINTR)))
}

/// Takes up to `count` bytes of the doorbell; returns how many there were.
pub fn clear_bell(socket: RawFd, count: u32) -> u32 {
    let mut sink = [0u8; 64];
    let most = (count as usize).min(sink.len());
    // SAFETY: the buffer has room for `most` bytes.
    let got = unsafe { libc::recv(socket, sink.as_mut_ptr().cast(), most, libc::MSG_DONTWAIT) };
    got.max(0) as u32
}
