// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for descriptors: poll(2), epoll(7), eventfd(2).  Also the waits of sendfile's blocking
//! callers, which the kernel itself performs so that timeouts and signals act as in a plain call.

use super::*;
use crate::types::errno::{Errno, Result};
use once_cell::race::OnceBool;
use std::cell::UnsafeCell;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// Waits until `fd` is ready for `events`; Ok(false) if the timeout expired.
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

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// The most events that one wait reports.
    pub const MOST: usize = 128;

    /// Creates an instance, close-on-exec.
    pub fn new() -> Result<Epoll> {
        // SAFETY: a new descriptor without another owner.
        unsafe {
            let fd = check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            Ok(Epoll(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Watches `fd`, and rearms a watch that has fired once.
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

    /// Waits and appends the data and events of the watches that fired.
    pub fn wait(&self, timeout: Option<Duration>, fired: &mut Vec<(u64, u32)>) -> Result<()> {
        const MOST: usize = Epoll::MOST;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let timeout_ms = match timeout {
            None => -1,
            // Rounded up, because a wait of less than a millisecond would spin.
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
    /// Creates one, close-on-exec.
    pub fn new() -> Result<WakeUp> {
        // SAFETY: a new descriptor without another owner.
        unsafe {
            let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            Ok(WakeUp(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Returns the descriptor, to be watched for EPOLLIN.
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

/// Waits by ppoll(2) for POLLOUT, or, if `socket` is -1, only for the timeout; `mask` is the signal
/// mask during the wait.  Returns the kernel's result unchanged: 0 if the timeout expired.
pub(crate) fn poll_writable(socket: RawFd, timeout: Option<Duration>, mask: SignalMask) -> isize {
    let mut entry = libc::pollfd { fd: socket, events: libc::POLLOUT, revents: 0 };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut time_address = ptr::null_mut();
    if let Some(timeout) = timeout {
        time.tv_sec = timeout.as_secs() as libc::time_t;
        time.tv_nsec = libc::c_long::from(timeout.subsec_nanos());
        time_address = &raw mut time;
    }
    // SAFETY: one entry, a null or valid time, a mask of the kernel's size.
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

// Has a whole page, wherever it is loaded; it uses no memory, because nothing ever touches it.
#[repr(align(4096))]
pub(super) struct UnreadablePage(UnsafeCell<[u8; 2 * PAGE_MAX - PAGE_MIN]>);

impl UnreadablePage {
    fn address(&self) -> usize {
        (self.0.get() as usize).next_multiple_of(page_size() as usize)
    }
}

// SAFETY: nothing ever reads it.
unsafe impl Sync for UnreadablePage {}

/// Waits on the calling thread until a socket has room, exactly as a blocking send(2) waits
/// (SO_SNDTIMEO, handlers with and without SA_RESTART, SIGPIPE, O_NONBLOCK), and sends nothing.  It
/// sends a byte that cannot be read, which stream sockets find out only after the wait.  EFAULT:
/// there is room.
pub(crate) fn wait_for_room(socket: RawFd) -> isize {
    static UNREADABLE: UnreadablePage =
        UnreadablePage(UnsafeCell::new([0; 2 * PAGE_MAX - PAGE_MIN]));
    static IS_READY: OnceBool = OnceBool::new();
    let address = UNREADABLE.address() as *mut libc::c_void;
    // SAFETY: a whole page of our own that nothing reads.  Runs once for each process, rarely
    // twice.
    let make = || unsafe { libc::mprotect(address, page_size() as usize, libc::PROT_NONE) == 0 };
    if !IS_READY.get_or_init(make) {
        return -1; // with ENOMEM
    }
    let none = ptr::null::<libc::c_void>();
    // SAFETY: the kernel checks the address.
    let done = unsafe { libc::syscall(libc::SYS_sendto, socket, address, 1usize, 0, none, 0) };
    done as isize
}

/// Waits until a pipe has room, as sendfile(2) into it waits, and moves nothing.
pub(crate) fn wait_for_pipe(pipe: RawFd, file: RawFd) -> isize {
    let mut offset: libc::off_t = 0;
    // SAFETY: as in raw_sendfile(); the offset lives as long as the call.
    let done = unsafe { libc::syscall(libc::SYS_sendfile, pipe, file, &raw mut offset, 0usize) };
    done as isize
}

/// Returns whether ppoll(2) reports one of `events` at once.  A descriptor that cannot be polled
/// counts as ready: the call that follows reports the error.
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
