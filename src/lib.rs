// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends a range of a file to a stream socket as one asynchronous operation, and reports its
//! completion only when no later change to the file can change the bytes that the peer receives,
//! whether they are in flight or retransmitted.
//!
//! A [`Context`] has a thread that carries out the submitted operations, with io_uring where the
//! kernel permits it, otherwise with epoll and plain system calls.  Each [`Request`] that
//! [`Context::submit`] accepts gives exactly one [`Completion`] with [`Event::Done`].
//!
//! ```
//! use snapsend::{Completion, Context, Options, Request};
//! use std::io::{Read, Write};
//! use std::os::unix::net::UnixStream;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let context = Context::new(&Options::new())?;
//! let (socket, mut peer) = UnixStream::pair()?;
//! # let path = std::env::temp_dir().join(format!("snapsend-doc-{}", std::process::id()));
//! # std::fs::write(&path, b"as it was")?;
//! let file = std::fs::File::open(&path)?;
//!
//! let id = context.submit(&Request::new(&socket).file(&file, ..).user_data(42))?;
//!
//! let mut done = [Completion::default()];
//! while context.poll(&mut done, None)? == 0 {}
//! assert_eq!((done[0].id, done[0].user_data), (id, 42));
//! let sent = done[0].result()?;
//!
//! // Whatever is done to the file from here on, the peer reads what was sent.
//! std::fs::OpenOptions::new().write(true).open(&path)?.write_all(b"changed")?;
//! let mut received = vec![0; sent as usize];
//! peer.read_exact(&mut received)?;
//! assert_eq!(received, b"as it was");
//! # std::fs::remove_file(&path)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Event loops
//!
//! A [`Context`] is a descriptor ([`AsFd`](std::os::fd::AsFd)) that is readable while completions
//! wait: register it with the event loop, and call [`Context::poll`] with a timeout of zero.  A
//! thread for each connection calls [`Context::send`] instead.  With tokio, smol and other runtimes
//! each operation is a future: see the module `futures`.
//!
//! # Descriptors
//!
//! Socket and file stay open until the operation's Done.  A descriptor that is closed too early
//! does no harm: if its number is reused, no byte of the other file or socket is sent or received.
//!
//! # Without a copy
//!
//! With [`RequestFlags::ZEROCOPY`] the network card reads the page cache itself, if the peer is on
//! another machine.  Done then waits until the peer has acknowledged the data, and the file should
//! not change before.  [`Event::Sent`], requested by [`RequestFlags::NOTIFY_SENT`], reports that
//! all bytes are in the socket: from then on it is free for other data.  The [`CompletionFlags`]
//! of Done report whether data was copied.
//!
//! If such an operation ends early, by cancellation, timeout or the end of the context, the peer
//! has a second to acknowledge what is in the socket.  Then the connection is reset.
//!
//! # Registered descriptors
//!
//! A socket or file that many operations use is registered once, which saves its hand-over to the
//! other thread each time.  The guard unregisters it when it is dropped.
//!
//! ```
//! use snapsend::{Completion, Context, Event, Options, Request, RequestFlags};
//! use std::os::unix::net::UnixStream;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let context = Context::new(&Options::new())?;
//! let (socket, peer) = UnixStream::pair()?;
//! # let path = std::env::temp_dir().join(format!("snapsend-registered-{}", std::process::id()));
//! # std::fs::write(&path, b"content")?;
//! let file = std::fs::File::open(&path)?;
//! let registered_socket = context.register_socket(&socket)?;
//! let registered_file = context.register_file(&file)?;
//!
//! let request = Request::to_registered(&registered_socket)
//!     .registered_file(&registered_file, ..)
//!     .flags(RequestFlags::ZEROCOPY | RequestFlags::NOTIFY_SENT);
//! context.submit(&request)?;
//!
//! let mut events = Vec::new();
//! while events.last() != Some(&Event::Done) {
//!     let mut next = [Completion::default()];
//!     let count = context.poll(&mut next, None)?;
//!     events.extend(next[..count].iter().map(|completion| completion.event));
//! }
//! assert_eq!(events, [Event::Sent, Event::Done]);
//! # std::fs::remove_file(&path)?;
//! # drop(peer);
//! # Ok(())
//! # }
//! ```
//!
//! # fork
//!
//! In a forked child each call on an inherited context fails with ECHILD.  Create a new context
//! there.
//!
//! # Features
//!
//! - `c-interface` (default): the symbols of `snapsend.h` in the built libraries, and the module
//!   `ffi`.  Its build writes the header and needs cbindgen.  Programs in Rust need neither:
//!   `snapsend = { version = "0.1", default-features = false }`.
//! - `futures`: the module of that name.  It depends on no runtime.
//!
//! The Rust interface is the same with and without `c-interface`.  The module `ffi` is meant for C:
//! its types may grow, as `snapsend.h` says, without a new major version.
#![deny(unsafe_code)]
// Only the C edge or the LD_PRELOAD library uses some of the items.
#![cfg_attr(not(all(feature = "c-interface", feature = "preload")), allow(dead_code))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod caller;
mod collections;
mod context;
mod decide;
#[allow(unsafe_code)]
mod engine;
#[cfg(feature = "c-interface")]
#[allow(unsafe_code)]
pub mod ffi;
#[cfg(feature = "futures")]
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
pub mod futures;
mod handoff;
mod ring;
#[allow(unsafe_code)]
mod sys;
#[cfg(test)]
mod tests;
mod types;

pub use caller::sendfile::sendfile;
pub use context::{Context, Info, TrySend};
pub use types::completion::{Completion, CompletionFlags, Event};
pub use types::errno::Errno;
pub use types::feature::KernelFeatures;
pub use types::handle::{RegisteredFile, RegisteredSocket};
pub use types::options::{EngineChoice, Options};
pub use types::request::{Request, RequestFlags};
pub use types::stats::Stats;

/// Not part of the interface: the items that this project's own LD_PRELOAD library uses.
#[cfg(feature = "preload")]
#[doc(hidden)]
pub mod preload {
    pub use crate::caller::sendfile::{Moved, Route, copy_costs, sendfile_then, splice_then};
    pub use crate::sys::CallerOffset;
}
