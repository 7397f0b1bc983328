//! Pulses: how this node's heads are, told to one member after the other, and at once when one has changed.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use super::table::{Key, Table};
use crate::format::gossip::{DirectoryHash, PulseHead};
use crate::model::heads::HeadsFingerprint;
use crate::model::limits;
use crate::model::time::Time;

/// A number below `bound`, 0 if that is 0.
pub(super) fn below(bound: usize, random: &mut ChaCha8Rng) -> usize {
    usize::try_from(random.next_u64() % (bound.max(1) as u64)).unwrap_or(0)
}

/// The heads, and when to tell of them.
#[derive(Default)]
pub(super) struct Pulses {
    heads: BTreeMap<DirectoryHash, (Box<str>, HeadsFingerprint)>,
    /// Changed since they were last told, most urgently.
    fresh: BTreeSet<DirectoryHash>,
    cursor: Option<DirectoryHash>,
    pub(super) next: Time,
    pub(super) urgent: Option<Time>,
    last_urgent: Option<Time>,
}

impl Pulses {
    pub(super) fn set(&mut self, now: Time, directory: Box<str>, fingerprint: HeadsFingerprint, urgent: bool) {
        let hash = DirectoryHash::of(&directory);
        let before = self.heads.insert(hash, (directory, fingerprint));
        if urgent && before.is_none_or(|before| before.1 != fingerprint) {
            self.fresh.insert(hash);
            let free = self.last_urgent.map_or(now, |last| last + limits::URGENT_PULSE_PAUSE);
            self.urgent = self.urgent.or(Some(free.max(now)));
        }
    }

    pub(super) fn remove(&mut self, directory: &str) {
        let hash = DirectoryHash::of(directory);
        self.heads.remove(&hash);
        self.fresh.remove(&hash);
    }

    /// Whether it is time to tell several members at once.
    pub(super) fn take_urgent(&mut self, now: Time) -> bool {
        let due = self.urgent.is_some_and(|due| due <= now);
        if due {
            (self.urgent, self.last_urgent) = (None, Some(now));
        }
        due
    }

    /// The heads for one pulse: those that have changed first, the others in turn.
    pub(super) fn heads(&mut self) -> Vec<PulseHead> {
        let first = std::mem::take(&mut self.fresh);
        let mut chosen: Vec<_> = first.iter().copied().take(limits::PULSE_HEADS_MAX).collect();
        let after = |cursor: DirectoryHash| (std::ops::Bound::Excluded(cursor), std::ops::Bound::Unbounded);
        let tail = self.cursor.map(|cursor| self.heads.range(after(cursor)));
        let turn = tail.into_iter().flatten().chain(&self.heads).map(|(hash, _)| *hash);
        let mut last = None;
        for hash in turn.take(self.heads.len()).filter(|hash| !first.contains(hash)) {
            if chosen.len() >= limits::PULSE_HEADS_MAX {
                break;
            }
            chosen.push(hash);
            last = Some(hash);
        }
        self.cursor = last.or(self.cursor);
        // What doesn't fit is as fresh as before.
        self.fresh.extend(first.into_iter().skip(limits::PULSE_HEADS_MAX));
        chosen.into_iter().filter_map(|hash| Some((hash, self.heads.get(&hash)?.1))).collect()
    }

    /// The directories which both carry and whose heads differ.
    pub(super) fn compare<'a>(&'a self, theirs: &'a [PulseHead]) -> impl Iterator<Item = &'a str> {
        theirs.iter().filter_map(|(hash, fingerprint)| {
            let (name, ours) = self.heads.get(hash)?;
            (ours != fingerprint).then_some(&**name)
        })
    }
}

/// The members that are up, in an order which is drawn anew after each round.
#[derive(Default)]
pub(super) struct Ring {
    keys: Vec<Key>,
    inside: BTreeSet<Key>,
    cursor: usize,
}

impl Ring {
    /// A member is up that wasn't.
    pub(super) fn insert(&mut self, key: Key, random: &mut ChaCha8Rng) {
        if !self.inside.insert(key) {
            return;
        }
        let at = below(self.keys.len() + 1, random);
        self.keys.push(key);
        let last = self.keys.len() - 1;
        self.keys.swap(at, last);
    }

    /// The next member in turn.
    pub(super) fn next(&mut self, table: &Table, random: &mut ChaCha8Rng) -> Option<Key> {
        loop {
            if self.cursor >= self.keys.len() {
                self.cursor = 0;
                for at in (1..self.keys.len()).rev() {
                    self.keys.swap(at, below(at + 1, random));
                }
            }
            let key = *self.keys.get(self.cursor)?;
            if table.is_up(&key) {
                self.cursor += 1;
                return Some(key);
            }
            // It went down; when it comes back it is put in again.
            self.keys.swap_remove(self.cursor);
            self.inside.remove(&key);
        }
    }

    /// Some members, each once.
    pub(super) fn several(&mut self, count: usize, table: &Table, random: &mut ChaCha8Rng) -> Vec<Key> {
        let mut keys = Vec::new();
        for _ in 0..2 * count {
            match self.next(table, random) {
                Some(key) if keys.len() < count && !keys.contains(&key) => keys.push(key),
                Some(_) => {}
                None => break,
            }
        }
        keys
    }
}
