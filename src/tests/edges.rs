// SPDX-License-Identifier: MIT OR Apache-2.0
//! Input at its limits: requests, copies of their headers and trailers, and the tokens that the
//! kernel returns.
#![forbid(unsafe_code)]

use super::{PAGE_SIZES, Script, cases, script};
use crate::decide::token::{Kind, Token};
use crate::handoff::staging::{self, IOVECS_MAX, STAGED_MAX, Staged, Staging};
use crate::sys;
use crate::types::errno::Errno;
use crate::types::options::{EngineChoice, Options, POOL_MIN, Settings};
use crate::types::request::{Descriptor, Request, RequestFlags, TO_EOF};
use proptest::prelude::*;
use std::io::{IoSlice, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

const FILE_MAX: u64 = i64::MAX as u64;

/// Numbers at and around the limits of file offsets.
fn position() -> impl Strategy<Value = u64> {
    let near = |at: u64| (0..3u64).prop_map(move |more| at.saturating_add(more).wrapping_sub(1));
    prop_oneof![
        Just(0),
        1..1000u64,
        near(FILE_MAX),
        near(FILE_MAX - 1000),
        near(1 << 20),
        Just(TO_EOF),
        any::<u64>(),
    ]
}

/// The number of slices and their length: mostly small, sometimes at the limit.
fn slices() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![
        4 => (0..4usize, 0..100usize),
        1 => (Just(1), STAGED_MAX - 1..=STAGED_MAX + 1),
        1 => (Just(2), STAGED_MAX / 2 - 1..=STAGED_MAX / 2 + 1),
        1 => (IOVECS_MAX - 1..=IOVECS_MAX + 1, 0..3usize),
    ]
}

fn request<'a>(header: &'a [IoSlice<'a>], trailer: &'a [IoSlice<'a>]) -> Request<'a> {
    Request {
        socket: Descriptor::Number(0),
        file: Some(Descriptor::Number(1)),
        offset: 0,
        length: 1,
        header,
        trailer,
        flags: RequestFlags::empty(),
        timeout: None,
        user_data: 0,
    }
}

/// Returns all errors of a request according to the header file.
fn faults(request: &Request<'_>) -> Vec<i32> {
    let has = |flag| request.flags.contains(flag);
    let (exact, pads) = (has(RequestFlags::EXACT), has(RequestFlags::ZERO_PAD));
    let to_eof = request.length == TO_EOF;
    let (offset, length) = (u128::from(request.offset), u128::from(request.length));
    let count = |slices: &[IoSlice<'_>]| slices.iter().map(|slice| slice.len()).sum::<usize>();
    let staged = count(request.header) + count(request.trailer);
    let entries = request.header.len().max(request.trailer.len());
    let faults = [
        (request.flags.bits() >= 1 << 7, libc::EINVAL),
        (has(RequestFlags::ZEROCOPY) && (exact || has(RequestFlags::EAGER)), libc::EINVAL),
        (pads && (exact || to_eof), libc::EINVAL),
        (request.file.is_none() && request.length != 0, libc::EINVAL),
        (offset > u128::from(FILE_MAX), libc::EINVAL),
        (!to_eof && offset + length > u128::from(FILE_MAX), libc::EOVERFLOW),
        (staged > STAGED_MAX || entries > IOVECS_MAX, libc::EMSGSIZE),
    ];
    faults.into_iter().filter(|(wrong, _)| *wrong).map(|(_, errno)| errno).collect()
}

fn check_request(request: &Request<'_>) {
    let faults = faults(request);
    let checked = request.check().and_then(|()| staging::lengths(request).map(|_| ()));
    match checked {
        Ok(()) => assert_eq!(faults, []),
        Err(Errno(errno)) => assert!(faults.contains(&errno), "{errno} is not in {faults:?}"),
    }
}

#[test]
fn a_pool_has_a_page_besides_headers_and_trailers() {
    for page in PAGE_SIZES {
        for asked in [POOL_MIN, POOL_MIN + 1, 100_000, 128 << 10, 200_000, 1 << 20] {
            let options = Options::new().engine(EngineChoice::Portable).pool_bytes(asked);
            let settings = Settings::from_options(&options, page).expect("within the limits");
            assert_eq!(settings.pool_bytes, asked.max(2 * page));
            assert!(settings.pool_bytes - settings.staging_bytes >= page);
        }
        let too_small = Options::new().pool_bytes(POOL_MIN - 1);
        assert!(Settings::from_options(&too_small, page).is_err());
    }
}

proptest! {
    #![proptest_config(cases(30_000))]

    #[test]
    fn model_request_is_checked_to_the_byte(
        (offset, length) in (position(), position()),
        flags in prop_oneof![4 => 0u32..128, 1 => 0u32..256, 1 => any::<u32>()],
        file in prop::option::weighted(0.8, 0..3i32),
        (headers, trailers) in (slices(), slices()),
    ) {
        static BYTES: [u8; STAGED_MAX + 1] = [0; STAGED_MAX + 1];
        let header = vec![IoSlice::new(&BYTES[..headers.1]); headers.0];
        let trailer = vec![IoSlice::new(&BYTES[..trailers.1]); trailers.0];
        let flags = RequestFlags::from_bits_retain(flags);
        let exact = RequestFlags::EXACT;
        let file = file.map(Descriptor::Number);
        let plain = request(&header, &trailer);
        check_request(&Request { file, offset, length, flags, ..plain });
        // One field at a time, so that each limit is also tested alone.
        check_request(&plain);
        check_request(&Request { offset, length, ..request(&[], &[]) });
        check_request(&Request { length, flags: exact, ..request(&[], &[]) });
        check_request(&Request { length, flags, ..request(&[], &[]) });
        check_request(&Request { file, length, ..request(&[], &[]) });
    }
}

/// Copies in use, and their expected content.
struct Copies {
    staging: Staging,
    limit: u64,
    out: Vec<(Staged, Vec<u8>, u64)>,
    stamp: u8,
}

impl Copies {
    fn step(&mut self, script: &mut Script) {
        match script.pick(8) {
            0..=2 => {
                let index = script.pick(self.out.len().max(1) as u64) as usize;
                if index < self.out.len() {
                    self.staging.release(self.out.swap_remove(index).0);
                }
            }
            _ => self.copy(script),
        }
        let used: u64 = self.out.iter().map(|(_, _, size)| size).sum();
        assert_eq!(self.staging.used(), used);
        assert!(used <= self.limit);
    }

    fn copy(&mut self, script: &mut Script) {
        let mut length = || [0, 1, 255, 256, 257, 511, 513, 3000][script.pick(8) as usize];
        let (first, second, trailer) = (length(), length(), length());
        self.stamp = self.stamp.wrapping_add(1);
        let stamp = self.stamp;
        let bytes: Vec<u8> =
            (0..first + second + trailer).map(|index| (index as u8).wrapping_add(stamp)).collect();
        let (head, tail) = bytes.split_at(first + second);
        let header = [IoSlice::new(&head[..first]), IoSlice::new(&head[first..])];
        let trailer = [IoSlice::new(tail)];
        let request = request(&header, &trailer);
        let lengths = staging::lengths(&request).expect("within the limits");
        let copied = self.staging.copy(&request, lengths);
        // Small ones count as 256 bytes, the size in which they are reused.
        let size = if bytes.is_empty() { 0 } else { bytes.len().max(256) as u64 };
        let used: u64 = self.out.iter().map(|(_, _, size)| size).sum();
        match copied {
            Ok(staged) => {
                assert_eq!(staged.header_length() as usize, head.len());
                assert_eq!(staged.trailer_length() as usize, tail.len());
                self.out.push((staged, bytes, size));
            }
            Err(Errno(libc::EMSGSIZE)) => assert!(size > self.limit),
            Err(Errno(libc::EAGAIN)) => assert!(size <= self.limit && used + size > self.limit),
            Err(error) => panic!("{error:?}"),
        }
    }

    // Returns the content of a copy, read through a socket as in real use.
    fn read_back(&self, script: &mut Script) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        for (staged, bytes, _) in &self.out {
            let (header, trailer) = (staged.header_length(), staged.trailer_length());
            let cut = script.pick(u64::from(header) + 1) as u32;
            let parts = [
                staged.header((0, cut)),
                staged.header((cut, header - cut)),
                staged.trailer((0, trailer)),
            ];
            let sent = sys::send_parts(ours.as_raw_fd(), &parts, 0).expect("room for 10 KiB");
            let mut back = vec![0; bytes.len()];
            theirs.read_exact(&mut back[..sent]).expect("what was sent");
            assert_eq!(&back, bytes);
        }
    }
}

proptest! {
    #![proptest_config(cases(5_000))]

    #[test]
    fn model_staging_counts_and_keeps_what_it_copies(
        limit in prop_oneof![0..4000u64, 4000..40_000u64],
        mut script in script(80),
    ) {
        let staging = Staging::new(limit);
        let mut copies = Copies { staging, limit, out: Vec::new(), stamp: 0 };
        while !script.is_over() {
            copies.step(&mut script);
        }
        copies.read_back(&mut script);
        for (staged, _, _) in copies.out.drain(..) {
            copies.staging.release(staged);
        }
        assert_eq!(copies.staging.used(), 0);
    }

    #[test]
    fn model_token_keeps_kind_slot_and_generation(
        (kind, other) in (0..10usize, 0..10usize),
        slot in prop_oneof![0..1usize << 24, Just((1 << 24) - 1)],
        generation: u64,
        raw: u64,
    ) {
        let kinds = [
            Kind::Intake, Kind::Send, Kind::ZeroCopy, Kind::Read, Kind::Writable, Kind::Disarm,
            Kind::Helpers, Kind::Inspect, Kind::Close, Kind::Clone,
        ];
        let token = Token::new(kinds[kind], slot, generation);
        let back = Token::from_raw(token.raw()).expect("our own");
        assert_eq!((back.kind(), back.slot()), (kinds[kind], slot));
        assert_eq!(token.with_kind(kinds[other]), Token::new(kinds[other], slot, generation));
        assert!(back.is_of(generation));
        assert!((0..32).all(|bit| !back.is_of(generation ^ 1 << bit)), "a late one passes");
        // A number that was never made is not a token, or a token of a kind that exists.
        assert_eq!(Token::from_raw(raw).is_some(), raw >> 56 < 10);
    }
}
