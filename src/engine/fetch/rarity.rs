//! Which piece to ask for next: the rarest first, ties at random.
//!
//! Counts how many neighbours have each piece, and keeps the pieces of which nothing was asked yet sorted by that. A step
//! costs a bit moved when a neighbour has one more piece, and a few words of bits looked at when one is chosen.

use std::collections::BTreeSet;

use rand_core::Rng;

use crate::model::piece::{Has, PieceSet};
use crate::model::time::Time;

/// Pieces that at least this many neighbours have count as equally common.
const LEVELS: usize = 24;

/// Pieces by how many neighbours have them.
#[derive(Debug)]
pub(super) struct Rarity {
    /// For each piece, how many neighbours have it, those excepted that have all.
    holders: Vec<u16>,
    /// How many neighbours have all.
    complete: u16,
    /// Pieces that are wanted and of which nothing was asked.
    wanted: PieceSet,
    /// Those by `holders`, but for those that are held back.
    levels: [PieceSet; LEVELS],
    /// Those that only one neighbour has, and that are left to other neighbours of it for a while.
    held: PieceSet,
    until: BTreeSet<(Time, u32)>,
}

impl Rarity {
    /// So many pieces, of which nobody has any and none is wanted.
    pub(super) fn new(count: u32) -> Self {
        let none = || PieceSet::none(count);
        Self {
            holders: vec![0; count as usize],
            complete: 0,
            wanted: none(),
            levels: std::array::from_fn(|_| none()),
            held: none(),
            until: BTreeSet::new(),
        }
    }

    /// Nothing of the piece was asked.
    pub(super) fn want(&mut self, piece: u32) {
        if self.wanted.insert(piece) {
            let level = self.level(piece);
            self.levels[level].insert(piece);
        }
    }

    /// Something of the piece is asked.
    pub(super) fn begin(&mut self, piece: u32) {
        if self.wanted.remove(piece) && !self.held.remove(piece) {
            let level = self.level(piece);
            self.levels[level].remove(piece);
        }
    }

    /// A neighbour has one more piece.
    pub(super) fn add(&mut self, piece: u32) {
        self.change(piece, |holders| holders.saturating_add(1));
    }

    /// If only one neighbour has the piece, it isn't asked for it before `until`.
    pub(super) fn hold(&mut self, piece: u32, until: Time) {
        let only_one = self.complete == 0 && self.holders.get(piece as usize) == Some(&1);
        if only_one && self.levels[1].remove(piece) {
            self.held.insert(piece);
            self.until.insert((until, piece));
        }
    }

    /// When the first piece isn't held back any more.
    pub(super) fn held_until(&self) -> Option<Time> {
        self.until.first().map(|(at, _)| *at)
    }

    /// Holds back no longer what was held until now.
    pub(super) fn release(&mut self, now: Time) {
        while let Some((_, piece)) = self.until.first().copied().filter(|(at, _)| *at <= now) {
            self.until.pop_first();
            if self.held.remove(piece) {
                let level = self.level(piece);
                self.levels[level].insert(piece);
            }
        }
    }

    /// There is one more neighbour.
    pub(super) fn join(&mut self, has: &Has) {
        match has {
            Has::All => self.complete = self.complete.saturating_add(1),
            Has::Some(pieces) => pieces.iter().for_each(|piece| self.add(piece)),
        }
    }

    /// There is one neighbour less.
    pub(super) fn leave(&mut self, has: &Has) {
        match has {
            Has::All => self.complete = self.complete.saturating_sub(1),
            Has::Some(pieces) => {
                pieces.iter().for_each(|piece| self.change(piece, |holders| holders.saturating_sub(1)));
            }
        }
    }

    /// Whether any neighbour has the piece.
    pub(super) fn has_holder(&self, piece: u32) -> bool {
        self.complete > 0 || self.holders.get(piece as usize).is_some_and(|holders| *holders > 0)
    }

    /// Whether a neighbour has something that no other one has, and of which nothing was asked.
    pub(super) fn has_rare(&self, has: &Has) -> bool {
        overlaps(&self.levels[1], has)
    }

    /// One of the rarest pieces which a neighbour has and of which nothing was asked.
    pub(super) fn rarest(&self, has: &Has, random: &mut impl Rng) -> Option<u32> {
        if !overlaps(&self.wanted, has) {
            return None;
        }
        // Nobody has what is in the first level, unless somebody has all.
        let first = usize::from(!matches!(has, Has::All));
        self.levels[first..].iter().find_map(|level| any(level, |at| has.word(at), random))
    }

    /// A piece that no neighbour has, for a publisher which would like to be asked for a share of them.
    pub(super) fn unheld(&self, share: Option<&PieceSet>, random: &mut impl Rng) -> Option<u32> {
        let level = self.levels.first().filter(|_| self.complete == 0)?;
        match share {
            Some(share) => {
                common(level, |at| share.words()[at]).map(|(first, word)| first + word.trailing_zeros()).next()
            }
            None => any(level, |_| u64::MAX, random),
        }
    }

    /// A piece under a mask that no neighbour has: the last one, as those in whose share it is begin with the first.
    pub(super) fn last_unheld(&self, mask: impl Fn(usize) -> u64) -> Option<u32> {
        let level = self.levels.first().filter(|_| self.complete == 0)?;
        common(level, mask).map(|(first, word)| first + word.ilog2()).next_back()
    }

    /// Whether of each piece that is wanted and not asked for, some neighbour has it.
    pub(super) fn all_held(&self) -> bool {
        self.complete > 0 || self.levels[0].is_empty()
    }

    /// How many pieces under a mask no neighbour has.
    pub(super) fn count_unheld(&self, mask: impl Fn(usize) -> u64) -> u32 {
        let level = self.levels.first().filter(|_| self.complete == 0);
        level.map_or(0, |level| common(level, mask).map(|(_, word)| word.count_ones()).sum())
    }

    fn level(&self, piece: u32) -> usize {
        usize::from(self.holders[piece as usize]).min(LEVELS - 1)
    }

    fn change(&mut self, piece: u32, change: impl Fn(u16) -> u16) {
        let Some(holders) = self.holders.get(piece as usize) else { return };
        let before = self.level(piece);
        self.holders[piece as usize] = change(*holders);
        let after = self.level(piece);
        if before != after && (self.held.remove(piece) || self.levels[before].remove(piece)) {
            self.levels[after].insert(piece);
        }
    }
}

fn overlaps(set: &PieceSet, has: &Has) -> bool {
    !set.is_empty() && set.words().iter().enumerate().any(|(at, word)| word & has.word(at) != 0)
}

/// The words of a set in which something is left under a mask, with the number of their first piece.
fn common(set: &PieceSet, mask: impl Fn(usize) -> u64) -> impl DoubleEndedIterator<Item = (u32, u64)> {
    let words = set.words().iter().enumerate().map(move |(at, word)| (at, word & mask(at)));
    words.filter(|(_, word)| *word != 0).filter_map(|(at, word)| Some((u32::try_from(at * 64).ok()?, word)))
}

/// Any piece of a set under a mask: the next one from a random place on.
fn any(set: &PieceSet, mask: impl Fn(usize) -> u64, random: &mut impl Rng) -> Option<u32> {
    if set.is_empty() {
        return None;
    }
    let words = set.words();
    let number = random.next_u32();
    let start = (number >> 6) as usize % words.len();
    let at = (start..words.len()).chain(0..start).find(|at| words[*at] & mask(*at) != 0)?;
    let turned = (words[at] & mask(at)).rotate_right(number % 64);
    let bit = (turned.trailing_zeros() + number % 64) % 64;
    u32::try_from(at * 64).ok().map(|first| first + bit)
}
