// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests: each path as a whole and by ranges of all kinds, in a random order.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use crate::files::{SharedFile, mix};

/// The longest range, with some exceptions.
const RANGE_MAX: u64 = 256 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Whole,
    Range,
    OpenEnded,
    Suffix,
    Beyond,
    Head,
    Missing,
    Abandoned,
}

/// By `Kind`.
pub const KIND_NAMES: [&str; 8] = [
    "whole",
    "range",
    "open-ended range",
    "suffix range",
    "range past the end",
    "HEAD",
    "missing file",
    "abandoned half-way",
];

/// One request and its expected answer.
pub struct Job<'a> {
    pub file: &'a SharedFile,
    pub kind: Kind,
    /// The expected part of the file.
    pub offset: u64,
    pub length: u64,
    /// Asks the server to close the connection afterwards.
    pub last: bool,
    /// HTTP/1.0, which closes without being asked.
    old: bool,
    /// The distance behind the end at which a range beyond it begins.
    beyond: u64,
}

impl fmt::Display for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Job { kind, file, offset, length, .. } = self;
        let kind = KIND_NAMES[*kind as usize];
        write!(f, "{kind} of {}, offset {offset}, length {length}", file.path)
    }
}

impl Job<'_> {
    pub fn request(&self) -> String {
        let Job { offset, length, file, .. } = self;
        let range = match self.kind {
            Kind::Range => format!("Range: bytes={offset}-{}\r\n", offset + length - 1),
            Kind::OpenEnded => format!("Range: bytes={offset}-\r\n"),
            Kind::Suffix => format!("Range: bytes=-{length}\r\n"),
            Kind::Beyond => format!("Range: bytes={}-\r\n", file.size + self.beyond),
            _ => String::new(),
        };
        format!(
            "{} /{}{} HTTP/1.{}\r\nHost: localhost\r\n{range}{}\r\n",
            if self.kind == Kind::Head { "HEAD" } else { "GET" },
            file.path,
            if self.kind == Kind::Missing { ".missing" } else { "" },
            u8::from(!self.old),
            if self.last && !self.old { "Connection: close\r\n" } else { "" },
        )
    }

    pub fn expected_status(&self) -> u16 {
        match self.kind {
            Kind::Range | Kind::OpenEnded | Kind::Suffix => 206,
            Kind::Beyond => 416,
            Kind::Missing => 404,
            _ => 200,
        }
    }

    /// Content-Range of the answer.
    pub fn expected_range(&self) -> Option<String> {
        let last = (self.offset + self.length).saturating_sub(1);
        (self.expected_status() == 206)
            .then(|| format!("bytes {}-{last}/{}", self.offset, self.file.size))
    }
}

/// Hands out jobs to all connections.
pub struct Jobs {
    files: Vec<SharedFile>,
    whole: u64,
    /// If set: random ranges until that time, instead of those in `order`.
    until: Option<Instant>,
    order: Vec<u64>,
    next: AtomicUsize,
    random: AtomicU64,
}

impl Jobs {
    pub fn new(
        files: Vec<SharedFile>,
        whole: u64,
        ranges: u64,
        until: Option<Instant>,
        seed: u64,
    ) -> Result<Self, String> {
        if let (Some(file), true) = (files.iter().find(|file| file.size == 0), until.is_some()) {
            return Err(format!("{} is empty", file.path));
        }
        let count = files.len() as u64 * (whole + ranges);
        let mut jobs = Jobs {
            files,
            whole,
            until,
            order: (0..count).collect(),
            next: AtomicUsize::new(0),
            random: AtomicU64::new(mix(seed)),
        };
        for i in 0..jobs.order.len() {
            let other = jobs.random_below(i as u64 + 1) as usize;
            jobs.order.swap(i, other);
        }
        Ok(jobs)
    }

    /// `None`: as many as the time allows.
    pub fn count(&self) -> Option<u64> {
        self.until.is_none().then_some(self.order.len() as u64)
    }

    fn random_below(&self, bound: u64) -> u64 {
        mix(self.random.fetch_add(1, Relaxed)) % bound
    }

    /// Returns the next requests to send together: one to `most`. Empty: none is left.
    pub fn next_batch(&self, most: u64) -> Vec<Job<'_>> {
        let most = 1 + self.random_below(most);
        let mut batch = Vec::new();
        while (batch.len() as u64) < most {
            let Some(job) = self.next_job() else { break };
            let last = job.last;
            batch.push(job);
            if last {
                break;
            }
        }
        batch
    }

    fn next_job(&self) -> Option<Job<'_>> {
        if let Some(until) = self.until {
            let file = &self.files[self.random_below(self.files.len() as u64) as usize];
            return (Instant::now() < until).then(|| self.job(Kind::Range, file, false));
        }
        let number = *self.order.get(self.next.fetch_add(1, Relaxed))?;
        let count = self.files.len() as u64;
        let file = &self.files[(number % count) as usize];
        let kind = if number / count < self.whole { Kind::Whole } else { self.random_kind(file) };
        let last = kind == Kind::Abandoned || self.random_below(16) == 0;
        Some(self.job(kind, file, last))
    }

    fn random_kind(&self, file: &SharedFile) -> Kind {
        use Kind::*;
        let kinds = [
            Range, Range, Range, Range, Range, Range, Range, Range, OpenEnded, OpenEnded, Suffix,
            Suffix, Beyond, Head, Missing, Abandoned,
        ];
        match kinds[self.random_below(kinds.len() as u64) as usize] {
            Suffix | Abandoned if file.size == 0 => Head,
            Range | OpenEnded if file.size == 0 => Beyond,
            kind => kind,
        }
    }

    fn job<'a>(&self, kind: Kind, file: &'a SharedFile, last: bool) -> Job<'a> {
        let (mut offset, mut length) = (0, file.size);
        if matches!(kind, Kind::Range | Kind::OpenEnded | Kind::Suffix) {
            let long = self.until.is_none() && self.random_below(64) == 0; // now and then
            length = 1 + self.random_below(if long { file.size } else { file.size.min(RANGE_MAX) });
            offset = match kind {
                Kind::Range => self.random_below(file.size - length + 1),
                _ => file.size - length,
            };
        }
        let old = last && self.random_below(2) == 0;
        Job { file, kind, offset, length, last, old, beyond: self.random_below(1000) }
    }
}
