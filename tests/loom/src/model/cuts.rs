// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stream that was cut off: one thread submits, one takes the DONE and then submits, and the ring
//! thread forgets the cut when it may.

use crate::handoff::cuts::Cuts;
use crate::{Channel, check};
use loom::sync::Arc;
use loom::thread;

const COOKIE: u64 = 7;

struct Submitted {
    id: u64,
    knows: bool,
}

#[test]
fn what_was_submitted_before_the_cut_was_known_is_behind_it() {
    check(|| {
        let cuts = Arc::new(Cuts::default());
        let channel = Arc::new(Channel::new());
        cuts.record(COOKIE).unwrap();
        let submitter = {
            let (cuts, channel) = (cuts.clone(), channel.clone());
            thread::spawn(move || {
                let id = cuts.take_ids(1);
                channel.send(Submitted { id, knows: false });
            })
        };
        let poller = {
            let (cuts, channel) = (cuts.clone(), channel.clone());
            thread::spawn(move || {
                let other_was_first = cuts.has_given(1);
                cuts.done_taken(COOKIE);
                let id = cuts.take_ids(1);
                channel.send(Submitted { id, knows: true });
                other_was_first
            })
        };
        let mut other_is_behind = false;
        for _ in 0..2 {
            let Submitted { id, knows } = channel.look().unwrap_or_else(|| {
                cuts.forget(|_| false);
                channel.receive()
            });
            cuts.arrived();
            let is_behind = cuts.is_behind(COOKIE, id);
            match knows {
                true => assert!(!is_behind, "cancelled without reason"),
                false => other_is_behind = is_behind,
            }
        }
        submitter.join().unwrap();
        let other_was_first = poller.join().unwrap();
        assert!(other_is_behind || !other_was_first, "sent behind a cut");
        cuts.forget(|_| false);
        assert!(cuts.is_empty(), "a cut is remembered indefinitely");
    });
}
