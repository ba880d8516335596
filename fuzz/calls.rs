// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays arbitrary sequences of the C calls with arbitrary arguments.
//!
//! Pointers are valid or null, as the header demands, and never longer than they are said to be, so that
//! AddressSanitizer sees a step too far.  Besides crashes and reports it looks for: an operation without
//! its DONE or with two, a completion that nobody asked for, a result that is no errno, bytes at the
//! peers that differ in number from what the completions tell, panics (which libFuzzer's hook ends).
#![no_main]

use ::snapsend::ffi::*;
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{io, ptr};

const SOCKETS: usize = 4;
const FILE_LENGTH: u64 = 300_000;
const PATIENCE: Duration = Duration::from_millis(500);
// Longer than anything here can take.
const HANG: Duration = Duration::from_secs(20);

/// The fuzzer's bytes, read from front to back; behind the end all is zero.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    // Mostly what is near an edge.
    fn size(&mut self) -> u64 {
        match self.byte() {
            0 => 0,
            1 => 1,
            2 => 4096,
            3 => FILE_LENGTH,
            4 => FILE_LENGTH + 1,
            5 => 128 << 10,
            6 => u64::MAX,
            7 => i64::MAX as u64,
            8 => 1 << 40,
            9 => self.number(),
            other => u64::from(other) << 10 | u64::from(self.byte()),
        }
    }
}

struct Socket {
    ours: Option<OwnedFd>,
    peer: Option<UnixStream>,
    number: RawFd,
    came: u64,
    told: u64,
}

struct World {
    ctx: *mut snapsend_t,
    sockets: Vec<Socket>,
    file: std::fs::File,
    others: Vec<OwnedFd>,
    /// Operations without a DONE: the socket, and whether SENT has been reported.
    pending: HashMap<u64, (usize, bool)>,
    /// Handles of registered files.
    files: Vec<i32>,
    /// Handles of registered sockets, and which socket each is of.
    registered: Vec<(i32, usize)>,
    dead: bool,
}

fn file() -> std::fs::File {
    use std::os::fd::FromRawFd;
    // SAFETY: a new descriptor that nobody else owns.
    let file = unsafe {
        let fd = libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        std::fs::File::from_raw_fd(fd)
    };
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; FILE_LENGTH as usize], 0)
        .expect("a file");
    file
}

fn other_descriptors() -> Vec<OwnedFd> {
    let (reader, writer) = io::pipe().expect("a pipe");
    let open = |path| OwnedFd::from(std::fs::File::open(path).expect(path));
    vec![
        reader.into(),
        writer.into(),
        open("/"),
        open("/dev/zero"),
        open("/proc/self/status"),
        std::net::UdpSocket::bind("127.0.0.1:0").expect("UDP").into(),
        std::net::TcpListener::bind("127.0.0.1:0").expect("TCP").into(),
    ]
}

fn socket() -> Socket {
    let (ours, peer) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("nonblocking");
    peer.set_nonblocking(true).expect("nonblocking");
    let number = ours.as_raw_fd();
    Socket { ours: Some(ours.into()), peer: Some(peer), number, came: 0, told: 0 }
}

fn checked(result: i32) -> i32 {
    assert!(result > -4096, "{result} is no errno");
    result
}

impl World {
    fn new(bytes: &mut Bytes<'_>) -> World {
        let mut world = World {
            ctx: ptr::null_mut(),
            sockets: (0..SOCKETS).map(|_| socket()).collect(),
            file: file(),
            others: other_descriptors(),
            pending: HashMap::new(),
            files: Vec::new(),
            registered: Vec::new(),
            dead: false,
        };
        world.create(bytes);
        world
    }

    fn create(&mut self, bytes: &mut Bytes<'_>) {
        let plain = bytes.byte();
        // SAFETY: plain data for which zero is valid.
        let mut options: snapsend_options = unsafe { std::mem::zeroed() };
        options.engine = u32::from(plain % 4);
        if plain & 64 != 0 {
            options.max_ops = bytes.size() as u32;
            options.pool_bytes = bytes.size().min(64 << 20);
            options.chunk_bytes = bytes.size();
            options.window_bytes = bytes.size();
        }
        if plain & 128 != 0 {
            options.flags = bytes.byte().into();
            options.reserved0 = bytes.byte().into();
        }
        let memory = sized(bytes, &options);
        let mut ctx = ptr::null_mut();
        // SAFETY: the memory is as long as said.
        let result = unsafe { snapsend_create(memory.as_ptr().cast(), memory.len(), &mut ctx) };
        checked(result);
        assert_eq!(ctx.is_null(), result != 0);
        self.ctx = ctx;
        if ctx.is_null() {
            // SAFETY: NULL asks for defaults.
            assert_eq!(unsafe { snapsend_create(ptr::null(), 0, &mut self.ctx) }, 0);
        }
    }

    fn request(
        &mut self,
        bytes: &mut Bytes<'_>,
        parts: &[libc::iovec],
    ) -> (snapsend_request, usize) {
        let kind = bytes.byte();
        let which = bytes.below(SOCKETS);
        // SAFETY: plain data for which zero is valid.
        let mut request: snapsend_request = unsafe { std::mem::zeroed() };
        request.socket_fd = self.sockets[which].number;
        request.file_fd = self.file.as_raw_fd();
        if kind & 1 != 0 {
            request.offset = bytes.size();
        }
        request.length = bytes.size();
        if kind & 2 != 0 {
            request.flags = bytes.byte().into();
        }
        if kind & 4 != 0 {
            request.header = parts.as_ptr();
            request.header_count = bytes.below(parts.len() + 1) as u32;
        }
        if kind & 8 != 0 {
            request.trailer = parts.as_ptr();
            request.trailer_count = bytes.below(parts.len() + 1) as u32;
        }
        if kind & 16 != 0 {
            request.file_fd = self.any_descriptor(bytes);
        }
        if kind & 32 != 0 {
            request.socket_fd = self.any_descriptor(bytes);
        }
        if kind & 64 != 0 {
            request.timeout_ms = u32::from(bytes.byte()) + 1;
        }
        if kind & 128 != 0 {
            // Counts that nothing stands behind.
            request.header = ptr::null();
            request.header_count = bytes.size() as u32;
        }
        let which =
            self.sockets.iter().position(|s| s.number == request.socket_fd && s.ours.is_some());
        let which = self.use_handles(bytes, &mut request).or(which);
        (request, which.unwrap_or(usize::MAX))
    }

    // Names file and socket by handles if the flag of registered files is set; mostly by those that
    // there are.  Returns the socket, if it is named so.
    fn use_handles(&self, bytes: &mut Bytes<'_>, request: &mut snapsend_request) -> Option<usize> {
        if request.flags & SNAPSEND_REGISTERED_FILE == 0 {
            return None;
        }
        let choice = bytes.byte();
        request.file_fd = match choice % 8 {
            0 => bytes.number() as i32,
            1 => -1,
            _ => self.files.last().copied().unwrap_or(1),
        };
        if choice & 8 != 0 {
            request.flags &= !SNAPSEND_REGISTERED_FILE;
            request.file_fd = self.file.as_raw_fd();
        }
        if choice & 16 == 0 {
            return None;
        }
        request.flags |= SNAPSEND_REGISTERED_SOCKET;
        let number = bytes.byte() as usize;
        let (handle, socket) = match self.registered.len() {
            0 => (number as i32, usize::MAX),
            count => self.registered[number % count],
        };
        request.socket_fd = handle;
        Some(socket)
    }

    fn any_descriptor(&self, bytes: &mut Bytes<'_>) -> RawFd {
        match bytes.below(16) {
            n if n < self.others.len() => self.others[n].as_raw_fd(),
            n if n < 11 => self.sockets[n % SOCKETS].number,
            11 => -1,
            12 => self.file.as_raw_fd(),
            13 => bytes.number() as i32 | i32::MIN,
            14 => i32::MAX,
            _ => 1_000_000,
        }
    }

    fn accepted(&mut self, id: u64, socket: usize) {
        assert_ne!(id, 0);
        assert!(socket < SOCKETS, "accepted on what is no socket of ours");
        assert!(self.pending.insert(id, (socket, false)).is_none(), "id {id} given twice");
    }

    fn done(&mut self, completion: &snapsend_completion) {
        assert!(completion.status <= 0 && checked(completion.status) <= 0);
        assert!(completion.file_bytes <= completion.wire_bytes);
        if completion.event == SNAPSEND_EVENT_SNAPSHOT {
            assert!(self.pending.contains_key(&completion.id), "SNAPSHOT behind DONE");
            return;
        }
        if completion.event == SNAPSEND_EVENT_SENT {
            let (_, was_sent) = self.pending.get_mut(&completion.id).expect("SENT behind DONE");
            assert!(!std::mem::replace(was_sent, true), "SENT twice");
            return;
        }
        let (socket, _) = self.pending.remove(&completion.id).expect("DONE of what is pending");
        self.sockets[socket].told += completion.wire_bytes;
    }

    fn submit(&mut self, bytes: &mut Bytes<'_>, parts: &[libc::iovec]) {
        let (request, socket) = self.request(bytes, parts);
        let memory = sized(bytes, &request);
        let mut id = 0;
        // SAFETY: memory as long as said.
        let result =
            unsafe { snapsend_submit(self.ctx, memory.as_ptr().cast(), memory.len(), &mut id) };
        if checked(result) == 0 {
            self.accepted(id, socket);
        }
    }

    fn submit_many(&mut self, bytes: &mut Bytes<'_>, parts: &[libc::iovec]) {
        let count = 1 + bytes.below(5);
        let (requests, sockets): (Vec<_>, Vec<_>) =
            (0..count).map(|_| self.request(bytes, parts)).unzip();
        let mut ids = vec![0u64; count];
        let size = size_of::<snapsend_request>();
        // SAFETY: arrays of `count`.
        let result = unsafe {
            snapsend_submit_many(self.ctx, requests.as_ptr(), size, count as u32, ids.as_mut_ptr())
        };
        for place in 0..checked(result).max(0) as usize {
            self.accepted(ids[place], sockets[place]);
        }
    }

    fn try_send(&mut self, bytes: &mut Bytes<'_>, parts: &[libc::iovec]) {
        let (request, socket) = self.request(bytes, parts);
        let memory = sized(bytes, &request);
        let mut completion = completion();
        // SAFETY: memory as long as said.
        let result = unsafe {
            snapsend_try_send(self.ctx, memory.as_ptr().cast(), memory.len(), &mut completion)
        };
        match checked(result) {
            0 => self.accepted(completion.id, socket),
            1 => self.sockets[socket].told += completion.wire_bytes,
            error => assert!(error < 0),
        }
    }

    // Only with a time limit: nobody reads meanwhile.
    fn send(&mut self, bytes: &mut Bytes<'_>, parts: &[libc::iovec]) {
        let (mut request, socket) = self.request(bytes, parts);
        request.timeout_ms = 1 + request.timeout_ms % 8;
        let mut completion = completion();
        let size = size_of::<snapsend_request>();
        // SAFETY: a whole request.
        let result = unsafe { snapsend_send(self.ctx, &request, size, &mut completion) };
        if checked(result) == 0 {
            self.sockets[socket].told += completion.wire_bytes;
        }
    }

    fn poll(&mut self, max: u32, timeout_ms: i32) -> i32 {
        let mut out = vec![completion(); max as usize];
        let pointer = if max == 0 { ptr::null_mut() } else { out.as_mut_ptr() };
        // SAFETY: room for max.
        let result = unsafe { snapsend_poll(self.ctx, pointer, max, timeout_ms) };
        for completion in &out[..checked(result).max(0) as usize] {
            self.done(completion);
        }
        self.dead |= result < 0 && max > 0 && timeout_ms >= -1 && result != -libc::EINTR;
        result
    }

    fn sendfile(&mut self, bytes: &mut Bytes<'_>) {
        let which = bytes.below(SOCKETS);
        let mut offset = bytes.size() as i64;
        let out = match bytes.byte() % 4 {
            0 => self.others[1].as_raw_fd(),
            _ => self.sockets[which].number,
        };
        let is_socket = out == self.sockets[which].number && self.sockets[which].ours.is_some();
        let from =
            if bytes.byte() % 4 == 0 { self.any_descriptor(bytes) } else { self.file.as_raw_fd() };
        // What would wait: a full pipe, and reading from a socket or pipe.
        if !is_socket || (from != self.file.as_raw_fd() && from >= 0) {
            return;
        }
        let pointer = match bytes.byte() % 8 {
            0 => ptr::null_mut(),
            1 => 8 as *mut i64,
            _ => &raw mut offset,
        };
        // SAFETY: the offset may be any address.
        let result = unsafe { snapsend_sendfile(out, from, pointer, bytes.size() as usize) };
        if result > 0 {
            self.sockets[which].told += result as u64;
        }
    }

    fn ask(&mut self, bytes: &mut Bytes<'_>) {
        let mut memory = vec![0u8; bytes.below(256)];
        let (pointer, length) = (memory.as_mut_ptr(), memory.len());
        let pointer = if bytes.byte() == 0 { ptr::null_mut() } else { pointer };
        // SAFETY: memory as long as said.
        unsafe {
            checked(snapsend_get_info(self.ctx, pointer.cast(), length));
            checked(snapsend_get_stats(self.ctx, pointer.cast(), length));
            checked(snapsend_event_fd(self.ctx));
        }
    }

    fn cancel(&mut self, bytes: &mut Bytes<'_>) {
        let id = match bytes.byte() % 4 {
            0 => bytes.size(),
            _ => self.pending.keys().min().copied().unwrap_or(1),
        };
        // SAFETY: no pointers.
        let result = unsafe { snapsend_cancel(self.ctx, id) };
        assert!(
            checked(result) < 0 || self.pending.contains_key(&id),
            "cancelled what was not pending"
        );
    }

    fn cancel_socket(&mut self, bytes: &mut Bytes<'_>) {
        let number = match bytes.byte() % 4 {
            0 => self.any_descriptor(bytes),
            _ => self.sockets[bytes.below(SOCKETS)].number,
        };
        // SAFETY: no pointers.
        checked(unsafe { snapsend_cancel_socket(self.ctx, number) });
    }

    fn register(&mut self, bytes: &mut Bytes<'_>) {
        let flags = u32::from(bytes.byte() == 0);
        let which = bytes.below(SOCKETS);
        let is_socket = self.sockets[which].ours.is_some();
        // SAFETY: no pointers.
        let results = unsafe {
            match bytes.byte() % 4 {
                0 => {
                    let file = self.any_descriptor(bytes);
                    (snapsend_register_file(self.ctx, file, flags), -1)
                }
                1 if is_socket => {
                    (-1, snapsend_register_socket(self.ctx, self.sockets[which].number, flags))
                }
                2 => {
                    (-1, snapsend_register_socket(self.ctx, self.others[which].as_raw_fd(), flags))
                }
                _ => (snapsend_register_file(self.ctx, self.file.as_raw_fd(), flags), -1),
            }
        };
        assert!(flags == 0 || results.0 < 0 && results.1 < 0, "an unknown flag is accepted");
        if checked(results.0) > 0 {
            self.files.push(results.0);
        }
        if checked(results.1) > 0 {
            self.registered.push((results.1, which));
        }
    }

    fn unregister(&mut self, bytes: &mut Bytes<'_>) {
        let choice = bytes.byte();
        // SAFETY: no pointers.
        unsafe {
            match choice % 4 {
                0 => {
                    let stale = bytes.number() as i32;
                    let known = self.files.contains(&stale);
                    assert!(known || snapsend_unregister_file(self.ctx, stale) < 0);
                }
                1 => {
                    if let Some((handle, _)) = self.registered.pop() {
                        checked(snapsend_unregister_socket(self.ctx, handle));
                        assert_eq!(snapsend_unregister_socket(self.ctx, handle), -libc::EBADF);
                    }
                }
                _ => {
                    if let Some(handle) = self.files.pop() {
                        checked(snapsend_unregister_file(self.ctx, handle));
                        assert_eq!(snapsend_unregister_file(self.ctx, handle), -libc::EBADF);
                    }
                }
            }
        }
    }

    // Closes our end; its number must stay what it is as long as it is registered.
    fn close(&mut self, which: usize) {
        for (handle, _) in self.registered.extract_if(.., |&mut (_, of)| of == which) {
            // SAFETY: no pointers.
            checked(unsafe { snapsend_unregister_socket(self.ctx, handle) });
        }
        drop(self.sockets[which].ours.take());
    }

    fn read(&mut self) -> u64 {
        let mut block = [0u8; 65536];
        let mut all = 0;
        for socket in &mut self.sockets {
            while let Some(Ok(count @ 1..)) =
                socket.peer.as_mut().map(|peer| io::Read::read(peer, &mut block))
            {
                socket.came += count as u64;
                all += count as u64;
            }
        }
        all
    }

    fn meddle(&mut self, bytes: &mut Bytes<'_>) {
        let which = bytes.below(SOCKETS);
        let peer = self.sockets[which].peer.as_ref();
        match bytes.byte() % 8 {
            0 => self.close(which),
            1 => drop(self.sockets[which].peer.take()),
            2 => peer.map_or((), |peer| peer.shutdown(std::net::Shutdown::Read).unwrap_or(())),
            // SAFETY: no pointers.
            3 => _ = unsafe { libc::shutdown(self.sockets[which].number, libc::SHUT_WR) },
            4 => self.file.set_len(bytes.size() % (2 * FILE_LENGTH)).expect("a length"),
            5 => self.register(bytes),
            6 => self.unregister(bytes),
            _ => _ = self.read(),
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>, parts: &[libc::iovec]) {
        match bytes.below(16) {
            0..=3 => self.submit(bytes, parts),
            4 => self.submit_many(bytes, parts),
            5 | 6 => self.try_send(bytes, parts),
            7 => self.send(bytes, parts),
            8 | 9 => _ = self.poll(1 + bytes.below(4) as u32, bytes.below(2) as i32),
            10 => _ = self.poll(bytes.below(2) as u32, -2),
            11 => self.cancel(bytes),
            12 => self.cancel_socket(bytes),
            13 => self.sendfile(bytes),
            14 => self.ask(bytes),
            _ => self.meddle(bytes),
        }
    }

    // All that is pending ends once the peers read, but for a terabyte of padding, which is cancelled;
    // what went out is what was told.
    fn finish(&mut self) {
        let (patience, end) = (Instant::now() + PATIENCE, Instant::now() + HANG);
        while !self.pending.is_empty() {
            if Instant::now() > patience {
                for &id in self.pending.keys() {
                    // SAFETY: no pointers.
                    checked(unsafe { snapsend_cancel(self.ctx, id) });
                }
            }
            self.read();
            self.poll(8, 1);
            assert!(!self.dead, "the context is dead");
            assert!(Instant::now() < end, "no DONE of {:?}", self.pending);
        }
        assert_eq!(self.poll(1, 0), 0, "a completion too many");
        self.read();
        for socket in &self.sockets {
            assert!(
                socket.peer.is_none() || socket.came == socket.told,
                "{} bytes came and {} were told",
                socket.came,
                socket.told
            );
        }
    }
}

// The struct's bytes, or a part of them, or more, in memory of exactly that length.
fn sized<T>(bytes: &mut Bytes<'_>, value: &T) -> Box<[u8]> {
    let whole = size_of::<T>();
    // SAFETY: any value can be read as bytes; the structs of the interface have no padding.
    let image = unsafe { std::slice::from_raw_parts(ptr::from_ref(value).cast::<u8>(), whole) };
    let length = match bytes.byte() {
        0 => bytes.below(256),
        1 => whole - 1,
        2 => whole + 8,
        _ => whole,
    };
    let mut memory = vec![0; length];
    memory[..length.min(whole)].copy_from_slice(&image[..length.min(whole)]);
    if length > whole && bytes.byte() == 0 {
        memory[length - 1] = 1;
    }
    memory.into_boxed_slice()
}

fn completion() -> snapsend_completion {
    // SAFETY: plain data for which zero is valid.
    unsafe { std::mem::zeroed() }
}

fuzz_target!(|data: &[u8]| {
    // SAFETY: no pointers.  As sendfile(2) does, snapsend_sendfile() raises it where nobody reads.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let mut bytes = Bytes(data);
    let text = vec![b'h'; 3000].into_boxed_slice();
    let part = |length| libc::iovec { iov_base: text.as_ptr() as *mut _, iov_len: length };
    let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let parts: Box<[libc::iovec]> = Box::new([part(5), empty, part(1), part(3000)]);
    let mut world = World::new(&mut bytes);
    let leaves_at_once = bytes.byte() % 4 == 0;
    while !bytes.0.is_empty() {
        world.step(&mut bytes, &parts);
    }
    if !leaves_at_once {
        world.finish();
    }
    // SAFETY: made by snapsend_create(), and not used again.
    assert_eq!(unsafe { snapsend_destroy(world.ctx) }, 0);
});
