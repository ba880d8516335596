// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the report finds out about this machine.

use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use snapsend::{Context, Errno, KernelFeatures, Options};
use std::path::{Path, PathBuf};

/// An optional feature of the kernel.
pub struct Feature {
    bit: KernelFeatures,
    name: &'static str,
    since: &'static str,
    without: &'static str,
}

const FEATURES: &[Feature] = &[
    Feature {
        bit: KernelFeatures::IO_URING,
        name: "io_uring",
        since: "5.13",
        without: "the portable engine is used: more system calls, no zero-copy",
    },
    Feature {
        bit: KernelFeatures::SEND_ZC,
        name: "zero-copy sends",
        since: "6.0",
        without: "all data is copied into the socket",
    },
    Feature {
        bit: KernelFeatures::ZC_REPORT_USAGE,
        name: "zero-copy usage report",
        since: "6.2",
        without: "zero-copy is not used: the kernel does not report whether it copied",
    },
    Feature {
        bit: KernelFeatures::REGISTERED_BUFFERS,
        name: "registered buffers",
        since: "5.19",
        without: "the kernel looks up the pool's pages at each request",
    },
    Feature {
        bit: KernelFeatures::CACHESTAT,
        name: "cachestat",
        since: "6.5",
        without: "single bytes are read to find out what is in the page cache",
    },
];

/// The state of a feature.
#[derive(Serialize)]
pub struct Found {
    /// Its name.
    pub name: &'static str,
    /// The Linux version that introduced it.
    pub since: &'static str,
    /// Whether it is in use.
    pub in_use: bool,
    /// What is lost without it.
    pub without: &'static str,
}

/// The result of creating a context.
#[derive(Serialize)]
pub struct Library {
    /// "io_uring" or "portable".
    pub engine: Option<&'static str>,
    /// Why it is not io_uring.
    pub engine_reason: Option<String>,
    /// Why there is no context at all.
    pub error: Option<String>,
    /// The kernel's features.
    pub kernel_features: Vec<Found>,
}

impl Library {
    /// Creates a context as a program would, with SNAPSEND_ENGINE from the environment.
    pub fn look() -> Library {
        let info = match Context::new(&Options::default()).and_then(|context| context.info()) {
            Ok(info) => info,
            Err(error) => {
                let error = Some(error.to_string());
                let (engine, engine_reason) = (None, None);
                return Library { engine, engine_reason, error, kernel_features: Vec::new() };
            }
        };
        let found = |feature: &Feature| Found {
            name: feature.name,
            since: feature.since,
            in_use: info.kernel_features.contains(feature.bit),
            without: feature.without,
        };
        Library {
            engine: Some(if info.is_uring { "io_uring" } else { "portable" }),
            engine_reason: (!info.is_uring).then(|| engine_reason(info.engine_error)),
            error: None,
            kernel_features: FEATURES.iter().map(found).collect(),
        }
    }
}

fn engine_reason(error: Option<Errno>) -> String {
    let Some(error) = error else {
        return "selected by SNAPSEND_ENGINE".into();
    };
    let meaning = match rustix::io::Errno::from_raw_os_error(error.0) {
        rustix::io::Errno::PERM | rustix::io::Errno::ACCESS => {
            "refused by sysctl kernel.io_uring_disabled, a seccomp filter or a security module"
        }
        rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL => {
            "not in this kernel, or lacks a required feature (Linux 5.13)"
        }
        rustix::io::Errno::NOMEM => "RLIMIT_MEMLOCK or the memory is too small for a ring",
        rustix::io::Errno::MFILE | rustix::io::Errno::NFILE => "no descriptor is available",
        _ => "set-up failed",
    };
    format!("{meaning}: {error}")
}

/// RLIMIT_MEMLOCK, against which zero-copy sends are charged.
#[derive(Serialize)]
pub struct LockedMemory {
    /// The limit in bytes; none: unlimited.
    pub limit_bytes: Option<u64>,
    /// Whether CAP_IPC_LOCK exempts this process.
    pub exempt: bool,
}

impl LockedMemory {
    /// Of this process.
    pub fn look() -> LockedMemory {
        LockedMemory { limit_bytes: getrlimit(Resource::Memlock).current, exempt: can_lock() }
    }
}

/// CAP_IPC_LOCK in the effective set.
fn can_lock() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & 1 << CAP_IPC_LOCK != 0)
}

/// RLIMIT_NOFILE.
#[derive(Serialize)]
pub struct OpenFiles {
    /// The limit in force; none: unlimited.
    pub limit: Option<u64>,
    /// What the process may raise it to; none: unlimited.
    pub maximum: Option<u64>,
}

impl OpenFiles {
    /// Of this process.
    pub fn look() -> OpenFiles {
        let limit = getrlimit(Resource::Nofile);
        OpenFiles { limit: limit.current, maximum: limit.maximum }
    }
}

/// The library for unmodified binaries.
#[derive(Serialize)]
pub struct Preload {
    /// Where it was found.
    pub path: Option<PathBuf>,
    /// Whether LD_PRELOAD of this process names it.
    pub in_environment: bool,
    /// Why the dynamic loader would not load it.
    pub refused: Option<String>,
}

const PRELOAD: &str = "libsnapsend_preload.so";

impl Preload {
    /// Searches where snapsend-run does, in the same order.
    pub fn look() -> Preload {
        let named = std::env::var_os("LD_PRELOAD").unwrap_or_default();
        let in_environment = named.to_string_lossy().contains(PRELOAD);
        let Some(path) = places().into_iter().find(|path| path.is_file()) else {
            return Preload { path: None, in_environment, refused: None };
        };
        let path = path.canonicalize().unwrap_or(path);
        let refused = refusal(&path);
        Preload { path: Some(path), in_environment, refused }
    }
}

fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("SNAPSEND_PRELOAD").map(PathBuf::from).into_iter().collect();
    let itself = std::env::current_exe().unwrap_or_default();
    let here = itself.parent().unwrap_or(Path::new("/"));
    let multiarch = format!("../lib/{}-linux-gnu/snapsend", std::env::consts::ARCH);
    for folder in
        [".", "../lib/snapsend", &multiarch, "../lib64/snapsend", "../lib", "../target/release"]
    {
        places.push(here.join(folder).join(PRELOAD));
    }
    places
}

/// Asks the loader itself: it reports a library that it cannot load, and continues without it.
fn refusal(path: &Path) -> Option<String> {
    // The loader splits its list at these characters, and has no quoting.
    if path.to_string_lossy().contains([' ', ':']) {
        return Some("its path has a space or colon, at which the loader splits LD_PRELOAD".into());
    }
    let mut command = std::process::Command::new("/proc/self/exe");
    let output = command.arg("--version").env("LD_PRELOAD", path).output();
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    (!said.is_empty()).then_some(said)
}
