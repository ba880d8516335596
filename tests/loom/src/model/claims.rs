// SPDX-License-Identifier: MIT OR Apache-2.0
//! A calling thread that sends by itself beside one that submits, and the ring thread.

use crate::handoff::claims::{Claim, Claims, HeldBack, Turn};
use crate::{Channel, check};
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use std::collections::VecDeque;
use std::sync::Arc;

const COOKIE: u64 = 7;

enum Message {
    Submitted(&'static str, Turn),
    Released(Claim),
}

/// Stands for the stream of a socket.  Two sends that are not ordered lose one of the two.
fn send(stream: &AtomicU32) {
    let position = stream.load(Ordering::Relaxed);
    stream.store(position + 1, Ordering::Relaxed);
}

/// As the driver does it: sends `count` submissions, and returns them in the order sent.
fn ring_thread(
    claims: Arc<Claims>,
    channel: &Channel<Message>,
    stream: &AtomicU32,
    count: usize,
) -> Vec<&'static str> {
    let mut held_back = HeldBack::new(claims);
    let (mut queue, mut is_parked) = (VecDeque::new(), false);
    let mut sent = Vec::new();
    while sent.len() < count {
        match channel.receive() {
            Message::Submitted(name, turn) => {
                match turn {
                    Turn::Ahead => queue.push_front(name),
                    _ => queue.push_back(name),
                }
                is_parked |= held_back.arrived(turn).unwrap();
            }
            Message::Released(claim) => is_parked &= !held_back.released(claim).unwrap(),
        }
        while !is_parked {
            let Some(name) = queue.pop_front() else { break };
            send(stream);
            sent.push(name);
            held_back.left(COOKIE);
        }
    }
    sent
}

/// The claiming thread cannot send all: its rest goes ahead of what was held back, nothing goes out
/// while it sends, and nothing is held back indefinitely.
#[test]
fn what_is_held_back_goes_after_the_claim() {
    check(|| {
        let claims = Arc::new(Claims::default());
        let channel = Arc::new(Channel::new());
        let stream = Arc::new(AtomicU32::new(0));
        let sender = {
            let (claims, channel, stream) = (claims.clone(), channel.clone(), stream.clone());
            thread::spawn(move || {
                let claimed = claims.claim(COOKIE);
                let wanted = if claimed.is_some() { Turn::Ahead } else { Turn::InOrder };
                if claimed.is_some() {
                    send(&stream);
                }
                let turn = claims.enter(COOKIE, wanted).unwrap();
                channel.send(Message::Submitted("rest", turn));
                if let Some(claim) = claimed.and_then(|claimed| claims.release(claimed)) {
                    channel.send(Message::Released(claim));
                }
                wanted == Turn::Ahead
            })
        };
        let submitter = {
            let (claims, channel) = (claims.clone(), channel.clone());
            thread::spawn(move || {
                let turn = claims.enter(COOKIE, Turn::InOrder).unwrap();
                channel.send(Message::Submitted("other", turn));
                matches!(turn, Turn::HeldBack(_))
            })
        };
        let sent = ring_thread(claims, &channel, &stream, 2);
        let has_claimed = sender.join().unwrap();
        if submitter.join().unwrap() {
            assert_eq!(sent, ["rest", "other"], "sent in the midst of another operation");
        }
        let sends = 2 + u32::from(has_claimed);
        assert_eq!(stream.load(Ordering::Relaxed), sends, "two threads have sent at once");
    });
}

/// The claiming thread sends all, and claims the socket once more.
#[test]
fn a_claim_ends_before_another_thread_sends() {
    check(|| {
        let claims = Arc::new(Claims::default());
        let channel = Arc::new(Channel::new());
        let stream = Arc::new(AtomicU32::new(0));
        let sender = {
            let (claims, channel, stream) = (claims.clone(), channel.clone(), stream.clone());
            thread::spawn(move || {
                let mut sends = 0;
                for _ in 0..2 {
                    let Some(claimed) = claims.claim(COOKIE) else { continue };
                    send(&stream);
                    sends += 1;
                    if let Some(claim) = claims.release(claimed) {
                        channel.send(Message::Released(claim));
                    }
                }
                sends
            })
        };
        let submitter = {
            let (claims, channel) = (claims.clone(), channel.clone());
            thread::spawn(move || {
                let turn = claims.enter(COOKIE, Turn::InOrder).unwrap();
                channel.send(Message::Submitted("other", turn));
            })
        };
        let sent = ring_thread(claims, &channel, &stream, 1);
        assert_eq!(sent, ["other"]);
        let sends = 1 + sender.join().unwrap();
        submitter.join().unwrap();
        assert_eq!(stream.load(Ordering::Relaxed), sends, "two threads have sent at once");
    });
}
