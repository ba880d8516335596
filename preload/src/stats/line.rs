// SPDX-License-Identifier: MIT OR Apache-2.0
//! A line of statistics as text of a fixed length: made from counters, and parsed from the file.
//! Finding a place for it is in `place`.
#![forbid(unsafe_code)]

use std::io::{Cursor, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The length of a line in bytes; a whole number of lines fills a page.
pub const LENGTH: usize = 512;

/// The names of the counters, in the order in which they are printed.
pub const COUNTERS: [&str; 8] = [
    "socket_calls",
    "socket_bytes",
    "pipe_calls",
    "pipe_bytes",
    "passed_on",
    "passed_bytes",
    "frozen_calls",
    "frozen_bytes",
];

/// The names of what copies of long pieces have cost, see [`snapsend::preload::copy_costs`].
const COSTS: [&str; 2] = ["copy_mapped_ns_per_mib", "copy_256k_ns_per_mib"];

const START: &[u8] = b"snapsend pid=";

/// A program's name, as one word.
pub struct Name {
    text: [u8; 64],
    length: usize,
}

impl Name {
    /// Returns the name of an executable file, truncated if it is too long.
    pub fn of(path: &[u8]) -> Name {
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let mut text = [0; 64];
        for (to, &byte) in text.iter_mut().zip(name) {
            *to = if byte.is_ascii_graphic() { byte } else { b'?' };
        }
        Name { text, length: name.len().min(text.len()) }
    }

    fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

/// A line, possibly without the counters.
pub struct Line {
    text: [u8; LENGTH],
}

impl Line {
    /// Returns a line with the process and the program only.
    pub fn new(program: &Name, process: i32) -> Line {
        let mut text = [b' '; LENGTH];
        let mut out = Cursor::new(&mut text[..]);
        // There is room for the whole text.
        let _ = write!(out, "snapsend pid={process} program=");
        let _ = out.write_all(program.text());
        Line { text }
    }

    /// Returns a line from its text in the file.
    pub fn from_file(text: [u8; LENGTH]) -> Line {
        Line { text }
    }

    /// Returns whether no program has used the line yet.
    pub fn is_empty(&self) -> bool {
        self.text[0] == 0
    }

    /// Returns whether the text is a line of statistics.
    pub fn is_ours(&self) -> bool {
        self.text.starts_with(START)
    }

    /// Returns whether the line belongs to that program.
    pub fn is_of(&self, program: &Name) -> bool {
        self.is_ours() && self.value("program") == Some(program.text())
    }

    /// Returns how often the program has been started.
    pub fn runs(&self) -> u64 {
        self.number("runs")
    }

    /// Returns the values of the counters.
    pub fn counters(&self) -> [u64; COUNTERS.len()] {
        COUNTERS.map(|name| self.number(name))
    }

    /// Returns the whole text with these counters, what copies have cost and, if given, how often the
    /// program was started.
    pub fn with(
        &self,
        counters: &[AtomicU64; COUNTERS.len()],
        costs: [u64; COSTS.len()],
        runs: Option<u64>,
    ) -> [u8; LENGTH] {
        let mut text = self.text;
        let head = text.iter().rposition(|&byte| byte > b' ').map_or(0, |last| last + 1);
        let mut out = Cursor::new(&mut text[head..LENGTH - 1]);
        for (name, counter) in COUNTERS.iter().zip(counters) {
            let _ = write!(out, " {name}={}", counter.load(Relaxed));
        }
        for (name, cost) in COSTS.iter().zip(costs) {
            let _ = write!(out, " {name}={cost}");
        }
        if let Some(runs) = runs {
            let _ = write!(out, " runs={runs}");
        }
        text[LENGTH - 1] = b'\n';
        text
    }

    fn value(&self, key: &str) -> Option<&[u8]> {
        let mut words = self.text.split(|&byte| byte <= b' ');
        words.find_map(|word| word.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    }

    fn number(&self, key: &str) -> u64 {
        let digits = self.value(key).unwrap_or_default();
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}
