// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies where in memory: not the bytes, but which byte of what each of them is.  The real
//! memory is neither read nor written.
#![forbid(unsafe_code)]

use crate::sys::Span;
use std::collections::BTreeMap;

/// What a byte in memory is, as far as its place does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Header,
    Trailer,
    /// Of the file, as it was at this epoch.
    File(u32),
    /// Of the file, as it is when somebody looks.
    Window,
    /// Of a file whose content cannot change.
    Frozen,
    Zero,
}

impl What {
    pub(super) fn is_of_file(self) -> bool {
        matches!(self, What::File(_) | What::Window | What::Frozen)
    }
}

/// Bytes in a row: `at` is the position of the first in the header, the trailer or the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// The operation of a header or a trailer, the file of its bytes.
    pub(super) owner: usize,
    pub(super) what: What,
    pub(super) at: u64,
    pub(super) length: u64,
}

impl Piece {
    fn part(self, skip: u64, length: u64) -> Piece {
        Piece { at: self.at + skip, length, ..self }
    }
}

/// Pieces by address.
#[derive(Default, Debug)]
pub(super) struct Memory(BTreeMap<u64, Piece>);

impl Memory {
    /// A span has been written.
    pub(super) fn write(&mut self, address: usize, piece: Piece) {
        let (from, end) = (address as u64, address as u64 + piece.length);
        if piece.length == 0 {
            return;
        }
        let touched: Vec<u64> = self.pieces_in(from, end).map(|(at, _)| at).collect();
        for at in touched {
            let old = self.0.remove(&at).expect("it is there");
            if at < from {
                self.0.insert(at, old.part(0, from - at));
            }
            if at + old.length > end {
                self.0.insert(end, old.part(end - at, at + old.length - end));
            }
        }
        self.0.insert(from, piece);
    }

    fn pieces_in(&self, from: u64, end: u64) -> impl Iterator<Item = (u64, Piece)> + '_ {
        let first = self.0.range(..=from).next_back().map_or(from, |(&at, _)| at);
        let all = self.0.range(first..end).map(|(&at, &piece)| (at, piece));
        all.filter(move |(at, piece)| from < end && at + piece.length > from)
    }

    /// What a span holds, piece by piece; panics where nobody has written.
    pub(super) fn read(&self, span: Span) -> Vec<Piece> {
        let (mut at, end) = (span.address as u64, (span.address + span.length) as u64);
        let mut pieces = Vec::new();
        for (from, piece) in self.pieces_in(at, end) {
            assert!(from <= at, "memory that nobody has written is sent");
            let length = (from + piece.length).min(end) - at;
            pieces.push(piece.part(at - from, length));
            at += length;
        }
        assert!(at >= end, "memory that nobody has written is sent");
        pieces
    }
}
