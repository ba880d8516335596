// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data that a simulated socket has taken: not the bytes, but the source of each byte.
#![forbid(unsafe_code)]

/// The source of a byte on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Header,
    /// From the range, as in the file.
    File,
    /// From the range, but a zero: a mapping shows zeros between the end of the file and the end
    /// of its page.
    Hole,
    /// From the range, a zero of ZERO_PAD.
    Padding,
    Trailer,
}

/// Bytes `from..from + length` of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) part: Part,
    pub(super) from: u64,
    pub(super) length: u64,
}

/// All bytes in the order in which they were sent.
#[derive(Default, Debug)]
pub(super) struct Wire {
    runs: Vec<Run>,
}

impl Wire {
    /// Adds bytes.
    pub(super) fn put(&mut self, part: Part, from: u64, length: u64) {
        match self.runs.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.part == part && last.from + last.length == from => {
                last.length += length;
            }
            _ => self.runs.push(Run { part, from, length }),
        }
    }

    /// Returns the number of bytes of these parts.
    pub(super) fn count(&self, parts: &[Part]) -> u64 {
        self.runs.iter().filter(|run| parts.contains(&run.part)).map(|run| run.length).sum()
    }

    /// Returns the number of bytes of the range.
    pub(super) fn range(&self) -> u64 {
        self.count(&[Part::File, Part::Hole, Part::Padding])
    }

    /// Panics unless this is a prefix of header, range and trailer of these lengths, without a gap
    /// or a repetition, and without a byte of the file after padding.
    pub(super) fn check(&self, header: u64, range: u64, trailer: u64) {
        let (mut at, mut padded) = (0, false);
        for run in &self.runs {
            let (before, length) = match run.part {
                Part::Header => (0, header),
                Part::Trailer => (header.saturating_add(range), trailer),
                _ => (header, range),
            };
            assert_eq!(before.saturating_add(run.from), at, "out of order: {self:?}");
            assert!(run.from + run.length <= length, "beyond its part: {self:?}");
            assert!(!(padded && run.part == Part::File), "data behind padding: {self:?}");
            padded |= run.part == Part::Padding;
            at += run.length;
        }
    }
}
