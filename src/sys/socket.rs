// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets: their properties, and sends.  Sends go from spans and never raise SIGPIPE or block,
//! except where a blocking caller of sendfile(2) asked for it.

use super::*;
use crate::types::errno::Result;
use std::mem::{self, MaybeUninit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

pub(super) fn socket_option<T: Default>(fd: RawFd, level: i32, option: i32) -> Result<T> {
    let mut value = T::default();
    let mut length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: value has room for length bytes; callers request plain integers and bytes only.
    check(unsafe { libc::getsockopt(fd, level, option, (&raw mut value).cast(), &mut length) })?;
    Ok(value)
}

/// Returns SO_COOKIE: a number that no other socket has or will have until the next boot (Linux
/// 4.6, socket(7)).
pub fn socket_cookie(fd: RawFd) -> Result<u64> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_COOKIE)
}

/// Returns SO_TYPE, for example SOCK_STREAM.
pub fn socket_type(fd: RawFd) -> Result<i32> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)
}

/// Returns SO_PROTOCOL, for example IPPROTO_TCP; 0 in AF_UNIX.
pub fn socket_protocol(fd: RawFd) -> Result<i32> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)
}

/// Returns SO_DOMAIN, for example AF_INET.
pub fn socket_domain(fd: RawFd) -> Result<i32> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)
}

/// Returns whether a TCP socket's peer is on another machine, as far as the addresses show.
pub fn leaves_the_machine(fd: RawFd) -> bool {
    let (own, peer) = (address_of(fd, libc::getsockname), address_of(fd, libc::getpeername));
    match (own, peer) {
        (Some(own), Some(peer)) => own != peer && !peer.to_canonical().is_loopback(),
        _ => false,
    }
}

pub(super) type AddressCall =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

pub(super) fn address_of(fd: RawFd, call: AddressCall) -> Option<std::net::IpAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the storage has room for any address.  Zeroed, it is valid, and it is read as a
    // sockaddr_in or sockaddr_in6 only if the family says so.
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

/// Returns SO_ACCEPTCONN: whether the socket listens.
pub fn is_listening(fd: RawFd) -> Result<bool> {
    Ok(socket_option::<i32>(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0)
}

/// Resets a TCP connection: connect(2) to AF_UNSPEC.  The kernel drops what the peer has not
/// acknowledged, and the peer gets a reset.  EBUSY: another thread waits on the socket (Linux 5.10 to
/// 6.6).
pub fn disconnect(fd: RawFd) -> Result<()> {
    // SAFETY: sockaddr is plain data for which zero is valid.
    let mut address: libc::sockaddr = unsafe { mem::zeroed() };
    address.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    let length = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address has `length` bytes.  Not libc's connect(), which is a cancellation point.
    let done = unsafe { libc::syscall(libc::SYS_connect, fd, (&raw const address), length) };
    check(done as i32).map(|_| ())
}

/// Makes the waits of other threads on a socket end, by shutting it down.
pub fn end_waits(fd: RawFd) {
    // SAFETY: no memory involved.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Creates a pair of connected stream sockets, close-on-exec, for the library's own messages.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel fills both numbers with new descriptors without another owner.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Sends a few parts by sendmsg(2); never blocks, never raises SIGPIPE.  `flags` may add MSG_MORE.
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
    // SAFETY: the kernel reads the parts; unmapped addresses give EFAULT.
    check_size(unsafe { libc::sendmsg(socket, &header, flags) })
}

/// The most parts that one send is made of: header, file, padding, trailer.
pub const PARTS_MAX: usize = 4;

/// The most parts of a zero-copy send, which may be of as many operations.
pub const LENT_MAX: usize = 8;

/// Sends with the caller's own flags and blocking mode, for sendfile's blocking callers.
pub(crate) fn send_span(socket: RawFd, span: Span, flags: i32) -> Result<usize> {
    let (address, none) = (span.iovec().iov_base, ptr::null::<libc::c_void>());
    // SAFETY: the kernel reads the span; unmapped addresses give EFAULT.  Not libc's send(), which
    // is a cancellation point.
    let done =
        unsafe { libc::syscall(libc::SYS_sendto, socket, address, span.length, flags, none, 0) };
    check_size(done as isize)
}

/// Returns SO_SNDTIMEO; None: no limit.
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

/// Returns MSG_MORE if more data follows the send and the socket has no TLS in the kernel (TCP_ULP
/// "tls"), otherwise 0.  With TLS, MSG_MORE leaves a record open that only a later send completes.
/// If none follows, because the file was truncated or the operation cancelled, the record is never
/// sent, not even at close (tls_sw_release_resources_tx() in net/tls/tls_sw.c).
pub fn more_flag(socket: RawFd, more: bool) -> libc::c_int {
    if more && !has_tls(socket) { libc::MSG_MORE } else { 0 }
}

pub(super) fn has_tls(socket: RawFd) -> bool {
    socket_option::<[u8; 4]>(socket, libc::IPPROTO_TCP, libc::TCP_ULP) == Ok(*b"tls\0")
}

/// Makes a TCP socket transmit the data that MSG_MORE held back, unless its owner has corked it.
pub fn push_tcp(socket: RawFd) {
    if socket_option::<i32>(socket, libc::IPPROTO_TCP, libc::TCP_CORK) != Ok(0) {
        return;
    }
    let off: libc::c_int = 0;
    let length = mem::size_of_val(&off) as libc::socklen_t;
    // TCP_CORK is off and stays off: the kernel only pushes the pending data.
    // SAFETY: the value has `length` bytes.
    unsafe {
        libc::setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_CORK, (&raw const off).cast(), length)
    };
}
