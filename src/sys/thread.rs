// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads, futexes and signal masks of the library's own threads.  Its threads run with all
//! signals blocked and with cancellation disabled, so that no handler or cancellation of the host
//! reaches them.

use super::*;
use crate::types::errno::{Errno, Result};
use std::mem::{self, MaybeUninit};
use std::os::fd::FromRawFd;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Waits by futex(2), private to the process.  Returns when `word` is not `expected` any more,
/// another thread wakes it, the timeout expires (ETIMEDOUT) or a signal handler has run (EINTR).
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
    let time = futex_time(timeout);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the time are live for the whole call.
    let done = unsafe {
        libc::syscall(libc::SYS_futex, ptr::from_ref(word), operation, expected, &raw const time)
    };
    match check(done as libc::c_int) {
        Ok(_) | Err(Errno(libc::EAGAIN)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the time limit of a futex(2) wait.  There always is one: with it the kernel never
/// restarts the call after a handler, whatever SA_RESTART says (ERESTART_RESTARTBLOCK), as
/// snapsend_poll() promises.
pub(crate) fn futex_time(timeout: Option<Duration>) -> libc::timespec {
    timespec(timeout.unwrap_or(Duration::from_secs(1 << 30)))
}

/// Wakes up to `count` waiters by futex(2).
pub fn futex_wake(word: &AtomicU32, count: u32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: only the address is used.
    unsafe { libc::syscall(libc::SYS_futex, ptr::from_ref(word), operation, count) };
}

/// Blocks every signal on the calling thread, and on threads that it starts, until dropped.
pub struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    /// Blocks all signals.
    pub fn new() -> SignalsBlocked {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut old = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset fills the set; pthread_sigmask writes the old one and cannot fail
        // with a valid `how`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
            SignalsBlocked(old.assume_init())
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// A thread created by pthread_create(3) directly: std's would leave a destructor in the calling
/// thread, which prevents the library from being unloaded.
#[derive(Debug)]
pub struct Thread(libc::pthread_t);

pub(super) type ThreadBody = Box<dyn FnOnce() + Send>;

extern "C" fn thread_main(argument: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: spawn() gave a leaked Box<ThreadBody> to this thread alone.
    let body = unsafe { Box::from_raw(argument.cast::<ThreadBody>()) };
    // Never restored: an unwinding would meet the panic fence, which ends the process.
    disable_cancellation();
    body();
    ptr::null_mut()
}

impl Thread {
    /// Runs `body`, which must not panic, on a new thread with all signals blocked.
    pub fn spawn(body: ThreadBody) -> Result<Thread> {
        const STACK: usize = 256 << 10;
        // The host's thread-local variables use this stack, too.
        let stack = STACK + thread_locals();
        let argument = Box::into_raw(Box::new(body));
        let _blocked = SignalsBlocked::new();
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        // SAFETY: the attributes are initialised before use and destroyed after it; the argument
        // belongs to the new thread if that exists.
        unsafe {
            libc::pthread_attr_init(attributes.as_mut_ptr());
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
            let error = libc::pthread_create(
                thread.as_mut_ptr(),
                attributes.as_ptr(),
                thread_main,
                argument.cast(),
            );
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            if error != 0 {
                drop(Box::from_raw(argument));
                return Err(Errno(error));
            }
            Ok(Thread(thread.assume_init()))
        }
    }

    /// Lets the thread end by itself.
    pub fn detach(self) {
        // SAFETY: the handle is used once.
        unsafe { libc::pthread_detach(self.0) };
    }

    /// Waits for the end of the thread.
    pub fn join(self) {
        // SAFETY: the handle is used once.
        unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
    }
}

/// Returns the kernel's id of the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Waits until a joined ring thread, its helpers and the kernel's workers of its ring have left the
/// process: pthread_join(3) returns some milliseconds earlier.  The wait is limited to a second,
/// because under a debugger an ended thread stays until the debugger has seen it.
pub fn wait_until_gone(thread: i32) {
    let mut pause = Duration::from_micros(20);
    let mut left = Duration::from_secs(1);
    while left > Duration::ZERO && (is_there(thread) || has_remains_of(thread)) {
        std::thread::sleep(pause);
        left = left.saturating_sub(pause);
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

pub(super) fn is_there(thread: i32) -> bool {
    // SAFETY: signal 0 is not sent; the call only checks whether this process has such a thread.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) == 0 }
}

// Returns whether there are other threads and all of them belonged to this ring thread.  If the
// host or another context has a thread, the process is not single-threaded anyway, and a wait would
// achieve nothing.
pub(super) fn has_remains_of(thread: i32) -> bool {
    let own = thread_id();
    let mut found = false;
    // SAFETY: the name is a C string; NULL without /proc or without memory.
    let tasks = unsafe { libc::opendir(c"/proc/self/task".as_ptr()) };
    if tasks.is_null() {
        return false;
    }
    // SAFETY: the directory is open and used by this thread only; an entry is valid until the next
    // call.
    while let Some(entry) = unsafe { libc::readdir(tasks).as_ref() } {
        // SAFETY: the kernel ends each name with a zero.
        let name = unsafe { std::ffi::CStr::from_ptr(entry.d_name.as_ptr()) };
        let id = name.to_str().ok().and_then(|name| name.parse::<i32>().ok());
        let Some(id) = id.filter(|id| *id != own) else { continue };
        match belongs_to(id, thread) {
            Some(true) => found = true,
            Some(false) => {
                found = false;
                break;
            }
            None => {}
        }
    }
    // SAFETY: it was opened here.
    unsafe { libc::closedir(tasks) };
    found
}

// Decides by the thread's name; None: the thread is gone.
pub(super) fn belongs_to(id: i32, ring_thread: i32) -> Option<bool> {
    use std::io::{Read, Write};
    let mut path = [0u8; 64];
    write!(&mut path[..], "/proc/self/task/{id}/comm\0").ok()?;
    let path = std::ffi::CStr::from_bytes_until_nul(&path).ok()?;
    // SAFETY: the path is a C string, and the descriptor a new one that nobody else owns.
    let mut comm = unsafe {
        let fd = check(libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)).ok()?;
        std::fs::File::from_raw_fd(fd)
    };
    let (mut name, mut worker) = ([0u8; 32], [0u8; 32]);
    let length = comm.read(&mut name).ok()?;
    writeln!(&mut worker[..], "iou-wrk-{ring_thread}").ok()?;
    let name = &name[..length];
    Some(name == b"snapsend-read\n" || !name.is_empty() && worker.starts_with(name))
}

// Returns what glibc takes from each thread's stack in advance: its thread-local variables and a
// few KiB.  0: not glibc, the only C library that counts them there.
pub(super) fn thread_locals() -> usize {
    type Least = unsafe extern "C" fn(*const libc::pthread_attr_t) -> libc::size_t;
    // SAFETY: the name is a C string.
    let least = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr()) };
    // SAFETY: the symbol is a function of this type in every glibc since 2.15; it may be absent,
    // which is Option's None.
    let least = unsafe { mem::transmute::<*mut libc::c_void, Option<Least>>(least) };
    // SAFETY: it only adds sizes; glibc ignores the attributes.
    least.map_or(0, |least| unsafe { least(ptr::null()) })
}

/// Names the calling thread, for `top -H` and similar tools.
pub fn name_thread(name: &std::ffi::CStr) {
    // SAFETY: the name is a C string; the kernel cuts it at 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}
