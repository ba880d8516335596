// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of operations on each socket, and turns between sockets.  Operations and sockets are
//! only numbers here, so that the models can try every order of events.  Whether an operation can
//! proceed is the ring thread's concern.
#![forbid(unsafe_code)]

use crate::collections::{Numbered, Parts, Register};
use crate::types::errno::Result;

const NONE: u32 = u32::MAX;

/// While others wait, this many turns go to sockets with little to send before one goes to the
/// others.
pub const LIGHT_TURNS: u32 = 16;

/// The standing of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Waits for an event of its first operation, or has none.
    Idle,
    /// Waits for a turn in the line.
    InLine,
    /// Waits for a turn in the line of sockets with little to send.
    InLightLine,
    /// Held back while a calling thread sends on it.
    Parked,
}

// Packed: with its place in the register it has 36 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
struct Queue {
    cookie: u64,
    /// Its first and its last operation; NONE: it has none.
    first: u32,
    last: u32,
    /// The operation whose turn it is; those ahead of it have all their bytes in the socket.  NONE:
    /// all of them have.
    turn: u32,
    /// Its neighbours in the line, NONE at the ends.
    ahead: u32,
    behind: u32,
    standing: Standing,
}

impl Numbered for Queue {
    fn number(&self) -> u64 {
        self.cookie
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    /// The socket of the operation; NONE: it is in no queue.
    socket: u32,
    /// Its neighbours in the socket's queue, NONE at the ends.
    before: u32,
    behind: u32,
}

impl Default for Link {
    fn default() -> Link {
        Link { socket: NONE, before: NONE, behind: NONE }
    }
}

/// A line of sockets, linked through their queues.
#[derive(Debug)]
struct Line {
    first: u32,
    last: u32,
    length: usize,
}

impl Line {
    const EMPTY: Line = Line { first: NONE, last: NONE, length: 0 };

    fn push(&mut self, sockets: &mut Register<Queue>, socket: usize) {
        let queue = &mut sockets[socket];
        (queue.ahead, queue.behind) = (self.last, NONE);
        match self.last {
            NONE => self.first = socket as u32,
            last => sockets[last as usize].behind = socket as u32,
        }
        self.last = socket as u32;
        self.length += 1;
    }

    fn remove(&mut self, sockets: &mut Register<Queue>, socket: usize) {
        let (ahead, behind) = (sockets[socket].ahead, sockets[socket].behind);
        match ahead {
            NONE => self.first = behind,
            ahead => sockets[ahead as usize].behind = behind,
        }
        match behind {
            NONE => self.last = ahead,
            behind => sockets[behind as usize].ahead = ahead,
        }
        self.length -= 1;
    }

    fn pop(&mut self, sockets: &mut Register<Queue>) -> Option<usize> {
        let first = optional(self.first)?;
        self.first = sockets[first].behind;
        match self.first {
            NONE => self.last = NONE,
            next => sockets[next as usize].ahead = NONE,
        }
        self.length -= 1;
        Some(first)
    }
}

/// All sockets that have operations, each with its operations in order.
#[derive(Debug)]
pub struct Schedule {
    sockets: Register<Queue>, // by cookie
    links: Parts<Link>,       // by operation
    /// The lines for a turn: sockets with little to send, and the others.
    light: Line,
    line: Line,
    /// Consecutive turns of the light line while the other one waited.
    light_turns: u32,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            sockets: Register::default(),
            links: Parts::default(),
            light: Line::EMPTY,
            line: Line::EMPTY,
            light_turns: 0,
        }
    }
}

impl Schedule {
    /// Returns the socket with this cookie, if it has operations.
    pub fn find(&self, cookie: u64) -> Option<usize> {
        self.sockets.find(cookie)
    }

    /// Makes room for one more socket and for this operation, so that [`Schedule::open`] and
    /// [`Schedule::enqueue`] do not fail.
    pub fn reserve(&mut self, operation: usize) -> Result<()> {
        self.reserve_link(operation)?;
        self.sockets.reserve()
    }

    fn reserve_link(&mut self, operation: usize) -> Result<()> {
        while self.links.len() <= operation {
            self.links.push(Link::default())?;
        }
        Ok(())
    }

    /// Returns a bound: all sockets are below it.
    pub fn end(&self) -> usize {
        self.sockets.end()
    }

    /// Returns the socket with this cookie, which is added if it is missing.
    pub fn open(&mut self, cookie: u64) -> Result<usize> {
        if let Some(socket) = self.find(cookie) {
            return Ok(socket);
        }
        self.sockets.insert(Queue {
            cookie,
            first: NONE,
            last: NONE,
            turn: NONE,
            ahead: NONE,
            behind: NONE,
            standing: Standing::Idle,
        })
    }

    /// Removes a socket that has no operations left.
    pub fn close(&mut self, socket: usize) {
        debug_assert_eq!(self.sockets[socket].first, NONE);
        self.leave_line(socket);
        self.sockets.remove(socket);
    }

    /// Adds an operation at the end, or with `front` ahead of all whose turn is still to come.
    pub fn enqueue(&mut self, socket: usize, operation: usize, front: bool) -> Result<()> {
        self.reserve_link(operation)?;
        let (new, queue) = (operation as u32, &mut self.sockets[socket]);
        let behind = if front { queue.turn } else { NONE };
        let before = match behind {
            NONE => std::mem::replace(&mut queue.last, new),
            behind => std::mem::replace(&mut self.links[behind as usize].before, new),
        };
        match before {
            NONE => queue.first = new,
            before => self.links[before as usize].behind = new,
        }
        if front || queue.turn == NONE {
            queue.turn = new;
        }
        self.links[operation] = Link { socket: socket as u32, before, behind };
        Ok(())
    }

    /// Takes an operation out, wherever it is in its queue; returns its socket.
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
        if queue.turn == operation as u32 {
            queue.turn = link.behind;
        }
        self.links[operation].socket = NONE;
        link.socket as usize
    }

    /// Gives the turn of this operation, which has all its bytes in the socket, to the next one.
    pub fn pass_on(&mut self, operation: usize) {
        let link = self.links[operation];
        let queue = &mut self.sockets[link.socket as usize];
        debug_assert_eq!(queue.turn, operation as u32);
        queue.turn = link.behind;
    }

    /// Returns the operation whose turn it is on a socket.
    pub fn first(&self, socket: usize) -> Option<usize> {
        optional(self.sockets.get(socket)?.turn)
    }

    /// Returns the oldest operation on a socket, whether or not it has had its turn.
    pub fn oldest(&self, socket: usize) -> Option<usize> {
        optional(self.sockets.get(socket)?.first)
    }

    /// Returns the operation ahead of this one on the same socket.
    pub fn ahead(&self, operation: usize) -> Option<usize> {
        optional(self.links[operation].before)
    }

    /// Returns the operation behind this one on the same socket.
    pub fn behind(&self, operation: usize) -> Option<usize> {
        optional(self.links[operation].behind)
    }

    /// Returns the socket of an operation.
    pub fn socket_of(&self, operation: usize) -> usize {
        self.links[operation].socket as usize
    }

    /// Puts the socket in a line for a turn, unless it is in one or is held back.  A socket that
    /// `is_light`, with little to send, does not wait behind those with much.
    pub fn ready(&mut self, socket: usize, is_light: bool) {
        let queue = &mut self.sockets[socket];
        if queue.standing == Standing::Idle {
            let (line, standing) = match is_light {
                true => (&mut self.light, Standing::InLightLine),
                false => (&mut self.line, Standing::InLine),
            };
            queue.standing = standing;
            line.push(&mut self.sockets, socket);
        }
    }

    fn leave_line(&mut self, socket: usize) {
        match self.sockets[socket].standing {
            Standing::InLine => self.line.remove(&mut self.sockets, socket),
            Standing::InLightLine => self.light.remove(&mut self.sockets, socket),
            Standing::Idle | Standing::Parked => {}
        }
    }

    /// Holds the socket back until [`Schedule::unpark`].
    pub fn park(&mut self, socket: usize) {
        self.leave_line(socket);
        self.sockets[socket].standing = Standing::Parked;
    }

    /// Puts a socket that was held back in the line.
    pub fn unpark(&mut self, socket: usize) {
        if self.sockets[socket].standing == Standing::Parked {
            self.sockets[socket].standing = Standing::InLine;
            self.line.push(&mut self.sockets, socket);
        }
    }

    /// Returns the socket whose turn it is and takes it out of its line.
    pub fn next_turn(&mut self) -> Option<usize> {
        let others_wait = self.line.length > 0;
        let may_be_light = !others_wait || self.light_turns < LIGHT_TURNS;
        let light = if may_be_light { self.light.pop(&mut self.sockets) } else { None };
        self.light_turns = if light.is_some() && others_wait { self.light_turns + 1 } else { 0 };
        let socket = light.or_else(|| self.line.pop(&mut self.sockets))?;
        self.sockets[socket].standing = Standing::Idle;
        Some(socket)
    }

    /// Returns whether a socket has no operations.
    pub fn is_vacant(&self, socket: usize) -> bool {
        self.oldest(socket).is_none()
    }

    /// Returns how many sockets wait for a turn.
    pub fn line_length(&self) -> usize {
        self.light.length + self.line.length
    }

    /// Returns whether no socket has operations.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Releases all memory if no socket has operations.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Schedule::default();
        }
    }
}

fn optional(index: u32) -> Option<usize> {
    (index != NONE).then_some(index as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_there_until_nothing_is_left() {
        let mut schedule = Schedule::default();
        schedule.reserve(5).unwrap();
        assert!(schedule.links.len() > 5);
        let socket = schedule.open(1).unwrap();
        schedule.shrink();
        assert!(schedule.links.len() > 5 && schedule.find(1) == Some(socket));
        schedule.close(socket);
        schedule.shrink();
        assert_eq!(schedule.links.len(), 0);
    }
}
