// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes include/snapsend.h from the C edge.

use std::path::Path;
use std::{env, fs};

const PREFACE: &str = "\
/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * snapsend sends a range of a file to a stream socket as one asynchronous operation.  It reports
 * completion only when no later change to the file can change what goes over the wire,
 * retransmissions included.
 *
 * Generated from src/ffi/mod.rs by cbindgen: do not edit.
 *
 * Conventions
 *   - A function returns 0 or a positive count on success and -errno on failure, and does not
 *     change errno.  Only snapsend_sendfile() follows sendfile(2): it returns -1 and sets errno.
 *   - Each struct is passed with its size, as in openat2(2).
 *     Input: a shorter struct, from an older caller, is extended with zeros.  A longer one is
 *     accepted if the tail unknown to this library is all zero, otherwise the call fails with
 *     -E2BIG.
 *     Output: at most the given size is written; a longer tail is zeroed.
 *     Both: -EINVAL if smaller than the first published version.
 *   - A zero-initialised struct is valid wherever defaults make sense.
 *   - Unknown flag bits give -EINVAL.
 *   - NULL for a required pointer gives -EFAULT.  The ids of the submit functions may be NULL.
 *     Other pointers must be valid, as everywhere in C.  Only snapsend_sendfile() reports an
 *     invalid offset pointer, with EFAULT.
 *   - Submit reports errors in the arguments and descriptors of the wrong kind.  The completion
 *     reports errors of the connection and of the state of the file.
 *   - Any thread may call any function at any time, except that no thread may use a context
 *     during or after snapsend_destroy().
 *   - After fork(2), calls on an inherited context give -ECHILD in the child, except for
 *     snapsend_destroy(), which frees the child's copy and returns 0.
 *   - snapsend_poll() is a cancellation point (pthreads(7)).  A thread that is cancelled in it has
 *     taken no completion.  No other function is a cancellation point.
 *   - No function raises SIGPIPE, except snapsend_sendfile(), which raises it as sendfile(2) does.
 */";

fn version_macros() -> String {
    let part = |name| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("set by cargo");
    format!(
        "/* The version of this header; snapsend_version() returns that of the loaded library. */\n\
         #define SNAPSEND_VERSION_MAJOR {}\n\
         #define SNAPSEND_VERSION_MINOR {}\n\
         #define SNAPSEND_VERSION_PATCH {}\n\
         #define SNAPSEND_VERSION \\\n    \
         (SNAPSEND_VERSION_MAJOR << 16 | SNAPSEND_VERSION_MINOR << 8 | SNAPSEND_VERSION_PATCH)",
        part("MAJOR"),
        part("MINOR"),
        part("PATCH")
    )
}

// cbindgen writes Rust's u32 and u64 constants as plain ints.  In C they must have the width and
// the signedness of the fields that they are stored in.
fn with_unsigned_constants(header: &str) -> String {
    let unsigned = |line: &str| -> Option<String> {
        let (name, value) = line.strip_prefix("#define SNAPSEND_")?.split_once(' ')?;
        let value = if let Some(shift) = value.strip_prefix("(1 <<") {
            let one = if name.starts_with("KERNEL_") { "UINT64_C(1)" } else { "1u" };
            format!("({one} <<{shift}")
        } else if name.starts_with("ENGINE_") || name.starts_with("EVENT_") {
            format!("{value}u")
        } else {
            return None;
        };
        Some(format!("#define SNAPSEND_{name} {value}"))
    };
    let line = |line: &str| unsigned(line).unwrap_or_else(|| line.to_string()) + "\n";
    header.lines().map(line).collect()
}

/// Writes the header unless it is current.
pub fn write() {
    println!("cargo:rerun-if-changed=src/ffi/mod.rs");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=include/snapsend.h");
    let root = env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let root = Path::new(&root);
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_header(PREFACE)
        .with_after_include(version_macros())
        .with_src(root.join("src/ffi/mod.rs"))
        .generate()
        .expect("the C edge can be expressed in C");
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = with_unsigned_constants(&String::from_utf8(text).expect("UTF-8"));
    let header = root.join("include/snapsend.h");
    // A current header is not written, so that a packaged source tree stays unchanged.
    if fs::read(&header).ok().as_deref() != Some(text.as_bytes()) {
        fs::create_dir_all(root.join("include")).expect("include/");
        fs::write(&header, text).expect("include/snapsend.h");
    }
}
