// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program's place in the file of statistics: found, claimed and mapped while the library is
//! loaded.  On any error, no statistics are kept.
//!
//! Nothing is allocated, because a failed allocation would end the process.

use super::line::{COUNTERS, LENGTH, Line, Name};
use libc::{c_int, c_void, off_t};
use std::ffi::CStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

/// The maximum number of lines in a file: 32 MiB.
const LINES_MAX: u64 = 65536;
/// Lines read at a time.
const GROUP: usize = 16;

/// The line of this program, and its previous values.
pub struct Place {
    /// The line without counters and runs.
    pub line: Line,
    /// The counters of this and earlier runs.
    pub counters: [AtomicU64; COUNTERS.len()],
    /// The number of these runs.
    pub runs: u64,
    /// LENGTH bytes of the file.
    pub mapped: *mut c_void,
}

/// Claims a line of the file at `path` for this program.
pub fn claim(path: &CStr) -> Option<Place> {
    let (file, lines) = open(path)?;
    let name = program_name();
    let (index, old) = find(&file, &lines, &name)?;
    let (runs, counters) = match old.is_empty() {
        true => (1, Default::default()),
        false => (old.runs() + 1, old.counters()),
    };
    // SAFETY: no memory involved.
    let process = unsafe { libc::getpid() };
    let line = Line::new(&name, process);
    let counters = counters.map(AtomicU64::new);
    let text = line.with(&counters, Default::default(), Some(runs));
    let at = index * LENGTH as u64;
    // Beyond the limit the kernel would send SIGXFSZ.
    if at + LENGTH as u64 > file_size_limit() || file.write_at(&text, at).ok()? != LENGTH {
        return None;
    }
    Some(Place { line, counters, runs, mapped: map(&file, at)? })
}

/// Whether lines of programs that have ended can be detected and reused.
enum Lines {
    Reused,
    Appended,
}

// Opens the file.  Reads and writes of a network file system or of FUSE can wait indefinitely, and
// those of devices and pipes have other effects, so such files are never opened.
fn open(path: &CStr) -> Option<(File, Lines)> {
    match open_with(path, libc::O_PATH | libc::O_NOFOLLOW) {
        Ok(file) => {
            filesystem(&file)?;
            file.metadata().ok()?.is_file().then_some(())?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            filesystem(&open_folder(path.to_bytes()).ok()?)?;
        }
        Err(_) => return None,
    }
    // Without O_NONBLOCK, open(2) would wait for a lease on the file.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = open_with(path, libc::O_RDWR | libc::O_CREAT | flags).ok()?;
    file.metadata().ok()?.is_file().then_some(())?;
    let lines = filesystem(&file)?;
    Some((file, lines))
}

fn open_with(path: &CStr, flags: c_int) -> std::io::Result<File> {
    // SAFETY: a string, and a new descriptor that nothing else owns.
    unsafe {
        match libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o666 as libc::c_uint) {
            -1 => Err(std::io::Error::last_os_error()),
            file => Ok(File::from_raw_fd(file)),
        }
    }
}

fn open_folder(path: &[u8]) -> std::io::Result<File> {
    let mut folder = [0; libc::PATH_MAX as usize];
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(length) if length + 2 <= folder.len() => {
            folder[..=length].copy_from_slice(&path[..=length]);
        }
        Some(_) => return Err(ErrorKind::InvalidInput.into()),
        None => folder[0] = b'.',
    }
    let folder = CStr::from_bytes_until_nul(&folder).map_err(|_| ErrorKind::InvalidInput)?;
    open_with(folder, libc::O_PATH | libc::O_DIRECTORY)
}

// Returns how lines are chosen on the file's file system; None: it is not supported.  On overlayfs
// a mapping keeps the underlying file, not the open file that has the lock.
fn filesystem(file: &File) -> Option<Lines> {
    let mut status = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a live struct, read only when the kernel has filled it.
    let kind = unsafe {
        (libc::fstatfs(file.as_raw_fd(), status.as_mut_ptr()) == 0)
            .then(|| status.assume_init().f_type)?
    };
    match kind {
        libc::TMPFS_MAGIC
        | libc::EXT4_SUPER_MAGIC
        | libc::XFS_SUPER_MAGIC
        | libc::BTRFS_SUPER_MAGIC => Some(Lines::Reused),
        libc::OVERLAYFS_SUPER_MAGIC => Some(Lines::Appended),
        _ => None,
    }
}

// Finds and locks a line for this program.
fn find(file: &File, lines: &Lines, program: &Name) -> Option<(u64, Line)> {
    let count = file.metadata().ok()?.len().div_ceil(LENGTH as u64);
    let [first, ..] = read(file, 0)?;
    if !first.is_empty() && !first.is_ours() {
        return None; // a file with other contents
    }
    let old = match lines {
        Lines::Reused => find_old(file, count, program),
        Lines::Appended => None,
    };
    old.or_else(|| (count..LINES_MAX).find_map(|index| take(file, index, Line::is_empty)))
}

// Finds a line to reuse.  For each request the kernel searches all locks, so only some lines are
// tried: if a quarter of the lines is free, nine in ten programs find one.
fn find_old(file: &File, count: u64, program: &Name) -> Option<(u64, Line)> {
    const TRIES: usize = 8;
    let start = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9) % count.max(1);
    let mut tried = 0;
    let (mut group, mut group_index) = (read(file, 0)?, 0);
    for index in (start..count).chain(0..start) {
        if group_index != index / GROUP as u64 {
            group_index = index / GROUP as u64;
            group = read(file, group_index * GROUP as u64)?;
        }
        let is_wanted = |line: &Line| line.is_empty() || line.is_of(program);
        if !is_wanted(&group[index as usize % GROUP]) {
            continue;
        }
        if let Some(taken) = take(file, index, is_wanted) {
            return Some(taken);
        }
        tried += 1;
        if tried == TRIES {
            break;
        }
    }
    None
}

fn take(file: &File, index: u64, is_wanted: impl Fn(&Line) -> bool) -> Option<(u64, Line)> {
    if !lock(file, libc::F_WRLCK, index) {
        return None;
    }
    let [line, ..] = read(file, index)?;
    if is_wanted(&line) {
        return Some((index, line));
    }
    // Another program has used the line in between.
    lock(file, libc::F_UNLCK, index);
    None
}

// Reads a group of lines; those beyond the end of the file are empty.
fn read(file: &File, index: u64) -> Option<[Line; GROUP]> {
    let mut text = [[0; LENGTH]; GROUP];
    file.read_at(text.as_flattened_mut(), index * LENGTH as u64).ok()?;
    Some(text.map(Line::from_file))
}

// Locks or unlocks a line, without waiting.
fn lock(file: &File, kind: c_int, index: u64) -> bool {
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: (index * LENGTH as u64) as off_t,
        l_len: LENGTH as off_t,
        l_pid: 0,
    };
    // SAFETY: an open descriptor, and a live struct.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) == 0 }
}

fn file_size_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live struct to be written; when that fails there is no room.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    limit.rlim_cur
}

fn map(file: &File, at: u64) -> Option<*mut c_void> {
    // SAFETY: a new mapping at the kernel's choice.  It begins with a page, because an offset in a
    // file must be a multiple of the page size.
    let (page, inside) = unsafe {
        let inside = at as usize % libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let (start, length) = (at as usize - inside, inside + LENGTH);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED;
        let file = file.as_raw_fd();
        (libc::mmap(std::ptr::null_mut(), length, access, kind, file, start as off_t), inside)
    };
    (page != libc::MAP_FAILED).then(|| page.wrapping_byte_add(inside))
}

/// Returns the name of the executable file.  The process can overwrite neither that nor the path
/// that was executed, but it can overwrite its arguments and the name of its first thread, as nginx
/// does.
pub fn program_name() -> Name {
    let mut path = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: a live buffer of that length; the kernel gives each program the address of the path
    // that was executed.
    unsafe {
        let exe = c"/proc/self/exe".as_ptr();
        if let Ok(length) = libc::readlink(exe, path.as_mut_ptr().cast(), path.len()).try_into() {
            return Name::of(&path[..length]);
        }
        let executed = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        Name::of(if executed.is_null() { b"" } else { CStr::from_ptr(executed).to_bytes() })
    }
}
