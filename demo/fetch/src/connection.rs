// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection to the server: sends requests and compares answers.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::Run;
use crate::files::SharedFile;
use crate::jobs::{Job, Kind};

const BUFFER_BYTES: usize = 32 << 10;
const FIELDS_MAX: usize = 32;

pub struct Connection<'a> {
    run: &'a Run,
    stream: Option<TcpStream>,
    /// Received and not yet processed: `input[start..end]`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    scratch: Vec<u8>,
    pub answers: u64,
}

impl<'a> Connection<'a> {
    pub fn new(run: &'a Run) -> Self {
        let (input, scratch) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
        Connection { run, stream: None, input, start: 0, end: 0, scratch, answers: 0 }
    }

    /// Connects unless the connection is still open. False: the server cannot be reached.
    pub fn connect(&mut self) -> bool {
        if self.stream.is_some() {
            return true;
        }
        match TcpStream::connect(self.run.address) {
            Ok(stream) => {
                self.stream = Some(stream);
                (self.start, self.end) = (0, 0);
                self.run.counts.connects.fetch_add(1, Relaxed);
                let open = self.run.counts.open.fetch_add(1, Relaxed) + 1;
                self.run.counts.most_open.fetch_max(open, Relaxed);
                true
            }
            Err(error) => {
                self.run.wrong(None, &format!("connect: {error}"));
                false
            }
        }
    }

    fn hang_up(&mut self) {
        if self.stream.take().is_some() {
            self.run.counts.open.fetch_sub(1, Relaxed);
        }
    }

    /// Sends the requests at once and takes their answers in order.
    pub fn run_batch(&mut self, batch: &[Job]) {
        let requests: String = batch.iter().map(Job::request).collect();
        let mut stream = self.stream.as_ref().expect("connected");
        let mut result = stream.write_all(requests.as_bytes()).map_err(|e| format!("send: {e}"));
        for job in batch {
            result = result.and_then(|()| self.take_answer(job));
            if let Err(what) = &result {
                self.run.wrong(Some(job), what);
                return self.hang_up();
            }
            self.answers += 1;
            self.run.counts.kinds[job.kind as usize].fetch_add(1, Relaxed);
        }
        let last = batch.last().expect("not empty");
        if last.kind != Kind::Abandoned && self.start < self.end {
            self.run.wrong(Some(last), "more came than was announced");
        } else if last.kind != Kind::Abandoned && last.last {
            match self.receive() {
                Ok(0) => {}
                Ok(_) => self.run.wrong(Some(last), "more came than was announced"),
                Err(error) => self.run.wrong(Some(last), &format!("instead of the end: {error}")),
            }
        }
        if last.last {
            self.hang_up();
        }
    }

    /// Reads more input. Returns the number of bytes; 0: the server has closed.
    fn receive(&mut self) -> io::Result<usize> {
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let mut stream = self.stream.as_ref().expect("connected");
        let n = stream.read(&mut self.input[self.end..])?;
        self.end += n;
        Ok(n)
    }

    /// The same; it is an error if the server closes.
    fn receive_more(&mut self) -> Result<(), String> {
        match self.receive() {
            Ok(0) if self.end == BUFFER_BYTES => Err("the head is too long".into()),
            Ok(0) => Err("the server closed too early".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the server closed: {error}")),
        }
    }

    fn take_answer(&mut self, job: &Job) -> Result<(), String> {
        let announced = self.take_head(job)?;
        match job.kind {
            Kind::Head => Ok(()),
            Kind::Beyond | Kind::Missing => self.take_body(announced, |_, _, _| Ok(())),
            Kind::Abandoned => {
                self.take_body(announced.div_ceil(2), |c, at, n| c.compare(job, at, n))
            }
            _ => self.take_body(announced, |c, at, n| c.compare(job, at, n)),
        }
    }

    /// Checks the head of an answer. Returns the announced length of its body.
    fn take_head(&mut self, job: &Job) -> Result<u64, String> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut answer = httparse::Response::new(&mut fields);
            let parsed = answer.parse(&self.input[self.start..self.end]);
            match parsed.map_err(|error| format!("cannot parse the answer: {error}"))? {
                httparse::Status::Complete(length) => {
                    let announced = check_head(&answer, job)?;
                    self.start += length;
                    return Ok(announced);
                }
                httparse::Status::Partial => self.receive_more()?,
            }
        }
    }

    /// Takes `length` bytes of a body. Calls `check` for each piece, which is at `start` in the
    /// input, with its place in the body and its length.
    fn take_body(
        &mut self,
        length: u64,
        check: impl Fn(&mut Self, u64, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut taken = 0;
        while taken < length {
            if self.start == self.end {
                self.receive_more()?;
            }
            let n =
                (self.end - self.start).min(usize::try_from(length - taken).unwrap_or(usize::MAX));
            check(self, taken, n)?;
            self.start += n;
            taken += n as u64;
        }
        Ok(())
    }

    fn compare(&mut self, job: &Job, at: u64, length: usize) -> Result<(), String> {
        let data = &self.input[self.start..self.start + length];
        if let Some(place) = job.file.compare(job.offset + at, data, &mut self.scratch) {
            return Err(format!("the byte at {place} differs from the file"));
        }
        self.run.counts.bytes.fetch_add(length as u64, Relaxed);
        Ok(())
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.hang_up();
    }
}

fn check_head(answer: &httparse::Response, job: &Job) -> Result<u64, String> {
    let field = |name: &str| {
        let field = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    let (version, status) = (answer.version, answer.code.unwrap_or(0));
    if version != Some(1) || status != job.expected_status() {
        return Err(format!("status {status} instead of {}", job.expected_status()));
    }
    let length = field("Content-Length").ok_or("no Content-Length")?;
    let announced: u64 = length.parse().map_err(|_| format!("Content-Length {length}"))?;
    let range = field("Content-Range");
    let is_file = matches!(status, 200 | 206);
    if is_file && (announced != job.length || range != job.expected_range().as_deref()) {
        let range = range.unwrap_or("none");
        return Err(format!("Content-Length {announced}, Content-Range {range}"));
    }
    Ok(announced)
}

/// Listens, accepts one connection and compares what it sends with a file.
pub fn receive(path: &str) -> Result<bool, String> {
    let failed = |error: io::Error| format!("receive: {error}");
    let file = SharedFile::open(Path::new("."), path)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    println!("listening on {}", listener.local_addr().map_err(failed)?);
    let (mut stream, _) = listener.accept().map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(failed)?;
    let (mut buffer, mut scratch) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    let mut at = 0;
    loop {
        let n = stream.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            break;
        }
        if let Some(place) = file.compare(at, &buffer[..n], &mut scratch) {
            println!("WRONG: the bytes from {place} on differ from the file");
            return Ok(false);
        }
        at += n as u64;
    }
    let complete = at == file.size;
    println!("{at} bytes received, {}", if complete { "all correct" } else { "TOO FEW" });
    Ok(complete)
}
