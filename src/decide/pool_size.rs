// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the bytes of a pool are divided into blocks, and the share of leases that are kept until
//! sent.  Pure arithmetic, shared by the pool and by the limit that requests are checked against.
#![forbid(unsafe_code)]

use crate::types::options::{CHUNK_MAX, Settings};

/// The length of a page of the pool in bytes: leases are runs of such pages.  It does not depend on
/// the system's page size.  With larger pages of the system, a short lease takes no more of a pool
/// than elsewhere, and several leases share a page: each request refers to its own bytes only.
pub const POOL_PAGE: u64 = 4096;

/// The largest block in bytes: one huge page on most machines.
pub const BLOCK: u64 = CHUNK_MAX;

/// Returns the longest range that EXACT accepts, in bytes.
pub(crate) fn exact_max(settings: &Settings) -> u64 {
    kept_max(settings.pool_bytes - settings.staging_bytes)
}

/// Returns the most bytes that leases of `Purpose::Kept` may have together in a pool of `limit`
/// bytes.
pub fn kept_max(limit: u64) -> u64 {
    let (block_size, count) = blocks(limit);
    kept_of(block_size, count)
}

/// Returns the same for `count` blocks of `block_size` bytes.
pub fn kept_of(block_size: u64, count: usize) -> u64 {
    if count > 1 { (count as u64 * 3 / 4).max(1) * block_size } else { block_size / 4 * 3 }
}

/// Returns the block size in bytes of a pool of `limit` bytes, and the number of blocks.  A block is
/// mapped by itself: it has whole pages of the system if `limit` has one, because both sizes are
/// powers of two.
pub fn blocks(limit: u64) -> (u64, usize) {
    let block_size = BLOCK.min(prev_power_of_two(limit));
    (block_size, (limit / block_size) as usize)
}

fn prev_power_of_two(number: u64) -> u64 {
    1 << number.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_powers_of_two_and_fill_the_pool() {
        for limit in [1, 4096, 65_536, 100_000, BLOCK - 1, BLOCK, 3 * BLOCK / 2, 37 * BLOCK + 5] {
            let (size, count) = blocks(limit);
            assert!(size.is_power_of_two() && size <= BLOCK, "{limit}");
            assert!(size == BLOCK || 2 * size > limit, "{limit}");
            assert!(size * count as u64 <= limit && size * (count as u64 + 1) > limit, "{limit}");
        }
    }

    #[test]
    fn blocks_have_whole_pages_if_the_pool_has_one() {
        for page in [4 << 10, 16 << 10, 64 << 10] {
            for limit in [page, page + 1, 3 * page - 1, BLOCK - 1, BLOCK, 37 * BLOCK + 5] {
                assert_eq!(blocks(limit).0 % page, 0, "{limit}");
            }
        }
    }

    #[test]
    fn a_quarter_is_not_kept() {
        let shares = [(BLOCK / 2, BLOCK / 8 * 3), (BLOCK, BLOCK / 4 * 3), (2 * BLOCK, BLOCK)];
        for (limit, kept) in shares.into_iter().chain([(16 * BLOCK, 12 * BLOCK)]) {
            assert_eq!(kept_max(limit), kept, "{limit}");
        }
    }
}
