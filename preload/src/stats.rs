// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts calls if SNAPSEND_STATS is set: "-" prints a line to standard error when a process exits;
//! any other value is the path of a file in which each program keeps a line.
//!
//! A program is an executed file with all the processes that it forks.  They share the memory of
//! the counters, so that a child that lives for one call needs no line of its own, and no count is
//! lost when it is killed.  The line in the file has the values of the counters after each call.
//! It is claimed when the library is loaded: later the process may have changed its root or its
//! user, or closed every descriptor.
//!
//! Statistics must not harm the process.  A store to the mapped file would raise SIGBUS if the file
//! was truncated or the disk is full.  Therefore the kernel writes the line (process_vm_writev),
//! and fails with EFAULT in that case.
//!
//! A line is in use while a process has it mapped.  The mapping keeps the open file, and the open
//! file keeps its lock on the line (F_OFD_SETLK), however the processes end.

mod line;
mod place;

use libc::{c_char, c_int, c_void, iovec};
use line::{LENGTH, Line, Name};
use snapsend::preload::{Moved, Route, copy_costs};
use std::ffi::CStr;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU64, Ordering::*};

const OFF: u8 = 0;
const AT_EXIT: u8 = 1;
const IN_FILE: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(OFF);

type Counters = [AtomicU64; line::COUNTERS.len()];

/// The counters of this process, for AT_EXIT.
static OWN: Counters = [const { AtomicU64::new(0) }; line::COUNTERS.len()];
/// The process that owns these counters: a forked child begins at zero.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// The name of the program, for AT_EXIT.
static NAME: OnceLock<Name> = OnceLock::new();
/// Device and inode of standard error at load time.
static ERROR_FILE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// The state that the processes of a program share, for IN_FILE.
static PROGRAM: AtomicPtr<Program> = AtomicPtr::new(ptr::null_mut());

struct Program {
    counters: Counters,
    /// The process that writes the line, and its start time in milliseconds; 0: no process.
    writer: AtomicU64,
    /// The line is older than the counters.
    is_stale: AtomicBool,
    line: Line,
    /// How often the program has been started, this time included.
    runs: u64,
    /// The mapping of the line, LENGTH bytes.
    target: *mut c_void,
}

/// After this time, the writer has been killed, or a signal handler has jumped out of it.
const WRITER_MS_MAX: u64 = 100;

#[used]
#[unsafe(link_section = ".init_array")]
static CONFIGURE: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = configure;

#[used]
#[unsafe(link_section = ".fini_array")]
static PRINT: extern "C" fn() = print;

// glibc passes main()'s arguments to initialisers.
extern "C" fn configure(_: c_int, _: *const *const c_char, _: *const *const c_char) {
    match variable(c"SNAPSEND_STATS") {
        None => {}
        Some(path) if path.is_empty() => {}
        Some(path) if path == c"-" => {
            if let Some((device, inode)) = error_file() {
                ERROR_FILE[0].store(device, Relaxed);
                ERROR_FILE[1].store(inode, Relaxed);
                PROCESS.store(process(), Relaxed);
                let _ = NAME.set(place::program_name());
                MODE.store(AT_EXIT, Relaxed);
            }
        }
        // A filter may kill at process_vm_writev.
        Some(_) if variable(c"SNAPSEND_PROBES") == Some(c"none") => {}
        Some(path) => {
            if let Some(program) = program(path) {
                PROGRAM.store(program, Release);
                MODE.store(IN_FILE, Relaxed);
            }
        }
    }
}

fn variable(name: &CStr) -> Option<&'static CStr> {
    // Not for programs with more privileges than their user: they would write to any file.
    // SAFETY: no other thread exists yet that could change the environment, and the value is used
    // before one can.
    unsafe {
        let value = secure_getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value))
    }
}

// Not in the libc crate.
unsafe extern "C" {
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

fn process() -> c_int {
    // SAFETY: no memory involved.
    unsafe { libc::getpid() }
}

// Maps a page of memory for this process and all processes that it forks; never unmapped.
fn program(path: &CStr) -> Option<*mut Program> {
    let place = place::claim(path)?;
    // SAFETY: a new mapping at the kernel's choice.
    let page = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        libc::mmap(ptr::null_mut(), size_of::<Program>(), access, kind, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return None;
    }
    let program = Program {
        counters: place.counters,
        writer: AtomicU64::new(0),
        is_stale: AtomicBool::new(false),
        line: place.line,
        runs: place.runs,
        target: place.mapped,
    };
    // SAFETY: new memory, long enough, aligned to a page, and not yet shared.
    unsafe { page.cast::<Program>().write(program) };
    Some(page.cast())
}

/// Counts a call, and updates the line in the file.
pub fn count(moved: &Moved) {
    match MODE.load(Relaxed) {
        AT_EXIT => {
            let process = process();
            if PROCESS.swap(process, AcqRel) != process {
                OWN.iter().for_each(|counter| counter.store(0, Relaxed));
            }
            add(&OWN, moved);
        }
        IN_FILE => {
            // SAFETY: written before MODE, never freed, and the fields that change are atomic.
            let program = unsafe { &*PROGRAM.load(Acquire) };
            add(&program.counters, moved);
            program.show();
        }
        _ => {}
    }
}

fn add(counters: &Counters, moved: &Moved) {
    let at = match moved.route {
        Route::Socket => 0,
        Route::Pipe => 2,
        Route::PassedOn => 4,
        Route::Frozen => 6,
    };
    counters[at].fetch_add(1, Relaxed);
    counters[at + 1].fetch_add(moved.result.unwrap_or(0) as u64, Relaxed);
}

impl Program {
    // Brings the line up to date.  One process writes at a time, so that an older line never
    // replaces a newer one; the others leave the writing to it.
    fn show(&self) {
        self.is_stale.store(true, SeqCst);
        while self.is_stale.load(SeqCst) {
            let process = process();
            let Some(mine) = self.begin(process) else { return };
            self.is_stale.store(false, SeqCst);
            self.write(process);
            if self.writer.compare_exchange(mine, 0, SeqCst, SeqCst).is_err() {
                // This writer exceeded the time limit: another may have written at the same time.
                self.is_stale.store(true, SeqCst);
            }
        }
    }

    fn begin(&self, process: c_int) -> Option<u64> {
        let now = milliseconds();
        let mine = now << 32 | process as u64;
        let other = self.writer.load(SeqCst);
        if other != 0 && now.wrapping_sub(other >> 32) <= WRITER_MS_MAX {
            return None;
        }
        self.writer.compare_exchange(other, mine, SeqCst, SeqCst).ok().map(|_| mine)
    }

    fn write(&self, process: c_int) {
        let text = self.line.with(&self.counters, copy_costs(), Some(self.runs));
        let from = iovec { iov_base: text.as_ptr() as *mut c_void, iov_len: LENGTH };
        let to = iovec { iov_base: self.target, iov_len: LENGTH };
        // If this fails, the next call writes the counters, once the file is long enough again.
        // SAFETY: the text is live, and the target is a mapping of its own, which is never
        // unmapped.
        unsafe { libc::process_vm_writev(process, &from, 1, &to, 1, 0) };
    }
}

// Returns a time from 1 on, without a system call.
fn milliseconds() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live struct to be written.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    // Only 32 bits are used, from 1 on: 0 means that no process writes.
    (now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000) % u32::MAX as u64 + 1
}

fn error_file() -> Option<(u64, u64)> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a live struct, read only when the kernel has filled it.
    unsafe {
        (libc::fstat(2, status.as_mut_ptr()) == 0).then(|| {
            let status = status.assume_init();
            (status.st_dev, status.st_ino)
        })
    }
}

extern "C" fn print() {
    let process = process();
    if MODE.load(Relaxed) != AT_EXIT || PROCESS.load(Relaxed) != process {
        return;
    }
    // The process may have reused the number for a client's connection.
    let before = (ERROR_FILE[0].load(Relaxed), ERROR_FILE[1].load(Relaxed));
    if error_file() != Some(before) {
        return;
    }
    let Some(name) = NAME.get() else { return };
    let mut text = Line::new(name, process).with(&OWN, copy_costs(), None);
    let length = text.iter().rposition(|&byte| byte > b' ').map_or(0, |last| last + 1);
    text[length] = b'\n';
    write_error(&text[..=length]);
}

// Writes without waiting for a reader, and without ending the process by SIGPIPE or SIGXFSZ.
fn write_error(text: &[u8]) {
    let mut error = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    // SAFETY: all pointers are live; a set is filled before it is used.
    unsafe {
        if libc::poll(&mut error, 1, 0) != 1 || error.revents != libc::POLLOUT {
            return;
        }
        let mut signals = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGPIPE);
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGXFSZ);
        if libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), before.as_mut_ptr()) != 0 {
            return;
        }
        // After a failure the signals stay blocked: one may be pending, and the process is ending.
        if libc::write(2, text.as_ptr().cast(), text.len()) >= 0 {
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        }
    }
}
