// SPDX-License-Identifier: MIT OR Apache-2.0
//! --socket: sends some data and keeps what the library reports about it.

use serde::Serialize;
use snapsend::{Completion, CompletionFlags, Context, Options, Request, RequestFlags};
use std::fs::File;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const BYTES: u64 = 1 << 20;
/// Several, because the first may find a connection whose window is still small.
const TIMES: usize = 8;
const WAIT: Duration = Duration::from_secs(10);

/// The outcome of the sends.
#[derive(Serialize)]
pub struct Sent {
    /// HOST:PORT as given.
    pub peer: String,
    /// Why not all bytes were sent.
    pub error: Option<String>,
    /// Bytes sent.
    pub wire_bytes: u64,
    /// Bytes that were copied into the socket (snapsend_stats).
    pub bytes_copied: u64,
    /// Bytes that were sent from memory without a copy (snapsend_stats).
    pub bytes_zerocopy: u64,
    /// Whether a completion reported data as copied.
    pub completion_was_copied: bool,
    /// Whether a completion reported data as sent without a copy.
    pub completion_was_zerocopy: bool,
    /// Notifications which report that the kernel copied after all.
    pub zerocopy_copied_anyway: u64,
    /// Whether zero-copy is real to this peer.
    pub zerocopy_is_real: bool,
}

/// Connects to the peer and sends.
pub fn send_to(peer: &str) -> Sent {
    let mut sent = Sent {
        peer: peer.to_owned(),
        error: None,
        wire_bytes: 0,
        bytes_copied: 0,
        bytes_zerocopy: 0,
        completion_was_copied: false,
        completion_was_zerocopy: false,
        zerocopy_copied_anyway: 0,
        zerocopy_is_real: false,
    };
    if let Err(error) = sent.fill(peer) {
        sent.error = Some(error.to_string());
    }
    sent
}

impl Sent {
    fn fill(&mut self, peer: &str) -> io::Result<()> {
        let socket = connect(peer)?;
        let file = zeros()?;
        let context = Context::new(&Options::default())?;
        for _ in 0..TIMES {
            // Zero-copy sends from private memory, where EAGER puts the data.
            let flags = RequestFlags::EAGER;
            let request = Request::new(&socket).file(&file, ..).flags(flags).timeout(WAIT);
            let done = context.send(&request)?;
            self.add(&done);
            done.result()?;
        }
        let stats = context.stats()?;
        self.bytes_copied = stats.bytes_copied;
        self.bytes_zerocopy = stats.bytes_zerocopy;
        self.zerocopy_copied_anyway = stats.zerocopy_copied_anyway;
        self.zerocopy_is_real = self.completion_was_zerocopy && stats.zerocopy_copied_anyway == 0;
        Ok(())
    }

    fn add(&mut self, done: &Completion) {
        self.wire_bytes += done.wire_bytes;
        self.completion_was_copied |= done.flags.contains(CompletionFlags::WAS_COPIED);
        self.completion_was_zerocopy |= done.flags.contains(CompletionFlags::WAS_ZEROCOPY);
    }
}

fn connect(peer: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in peer.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, WAIT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An unnamed file of zeros.
fn zeros() -> io::Result<File> {
    let file =
        File::from(rustix::fs::memfd_create("snapsend-info", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(BYTES)?;
    Ok(file)
}
