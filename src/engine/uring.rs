// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine that queues its requests in an io_uring and enters the kernel once for many.  It
//! needs Linux 5.13 (multishot polls), and uses zero-copy sends where notifications report usage
//! (6.2).  Calls that may block in io_uring_enter(2) go to the helpers.

use super::helpers::{BlockingCall, Helpers, ReadNow};
use super::{Engine, EngineEvent, Read, ZeroCopySend, kept};
use crate::collections::memory;
use crate::decide::token::{Kind, Token};
use crate::engine::kernel::System;
use crate::engine::known_files::KnownFiles;
use crate::sys::{self, LENT_MAX, Span, SpanMut, timespec};
use crate::types::errno::{Errno, Result};
use crate::types::feature::KernelFeatures;
use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};
use once_cell::race::OnceBool;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SQ_ENTRIES: u32 = 128;
const CQ_ENTRIES_MIN: u32 = 1024;
// More do not shorten the chains further (io_ring_ctx_alloc() in io_uring/io_uring.c).
const CQ_ENTRIES_MAX: u32 = 8192;

// Room for this many events is kept.
const EVENTS: usize = 256;

// From linux/io_uring.h; private in the io-uring crate.
const IORING_SEND_ZC_REPORT_USAGE: u16 = 1 << 3;
const IORING_NOTIF_USAGE_ZC_COPIED: u32 = 1 << 31;

// How often in a row io_uring_enter(2) may refuse for the moment, and the pause after each refusal.
const REFUSALS_MAX: u32 = 5_000;
const REFUSAL_PAUSE: Duration = Duration::from_millis(1);

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

// Whether notifications report usage, found out by the first ring of the process.  Not a OnceLock:
// a child that is forked while another thread probes would wait for that thread indefinitely.
static REPORTS_USAGE: OnceBool = OnceBool::new();

/// A message header that stays in place until the kernel has taken its entry from the queue, and
/// with that read it (IORING_FEAT_SUBMIT_STABLE, Linux 5.5).
struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; LENT_MAX],
}

/// The io_uring engine.
pub struct Uring {
    ring: IoUring,
    /// Used in turn.  There is one more than the queue has entries, so that a queued entry keeps
    /// its own, whether io_uring_enter(2) takes it or not.
    messages: Box<[Message]>,
    next_message: usize,
    intake: RawFd,
    helpers: Helpers,
    /// Events for the next turn to return.
    ready: Vec<EngineEvent>,
    /// Waits that could not be taken back, because the kernel was processing them.
    not_disarmed: Vec<Token>,
    /// The error that ends the engine; the next turn reports it.
    broken: Option<Errno>,
    /// How often in a row the kernel has refused to be entered.
    refused: u32,
    /// Notifications of zero-copy sends that have not arrived.
    awaited: u32,
    /// Bytes of the pool that are registered.
    registered: u64,
    features: KernelFeatures,
    /// Entries into the kernel since they were last taken.
    enters: u64,
    /// Sends are in the submission queue: none of them waits.
    sends_queued: bool,
}

impl Uring {
    /// Creates a ring for up to `operations` at a time.  It also reports, as [`Kind::Intake`], when
    /// `intake` is readable.  Must be called by the thread that uses the ring.  ENOSYS: the
    /// kernel's io_uring lacks a needed feature.
    pub fn new(
        intake: RawFd,
        operations: u32,
        buffers: u32,
        known: Arc<KnownFiles>,
    ) -> Result<Uring> {
        kept::reap();
        let ring = set_up(operations).map_err(errno_of)?;
        let params = ring.params();
        // Resource tagging stands for Linux 5.13, which has multishot polls.
        let has_features = params.is_feature_ext_arg()
            && params.is_feature_nodrop()
            && params.is_feature_resource_tagging();
        if !has_features {
            return Err(Errno(libc::ENOSYS));
        }
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(errno_of)?;
        let needed = [
            opcode::Send::CODE,
            opcode::SendMsg::CODE,
            opcode::Read::CODE,
            opcode::PollAdd::CODE,
            opcode::PollRemove::CODE,
        ];
        if !needed.iter().all(|&code| probe.is_supported(code)) {
            return Err(Errno(libc::ENOSYS));
        }
        let mut features = KernelFeatures::IO_URING;
        if ring.submitter().register_buffers_sparse(buffers).is_ok() {
            features |= KernelFeatures::REGISTERED_BUFFERS;
        }
        let mut messages = memory::list(SQ_ENTRIES as usize + 1)?;
        messages.extend((0..=SQ_ENTRIES).map(|_| Message::empty()));
        let mut engine = Uring {
            ring,
            messages: messages.into_boxed_slice(),
            next_message: 0,
            intake,
            helpers: Helpers::new(known)?,
            ready: memory::list(EVENTS)?,
            not_disarmed: Vec::new(),
            broken: None,
            refused: 0,
            awaited: 0,
            registered: 0,
            features,
            enters: 0,
            sends_queued: false,
        };
        engine.watch(engine.intake, Kind::Intake);
        engine.watch(engine.helpers.descriptor(), Kind::Helpers);
        // A seccomp filter may allow the set-up and refuse io_uring_enter(2).
        engine.enter(0, None)?;
        if probe.is_supported(opcode::SendZc::CODE) && engine.knows_usage()? {
            engine.features |= KernelFeatures::SEND_ZC | KernelFeatures::ZC_REPORT_USAGE;
        }
        Ok(engine)
    }

    fn knows_usage(&mut self) -> Result<bool> {
        if let Some(known) = REPORTS_USAGE.get() {
            return Ok(known);
        }
        let known = self.ask_for_usage()?;
        if let Some(known) = known {
            let _ = REPORTS_USAGE.set(known); // another thread may have been first
        }
        Ok(known.unwrap_or(false))
    }

    // Returns whether notifications of SEND_ZC report usage (Linux 6.2).  The request names no
    // socket: a kernel with the flag gives EBADF, an older one EINVAL for the flag.  None: another
    // error.
    fn ask_for_usage(&mut self) -> Result<Option<bool>> {
        let entry = opcode::SendZc::new(types::Fd(-1), std::ptr::null(), 0)
            .zc_flags(IORING_SEND_ZC_REPORT_USAGE)
            .build();
        self.push(entry, Token::new(Kind::Disarm, 0, 0));
        self.enter(1, Some(Duration::from_secs(1)))?;
        let mut known = None;
        self.ready.retain(|event| match *event {
            EngineEvent::Completed { token, result, .. } if token.kind() == Kind::Disarm => {
                known = match -result {
                    libc::EBADF => Some(true),
                    libc::EINVAL => Some(false),
                    _ => None,
                };
                false
            }
            _ => true,
        });
        Ok(known)
    }

    /// Returns the kernel features that this ring uses.
    pub fn features(&self) -> KernelFeatures {
        self.features
    }

    fn watch(&mut self, descriptor: RawFd, kind: Kind) {
        let entry =
            opcode::PollAdd::new(types::Fd(descriptor), libc::POLLIN as u32).multi(true).build();
        self.push(entry, Token::new(kind, 0, 0));
    }

    fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.raw());
        for _ in 0..64 {
            // SAFETY: the entry points to a span, which the caller keeps mapped until the
            // completion, or to a Message, kept until the kernel has taken the entry.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            if let Err(error) = self.enter(0, None) {
                self.broken.get_or_insert(error);
                return;
            }
        }
        self.broken.get_or_insert(Errno(libc::EBUSY));
    }

    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> Result<()> {
        self.enters += 1;
        self.sends_queued = false;
        let time = timeout.map(|time| {
            let spec = timespec(time);
            types::Timespec::new().sec(spec.tv_sec as u64).nsec(spec.tv_nsec as u32)
        });
        let mut args = types::SubmitArgs::new();
        if let Some(time) = &time {
            args = args.timespec(time);
        }
        let entered = self.ring.submitter().submit_with_args(want, &args);
        self.reap();
        match entered.map_err(errno_of) {
            Ok(_) | Err(Errno(libc::ETIME | libc::EINTR)) => {
                self.refused = 0;
                Ok(())
            }
            // The kernel lacks memory, or room for completions: queued requests stay queued.  There
            // is a limit, or destroy would wait indefinitely.
            Err(Errno(libc::EAGAIN | libc::EBUSY)) if self.refused < REFUSALS_MAX => {
                self.refused += 1;
                std::thread::sleep(REFUSAL_PAUSE);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn complete(&mut self, token: Token, result: i32) {
        match memory::reserve(&mut self.ready, 1) {
            Ok(()) => self.ready.push(EngineEvent::Completed { token, result, more: false }),
            Err(error) => self.broken = Some(error),
        }
    }

    fn reap(&mut self) {
        let (mut intake_ended, mut helpers_ended, mut helpers_done) = (false, false, false);
        // Completions without room stay with the kernel until the next turn.
        let waiting = self.ring.completion().len();
        let _ = memory::reserve(&mut self.ready, waiting);
        let room = self.ready.capacity() - self.ready.len();
        for entry in self.ring.completion().take(room) {
            let Some(token) = Token::from_raw(entry.user_data()) else {
                continue;
            };
            let more = cqueue::more(entry.flags());
            match token.kind() {
                Kind::Intake => intake_ended |= !more,
                // An event has woken the wait; if it was not room, the wait goes on.
                Kind::Disarm if entry.result() == -libc::EALREADY => {
                    match memory::reserve(&mut self.not_disarmed, 1) {
                        Ok(()) => self.not_disarmed.push(token),
                        Err(error) => self.broken = Some(error),
                    }
                    continue;
                }
                Kind::Helpers => {
                    helpers_ended |= !more;
                    helpers_done = true;
                    continue;
                }
                _ => {}
            }
            self.ready.push(if cqueue::notif(entry.flags()) {
                self.awaited -= u32::from(token.kind() == Kind::ZeroCopy);
                let copied = entry.result() as u32 & IORING_NOTIF_USAGE_ZC_COPIED != 0;
                EngineEvent::Released { token, copied }
            } else {
                self.awaited += u32::from(more && token.kind() == Kind::ZeroCopy);
                EngineEvent::Completed { token, result: entry.result(), more }
            });
        }
        if helpers_done {
            self.helpers.collect(&mut self.ready);
        }
        if helpers_ended {
            self.watch(self.helpers.descriptor(), Kind::Helpers);
        }
        if intake_ended && self.intake >= 0 {
            self.watch(self.intake, Kind::Intake);
        }
        while let Some(token) = self.not_disarmed.pop() {
            self.disarm(token.with_kind(Kind::Writable), -1);
        }
    }

    // Ends everything except the notifications, and keeps the ring for these.  Nothing else of the
    // process stays referenced.
    fn keep_for_notifications(&mut self) {
        let submitter = self.ring.submitter();
        let _ = submitter.unregister_buffers();
        let second = types::Timespec::new().sec(1);
        let ended = submitter.register_sync_cancel(Some(second), types::CancelBuilder::any());
        let none_left = ended.is_ok() || ended.is_err_and(|e| errno_of(e) == Errno(libc::ENOENT));
        if !none_left
            || self.ring.submitter().submit_with_args(0, &types::SubmitArgs::new()).is_err()
        {
            return;
        }
        let come = self.ring.completion().filter(|entry| cqueue::notif(entry.flags())).count();
        self.awaited = self.awaited.saturating_sub(come as u32);
        if self.awaited > 0 {
            kept::keep(&self.ring, self.awaited);
        }
    }

    fn message(&mut self, parts: &[Span]) -> *const libc::msghdr {
        let index = self.next_message;
        self.next_message = (index + 1) % self.messages.len();
        let message = &mut self.messages[index];
        for (iovec, part) in message.parts.iter_mut().zip(parts) {
            *iovec = part.iovec();
        }
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = parts.len().min(LENT_MAX) as _;
        &raw const message.header
    }
}

impl Message {
    fn empty() -> Message {
        // SAFETY: msghdr and iovec are plain data for which zero is valid.
        unsafe { std::mem::zeroed() }
    }
}

impl Engine for Uring {
    type Kernel = System;

    fn kernel(&self) -> &System {
        &System
    }

    fn send(&mut self, token: Token, socket: RawFd, parts: &[Span], flags: i32) {
        let flags = flags | SEND_FLAGS;
        let entry = if let [part] = parts {
            let length = part.len() as u32;
            opcode::Send::new(types::Fd(socket), part.address as *const u8, length)
                .flags(flags)
                .build()
        } else {
            let message = self.message(parts);
            opcode::SendMsg::new(types::Fd(socket), message).flags(flags as u32).build()
        };
        self.push(entry, token);
        self.sends_queued = true;
    }

    fn has_zero_copy(&self) -> bool {
        self.features.contains(KernelFeatures::SEND_ZC)
    }

    fn send_zero_copy(&mut self, token: Token, send: ZeroCopySend<'_>) {
        let (socket, flags) = (types::Fd(send.socket), send.flags | SEND_FLAGS);
        let entry = if let [part] = send.parts {
            let length = part.len() as u32;
            opcode::SendZc::new(socket, part.address as *const u8, length)
                .flags(flags)
                .zc_flags(IORING_SEND_ZC_REPORT_USAGE)
                .build()
        } else {
            let message = self.message(send.parts);
            opcode::SendMsgZc::new(socket, message)
                .flags(flags as u32)
                .ioprio(IORING_SEND_ZC_REPORT_USAGE)
                .build()
        };
        self.push(entry, token);
        self.sends_queued = true;
    }

    fn read(&mut self, token: Token, read: Read) -> bool {
        match self.helpers.read_now(&read) {
            ReadNow::Waits => {}
            ReadNow::ByHelper => {
                if let Err(error) = self.helpers.read_later(token, &read) {
                    self.complete(token, error.negative());
                }
                return read.through_ring;
            }
            ReadNow::Over(done) => {
                self.complete(token, done.map_or_else(Errno::negative, |count| count as i32));
                return done.is_ok();
            }
        }
        let Read { file, offset, into, buffer, .. } = read;
        let (address, length) = (into.as_span().address as *mut u8, into.len() as u32);
        let file = types::Fd(file);
        let entry = match buffer {
            Some(index) => {
                opcode::ReadFixed::new(file, address, length, index).offset(offset).build()
            }
            None => opcode::Read::new(file, address, length).offset(offset).build(),
        };
        self.push(entry, token);
        true
    }

    fn start_call(&mut self, job: BlockingCall) -> Result<()> {
        self.helpers.start(job)
    }

    fn withdraw_call(&mut self, token: Token) -> bool {
        self.helpers.withdraw(token)
    }

    fn trim(&mut self) {
        memory::shrink(&mut self.ready, EVENTS);
        self.helpers.reap();
    }

    fn arm(&mut self, token: Token, socket: RawFd, changes: bool) {
        // A poll that stays armed is edge-triggered.
        let entry = opcode::PollAdd::new(types::Fd(socket), libc::POLLOUT as u32);
        self.push(entry.multi(changes).build(), token);
    }

    fn disarm(&mut self, token: Token, _socket: RawFd) {
        let entry = opcode::PollRemove::new(token.raw()).build();
        self.push(entry, token.with_kind(Kind::Disarm));
    }

    fn register(&mut self, index: u16, block: SpanMut) -> bool {
        let bytes = block.len() as u64;
        if !self.features.contains(KernelFeatures::REGISTERED_BUFFERS) || !take_registered(bytes) {
            return false;
        }
        let iovec = block.as_span().iovec();
        // SAFETY: the pool keeps the block mapped until it is unregistered.
        let done =
            unsafe { self.ring.submitter().register_buffers_update(index.into(), &[iovec], None) };
        match done {
            Ok(_) => self.registered += bytes,
            Err(_) => give_registered(bytes),
        }
        done.is_ok()
    }

    fn unregister(&mut self, index: u16, block: SpanMut) {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: an empty entry names no memory.
        let _ =
            unsafe { self.ring.submitter().register_buffers_update(index.into(), &[empty], None) };
        self.registered -= block.len() as u64;
        give_registered(block.len() as u64);
    }

    fn has_sends_queued(&self) -> bool {
        self.sends_queued
    }

    fn turn(&mut self, timeout: Option<Duration>, events: &mut Vec<EngineEvent>) -> Result<()> {
        let wait = self.ready.is_empty() && timeout != Some(Duration::ZERO);
        let idle = !wait && self.ring.submission().is_empty();
        let entered = match self.broken {
            Some(error) => Err(error),
            None if idle && !self.ring.submission().taskrun() => Ok(()),
            None => self.enter(usize::from(wait), if wait { timeout } else { None }),
        };
        self.reap();
        std::mem::swap(events, &mut self.ready);
        // Requests that are still queued must not be submitted later, uncounted.
        self.broken = entered.err();
        entered
    }

    fn released(&mut self, socket: RawFd) {
        if socket == self.intake {
            self.intake = -1;
        }
    }

    fn take_enters(&mut self) -> u64 {
        std::mem::take(&mut self.enters)
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        give_registered(self.registered);
        kept::reap();
        if self.awaited > 0 && self.broken.is_none() {
            self.keep_for_notifications();
        }
    }
}

// Bytes that all rings of the process have registered.
static REGISTERED: AtomicU64 = AtomicU64::new(0);

// Registered memory counts against the same limit as memory pinned by zero-copy sends, which needs
// it more.
fn take_registered(bytes: u64) -> bool {
    let most = sys::lock_limit() / 4;
    let add = |before: u64| before.checked_add(bytes).filter(|&after| after <= most);
    REGISTERED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

fn give_registered(bytes: u64) {
    REGISTERED.fetch_sub(bytes, Ordering::Relaxed);
}

// Refusals of the newer flags cost only a little speed.  IORING_SETUP_DEFER_TASKRUN is not used:
// notifications that arrive after the thread has ended would never be seen, see kept.rs.  The kernel
// sizes the table in which it looks for a poll to cancel by the completion queue: with 1024 entries
// 32 chains.
fn set_up(operations: u32) -> std::io::Result<IoUring> {
    let completions = operations.clamp(CQ_ENTRIES_MIN, CQ_ENTRIES_MAX);
    let mut best = IoUring::builder();
    best.dontfork().setup_clamp().setup_cqsize(completions).setup_submit_all();
    let mut cooperative = best.clone();
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    let mut plain = IoUring::builder();
    plain.dontfork().setup_cqsize(completions);
    cooperative
        .build(SQ_ENTRIES)
        .or_else(|_| best.build(SQ_ENTRIES))
        .or_else(|_| plain.build(SQ_ENTRIES))
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}
