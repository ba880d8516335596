// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report as plain text.

use crate::Report;
use crate::machine::{Library, LockedMemory, Preload};
use crate::probe::Sent;
use std::fmt::Write;

/// The whole report, one subject a line.
pub fn of(report: &Report) -> String {
    let mut text = format!(
        "snapsend {} on Linux {} ({})\n\n",
        report.version, report.kernel, report.architecture
    );
    library(&mut text, &report.library);
    line(&mut text, "page size", &format!("{} bytes", report.page_size));
    line(&mut text, "locked memory", &locked(&report.locked_memory));
    let maximum = number(report.open_files.maximum);
    let open = format!(
        "{} (RLIMIT_NOFILE, can be raised to {maximum}): bounds the operations in flight",
        number(report.open_files.limit)
    );
    line(&mut text, "open files", &open);
    line(&mut text, "preload library", &preload(&report.preload));
    if let Some(sent) = &report.socket {
        line(&mut text, &format!("to {}", sent.peer), &socket(sent));
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name:<24} {value}");
}

fn number(limit: Option<u64>) -> String {
    limit.map_or("unlimited".into(), |limit| limit.to_string())
}

fn library(text: &mut String, library: &Library) {
    if let Some(error) = &library.error {
        line(text, "library", &format!("cannot create a context: {error}"));
    }
    if let Some(engine) = library.engine {
        let reason = library.engine_reason.as_ref();
        let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
        line(text, "engine", &format!("{engine}{reason}"));
    }
    for feature in &library.kernel_features {
        let value = if feature.in_use {
            "yes".to_owned()
        } else {
            format!("no: {} (Linux {})", feature.without, feature.since)
        };
        line(text, &format!("  {}", feature.name), &value);
    }
}

fn locked(memory: &LockedMemory) -> String {
    match (memory.exempt, memory.limit_bytes) {
        (true, _) => "no limit for this process, which has CAP_IPC_LOCK".into(),
        (false, None) => "unlimited (RLIMIT_MEMLOCK)".into(),
        (false, Some(limit)) => format!(
            "{} KiB (RLIMIT_MEMLOCK): bounds this user's data in flight without a copy; the rest \
             is copied",
            limit / 1024
        ),
    }
}

fn preload(preload: &Preload) -> String {
    let place = match (&preload.path, &preload.refused) {
        (None, _) => "not found".into(),
        (Some(path), None) => path.display().to_string(),
        (Some(path), Some(refused)) => format!("{} cannot be loaded: {refused}", path.display()),
    };
    let environment = if preload.in_environment { " (in LD_PRELOAD)" } else { "" };
    place + environment
}

fn socket(sent: &Sent) -> String {
    if let Some(error) = &sent.error {
        return format!("failed after {} bytes: {error}", sent.wire_bytes);
    }
    let verdict = if sent.zerocopy_is_real {
        "zero-copy is real"
    } else if sent.zerocopy_copied_anyway > 0 {
        "zero-copy is not real: the kernel copied, as it does to peers on the same machine"
    } else {
        "zero-copy was not used"
    };
    format!(
        "{verdict}; {} bytes sent, {} without a copy, {} copied",
        sent.wire_bytes, sent.bytes_zerocopy, sent.bytes_copied
    )
}
