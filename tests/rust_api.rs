// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Rust interface as it was promised: every public item, with its type.  What is taken away or
//! changed no longer compiles here, which is a new major version (0.x: minor); what is added is
//! written down here, too.
#![allow(clippy::type_complexity)]

use snapsend::{
    Completion, CompletionFlags, Context, EngineChoice, Errno, Event, Info, KernelFeatures,
    Options, RegisteredFile, RegisteredSocket, Request, RequestFlags, Stats, TrySend,
};
use std::fmt::Debug;
use std::fs::File;
use std::hash::Hash;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn functions() {
    let _: fn(&Options) -> Result<Context, Errno> = Context::new;
    let _: for<'a> fn(&Context, &Request<'a>) -> Result<u64, Errno> = Context::submit;
    let _: for<'a> fn(&Context, &[Request<'a>], &mut Vec<u64>) -> Result<usize, Errno> =
        Context::submit_many;
    let _: fn(&Context, &mut [Completion], Option<Duration>) -> Result<usize, Errno> =
        Context::poll;
    let _: fn(&Context, u64) -> Result<(), Errno> = Context::cancel;
    let _: fn(&Context, BorrowedFd<'static>) -> Result<u32, Errno> = Context::cancel_socket;
    let _: fn(&Context, &'static UnixStream) -> Result<u32, Errno> = Context::cancel_socket;
    let _: for<'a> fn(&Context, &Request<'a>) -> Result<TrySend, Errno> = Context::try_send;
    let _: for<'a> fn(&Context, &Request<'a>) -> Result<Completion, Errno> = Context::send;
    let _: for<'a> fn(&'a Context, &'static File) -> Result<RegisteredFile<'a>, Errno> =
        Context::register_file;
    let _: for<'a> fn(&'a Context, BorrowedFd<'static>) -> Result<RegisteredSocket<'a>, Errno> =
        Context::register_socket;
    let _: fn(&Context) -> Result<Info, Errno> = Context::info;
    let _: fn(&Context) -> Result<Stats, Errno> = Context::stats;
    let _: fn(&Context) -> BorrowedFd<'_> = Context::as_fd;
    let _: fn(&Context) -> i32 = Context::as_raw_fd;
    let _: fn(&Completion) -> io::Result<u64> = Completion::result;
    let _: fn(Errno) -> io::Error = io::Error::from;
    let _: fn(&'static UnixStream, &'static File, Option<&mut u64>, usize) -> Result<usize, Errno> =
        snapsend::sendfile;
}

#[test]
fn builders() {
    let (socket, _peer) = UnixStream::pair().expect("a pair");
    let (file, part) = (File::open("/dev/null").expect("a file"), [IoSlice::new(b"x")]);
    let request: Request<'_> = Request::new(&socket)
        .file(&file, 1u64..=2)
        .header(&part)
        .trailer(&part)
        .flags(RequestFlags::EAGER | RequestFlags::MORE)
        .timeout(Duration::from_secs(1))
        .user_data(1u64);
    let _: [Request<'_>; 3] =
        [request.file(&file, ..), request.file(&file.as_fd(), 5..), request.file(&file, ..9)];
    let _: Request<'_> = Request::new(&socket.as_fd());
    fn registered<'a>(to: &'a RegisteredSocket<'_>, of: &'a RegisteredFile<'_>) -> Request<'a> {
        Request::to_registered(to).registered_file(of, ..9u64)
    }
    let _ = registered;
    let _: Options = Options::new()
        .engine(EngineChoice::Portable)
        .max_ops(1u32)
        .pool_bytes(1u64 << 20)
        .chunk_bytes(4096u64)
        .snapshot_dir("/var/tmp");
    let _ = [EngineChoice::Auto, EngineChoice::Uring, EngineChoice::default()];
}

#[test]
fn constants() {
    use CompletionFlags as Was;
    use RequestFlags as Flags;
    let flags = [Flags::EAGER, Flags::EXACT, Flags::NOTIFY_SNAPSHOT, Flags::ZERO_PAD, Flags::MORE];
    assert_eq!(flags.map(|flag| -> u32 { flag.bits() }), [1, 2, 4, 8, 16]);
    let flags = [Flags::ZEROCOPY, Flags::NOTIFY_SENT];
    assert_eq!(flags.map(|flag| -> u32 { flag.bits() }), [32, 64]);
    let was = [Was::WAS_COPIED, Was::WAS_ZEROCOPY, Was::WAS_PADDED, Was::WAS_INLINE];
    assert_eq!(was.map(|flag| -> u32 { flag.bits() }), [1, 2, 4, 8]);
    let kernel = [
        KernelFeatures::IO_URING,
        KernelFeatures::SEND_ZC,
        KernelFeatures::ZC_REPORT_USAGE,
        KernelFeatures::DEFER_TASKRUN,
        KernelFeatures::REGISTERED_BUFFERS,
        KernelFeatures::CACHESTAT,
    ];
    assert_eq!(kernel.map(|flag| -> u64 { flag.bits() }), [1, 2, 4, 8, 16, 32]);
    assert_eq!(format!("{:?}", Flags::EAGER | Flags::MORE), "RequestFlags(EAGER | MORE)");
}

// Structs are taken apart as users do it.
#[test]
fn types() {
    let Completion { id, user_data, file_bytes, wire_bytes, status, event, flags, .. } =
        Completion::default();
    let _: (u64, u64, u64, u64, i32, Event, CompletionFlags) =
        (id, user_data, file_bytes, wire_bytes, status, event, flags);
    assert!(matches!(event, Event::Done) && event != Event::Snapshot);
    assert!(event != Event::Sent);
    let Info { is_uring, engine_error, max_ops, pool_bytes, exact_max, kernel_features, .. } =
        Info::default();
    let _: (bool, Option<Errno>, u32, u64, u64, KernelFeatures) =
        (is_uring, engine_error, max_ops, pool_bytes, exact_max, kernel_features);
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
    let _: i32 = Errno(libc::EIO).0;
    let queued = match TrySend::Queued(7u64) {
        TrySend::Done(completion) => completion.id,
        TrySend::Queued(id) => id,
    };
    assert_eq!(queued, 7);
}

#[test]
fn what_may_cross_threads() {
    fn shared<T: Send + Sync + Debug>() {}
    fn error<T: std::error::Error + Send + Sync + Copy + Eq + Hash + 'static>() {}
    fn plain<T: Copy + Send + Sync + Debug + Default>() {}
    fn cloned<T: Clone + Send + Sync + Debug + Default>() {}
    shared::<Context>();
    shared::<Request<'_>>();
    shared::<RegisteredFile<'_>>();
    shared::<RegisteredSocket<'_>>();
    error::<Errno>();
    cloned::<Options>();
    plain::<Completion>();
    plain::<CompletionFlags>();
    plain::<EngineChoice>();
    plain::<Info>();
    plain::<KernelFeatures>();
    plain::<RequestFlags>();
    plain::<Stats>();
}

// ---- what the types do ---------------------------------------------------------------------

fn file_of(content: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!(
        "snapsend-rust-api-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = File::create(&path).expect("a file");
    file.write_all(content).expect("written");
    let file = File::open(&path).expect("the file");
    std::fs::remove_file(&path).expect("removed");
    file
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&mut entry, 1, 2000) == 1 }
}

#[test]
fn errors_become_those_of_std() {
    let error: io::Error = Errno(libc::EAGAIN).into();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(Errno(libc::EPERM).to_string(), error_text(libc::EPERM));
    let socket = UnixStream::pair().expect("a pair").0;
    let context = Context::new(&Options::new()).expect("a context");
    let beyond = Request::new(&socket).file(&socket, ..u64::MAX);
    assert_eq!(context.submit(&beyond), Err(Errno(libc::EOVERFLOW)));
}

fn error_text(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

#[test]
fn a_result_is_bytes_or_the_reason() {
    let context = Context::new(&Options::new()).expect("a context");
    let (socket, mut peer) = UnixStream::pair().expect("a pair");
    let (file, header) = (file_of(b"content"), [IoSlice::new(b"> ")]);
    let request = Request::new(&socket).header(&header);
    let done = context.send(&request.file(&file, 3..)).expect("accepted");
    assert_eq!(done.result().expect("sent"), 6);
    let done = context.send(&request.file(&file, 3..100)).expect("accepted");
    let error = done.result().expect_err("too short");
    assert_eq!(error.raw_os_error(), Some(libc::ENODATA));
    drop(socket);
    let mut received = String::new();
    peer.read_to_string(&mut received).expect("all of it");
    assert!(received.starts_with("> tent"), "{received}");
}

#[test]
fn guards_unregister_what_they_stand_for() {
    let context = Context::new(&Options::new()).expect("a context");
    let (socket, mut peer) = UnixStream::pair().expect("a pair");
    let file = file_of(b"content");
    let to = context.register_socket(&socket).expect("registered");
    let from = context.register_file(&file).expect("registered");
    // Submit needs the library's copies alone.
    drop((socket, file));
    let request = Request::to_registered(&to).registered_file(&from, 3..);
    context.submit(&request).expect("accepted");
    context.submit_many(&[request, request], &mut Vec::new()).expect("accepted");
    let mut done = [Completion::default(); 3];
    let mut taken = 0;
    while taken < 3 {
        taken += context.poll(&mut done[taken..], None).expect("completions");
    }
    assert!(done.iter().all(|done| matches!(done.result(), Ok(4))), "{done:?}");
    drop((from, to));
    // The last copy is gone: the peer reads up to the end.
    let mut received = String::new();
    peer.read_to_string(&mut received).expect("all of it");
    assert_eq!(received, "tenttenttent");
}

#[test]
fn guards_end_what_is_to_come_and_not_what_is_in_flight() {
    let context = Context::new(&Options::new()).expect("a context");
    let (socket, mut peer) = UnixStream::pair().expect("a pair");
    let file = file_of(&vec![7; 4 << 20]);
    let to = context.register_socket(&socket).expect("registered");
    let from = context.register_file(&file).expect("registered");
    context.submit(&Request::to_registered(&to).registered_file(&from, ..)).expect("accepted");
    drop((to, from, socket, file));
    let mut received = Vec::new();
    peer.read_to_end(&mut received).expect("all of it");
    assert!(received.len() == 4 << 20 && received.iter().all(|&byte| byte == 7));
    let mut done = [Completion::default(); 1];
    assert_eq!(context.poll(&mut done, None), Ok(1));
    assert_eq!(done[0].result().expect("sent"), 4 << 20);
}

#[test]
fn a_registration_on_another_context_is_refused() {
    let [first, second] = [(); 2].map(|()| Context::new(&Options::new()).expect("a context"));
    let (socket, _peer) = UnixStream::pair().expect("a pair");
    let file = file_of(b"content");
    let (to, from) = (first.register_socket(&socket), first.register_file(&file));
    let (to, from) = (to.expect("registered"), from.expect("registered"));
    let refused = [
        Request::to_registered(&to),
        Request::to_registered(&to).registered_file(&from, ..),
        Request::new(&socket).registered_file(&from, ..),
    ];
    for request in refused {
        assert_eq!(second.submit(&request), Err(Errno(libc::EBADF)));
        assert_eq!(second.send(&request).map(|_| ()), Err(Errno(libc::EBADF)));
        assert!(first.send(&request).is_ok());
    }
    assert_eq!(first.register_file(&socket).map(|_| ()).unwrap_err(), Errno(libc::EINVAL));
    assert_eq!(first.register_socket(&file).map(|_| ()).unwrap_err(), Errno(libc::ENOTSOCK));
}

#[test]
fn times_have_no_upper_bound() {
    let context = Context::new(&Options::new()).expect("a context");
    let (socket, _peer) = UnixStream::pair().expect("a pair");
    let file = file_of(b"content");
    let request = Request::new(&socket).file(&file, ..).timeout(Duration::MAX);
    context.submit(&request).expect("accepted");
    let mut done = [Completion::default()];
    assert_eq!(context.poll(&mut done, Some(Duration::MAX)), Ok(1));
    assert_eq!(done[0].result().expect("sent"), 7);
    let now = Request::new(&socket).file(&file, ..).timeout(Duration::ZERO);
    context.submit(&now).expect("accepted");
    assert_eq!(context.poll(&mut done, None), Ok(1));
}

#[test]
fn the_descriptor_tells_of_completions_that_came_before_it_was_asked_for() {
    let context = Context::new(&Options::new()).expect("a context");
    let (socket, _peer) = UnixStream::pair().expect("a pair");
    let file = file_of(b"content");
    let mut ids = Vec::new();
    let requests = [Request::new(&socket).file(&file, ..); 2];
    assert_eq!(context.submit_many(&requests, &mut ids), Ok(2));
    while context.stats().expect("stats").in_flight > 0 {
        std::thread::yield_now();
    }
    assert!(is_readable(context.as_fd()));
    let mut done = [Completion::default(); 8];
    assert_eq!(context.poll(&mut done, Some(Duration::ZERO)), Ok(2));
    assert_eq!([done[0].id, done[1].id], ids[..]);
    ids.push(context.submit(&requests[0]).expect("accepted"));
    assert!(is_readable(context.as_fd()));
    assert_eq!(context.poll(&mut done, Some(Duration::ZERO)), Ok(1));
    assert_eq!(done[0].id, ids[2]);
}

#[test]
fn a_descriptor_that_the_host_has_closed_is_reported_by_poll() {
    let context = Context::new(&Options::new()).expect("a context");
    let number = context.as_raw_fd();
    // SAFETY: what careless hosts do; the context looks before it uses the number.
    unsafe { libc::close(number) };
    assert_eq!(context.as_raw_fd(), number);
    let mut done = [Completion::default()];
    assert_eq!(context.poll(&mut done, None), Err(Errno(libc::EBADF)));
}

#[test]
fn sendfile_moves_the_offset_or_the_position() {
    let (socket, mut peer) = UnixStream::pair().expect("a pair");
    let mut file = file_of(b"content");
    let mut offset = 2;
    assert_eq!(snapsend::sendfile(&socket, &file, Some(&mut offset), 3), Ok(3));
    assert_eq!((offset, file.stream_position().expect("a position")), (5, 0));
    assert_eq!(snapsend::sendfile(&socket, &file, None, 100), Ok(7));
    assert_eq!(file.stream_position().expect("a position"), 7);
    let mut beyond = u64::MAX;
    let refused = snapsend::sendfile(&socket, &file, Some(&mut beyond), 1);
    assert_eq!((refused, beyond), (Err(Errno(libc::EINVAL)), u64::MAX));
    drop(socket);
    let mut received = String::new();
    peer.read_to_string(&mut received).expect("all of it");
    assert_eq!(received, "ntecontent");
}
