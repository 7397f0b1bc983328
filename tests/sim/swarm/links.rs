//! Links: each end sends one answer after the other at its own rate, and takes them in at another. Small messages take the
//! delay alone, but overtake nothing on their own connection.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ciruela::engine::fetch::{Answer, Question};
use ciruela::model::run::Run;

/// What goes over a connection.
#[derive(Debug)]
pub(super) enum Message {
    Ask(Question),
    Answered(Question, Result<Answer, String>),
    Pieces { count: u32, have: Bytes },
    Have(Vec<u32>),
    Offer,
    Share { index: u32, of: u32 },
}

/// Whose ends a connection has: numbers of nodes, or the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Node(usize),
}

/// One connection; a broken one is never used again.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) ends: [End; 2],
    pub(super) alive: bool,
    /// When the last message arrives, by the end which it goes to.
    arrived: [Duration; 2],
}

/// One machine's way to the network.
#[derive(Debug)]
pub(super) struct Port {
    /// Bytes per second.
    pub(super) up: u64,
    pub(super) down: u64,
    /// Answers that wait to be sent.
    pub(super) queue: VecDeque<(usize, Question, Run)>,
    pub(super) sending: bool,
    /// Bytes per second that a connection can carry, and until when it does.
    pub(super) flows: BTreeMap<usize, (u64, Duration)>,
    /// Bytes of small messages that were sent since the last answer.
    small: u64,
    /// When all that is being received is there.
    received: Duration,
    /// Bytes of answers.
    pub(super) sent: u64,
}

const SMALL_BYTES: u64 = 80;

fn takes(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(bytes * 1_000_000_000 / rate)
}

impl Link {
    pub(super) fn new(a: End, b: End) -> Self {
        Self { ends: [a, b], alive: true, arrived: [Duration::ZERO; 2] }
    }

    /// Which end that is: 0 or 1.
    pub(super) fn side(&self, end: End) -> usize {
        usize::from(self.ends[1] == end)
    }

    /// When a message arrives at a side which would be there at `at` if nothing were before it.
    pub(super) fn arrives(&mut self, side: usize, at: Duration) -> Duration {
        self.arrived[side] = self.arrived[side].max(at);
        self.arrived[side]
    }
}

impl Port {
    pub(super) fn new(up: u64, down: u64) -> Self {
        Self {
            up,
            down,
            queue: VecDeque::new(),
            sending: false,
            flows: BTreeMap::new(),
            small: 0,
            received: Duration::ZERO,
            sent: 0,
        }
    }

    pub(super) fn send_small(&mut self) {
        self.small += SMALL_BYTES;
    }

    /// The first answer whose connection is free; `Err`: when one will be, if any answer waits.
    pub(super) fn next(&mut self, now: Duration) -> Result<(usize, Question, Run), Option<Duration>> {
        let flows = &self.flows;
        let until = |link: &usize| flows.get(link).map_or(Duration::ZERO, |(_, until)| *until);
        let free = self.queue.iter().position(|(link, ..)| until(link) <= now);
        let next = self.queue.iter().map(|(link, ..)| until(link)).min();
        free.and_then(|at| self.queue.remove(at)).ok_or(next)
    }

    /// A connection is busy with an answer for as long as it takes at its own rate.
    pub(super) fn carry(&mut self, link: usize, now: Duration, bytes: u64) {
        if let Some((rate, until)) = self.flows.get_mut(&link) {
            *until = now + takes(bytes, *rate);
        }
    }

    /// Begins to send an answer now; says when it is sent.
    pub(super) fn send(&mut self, now: Duration, bytes: u64) -> Duration {
        self.sent += bytes;
        self.sending = true;
        now + takes(bytes + std::mem::take(&mut self.small), self.up)
    }

    /// An answer begins to come in; says when it is there, which isn't before `last_byte`.
    pub(super) fn receive(&mut self, first_byte: Duration, last_byte: Duration, bytes: u64) -> Duration {
        self.received = (self.received.max(first_byte) + takes(bytes, self.down)).max(last_byte);
        self.received
    }
}
