// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations as futures, under tokio and smol, on both engines.

use snapsend::futures::{AsyncContext, OperationFuture, SentFuture, SnapshotFuture};
use snapsend::{
    Completion, EngineChoice, Info, Options, RegisteredFile, RegisteredSocket, Request,
    RequestFlags, Stats,
};
use std::fs::File;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

const FILE_BYTES: usize = 4 << 20;

// ---- what the tests stand on ---------------------------------------------------------------

/// Both engines, or the one that there is.
fn contexts(options: Options) -> impl Iterator<Item = Arc<AsyncContext>> {
    [EngineChoice::Uring, EngineChoice::Portable].into_iter().filter_map(move |engine| {
        match AsyncContext::new(&options.clone().engine(engine)) {
            Ok(context) => Some(Arc::new(context)),
            Err(error) if engine == EngineChoice::Uring => {
                println!("SKIP: no io_uring here ({error})");
                None
            }
            Err(error) => panic!("{error}"),
        }
    })
}

fn byte_at(offset: usize) -> u8 {
    (offset ^ offset >> 8 ^ offset >> 16) as u8
}

fn file() -> File {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("snapsend-futures-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let content: Vec<u8> = (0..FILE_BYTES).map(byte_at).collect();
    file.write_all(&content).unwrap();
    file
}

fn assert_content(received: &[u8], offset: usize) {
    let differs = received.iter().enumerate().position(|(at, &byte)| byte != byte_at(offset + at));
    assert_eq!(differs, None, "the first byte that is not the file's");
}

async fn dispatch_with_tokio(context: Arc<AsyncContext>) -> io::Result<()> {
    // SAFETY: the context owns its descriptor, and neither closes nor replaces it.
    let descriptor = unsafe { AsyncFd::register(context) }?;
    loop {
        descriptor.readable().await?.clear_ready();
        descriptor.get_ref().dispatch()?;
    }
}

async fn dispatch_with_smol(context: Arc<AsyncContext>) -> io::Result<()> {
    let descriptor = smol::Async::new_nonblocking(context)?;
    loop {
        descriptor.readable().await?;
        descriptor.get_ref().dispatch()?;
    }
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Counts how often it was called.
#[derive(Default)]
struct CountingWaker(AtomicU64);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl CountingWaker {
    fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(self.clone());
        Pin::new(future).poll(&mut task::Context::from_waker(&waker))
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Dispatches until `is_over` of how many completions were taken, which must come within 10 seconds.
fn dispatch_until(context: &AsyncContext, is_over: impl Fn(usize) -> bool) {
    let (begin, mut taken) = (Instant::now(), 0);
    while !is_over(taken) {
        taken += context.dispatch().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10), "it never comes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Neither end can take all of the file at once.
fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

// ---- the interface -------------------------------------------------------------------------

#[test]
fn interface() {
    fn shared<T: Send + Sync + std::fmt::Debug>() {}
    fn future<T: Future + Send + Unpin + std::fmt::Debug>() {}
    shared::<AsyncContext>();
    future::<OperationFuture<'static>>();
    future::<SnapshotFuture<'static, 'static>>();
    future::<SentFuture<'static, 'static>>();
    let _: fn(&Options) -> io::Result<AsyncContext> = AsyncContext::new;
    let _: for<'a> fn(&'a AsyncContext, Request<'a>) -> OperationFuture<'a> =
        AsyncContext::operation;
    let _: fn(&AsyncContext) -> io::Result<usize> = AsyncContext::dispatch;
    let _: fn(&AsyncContext, BorrowedFd<'static>) -> io::Result<u32> = AsyncContext::cancel_socket;
    let _: for<'a> fn(&'a AsyncContext, BorrowedFd<'static>) -> io::Result<RegisteredFile<'a>> =
        AsyncContext::register_file;
    let _: for<'a> fn(&'a AsyncContext, BorrowedFd<'static>) -> io::Result<RegisteredSocket<'a>> =
        AsyncContext::register_socket;
    let _: fn(&AsyncContext) -> io::Result<Info> = AsyncContext::info;
    let _: fn(&AsyncContext) -> io::Result<Stats> = AsyncContext::stats;
    let _: fn(&AsyncContext) -> BorrowedFd<'_> = AsyncContext::as_fd;
    let _: fn(&AsyncContext) -> i32 = AsyncContext::as_raw_fd;
}

// ---- many at once --------------------------------------------------------------------------

const SENDS: usize = 1000;

/// Fails where a task that is not woken would wait indefinitely.
async fn within_limit<T>(work: impl Future<Output = T>) -> T {
    let over = async {
        smol::Timer::after(Duration::from_secs(100)).await;
        panic!("a wake-up was lost")
    };
    smol::future::or(work, over).await
}

/// Where the range of a send starts, and its length: short and long ones.
fn range(index: usize) -> std::ops::Range<u64> {
    let start = index as u64 * 4093 % (FILE_BYTES as u64 / 2);
    let length = [100, 5000, 70_000, 300_000][index % 4] + index as u64;
    start..start + length
}

fn header(index: usize) -> [u8; 8] {
    (index as u64).to_be_bytes()
}

async fn send_one(context: &AsyncContext, file: &File, socket: impl AsFd, index: usize) {
    let header = header(index);
    let header = [IoSlice::new(&header)];
    let request = Request::new(&socket).file(file, range(index)).header(&header);
    let done = context.operation(request.user_data(index as u64)).await.unwrap();
    assert_eq!(done.user_data, index as u64);
    let length = range(index).end - range(index).start;
    assert_eq!((done.result().unwrap(), done.file_bytes), (8 + length, length));
}

fn check_received(received: &[u8], index: usize) {
    assert_eq!(received[..8], header(index));
    assert_eq!(received.len() as u64 - 8, range(index).end - range(index).start);
    assert_content(&received[8..], range(index).start as usize);
}

#[test]
fn a_thousand_sends_at_once_are_exact_under_tokio() {
    use tokio::io::AsyncReadExt;
    let file = Arc::new(file());
    for context in contexts(Options::new()) {
        tokio_runtime().block_on(async {
            tokio::spawn(dispatch_with_tokio(context.clone()));
            let mut tasks = tokio::task::JoinSet::new();
            for index in 0..SENDS {
                let (socket, mut peer) = tokio::net::UnixStream::pair().unwrap();
                let (context, file) = (context.clone(), file.clone());
                tasks.spawn(async move { send_one(&context, &file, socket, index).await });
                tasks.spawn(async move {
                    let mut received = Vec::new();
                    peer.read_to_end(&mut received).await.unwrap();
                    check_received(&received, index);
                });
            }
            while let Some(ended) = within_limit(tasks.join_next()).await {
                ended.unwrap();
            }
        });
        assert_eq!(context.stats().unwrap().done_ok, SENDS as u64);
    }
}

#[test]
fn a_thousand_sends_at_once_are_exact_under_smol() {
    use smol::io::AsyncReadExt;
    let file = Arc::new(file());
    for context in contexts(Options::new()) {
        smol::block_on(async {
            let dispatcher = smol::spawn(dispatch_with_smol(context.clone()));
            let mut tasks = Vec::new();
            for index in 0..SENDS {
                let (socket, mut peer) = smol::net::unix::UnixStream::pair().unwrap();
                let (context, file) = (context.clone(), file.clone());
                tasks.push(smol::spawn(async move {
                    send_one(&context, &file, socket, index).await;
                }));
                tasks.push(smol::spawn(async move {
                    let mut received = Vec::new();
                    peer.read_to_end(&mut received).await.unwrap();
                    check_received(&received, index);
                }));
            }
            for task in tasks {
                within_limit(task).await;
            }
            dispatcher.cancel().await;
        });
        assert_eq!(context.stats().unwrap().done_ok, SENDS as u64);
    }
}

// ---- dropped futures -----------------------------------------------------------------------

#[test]
fn a_dropped_future_cancels_its_operation_and_no_other() {
    let file = file();
    for context in contexts(Options::new()) {
        let pairs: Vec<_> = (0..64).map(|_| pair()).collect();
        let waker = Arc::new(CountingWaker::default());
        let start = |pair: &(UnixStream, UnixStream)| {
            let mut future = context.operation(Request::new(&pair.0).file(&file, ..));
            assert!(waker.poll(&mut future).is_pending());
            drop(future);
        };
        pairs.iter().skip(1).for_each(start);
        let mut kept = context.operation(Request::new(&pairs[0].0).file(&file, ..));
        assert!(waker.poll(&mut kept).is_pending());
        dispatch_until(&context, |_| context.stats().unwrap().in_flight == 1);
        assert_eq!(context.stats().unwrap().cancelled, 63);
        // Nothing is held of those any more, not even what their DONE took.
        for (socket, peer) in &pairs[1..] {
            socket.shutdown(std::net::Shutdown::Both).unwrap();
            let mut received = Vec::new();
            (&*peer).read_to_end(&mut received).unwrap();
            assert_content(&received, 0);
        }
        let reader = &pairs[0].1;
        std::thread::scope(|scope| {
            scope.spawn(|| (&*reader).read_exact(&mut vec![0; FILE_BYTES]).unwrap());
            dispatch_until(&context, |_| context.stats().unwrap().in_flight == 0);
        });
        let Poll::Ready(done) = waker.poll(&mut kept) else { panic!("it is pending") };
        assert_eq!(done.unwrap().result().unwrap(), FILE_BYTES as u64);
    }
}

#[test]
fn futures_that_were_never_polled_or_have_ended_cancel_nothing() {
    let file = file();
    for context in contexts(Options::new()) {
        let (socket, _peer) = pair();
        drop(context.operation(Request::new(&socket).file(&file, ..)));
        assert_eq!(context.stats().unwrap().submitted, 0);
        let done = smol::block_on(context.operation(Request::new(&socket).file(&file, ..10)));
        assert_eq!(done.unwrap().result().unwrap(), 10);
        assert_eq!(context.stats().unwrap().cancelled, 0);
    }
}

#[test]
fn permits_of_dropped_futures_come_back() {
    let file = file();
    for context in contexts(Options::new().max_ops(4)) {
        let waker = Arc::new(CountingWaker::default());
        for _ in 0..50 {
            let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
            let request = |index: usize| Request::new(&pairs[index].0).file(&file, ..);
            let mut futures: Vec<_> = (0..4).map(|at| context.operation(request(at))).collect();
            for future in &mut futures {
                assert!(waker.poll(future).is_pending());
            }
            let Poll::Ready(refused) = waker.poll(&mut context.operation(request(4))) else {
                panic!("it was accepted");
            };
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop(futures);
            dispatch_until(&context, |taken| taken == 4);
        }
    }
}

#[test]
fn a_runtime_that_ends_takes_its_futures_along() {
    let file = Arc::new(file());
    for context in contexts(Options::new()) {
        let pairs: Vec<_> = (0..32).map(|_| pair()).collect();
        let runtime = tokio_runtime();
        runtime.spawn(dispatch_with_tokio(context.clone()));
        for (socket, _) in &pairs {
            let (context, file) = (context.clone(), file.clone());
            let socket = socket.try_clone().unwrap();
            runtime.spawn(async move {
                let _ = context.operation(Request::new(&socket).file(&file, ..)).await;
            });
        }
        while context.stats().unwrap().in_flight < 32 {
            std::thread::yield_now();
        }
        drop(runtime);
        dispatch_until(&context, |_| context.stats().unwrap().in_flight == 0);
        assert_eq!(context.stats().unwrap().cancelled, 32);
        // The last owner: destroyed with nothing in flight, or with something.
        let mut future = context.operation(Request::new(&pairs[0].0).file(&file, ..10));
        let _ = Arc::new(CountingWaker::default()).poll(&mut future);
        drop(future);
        drop(Arc::into_inner(context).expect("nobody else has it"));
    }
}

// ---- wakers --------------------------------------------------------------------------------

#[test]
fn the_task_that_polled_last_is_woken_by_whoever_takes_the_completion() {
    let file = file();
    for context in contexts(Options::new()) {
        let (socket, mut peer) = pair();
        let [first, second, other] = std::array::from_fn(|_| Arc::new(CountingWaker::default()));
        let mut future = context.operation(Request::new(&socket).file(&file, ..));
        assert!(first.poll(&mut future).is_pending());
        assert!(second.poll(&mut future).is_pending());
        let (blocked, _its_peer) = pair();
        let mut another = context.operation(Request::new(&blocked).file(&file, ..));
        assert!(other.poll(&mut another).is_pending());
        peer.read_exact(&mut vec![0; FILE_BYTES]).unwrap();
        // Nobody dispatches but the other future.
        dispatch_by(&mut another, &other, || second.count() > 0);
        assert_eq!((first.count(), other.count()), (0, 0));
        let Poll::Ready(done) = second.poll(&mut future) else { panic!("it is pending") };
        assert_eq!(done.unwrap().result().unwrap(), FILE_BYTES as u64);
    }
}

fn dispatch_by(
    future: &mut OperationFuture<'_>,
    waker: &Arc<CountingWaker>,
    is_over: impl Fn() -> bool,
) {
    let begin = Instant::now();
    while !is_over() {
        assert!(waker.poll(future).is_pending());
        assert!(begin.elapsed() < Duration::from_secs(10), "it never comes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn two_runtimes_share_a_context() {
    let file = Arc::new(file());
    for context in contexts(Options::new()) {
        let (first, second) = (tokio_runtime(), tokio_runtime());
        first.spawn(dispatch_with_tokio(context.clone()));
        second.spawn(dispatch_with_tokio(context.clone()));
        let send = |index: usize| {
            let (context, file) = (context.clone(), file.clone());
            async move {
                let (socket, mut peer) = UnixStream::pair().unwrap();
                let reader = std::thread::spawn(move || {
                    let mut received = Vec::new();
                    peer.read_to_end(&mut received).unwrap();
                    check_received(&received, index);
                });
                send_one(&context, &file, socket, index).await;
                reader.join().unwrap();
            }
        };
        first.block_on(send(3));
        second.block_on(send(7));
        // The end of one does not stop the other's.
        drop(first);
        second.block_on(send(11));
    }
}

// ---- the snapshot --------------------------------------------------------------------------

#[test]
fn the_snapshot_comes_before_the_end_and_later_changes_stay_out() {
    let file = file();
    let length = 1 << 20;
    for context in contexts(Options::new()) {
        let (socket, mut peer) = pair();
        let flags = RequestFlags::EAGER | RequestFlags::NOTIFY_SNAPSHOT;
        let request = Request::new(&socket).file(&file, ..length).flags(flags);
        tokio_runtime().block_on(async {
            tokio::spawn(dispatch_with_tokio(context.clone()));
            let mut sending = context.operation(request);
            sending.snapshot().await.unwrap();
            assert_eq!(context.stats().unwrap().in_flight, 1);
            file.write_all_at(&vec![0xff; length as usize], 0).unwrap();
            let reader = tokio::task::spawn_blocking(move || {
                let mut received = vec![0; length as usize];
                peer.read_exact(&mut received).unwrap();
                assert_content(&received, 0);
            });
            assert_eq!(sending.await.unwrap().result().unwrap(), length);
            reader.await.unwrap();
        });
        let content: Vec<u8> = (0..length as usize).map(byte_at).collect();
        file.write_all_at(&content, 0).unwrap();
    }
}

#[test]
fn without_a_snapshot_the_end_stands_for_it() {
    let file = file();
    for context in contexts(Options::new()) {
        let (socket, _peer) = pair();
        let done: io::Result<Completion> = smol::block_on(async {
            let mut sending = context.operation(Request::new(&socket).file(&file, ..10));
            sending.snapshot().await?;
            sending.await
        });
        assert_eq!(done.unwrap().result().unwrap(), 10);
        let directory = File::open("/").unwrap();
        let mut refused = context.operation(Request::new(&socket).file(&directory, ..));
        let error = smol::block_on(refused.snapshot()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
        assert_eq!(smol::block_on(refused).unwrap_err().raw_os_error(), Some(libc::EISDIR));
    }
}

// ---- registered descriptors, and SENT ------------------------------------------------------

#[test]
fn registered_descriptors_are_named_by_their_guards() {
    let file = Arc::new(file());
    for context in contexts(Options::new()) {
        let (socket, mut peer) = pair();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            received
        });
        let runtime = tokio_runtime();
        runtime.spawn(dispatch_with_tokio(context.clone()));
        {
            let to = context.register_socket(&socket).unwrap();
            let from = context.register_file(&file).unwrap();
            for length in [1000, FILE_BYTES as u64] {
                let request = Request::to_registered(&to).registered_file(&from, ..length);
                let done = runtime.block_on(within_limit(context.operation(request))).unwrap();
                assert_eq!(done.result().unwrap(), length);
            }
        }
        drop(socket);
        // The peer sees the end: the guards have given the socket back.
        let received = reader.join().unwrap();
        assert_content(&received[..1000], 0);
        assert_content(&received[1000..], 0);
        assert_eq!(received.len(), 1000 + FILE_BYTES);
    }
}

#[test]
fn sent_comes_before_the_end_or_with_it() {
    let file = file();
    for context in contexts(Options::new()) {
        for flags in [RequestFlags::empty(), RequestFlags::NOTIFY_SENT] {
            let (socket, mut peer) = pair();
            let reader = std::thread::spawn(move || {
                peer.read_exact(&mut vec![0; FILE_BYTES]).unwrap();
                peer
            });
            smol::block_on(within_limit(async {
                let dispatcher = smol::spawn(dispatch_with_smol(context.clone()));
                let flags = flags | RequestFlags::ZEROCOPY;
                let request = Request::new(&socket).file(&file, ..FILE_BYTES as u64).flags(flags);
                let mut sending = context.operation(request);
                sending.sent().await.unwrap();
                sending.sent().await.unwrap();
                socket.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(sending.await.unwrap().result().unwrap(), FILE_BYTES as u64);
                drop(dispatcher);
            }));
            assert_eq!(reader.join().unwrap().read(&mut [0]).unwrap(), 0);
        }
        let closed = Request::new(&file).file(&file, ..10);
        let mut refused = context.operation(closed);
        let error = smol::block_on(refused.sent()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    }
}

// ---- the end of a context ------------------------------------------------------------------

#[test]
fn futures_fail_when_the_host_has_closed_the_descriptor() {
    let file = file();
    for context in contexts(Options::new()) {
        let (socket, _peer) = pair();
        let waker = Arc::new(CountingWaker::default());
        let mut future = context.operation(Request::new(&socket).file(&file, ..));
        assert!(waker.poll(&mut future).is_pending());
        let other = File::open("/dev/null").unwrap();
        // SAFETY: what careless hosts do: another file behind the number.
        unsafe { libc::dup2(other.as_raw_fd(), context.as_raw_fd()) };
        // Either it still gets its DONE, or it is told that there will be none.
        let begin = Instant::now();
        while waker.count() == 0 && waker.poll(&mut future).is_pending() {
            assert!(begin.elapsed() < Duration::from_secs(10), "it stays pending");
            let _ = context.as_fd();
            let _ = context.dispatch();
        }
        let request = Request::new(&socket).file(&file, ..);
        let refused = smol::block_on(context.operation(request)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
    }
}

// ---- stress --------------------------------------------------------------------------------

/// Seconds, of both engines together; 10 for a thorough run.
fn stress_time() -> Duration {
    let seconds = std::env::var("FUTURES_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

#[test]
fn no_wake_up_is_lost() {
    let file = Arc::new(file());
    let contexts: Vec<_> = contexts(Options::new()).collect();
    let time = stress_time() / contexts.len() as u32;
    for context in contexts {
        let (deadline, sends) = (Instant::now() + time, Arc::new(AtomicU64::new(0)));
        tokio_runtime().block_on(async {
            tokio::spawn(dispatch_with_tokio(context.clone()));
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..16 {
                let (context, file, sends) = (context.clone(), file.clone(), sends.clone());
                tasks.spawn(async move {
                    let mut index = number;
                    while Instant::now() < deadline {
                        send_and_receive(&context, &file, index).await;
                        sends.fetch_add(1, Ordering::Relaxed);
                        index += 16;
                    }
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        });
        let stats = context.stats().unwrap();
        println!("{} sends, {} cancelled", sends.load(Ordering::Relaxed), stats.cancelled);
        assert!(sends.load(Ordering::Relaxed) > 0);
    }
}

// Every fifth send is dropped before its end.  A wake-up that is lost fails the test.
async fn send_and_receive(context: &AsyncContext, file: &File, index: usize) {
    use tokio::io::AsyncReadExt;
    let is_dropped = index % 5 == 0;
    let (socket, mut peer) = tokio::net::UnixStream::pair().unwrap();
    let send = async move {
        if is_dropped {
            let whole = context.operation(Request::new(&socket).file(file, ..));
            let _ = tokio::time::timeout(Duration::from_micros(index as u64 % 700), whole).await;
        } else {
            send_one(context, file, socket, index).await;
        }
    };
    let receive = async move {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        received
    };
    let both = async { tokio::join!(send, receive).1 };
    let ended = tokio::time::timeout(Duration::from_secs(20), both).await;
    let received = ended.expect("a wake-up was lost");
    if is_dropped {
        assert_content(&received, 0);
    } else {
        check_received(&received, index);
    }
}
