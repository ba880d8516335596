// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the leases of the pool with a list.
#![forbid(unsafe_code)]

use super::{Script, cases, script};
use crate::decide::pool_size::POOL_PAGE;
use crate::ring::pool::{Lease, Pool, Purpose};
use crate::sys::Span;
use proptest::prelude::*;

struct Held {
    lease: Lease,
    address: usize,
    bytes: u64,
    block: usize,
    uses: u32,
    purpose: Purpose,
}

impl Held {
    fn end(&self) -> usize {
        self.address + self.bytes as usize
    }
}

struct World {
    pool: Pool,
    limit: u64,
    held: Vec<Held>,
    /// Bytes reserved by reserve(), and those of them that leases have taken.
    reserved: u64,
}

impl World {
    fn new(limit: u64) -> World {
        World { pool: Pool::new(limit).expect("memory"), limit, held: Vec::new(), reserved: 0 }
    }

    fn sum(&self, purposes: &[Purpose]) -> u64 {
        let held = self.held.iter().filter(|held| purposes.contains(&held.purpose));
        held.map(|held| held.bytes).sum()
    }

    fn kept(&self) -> u64 {
        self.reserved + self.sum(&[Purpose::Kept])
    }

    fn step(&mut self, script: &mut Script) {
        match script.pick(16) {
            0..=3 => self.release(script),
            4..=10 => self.acquire(script),
            11 | 12 => self.retain(script),
            13 => self.reserve(script),
            14 => self.unreserve(script),
            _ => self.drop_blocks(),
        }
        self.check();
    }

    fn length(&self, script: &mut Script) -> u64 {
        let most = self.pool.lease_max();
        let pages = most / POOL_PAGE;
        match script.pick(4) {
            0 => most,
            1 => script.pick(most.min(1 << 16)) + 1,
            2 => (script.pick(pages) + 1) * POOL_PAGE,
            _ => (script.pick(pages.div_ceil(8)) + 1) * POOL_PAGE,
        }
    }

    fn acquire(&mut self, script: &mut Script) {
        let length = self.length(script);
        let bytes = length.next_multiple_of(POOL_PAGE);
        let mut purpose = [Purpose::Passing, Purpose::Kept][script.pick(2) as usize];
        if self.sum(&[Purpose::Reserved]) + bytes <= self.reserved && script.pick(2) == 0 {
            purpose = Purpose::Reserved;
        }
        let over = purpose == Purpose::Kept && self.kept() + bytes > self.pool.kept_max();
        let due = !over && self.has_run(bytes);
        let lease = self.pool.acquire(length, purpose);
        assert_eq!(lease.is_some(), due, "{length} bytes for {purpose:?}");
        let Some(lease) = lease else { return };
        let (span, block) = (self.pool.span(lease).as_span(), self.pool.block_of(lease));
        assert_eq!(span.len() as u64, bytes);
        let address = span.address;
        self.held.push(Held { lease, address, bytes, block, uses: 1, purpose });
    }

    // Returns whether a block has this much in one piece.
    fn has_run(&self, bytes: u64) -> bool {
        (0..self.pool.block_count()).any(|block| {
            let span = self.pool.block_span(block).map(|span| span.as_span());
            let Some(Span { address, length }) = span else {
                return true;
            };
            let held = self.held.iter().filter(|held| held.block == block);
            let mut taken: Vec<_> = held.map(|held| (held.address, held.end())).collect();
            taken.push((address + length, 0));
            taken.sort_unstable();
            let mut free_from = address;
            taken.iter().any(|&(start, end)| {
                let gap = start - free_from;
                free_from = end;
                gap as u64 >= bytes
            })
        })
    }

    fn some(&self, script: &mut Script) -> Option<usize> {
        let index = script.pick(self.held.len().max(1) as u64) as usize;
        (index < self.held.len()).then_some(index)
    }

    fn retain(&mut self, script: &mut Script) {
        if let Some(index) = self.some(script) {
            self.pool.retain(self.held[index].lease);
            self.held[index].uses += 1;
        }
    }

    fn release(&mut self, script: &mut Script) {
        if let Some(index) = self.some(script) {
            self.pool.release(self.held[index].lease);
            self.held[index].uses -= 1;
            if self.held[index].uses == 0 {
                self.held.swap_remove(index);
            }
        }
    }

    // As for EXACT: only what may be kept.
    fn reserve(&mut self, script: &mut Script) {
        let bytes = self.length(script).next_multiple_of(POOL_PAGE);
        let may = self.kept() + bytes <= self.pool.kept_max();
        assert_eq!(self.pool.may_keep(bytes), may);
        if may {
            self.pool.reserve(bytes);
            self.reserved += bytes;
        }
    }

    fn unreserve(&mut self, script: &mut Script) {
        let unused = (self.reserved - self.sum(&[Purpose::Reserved])) / POOL_PAGE;
        let bytes = script.at_most(unused.min(1 << 15)) * POOL_PAGE;
        self.pool.unreserve(bytes);
        self.reserved -= bytes;
    }

    fn drop_blocks(&mut self) {
        for block in self.pool.idle_blocks().collect::<Vec<_>>() {
            self.pool.drop_block(block);
            assert!(self.pool.block_span(block).is_none());
        }
    }

    fn check(&self) {
        let pool = &self.pool;
        assert_eq!(pool.in_use(), self.held.iter().map(|held| held.bytes).sum::<u64>());
        assert!(pool.in_use() <= pool.resident() && pool.resident() <= self.limit);
        assert!(self.kept() <= pool.kept_max() && pool.kept_max() < self.limit.max(POOL_PAGE + 1));
        let left = (pool.kept_max() - self.kept()) / POOL_PAGE * POOL_PAGE;
        assert!(pool.may_keep(left) && !pool.may_keep(left + 1));
        let idle: Vec<usize> = pool.idle_blocks().collect();
        for (index, held) in self.held.iter().enumerate() {
            let span = pool.span(held.lease).as_span();
            assert_eq!((span.address, span.length as u64), (held.address, held.bytes), "moved");
            let block = pool.block_span(held.block).expect("its block is there").as_span();
            assert!(block.address <= held.address);
            assert!(held.end() <= block.address + block.length);
            assert!(!idle.contains(&held.block), "a block in use is called idle");
            let others = &self.held[index + 1..];
            let apart = |a: &Held, b: &Held| a.end() <= b.address || b.end() <= a.address;
            assert!(others.iter().all(|other| apart(held, other)), "two leases overlap");
        }
    }

    fn give_all_back(&mut self) {
        while let Some(held) = self.held.last() {
            for _ in 0..held.uses {
                self.pool.release(held.lease);
            }
            self.held.pop();
        }
        self.pool.unreserve(self.reserved);
        self.reserved = 0;
        self.check();
        self.drop_blocks();
        assert_eq!((self.pool.in_use(), self.pool.resident()), (0, 0));
        assert!(self.pool.may_keep(self.pool.kept_max() / POOL_PAGE * POOL_PAGE));
    }
}

fn limit() -> impl Strategy<Value = u64> {
    let small = (2u64..200).prop_map(|pages| pages * POOL_PAGE);
    let any = 8192u64..3 << 20;
    prop_oneof![4 => small, 1 => any, 2 => (1u64..5).prop_map(|blocks| blocks * (2 << 20))]
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn model_pool_leases_stay_apart_and_come_back(limit in limit(), mut script in script(120)) {
        let mut world = World::new(limit);
        while !script.is_over() {
            world.step(&mut script);
        }
        world.give_all_back();
    }
}
