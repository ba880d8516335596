// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives the shared library its SONAME, and has the header written.

#[cfg(feature = "c-interface")]
#[path = "build/header.rs"]
mod header;

// Programs that are linked to libsnapsend.so ask the loader for its SONAME.  The link beside it makes
// what cargo alone has built usable where it is; `make install` makes the links of an installation,
// and a library whose symbols carry versions (see Makefile).
#[cfg(feature = "c-interface")]
fn name_the_shared_library() {
    use std::env;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    let major = env::var("CARGO_PKG_VERSION_MAJOR").expect("set by cargo");
    let soname = format!("libsnapsend.so.{major}");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    // OUT_DIR is target/release/build/snapsend-.../out.
    let out = env::var("OUT_DIR").expect("set by cargo");
    if let Some(folder) = Path::new(&out).ancestors().nth(3) {
        // Of no effect where it is there already.
        let _ = symlink("libsnapsend.so", folder.join(soname));
    }
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Cargo passes the argument on to shared libraries that depend on this crate.  One with this
    // SONAME that is loaded first, as the LD_PRELOAD shim is, is taken for the library itself.
    #[cfg(feature = "c-interface")]
    {
        name_the_shared_library();
        header::write();
    }
}
