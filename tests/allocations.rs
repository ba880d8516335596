// SPDX-License-Identifier: MIT OR Apache-2.0
//! Warm operations allocate nothing: after a warm-up, the whole process, ring thread included, may
//! allocate at most once for each hundred operations (a queue that still grows, a peak).
//! A test that fails prints where the first allocations came from.

use snapsend::{Completion, Context, EngineChoice, Options, Request, TrySend};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SOCKETS: usize = 32;
const ANSWER: u64 = 4096;
const HEADER: [u8; 64] = [b'h'; 64];
const WARM_UP: u64 = 4096;
const OPERATIONS: u64 = 16384;
const TRACES_MAX: usize = 5;

// ---- the allocator that counts -------------------------------------------------------------

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static TRACES: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    // A backtrace allocates, too.
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if !COUNTING.load(Ordering::Relaxed) || TRACING.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    let count = ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if count >= TRACES_MAX as u64 {
        return;
    }
    TRACING.set(true);
    let trace = Backtrace::force_capture().to_string();
    TRACES.lock().unwrap().push(trace);
    TRACING.set(false);
}

// The library brings its own allocator, which ends in these.
mod libc_names {
    use super::note;
    use std::ffi::c_void;

    unsafe extern "C" {
        fn __libc_malloc(size: usize) -> *mut c_void;
        fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
        fn __libc_realloc(memory: *mut c_void, size: usize) -> *mut c_void;
        fn __libc_memalign(align: usize, size: usize) -> *mut c_void;
    }

    #[unsafe(no_mangle)]
    extern "C" fn malloc(size: usize) -> *mut c_void {
        note();
        // SAFETY: any size will do.
        unsafe { __libc_malloc(size) }
    }

    #[unsafe(no_mangle)]
    extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        note();
        // SAFETY: as above.
        unsafe { __libc_calloc(count, size) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
        note();
        // SAFETY: as the caller promises.
        unsafe { __libc_realloc(memory, size) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> i32 {
        note();
        // SAFETY: as the caller promises.
        unsafe {
            *out = __libc_memalign(align, size);
            if (*out).is_null() { libc::ENOMEM } else { 0 }
        }
    }
}

// ---- the connections -----------------------------------------------------------------------

struct Bench {
    context: Context,
    file: File,
    sockets: Vec<TcpStream>,
}

// Throws everything away, in memory of its own.
fn reader(mut peer: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while peer.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

impl Bench {
    // None: no io_uring here.
    fn new(engine: EngineChoice) -> Option<Bench> {
        let context = match Context::new(&Options::new().engine(engine)) {
            Ok(context) => context,
            Err(error) if engine == EngineChoice::Uring => {
                println!("SKIP: no io_uring here ({error:?})");
                return None;
            }
            Err(error) => panic!("{error:?}"),
        };
        let path =
            std::env::temp_dir().join(format!("snapsend-allocations-{}", std::process::id()));
        std::fs::remove_file(&path).ok();
        File::create_new(&path).unwrap().write_all(&[7; 1 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = (0..SOCKETS)
            .map(|_| {
                let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (peer, _) = listener.accept().unwrap();
                std::thread::spawn(move || reader(peer));
                socket
            })
            .collect();
        Some(Bench { context, file, sockets })
    }

    fn request<'a>(&'a self, index: u64, header: &'a [IoSlice<'a>]) -> Request<'a> {
        let socket = &self.sockets[index as usize % SOCKETS];
        let offset = index % 200 * ANSWER;
        Request::new(socket)
            .file(&self.file, offset..offset + ANSWER)
            .header(header)
            .user_data(index)
    }

    // Takes completions until as many are there.
    fn poll(&self, mut count: u64) {
        let mut done = [Completion::default(); 64];
        while count > 0 {
            let taken = self.context.poll(&mut done, Some(Duration::from_secs(20))).unwrap();
            assert!(taken > 0, "no completion in 20 s");
            for completion in &done[..taken] {
                assert_eq!(completion.result().unwrap(), HEADER.len() as u64 + ANSWER);
            }
            count -= taken as u64;
        }
    }

    fn submit(&self, count: u64, header: &[IoSlice<'_>]) {
        for begin in (0..count).step_by(SOCKETS) {
            for index in begin..begin + SOCKETS as u64 {
                self.context.submit(&self.request(index, header)).unwrap();
            }
            self.poll(SOCKETS as u64);
        }
    }

    fn submit_many(&self, count: u64, header: &[IoSlice<'_>]) {
        let mut ids = Vec::with_capacity(SOCKETS);
        for begin in (0..count).step_by(SOCKETS) {
            let requests: [Request<'_>; SOCKETS] =
                std::array::from_fn(|index| self.request(begin + index as u64, header));
            let queued = self.context.submit_many(&requests, &mut ids).unwrap();
            ids.clear();
            assert_eq!(queued, SOCKETS);
            self.poll(SOCKETS as u64);
        }
    }

    fn try_send(&self, count: u64, header: &[IoSlice<'_>]) {
        for index in 0..count {
            match self.context.try_send(&self.request(index, header)).unwrap() {
                TrySend::Done(completion) => assert!(completion.result().is_ok()),
                TrySend::Queued(_) => self.poll(1),
            }
        }
    }
}

// ---- the tests -----------------------------------------------------------------------------

type Call = fn(&Bench, u64, &[IoSlice<'_>]);

// One at a time: the allocator counts for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn check(engine: EngineChoice, call: Call) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let Some(bench) = Bench::new(engine) else { return };
    let header = [IoSlice::new(&HEADER)];
    call(&bench, WARM_UP, &header);
    ALLOCATIONS.store(0, Ordering::SeqCst);
    TRACES.lock().unwrap().clear();
    COUNTING.store(true, Ordering::SeqCst);
    call(&bench, OPERATIONS, &header);
    COUNTING.store(false, Ordering::SeqCst);
    let allocations = ALLOCATIONS.load(Ordering::SeqCst);
    if allocations > OPERATIONS / 100 {
        for trace in TRACES.lock().unwrap().iter() {
            println!("allocated by\n{trace}");
        }
        panic!("{allocations} allocations for {OPERATIONS} operations");
    }
}

#[test]
fn submit_and_poll_allocate_nothing() {
    check(EngineChoice::Uring, Bench::submit);
    check(EngineChoice::Portable, Bench::submit);
}

#[test]
fn submit_many_and_poll_allocate_nothing() {
    check(EngineChoice::Uring, Bench::submit_many);
    check(EngineChoice::Portable, Bench::submit_many);
}

#[test]
fn try_send_allocates_nothing() {
    check(EngineChoice::Uring, Bench::try_send);
    check(EngineChoice::Portable, Bench::try_send);
}
