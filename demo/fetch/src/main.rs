// SPDX-License-Identifier: MIT OR Apache-2.0
//! fetch: an HTTP client over 127.0.0.1 that compares every byte it receives with the local files.
//! It knows nothing of snapsend.
//!
//! ```text
//! fetch --port N --root DIR [options] PATH...
//!     --connections N   at once                                         (8)
//!     --whole N         each path so many times whole                   (2)
//!     --ranges N        each path so many times by ranges of all kinds  (200)
//!     --seconds N       instead of --whole and --ranges: random ranges for so long
//!     --pipeline N      up to so many requests before the first answer  (1)
//!     --limit N         give up after so many seconds                   (120)
//!     --seed N          of the random choices                           (1)
//! fetch --make FILE SIZE      writes a file in which no two places are alike
//! fetch --receive FILE        listens, prints where, and compares what one connection sends
//! ```
//!
//! The exit status is 0 only if every answer and every byte of it was right.

mod connection;
mod files;
mod jobs;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use connection::Connection;
use files::SharedFile;
use jobs::{Job, Jobs, KINDS};

/// How long answers may take after `--seconds` are over.
const DRAIN: Duration = Duration::from_secs(30);
/// More errors than this end the run.
const ERRORS_MAX: u64 = 1000;
const ERRORS_SHOWN: u64 = 10;
const PIPELINE_MAX: u64 = 8;
/// A thread needs little: the buffers are on the heap.
const STACK_BYTES: usize = 128 << 10;

const USAGE: &str = "usage: fetch --port N --root DIR [--connections N] [--whole N] [--ranges N]
             [--seconds N] [--pipeline N] [--limit N] [--seed N] PATH...
       fetch --make FILE SIZE | --receive FILE";

struct Options {
    address: SocketAddr,
    root: PathBuf,
    paths: Vec<String>,
    connections: usize,
    whole: u64,
    ranges: u64,
    seconds: u64,
    pipeline: u64,
    limit: u64,
    seed: u64,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Options {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            root: PathBuf::new(),
            paths: Vec::new(),
            connections: 8,
            whole: 2,
            ranges: 200,
            seconds: 0,
            pipeline: 1,
            limit: 120,
            seed: 1,
        };
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                options.paths.push(argument);
                continue;
            };
            let value = arguments.next()?;
            if name == "root" {
                options.root = value.into();
                continue;
            }
            let number: u64 = value.parse().ok()?;
            match name {
                "port" => options.address.set_port(number.try_into().ok()?),
                "connections" => options.connections = number.try_into().ok()?,
                "whole" => options.whole = number,
                "ranges" => options.ranges = number,
                "seconds" => options.seconds = number,
                "pipeline" => options.pipeline = number,
                "limit" => options.limit = number,
                "seed" => options.seed = number,
                _ => return None,
            }
        }
        let complete = options.address.port() != 0
            && !options.root.as_os_str().is_empty()
            && !options.paths.is_empty()
            && options.connections > 0
            && (1..=PIPELINE_MAX).contains(&options.pipeline);
        complete.then_some(options)
    }
}

/// What all connections share.
struct Run {
    options: Options,
    jobs: Jobs,
    kinds: [AtomicU64; KINDS.len()],
    bytes: AtomicU64,
    errors: AtomicU64,
    open: AtomicUsize,
    most_open: AtomicUsize,
    connects: AtomicU64,
}

impl Run {
    /// Reports that something was not as it must be.
    fn wrong(&self, job: Option<&Job>, what: &str) {
        if self.errors.fetch_add(1, Relaxed) >= ERRORS_SHOWN {
            return;
        }
        match job {
            Some(job) => eprintln!("WRONG: {job}: {what}"),
            None => eprintln!("WRONG: {what}"),
        }
    }

    /// One connection's work: batches of requests until no job is left. Returns the answers.
    fn work(&self) -> u64 {
        let mut connection = Connection::new(self);
        loop {
            let batch = self.jobs.next_batch(self.options.pipeline);
            if batch.is_empty() || self.errors.load(Relaxed) > ERRORS_MAX {
                return connection.answers;
            }
            if !connection.connect() {
                return connection.answers;
            }
            connection.run_batch(&batch);
        }
    }

    fn report(&self, answers: &[u64], seconds: f64) {
        let total: u64 = self.kinds.iter().map(|count| count.load(Relaxed)).sum();
        let bytes = self.bytes.load(Relaxed);
        let (least, most) =
            (answers.iter().min().unwrap_or(&0), answers.iter().max().unwrap_or(&0));
        let most_open = self.most_open.load(Relaxed);
        println!(
            "{total} answers, {bytes} bytes compared, {} wrong; {seconds:.1} s, {:.0} answers/s, {:.2} GB/s",
            self.errors.load(Relaxed),
            total as f64 / seconds,
            bytes as f64 / seconds / 1e9
        );
        println!(
            "  {most_open} connections at once ({} made in all), each had {least} to {most} answers",
            self.connects.load(Relaxed)
        );
        let kinds = KINDS.iter().zip(&self.kinds).filter(|(_, count)| count.load(Relaxed) > 0);
        let kinds: Vec<_> =
            kinds.map(|(kind, count)| format!(" {kind}: {};", count.load(Relaxed))).collect();
        println!(" {}", kinds.concat());
        if self.options.seconds > 0 && (*least == 0 || most_open < self.options.connections) {
            self.wrong(None, "not all connections were served");
        }
        if self.options.seconds == 0 && total != self.jobs.count() {
            self.wrong(None, &format!("{} answers were expected", self.jobs.count()));
        }
    }
}

fn fetch(options: Options) -> Result<bool, String> {
    let files: Result<Vec<_>, String> =
        options.paths.iter().map(|path| SharedFile::open(&options.root, path)).collect();
    let start = Instant::now();
    let until = (options.seconds > 0).then(|| start + Duration::from_secs(options.seconds));
    let deadline = until.map_or(start + Duration::from_secs(options.limit), |until| until + DRAIN);
    let jobs = Jobs::new(files?, options.whole, options.ranges, until, options.seed)?;
    let connections = options.connections;
    let run = Arc::new(Run {
        options,
        jobs,
        kinds: Default::default(),
        bytes: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        open: AtomicUsize::new(0),
        most_open: AtomicUsize::new(0),
        connects: AtomicU64::new(0),
    });

    let (done, ended) = mpsc::channel();
    for _ in 0..connections {
        let (run, done) = (Arc::clone(&run), done.clone());
        let work = move || done.send(run.work());
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
        thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    }
    drop(done);
    let mut answers = Vec::new();
    while answers.len() < connections {
        match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(count) => answers.push(count),
            Err(_) => {
                let waiting = connections - answers.len();
                run.wrong(None, &format!("time is up and {waiting} connections have not ended"));
                break;
            }
        }
    }
    run.report(&answers, start.elapsed().as_secs_f64());
    Ok(run.errors.load(Relaxed) == 0)
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
