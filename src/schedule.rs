// SPDX-License-Identifier: MIT OR Apache-2.0
//! Order on each socket and turns between sockets.  Knows operations and sockets as numbers
//! only, so that every order of events can be tried.
#![forbid(unsafe_code)]

use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes numbers that are already distinct: one multiplication spreads them.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// A map keyed by cookies or ids.
pub type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

const NONE: u32 = u32::MAX;

/// While others wait, this many turns go to sockets with little to send before one goes to them.
pub const LIGHT_TURNS: u32 = 16;

/// Where a socket stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Waits for an event of its first operation.
    Idle,
    /// In the line for a turn.
    InLine,
    /// Held back until the calling thread that sends on it lets go.
    Parked,
}

#[derive(Debug)]
struct Queue {
    cookie: u64,
    first: u32,
    last: u32,
    standing: Standing,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    socket: u32,
    before: u32,
    behind: u32,
}

/// All sockets that have operations, each with its operations in order.
///
/// `Reason`: why a socket is held back.
#[derive(Debug)]
pub struct Schedule<Reason> {
    sockets: Slab<Queue>,
    by_cookie: NumberMap<u32>,
    links: Vec<Link>, // by operation
    /// Who waits for a turn: those that have little to send, and the others.
    light: VecDeque<u32>,
    line: VecDeque<u32>,
    /// Turns in a row that went to the former while the latter waited.
    light_turns: u32,
    parked: Vec<(u32, Reason)>,
}

impl<Reason> Default for Schedule<Reason> {
    fn default() -> Schedule<Reason> {
        Schedule {
            sockets: Slab::new(),
            by_cookie: NumberMap::default(),
            links: Vec::new(),
            light: VecDeque::new(),
            line: VecDeque::new(),
            light_turns: 0,
            parked: Vec::new(),
        }
    }
}

impl<Reason: Copy + PartialEq> Schedule<Reason> {
    /// The socket with this cookie, if it has operations.
    pub fn find(&self, cookie: u64) -> Option<usize> {
        self.by_cookie.get(&cookie).map(|&socket| socket as usize)
    }

    /// The socket with this cookie, made if need be.
    pub fn open(&mut self, cookie: u64) -> usize {
        if let Some(socket) = self.find(cookie) {
            return socket;
        }
        let queue = Queue { cookie, first: NONE, last: NONE, standing: Standing::Idle };
        let socket = self.sockets.insert(queue);
        self.by_cookie.insert(cookie, socket as u32);
        socket
    }

    /// Forgets a socket that has no operations left.
    pub fn close(&mut self, socket: usize) {
        let queue = self.sockets.remove(socket);
        debug_assert_eq!(queue.first, NONE);
        self.by_cookie.remove(&queue.cookie);
        match queue.standing {
            Standing::Idle => {}
            Standing::InLine => self.leave_line(socket),
            Standing::Parked => self.parked.retain(|&(parked, _)| parked != socket as u32),
        }
    }

    /// Adds an operation behind the others, or with `front` ahead of them all.
    pub fn enqueue(&mut self, socket: usize, operation: usize, front: bool) {
        let empty = Link { socket: NONE, before: NONE, behind: NONE };
        if self.links.len() <= operation {
            self.links.resize(operation + 1, empty);
        }
        let (new, queue) = (operation as u32, &mut self.sockets[socket]);
        let mut link = Link { socket: socket as u32, ..empty };
        if front {
            link.behind = queue.first;
            match link.behind {
                NONE => queue.last = new,
                behind => self.links[behind as usize].before = new,
            }
            queue.first = new;
        } else {
            link.before = queue.last;
            match link.before {
                NONE => queue.first = new,
                before => self.links[before as usize].behind = new,
            }
            queue.last = new;
        }
        self.links[operation] = link;
    }

    /// Takes an operation out, wherever it stands; returns its socket.
    pub fn remove(&mut self, operation: usize) -> usize {
        let link = self.links[operation];
        let queue = &mut self.sockets[link.socket as usize];
        match link.before {
            NONE => queue.first = link.behind,
            before => self.links[before as usize].behind = link.behind,
        }
        match link.behind {
            NONE => queue.last = link.before,
            behind => self.links[behind as usize].before = link.before,
        }
        self.links[operation].socket = NONE;
        link.socket as usize
    }

    /// The operation whose turn it is on a socket.
    pub fn first(&self, socket: usize) -> Option<usize> {
        optional(self.sockets.get(socket)?.first)
    }

    /// The operation ahead of this one on the same socket.
    pub fn ahead(&self, operation: usize) -> Option<usize> {
        optional(self.links[operation].before)
    }

    /// The operation behind this one on the same socket.
    pub fn behind(&self, operation: usize) -> Option<usize> {
        optional(self.links[operation].behind)
    }

    /// The socket of an operation.
    pub fn socket_of(&self, operation: usize) -> usize {
        self.links[operation].socket as usize
    }

    /// Gives the socket a place in the line for a turn, unless it has one or is held back.  One
    /// that `is_light`, with little to send, does not wait behind those that have much.
    pub fn ready(&mut self, socket: usize, is_light: bool) {
        let queue = &mut self.sockets[socket];
        if queue.standing == Standing::Idle {
            queue.standing = Standing::InLine;
            let line = if is_light { &mut self.light } else { &mut self.line };
            line.push_back(socket as u32);
        }
    }

    fn leave_line(&mut self, socket: usize) {
        for line in [&mut self.light, &mut self.line] {
            line.retain(|&waiting| waiting != socket as u32);
        }
    }

    /// Holds the socket back until [`Schedule::unpark`] for the same reason.
    pub fn park(&mut self, socket: usize, reason: Reason) {
        let standing = std::mem::replace(&mut self.sockets[socket].standing, Standing::Parked);
        if standing == Standing::InLine {
            self.leave_line(socket);
        }
        if standing != Standing::Parked {
            self.parked.push((socket as u32, reason));
        }
    }

    /// Puts all sockets that were held back for this reason in the line.
    pub fn unpark(&mut self, reason: Reason) {
        let (sockets, line) = (&mut self.sockets, &mut self.line);
        self.parked.retain(|&(socket, parked_for)| {
            if parked_for == reason {
                sockets[socket as usize].standing = Standing::InLine;
                line.push_back(socket);
            }
            parked_for != reason
        });
    }

    /// The socket whose turn it is.
    pub fn next_turn(&mut self) -> Option<usize> {
        let others_wait = !self.line.is_empty();
        let may_be_light = !others_wait || self.light_turns < LIGHT_TURNS;
        let light = if may_be_light { self.light.pop_front() } else { None };
        self.light_turns = if light.is_some() && others_wait { self.light_turns + 1 } else { 0 };
        let socket = light.or_else(|| self.line.pop_front())? as usize;
        self.sockets[socket].standing = Standing::Idle;
        Some(socket)
    }

    /// How many sockets stand in the line.
    pub fn line_length(&self) -> usize {
        self.light.len() + self.line.len()
    }

    /// Whether no socket has operations.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Gives memory back after a peak.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Schedule::default();
        }
    }
}

fn optional(index: u32) -> Option<usize> {
    (index != NONE).then_some(index as usize)
}
