// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was done, counted for each process when SNAPSEND_STATS asks for it: "-" prints a line to
//! standard error at exit; anything else is the path of a file in which each process that called
//! keeps a line.
//!
//! The file is mapped at load time and its lines are kept current, so that they are right however
//! a server ends (exit, _exit, a signal), whether or not it has changed its root, its user or
//! closed every descriptor.

use libc::{c_char, c_int, c_void};
use snapsend::sendfile::{Moved, Way};
use std::ffi::CStr;
use std::io::{Cursor, Write};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU64, Ordering::*};

const OFF: u8 = 0;
const AT_EXIT: u8 = 1;
const IN_FILE: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(OFF);
/// The file's lines, or null.
static LINES: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
/// This process's line among them.
static LINE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
/// Whose the counters are: a forked child begins anew.
static PROCESS: AtomicI32 = AtomicI32::new(0);
static WRITING: AtomicBool = AtomicBool::new(false);
static STALE: AtomicBool = AtomicBool::new(false);

const LINE_LENGTH: usize = 192;
const LINES_MAX: usize = 4096;

/// In the order in which they are printed.
static COUNTERS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];
const NAMES: [&str; 6] =
    ["socket_calls", "socket_bytes", "pipe_calls", "pipe_bytes", "passed_on", "passed_bytes"];

#[used]
#[unsafe(link_section = ".init_array")]
static CONFIGURE: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = configure;

#[used]
#[unsafe(link_section = ".fini_array")]
static PRINT: extern "C" fn() = print;

// glibc gives initialisers what main() gets.
extern "C" fn configure(_: c_int, _: *const *const c_char, _: *const *const c_char) {
    // SAFETY: no other thread exists yet that could change the environment, and the value is used
    // before anybody can.
    let value = unsafe {
        let value = libc::getenv(c"SNAPSEND_STATS".as_ptr());
        if value.is_null() {
            return;
        }
        CStr::from_ptr(value)
    };
    // SAFETY: no memory involved.
    PROCESS.store(unsafe { libc::getpid() }, Relaxed);
    match value.to_bytes() {
        b"" => {}
        b"-" => MODE.store(AT_EXIT, Relaxed),
        _ => {
            if let Some(lines) = map(value) {
                LINES.store(lines, Relaxed);
                MODE.store(IN_FILE, Relaxed);
            }
        }
    }
}

fn map(path: &CStr) -> Option<*mut u8> {
    const LENGTH: usize = LINES_MAX * LINE_LENGTH;
    // SAFETY: a new descriptor, closed again; a new mapping at the kernel's choice.  errno is
    // nobody's yet.
    unsafe {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        let file = libc::open(path.as_ptr(), flags, 0o666 as libc::c_uint);
        if file < 0 {
            return None;
        }
        // Always to the same length: programs may start at the same time.
        let mut address = libc::MAP_FAILED;
        if libc::ftruncate(file, LENGTH as libc::off_t) == 0 {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            address = libc::mmap(ptr::null_mut(), LENGTH, access, libc::MAP_SHARED, file, 0);
        }
        libc::close(file);
        (address != libc::MAP_FAILED).then_some(address.cast())
    }
}

/// Counts a call.
pub fn count(moved: &Moved) {
    let mode = MODE.load(Relaxed);
    if mode == OFF {
        return;
    }
    // SAFETY: no memory involved.
    let process = unsafe { libc::getpid() };
    if PROCESS.swap(process, AcqRel) != process {
        COUNTERS.iter().for_each(|counter| counter.store(0, Relaxed));
        LINE.store(ptr::null_mut(), Relaxed);
        WRITING.store(false, Release);
    }
    let at = match moved.way {
        Way::Socket => 0,
        Way::Pipe => 2,
        Way::PassedOn => 4,
    };
    COUNTERS[at].fetch_add(1, Relaxed);
    COUNTERS[at + 1].fetch_add(moved.result.unwrap_or(0) as u64, Relaxed);
    if mode == IN_FILE {
        // Whoever comes while another writes leaves it to that one.
        STALE.store(true, SeqCst);
        while STALE.load(SeqCst) && !WRITING.swap(true, SeqCst) {
            STALE.store(false, SeqCst);
            write_line(process);
            WRITING.store(false, SeqCst);
        }
    }
}

fn text(process: c_int) -> [u8; LINE_LENGTH] {
    let mut line = [b' '; LINE_LENGTH];
    let mut out = Cursor::new(&mut line[..LINE_LENGTH - 1]);
    // SAFETY: glibc's, set before main and for ever a string.
    let name = unsafe { CStr::from_ptr(program_invocation_short_name) };
    let name = name.to_bytes();
    // What does not fit is cut off.
    let _ = write!(out, "snapsend pid={process} program=");
    let _ = out.write_all(&name[..name.len().min(32)]);
    for (name, counter) in NAMES.iter().zip(&COUNTERS) {
        let _ = write!(out, " {name}={}", counter.load(Relaxed));
    }
    line[LINE_LENGTH - 1] = b'\n';
    line
}

unsafe extern "C" {
    static program_invocation_short_name: *const c_char;
}

fn write_line(process: c_int) {
    let mut line = LINE.load(Relaxed);
    if line.is_null() {
        let Some(free) = claim() else { return };
        line = free;
        LINE.store(line, Relaxed);
    }
    let text = text(process);
    // SAFETY: a line of the mapping, which is never unmapped, claimed by this process alone, of
    // whose threads only one is here.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), line, LINE_LENGTH) };
}

// Lines that nobody has are zeros; processes race for the first byte.
fn claim() -> Option<*mut u8> {
    let lines = LINES.load(Relaxed);
    (0..LINES_MAX).map(|index| lines.wrapping_add(index * LINE_LENGTH)).find(|&line| {
        // SAFETY: within the mapping, and other processes touch it as an atomic until it is won.
        let first = unsafe { AtomicU8::from_ptr(line) };
        first.compare_exchange(0, b'*', AcqRel, Relaxed).is_ok()
    })
}

extern "C" fn print() {
    // SAFETY: no memory involved.
    let process = unsafe { libc::getpid() };
    if MODE.load(Relaxed) != AT_EXIT || PROCESS.load(Relaxed) != process {
        return;
    }
    let text = text(process);
    let length = text.iter().rposition(|&byte| byte > b' ').map_or(0, |last| last + 1);
    let mut line = text;
    line[length] = b'\n';
    // SAFETY: the line is live and longer than what is written.  Standard error may be closed.
    unsafe { libc::write(2, line.as_ptr().cast::<c_void>(), length + 1) };
}
