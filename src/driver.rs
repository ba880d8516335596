// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries the decisions of the pure parts to the engine and its events back to them; owns the
//! descriptors, windows and leases of the operations in flight.
#![forbid(unsafe_code)]

use crate::completions::{Completion, Entry, Event as Report, Reply};
use crate::context::{Counters, FileFacts, Question, Shared, Submission};
use crate::engine::{Engine, Event, Read, ZeroCopySend};
use crate::operation::{Operation, Phase, Portion, Size, WAS_COPIED, WAS_ZEROCOPY};
use crate::plan::{self, Known, Way, ZeroCopy};
use crate::pool::{Lease, Pool, Purpose};
use crate::request::{EAGER, EXACT, TO_EOF};
use crate::schedule::{NumberMap, Schedule};
use crate::staging::Staged;
use crate::sys::{self, FileKind, Mapping, PAGE, Result, Span, ZEROS};
use crate::timers::{Alarm, Timers};
use crate::token::{Kind, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The file of an operation.
struct File {
    fd: Rc<OwnedFd>,
    facts: FileFacts,
    mappable: bool,
    /// See [`Read::through_ring`].
    through_ring: bool,
}

impl File {
    /// What must be read for `length` bytes at `offset`: how many bytes before, and how many in
    /// all.  O_DIRECT wants whole blocks.
    fn alignment(&self, offset: u64, length: u64) -> (u64, u64) {
        if self.facts.direct {
            let skip = offset % PAGE;
            (skip, (skip + length).next_multiple_of(PAGE))
        } else {
            (0, length)
        }
    }

    fn size(&self) -> Result<Size> {
        let fd = sys::number(&self.fd);
        match self.facts.kind {
            FileKind::Block => sys::device_size(fd).map(Size::Known),
            // Files of /proc and the like say 0 and have more.
            _ => Ok(match sys::size_without_sync(fd)? {
                0 => Size::Unknown,
                size => Size::Known(size),
            }),
        }
    }
}

/// A mapped piece of the range.
struct Window {
    mapping: Mapping,
    /// Bytes of the mapping before `start`: mappings begin at a page.
    skip: u64,
    /// The window's piece of the range.
    start: u64,
    end: u64,
}

/// A piece of the range in private memory.
#[derive(Clone, Copy)]
struct Buffer {
    lease: Lease,
    /// Position in the range of its first byte.
    start: u64,
    /// Bytes of the lease before that.
    skip: u64,
    length: u64,
}

/// Where the next bytes of the range are.
enum Source {
    None,
    Window(Window),
    Buffers(VecDeque<Buffer>),
}

/// One operation in flight and all it holds.
struct Job {
    operation: Operation,
    id: u64,
    user_data: u64,
    cookie: u64,
    staged: Staged,
    file: Option<File>,
    source: Source,
    /// Where a read under way puts its data.  `align`: how many bytes before it are read too.
    reading: Option<(Buffer, u64)>,
    /// Bytes of the pool set aside for EXACT.
    reserved: Option<u64>,
    /// Bytes of the send that is with the kernel.
    asked: u64,
    waits_for_pool: bool,
    lingers: bool,
    /// Bytes sent by zero-copy whose notification has not said yet what they were.
    unresolved: u64,
    zero_copy: bool,
    /// EAGER that found no room to keep data, but has its turn: its next piece is treated like
    /// anybody's.
    passing: bool,
    /// All operations ahead on the socket have the room in the pool that they want.  Until then
    /// this one takes none, or it could keep from them what they need to get out of its way.
    may_hold: bool,
    reply: Option<Arc<Reply<Result<Completion>>>>,
}

impl Job {
    /// EAGER or EXACT: what is read stays until it is sent.
    fn is_held(&self) -> bool {
        self.operation.task().flags & (EAGER | EXACT) != 0 && !self.passing
    }

    /// Whether it will take no more room in the pool than it has.
    fn has_its_room(&self) -> bool {
        !self.is_held() || self.operation.is_all_held()
    }

    /// Bytes at hand from where the socket has got to.
    fn available(&self) -> u64 {
        let end = match &self.source {
            Source::None => 0,
            Source::Window(window) => window.end,
            Source::Buffers(buffers) => {
                buffers.front().map_or(0, |front| front.start + front.length)
            }
        };
        end.saturating_sub(self.operation.range_sent())
    }

    /// Where bytes at hand are in memory.
    fn data(&self, pool: &Pool, (from, length): (u64, u64)) -> Span {
        let part = |span: Span, start: u64, skip: u64| {
            span.part((from - start + skip) as usize, length as usize)
        };
        match &self.source {
            _ if length == 0 => Span::of(&[]),
            Source::None => Span::of(&[]),
            Source::Window(window) => part(window.mapping.span(), window.start, window.skip),
            Source::Buffers(buffers) => {
                let front = buffers.front().expect("bytes are at hand");
                part(pool.span(front.lease), front.start, front.skip)
            }
        }
    }

    /// Maps the next window; false where that cannot be.
    fn map(&mut self, chunk: u64) -> bool {
        let Some(file) = &mut self.file else {
            return false;
        };
        let offset = self.operation.task().offset;
        match file.size() {
            Ok(Size::Known(size)) => self.operation.short(size.saturating_sub(offset)),
            Ok(_) => {
                file.mappable = false;
                return false;
            }
            Err(error) => self.operation.fail(error.negative()),
        }
        if !self.operation.needs_data() {
            return true;
        }
        let start = self.operation.range_sent();
        let end = self.operation.file_length().min(start + chunk);
        let skip = (offset + start) % PAGE;
        let length = (skip + end - start) as usize;
        match Mapping::of_file(sys::number(&file.fd), offset + start - skip, length) {
            Ok(mapping) => {
                self.source = Source::Window(Window { mapping, skip, start, end });
                true
            }
            Err(_) => {
                file.mappable = false;
                false
            }
        }
    }

    /// How much of the range the file has now, when that decides about what was just sent: from
    /// a mapping zeros may have gone out beyond the end of a file that has been cut.
    fn available_in_file(&self) -> u64 {
        match (&self.source, &self.file) {
            (Source::Window(_), Some(file)) => match file.size() {
                Ok(Size::Known(size)) => size.saturating_sub(self.operation.task().offset),
                _ => 0,
            },
            _ => u64::MAX,
        }
    }

    fn push(&mut self, buffer: Buffer) {
        match &mut self.source {
            Source::Buffers(buffers) => buffers.push_back(buffer),
            source => *source = Source::Buffers(VecDeque::from([buffer])),
        }
    }

    fn take_leases(&mut self) -> impl Iterator<Item = Lease> + use<> {
        let buffers = match std::mem::replace(&mut self.source, Source::None) {
            Source::Buffers(buffers) => buffers,
            _ => VecDeque::new(),
        };
        buffers.into_iter().map(|buffer| buffer.lease)
    }

    fn completion(&self, status: i32, event: Report) -> Completion {
        Completion {
            id: self.id,
            user_data: self.user_data,
            file_bytes: self.operation.range_sent(),
            wire_bytes: self.operation.wire(),
            status,
            event,
            flags: self.operation.was(),
        }
    }
}

/// A socket with operations.
struct Socket {
    fd: OwnedFd,
    /// A wait for room is with the kernel.
    armed: bool,
    /// It is being taken back.
    disarming: bool,
    /// There has been one, so the engine must know when the number is closed.
    was_armed: bool,
    /// Between tries at a full AF_UNIX socket: when its own side is shut down for writing, poll(2)
    /// does not say so.  Zero: no such socket, or not known yet.
    try_again: Duration,
    generation: u64,
    zero_copy: Option<ZeroCopy>,
}

/// A zero-copy send whose memory the kernel still uses.
struct ZeroCopyUse {
    lease: Lease,
    slot: u32,
    id: u64,
    cookie: u64,
    generation: u64,
    asked: u64,
    sent: u64,
}

/// Everything in flight on one context.
pub(crate) struct Driver<E: Engine> {
    pub engine: E,
    shared: Arc<Shared>,
    jobs: Slab<Job>,
    by_id: NumberMap<u32>,
    sockets: Vec<Option<Socket>>,
    schedule: Schedule,
    zero_copies: Slab<ZeroCopyUse>,
    /// Files that operations share, by inode.
    files: NumberMap<Weak<OwnedFd>>,
    pool: Pool,
    registered: Vec<bool>,
    waiting_passing: VecDeque<(u32, u64)>,
    waiting_kept: VecDeque<(u32, u64)>,
    pool_freed: bool,
    timers: Timers,
    outbox: Vec<Entry>,
    generation: u64,
    /// How many sockets in a row had no use for zero-copy.
    zero_copy_useless: u32,
    /// Whether it has been of use on any.
    zero_copy_was_real: bool,
    sockets_seen: u32,
}

// How much is sent before completions are handed over and new events are looked at.
const ROUND_SENDS: usize = 32;
const ROUND_BYTES: u64 = 4 << 20;
// How many zero-copy sends may be under way before it is known whether they are of use.
const TRIALS_MAX: usize = 4;
// From this many descriptors on it is worth a call to find out whether a file is there already.
const SHARE_FILES_FROM: u32 = 128;
// How long data read for a peer that has become slow is kept before it is given up.
const LINGER: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(10);
const TRY_AGAIN: Duration = Duration::from_millis(250);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(32);
// How many operations that wait for room may find too little before the rest is left waiting.
const POOL_WAITERS_TRIED: usize = 32;
// The least read when the pool is nearly full.
const READ_MIN: u64 = 64 << 10;

impl<E: Engine> Driver<E> {
    pub fn new(shared: Arc<Shared>, engine: E, pool: Pool) -> Driver<E> {
        Driver {
            engine,
            shared,
            jobs: Slab::new(),
            by_id: NumberMap::default(),
            sockets: Vec::new(),
            schedule: Schedule::default(),
            zero_copies: Slab::new(),
            files: NumberMap::default(),
            registered: vec![false; pool.block_count()],
            pool,
            waiting_passing: VecDeque::new(),
            waiting_kept: VecDeque::new(),
            pool_freed: false,
            timers: Timers::default(),
            outbox: Vec::new(),
            generation: 0,
            zero_copy_useless: 0,
            zero_copy_was_real: false,
            sockets_seen: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.zero_copies.is_empty()
    }

    pub fn has_turns(&self) -> bool {
        self.schedule.line_length() > 0 || self.pool_freed
    }

    pub fn next_alarm(&self) -> Option<Instant> {
        self.timers.next()
    }

    // ---- in and out ----------------------------------------------------------------

    /// Takes a submission and the ring thread's copies of its descriptors.
    pub fn accept(
        &mut self,
        mut submission: Submission,
        fd: Option<OwnedFd>,
        file: Option<OwnedFd>,
    ) {
        self.shared.in_transit.fetch_sub(1, Ordering::SeqCst);
        let wants_file = submission.file.is_some();
        let complete = fd.is_some() && file.is_some() == wants_file;
        let cookie = submission.cookie;
        let mut job = Job {
            operation: Operation::new(submission.task, submission.wire, submission.was),
            id: submission.id,
            user_data: submission.user_data,
            cookie,
            staged: std::mem::take(&mut submission.staged),
            file: file.zip(submission.file).map(|(fd, facts)| self.open_file(fd, facts)),
            source: Source::None,
            reading: None,
            reserved: None,
            asked: 0,
            waits_for_pool: false,
            lingers: false,
            unresolved: 0,
            zero_copy: false,
            passing: false,
            may_hold: false,
            reply: submission.reply.take(),
        };
        let Some(fd) = fd.filter(|_| complete) else {
            // The table was full after all, and the kernel dropped them.
            self.shared.give_descriptors(1 + u32::from(wants_file) - u32::from(job.file.is_some()));
            job.operation.fail(-libc::EMFILE);
            self.shared.leave_bucket(cookie);
            self.release(&mut job);
            self.report_done(job);
            return;
        };
        let socket = self.open_socket(cookie, fd);
        let (id, flags) = (job.id, job.operation.task().flags);
        let slot = self.jobs.insert(job);
        self.by_id.insert(id, slot as u32);
        self.schedule.enqueue(socket, slot, submission.front);
        self.place(slot);
        if let Some(at) = submission.deadline {
            self.timers.set(at, (id, slot as u32, Alarm::Deadline));
        }
        if submission.held_back {
            self.schedule.park(socket);
        }
        self.schedule.ready(socket);
        if flags & (EAGER | EXACT) != 0 && !submission.held_back {
            self.begin(slot);
            self.read_ahead(slot);
            self.settle(slot);
        }
    }

    // Finds out whether a new operation may take room in the pool.
    fn place(&mut self, slot: usize) {
        self.jobs[slot].may_hold = match self.schedule.ahead(slot) {
            Some(ahead) => self.jobs[ahead].may_hold && self.jobs[ahead].has_its_room(),
            None => true,
        };
        if let Some(behind) = self.schedule.behind(slot) {
            self.jobs[behind].may_hold = false;
        }
        self.let_hold(slot);
    }

    // Lets those behind take room, as far as those ahead of them have theirs.
    fn let_hold(&mut self, from: usize) {
        let mut slot = from;
        while self.jobs[slot].may_hold && self.jobs[slot].has_its_room() {
            let Some(behind) = self.schedule.behind(slot) else {
                return;
            };
            if std::mem::replace(&mut self.jobs[behind].may_hold, true) {
                return;
            }
            if self.jobs[behind].is_held() {
                self.read_ahead(behind);
            }
            slot = behind;
        }
    }

    /// Undoes a submission whose descriptors could not be sent.
    pub fn withdraw(&mut self, mut submission: Submission) {
        self.shared.in_transit.fetch_sub(1, Ordering::SeqCst);
        self.shared.give_descriptors(submission.descriptor_count());
        self.shared.leave_bucket(submission.cookie);
        self.shared.staging.release(std::mem::take(&mut submission.staged));
        self.shared.give_permit();
    }

    // With many descriptors in use, the same open file is kept once only.
    fn open_file(&mut self, fd: OwnedFd, facts: FileFacts) -> File {
        let mut fd = Rc::new(fd);
        if self.shared.descriptors.load(Ordering::Relaxed) > SHARE_FILES_FROM {
            if self.files.len() > 2 * self.jobs.len() + 64 {
                self.files.retain(|_, file| file.strong_count() > 0);
            }
            let known = self.files.entry(facts.inode).or_default();
            match known.upgrade() {
                Some(same) if sys::is_same_file(sys::number(&fd), sys::number(&same)) => {
                    fd = same;
                    self.shared.give_descriptors(1);
                }
                _ => *known = Rc::downgrade(&fd),
            }
        }
        File { fd, facts, mappable: true, through_ring: false }
    }

    fn open_socket(&mut self, cookie: u64, fd: OwnedFd) -> usize {
        if let Some(socket) = self.schedule.find(cookie) {
            // The same socket once more: one copy is enough.
            drop(fd);
            self.shared.give_descriptors(1);
            return socket;
        }
        let socket = self.schedule.open(cookie);
        if self.sockets.len() <= socket {
            self.sockets.resize_with(socket + 1, || None);
        }
        self.sockets[socket] = Some(Socket {
            fd,
            armed: false,
            disarming: false,
            was_armed: false,
            try_again: Duration::ZERO,
            generation: 0,
            zero_copy: None,
        });
        socket
    }

    /// Hands completions over; true: ring the bell.
    pub fn flush(&mut self) -> bool {
        let counters = &self.shared.counters;
        Counters::add(&counters.kernel_enters, self.engine.take_enters());
        self.shared.pool_in_use.store(self.pool.in_use(), Ordering::Relaxed);
        self.shared.pool_resident.store(self.pool.resident(), Ordering::Relaxed);
        !self.outbox.is_empty() && self.shared.completions.push(&mut self.outbox)
    }

    /// Answers a question of a caller's: how many operations it concerned.
    pub fn answer(&mut self, question: &Question) -> u32 {
        match *question {
            Question::Cancel(id) => match self.by_id.get(&id) {
                Some(&slot) => {
                    self.end(slot as usize, -libc::ECANCELED);
                    1
                }
                None => 0,
            },
            Question::CancelSocket(cookie) => {
                let Some(socket) = self.schedule.find(cookie) else {
                    return 0;
                };
                let slots = self.queue_from(self.schedule.first(socket));
                slots.iter().for_each(|&slot| self.end(slot, -libc::ECANCELED));
                slots.len() as u32
            }
        }
    }

    fn queue_from(&self, first: Option<usize>) -> Vec<usize> {
        std::iter::successors(first, |&slot| self.schedule.behind(slot)).collect()
    }

    /// Calling threads have let go of their sockets.
    pub fn let_go(&mut self) {
        self.schedule.unpark_all();
    }

    /// Forgets cut streams that matter to nobody any more.
    pub fn forget_cuts(&self) {
        self.shared.forget_cuts(|cookie| self.schedule.find(cookie).is_some());
    }

    /// Ends everything in flight with this status.
    pub fn fail_all(&mut self, status: i32) {
        let slots: Vec<usize> = self.jobs.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if self.jobs.contains(slot) {
                self.end(slot, status);
            }
        }
    }

    /// Reports everything in flight as ended, whatever state it is in: the engine is gone.
    pub fn abandon(&mut self, status: i32) {
        for mut job in self.jobs.drain().collect::<Vec<_>>() {
            job.operation.fail(status);
            // Windows may still be read by the kernel.
            std::mem::forget(std::mem::replace(&mut job.source, Source::None));
            self.report_done(job);
        }
    }

    /// Gives no memory back.
    pub fn leak(self) {
        self.pool.leak();
    }

    /// Gives memory back after a while of idleness.
    pub fn trim(&mut self) {
        for block in self.pool.idle_blocks().collect::<Vec<_>>() {
            if std::mem::take(&mut self.registered[block]) {
                self.engine.unregister(block as u16);
            }
            self.pool.drop_block(block);
        }
        self.shared.pool_resident.store(self.pool.resident(), Ordering::Relaxed);
        self.schedule.shrink();
        self.shared.completions.shrink();
        self.jobs.shrink_to_fit();
        self.by_id.shrink_to(64);
        self.sockets = Vec::new();
        self.files = NumberMap::default();
        self.timers = Timers::default();
        self.outbox.shrink_to(64);
    }

    // ---- turns ---------------------------------------------------------------------

    /// Gives sockets their turns, up to a round's worth.
    pub fn turns(&mut self) {
        self.serve_pool_waiters();
        let mut bytes = 0;
        for _ in 0..ROUND_SENDS.min(self.schedule.line_length()) {
            let Some(socket) = self.schedule.next_turn() else {
                break;
            };
            if let Some(slot) = self.schedule.first(socket) {
                bytes += self.turn(socket, slot);
            }
            if bytes >= ROUND_BYTES {
                break;
            }
        }
    }

    // One step of the operation that is first on the socket; returns the bytes it may move.
    fn turn(&mut self, socket: usize, slot: usize) -> u64 {
        if self.socket(socket).armed {
            return 0;
        }
        self.begin(slot);
        let mut bytes = 0;
        if !self.send_next(socket, slot, &mut bytes) && self.jobs[slot].operation.needs_data() {
            self.find_data(socket, slot);
            self.send_next(socket, slot, &mut bytes);
        }
        self.settle(slot);
        bytes
    }

    fn begin(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        if job.operation.phase() != Phase::Queued {
            return;
        }
        if self.shared.is_behind_cut(job.cookie, job.id) {
            job.operation.fail(-libc::ECANCELED);
            return;
        }
        match job.file.as_ref().map(File::size) {
            None => job.operation.start(Size::NoFile),
            Some(Ok(size)) => job.operation.start(size),
            Some(Err(error)) => job.operation.fail(error.negative()),
        }
        let exact = job.operation.task().flags & EXACT != 0;
        let range = job.operation.file_length();
        if exact && range != TO_EOF && range > self.pool.kept_max() {
            job.operation.fail(-libc::EMSGSIZE);
        }
    }

    fn socket(&mut self, socket: usize) -> &mut Socket {
        self.sockets[socket].as_mut().expect("a socket in the schedule is open")
    }

    // Sends the next portion if it is at hand.
    fn send_next(&mut self, socket: usize, slot: usize, bytes: &mut u64) -> bool {
        let chunk = self.shared.settings.chunk_bytes;
        let job = &mut self.jobs[slot];
        let available = job.available();
        let Some(mut portion) = job.operation.want_send(available, chunk) else {
            return false;
        };
        *bytes = portion.len();
        if self.send_zero_copy(socket, slot, &portion) {
            return true;
        }
        let job = &mut self.jobs[slot];
        if job.zero_copy && portion.range.1 > 0 && portion.header.1 > 0 {
            // The header goes ahead alone, so that the data can go without a copy.
            portion.range.1 = 0;
            portion.zeros = 0;
            portion.trailer.1 = 0;
            portion.more = true;
        }
        let parts = [
            job.staged.header(portion.header),
            job.data(&self.pool, portion.range),
            Span::of(&ZEROS[..portion.zeros as usize]),
            job.staged.trailer(portion.trailer),
        ];
        job.operation.send_started();
        job.asked = parts.iter().map(|part| part.len() as u64).sum();
        let token = Token::new(Kind::Send, slot, job.id);
        let mut used = [parts[0]; sys::PARTS_MAX];
        let mut count = 0;
        for part in parts.into_iter().filter(|part| part.len() > 0) {
            used[count] = part;
            count += 1;
        }
        let flags = if portion.more { libc::MSG_MORE } else { 0 };
        let fd = sys::number(&self.socket(socket).fd);
        self.engine.send(token, fd, &used[..count], flags);
        true
    }

    fn send_zero_copy(&mut self, socket: usize, slot: usize, portion: &Portion) -> bool {
        let job = &mut self.jobs[slot];
        if !job.zero_copy || portion.header.1 > 0 || portion.range.1 == 0 {
            return false;
        }
        let Source::Buffers(buffers) = &job.source else {
            return false;
        };
        let Some(&Buffer { lease, .. }) = buffers.front() else {
            return false;
        };
        let span = job.data(&self.pool, portion.range);
        let rest = portion.zeros > 0 || portion.trailer.1 > 0;
        job.operation.send_started();
        self.generation += 1;
        let zero_copy = ZeroCopyUse {
            lease,
            slot: slot as u32,
            id: job.id,
            cookie: job.cookie,
            generation: self.generation,
            asked: portion.range.1,
            sent: 0,
        };
        self.pool.retain(lease);
        let block = self.pool.block_of(lease);
        let send = ZeroCopySend {
            socket: sys::number(&self.socket(socket).fd),
            span,
            buffer: self.registered[block].then_some(block as u16),
            flags: if portion.more || rest { libc::MSG_MORE } else { 0 },
        };
        let index = self.zero_copies.insert(zero_copy);
        let state = &mut self.socket(socket).zero_copy;
        if *state == Some(ZeroCopy::Untried) {
            *state = Some(ZeroCopy::Trying);
        }
        self.engine.send_zero_copy(Token::new(Kind::ZeroCopy, index, self.generation), send);
        true
    }

    // Chooses a way for the next bytes of the range and sets out on it.
    fn find_data(&mut self, socket: usize, slot: usize) {
        let chunk = self.shared.settings.chunk_bytes;
        let zero_copy = self.zero_copy_state(socket, slot);
        let may_keep = self.pool.may_keep(chunk);
        let job = &mut self.jobs[slot];
        debug_assert_eq!(job.available(), 0);
        job.source = Source::None;
        job.passing = false;
        if job.operation.is_reading() {
            return;
        }
        if job.is_held() {
            self.read_ahead(slot);
            let job = &mut self.jobs[slot];
            if !job.waits_for_pool || job.operation.task().flags & EXACT != 0 {
                return;
            }
            job.passing = true;
        }
        let job = &mut self.jobs[slot];
        let Some(file) = &job.file else { return };
        let sent = job.operation.range_sent();
        let remaining = job.operation.file_length() - sent;
        let offset = job.operation.task().offset + sent;
        let mut known = Known {
            remaining,
            resident: false,
            mappable: file.mappable,
            exact_end: job.operation.task().length == TO_EOF,
            zero_copy,
            pool_has_room: may_keep,
        };
        if plan::depends_on_residency(&known) {
            known.resident = sys::is_resident(sys::number(&file.fd), offset, remaining.min(chunk));
        }
        let way = plan::choose(&known);
        job.zero_copy = way == Way::PooledZeroCopy;
        if way == Way::Mapped && job.map(chunk) {
            return;
        }
        self.read_ahead(slot);
    }

    fn zero_copy_state(&mut self, socket: usize, slot: usize) -> ZeroCopy {
        let remaining = {
            let operation = &self.jobs[slot].operation;
            operation.file_length().saturating_sub(operation.range_sent())
        };
        if remaining < plan::ZERO_COPY_MIN || !self.engine.has_zero_copy() {
            return ZeroCopy::Useless;
        }
        if let Some(state) = self.socket(socket).zero_copy {
            return state;
        }
        // Where a few sockets in a row had no use for it, only one in 64 is tried.
        self.sockets_seen = self.sockets_seen.wrapping_add(1);
        let hopeless = self.zero_copy_useless >= 4 && self.sockets_seen % 64 != 0;
        let fd = sys::number(&self.socket(socket).fd);
        let state = if hopeless || !sys::leaves_the_machine(fd) {
            ZeroCopy::Useless
        } else if self.zero_copies.len() >= TRIALS_MAX && !self.zero_copy_was_real {
            // Enough is being tried; what a trial sends stays in the pool until the peer takes it.
            return ZeroCopy::Useless;
        } else {
            ZeroCopy::Untried
        };
        self.socket(socket).zero_copy = Some(state);
        state
    }

    // Starts the next read into the pool, if one is due and there is room.
    fn read_ahead(&mut self, slot: usize) {
        let chunk = self.shared.settings.chunk_bytes.min(self.pool.lease_max() / 2).max(PAGE);
        let job = &mut self.jobs[slot];
        let held = job.is_held();
        if held && !job.may_hold {
            return;
        }
        let ahead = if held { u64::MAX } else { 1 };
        let Some((at, length)) = job.operation.want_read(ahead, chunk) else {
            return;
        };
        if !self.reserve(slot) {
            return self.wait_for_pool(slot);
        }
        let mut place = self.rest_of_lease(slot, at, length);
        place = place.or_else(|| self.lease_for(slot, at, length));
        if place.is_none() && self.jobs[slot].zero_copy && !held {
            self.jobs[slot].zero_copy = false;
            place = self.lease_for(slot, at, length);
        }
        let Some(place) = place else {
            return self.wait_for_pool(slot);
        };
        let buffer = self.registered_buffer(place.lease);
        let job = &mut self.jobs[slot];
        let Some(file) = &mut job.file else { return };
        let offset = job.operation.task().offset + at;
        let (align, bytes) = file.alignment(offset, place.length);
        let into = self.pool.span(place.lease).part((place.skip - align) as usize, bytes as usize);
        job.reading = Some((place, align));
        job.operation.read_started();
        let read = Read {
            file: sys::number(&file.fd),
            offset: offset - align,
            into,
            buffer,
            through_ring: file.through_ring,
        };
        file.through_ring = self.engine.read(Token::new(Kind::Read, slot, job.id), read);
    }

    // After a short read the lease has room left, which counts as taken: go on there.
    fn rest_of_lease(&mut self, slot: usize, at: u64, length: u64) -> Option<Buffer> {
        let job = &self.jobs[slot];
        let Source::Buffers(buffers) = &job.source else {
            return None;
        };
        let last = buffers.back().filter(|last| last.start + last.length == at)?;
        let (lease, skip) = (last.lease, last.skip + last.length);
        let room = self.pool.span(lease).len() as u64 - skip;
        if room == 0 || job.file.as_ref().is_none_or(|file| file.facts.direct) {
            return None;
        }
        self.pool.retain(lease);
        Some(Buffer { lease, start: at, skip, length: length.min(room) })
    }

    // Room for up to `length` bytes: less when the pool is nearly full.
    fn lease_for(&mut self, slot: usize, at: u64, length: u64) -> Option<Buffer> {
        let job = &self.jobs[slot];
        let file = job.file.as_ref()?;
        let offset = job.operation.task().offset + at;
        let purpose = if job.reserved.is_some() {
            Purpose::Reserved
        } else if job.is_held() || job.zero_copy {
            Purpose::Kept
        } else {
            Purpose::Passing
        };
        let mut length = length;
        loop {
            let (skip, bytes) = file.alignment(offset, length);
            if let Some(lease) = self.pool.acquire(bytes, purpose) {
                return Some(Buffer { lease, start: at, skip, length });
            }
            if length <= READ_MIN {
                return None;
            }
            length = (length / 2).max(READ_MIN);
        }
    }

    fn registered_buffer(&mut self, lease: Lease) -> Option<u16> {
        let block = self.pool.block_of(lease);
        if !self.registered[block] {
            let span = self.pool.block_span(block)?;
            self.registered[block] = self.engine.register(block as u16, span);
        }
        self.registered[block].then_some(block as u16)
    }

    // EXACT needs all its room before it starts, or two of them could wait for each other.
    fn reserve(&mut self, slot: usize) -> bool {
        let job = &mut self.jobs[slot];
        if job.operation.task().flags & EXACT == 0 || job.reserved.is_some() {
            return true;
        }
        let range = job.operation.file_length().min(self.pool.kept_max());
        let bytes = range.next_multiple_of(PAGE);
        if !self.pool.may_keep(bytes) {
            return false;
        }
        self.pool.reserve(bytes);
        job.reserved = Some(bytes);
        true
    }

    fn wait_for_pool(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        let entry = (slot as u32, job.id);
        if job.passing || !job.waits_for_pool {
            job.waits_for_pool = true;
            if job.is_held() {
                self.waiting_kept.push_back(entry);
            } else {
                self.waiting_passing.push_back(entry);
            }
        }
    }

    // First come, first served, each kind for itself; but who waits for much does not hold up
    // those for whom there is room.
    fn serve_pool_waiters(&mut self) {
        if !std::mem::take(&mut self.pool_freed) {
            return;
        }
        for kept in [false, true] {
            let line = if kept { &mut self.waiting_kept } else { &mut self.waiting_passing };
            let mut waiting = std::mem::take(line);
            let mut refused = 0;
            while refused < POOL_WAITERS_TRIED {
                let Some((slot, id)) = waiting.pop_front() else {
                    break;
                };
                let slot = slot as usize;
                if self.jobs.get(slot).is_none_or(|job| job.id != id) {
                    continue;
                }
                let job = &mut self.jobs[slot];
                job.waits_for_pool = false;
                job.passing &= !kept || job.available() > 0 || job.operation.is_reading();
                self.read_ahead(slot);
                refused += usize::from(self.jobs[slot].waits_for_pool);
            }
            // Those refused have lined up anew, ahead of those not tried.
            let line = if kept { &mut self.waiting_kept } else { &mut self.waiting_passing };
            line.append(&mut waiting);
        }
    }

    // ---- events --------------------------------------------------------------------

    /// Takes an event of the engine's.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Completed { token, result, more } => match token.kind() {
                Kind::Send => self.on_sent(token, result),
                Kind::ZeroCopy => self.on_zero_copy_sent(token, result, more),
                Kind::Read => self.on_read(token, result),
                Kind::Writable => self.on_writable(token),
                Kind::Intake | Kind::Disarm | Kind::Helpers => {}
            },
            Event::Released { token, copied } => self.on_released(token, copied),
        }
    }

    fn slot_of(&self, token: Token) -> Option<usize> {
        let slot = token.slot();
        self.jobs.get(slot).filter(|job| token.is_of(job.id)).map(|_| slot)
    }

    fn on_sent(&mut self, token: Token, result: i32) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        if result >= 0 {
            let job = &mut self.jobs[slot];
            let before = job.operation.range_sent();
            let in_file = job.available_in_file();
            job.operation.sent(result as u64, WAS_COPIED, in_file);
            let file_bytes = job.operation.range_sent() - before;
            let is_full = (result as u64) < job.asked && job.operation.ended().is_none();
            let counters = &self.shared.counters;
            Counters::add(&counters.wire_bytes, result as u64);
            Counters::add(&counters.file_bytes, file_bytes);
            Counters::add(&counters.bytes_copied, file_bytes);
            self.consume(slot);
            if is_full { self.wait_for_peer(slot) } else { self.proceed(slot) }
        } else {
            self.on_send_error(slot, result);
        }
    }

    fn on_send_error(&mut self, slot: usize, result: i32) {
        let job = &mut self.jobs[slot];
        match -result {
            libc::EAGAIN => {
                job.operation.send_refused();
                self.wait_for_peer(slot);
            }
            libc::EINTR => {
                job.operation.send_refused();
                self.proceed(slot);
            }
            libc::EFAULT if matches!(job.source, Source::Window(_)) => {
                // The page is not there: the file was cut, or reading it failed; a read tells.
                let in_file = job.available_in_file();
                job.operation.sent(0, 0, in_file);
                job.source = Source::None;
                if let Some(file) = &mut job.file {
                    file.mappable = false;
                }
                self.proceed(slot);
            }
            libc::ENOBUFS | libc::ENOMEM => {
                job.operation.send_refused();
                let entry = (job.id, slot as u32, Alarm::Retry);
                self.timers.set(Instant::now() + RETRY, entry);
                self.settle(slot);
            }
            _ => {
                job.operation.send_failed(result);
                self.settle(slot);
            }
        }
    }

    fn on_zero_copy_sent(&mut self, token: Token, result: i32, more: bool) {
        let index = token.slot();
        let Some(used) = self.zero_copies.get_mut(index) else {
            return;
        };
        if !token.is_of(used.generation) {
            return;
        }
        used.sent = result.max(0) as u64;
        let (slot, id, cookie, lease) = (used.slot as usize, used.id, used.cookie, used.lease);
        let asked = used.asked;
        if !more {
            self.zero_copies.remove(index);
            self.release_lease(lease);
        }
        if self.jobs.get(slot).is_none_or(|job| job.id != id) {
            return;
        }
        if result >= 0 {
            let job = &mut self.jobs[slot];
            job.operation.sent(result as u64, 0, u64::MAX);
            job.unresolved += result as u64;
            Counters::add(&self.shared.counters.wire_bytes, result as u64);
            Counters::add(&self.shared.counters.file_bytes, result as u64);
            self.consume(slot);
            if (result as u64) < asked {
                return self.wait_for_peer(slot);
            }
            return self.proceed(slot);
        }
        match -result {
            libc::EAGAIN | libc::EINTR => self.on_send_error(slot, result),
            // Not on this socket, or not with the memory that may be locked: copy instead.
            libc::EOPNOTSUPP | libc::EINVAL | libc::ENOMEM | libc::ENOBUFS | libc::EFAULT => {
                self.learn_zero_copy(cookie, false);
                self.jobs[slot].operation.send_refused();
                self.jobs[slot].zero_copy = false;
                self.proceed(slot);
            }
            _ => self.on_send_error(slot, result),
        }
    }

    fn on_released(&mut self, token: Token, copied: bool) {
        let index = token.slot();
        if self.zero_copies.get(index).is_none_or(|used| !token.is_of(used.generation)) {
            return;
        }
        let used = self.zero_copies.remove(index);
        self.release_lease(used.lease);
        if used.sent == 0 {
            return;
        }
        let counters = &self.shared.counters;
        Counters::add(&counters.zerocopy_notified, 1);
        if copied {
            Counters::add(&counters.zerocopy_copied_anyway, 1);
            Counters::add(&counters.bytes_copied, used.sent);
        } else {
            Counters::add(&counters.bytes_zerocopy, used.sent);
        }
        self.learn_zero_copy(used.cookie, !copied);
        let slot = used.slot as usize;
        if self.jobs.get(slot).is_some_and(|job| job.id == used.id) {
            let job = &mut self.jobs[slot];
            job.unresolved = job.unresolved.saturating_sub(used.sent);
            job.operation.mark(if copied { WAS_COPIED } else { WAS_ZEROCOPY });
        }
    }

    fn learn_zero_copy(&mut self, cookie: u64, real: bool) {
        self.zero_copy_useless = if real { 0 } else { self.zero_copy_useless.saturating_add(1) };
        self.zero_copy_was_real |= real;
        if let Some(socket) = self.schedule.find(cookie) {
            let state = if real { ZeroCopy::Real } else { ZeroCopy::Useless };
            self.socket(socket).zero_copy = Some(state);
        }
    }

    fn on_read(&mut self, token: Token, result: i32) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        let job = &mut self.jobs[slot];
        let Some((mut buffer, align)) = job.reading.take() else {
            return;
        };
        let wanted = job.operation.phase() == Phase::Running;
        let count = (result.max(0) as u64).saturating_sub(align).min(buffer.length);
        if count > 0 && wanted {
            buffer.length = count;
            job.push(buffer);
            job.operation.read_done(buffer.start, count);
        } else {
            self.release_lease(buffer.lease);
            let job = &mut self.jobs[slot];
            match -result {
                libc::EAGAIN | libc::EINTR => job.operation.read_again(),
                _ if result >= 0 => job.operation.read_done(buffer.start, 0),
                _ => job.operation.read_failed(result),
            }
        }
        if self.jobs[slot].is_held() {
            self.read_ahead(slot);
            self.let_hold(slot);
        }
        self.proceed(slot);
    }

    fn on_writable(&mut self, token: Token) {
        let socket = token.slot();
        let Some(Some(state)) = self.sockets.get_mut(socket) else {
            return;
        };
        if !state.armed || !token.is_of(state.generation) {
            return;
        }
        state.armed = false;
        state.disarming = false;
        if let Some(slot) = self.schedule.first(socket) {
            self.proceed(slot);
        }
    }

    /// Looks at the times that have come.
    pub fn alarms(&mut self) {
        if self.timers.next().is_none() {
            return;
        }
        let jobs = &self.jobs;
        let alive = |id, slot: u32| jobs.get(slot as usize).is_some_and(|job| job.id == id);
        self.timers.compact(jobs.len(), alive);
        let now = Instant::now();
        while let Some((id, slot, alarm)) = self.timers.take_due(now) {
            let slot = slot as usize;
            if self.jobs.get(slot).is_none_or(|job| job.id != id) {
                continue;
            }
            match alarm {
                Alarm::Deadline => self.end(slot, -libc::ETIMEDOUT),
                Alarm::Linger => self.give_up_data(slot),
                Alarm::Retry => self.proceed(slot),
                Alarm::TryAgain => self.try_full_socket(slot),
            }
        }
    }

    // ---- between steps -------------------------------------------------------------

    // Something has happened: the next step, or the end.
    fn proceed(&mut self, slot: usize) {
        if self.jobs[slot].operation.ended().is_none() {
            let socket = self.schedule.socket_of(slot);
            self.schedule.ready(socket);
        }
        self.settle(slot);
    }

    fn wait_for_peer(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        self.generation += 1;
        let generation = self.generation;
        let state = self.socket(socket);
        if !state.armed {
            let fd = sys::number(&state.fd);
            if !state.was_armed && sys::socket_domain(fd) == Ok(libc::AF_UNIX) {
                state.try_again = TRY_AGAIN;
            }
            state.armed = true;
            state.was_armed = true;
            state.generation = generation;
            let try_again = state.try_again;
            self.engine.arm(Token::new(Kind::Writable, socket, generation), fd);
            if !try_again.is_zero() {
                let entry = (self.jobs[slot].id, slot as u32, Alarm::TryAgain);
                self.timers.set(Instant::now() + try_again, entry);
            }
        }
        let job = &mut self.jobs[slot];
        match &job.source {
            Source::Buffers(buffers) if !buffers.is_empty() => {
                if !job.is_held() && !job.lingers {
                    job.lingers = true;
                    let entry = (job.id, slot as u32, Alarm::Linger);
                    self.timers.set(Instant::now() + LINGER, entry);
                }
            }
            _ => job.source = Source::None,
        }
        self.settle(slot);
    }

    // Looks whether a socket that poll(2) calls full can be sent on at all, ever more rarely.
    fn try_full_socket(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        let state = self.socket(socket);
        if !state.armed || state.disarming || self.schedule.first(socket) != Some(slot) {
            return;
        }
        let state = self.socket(socket);
        state.try_again = (state.try_again * 2).min(TRY_AGAIN_MAX);
        let at = Instant::now() + state.try_again;
        let fd = sys::number(&state.fd);
        self.timers.set(at, (self.jobs[slot].id, slot as u32, Alarm::TryAgain));
        // Sending nothing fails if sending something would fail for good.
        if let Err(error) = sys::send_parts(fd, &[], 0) {
            if error.0 != libc::EAGAIN {
                self.end(slot, error.negative());
            }
        }
    }

    // The peer has been slow for a while: its data makes room for others and is read again.
    fn give_up_data(&mut self, slot: usize) {
        let socket = self.schedule.socket_of(slot);
        let is_waiting = self.socket(socket).armed && self.schedule.first(socket) == Some(slot);
        let job = &mut self.jobs[slot];
        job.lingers = false;
        if is_waiting && !job.operation.is_reading() && !job.operation.is_sending() {
            for lease in job.take_leases() {
                self.release_lease(lease);
            }
            let job = &mut self.jobs[slot];
            job.operation.forget_held();
            job.passing = false;
        }
    }

    // Gives back the buffers that have been sent.
    fn consume(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        let sent = job.operation.range_sent();
        let Source::Buffers(buffers) = &mut job.source else {
            return;
        };
        while let Some(front) = buffers.front().filter(|front| front.start + front.length <= sent) {
            self.pool.release(front.lease);
            self.pool_freed = true;
            buffers.pop_front();
        }
    }

    fn release_lease(&mut self, lease: Lease) {
        self.pool.release(lease);
        self.pool_freed = true;
    }

    fn end(&mut self, slot: usize, status: i32) {
        self.jobs[slot].operation.fail(status);
        self.settle(slot);
    }

    // Reports the snapshot when it is due, and finishes the operation when nothing of it is with
    // the kernel any more.
    fn settle(&mut self, slot: usize) {
        let job = &mut self.jobs[slot];
        if job.reply.is_none() && job.operation.take_snapshot_event() {
            let completion = job.completion(0, Report::Snapshot);
            self.outbox.push(Entry { completion, cut: None });
        }
        if job.operation.ended().is_none() {
            return;
        }
        let socket = self.schedule.socket_of(slot);
        let alone =
            self.schedule.first(socket) == Some(slot) && self.schedule.behind(slot).is_none();
        if alone && self.socket(socket).armed {
            // DONE waits until the kernel has let go of the socket.
            let state = self.socket(socket);
            let token = Token::new(Kind::Writable, socket, state.generation);
            if !std::mem::replace(&mut state.disarming, true) {
                let fd = sys::number(&state.fd);
                self.engine.disarm(token, fd);
            }
            return;
        }
        self.finish(slot, socket);
    }

    fn finish(&mut self, slot: usize, socket: usize) {
        let is_cut = self.jobs[slot].operation.is_cut();
        let next = self.schedule.behind(slot);
        let behind = if is_cut { self.queue_from(next) } else { Vec::new() };
        self.schedule.remove(slot);
        let mut job = self.jobs.remove(slot);
        if let Some(next) = next.filter(|_| job.may_hold && !is_cut) {
            self.jobs[next].may_hold = true;
            self.read_ahead(next);
            self.let_hold(next);
        }
        self.by_id.remove(&job.id);
        self.release(&mut job);
        if is_cut {
            self.shared.record_cut(job.cookie);
        }
        if self.schedule.first(socket).is_none() {
            self.close_socket(socket);
        } else {
            self.schedule.ready(socket);
        }
        self.shared.leave_bucket(job.cookie);
        self.report_done(job);
        for slot in behind {
            self.end(slot, -libc::ECANCELED);
        }
    }

    fn close_socket(&mut self, socket: usize) {
        if let Some(state) = self.sockets[socket].take() {
            if state.was_armed {
                self.engine.released(sys::number(&state.fd));
            }
            self.shared.give_descriptors(1);
        }
        self.schedule.close(socket);
    }

    // Everything that the operation holds goes back before its DONE can be seen.
    fn release(&mut self, job: &mut Job) {
        for lease in job.take_leases() {
            self.release_lease(lease);
        }
        if let Some(bytes) = job.reserved.take() {
            self.pool.unreserve(bytes);
            self.pool_freed = true;
        }
        job.source = Source::None;
        if job.file.take().is_some_and(|file| Rc::into_inner(file.fd).is_some()) {
            self.shared.give_descriptors(1);
        }
        self.shared.staging.release(std::mem::take(&mut job.staged));
    }

    fn report_done(&mut self, mut job: Job) {
        let status = job.operation.ended().unwrap_or(-libc::EIO);
        if job.unresolved > 0 {
            job.operation.mark(WAS_ZEROCOPY);
        }
        self.shared.counters.count_done(status);
        let completion = job.completion(status, Report::Done);
        if let Some(reply) = job.reply.take() {
            reply.give(Ok(completion));
            return;
        }
        let cut = job.operation.is_cut().then_some(job.cookie);
        self.outbox.push(Entry { completion, cut });
    }
}
