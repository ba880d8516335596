// SPDX-License-Identifier: MIT OR Apache-2.0
//! What travels as user_data through the kernel: which kind of request, for whom, and a
//! generation, so that a late completion cannot be taken for somebody else's.
#![forbid(unsafe_code)]

/// What a completion is about.
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
    /// A wait for room in a socket; the slot is a socket's.
    Writable = 4,
    /// The answer to taking such a wait back; slot and generation are those of the wait.
    Disarm = 5,
    /// Helper threads have done something.
    Helpers = 6,
    /// What a file is, asked by a helper; the slot is an operation's.
    Inspect = 7,
    /// A descriptor closed by a helper.
    Close = 8,
}

/// A kind, a slot below 2^24 and 32 bits of generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(u64);

impl Token {
    /// Puts one together; `generation` is cut to its low 32 bits.
    pub fn new(kind: Kind, slot: usize, generation: u64) -> Token {
        debug_assert!(slot < 1 << 24);
        Token((kind as u64) << 56 | (slot as u64) << 32 | (generation & 0xffff_ffff))
    }

    /// The same with another kind.
    pub fn with_kind(self, kind: Kind) -> Token {
        Token((kind as u64) << 56 | self.0 & (u64::MAX >> 8))
    }

    /// As user_data.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// From user_data; None for what this library never made.
    pub fn from_raw(raw: u64) -> Option<Token> {
        (raw >> 56 <= Kind::Close as u64).then_some(Token(raw))
    }

    /// Its kind.
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
            _ => Kind::Close,
        }
    }

    /// Its slot.
    pub fn slot(self) -> usize {
        (self.0 >> 32 & 0xff_ffff) as usize
    }

    /// Whether it was made with this generation.
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
