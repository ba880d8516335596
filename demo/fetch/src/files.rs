// SPDX-License-Identifier: MIT OR Apache-2.0
//! The local files that answers are compared with.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file under the server's root.
pub struct SharedFile {
    /// The path in requests.
    pub path: String,
    pub size: u64,
    file: File,
}

impl SharedFile {
    pub fn open(root: &Path, path: &str) -> Result<Self, String> {
        let name = root.join(path);
        let failed = |error| format!("{}: {error}", name.display());
        let file = File::open(&name).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(SharedFile { path: path.into(), size, file })
    }

    /// Compares `data` with the file at `offset`. Returns the first place at which they differ, if
    /// any; `scratch` is at least as long as `data`.
    pub fn compare(&self, offset: u64, data: &[u8], scratch: &mut [u8]) -> Option<u64> {
        let content = &mut scratch[..data.len()];
        if self.file.read_exact_at(content, offset).is_err() {
            return Some(offset);
        }
        if content == data {
            return None;
        }
        let same = content.iter().zip(data).take_while(|(ours, theirs)| ours == theirs).count();
        Some(offset + same as u64)
    }
}

/// splitmix64: a bijection, so that no two inputs give the same output.
pub fn mix(input: u64) -> u64 {
    let x = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Writes a file of `size` bytes. Each eight bytes are a function of their place and of the size,
/// so that bytes from a wrong place or from another file are detected.
pub fn make(path: &str, size: &str) -> Result<bool, String> {
    let size: u64 = size.parse().map_err(|_| format!("invalid size: {size}"))?;
    let failed = |error| format!("{path}: {error}");
    let mut out = BufWriter::with_capacity(1 << 18, File::create(path).map_err(failed)?);
    for word in 0..size.div_ceil(8) {
        let bytes = mix(mix(size).wrapping_add(word)).to_ne_bytes();
        let length = (size - word * 8).min(8) as usize;
        out.write_all(&bytes[..length]).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(true)
}
