// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state machine of one operation: what the model of the ring (ring.rs) cannot see, because the
//! ring thread has a second reason for it, or sees too rarely.
#![forbid(unsafe_code)]

use crate::decide::operation::{Operation, Task};
use crate::types::completion::CompletionFlags;
use crate::types::file::Size;
use crate::types::request::RequestFlags;

const TASK: Task =
    Task { header: 0, trailer: 0, offset: 0, length: 10, flags: RequestFlags::empty() };

fn running() -> Operation {
    let mut operation = Operation::new(TASK);
    operation.start(Size::Known(10));
    operation
}

#[test]
fn operation_ends_after_its_reads_have_come_back() {
    let mut operation = running();
    operation.read_started();
    operation.fail(-libc::ECANCELED);
    assert_eq!(operation.ended(), None);
    operation.read_done(0, 10);
    assert_eq!(operation.ended(), Some(-libc::ECANCELED));
}

#[test]
fn operation_is_held_back_by_what_was_sent_and_not_by_what_was_refused() {
    for (sent_more, refused_more) in [(true, false), (false, true)] {
        let mut operation = running();
        operation.send_started(sent_more);
        operation.sent(5, CompletionFlags::WAS_COPIED, u64::MAX);
        operation.send_started(refused_more);
        operation.send_refused();
        operation.fail(-libc::ECANCELED);
        assert_eq!(operation.take_held_back(), sent_more);
    }
}

#[test]
fn operation_adds_up_what_becomes_known_of_its_way() {
    let mut operation = Operation::new(TASK);
    assert_eq!(operation.was(), CompletionFlags::empty());
    operation.mark(CompletionFlags::WAS_ZEROCOPY);
    operation.mark(CompletionFlags::WAS_COPIED);
    let both = CompletionFlags::WAS_ZEROCOPY | CompletionFlags::WAS_COPIED;
    assert_eq!(operation.was(), both);
}
