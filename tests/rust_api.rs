// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Rust interface as it was promised: every public item, with its type.  What is taken away or
//! changed no longer compiles here, which is a new major version (0.x: minor); what is added is
//! written down here, too.
#![allow(clippy::type_complexity)]

use snapsend::sendfile::{Moved, Way};
use snapsend::{
    CallerOffset, Completion, Context, EngineChoice, Errno, Event, Info, Options, Request, Stats,
    TrySend,
};
use std::io::IoSlice;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn functions() {
    let _: fn(&Options) -> Result<Context, Errno> = Context::new;
    let _: fn(&Context) -> Result<(), Errno> = Context::check_process;
    let _: for<'a> fn(&Context, &Request<'a>) -> Result<u64, Errno> = Context::submit;
    let _: for<'a, 'b> fn(&Context, &Request<'a>, &'b mut dyn FnMut(u64)) -> Result<(), Errno> =
        Context::submit_with_id;
    let _: for<'a, 'b> fn(
        &Context,
        &[Request<'a>],
        &'b mut dyn FnMut(u64),
    ) -> Result<usize, Errno> = Context::submit_many;
    let _: fn(&Context, &mut [Completion], Option<Duration>) -> Result<usize, Errno> =
        Context::poll;
    let _: fn(&Context, usize, Option<Duration>, fn(Completion)) -> Result<usize, Errno> =
        Context::poll_each;
    let _: fn(&Context) -> Result<RawFd, Errno> = Context::event_fd;
    let _: fn(&Context, u64) -> Result<(), Errno> = Context::cancel;
    let _: fn(&Context, RawFd) -> Result<u32, Errno> = Context::cancel_socket;
    let _: for<'a, 'b> fn(
        &Context,
        &Request<'a>,
        &'b mut dyn FnMut(u64),
    ) -> Result<TrySend, Errno> = Context::try_send;
    let _: for<'a> fn(&Context, &Request<'a>) -> Result<Completion, Errno> = Context::send;
    let _: fn(&Context) -> Result<Info, Errno> = Context::info;
    let _: fn(&Context) -> Result<Stats, Errno> = Context::stats;
    let _: fn(&Context) = Context::poison;

    let _: fn(BorrowedFd<'static>, Option<BorrowedFd<'static>>) -> Request<'static> = Request::new;
    let _: fn(&'static UnixStream, &'static std::fs::File) -> Request<'static> =
        Request::whole_file;
    let _: fn(&Request<'static>) -> bool = Request::is_open_ended;
    let _: fn(&Request<'static>, u64) -> Result<(), Errno> = Request::check;

    let _: fn(RawFd, RawFd, CallerOffset, usize) -> Moved = snapsend::sendfile::sendfile;
    let _: fn(RawFd, CallerOffset, RawFd, CallerOffset, usize, u32) -> Moved =
        snapsend::sendfile::splice;
    let _: fn() = snapsend::sendfile::trim;
    let _: unsafe fn(*mut libc::off_t) -> CallerOffset = CallerOffset::new;
    let _: CallerOffset = CallerOffset::NONE;
    let _: fn() -> Errno = Errno::last;
    let _: fn(Errno) -> i32 = Errno::negative;
}

#[test]
fn constants() {
    let flags: [u32; 5] = [
        snapsend::EAGER,
        snapsend::EXACT,
        snapsend::NOTIFY_SNAPSHOT,
        snapsend::ZERO_PAD,
        snapsend::MORE,
    ];
    assert_eq!(flags, [1, 2, 4, 8, 16]);
    let was: [u32; 4] =
        [snapsend::WAS_COPIED, snapsend::WAS_ZEROCOPY, snapsend::WAS_PADDED, snapsend::WAS_INLINE];
    assert_eq!(was, [1, 2, 4, 8]);
    assert_eq!(snapsend::TO_EOF, u64::MAX);
    use snapsend::kernel_feature::*;
    let kernel: [u64; 6] =
        [IO_URING, SEND_ZC, ZC_REPORT_USAGE, DEFER_TASKRUN, REGISTERED_BUFFERS, CACHESTAT];
    assert_eq!(kernel, [1, 2, 4, 8, 16, 32]);
}

// Structs are made and taken apart as users do it: one that users make in full cannot grow.
#[test]
fn types() {
    let options = Options {
        engine: EngineChoice::Portable,
        max_ops: 1u32,
        pool_bytes: 1u64 << 20,
        chunk_bytes: 4096u64,
    };
    let _ = [EngineChoice::Auto, EngineChoice::Uring, options.engine];
    let Completion { id, user_data, file_bytes, wire_bytes, status, event, flags, .. } =
        Completion::default();
    let _: (u64, u64, u64, u64, i32, Event, u32) =
        (id, user_data, file_bytes, wire_bytes, status, event, flags);
    assert!(matches!(event, Event::Done) && event != Event::Snapshot);
    let Info { is_uring, engine_errno, max_ops, pool_bytes, exact_max, kernel_features, .. } =
        Info::default();
    let _: (bool, i32, u32, u64, u64, u64) =
        (is_uring, engine_errno, max_ops, pool_bytes, exact_max, kernel_features);
    let stats = Stats::default();
    let _: [u64; 17] = [
        stats.submitted,
        stats.done_ok,
        stats.done_error,
        stats.cancelled,
        stats.file_bytes,
        stats.wire_bytes,
        stats.bytes_copied,
        stats.bytes_zerocopy,
        stats.bytes_inline,
        stats.zerocopy_notified,
        stats.zerocopy_copied_anyway,
        stats.kernel_enters,
        stats.wakeups,
        stats.in_flight,
        stats.pool_in_use,
        stats.pool_resident,
        stats.rings_kept,
    ];
    let (socket, _peer) = UnixStream::pair().expect("a pair");
    let part = [IoSlice::new(b"x")];
    let mut request = Request::new(std::os::fd::AsFd::as_fd(&socket), None);
    request.header = &part;
    request.trailer = &part;
    let _: (u64, u64, u32, u32, u64) =
        (request.offset, request.length, request.flags, request.timeout_ms, request.user_data);
    let moved = Moved { result: Ok(0), way: Way::PassedOn };
    let _: Result<usize, Errno> = moved.result;
    let _ = [Way::Socket, Way::Pipe, moved.way];
    let _: i32 = Errno(libc::EIO).0;
    let _: Option<Completion> = match TrySend::Queued {
        TrySend::Done(done) => Some(done),
        TrySend::Queued => None,
    };
}

#[test]
fn what_may_cross_threads() {
    fn shared<T: Send + Sync + std::fmt::Debug>() {}
    fn error<T: std::error::Error + Send + Sync + Copy + Eq + 'static>() {}
    fn plain<T: Copy + Send + Sync + std::fmt::Debug + Default>() {}
    shared::<Context>();
    error::<Errno>();
    plain::<Completion>();
    plain::<Options>();
    plain::<Info>();
    plain::<Stats>();
}
