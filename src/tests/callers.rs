// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real driver over a simulated kernel, with callers that submit, cancel and poll.
#![forbid(unsafe_code)]

use super::Script;
use super::expected::Expected;
use super::fake::{Fake, Simulated};
use super::handles::Registered;
use super::machine::{Machine, Manner, NOBODY, Thing};
use super::memory::{Piece, What};
use crate::caller::inline::{self, Numbers};
use crate::decide::operation::{Operation, PADDING_MAX, Portion, Task};
use crate::decide::pool_size;
use crate::engine::EngineEvent;
use crate::engine::known_files::FileSystem;
use crate::handoff::claims::{Claim, Claimed, Turn};
use crate::handoff::port::Registration;
use crate::handoff::questions::Question;
use crate::handoff::shared::Shared;
use crate::handoff::staging::{self, Staged};
use crate::handoff::submissions::{Handles, Submission};
use crate::ring::Driver;
use crate::ring::pool::Pool;
use crate::sys::Span;
use crate::types::completion::{Completion, CompletionFlags};
use crate::types::copying::READ_MAX;
use crate::types::file::{Content, FileFacts, FileKind, Mount};
use crate::types::options::{EngineChoice, Options, Settings};
use crate::types::request::{Descriptor, Request, RequestFlags, TO_EOF};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a calling thread has sent to the ring thread.
#[allow(clippy::large_enum_variant)] // there are few of them
pub(super) enum Message {
    Submitted { submission: Submission, socket: Option<OwnedFd>, file: Option<OwnedFd> },
    Released(Claim),
    Registered(Registration, Option<OwnedFd>),
    Unregistered(Registration),
}

/// How big everything is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) chunk: u64,
    pub(super) pool: u64,
    /// Bytes of the longest ranges, and of all windows.
    pub(super) range: u64,
    pub(super) windows: u64,
    /// The length of a page.
    pub(super) page: u64,
}

/// A pool of which a hung file system and data kept behind it leave a part.
pub(super) const LARGE_POOL: u64 = 6 << 20;

// The length of a window, as in src/ring/windows.rs.
const WINDOW: u64 = 2 << 20;

// Mounts.
const MAPPED: u64 = 1;
const LOCAL: u64 = 2;
const REMOTE: u64 = 3;

pub(super) struct World {
    pub(super) kernel: Simulated,
    pub(super) shared: Arc<Shared>,
    pub(super) driver: Driver<Fake>,
    pub(super) scale: Scale,
    /// Messages on their way.
    pub(super) transit: VecDeque<Message>,
    /// For each socket its operations in the order in which they go.
    pub(super) order: Vec<Vec<usize>>,
    pub(super) handles: Vec<Registered>,
    /// Since when everything goes well.
    pub(super) calm_since: Option<Instant>,
    pub(super) events: Vec<EngineEvent>,
}

impl World {
    pub(super) fn new(scale: Scale, script: Script) -> World {
        let options = Options::new().engine(EngineChoice::Portable).max_ops(40);
        let options = options.pool_bytes(scale.pool).window_bytes(scale.windows);
        let settings = Settings::from_options(&options, scale.page).expect("within the limits");
        let pool = Pool::new(settings.pool_bytes - settings.staging_bytes).expect("memory");
        // Shorter than any that a caller may choose.
        let settings = Settings { chunk_bytes: scale.chunk, ..settings };
        let shared = Arc::new(Shared::new(settings));
        let kernel = Simulated(Rc::new(RefCell::new(Machine::new(script, scale.page))));
        let driver = Driver::new(shared.clone(), Fake::new(kernel.clone()), pool).expect("memory");
        let known = &shared.known_files;
        known.learn_file_system(Mount::numbered(MAPPED), FileSystem::Mapped);
        known.learn_file_system(Mount::numbered(LOCAL), FileSystem::Local);
        let mut world = World {
            kernel,
            shared,
            driver,
            scale,
            transit: VecDeque::new(),
            order: Vec::new(),
            handles: Vec::new(),
            calm_since: None,
            events: Vec::new(),
        };
        world.furnish();
        world
    }

    // Makes files and sockets.
    fn furnish(&mut self) {
        let mut machine = self.kernel.machine();
        machine.has_zero_copy = machine.script.pick(2) == 1;
        machine.compares = machine.script.pick(4) != 3;
        machine.chunk = self.scale.chunk;
        let zeros = Portion { zeros: PADDING_MAX, ..Portion::default() };
        let zeros = Staged::default().parts(&zeros, Span::of(&[]))[2];
        let what = What::Zero;
        let zero = Piece { owner: NOBODY, what, at: 0, length: PADDING_MAX };
        machine.memory.write(zeros.address, zero);
        let short = machine.short();
        for number in 0..1 + machine.script.pick(3) {
            let size = match machine.script.pick(5) {
                0 => 1 + machine.script.pick(200),
                1 => machine.script.pick(3 * short),
                2 => 0,
                _ => machine.script.at_most(self.scale.range),
            };
            let mount = [MAPPED, MAPPED, LOCAL, REMOTE][machine.script.pick(4) as usize];
            let hides_size = machine.script.pick(8) == 7;
            let facts = FileFacts {
                kind: FileKind::Regular,
                size,
                inode: 77 + number,
                mount: Mount::numbered(mount),
                direct: machine.script.pick(8) == 7,
                content: Content::Unknown,
            };
            let is_frozen = machine.script.pick(3) == 2 && !facts.direct && size > 0;
            let hides_size = hides_size && !is_frozen;
            if machine.script.pick(4) != 3 {
                self.shared.known_files.timed(facts.mount, facts.inode, || ());
            }
            machine.add_file(facts, hides_size, is_frozen);
        }
        for _ in 0..1 + machine.script.pick(3) {
            let capacity = match machine.script.pick(3) {
                0 => 4 * self.scale.chunk,
                1 => self.scale.chunk,
                _ => self.scale.chunk / 2 + machine.script.pick(self.scale.chunk),
            };
            let manner = Manner {
                capacity,
                is_unix: machine.script.pick(4) == 3,
                is_remote: machine.script.pick(3) != 2,
                has_tls: machine.script.pick(8) == 7,
                blocks: machine.script.pick(4) == 3,
                copies: machine.script.pick(3) == 2,
            };
            machine.add_socket(manner);
            self.order.push(Vec::new());
        }
    }

    // ---- callers -------------------------------------------------------------------

    // What a caller asks for.
    fn task(&mut self) -> (Task, usize, Option<usize>) {
        let machine = &mut *self.kernel.machine();
        let (files, sockets) = (machine.originals(), machine.sockets.len() as u64);
        let short = machine.short();
        let script = &mut machine.script;
        let socket = script.pick(sockets) as usize;
        let file = if script.pick(12) == 11 { None } else { Some(script.pick(files) as usize) };
        let mut staged = || [0, 0, 1 + script.pick(20), 300][script.pick(4) as usize] as u32;
        let (header, trailer) = (staged(), staged());
        let size = file.map_or(0, |file| machine.files[file].size());
        let offset = match script.pick(5) {
            0 | 1 => 0,
            2 => script.pick(size + 2),
            3 => size.min(WINDOW).saturating_sub(script.pick(2 * self.scale.page)),
            _ => script.pick(40).min(size),
        };
        let rest = size.saturating_sub(offset);
        let length = match script.pick(8) {
            _ if file.is_none() => 0,
            0..=2 => rest,
            3 | 4 => TO_EOF,
            5 => script.at_most(rest),
            6 => rest.saturating_sub(script.pick(4)),
            _ => rest + script.pick(short),
        };
        let mut flags = RequestFlags::from_bits_truncate(script.pick(32) as u32);
        if script.pick(3) == 2 {
            flags = flags & !RequestFlags::KEPT | RequestFlags::ZEROCOPY;
        }
        flags.set(RequestFlags::NOTIFY_SENT, script.pick(2) == 1);
        if length == TO_EOF || flags.contains(RequestFlags::EXACT) {
            flags &= !RequestFlags::ZERO_PAD;
        }
        // With O_DIRECT a read that ends early leaves the rest of its room unused, so that a file
        // that is cut and grows again may take more of it than a small pool has.
        let is_direct = file.is_some_and(|file| machine.files[file].facts.direct);
        if is_direct && self.scale.pool < LARGE_POOL {
            flags &= !RequestFlags::EXACT;
        }
        (Task { header, trailer, offset, length, flags }, socket, file)
    }

    // As Caller::prepare() does.  None: the context is full, or a handle was refused.
    fn prepare(&mut self) -> Option<(Submission, usize)> {
        let (task, socket, file) = self.task();
        let socket_handle = self.choose_handle(Thing::Socket(socket))?;
        let file_handle = match file {
            Some(file) => self.choose_handle(Thing::File(file))?,
            None => None,
        };
        let registered = Handles { socket: socket_handle, file: file_handle };
        let mut machine = self.kernel.machine();
        let size = file.map_or(0, |file| machine.files[file].size_at_submit());
        let facts = file.map(|file| FileFacts {
            size: if file_handle.is_some() { 0 } else { size },
            ..machine.files[file].facts
        });
        let operation = machine.operations.len();
        let staged = self.stage(&task, operation, &mut machine)?;
        let mut expected = Expected::new(task, socket, file, (machine.epoch, machine.now));
        let timeout = Duration::from_millis(machine.script.pick(200));
        let deadline = (machine.script.pick(8) == 7).then(|| machine.now + timeout);
        expected.deadline = deadline;
        let is_long = task.length > pool_size::exact_max(&self.shared.settings);
        if is_long && task.flags.contains(RequestFlags::EXACT) {
            // The file may turn out to be none that can be cloned.
            expected.may_fail_with(libc::EMSGSIZE);
        }
        self.handles_in(registered).for_each(|known| known.explain(&mut expected));
        machine.operations.push(expected);
        let submission = Submission {
            id: 0,
            cookie: machine.sockets[socket].cookie,
            user_data: operation as u64,
            operation: Operation::new(task),
            staged,
            file: facts,
            registered,
            is_announced: true,
            deadline,
            reply: None,
            turn: Turn::InOrder,
        };
        let descriptors = submission.descriptor_count();
        self.shared.descriptors.take(descriptors, || false).expect("few descriptors");
        Some((submission, operation))
    }

    // Takes a permit, and copies header and trailer.
    fn stage(&self, task: &Task, operation: usize, machine: &mut Machine) -> Option<Staged> {
        static BYTES: [u8; 300] = [b'.'; 300];
        let header = [IoSlice::new(&BYTES[..task.header as usize])];
        let trailer = [IoSlice::new(&BYTES[..task.trailer as usize])];
        let request = Request { header: &header, trailer: &trailer, ..request_of(task) };
        let lengths = staging::lengths(&request).expect("within the limits");
        let notifies = RequestFlags::NOTIFY_SNAPSHOT | RequestFlags::NOTIFY_SENT;
        let events = (task.flags & notifies).bits().count_ones();
        let shared = &self.shared;
        shared.permits.take(events, &shared.completions).ok()?;
        let Ok(staged) = shared.staging.copy(&request, lengths) else {
            shared.permits.give_back(events);
            return None;
        };
        for (what, span, length) in [
            (What::Header, staged.header((0, task.header)), task.header),
            (What::Trailer, staged.trailer((0, task.trailer)), task.trailer),
        ] {
            let piece = Piece { owner: operation, what, at: 0, length: length.into() };
            machine.memory.write(span.address, piece);
        }
        Some(staged)
    }

    /// A calling thread submits an operation.
    pub(super) fn submit(&mut self) {
        if let Some((submission, operation)) = self.prepare() {
            self.enqueue(submission, operation, 0);
        }
    }

    // As Caller::enqueue() does.  So many messages of other threads come behind.
    fn enqueue(&mut self, mut submission: Submission, operation: usize, behind: usize) {
        let shared = &self.shared;
        submission.id = shared.cuts.take_ids(1);
        submission.turn = shared.claims.enter(submission.cookie, submission.turn).expect("memory");
        let mut machine = self.kernel.machine();
        let expected = &mut machine.operations[operation];
        expected.id = submission.id;
        let Handles { socket: socket_handle, file: file_handle } = submission.registered;
        let socket = Some(expected.socket).filter(|_| socket_handle.is_none());
        let file = expected.file.filter(|_| file_handle.is_none());
        let count = machine.sockets.len() as u64;
        let (mut to, mut from) = (socket, file);
        match machine.pick(64) {
            // The table was full after all, and the kernel dropped one.
            61 if from.is_some() => {
                machine.operations[operation].may_fail_with(libc::EMFILE);
                from = None;
            }
            62 if to.is_some() && submission.turn != Turn::Ahead => {
                machine.operations[operation].may_fail_with(libc::EMFILE);
                to = None;
            }
            // The number means another socket by now.
            63 if to.is_some() && submission.turn != Turn::Ahead => {
                machine.operations[operation].may_fail_with(libc::EBADF);
                to = Some(machine.script.pick(count) as usize);
            }
            _ => {}
        }
        let socket = to.map(|socket| machine.descriptor(Thing::Socket(socket)));
        let file = from.map(|file| machine.descriptor(Thing::File(file)));
        let at = self.transit.len() - behind;
        self.transit.insert(at, Message::Submitted { submission, socket, file });
    }

    /// A calling thread sends by itself what it can (src/caller/send.rs); the rest goes on elsewhere.
    pub(super) fn try_send(&mut self) {
        let Some((mut submission, operation)) = self.prepare() else { return };
        let cookie = submission.cookie;
        let (socket, file) = {
            let mut machine = self.kernel.machine();
            let (socket, file) = {
                let expected = &machine.operations[operation];
                (expected.socket, expected.file)
            };
            let file = file.map(|file| machine.descriptor(Thing::File(file)));
            (machine.descriptor(Thing::Socket(socket)), file)
        };
        let numbers =
            Numbers { socket: socket.as_raw_fd(), file: file.as_ref().map(AsRawFd::as_raw_fd) };
        let (known, chunk) = (&self.shared.known_files, self.scale.chunk);
        let is_suitable = inline::is_suitable(&self.kernel, numbers, &submission, known, chunk);
        if !is_suitable {
            return self.enqueue(submission, operation, 0);
        }
        let Some(claimed) = self.shared.claims.claim(cookie) else {
            return self.enqueue(submission, operation, 0);
        };
        if self.shared.cuts.is_unreported(cookie) {
            self.release(claimed, 0);
            return self.enqueue(submission, operation, 0);
        }
        let at = self.kernel.machine().operations[operation].socket;
        self.order[at].push(operation);
        let Handles { socket: socket_handle, file: file_handle } = submission.registered;
        self.kernel.machine().operations[operation].reads_to_end =
            socket_handle.is_some() && file_handle.is_some();
        let mut scratch = vec![0; READ_MAX.min(chunk) as usize];
        inline::run(&self.kernel, numbers, &mut submission, known, chunk, &mut scratch);
        drop((socket, file));
        // Other threads submit before this one lets go; their messages come at any time.
        let before = self.transit.len();
        let others = self.kernel.machine().pick(3);
        (0..others).for_each(|_| self.submit());
        let others = self.transit.len() - before;
        let mut behind = self.kernel.machine().pick(others as u64 + 1) as usize;
        match submission.operation.ended() {
            Some(status) => self.done_here(submission, operation, status),
            None => {
                submission.turn = Turn::Ahead;
                self.enqueue(submission, operation, behind);
            }
        }
        behind -= self.kernel.machine().pick(behind as u64 + 1) as usize;
        self.release(claimed, behind);
    }

    fn done_here(&mut self, mut submission: Submission, index: usize, status: i32) {
        let (shared, operation) = (&self.shared, &mut submission.operation);
        let mut machine = self.kernel.machine();
        let socket = machine.operations[index].socket;
        if operation.take_held_back() {
            machine.sockets[socket].holds_back = false;
        }
        if operation.is_cut() {
            shared.cuts.record_taken(submission.cookie).expect("memory");
        }
        let completion = Completion {
            file_bytes: operation.range_sent(),
            wire_bytes: operation.wire(),
            status,
            flags: operation.was() | CompletionFlags::WAS_INLINE,
            ..Completion::default()
        };
        let epoch = machine.epoch;
        machine.operations[index].report(completion, epoch, shared.cuts.next_id());
        machine.epoch += 1;
        self.shared.give_back(&mut submission);
    }

    fn release(&mut self, claimed: Claimed, behind: usize) {
        if let Some(claim) = self.shared.claims.release(claimed) {
            let at = self.transit.len() - behind;
            self.transit.insert(at, Message::Released(claim));
        }
    }

    /// Cancels an operation or all of a socket.
    pub(super) fn cancel(&mut self) {
        let mut machine = self.kernel.machine();
        let (operations, sockets) = (machine.operations.len() as u64, machine.sockets.len() as u64);
        if operations == 0 {
            return;
        }
        let question = if machine.script.pick(4) == 3 {
            let socket = machine.script.pick(sockets) as usize;
            Question::CancelSocket(machine.sockets[socket].cookie)
        } else {
            let operation = machine.script.pick(operations) as usize;
            Question::Cancel(machine.operations[operation].id)
        };
        drop(machine);
        self.ask(&question);
    }

    pub(super) fn ask(&mut self, question: &Question) {
        self.kernel.machine().expect_cancelled(question);
        self.driver.answer(question);
    }
}

fn request_of<'a>(task: &Task) -> Request<'a> {
    Request {
        socket: Descriptor::Number(0),
        file: None,
        offset: task.offset,
        length: task.length,
        header: &[],
        trailer: &[],
        flags: task.flags,
        timeout: None,
        user_data: 0,
    }
}
