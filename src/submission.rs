// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes from callers to the ring thread: submissions, questions, and the notices of both that
//! travel over the library's own socket.
#![forbid(unsafe_code)]

use crate::completions::{Completion, Reply};
use crate::operation::Operation;
use crate::staging::Staged;
use crate::sys::{Errno, FileKind, Result};
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::time::Instant;

/// What submit has learnt of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileFacts {
    pub kind: FileKind,
    /// When submitted.
    pub size: u64,
    /// See [`sys::FileState::inode`].
    pub inode: u64,
    /// O_DIRECT: reads must be aligned.
    pub direct: bool,
}

/// One operation on its way to the ring thread; its descriptors travel beside it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub id: u64,
    pub cookie: u64,
    pub user_data: u64,
    /// Begun already if the calling thread has sent a part.
    pub operation: Operation,
    pub staged: Staged,
    pub file: Option<FileFacts>,
    pub deadline: Option<Instant>,
    pub reply: Option<Arc<Reply<Result<Completion>>>>,
    /// It goes ahead of those that were held back for it.
    pub front: bool,
    /// A calling thread was sending on the socket: wait until it lets go.
    pub held_back: bool,
}

impl Submission {
    /// The descriptors that travel with it.
    pub fn descriptor_count(&self) -> u32 {
        1 + u32::from(self.file.is_some())
    }
}

impl Drop for Submission {
    // Whatever happens to it, nobody waits for ever.
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.give(Err(Errno(libc::ECANCELED)));
        }
    }
}

/// A question to the ring thread.
#[derive(Debug)]
pub(crate) enum Question {
    Cancel(u64),
    CancelSocket(u64),
}

/// A question and where its answer goes; dropped unanswered it says that the context is dead.
#[derive(Debug)]
pub(crate) struct Asked {
    pub question: Question,
    pub reply: Arc<Reply<Result<u32>>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.reply.give(Err(Errno(libc::ECANCELED)));
    }
}

/// What a message on the library's own socket says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Notice {
    /// `count` submissions from id `first` on; their descriptors come with the message.
    Submitted = 1,
    /// The same could not be sent after all.
    Withdrawn = 2,
    /// A question waits.
    Asked = 3,
    /// A calling thread has let go of sockets.
    LetGo = 4,
    /// Something else wants to be looked at.
    Look = 5,
}

pub(crate) const NOTICE_BYTES: usize = 16;

impl Notice {
    pub fn encode(self, count: u32, first: u64) -> [u8; NOTICE_BYTES] {
        let mut bytes = [0; NOTICE_BYTES];
        bytes[..4].copy_from_slice(&(self as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&count.to_ne_bytes());
        bytes[8..].copy_from_slice(&first.to_ne_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; NOTICE_BYTES]) -> Option<(Notice, u32, u64)> {
        let word = |at: usize| bytes[at..at + 4].try_into().map(u32::from_ne_bytes);
        let notice = match word(0).ok()? {
            1 => Notice::Submitted,
            2 => Notice::Withdrawn,
            3 => Notice::Asked,
            4 => Notice::LetGo,
            5 => Notice::Look,
            _ => return None,
        };
        let first = bytes[8..].try_into().map(u64::from_ne_bytes).ok()?;
        Some((notice, word(4).ok()?, first))
    }
}

/// The ends of the queues that the ring thread has.
pub(crate) struct ThreadEnds {
    pub submissions: Receiver<Submission>,
    pub questions: Receiver<Asked>,
}
