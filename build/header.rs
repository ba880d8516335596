// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes include/snapsend.h from the C edge.

use std::path::Path;
use std::{env, fs};

const PREFACE: &str = "\
/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * snapsend: sends a range of a file to a stream socket as one asynchronous operation, and reports
 * its completion only when no later change to the file can change what goes over the wire.
 *
 * Generated from src/ffi/mod.rs by cbindgen: do not edit.
 *
 * Conventions
 *   - Every function returns 0 or a positive count on success and -errno on failure, and leaves
 *     errno alone.  snapsend_sendfile() alone follows sendfile(2): -1 and errno.
 *   - Structs passed in come with their size, as openat2(2) does it: a shorter struct from an
 *     older caller is zero-extended, a longer one is accepted when the tail that this library does
 *     not know is all zero, otherwise -E2BIG.  Shorter than in the first version: -EINVAL.
 *     Structs filled in: at most their size is written, a longer tail is zeroed, shorter than in
 *     the first version gives -EINVAL.
 *   - A zero-initialised struct is valid wherever defaults make sense.
 *   - Unknown flag bits give -EINVAL.  NULL where a pointer is needed gives -EFAULT; the ids of
 *     submit may be NULL when the caller does not want them.  Other pointers must be valid, as
 *     everywhere in C, but for snapsend_sendfile()'s offset, which gives EFAULT.
 *   - What is wrong with the arguments or the kind of a descriptor is said by submit; what is
 *     wrong with the connection or the file's state is said by the completion.
 *   - All functions may be called from any thread at any time, except that nothing may be called
 *     on a context during or after snapsend_destroy().
 *   - After fork, each call on an inherited context gives -ECHILD in the child, but for
 *     snapsend_destroy(), which frees what the child has of it and returns 0.
 *   - snapsend_poll() is a cancellation point (pthreads(7)), and a thread that is cancelled in it has
 *     taken no completion.  No other function is one.
 *   - No function raises SIGPIPE, but for snapsend_sendfile(), as sendfile(2) does.
 */";

fn version_macros() -> String {
    let part = |name| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("set by cargo");
    format!(
        "/* The version of this header; snapsend_version() tells that of the library loaded. */\n\
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

// cbindgen writes Rust's u32 and u64 constants as plain ints; in C they shall be as wide and as
// unsigned as the fields that they go into.
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

/// Writes the header where it is not current.
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
    // Untouched when current, so that a packaged source tree stays as it is.
    if fs::read(&header).ok().as_deref() != Some(text.as_bytes()) {
        fs::create_dir_all(root.join("include")).expect("include/");
        fs::write(&header, text).expect("include/snapsend.h");
    }
}
