// SPDX-License-Identifier: MIT OR Apache-2.0
//! Permits, and the room in the completion queue that goes with them.

use crate::check;
use crate::handoff::completions::{Completions, Entry};
use crate::handoff::permits::Permits;
use crate::types::completion::{Completion, Event};
use loom::sync::Arc;
use loom::thread;

/// The queue grows by so many.
const PART: u32 = 341;

/// Two threads take the last of a part together, and what is beyond it.
#[test]
fn there_is_room_for_all_events_of_all_operations() {
    check(|| {
        let permits = Arc::new(Permits::with_taken(1000, PART - 3));
        let queue = Arc::new(Completions::default());
        queue.secure(PART - 3).unwrap();
        assert_eq!(queue.room(), PART);
        let take = |permits: Arc<Permits>, queue: Arc<Completions>| {
            move || permits.take(1, &queue).unwrap()
        };
        let other = thread::spawn(take(permits.clone(), queue.clone()));
        take(permits.clone(), queue.clone())();
        other.join().unwrap();
        assert!(queue.room() > PART, "an event has no room");
    });
}

/// No more than the last one is given to one of two.
#[test]
fn the_last_permit_is_given_once() {
    check(|| {
        let permits = Arc::new(Permits::with_taken(10, 9));
        let queue = Arc::new(Completions::default());
        queue.secure(10).unwrap();
        let take = |permits: Arc<Permits>, queue: Arc<Completions>| {
            move || permits.take(0, &queue).is_ok()
        };
        let other = thread::spawn(take(permits.clone(), queue.clone()));
        let mine = take(permits.clone(), queue.clone())();
        assert!(other.join().unwrap() ^ mine, "given twice, or to nobody");
    });
}

/// The ring thread gives memory back while an operation is submitted, and while its DONE is taken.
#[test]
fn room_that_was_secured_stays() {
    check(|| {
        let permits = Arc::new(Permits::new(10));
        let queue = Arc::new(Completions::default());
        queue.secure(1).unwrap();
        let caller = {
            let (permits, queue) = (permits.clone(), queue.clone());
            thread::spawn(move || {
                permits.take(0, &queue).unwrap();
            })
        };
        permits.shrink(&queue);
        caller.join().unwrap();
        assert!(queue.room() >= 1, "secured, and gone");
    });
}

/// What has been pushed is taken once, whenever memory goes back.
#[test]
fn no_event_is_lost_to_shrinking() {
    check(|| {
        let permits = Arc::new(Permits::new(10));
        let queue = Arc::new(Completions::default());
        let poller = {
            let (permits, queue) = (permits.clone(), queue.clone());
            thread::spawn(move || {
                let each = |entry: Entry| permits.event_taken(entry.completion.event);
                queue.take(1, None, each).unwrap().count
            })
        };
        permits.take(0, &queue).unwrap();
        let completion = Completion { id: 1, event: Event::Done, ..Completion::default() };
        let _ = queue.push(&mut vec![Entry { completion, cut: None }]);
        permits.shrink(&queue);
        assert_eq!(poller.join().unwrap(), 1);
        permits.shrink(&queue);
        assert_eq!(queue.room(), 0, "memory is kept that nothing needs");
    });
}
