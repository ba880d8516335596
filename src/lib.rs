// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends a range of a file to a stream socket as one asynchronous operation, and reports its
//! completion only when no later change to the file can change what goes over the wire: not what
//! is in flight, not what is retransmitted.
//!
//! A [`Context`] has a thread that carries out what is submitted to it, with io_uring where the
//! kernel lets it, else with epoll and plain system calls.  Each [`Request`] that
//! [`Context::submit`] accepts gives exactly one [`Completion`] with [`Event::Done`].
//!
//! ```
//! use snapsend::{Completion, Context, Options, Request};
//! use std::io::{Read, Write};
//! use std::os::unix::net::UnixStream;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let context = Context::new(&Options::default())?;
//! let (socket, mut peer) = UnixStream::pair()?;
//! # let path = std::env::temp_dir().join(format!("snapsend-doc-{}", std::process::id()));
//! # std::fs::write(&path, b"as it was")?;
//! let file = std::fs::File::open(&path)?;
//!
//! let mut request = Request::whole_file(&socket, &file);
//! request.user_data = 42;
//! let id = context.submit(&request)?;
//!
//! let mut done = [Completion::default()];
//! while context.poll(&mut done, None)? == 0 {}
//! assert_eq!((done[0].id, done[0].user_data, done[0].status), (id, 42, 0));
//!
//! // Whatever is done to the file from here on, the peer reads what was sent.
//! std::fs::OpenOptions::new().write(true).open(&path)?.write_all(b"changed")?;
//! let mut received = vec![0; done[0].wire_bytes as usize];
//! peer.read_exact(&mut received)?;
//! assert_eq!(received, b"as it was");
//! # std::fs::remove_file(&path)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Event loops
//!
//! [`Context::event_fd`] is readable while completions wait: register it with whatever waits for
//! descriptors, and call [`Context::poll`] with a timeout of zero.  A thread for each connection
//! calls [`Context::send`] instead.
//!
//! # Descriptors
//!
//! Socket and file stay open until the operation's Done.  A mistake there does no harm: no byte of
//! another file or socket, which has got the number since, is sent or received.
//!
//! # fork
//!
//! In a forked child each call on an inherited context gives ECHILD.  Make one there.
//!
//! # Features
//!
//! - `c-interface` (default): the symbols of `snapsend.h` in the libraries that are built, and the
//!   module `ffi`; writes the header, for which it wants cbindgen.  Programs in Rust need neither:
//!   `snapsend = { version = "0.1", default-features = false }`.
//!
//! The Rust interface is the same with and without it.  What is in `ffi` is meant for C: its types
//! may grow, as `snapsend.h` says, without a new major version.
#![deny(unsafe_code)]
// The C edge is what uses some of it.
#![cfg_attr(not(feature = "c-interface"), allow(dead_code))]

mod caller;
mod collections;
mod context;
mod decide;
#[allow(unsafe_code)]
mod engine;
#[cfg(feature = "c-interface")]
#[allow(unsafe_code)]
pub mod ffi;
mod handoff;
mod ring;
#[allow(unsafe_code)]
mod sys;
#[cfg(test)]
mod tests;
mod types;

pub use caller::sendfile;
pub use context::{Context, Info, TrySend};
pub use sys::CallerOffset;
pub use types::completion::{Completion, Event, WAS_COPIED, WAS_INLINE, WAS_PADDED, WAS_ZEROCOPY};
pub use types::errno::Errno;
pub use types::feature as kernel_feature;
pub use types::options::{EngineChoice, Options};
pub use types::request::{EAGER, EXACT, MORE, NOTIFY_SNAPSHOT, Request, TO_EOF, ZERO_PAD};
pub use types::stats::Stats;
