// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of a context, and their limits and defaults.
#![forbid(unsafe_code)]

use crate::types::errno::{Errno, Result};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The engine that a context uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum EngineChoice {
    /// io_uring where it works, otherwise portable; SNAPSEND_ENGINE in the environment overrides
    /// it.
    #[default]
    Auto,
    /// io_uring; creation fails with the kernel's errno where it does not work.
    Uring,
    /// epoll and plain system calls.
    Portable,
}

/// The options of a context.
///
/// ```
/// use snapsend::{Context, Options};
///
/// let context = Context::new(&Options::new().max_ops(1000).pool_bytes(8 << 20))?;
/// # Ok::<(), snapsend::Errno>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    pub(crate) engine: EngineChoice,
    pub(crate) max_ops: u32,
    pub(crate) pool_bytes: u64,
    pub(crate) chunk_bytes: u64,
    pub(crate) window_bytes: u64,
    pub(crate) snapshot_dir: Option<PathBuf>,
}

impl Options {
    /// Returns the defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// Sets the engine.  Default: [`EngineChoice::Auto`].
    pub fn engine(mut self, engine: EngineChoice) -> Options {
        self.engine = engine;
        self
    }

    /// Sets the most operations whose Done has not been taken, at most 1,048,576.  Default, also
    /// for 0: 65,536.
    pub fn max_ops(mut self, count: u32) -> Options {
        self.max_ops = count;
        self
    }

    /// Sets the most private memory for file data, headers and trailers, in bytes, at least 65,536.
    /// Default, also for 0: 32 MiB.  At least two pages: where a page has 64 KiB, less than
    /// 131,072 counts as 131,072.
    pub fn pool_bytes(mut self, bytes: u64) -> Options {
        self.pool_bytes = bytes;
        self
    }

    /// Sets the most bytes that one kernel request moves, at least 4,096.  Default, also for 0:
    /// chosen by the library.
    pub fn chunk_bytes(mut self, bytes: u64) -> Options {
        self.chunk_bytes = bytes;
        self
    }

    /// Sets the most address space, in bytes, for windows of files that are sent with
    /// [`ZEROCOPY`](crate::RequestFlags::ZEROCOPY), at least 4,096.  A window has whole pages.
    /// Default, also for 0: chosen by the library.
    pub fn window_bytes(mut self, bytes: u64) -> Options {
        self.window_bytes = bytes;
        self
    }

    /// Sets the directory, by an absolute path, in which unnamed files for clones are made
    /// ([`EAGER`](crate::RequestFlags::EAGER) and [`EXACT`](crate::RequestFlags::EXACT) beyond
    /// [`Info::exact_max`](crate::Info::exact_max)).  It must be on the file system of the files,
    /// before Linux 5.18 on the same mount, and the context's threads must be allowed to create
    /// files there; otherwise nothing is cloned.  Default: the directory of each file, which /proc
    /// names.  EINVAL from [`Context::new`](crate::Context::new): the path is relative or empty.
    pub fn snapshot_dir(mut self, path: impl Into<PathBuf>) -> Options {
        self.snapshot_dir = Some(path.into());
        self
    }
}

/// The largest value of [`Options::max_ops`].
pub const MAX_OPS_MAX: u32 = 1 << 20;

const MAX_OPS_DEFAULT: u32 = 65536;

const POOL_DEFAULT: u64 = 32 << 20;

/// The smallest pool, in bytes.
pub const POOL_MIN: u64 = 64 << 10;

const POOL_MAX: u64 = 1 << 40;

/// The most bytes of one kernel request.
pub const CHUNK_MAX: u64 = 2 << 20;

const CHUNK_DEFAULT: u64 = 1 << 20;

const CHUNK_MIN: u64 = 4096;

/// Address space is plentiful; what is mapped costs a page table, 8 bytes for each page.
const WINDOWS_DEFAULT: u64 = if usize::BITS == 64 { 8 << 30 } else { 128 << 20 };

const WINDOWS_MIN: u64 = 4096;

/// Checked options with the defaults filled in.
#[derive(Debug)]
pub(crate) struct Settings {
    pub engine: EngineChoice,
    pub max_ops: u32,
    /// The length of the system's pages in bytes.
    pub page_bytes: u64,
    /// All private memory, in bytes.
    pub pool_bytes: u64,
    /// The part of `pool_bytes` for headers and trailers.
    pub staging_bytes: u64,
    /// The most bytes of one kernel request.
    pub chunk_bytes: u64,
    /// The most address space for windows of files, in bytes.
    pub window_bytes: u64,
    /// Where clones are made; None: in the directory of each file.
    pub snapshot_dir: Option<Arc<CStr>>,
}

impl Settings {
    /// Checks the options, for pages of `page_bytes`.
    pub fn from_options(options: &Options, page_bytes: u64) -> Result<Settings> {
        let or = |value, default| if value == 0 { default } else { value };
        let max_ops = or(options.max_ops.into(), u64::from(MAX_OPS_DEFAULT)) as u32;
        let pool_bytes = or(options.pool_bytes, POOL_DEFAULT);
        let chunk_bytes = or(options.chunk_bytes, CHUNK_DEFAULT);
        let window_bytes = or(options.window_bytes, WINDOWS_DEFAULT);
        if max_ops > MAX_OPS_MAX
            || !(POOL_MIN..=POOL_MAX).contains(&pool_bytes)
            || chunk_bytes < CHUNK_MIN
            || window_bytes < WINDOWS_MIN
        {
            return Err(Errno(libc::EINVAL));
        }
        // What staging leaves has a whole page.
        let pool_bytes = pool_bytes.max(2 * page_bytes);
        let engine = match options.engine {
            EngineChoice::Auto => engine_from_environment()?,
            chosen => chosen,
        };
        Ok(Settings {
            engine,
            max_ops,
            page_bytes,
            pool_bytes,
            staging_bytes: pool_bytes / 8,
            chunk_bytes: chunk_bytes.min(CHUNK_MAX),
            window_bytes,
            snapshot_dir: options.snapshot_dir.as_deref().map(absolute).transpose()?,
        })
    }
}

// EINVAL: the path is relative, or contains a zero.
fn absolute(path: &Path) -> Result<Arc<CStr>> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    if path.as_bytes().first() == Some(&b'/') { Ok(path.into()) } else { Err(Errno(libc::EINVAL)) }
}

fn engine_from_environment() -> Result<EngineChoice> {
    match std::env::var_os("SNAPSEND_ENGINE") {
        None => Ok(EngineChoice::Auto),
        Some(value) => match value.to_str() {
            Some("" | "auto") => Ok(EngineChoice::Auto),
            Some("uring") => Ok(EngineChoice::Uring),
            Some("portable") => Ok(EngineChoice::Portable),
            _ => Err(Errno(libc::EINVAL)),
        },
    }
}
