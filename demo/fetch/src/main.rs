// SPDX-License-Identifier: MIT OR Apache-2.0
//! fetch: an HTTP client over 127.0.0.1 that compares every byte it receives with the local files.
//! It does not use snapsend.
//!
//! No client library serves here: libcurl and the crates for HTTP send one request at a time over a
//! connection, and hide bytes that follow an answer, HTTP/1.0 and when a connection ends.
//!
//! ```text
//! fetch --port N --root DIR [options] PATH...
//!     --connections N   number of concurrent connections               (8)
//!     --whole N         fetches each path N times as a whole           (2)
//!     --ranges N        fetches each path N times by ranges            (200)
//!     --seconds N       fetches random ranges for N seconds instead
//!     --pipeline N      sends up to N requests before the first answer (1)
//!     --limit N         time limit in seconds                          (120)
//!     --seed N          seed of the random choices                     (1)
//! fetch --make FILE SIZE      writes a file in which no two places are alike
//! fetch --receive FILE        listens, prints its address, and compares what one connection sends
//! ```
//!
//! The exit status is 0 only if every answer and every byte of it was correct.

mod connection;
mod files;
mod jobs;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use connection::Connection;
use files::SharedFile;
use jobs::{Job, Jobs, KIND_NAMES};

/// How long answers may take after `--seconds` have passed.
const DRAIN: Duration = Duration::from_secs(30);
/// More errors than this end the run.
const ERRORS_MAX: u64 = 1000;
const ERRORS_SHOWN: u64 = 10;
const PIPELINE_MAX: u64 = 8;
/// A thread needs a small stack: the buffers are on the heap.
const STACK_BYTES: usize = 128 << 10;

const USAGE: &str = "usage: fetch --port N --root DIR [--connections N] [--whole N] [--ranges N]
             [--seconds N] [--pipeline N] [--limit N] [--seed N] PATH...
       fetch --make FILE SIZE | --receive FILE";

struct Options {
    root: PathBuf,
    paths: Vec<String>,
    numbers: HashMap<&'static str, u64>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let numbers = [
            ("port", 0),
            ("connections", 8),
            ("whole", 2),
            ("ranges", 200),
            ("seconds", 0),
            ("pipeline", 1),
            ("limit", 120),
            ("seed", 1),
        ];
        let (mut root, mut paths, mut numbers) = (None, Vec::new(), HashMap::from(numbers));
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                None => paths.push(argument),
                Some("root") => root = Some(arguments.next()?.into()),
                Some(name) => *numbers.get_mut(name)? = arguments.next()?.parse().ok()?,
            }
        }
        let good = (1..=u16::MAX.into()).contains(&numbers["port"])
            && (1..=PIPELINE_MAX).contains(&numbers["pipeline"])
            && numbers["connections"] > 0
            && !paths.is_empty();
        good.then_some(Options { root: root?, paths, numbers })
    }
}

/// The state that all connections share.
struct Run {
    address: SocketAddr,
    /// Maximum number of requests before the first answer.
    pipeline: u64,
    jobs: Jobs,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    /// Answers of each kind.
    kinds: [AtomicU64; KIND_NAMES.len()],
    bytes: AtomicU64,
    errors: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
    connects: AtomicU64,
}

impl Run {
    /// Reports an error.
    fn wrong(&self, job: Option<&Job>, what: &str) {
        if self.counts.errors.fetch_add(1, Relaxed) >= ERRORS_SHOWN {
            return;
        }
        match job {
            Some(job) => eprintln!("WRONG: {job}: {what}"),
            None => eprintln!("WRONG: {what}"),
        }
    }

    /// Runs one connection: batches of requests until no job is left. Returns the answers.
    fn work(&self) -> u64 {
        let mut connection = Connection::new(self);
        loop {
            let batch = self.jobs.next_batch(self.pipeline);
            let broken = self.counts.errors.load(Relaxed) > ERRORS_MAX;
            if batch.is_empty() || broken || !connection.connect() {
                return connection.answers;
            }
            connection.run_batch(&batch);
        }
    }

    fn report(&self, answers: &[u64], seconds: f64) {
        let Counts { kinds, bytes, errors, most_open, connects, .. } = &self.counts;
        let kinds = KIND_NAMES.iter().zip(kinds.iter().map(|count| count.load(Relaxed)));
        let total: u64 = kinds.clone().map(|(_, count)| count).sum();
        let (bytes, errors) = (bytes.load(Relaxed), errors.load(Relaxed));
        println!(
            "{total} answers, {bytes} bytes compared, {errors} wrong; {seconds:.1} s, \
             {:.0} answers/s, {:.2} GB/s",
            total as f64 / seconds,
            bytes as f64 / seconds / 1e9
        );
        println!(
            "  {} connections at once ({} made in all), each had {} to {} answers",
            most_open.load(Relaxed),
            connects.load(Relaxed),
            answers.iter().min().unwrap_or(&0),
            answers.iter().max().unwrap_or(&0)
        );
        let kinds = kinds.filter(|(_, count)| *count > 0);
        println!(
            " {}",
            kinds.map(|(name, count)| format!(" {name}: {count};")).collect::<String>()
        );
    }

    /// Reports an error if jobs are left or connections were not served.
    fn check_complete(&self, answers: &[u64], connections: u64) {
        let total: u64 = answers.iter().sum();
        let all_open = self.counts.most_open.load(Relaxed) == connections;
        match self.jobs.count() {
            Some(count) if total != count => {
                self.wrong(None, &format!("got {total} answers instead of {count}"));
            }
            None if !all_open || answers.contains(&0) => {
                self.wrong(None, "not all connections were served");
            }
            _ => {}
        }
    }
}

fn fetch(options: Options) -> Result<bool, String> {
    let Options { root, paths, numbers } = options;
    let files: Result<_, String> = paths.iter().map(|path| SharedFile::open(&root, path)).collect();
    let start = Instant::now();
    let after = |name| start + Duration::from_secs(numbers[name]);
    let until = (numbers["seconds"] > 0).then(|| after("seconds"));
    let deadline = until.map_or(after("limit"), |until| until + DRAIN);
    let connections = numbers["connections"];
    let run = Arc::new(Run {
        address: (Ipv4Addr::LOCALHOST, numbers["port"] as u16).into(),
        pipeline: numbers["pipeline"],
        jobs: Jobs::new(files?, numbers["whole"], numbers["ranges"], until, numbers["seed"])?,
        counts: Counts::default(),
    });

    let (done, ended) = mpsc::channel();
    for _ in 0..connections {
        let (run, done) = (Arc::clone(&run), done.clone());
        let work = move || done.send(run.work());
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
        thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    }
    let mut answers = Vec::new();
    for waiting in (1..=connections).rev() {
        match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(count) => answers.push(count),
            Err(_) => {
                run.wrong(None, &format!("{waiting} connections exceed the time limit"));
                break;
            }
        }
    }
    run.report(&answers, start.elapsed().as_secs_f64());
    run.check_complete(&answers, connections);
    Ok(run.counts.errors.load(Relaxed) == 0)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [mode, path, size] if mode == "--make" => files::make(path, size),
        [mode, path] if mode == "--receive" => connection::receive(path),
        _ => match Options::parse(arguments.into_iter()) {
            Some(options) => fetch(options),
            None => Err(USAGE.into()),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
