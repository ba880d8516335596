// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the bytes of a pool are divided.
#![forbid(unsafe_code)]

/// The most of a block: one huge page.
pub const BLOCK: u64 = crate::types::options::CHUNK_MAX;

/// How many bytes leases of purpose `Purpose::Kept` may have together in a pool of `limit` bytes.
pub fn kept_max(limit: u64) -> u64 {
    let (block_size, count) = blocks(limit);
    kept_of(block_size, count)
}

/// The same, of so many blocks.
pub fn kept_of(block_size: u64, count: usize) -> u64 {
    if count > 1 { (count as u64 * 3 / 4).max(1) * block_size } else { block_size / 4 * 3 }
}

/// The size of the blocks of a pool of `limit` bytes, and how many there are.
pub fn blocks(limit: u64) -> (u64, usize) {
    let block_size = BLOCK.min(prev_power_of_two(limit));
    (block_size, (limit / block_size) as usize)
}

fn prev_power_of_two(number: u64) -> u64 {
    1 << number.ilog2()
}
