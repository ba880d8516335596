// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way that the data of an operation takes: the page cache itself, a mapping, the pool, or the
//! pool with zero-copy.  The function takes the known facts and chooses; it queries nothing.
#![forbid(unsafe_code)]

use super::frozen::FROZEN_MIN;

/// The result of earlier zero-copy sends on a socket, from the kernel's notifications.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ZeroCopy {
    /// None was tried yet.
    #[default]
    Untried,
    /// One is in flight and its notification is awaited.
    Trying,
    /// The kernel sent the data from our memory.
    Real,
    /// The kernel copied anyway, or does not support zero-copy here.
    Useless,
}

/// The facts when the next piece of a range is due.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Bytes of the range still to go.
    pub remaining: u64,
    /// Whether the next piece is in the page cache.
    pub resident: bool,
    /// Whether the file can be mapped.
    pub mappable: bool,
    /// Whether no byte beyond the end of a shrinking file may be sent: a mapping shows zeros up to
    /// the end of its last page.
    pub exact_end: bool,
    /// The result of earlier zero-copy sends on this socket.
    pub zero_copy: ZeroCopy,
    /// Whether the pool has room for data that a slow peer may keep for long.
    pub pool_has_room: bool,
    /// Whether the pinned-memory budget has room.
    pub may_pin: bool,
    /// Whether the file's own pages may be sent (ZEROCOPY, or content that cannot change), and of
    /// what use they are.
    pub page_cache: PageCache,
    /// Whether the socket takes references to the file's pages, whose content cannot change.
    pub by_reference: bool,
}

/// The use of a file's own pages for zero-copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PageCache {
    /// None: they are not lent, or their content may differ from what read(2) gives.
    #[default]
    Excluded,
    /// They must be mapped first.
    NotMapped,
    /// They are mapped already.
    Mapped,
}

/// A way for the next piece of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Send the page cache's own pages from a window that is kept.
    PageCache,
    /// Put references to the file's pages into the socket (sendfile(2)).
    ByReference,
    /// Map a window and send from it.
    Mapped,
    /// Read into the pool, then send a copy.
    Pooled,
    /// Read into the pool, then send from there with zero-copy.
    PooledZeroCopy,
}

/// Below this a copy costs less than the pinning and the notification (measured).
pub const ZERO_COPY_MIN: u64 = 256 << 10;
/// Below this a copy costs less than a zero-copy send of pages that are mapped already (measured).
pub const PAGE_CACHE_MAPPED_MIN: u64 = 16 << 10;
/// The same for pages that must be mapped first.
pub const PAGE_CACHE_MIN: u64 = 256 << 10;
/// Below this a mapping costs more than a second copy within the CPU's cache.
pub const MAPPED_MIN: u64 = 32 << 10;

/// Chooses the way of the next piece.
pub fn choose(known: &Known) -> Way {
    if may_lend(known) && known.resident {
        return Way::PageCache;
    }
    if known.by_reference && known.resident && known.remaining >= FROZEN_MIN {
        return Way::ByReference;
    }
    let zero_copy = known.remaining >= ZERO_COPY_MIN
        && known.pool_has_room
        && known.may_pin
        && matches!(known.zero_copy, ZeroCopy::Untried | ZeroCopy::Real);
    if zero_copy {
        return Way::PooledZeroCopy;
    }
    let mapped =
        known.resident && known.mappable && !known.exact_end && known.remaining >= MAPPED_MIN;
    if mapped { Way::Mapped } else { Way::Pooled }
}

// Returns whether pages that are resident are sent themselves.  As the caller asked for it, a trial
// in flight is no reason to copy.
fn may_lend(known: &Known) -> bool {
    let least = match known.page_cache {
        PageCache::Excluded => return false,
        PageCache::NotMapped => PAGE_CACHE_MIN,
        PageCache::Mapped => PAGE_CACHE_MAPPED_MIN,
    };
    known.remaining >= least
        && known.mappable
        && known.may_pin
        && known.zero_copy != ZeroCopy::Useless
}

/// Returns whether the choice depends on residency, which costs a system call to find out.
pub fn depends_on_residency(known: &Known) -> bool {
    choose(&Known { resident: true, ..*known }) != choose(&Known { resident: false, ..*known })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARM: Known = Known {
        remaining: 1 << 20,
        resident: true,
        mappable: true,
        exact_end: false,
        zero_copy: ZeroCopy::Useless,
        pool_has_room: true,
        may_pin: true,
        page_cache: PageCache::Excluded,
        by_reference: false,
    };

    #[test]
    fn warm_data_is_mapped_unless_its_end_must_be_exact() {
        assert_eq!(choose(&WARM), Way::Mapped);
        assert_eq!(choose(&Known { exact_end: true, ..WARM }), Way::Pooled);
        assert_eq!(choose(&Known { resident: false, ..WARM }), Way::Pooled);
        assert_eq!(choose(&Known { mappable: false, ..WARM }), Way::Pooled);
        assert_eq!(choose(&Known { remaining: 100, ..WARM }), Way::Pooled);
    }

    #[test]
    fn what_cannot_change_is_sent_by_reference_where_zero_copy_is_not() {
        let frozen = Known { by_reference: true, ..WARM };
        assert_eq!(choose(&frozen), Way::ByReference);
        assert_eq!(choose(&Known { exact_end: true, ..frozen }), Way::ByReference);
        assert_eq!(choose(&Known { zero_copy: ZeroCopy::Real, ..frozen }), Way::ByReference);
        assert_eq!(choose(&Known { remaining: FROZEN_MIN - 1, ..frozen }), Way::Mapped);
        assert_eq!(choose(&Known { resident: false, ..frozen }), Way::Pooled);
        assert!(depends_on_residency(&frozen));
        let remote = Known { page_cache: PageCache::Mapped, zero_copy: ZeroCopy::Real, ..frozen };
        assert_eq!(choose(&remote), Way::PageCache);
        assert_eq!(choose(&Known { may_pin: false, ..remote }), Way::ByReference);
    }

    #[test]
    fn zero_copy_is_tried_once_and_kept_where_it_is_real() {
        for (known, way) in [
            (ZeroCopy::Untried, Way::PooledZeroCopy),
            (ZeroCopy::Trying, Way::Mapped),
            (ZeroCopy::Real, Way::PooledZeroCopy),
            (ZeroCopy::Useless, Way::Mapped),
        ] {
            assert_eq!(choose(&Known { zero_copy: known, ..WARM }), way);
        }
        let short = Known { remaining: 64 << 10, zero_copy: ZeroCopy::Real, ..WARM };
        assert_eq!(choose(&short), Way::Mapped);
        let full = Known { zero_copy: ZeroCopy::Real, pool_has_room: false, ..WARM };
        assert_eq!(choose(&full), Way::Mapped);
    }

    #[test]
    fn pages_that_are_lent_are_sent_where_that_pays() {
        let lent = Known { page_cache: PageCache::Mapped, zero_copy: ZeroCopy::Real, ..WARM };
        assert_eq!(choose(&lent), Way::PageCache);
        assert_eq!(choose(&Known { remaining: 16 << 10, ..lent }), Way::PageCache);
        assert_eq!(choose(&Known { zero_copy: ZeroCopy::Trying, ..lent }), Way::PageCache);
        assert_eq!(
            choose(&Known { exact_end: true, pool_has_room: false, ..lent }),
            Way::PageCache
        );
        assert_eq!(choose(&Known { resident: false, ..lent }), Way::PooledZeroCopy);
        assert_eq!(choose(&Known { mappable: false, ..lent }), Way::PooledZeroCopy);
        assert_eq!(choose(&Known { zero_copy: ZeroCopy::Useless, ..lent }), Way::Mapped);
        assert_eq!(choose(&Known { may_pin: false, ..lent }), Way::Mapped);
        let not_mapped = Known { page_cache: PageCache::NotMapped, ..lent };
        assert_eq!(choose(&not_mapped), Way::PageCache);
        assert_eq!(choose(&Known { remaining: 200 << 10, ..not_mapped }), Way::Mapped);
        assert!(depends_on_residency(&lent));
    }
}
