//! Whose datagrams are taken: sealed ones once each and not too old; without a key those of listed peers.
//!
//! For each sender's session the last counters are remembered. A session is forgotten only when all that was taken of it is too old to be
//! taken again; whatever then comes of an unknown session must be younger than anything that was forgotten.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::format::gossip::{OpenError, Seal, SessionId, open_plain, plain};
use crate::model::limits;
use crate::model::peer::ClusterKey;
use crate::model::time::{Stamp, Time};

/// Datagrams that weren't taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Not one of ours at all.
    pub foreign: u64,
    /// Sealed with another key, changed on the way, or sealed where no key is (or the other way round).
    pub unsealable: u64,
    /// Without a key: from an address, or of a node, that isn't listed.
    pub unlisted: u64,
    /// The sender's clock is too far from ours, or it was recorded long ago.
    pub untimely: u64,
    /// Seen before.
    pub replayed: u64,
    /// Opened, but no sense in it.
    pub malformed: u64,
    /// For another node, or for an earlier start of this one.
    pub misdirected: u64,
}

impl Dropped {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { foreign, unsealable, unlisted, untimely, replayed, malformed, misdirected } = self;
        foreign + unsealable + unlisted + untimely + replayed + malformed + misdirected
    }
}

/// What a datagram holds, and as which of its session it came.
pub(super) struct Opened {
    pub(super) text: Vec<u8>,
    number: Option<(SessionId, u64)>,
}

pub(super) struct Channel {
    seal: Option<Seal>,
    session: SessionId,
    counter: u64,
    listed: BTreeSet<SocketAddr>,
    replay: Replay,
    pub(super) dropped: Dropped,
    /// Who sent the last datagram that can't be opened, and when that may be told again.
    stranger: Option<SocketAddr>,
    strangers_next: Time,
}

impl Channel {
    pub(super) fn new(key: Option<&ClusterKey>, session: SessionId) -> Self {
        Self {
            seal: key.map(Seal::new),
            session,
            counter: 0,
            listed: BTreeSet::new(),
            replay: Replay::default(),
            dropped: Dropped::default(),
            stranger: None,
            strangers_next: Time::default(),
        }
    }

    /// Sets which addresses are listed, for clusters without a key.
    pub(super) fn list(&mut self, peers: &[SocketAddr]) {
        self.listed = peers.iter().copied().collect();
    }

    /// Whether that address may be spoken with.
    pub(super) fn allows(&self, address: SocketAddr) -> bool {
        self.seal.is_some() || self.listed.contains(&address)
    }

    pub(super) fn seal(&mut self, to: SocketAddr, text: Vec<u8>) -> Option<Bytes> {
        let Some(seal) = &self.seal else {
            return self.listed.contains(&to).then(|| plain(&text));
        };
        self.counter += 1;
        seal.seal(&self.session, self.counter, text)
    }

    pub(super) fn open(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Opened> {
        let opened = match &self.seal {
            Some(seal) => seal
                .open(datagram)
                .map(|opened| Opened { text: opened.text, number: Some((opened.session, opened.counter)) }),
            None => open_plain(datagram).map(|text| Opened { text, number: None }),
        };
        match opened {
            Ok(opened) if opened.number.is_some() || self.listed.contains(&from) => return Some(opened),
            Ok(_) => self.dropped.unlisted += 1,
            Err(OpenError::Foreign) => self.dropped.foreign += 1,
            Err(OpenError::Unsealable) => {
                self.dropped.unsealable += 1;
                self.stranger = Some(from);
            }
        }
        None
    }

    /// Who sends what can't be opened, if it is time to say so (again).
    pub(super) fn stranger(&mut self, now: Time) -> Option<SocketAddr> {
        let stranger = self.stranger.take().filter(|_| self.strangers_next <= now)?;
        self.strangers_next = now + limits::STRANGERS_TOLD_INTERVAL;
        Some(stranger)
    }

    /// Whether it is taken for the first time; from then on it isn't.
    pub(super) fn first_time(&mut self, now: Stamp, opened: &Opened, seconds: u64) -> bool {
        let Some((session, counter)) = opened.number else { return true };
        match self.replay.take(now.0 / 1_000, session, counter, seconds) {
            Ok(()) => return true,
            Err(Refusal::Untimely) => self.dropped.untimely += 1,
            Err(Refusal::Replayed) => self.dropped.replayed += 1,
        }
        false
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Untimely,
    Replayed,
}

/// Which datagrams were taken.
#[derive(Default)]
struct Replay {
    sessions: BTreeMap<SessionId, Window>,
    /// The latest second of any datagram of a session that was forgotten.
    forgotten: u64,
}

const WORDS: usize = 8;

struct Window {
    /// The latest second of any of its datagrams.
    latest: u64,
    highest: u64,
    /// Bit n: highest - n was taken.
    taken: [u64; WORDS],
}

impl Replay {
    fn take(&mut self, now: u64, session: SessionId, counter: u64, seconds: u64) -> Result<(), Refusal> {
        let age_max = limits::DATAGRAM_AGE_MAX.as_secs();
        if now.abs_diff(seconds) > age_max {
            return Err(Refusal::Untimely);
        }
        if let Some(window) = self.sessions.get_mut(&session) {
            window.latest = window.latest.max(seconds);
            return if window.take(counter) { Ok(()) } else { Err(Refusal::Replayed) };
        }
        if seconds <= self.forgotten {
            return Err(Refusal::Untimely);
        }
        if self.sessions.len() >= limits::SESSIONS_MAX {
            let forgotten = &mut self.forgotten;
            self.sessions.retain(|_, window| {
                let keep = window.latest + age_max >= now;
                if !keep {
                    *forgotten = (*forgotten).max(window.latest);
                }
                keep
            });
        }
        // Full of living senders, who all have the key: newcomers wait.
        if self.sessions.len() >= limits::SESSIONS_MAX {
            return Err(Refusal::Untimely);
        }
        let mut taken = [0; WORDS];
        taken[0] = 1;
        self.sessions.insert(session, Window { latest: seconds, highest: counter, taken });
        Ok(())
    }
}

impl Window {
    fn take(&mut self, counter: u64) -> bool {
        if counter > self.highest {
            self.shift(counter - self.highest);
            self.highest = counter;
        }
        let behind = self.highest - counter;
        let Some((word, bit)) = usize::try_from(behind / 64).ok().map(|word| (word, 1 << (behind % 64))) else {
            return false;
        };
        match self.taken.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    fn shift(&mut self, by: u64) {
        let (words, bits) = (usize::try_from(by / 64).unwrap_or(WORDS).min(WORDS), by % 64);
        self.taken.rotate_right(words);
        self.taken[..words].fill(0);
        if bits > 0 {
            for at in (0..WORDS).rev() {
                let carried = if at > 0 { self.taken[at - 1] >> (64 - bits) } else { 0 };
                self.taken[at] = self.taken[at] << bits | carried;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_take_each_once_in_any_order() {
        let mut replay = Replay::default();
        let mut seen = BTreeSet::new();
        let mut random = 1_u64;
        for step in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Mostly close to the front, sometimes far ahead.
            let counter = 1_000 + step / 4 + (random >> 33) % 400 + if random >> 60 == 0 { 70 } else { 0 };
            let highest = replay.sessions.get(&[7; 16]).map_or(0, |window| window.highest);
            let expected = (counter > highest || highest - counter < 64 * WORDS as u64) && seen.insert(counter);
            assert_eq!(replay.take(100, [7; 16], counter, 100).is_ok(), expected, "step {step}: {counter}");
        }
    }

    #[test]
    fn a_forgotten_session_stays_refused() {
        let mut replay = Replay::default();
        let age = limits::DATAGRAM_AGE_MAX.as_secs();
        let session = |number: u64| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            id
        };
        for number in 0..limits::SESSIONS_MAX as u64 {
            assert_eq!(replay.take(1_000, session(number), 1, 1_000), Ok(()));
        }
        assert_eq!(replay.take(1_000, session(1 << 40), 1, 1_000), Err(Refusal::Untimely), "full");
        let later = 1_000 + age + 1;
        assert_eq!(replay.take(later, session(1 << 40), 1, later), Ok(()));
        assert_eq!(replay.sessions.len(), 1);
        assert_eq!(replay.take(later, session(3), 1, 1_000), Err(Refusal::Untimely));
        // Not even when our clock was set back.
        assert_eq!(replay.take(1_000, session(3), 1, 1_000), Err(Refusal::Untimely));
        assert_eq!(replay.take(1_000, session(3), 2, 1_001), Ok(()));
    }

    #[test]
    fn clocks_may_be_minutes_apart() {
        let mut replay = Replay::default();
        let age = limits::DATAGRAM_AGE_MAX.as_secs();
        assert_eq!(replay.take(10_000, [1; 16], 1, 10_000 - age), Ok(()));
        assert_eq!(replay.take(10_000, [1; 16], 2, 10_000 + age), Ok(()));
        assert_eq!(replay.take(10_000, [1; 16], 3, 10_001 + age), Err(Refusal::Untimely));
        assert_eq!(replay.take(10_000, [1; 16], 3, 9_999 - age), Err(Refusal::Untimely));
    }
}
