// SPDX-License-Identifier: MIT OR Apache-2.0
//! A simulated kernel: sockets and their peers, files that others change, memory, and the requests
//! that are with it.  A script decides; when that is over, everything goes well.
#![forbid(unsafe_code)]

use super::Script;
use super::expected::Expected;
use super::memory::{Memory, Piece, What};
use crate::decide::token::Token;
use crate::engine::EngineEvent;
use crate::engine::known_files::KnownFiles;
use crate::handoff::questions::Question;
use crate::sys::{self, Span};
use crate::types::errno::{Errno, Result};
use crate::types::file::{Content, FileFacts, FileState, Size};
use crate::types::request::RequestFlags;
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// For zeros, which are nobody's.
pub(super) const NOBODY: usize = usize::MAX;

/// What a descriptor refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Thing {
    Socket(usize),
    File(usize),
}

/// A file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) facts: FileFacts,
    /// The sizes that it has had, and from which epoch on.
    pub(super) sizes: Vec<(u32, u64)>,
    /// Like those of /proc: says 0 and has more.
    pub(super) hides_size: bool,
    /// Its content cannot change.
    pub(super) is_frozen: bool,
    /// Calls of helpers on it do not come back.
    pub(super) is_hung: bool,
    /// It is cut when its last page is sent from a mapping.
    is_cut_when_sent: bool,
    /// It is a clone: of which file, and as it was at which epoch.
    pub(super) of: Option<(usize, u32)>,
    description: fs::File,
}

impl File {
    pub(super) fn size(&self) -> u64 {
        self.sizes.last().map_or(0, |&(_, size)| size)
    }

    /// What submit finds out.
    pub(super) fn size_at_submit(&self) -> u64 {
        if self.hides_size { 0 } else { self.size() }
    }

    /// What fstat(2) tells.
    pub(super) fn stat(&self) -> Size {
        match self.size() {
            0 => Size::Unknown,
            _ if self.hides_size => Size::Unknown,
            size => Size::Known(size),
        }
    }

    /// The sizes that it had between two epochs, both included.
    pub(super) fn sizes_between(&self, from: u32, to: u32) -> impl Iterator<Item = u64> + '_ {
        let before = self.sizes.iter().rposition(|&(epoch, _)| epoch <= from).unwrap_or(0);
        self.sizes[before..].iter().filter(move |(epoch, _)| *epoch <= to).map(|&(_, size)| size)
    }

    /// When it was changed between two epochs, the first not included.
    pub(super) fn changes_between(&self, from: u32, to: u32) -> impl Iterator<Item = u32> + '_ {
        self.sizes
            .iter()
            .map(|&(epoch, _)| epoch)
            .filter(move |epoch| (from + 1..=to).contains(epoch))
    }
}

/// A wait for room.
#[derive(Clone, Copy, Debug)]
struct Wait {
    token: Token,
    changes: bool,
    /// The state has been reported, and has not changed since.
    fired: bool,
}

/// Bytes that a socket has taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) piece: Piece,
    /// When it took them, and until when it may have read them: lent pages of a file are read
    /// again for each packet.
    pub(super) epoch: u32,
    pub(super) until: u32,
    pub(super) is_zero_copy: bool,
    /// More was announced behind them, or was in the same send.
    pub(super) more: bool,
}

impl Run {
    /// Whether they are pages of the file itself.
    pub(super) fn is_lent(&self) -> bool {
        self.is_zero_copy && self.piece.what == What::Window
    }
}

/// What a socket is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) capacity: u64,
    pub(super) is_unix: bool,
    pub(super) is_remote: bool,
    pub(super) has_tls: bool,
    /// O_NONBLOCK is not set.
    pub(super) blocks: bool,
    /// Zero-copy sends are copied here.
    pub(super) copies: bool,
}

impl Manner {
    /// Whether sendfile(2) neither waits nor leaves a record of TLS open.
    pub(super) fn takes_references(&self) -> bool {
        !self.blocks && !self.has_tls
    }
}

/// A socket and its peer.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) cookie: u64,
    pub(super) manner: Manner,
    used: u64,
    /// The errno with which everything fails.
    pub(super) failed: Option<i32>,
    wait: Option<Wait>,
    /// The last bytes went with MSG_MORE, and nothing has pushed them since.
    pub(super) holds_back: bool,
    /// The last send was not taken whole.
    pub(super) was_full: bool,
    pub(super) wire: Vec<Run>,
    /// The file of which it has taken bytes last, and the position behind them.
    reached: Option<(usize, u64)>,
    /// The peer acknowledges nothing.
    pub(super) is_silent: bool,
    /// The connection was reset, so that nothing of it is sent again.
    pub(super) was_reset: bool,
    /// The library has reset it.
    pub(super) was_disconnected: bool,
    description: fs::File,
}

impl Socket {
    // More is announced behind its last bytes.
    fn hold_back(&mut self) {
        self.holds_back = true;
        if let Some(last) = self.wire.last_mut() {
            last.more = true;
        }
    }

    fn is_writable(&self) -> bool {
        self.failed.is_some() || self.used * 3 <= self.manner.capacity * 2
    }
}

/// What is asked of the kernel, or of a helper.
#[derive(Debug)]
pub(super) enum Request {
    Send { socket: usize, parts: Vec<Span>, flags: i32 },
    ZeroCopy { socket: usize, parts: Vec<Span>, flags: i32 },
    Read { file: usize, offset: u64, into: Span },
    Inspect { file: usize },
    Clone { file: usize, offset: u64, length: u64 },
    Close(OwnedFd),
}

#[derive(Debug)]
struct Pending {
    token: Token,
    request: Request,
    is_call: bool,
}

/// Memory that a zero-copy send uses until its notification.
#[derive(Debug)]
struct Used {
    token: Token,
    socket: usize,
    span: Span,
    pieces: Vec<Piece>,
    /// What it has put on the wire.
    runs: Range<usize>,
    copied: bool,
    /// The send itself has been reported.
    is_reported: bool,
    /// A device does not return its packets, whatever becomes of the connection.
    is_stuck: bool,
}

impl Used {
    fn is_lent(&self) -> bool {
        self.pieces.iter().any(|piece| piece.what == What::Window)
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) script: Script,
    /// The length of a page.
    pub(super) page: u64,
    pub(super) now: Instant,
    /// Processor time.
    pub(super) thread_time: Duration,
    /// Changes of files so far.
    pub(super) epoch: u32,
    pub(super) files: Vec<File>,
    pub(super) sockets: Vec<Socket>,
    pub(super) operations: Vec<Expected>,
    pub(super) memory: Memory,
    /// Whether everything goes well from here on.
    pub(super) is_calm: bool,
    /// The engine has failed.
    pub(super) is_abandoned: bool,
    pub(super) has_zero_copy: bool,
    /// kcmp(2) is allowed.
    pub(super) compares: bool,
    /// Resets that have succeeded.
    pub(super) resets: u64,
    /// The most of a file in one send.
    pub(super) chunk: u64,
    numbers: HashMap<RawFd, Thing>,
    pending: Vec<Pending>,
    used: Vec<Used>,
    ready: Vec<EngineEvent>,
}

impl Machine {
    pub(super) fn new(script: Script, page: u64) -> Machine {
        Machine {
            script,
            page,
            // Later than any time that the library has looked up by itself.
            thread_time: Duration::ZERO,
            now: Instant::now() + Duration::from_secs(3600),
            epoch: 0,
            files: Vec::new(),
            sockets: Vec::new(),
            operations: Vec::new(),
            memory: Memory::default(),
            is_calm: false,
            is_abandoned: false,
            has_zero_copy: false,
            compares: true,
            resets: 0,
            chunk: u64::MAX,
            numbers: HashMap::new(),
            pending: Vec::new(),
            used: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// One of this many options; the first where everything goes well.
    pub(super) fn pick(&mut self, options: u64) -> u64 {
        if self.is_calm { 0 } else { self.script.pick(options) }
    }

    /// A page, or less where that takes too many sends.
    pub(super) fn short(&self) -> u64 {
        self.page.min(self.chunk.saturating_mul(100))
    }

    fn is_chosen(&mut self, one_in: u64) -> bool {
        self.pick(one_in) == 1
    }

    // ---- descriptors ---------------------------------------------------------------

    pub(super) fn add_file(&mut self, facts: FileFacts, hides_size: bool, is_frozen: bool) {
        let is_cut_when_sent = !is_frozen && self.script.pick(8) == 7;
        self.files.push(File {
            facts,
            sizes: vec![(0, facts.size)],
            hides_size,
            is_frozen,
            is_hung: false,
            is_cut_when_sent,
            of: None,
            description: description(),
        });
    }

    pub(super) fn add_socket(&mut self, manner: Manner) {
        self.sockets.push(Socket {
            cookie: 1000 + self.sockets.len() as u64,
            manner,
            used: 0,
            failed: None,
            wait: None,
            holds_back: false,
            was_full: false,
            wire: Vec::new(),
            reached: None,
            is_silent: false,
            was_reset: false,
            was_disconnected: false,
            description: description(),
        });
    }

    fn description(&self, thing: Thing) -> &fs::File {
        match thing {
            Thing::Socket(socket) => &self.sockets[socket].description,
            Thing::File(file) => &self.files[file].description,
        }
    }

    /// A new descriptor.
    pub(super) fn descriptor(&mut self, thing: Thing) -> OwnedFd {
        let copy = self.description(thing).try_clone().expect("a descriptor");
        self.numbers.insert(copy.as_raw_fd(), thing);
        copy.into()
    }

    pub(super) fn thing(&self, number: RawFd) -> Thing {
        let thing = *self.numbers.get(&number).expect("a number that was never given");
        let description = self.description(thing).as_raw_fd();
        // Only where kcmp(2) is allowed.
        let is_open =
            sys::is_same_file(number, description) || !sys::is_same_file(description, description);
        assert!(is_open, "a number that has been closed");
        thing
    }

    pub(super) fn socket(&self, number: RawFd) -> usize {
        match self.thing(number) {
            Thing::Socket(socket) => socket,
            Thing::File(_) => panic!("a file is taken for a socket"),
        }
    }

    pub(super) fn file(&self, number: RawFd) -> usize {
        match self.thing(number) {
            Thing::File(file) => file,
            Thing::Socket(_) => panic!("a socket is taken for a file"),
        }
    }

    // ---- files ---------------------------------------------------------------------

    /// Somebody may change a file.
    pub(super) fn stir(&mut self, file: usize) {
        // Nobody else has a clone.
        if self.files[file].of.is_none() && self.is_chosen(12) {
            self.change(file);
        }
    }

    /// Somebody writes to a file, cuts it or lets it grow.
    pub(super) fn change(&mut self, file: usize) {
        if self.files[file].is_frozen {
            return;
        }
        let (now, first) = (self.files[file].size(), self.files[file].sizes[0].1);
        let size = match self.script.pick(6) {
            0 | 1 => now,
            2 => self.script.at_most(now),
            3 => now.saturating_sub(self.script.pick(2 * self.page)),
            4 => now + self.script.pick(self.short()),
            _ => first,
        };
        self.resize(file, size);
    }

    pub(super) fn resize(&mut self, file: usize, size: u64) {
        self.epoch += 1;
        self.files[file].sizes.push((self.epoch, size));
    }

    pub(super) fn size(&mut self, number: RawFd) -> Size {
        let file = self.file(number);
        self.stir(file);
        self.files[file].stat()
    }

    /// A read: how much it has given.
    pub(super) fn read(&mut self, file: usize, offset: u64, into: Span) -> u64 {
        self.stir(file);
        let there = self.files[file].size().saturating_sub(offset).min(into.length as u64);
        let is_direct = self.files[file].facts.direct;
        let length = match self.pick(8) {
            // Whole blocks, up to the end of the file.
            _ if is_direct => there,
            5 => there.min(1 + self.script.pick(there.max(1))),
            6 => there.saturating_sub(1).max(there.min(1)),
            7 if there > self.page => there / self.page * self.page,
            _ => there,
        };
        let (owner, epoch) = self.files[file].of.unwrap_or((file, self.epoch));
        let what = What::File(epoch);
        self.memory.write(into.address, Piece { owner, what, at: offset, length });
        self.stir(file);
        length
    }

    // ---- sockets -------------------------------------------------------------------

    pub(super) fn has_room(&mut self, socket: usize) -> bool {
        self.sockets[socket].is_writable()
    }

    /// The peer takes something.
    pub(super) fn peer_reads(&mut self, socket: usize) {
        let used = self.sockets[socket].used;
        if used == 0 {
            return;
        }
        let left = if self.is_calm { 0 } else { self.script.pick(used + 1) };
        self.sockets[socket].used = left;
        if let Some(wait) = &mut self.sockets[socket].wait {
            wait.fired = false;
        }
        self.report_room(socket);
    }

    pub(super) fn fail_socket(&mut self, socket: usize, errno: i32) {
        self.sockets[socket].failed.get_or_insert(errno);
        self.report_room(socket);
    }

    // Reports what poll(2) would say, where somebody waits for it.
    fn report_room(&mut self, socket: usize) {
        let state = &mut self.sockets[socket];
        if state.is_writable() {
            let failed = if state.failed.is_some() { libc::POLLERR | libc::POLLHUP } else { 0 };
            self.fire(socket, i32::from(libc::POLLOUT | failed));
        }
    }

    /// Something else than room is reported: an error queue that nobody has read.
    pub(super) fn report_in_vain(&mut self, socket: usize) {
        self.fire(socket, libc::POLLERR.into());
    }

    fn fire(&mut self, socket: usize, result: i32) {
        let state = &mut self.sockets[socket];
        let Some(wait) = state.wait.as_mut().filter(|wait| !wait.fired) else { return };
        wait.fired = true;
        let Wait { token, changes: more, .. } = *wait;
        if !more {
            state.wait = None;
        }
        self.ready.push(EngineEvent::Completed { token, result, more });
    }

    pub(super) fn arm(&mut self, token: Token, number: RawFd, changes: bool) {
        let socket = self.socket(number);
        let state = &mut self.sockets[socket];
        assert!(state.wait.is_none(), "two waits for one socket");
        state.wait = Some(Wait { token, changes, fired: false });
        self.report_room(socket);
    }

    pub(super) fn disarm(&mut self, token: Token, number: RawFd) {
        let socket = self.socket(number);
        let wait = &mut self.sockets[socket].wait;
        if wait.take_if(|wait| wait.token == token).is_some() {
            self.ready.push(EngineEvent::Completed {
                token,
                result: -libc::ECANCELED,
                more: false,
            });
        }
    }

    pub(super) fn released(&mut self, number: RawFd) {
        let socket = self.socket(number);
        assert!(self.sockets[socket].wait.is_none(), "closed while a wait is with the kernel");
    }

    // Somebody cuts a file within the last page that is sent from a mapping of it.
    fn cut_what_is_sent(&mut self, parts: &[Span]) {
        let mut pieces = parts.iter().rev().flat_map(|part| self.memory.read(*part));
        let Some(last) = pieces.find(|piece| piece.what == What::Window) else { return };
        let (file, size) = (&mut self.files[last.owner], last.at + last.length);
        if size == file.size() && std::mem::take(&mut file.is_cut_when_sent) {
            let less = 1 + self.script.pick(last.length.min(self.page));
            self.resize(last.owner, size - less);
        }
    }

    /// A send: how much the socket takes, or -errno.
    pub(super) fn send(
        &mut self,
        socket: usize,
        parts: &[Span],
        flags: i32,
        is_zero_copy: bool,
    ) -> i32 {
        let wanted = parts.iter().map(|part| part.length as u64).sum();
        let more = flags & libc::MSG_MORE != 0;
        self.send_as(socket, wanted, more, |machine, most| {
            machine.cut_what_is_sent(parts);
            machine.put(socket, parts, most, is_zero_copy)
        })
    }

    /// A send of references to pages of a file.
    pub(super) fn send_file(&mut self, socket: usize, file: usize, at: u64, length: u64) -> i32 {
        let state = &self.files[file];
        assert!(state.is_frozen, "what may change is sent by reference");
        assert!(self.sockets[socket].manner.takes_references(), "the ring thread waits");
        assert!(length <= self.chunk, "more than a chunk in one send");
        assert!(at + length <= state.size(), "more than the file has");
        match self.pick(16) {
            14 => return -libc::EIO,
            15 => return 0,
            _ => {}
        }
        let taken = self.send_as(socket, length, false, |machine, most| {
            let piece = Piece { owner: file, what: What::Frozen, at, length: length.min(most) };
            machine.put_frozen(socket, piece, true)
        });
        // The kernel announces what it has not sent yet.
        if (1..length as i32).contains(&taken) {
            self.sockets[socket].hold_back();
        }
        taken
    }

    // A send: how much the socket takes, or -errno.  `put` puts up to so many bytes on the wire.
    fn send_as(
        &mut self,
        socket: usize,
        wanted: u64,
        more: bool,
        put: impl FnOnce(&mut Machine, u64) -> u64,
    ) -> i32 {
        let state = &self.sockets[socket];
        let room = state.manner.capacity - state.used.min(state.manner.capacity);
        if let Some(errno) = state.failed {
            return -errno;
        }
        if wanted == 0 {
            return 0;
        }
        if room == 0 {
            self.sockets[socket].was_full = true;
            return -libc::EAGAIN;
        }
        let most = match self.pick(24) {
            8..=12 => self.script.at_most(wanted),
            13 => 0,
            14 => return self.refuse(socket, libc::EAGAIN),
            15 => return self.refuse(socket, libc::EINTR),
            16 => return self.refuse(socket, libc::ENOBUFS),
            17 if self.script.pick(6) == 1 => {
                self.fail_socket(socket, libc::EPIPE);
                return -libc::EPIPE;
            }
            _ => u64::MAX,
        };
        let taken = put(self, room.min(most));
        if taken == 0 && most > 0 {
            return -libc::EFAULT;
        }
        let state = &mut self.sockets[socket];
        state.used += taken;
        state.was_full = taken < wanted;
        if taken > 0 {
            state.holds_back = more;
            if let Some(last) = state.wire.last_mut() {
                last.more = more;
            }
            // What had room for more has less now.
            if let Some(wait) = &mut state.wait {
                wait.fired = false;
            }
        }
        taken as i32
    }

    fn refuse(&mut self, socket: usize, errno: i32) -> i32 {
        self.sockets[socket].was_full = true;
        -errno
    }

    // Puts up to `most` bytes on the wire; stops where a page of a mapping is not there.
    fn put(&mut self, socket: usize, parts: &[Span], most: u64, is_zero_copy: bool) -> u64 {
        let mut taken = 0;
        for part in parts {
            for piece in self.memory.read(*part) {
                let piece = Piece { length: piece.length.min(most - taken), ..piece };
                let put = self.put_piece(socket, *part, piece, is_zero_copy);
                taken += put;
                if put < piece.length || taken == most {
                    return taken;
                }
            }
        }
        taken
    }

    fn put_piece(&mut self, socket: usize, part: Span, piece: Piece, is_zero_copy: bool) -> u64 {
        if piece.what == What::Window && self.files[piece.owner].is_frozen {
            assert!(is_mapped(part), "a window has gone while the kernel sends from it");
            return self.put_frozen(socket, piece, is_zero_copy);
        }
        let epoch = self.epoch;
        let mut there = piece.length;
        let mut put = |piece: Piece, until| {
            if piece.length > 0 {
                let run = Run { piece, epoch, until, is_zero_copy, more: true };
                self.sockets[socket].wire.push(run);
            }
        };
        if piece.what == What::Window {
            assert!(is_mapped(part), "a window has gone while the kernel sends from it");
            let size = self.files[piece.owner].size();
            let real = size.saturating_sub(piece.at).min(piece.length);
            there = size.next_multiple_of(self.page).saturating_sub(piece.at).min(piece.length);
            if is_zero_copy {
                put(Piece { length: there, ..piece }, u32::MAX);
            } else {
                put(Piece { what: What::File(epoch), length: real, ..piece }, epoch);
                put(Piece { at: piece.at + real, length: there - real, ..piece }, epoch);
            }
        } else {
            put(piece, epoch);
        }
        if piece.what.is_of_file() && there > 0 {
            self.sockets[socket].reached = Some((piece.owner, piece.at + there));
        } else if let Some(operation) = self.operations.get(piece.owner) {
            let is_staged = matches!(piece.what, What::Header | What::Trailer);
            assert!(!is_staged || operation.socket == socket, "sent to another socket");
        }
        there
    }

    // Puts bytes on the wire that cannot change; how many the file has.
    fn put_frozen(&mut self, socket: usize, piece: Piece, is_zero_copy: bool) -> u64 {
        let there = self.files[piece.owner].size().saturating_sub(piece.at).min(piece.length);
        if there > 0 {
            let piece = Piece { what: What::Frozen, length: there, ..piece };
            let (epoch, more) = (self.epoch, true);
            let run = Run { piece, epoch, until: epoch, is_zero_copy, more };
            self.sockets[socket].wire.push(run);
            self.sockets[socket].reached = Some((piece.owner, piece.at + there));
        }
        there
    }

    /// The operation of a read.
    pub(super) fn reader(&self, token: Token) -> usize {
        let is_its = |operation: &Expected| operation.id > 0 && token.is_of(operation.id);
        self.operations.iter().position(is_its).expect("a read for an operation")
    }

    /// The driver begins to read.
    pub(super) fn note_read(&mut self, token: Token, file: usize, offset: u64) {
        let expected = &self.operations[self.reader(token)];
        let of = self.files[file].of;
        let (direct, is_clone) = (self.files[file].facts.direct, of.is_some());
        let file = of.map_or(file, |(original, _)| original);
        assert_eq!(expected.file, Some(file), "reads another's file");
        // Whoever reads data that passes has the turn, so that the last bytes there are its own.
        let reached = self.sockets[expected.socket].reached == Some((file, offset));
        let is_next = reached || offset == expected.task.offset;
        let is_kept_next = expected.keeps() && offset == expected.read_until;
        assert!(direct || is_next || is_kept_next, "reads what it should not");
        let may = is_clone || expected.told.is_none() || self.files[file].is_frozen;
        assert!(may, "reads the file after its snapshot has been reported");
    }

    // ---- requests ------------------------------------------------------------------

    pub(super) fn request(&mut self, token: Token, request: Request, is_call: bool) {
        let is_there = self.pending.iter().any(|pending| pending.token == token);
        assert!(!is_there, "two sends or reads at once: {request:?}");
        self.pending.push(Pending { token, request, is_call });
    }

    pub(super) fn withdraw(&mut self, token: Token) -> bool {
        let is_it = |pending: &Pending| pending.is_call && pending.token == token;
        let Some(at) = self.pending.iter().position(is_it) else { return false };
        if self.is_hung(at) || self.is_chosen(2) {
            return false; // it has begun
        }
        self.pending.swap_remove(at);
        true
    }

    fn is_hung(&self, at: usize) -> bool {
        let file = match self.pending[at].request {
            Request::Read { file, .. }
            | Request::Inspect { file }
            | Request::Clone { file, .. } => file,
            _ => return false,
        };
        self.pending[at].is_call && self.files[file].is_hung
    }

    /// Carries out a request, one in the middle or the first; false: there is none to carry out.
    pub(super) fn carry_out(&mut self) -> bool {
        let count = self.pending.len() as u64;
        let first = if count > 0 { self.pick(count) as usize } else { 0 };
        let places = (first..self.pending.len()).chain(0..first);
        let Some(at) = places.into_iter().find(|&at| !self.is_hung(at)) else { return false };
        let Pending { token, request, .. } = self.pending.remove(at);
        let event = match request {
            Request::Send { socket, parts, flags } => {
                let result = self.send(socket, &parts, flags, false);
                EngineEvent::Completed { token, result, more: false }
            }
            Request::ZeroCopy { socket, parts, flags } => {
                self.send_zero_copy(token, socket, &parts, flags)
            }
            Request::Read { file, offset, into } => {
                let result = self.read_for(token, file, offset, into);
                EngineEvent::Completed { token, result, more: false }
            }
            Request::Inspect { file } => {
                self.stir(file);
                EngineEvent::Inspected { token, found: Ok(self.files[file].stat()) }
            }
            Request::Clone { file, offset, length } => {
                let clone = self.clone_for(token, file, (offset, length));
                EngineEvent::Cloned { token, clone }
            }
            Request::Close(descriptor) => {
                drop(descriptor);
                EngineEvent::Completed { token, result: 0, more: false }
            }
        };
        self.ready.push(event);
        true
    }

    // Clones a range, widened to blocks.
    fn clone_for(
        &mut self,
        token: Token,
        file: usize,
        (offset, length): (u64, u64),
    ) -> Result<sys::Clone> {
        const BLOCK: u64 = 64 << 10;
        let operation = self.reader(token);
        let errno = match self.pick(12) {
            8 => libc::EXDEV,
            9 => libc::ENOSPC,
            10 => libc::EACCES,
            11 => libc::ENOMEM,
            _ => 0,
        };
        if errno != 0 {
            let seen = if errno == libc::ENOMEM { errno } else { libc::EMSGSIZE };
            self.operations[operation].may_fail_with(seen);
            return Err(Errno(errno));
        }
        self.stir(file);
        let end = offset.saturating_add(length).checked_next_multiple_of(BLOCK);
        let size = self.files[file].size().min(end.unwrap_or(u64::MAX));
        let FileFacts { kind, mount, .. } = self.files[file].facts;
        let inode = 1000 + self.files.len() as u64;
        let content = Content::Unknown;
        self.add_file(FileFacts { kind, size, inode, mount, direct: false, content }, false, false);
        let clone = self.files.len() - 1;
        self.files[clone].of = Some((file, self.epoch));
        self.files[clone].is_cut_when_sent = false;
        self.operations[operation].cloned = Some(self.epoch);
        self.stir(file);
        let fd = self.descriptor(Thing::File(clone));
        Ok(sys::Clone { fd, state: FileState { kind, size, inode, mount } })
    }

    /// How many files there are that are no clones.
    pub(super) fn originals(&self) -> u64 {
        self.files.iter().filter(|file| file.of.is_none()).count() as u64
    }

    fn read_for(&mut self, token: Token, file: usize, offset: u64, into: Span) -> i32 {
        let operation = self.reader(token);
        match self.pick(16) {
            12 => -libc::EAGAIN,
            13 => -libc::EINTR,
            14 if self.script.pick(6) == 1 => {
                self.operations[operation].may_fail_with(libc::EIO);
                -libc::EIO
            }
            _ => {
                let count = self.read(file, offset, into);
                self.operations[operation].has_read(offset, count);
                count as i32
            }
        }
    }

    fn send_zero_copy(
        &mut self,
        token: Token,
        socket: usize,
        parts: &[Span],
        flags: i32,
    ) -> EngineEvent {
        let refusal = match self.pick(16) {
            13 => Some(libc::EOPNOTSUPP),
            14 => Some(libc::ENOBUFS),
            15 => Some(libc::ENOMEM),
            _ => None,
        };
        let before = self.sockets[socket].wire.len();
        let result = refusal.map_or_else(|| self.send(socket, parts, flags, true), |errno| -errno);
        // A notification may follow a failure, too.
        let more = result >= 0 || self.is_chosen(4);
        if more {
            let copied = self.sockets[socket].manner.copies ^ self.is_chosen(8);
            // Only lent pages of several operations go together.
            let span = parts[0].part(0, parts[0].len().min(result.max(0) as usize));
            let mut pieces = self.memory.read(span);
            for piece in &mut pieces {
                if piece.what == What::Window && self.files[piece.owner].is_frozen {
                    piece.what = What::Frozen;
                }
            }
            let runs = before..self.sockets[socket].wire.len();
            let is_stuck = self.is_chosen(24);
            let is_reported = false;
            let used = Used { token, socket, span, pieces, runs, copied, is_reported, is_stuck };
            self.used.push(used);
        }
        EngineEvent::Completed { token, result, more }
    }

    /// The peer has acknowledged what a zero-copy send sent; false: there is none.
    pub(super) fn acknowledge(&mut self) -> bool {
        let count = (0..self.used.len()).filter(|&at| self.may_acknowledge(&self.used[at])).count();
        if count == 0 {
            return false;
        }
        let nth = self.pick(count as u64) as usize;
        let mut all = 0..self.used.len();
        let at = all.by_ref().filter(|&at| self.may_acknowledge(&self.used[at])).nth(nth);
        let used = self.used.remove(at.expect("one of them"));
        if used.is_lent() {
            self.is_read_no_more(&used);
        } else if used.pieces.iter().all(|piece| piece.what != What::Frozen) {
            let pieces = self.memory.read(used.span);
            assert_eq!(pieces, used.pieces, "overwritten before its notification");
        }
        self.epoch += 1;
        self.ready.push(EngineEvent::Released { token: used.token, copied: used.copied });
        true
    }

    fn may_acknowledge(&self, used: &Used) -> bool {
        let socket = &self.sockets[used.socket];
        let is_kept = used.is_stuck || socket.is_silent && !socket.was_reset;
        used.is_reported && !(used.is_lent() && is_kept)
    }

    // Pages of files that a send has put on the wire are not read any more.
    fn is_read_no_more(&mut self, used: &Used) {
        for run in &mut self.sockets[used.socket].wire[used.runs.clone()] {
            run.until = run.until.min(self.epoch);
        }
    }

    /// Resets a connection, unless somebody waits on it.
    pub(super) fn disconnect(&mut self, number: RawFd) -> Result<()> {
        let socket = self.socket(number);
        let knows = self.ready.is_empty() && !self.is_abandoned;
        assert!(self.has_lent(socket) || !knows, "reset for no page");
        let second = Duration::from_secs(1);
        let mut all = self.operations.iter().filter(|operation| operation.socket == socket);
        let is_due = all.any(|operation| operation.submitted_at + second <= self.now);
        assert!(is_due || self.is_abandoned, "the peer had no second to acknowledge");
        if !self.is_abandoned && self.is_chosen(3) {
            return Err(Errno(libc::EBUSY));
        }
        self.resets += 1;
        self.sockets[socket].was_disconnected = true;
        self.reset(socket, libc::EPIPE);
        let all = self.operations.iter_mut().filter(|operation| operation.socket == socket);
        all.for_each(|operation| operation.may_fail_with(libc::ECANCELED));
        Ok(())
    }

    /// The connection is no more: its pages are not read again, whatever its peer has not
    /// acknowledged.
    pub(super) fn reset(&mut self, socket: usize, errno: i32) {
        self.sockets[socket].was_reset = true;
        let used = std::mem::take(&mut self.used);
        used.iter()
            .filter(|used| used.socket == socket)
            .for_each(|used| self.is_read_no_more(used));
        self.used = used;
        self.fail_socket(socket, errno);
    }

    /// Whether the kernel may still read pages of files for a socket.
    pub(super) fn has_lent(&self, socket: usize) -> bool {
        self.used.iter().any(|used| used.socket == socket && used.is_lent())
    }

    /// Whether a device has not returned packets for this socket.
    pub(super) fn was_stuck(&self, socket: usize) -> bool {
        self.used.iter().any(|used| used.socket == socket && used.is_stuck)
    }

    /// Whether an operation waits for a notification that does not come by itself, and has reported
    /// what it can.
    pub(super) fn waits_for_pages(&self, expected: &Expected) -> bool {
        let may_be_its = |used: &Used| {
            let mut runs = self.sockets[used.socket].wire[used.runs.clone()].iter();
            let is_its = runs.any(|run| expected.may_have_sent(run));
            used.socket == expected.socket && !self.may_acknowledge(used) && is_its
        };
        let told = expected.sent_told.is_some() || !expected.has(RequestFlags::NOTIFY_SENT);
        // Whatever a reset concerns has to end.
        let is_to_end = self.sockets[expected.socket].was_disconnected;
        told && !is_to_end && self.used.iter().any(may_be_its)
    }

    /// From here on all notifications come.
    pub(super) fn release_pages(&mut self) {
        self.used.iter_mut().for_each(|used| used.is_stuck = false);
        self.sockets.iter_mut().for_each(|socket| socket.is_silent = false);
    }

    /// Hands events over: all, or some.
    pub(super) fn deliver(&mut self, events: &mut Vec<EngineEvent>) {
        while !self.ready.is_empty() {
            let at = self.pick(self.ready.len() as u64) as usize;
            let event = self.ready.remove(at);
            if let EngineEvent::Completed { token, more: true, .. } = event {
                let used = self.used.iter_mut().filter(|used| used.token == token);
                used.for_each(|used| used.is_reported = true);
            }
            events.push(event);
            if self.is_chosen(4) {
                return;
            }
        }
    }

    /// Whether something has happened that has not been handed over.
    pub(super) fn has_events(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many bytes of files these parts have.
    pub(super) fn file_bytes(&self, parts: &[Span]) -> u64 {
        let pieces = parts.iter().flat_map(|part| self.memory.read(*part));
        pieces.filter(|piece| piece.what.is_of_file()).map(|piece| piece.length).sum()
    }

    /// The operations that may have sent this; zeros are anybody's.
    pub(super) fn senders(&self, run: &Run) -> impl Iterator<Item = &Expected> {
        let Piece { owner, what, .. } = run.piece;
        self.operations
            .iter()
            .enumerate()
            .filter(move |&(at, expected)| match what {
                What::Zero => true,
                What::Header | What::Trailer => at == owner,
                What::File(_) | What::Window | What::Frozen => expected.file == Some(owner),
            })
            .map(|(_, expected)| expected)
    }

    /// Whether what a socket holds back is about to be followed.  A read is no reason to hold
    /// anything back, except where pages had to be read that could not be sent themselves.
    pub(super) fn is_followed(&self, at: usize) -> bool {
        let is_send = |pending: &Pending| match pending.request {
            Request::Send { socket, .. } | Request::ZeroCopy { socket, .. } => socket == at,
            Request::Read { file, .. } if self.files[file].is_frozen => true,
            _ => self.has_zero_copy,
        };
        self.has_events() || self.pending.iter().any(is_send)
    }

    /// Whether a socket holds back data that is announced, or that nobody sends any more.
    pub(super) fn may_hold_back(&self, socket: &Socket) -> bool {
        let last = socket.wire.last().expect("something was sent");
        let mut senders = self.senders(last);
        socket.failed.is_some() || senders.any(Expected::may_hold_back)
    }

    /// Whether a request is with the kernel.
    pub(super) fn is_busy(&self) -> bool {
        !self.pending.is_empty() || self.has_events()
    }

    /// Whether an operation waits for a file system that does not answer, or shares its socket with
    /// one that does.  EXACT may want all the room that there is.
    pub(super) fn waits_for_hung(&self, expected: &Expected) -> bool {
        let hung = self.files.iter().filter(|file| file.is_hung);
        let mounts: Vec<_> = hung.map(|file| file.facts.mount).collect();
        let mut others = self.operations.iter().filter(|other| !other.is_over());
        others.any(|other| {
            let mount = other.file.map(|file| self.files[file].facts.mount);
            let waits = mount.is_some_and(|mount| mounts.contains(&mount))
                || other.has(RequestFlags::EXACT);
            other.socket == expected.socket && waits && !mounts.is_empty()
        })
    }

    /// A call on a file took long, or did not.
    pub(super) fn learn_speed(&mut self, known: &KnownFiles) {
        let count = self.originals();
        let FileFacts { mount, inode, .. } = self.files[self.script.pick(count) as usize].facts;
        if self.script.pick(2) == 1 {
            known.was_slow(mount, inode, 1000);
        } else {
            known.timed(mount, inode, || ());
        }
    }

    /// What these operations are asked to do.
    pub(super) fn expect_cancelled(&mut self, question: &Question) {
        for expected in &mut self.operations {
            let is_meant = match *question {
                Question::Cancel(id) => expected.id == id,
                Question::CancelSocket(cookie) => self.sockets[expected.socket].cookie == cookie,
            };
            if is_meant {
                let has_failed = self.sockets[expected.socket].failed.is_some();
                expected.is_cancelled(self.now, has_failed);
            }
        }
    }

    /// What has happened on a socket, for a test that has failed.
    pub(super) fn story(&self, socket: usize) -> String {
        let runs = self.sockets[socket].wire.iter();
        let runs: Vec<_> = runs.map(|Run { piece, epoch, .. }| (piece, epoch)).collect();
        let done = self.operations.iter().filter(|operation| operation.socket == socket);
        let done: Vec<_> = done.map(|operation| (operation.task, operation.done)).collect();
        format!("{:?} {runs:#?} {done:#?}", self.sockets[socket].manner)
    }

    /// Nothing goes out behind an operation that was cut off; `order`: those of each socket.  If it
    /// has failed with all its bytes in the socket, others may have gone on.
    pub(super) fn check_cuts(&mut self, order: &[Vec<usize>]) {
        for order in order {
            let (mut known_from, mut reset_from) = (0, 0);
            for &at in order {
                let is_whole = self.operations[at].has_sent_all(self);
                let operation = &mut self.operations[at];
                let is_behind = |known_from| operation.id < known_from && operation.id > 0;
                let (is_behind_cut, is_behind_whole) =
                    (is_behind(known_from), is_behind(reset_from));
                if is_behind_cut {
                    operation.check_behind_cut();
                }
                if is_behind_cut || is_behind_whole {
                    operation.may_fail_with(libc::ECANCELED);
                }
                if operation.is_cut() && is_whole {
                    reset_from = reset_from.max(operation.done_before);
                } else if operation.is_cut() && !is_behind_cut {
                    known_from = operation.done_before;
                }
            }
        }
    }

    /// Nothing is with the kernel.
    pub(super) fn check_end(&self) {
        assert!(self.pending.is_empty() && self.used.is_empty() && self.ready.is_empty());
        assert!(self.sockets.iter().all(|socket| socket.wait.is_none()));
        let mut holding = self.sockets.iter().filter(|socket| socket.holds_back);
        assert!(holding.all(|socket| self.may_hold_back(socket)), "data stays held back");
        for (&number, &thing) in &self.numbers {
            let same = sys::is_same_file(number, self.description(thing).as_raw_fd());
            assert!(!same, "a descriptor has been left open");
        }
    }
}

// An open file description of its own.
fn description() -> fs::File {
    fs::File::open("/dev/null").expect("/dev/null")
}

/// What stands behind all windows: nobody looks into them.
pub(super) fn placeholder() -> RawFd {
    static PROGRAM: OnceLock<fs::File> = OnceLock::new();
    PROGRAM.get_or_init(|| fs::File::open("/proc/self/exe").expect("our program")).as_raw_fd()
}

// Whether the first byte of a span is mapped, which a send finds out.
fn is_mapped(span: Span) -> bool {
    thread_local! {
        static PAIR: (OwnedFd, OwnedFd) = sys::socket_pair().expect("a pair of sockets");
    }
    PAIR.with(|(ours, theirs)| {
        let sent = sys::send_parts(ours.as_raw_fd(), &[span.part(0, 1)], 0);
        sys::clear_bell(theirs.as_raw_fd(), 1);
        sent.is_ok()
    })
}
