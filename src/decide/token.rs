// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user_data of requests to the kernel: the kind of request, the slot of its owner and a
//! generation, so that a late completion is never attributed to another owner.
#![forbid(unsafe_code)]

/// The kind of request that a completion belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The library's own socket has messages.
    Intake = 0,
    /// A send; the slot is an operation's.
    Send = 1,
    /// A zero-copy send and its notification; the slot is in the table of zero-copy sends.
    ZeroCopy = 2,
    /// A read; the slot is an operation's.
    Read = 3,
    /// A wait for room in a socket (POLLOUT); the slot is a socket's.
    Writable = 4,
    /// The cancellation of such a wait; slot and generation are those of the wait.
    Disarm = 5,
    /// Helper threads have finished calls.
    Helpers = 6,
    /// A helper's query of a file's state; the slot is an operation's.
    Inspect = 7,
    /// A helper's close of a descriptor.
    Close = 8,
    /// A helper's clone of a file; the slot is an operation's.
    Clone = 9,
}

/// A kind, a slot below 2^24 and 32 bits of generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(u64);

impl Token {
    /// Composes a token; only the low 32 bits of `generation` are kept.
    pub fn new(kind: Kind, slot: usize, generation: u64) -> Token {
        debug_assert!(slot < 1 << 24);
        Token((kind as u64) << 56 | (slot as u64) << 32 | (generation & 0xffff_ffff))
    }

    /// Returns the same token with another kind.
    pub fn with_kind(self, kind: Kind) -> Token {
        Token((kind as u64) << 56 | self.0 & (u64::MAX >> 8))
    }

    /// Returns the token as user_data.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// Parses user_data; None if this library did not make it.
    pub fn from_raw(raw: u64) -> Option<Token> {
        (raw >> 56 <= Kind::Clone as u64).then_some(Token(raw))
    }

    /// Returns its kind.
    pub fn kind(self) -> Kind {
        match self.0 >> 56 {
            0 => Kind::Intake,
            1 => Kind::Send,
            2 => Kind::ZeroCopy,
            3 => Kind::Read,
            4 => Kind::Writable,
            5 => Kind::Disarm,
            6 => Kind::Helpers,
            7 => Kind::Inspect,
            8 => Kind::Close,
            _ => Kind::Clone,
        }
    }

    /// Returns its slot.
    pub fn slot(self) -> usize {
        (self.0 >> 32 & 0xff_ffff) as usize
    }

    /// Returns whether it was made with this generation.
    pub fn is_of(self, generation: u64) -> bool {
        self.0 as u32 == generation as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_parts() {
        let token = Token::new(Kind::Read, 0xff_fffe, 0x1_2345_6789);
        assert_eq!(Token::from_raw(token.raw()), Some(token));
        assert_eq!((token.kind(), token.slot()), (Kind::Read, 0xff_fffe));
        assert!(token.is_of(0x2345_6789) && !token.is_of(0x2345_678a));
        assert_eq!(Token::from_raw(u64::MAX), None);
    }
}
