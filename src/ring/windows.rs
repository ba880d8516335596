// SPDX-License-Identifier: MIT OR Apache-2.0
//! Windows of files that are kept mapped, so that the kernel can send their pages themselves.  All
//! operations on the same open file share them.  They stay as long as the file is open here; beyond
//! the limit the one least recently used goes.
//!
//! A window is needed while a send from it is with the kernel.  After that the kernel holds the
//! pages.
#![forbid(unsafe_code)]

use crate::collections::{Line, NumberMap, Table};
use crate::decide::token::Token;
use crate::engine::kernel::Kernel;
use crate::sys::{FileWindow, Span};
use crate::types::errno::{Errno, Result};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// The length of a window, in bytes, except at the end of a file: long enough that few pieces need
/// two, short enough that unmapping it takes 0.2 ms at most.
const WINDOW: u64 = 2 << 20;

/// So many windows are unmapped at once when their file is closed; more would hold up the others.
const AT_ONCE: usize = 2;

/// The most windows: a process may have 65,530 mappings (vm.max_map_count).
const WINDOWS_MAX: usize = 16_384;

// How long bytes that were found in the page cache are taken to be there.  What is mapped stays
// there except for lack of memory, and then what was used lately goes last.
const FOUND_FOR: Duration = Duration::from_millis(100);

// The parts of a window for which that is remembered.
const PARTS: u64 = 32;

const NONE: u32 = u32::MAX;

/// The neighbours of a window in a list, NONE at the ends.
#[derive(Clone, Copy)]
struct Links {
    before: u32,
    behind: u32,
}

/// A window of an open file.
struct Window {
    bytes: FileWindow,
    file: u32,
    /// Its position in the file, in windows.
    index: u64,
    /// Pieces of it that are in use.
    uses: u32,
    /// Whether mincore(2) tells the truth about it.
    shows_residency: bool,
    /// The parts found in the page cache since `found_at`, a bit for each.
    found: u32,
    found_at: Instant,
    /// In the list of all windows, the least recently used one first.
    by_use: Links,
    /// In the list of the windows of its file.
    of_file: Links,
}

impl Window {
    fn length(&self) -> u64 {
        self.bytes.span().len() as u64
    }
}

/// Bytes of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The window, which stays mapped until [`Windows::release`].
    pub(super) window: u32,
    pub(super) span: Span,
    /// Whether [`Kernel::is_mapped_resident`] tells the truth about them.
    pub(super) shows_residency: bool,
    /// All of them were in the page cache a moment ago.
    pub(super) is_found: bool,
    /// The parts of the window that they are in, a bit for each.
    parts: u32,
}

/// The windows of a context.
pub(super) struct Windows {
    table: Table<Window>,
    /// By file and index.
    by_place: NumberMap<u32>,
    /// The first window of each file.
    by_file: NumberMap<u32>,
    oldest: u32,
    newest: u32,
    bytes: u64,
    limit: u64,
    /// The length of a page in bytes.
    page_bytes: u64,
    /// Files that are to be closed once their windows are unmapped, with the tokens of the closes.
    leaving: Line<(u32, Token)>,
}

// Returns the number of a place.  None: it is too far from the beginning of its file.
fn place(file: u32, index: u64) -> Option<u64> {
    (index < 1 << 40).then_some(u64::from(file) << 40 | index)
}

// Returns the parts of a window that some bytes are in, a bit for each.
fn parts_of(skip: u64, length: u64) -> u32 {
    const PART: u64 = WINDOW / PARTS;
    let (first, last) = (skip / PART, (skip + length.max(1) - 1) / PART);
    u32::MAX >> (PARTS - 1 - last) & u32::MAX << first
}

impl Windows {
    /// Creates the windows, for at most `limit` bytes of address space in pages of `page_bytes`.
    pub(super) fn new(limit: u64, page_bytes: u64) -> Windows {
        Windows {
            table: Table::default(),
            by_place: NumberMap::default(),
            by_file: NumberMap::default(),
            oldest: NONE,
            newest: NONE,
            bytes: 0,
            limit,
            page_bytes,
            leaving: Line::default(),
        }
    }

    /// Returns the bytes of address space in use.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn find(&self, file: u32, offset: u64) -> Option<u32> {
        let window = self.by_place.get(place(file, offset / WINDOW)?)?;
        (offset % WINDOW < self.table[window as usize].length()).then_some(window)
    }

    /// Returns whether the byte at this offset of a file is in a window.
    pub(super) fn has(&self, file: u32, offset: u64) -> bool {
        self.find(file, offset).is_some()
    }

    /// Returns up to `length` bytes of a file at this offset, if they are in a window.
    pub(super) fn take(
        &mut self,
        file: u32,
        offset: u64,
        length: u64,
        now: Instant,
    ) -> Option<Piece> {
        let window = self.find(file, offset)?;
        if self.newest != window {
            self.leave_order(window);
            self.join_order(window);
        }
        let found = &mut self.table[window as usize];
        found.uses += 1;
        let skip = offset % WINDOW;
        let length = length.min(found.length() - skip);
        let span = found.bytes.span().part(skip as usize, length as usize);
        if now.saturating_duration_since(found.found_at) > FOUND_FOR {
            (found.found, found.found_at) = (0, now);
        }
        let parts = parts_of(skip, length);
        let (is_found, shows_residency) = (parts & !found.found == 0, found.shows_residency);
        Some(Piece { window, span, shows_residency, is_found, parts })
    }

    /// Records that a piece has been found in the page cache.
    pub(super) fn found(&mut self, piece: &Piece) {
        self.table[piece.window as usize].found |= piece.parts;
    }

    /// Ends the use of a piece.
    pub(super) fn release(&mut self, window: u32) {
        self.table[window as usize].uses -= 1;
    }

    /// Maps the window around this offset of a file of `size` bytes.  ENOMEM: there is no room;
    /// others as mmap(2) has them.
    pub(super) fn map(
        &mut self,
        kernel: &impl Kernel,
        (file, fd): (u32, RawFd),
        offset: u64,
        size: u64,
    ) -> Result<()> {
        let index = offset / WINDOW;
        let place = place(file, index).ok_or(Errno(libc::EOVERFLOW))?;
        let base = index * WINDOW;
        let length = size.saturating_sub(base).clamp(1, WINDOW).next_multiple_of(self.page_bytes);
        if let Some(short) = self.by_place.get(place) {
            // The file has grown since.
            self.unmap_unused(short)?;
        }
        self.make_room(length)?;
        self.table.reserve()?;
        self.by_place.reserve()?;
        self.by_file.reserve()?;
        let bytes = kernel.map(fd, base, length as usize)?;
        let none = Links { before: NONE, behind: NONE };
        let shows_residency = kernel.may_ask_residency(fd);
        let window = Window {
            bytes,
            file,
            index,
            uses: 0,
            shows_residency,
            found: 0,
            found_at: kernel.now(),
            by_use: none,
            of_file: none,
        };
        self.bytes += window.length();
        let window = self.table.insert(window)? as u32;
        self.by_place.entry(place, window)?;
        self.join_order(window);
        self.join_file(window)
    }

    // Unmaps windows until there is room for one of `length` bytes.
    fn make_room(&mut self, length: u64) -> Result<()> {
        while self.bytes + length > self.limit || self.table.len() >= WINDOWS_MAX {
            let unused = std::iter::successors(Some(self.oldest), |&window| {
                Some(self.table.get(window as usize)?.by_use.behind)
            });
            let is_unused = |window: &u32| {
                self.table.get(*window as usize).is_some_and(|found| found.uses == 0)
            };
            let window = unused.take_while(|&window| window != NONE).find(is_unused);
            self.unmap_unused(window.ok_or(Errno(libc::ENOMEM))?)?;
        }
        Ok(())
    }

    // Unmaps a window; ENOMEM: it is in use.
    fn unmap_unused(&mut self, window: u32) -> Result<()> {
        if self.table[window as usize].uses > 0 {
            return Err(Errno(libc::ENOMEM));
        }
        self.leave_order(window);
        self.leave_file(window);
        let removed = self.table.remove(window as usize);
        self.bytes -= removed.length();
        if let Some(place) = place(removed.file, removed.index) {
            self.by_place.remove(place);
        }
        Ok(())
    }

    /// Unmaps one window of a file that is to be closed, of which no piece is in use; false: it has
    /// none.
    pub(super) fn unmap_of_file(&mut self, file: u32) -> bool {
        let first = self.by_file.get(file.into());
        first.is_some_and(|window| self.unmap_unused(window).is_ok())
    }

    /// Unmaps a few windows of a file that is to be closed; false: it has more.
    pub(super) fn unmap_few(&mut self, file: u32) -> bool {
        for _ in 0..AT_ONCE {
            self.unmap_of_file(file);
        }
        self.by_file.get(file.into()).is_none()
    }

    /// Has the rest unmapped by [`Windows::unmap_next`].  False: there is no memory for that, and
    /// all have been unmapped.
    pub(super) fn unmap_later(&mut self, file: u32, token: Token) -> bool {
        let is_noted = self.leaving.push((file, token)).is_ok();
        while !is_noted && self.unmap_of_file(file) {}
        is_noted
    }

    /// Returns whether files wait for their windows to be unmapped.
    pub(super) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Unmaps one window of the files that are to be closed.  Some: this file has none left.
    pub(super) fn unmap_next(&mut self) -> Option<(u32, Token)> {
        let &(file, _) = self.leaving.first()?;
        if self.unmap_of_file(file) && self.by_file.get(file.into()).is_some() {
            return None;
        }
        self.leaving.pop()
    }

    /// Leaves the windows mapped: the kernel may still read from them.
    pub(super) fn leak(&mut self) {
        for window in 0..self.table.end() {
            if self.table.contains(window) {
                std::mem::forget(self.table.remove(window).bytes);
            }
        }
    }

    /// Releases memory after a peak.
    pub(super) fn shrink(&mut self) {
        if self.table.is_empty() {
            *self = Windows::new(self.limit, self.page_bytes);
        }
    }

    fn join_order(&mut self, window: u32) {
        let links = Links { before: self.newest, behind: NONE };
        self.table[window as usize].by_use = links;
        match links.before {
            NONE => self.oldest = window,
            before => self.table[before as usize].by_use.behind = window,
        }
        self.newest = window;
    }

    fn leave_order(&mut self, window: u32) {
        let Links { before, behind } = self.table[window as usize].by_use;
        match before {
            NONE => self.oldest = behind,
            before => self.table[before as usize].by_use.behind = behind,
        }
        match behind {
            NONE => self.newest = before,
            behind => self.table[behind as usize].by_use.before = before,
        }
    }

    fn join_file(&mut self, window: u32) -> Result<()> {
        let file = self.table[window as usize].file;
        let first = self.by_file.entry(file.into(), NONE)?;
        let behind = std::mem::replace(first, window);
        self.table[window as usize].of_file = Links { before: NONE, behind };
        if let Some(behind) = self.table.get_mut(behind as usize) {
            behind.of_file.before = window;
        }
        Ok(())
    }

    fn leave_file(&mut self, window: u32) {
        let found = &self.table[window as usize];
        let (file, Links { before, behind }) = (u64::from(found.file), found.of_file);
        if let Some(behind) = self.table.get_mut(behind as usize) {
            behind.of_file.before = before;
        }
        match (before, behind) {
            (NONE, NONE) => {
                self.by_file.remove(file);
            }
            (NONE, behind) => {
                if let Some(first) = self.by_file.get_mut(file) {
                    *first = behind;
                }
            }
            (before, _) => self.table[before as usize].of_file.behind = behind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernel::System;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    const ENOMEM: Result<()> = Err(Errno(libc::ENOMEM));
    const PAGE_SIZES: [u64; 3] = [4 << 10, 16 << 10, 64 << 10];

    /// Windows of this program, which stands for every file.
    struct World {
        windows: Windows,
        program: File,
    }

    impl World {
        fn new(limit: u64) -> World {
            World::with_pages(limit, 4 << 10)
        }

        fn with_pages(limit: u64, page_bytes: u64) -> World {
            let windows = Windows::new(limit, page_bytes);
            World { windows, program: File::open("/proc/self/exe").unwrap() }
        }

        fn map(&mut self, file: u32, offset: u64, size: u64) -> Result<()> {
            self.windows.map(&System, (file, self.program.as_raw_fd()), offset, size)
        }

        fn take(&mut self, file: u32, offset: u64, length: u64) -> Option<Piece> {
            self.windows.take(file, offset, length, Instant::now())
        }

        // Uses a window for a moment.
        fn touch(&mut self, file: u32, index: u64) {
            let piece = self.take(file, index * WINDOW, 1).expect("it is there");
            self.windows.release(piece.window);
        }

        fn has(&self, file: u32, index: u64) -> bool {
            self.windows.has(file, index * WINDOW)
        }
    }

    #[test]
    fn beyond_the_limit_the_window_used_least_lately_goes() {
        let mut world = World::new(3 * WINDOW);
        (0..3).for_each(|index| world.map(1, index * WINDOW, 4 * WINDOW).unwrap());
        assert_eq!(world.windows.bytes(), 3 * WINDOW);
        world.touch(1, 0);
        world.touch(1, 2);
        world.map(2, 0, WINDOW).unwrap();
        assert_eq!([0, 1, 2].map(|index| world.has(1, index)), [true, false, true]);
        world.map(2, WINDOW, 2 * WINDOW).unwrap();
        assert_eq!([0, 1, 2].map(|index| world.has(1, index)), [false, false, true]);
        assert!(world.has(2, 0) && world.has(2, 1));
        assert_eq!(world.windows.bytes(), 3 * WINDOW);
    }

    #[test]
    fn a_window_in_use_stays() {
        let mut world = World::new(2 * WINDOW);
        world.map(1, 0, 8 * WINDOW).unwrap();
        let piece = world.take(1, 0, 1).unwrap();
        world.map(1, WINDOW, 8 * WINDOW).unwrap();
        world.map(1, 2 * WINDOW, 8 * WINDOW).unwrap();
        assert_eq!([0, 1, 2].map(|index| world.has(1, index)), [true, false, true]);
        let other = world.take(1, 2 * WINDOW, 1).unwrap();
        assert_eq!(world.map(1, WINDOW, 8 * WINDOW), ENOMEM);
        world.windows.release(piece.window);
        world.map(1, WINDOW, 8 * WINDOW).unwrap();
        assert_eq!([0, 1, 2].map(|index| world.has(1, index)), [false, true, true]);
        world.windows.release(other.window);
    }

    #[test]
    fn a_file_that_has_grown_is_mapped_anew() {
        for page in PAGE_SIZES {
            let mut world = World::with_pages(8 * WINDOW, page);
            world.map(1, 0, 2 * page + 1).unwrap();
            assert_eq!(world.windows.bytes(), 3 * page);
            assert!(world.windows.has(1, 3 * page - 1) && !world.windows.has(1, 3 * page));
            let piece = world.take(1, 5000, 1 << 20).unwrap();
            assert_eq!(piece.span.len() as u64, 3 * page - 5000);
            assert_eq!(world.map(1, 3 * page, WINDOW), ENOMEM);
            world.windows.release(piece.window);
            world.map(1, 3 * page, 2 * WINDOW).unwrap();
            assert_eq!(world.windows.bytes(), WINDOW);
            let piece = world.take(1, 5000, 1 << 20).unwrap();
            assert_eq!(piece.span.len(), 1 << 20);
            assert!(world.windows.take(1, WINDOW, 1, Instant::now()).is_none());
            assert_eq!(world.map(1, WINDOW << 40, u64::MAX), Err(Errno(libc::EOVERFLOW)));
        }
    }

    #[test]
    fn the_limit_counts_whole_pages() {
        for page in PAGE_SIZES {
            let mut world = World::with_pages(3 * page, page);
            (1..5).for_each(|file| world.map(file, 0, 100).unwrap());
            assert_eq!(world.windows.bytes(), 3 * page);
            assert!(!world.has(1, 0) && (2..5).all(|file| world.has(file, 0)));
            assert_eq!(world.map(5, 0, 3 * page + 1), ENOMEM);
        }
    }

    #[test]
    fn a_file_takes_its_own_windows_along() {
        let mut world = World::new(16 * WINDOW);
        for index in 0..3 {
            world.map(1, index * WINDOW, 3 * WINDOW).unwrap();
            world.map(2, index * WINDOW, 3 * WINDOW).unwrap();
        }
        // Also one from the middle of the list.
        world.map(1, WINDOW, 3 * WINDOW).unwrap();
        let mut count = 0;
        while world.windows.unmap_of_file(1) {
            count += 1;
        }
        assert_eq!((count, world.windows.bytes()), (3, 3 * WINDOW));
        assert!((0..3).all(|index| !world.has(1, index) && world.has(2, index)));
        while world.windows.unmap_of_file(2) {}
        assert_eq!(world.windows.bytes(), 0);
        world.windows.shrink();
        world.map(1, 0, WINDOW).unwrap();
        assert_eq!(world.windows.bytes(), WINDOW);
    }

    #[test]
    fn the_windows_of_a_closed_file_go_one_at_a_time() {
        let mut world = World::new(16 * WINDOW);
        (0..AT_ONCE as u64 + 3).for_each(|index| {
            world.map(1, index * WINDOW, 16 * WINDOW).unwrap();
        });
        world.map(2, 0, WINDOW).unwrap();
        assert!(world.windows.unmap_few(2) && world.windows.unmap_few(7));
        assert!(!world.windows.unmap_few(1));
        assert_eq!(world.windows.bytes(), 3 * WINDOW);
        let token = Token::new(crate::decide::token::Kind::Close, 0, 1);
        assert!(world.windows.unmap_later(1, token) && world.windows.has_leaving());
        assert_eq!((world.windows.unmap_next(), world.windows.unmap_next()), (None, None));
        assert_eq!(world.windows.unmap_next(), Some((1, token)));
        assert!(!world.windows.has_leaving() && world.windows.bytes() == 0);
    }

    #[test]
    fn what_was_found_in_the_page_cache_is_taken_to_be_there_for_a_while() {
        let mut world = World::new(4 * WINDOW);
        world.map(1, 0, WINDOW).unwrap();
        let now = Instant::now();
        let part = WINDOW / PARTS;
        let mut is_found = |from: u64, length, at| {
            let piece = world.windows.take(1, from, length, at).unwrap();
            let is_found = piece.is_found;
            world.windows.found(&piece);
            world.windows.release(piece.window);
            is_found
        };
        assert!(!is_found(part, part, now) && is_found(part, part, now));
        assert!(!is_found(part - 1, 2, now) && is_found(0, 2 * part, now));
        assert!(!is_found(part, part + 1, now));
        assert!(!is_found(0, WINDOW, now) && is_found(0, WINDOW, now + FOUND_FOR / 2));
        let later = now + 3 * FOUND_FOR;
        assert!(!is_found(0, 1, later) && !is_found(0, WINDOW, later));
    }
}
