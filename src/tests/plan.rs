// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests each choice of a way separately.
#![forbid(unsafe_code)]

use crate::decide::frozen::FROZEN_MIN;
use crate::decide::plan::{
    Known, MAPPED_MIN, PAGE_CACHE_MAPPED_MIN, PAGE_CACHE_MIN, PageCache, Way, ZERO_COPY_MIN,
    ZeroCopy, choose, depends_on_residency,
};

fn all_known() -> Vec<Known> {
    let mut all = Vec::new();
    let at = [FROZEN_MIN, ZERO_COPY_MIN, MAPPED_MIN, PAGE_CACHE_MIN, PAGE_CACHE_MAPPED_MIN];
    let edges = at.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]);
    for remaining in edges.chain([1, 4096, 1 << 20, u64::MAX]) {
        for zero_copy in [ZeroCopy::Untried, ZeroCopy::Trying, ZeroCopy::Real, ZeroCopy::Useless] {
            for bits in 0..192u32 {
                let bit = |index: u32| bits & (1 << index) != 0;
                all.push(Known {
                    remaining,
                    resident: bit(0),
                    mappable: bit(1),
                    exact_end: bit(2),
                    zero_copy,
                    pool_has_room: bit(3),
                    may_pin: bit(4),
                    page_cache: [PageCache::Excluded, PageCache::NotMapped, PageCache::Mapped]
                        [bits as usize / 64],
                    by_reference: bit(5),
                });
            }
        }
    }
    all
}

#[test]
fn model_plan_maps_only_what_may_be_mapped() {
    for known in all_known() {
        let mapped = choose(&known) == Way::Mapped;
        let may = known.mappable && known.resident && !known.exact_end;
        assert!(!mapped || may && known.remaining >= MAPPED_MIN, "{known:?}");
    }
}

#[test]
fn model_plan_keeps_only_what_there_is_room_for_and_pays() {
    for known in all_known() {
        let zero_copy = choose(&known) == Way::PooledZeroCopy;
        let hopeful = matches!(known.zero_copy, ZeroCopy::Untried | ZeroCopy::Real);
        let room = known.pool_has_room && known.may_pin;
        let may = room && hopeful && known.remaining >= ZERO_COPY_MIN;
        let unread = matches!(choose(&known), Way::PageCache | Way::ByReference);
        assert_eq!(zero_copy, may && !unread, "{known:?}");
    }
}

#[test]
fn model_plan_lends_what_the_caller_lends_where_it_pays() {
    for known in all_known() {
        let least = match known.page_cache {
            PageCache::Excluded => u64::MAX,
            PageCache::NotMapped => PAGE_CACHE_MIN,
            PageCache::Mapped => PAGE_CACHE_MAPPED_MIN,
        };
        let is_possible = known.mappable && known.resident && known.may_pin;
        let may = is_possible
            && known.zero_copy != ZeroCopy::Useless
            && known.page_cache != PageCache::Excluded
            && known.remaining >= least;
        assert_eq!(choose(&known) == Way::PageCache, may, "{known:?}");
    }
}

#[test]
fn model_plan_sends_by_reference_what_the_socket_takes_and_what_is_not_zero_copy() {
    for known in all_known() {
        let may = known.by_reference && known.resident && known.remaining >= FROZEN_MIN;
        let lent = choose(&known) == Way::PageCache;
        assert_eq!(choose(&known) == Way::ByReference, may && !lent, "{known:?}");
    }
}

#[test]
fn model_plan_asks_about_residency_exactly_when_it_matters() {
    for known in all_known() {
        let [there, missing] = [true, false].map(|resident| choose(&Known { resident, ..known }));
        assert_eq!(depends_on_residency(&known), there != missing, "{known:?}");
        assert!(
            !matches!(missing, Way::Mapped | Way::PageCache | Way::ByReference),
            "a page fault would wait for the disk: {known:?}"
        );
        // Unless a condition forbids it, the cheapest way is chosen.
        let best = known.mappable && !known.exact_end && known.remaining >= MAPPED_MIN;
        let zero_copy = matches!(there, Way::PooledZeroCopy | Way::PageCache | Way::ByReference);
        assert_eq!(there == Way::Mapped, best && !zero_copy, "{known:?}");
    }
}
