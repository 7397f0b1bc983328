//! Which piece to ask for next: the rarest first, ties at random.
//!
//! Counts how many neighbours have each piece, and keeps the pieces of which nothing was asked yet sorted by that. A step
//! costs a bit moved when a neighbour has one more piece, and a few words of bits looked at when one is chosen.

use rand_core::Rng;

use super::sources::Has;
use crate::model::piece::PieceSet;

/// Pieces that at least this many neighbours have count as equally common.
const LEVELS: usize = 24;

/// Pieces by how many neighbours have them.
#[derive(Debug)]
pub(super) struct Rarity {
    /// For each piece, how many neighbours have it, those excepted that have all.
    holders: Vec<u16>,
    /// How many neighbours have all.
    complete: u16,
    /// Pieces that are wanted and of which nothing was asked, by `holders`.
    levels: [PieceSet; LEVELS],
    wanted: PieceSet,
}

impl Rarity {
    /// So many pieces, of which nobody has any and none is wanted.
    pub(super) fn new(count: u32) -> Self {
        let levels = std::array::from_fn(|_| PieceSet::none(count));
        Self { holders: vec![0; count as usize], complete: 0, levels, wanted: PieceSet::none(count) }
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
        if self.wanted.remove(piece) {
            let level = self.level(piece);
            self.levels[level].remove(piece);
        }
    }

    /// A neighbour has one more piece.
    pub(super) fn add(&mut self, piece: u32) {
        self.change(piece, |holders| holders.saturating_add(1));
    }

    /// There is one more neighbour.
    pub(super) fn join(&mut self, has: &Has) {
        match has {
            Has::All => self.complete += 1,
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
    pub(super) fn is_held(&self, piece: u32) -> bool {
        self.complete > 0 || self.holders.get(piece as usize).is_some_and(|holders| *holders > 0)
    }

    /// One of the rarest pieces which a neighbour has and of which nothing was asked.
    pub(super) fn rarest(&self, has: &Has, random: &mut impl Rng) -> Option<u32> {
        if !overlaps(&self.wanted, has) {
            return None;
        }
        // Nobody has what is in the first level, unless somebody has all.
        let first = usize::from(!matches!(has, Has::All));
        self.levels[first..].iter().find_map(|level| any(level, |word| has.word(word), random))
    }

    /// A piece that no neighbour has, for a publisher which would like to be asked for a share of them.
    pub(super) fn unheld(&self, share: Option<&PieceSet>, random: &mut impl Rng) -> Option<u32> {
        if self.complete > 0 {
            return None;
        }
        match share {
            Some(share) => {
                common(&self.levels[0], |word| share.words()[word]).map(|(at, word)| at + word.trailing_zeros()).next()
            }
            None => any(&self.levels[0], |_| u64::MAX, random),
        }
    }

    /// A piece that no neighbour has and that is in the share of others: the last one, as they begin with the first.
    pub(super) fn unheld_of_others(&self, share: &PieceSet) -> Option<u32> {
        if self.complete > 0 {
            return None;
        }
        common(&self.levels[0], |word| !share.words()[word])
            .map(|(at, word)| at + 63 - word.leading_zeros())
            .next_back()
    }

    fn level(&self, piece: u32) -> usize {
        usize::from(self.holders[piece as usize]).min(LEVELS - 1)
    }

    fn change(&mut self, piece: u32, change: impl Fn(u16) -> u16) {
        if self.holders.len() <= piece as usize {
            return;
        }
        let before = self.level(piece);
        let holders = &mut self.holders[piece as usize];
        *holders = change(*holders);
        let after = self.level(piece);
        if before != after && self.levels[before].remove(piece) {
            self.levels[after].insert(piece);
        }
    }
}

fn overlaps(set: &PieceSet, has: &Has) -> bool {
    set.words().iter().enumerate().any(|(at, word)| word & has.word(at) != 0)
}

/// The words of a set in which something is left under a mask, with the number of their first piece.
fn common(set: &PieceSet, mask: impl Fn(usize) -> u64) -> impl DoubleEndedIterator<Item = (u32, u64)> {
    let words = set.words().iter().enumerate();
    words
        .map(move |(at, word)| (u32::try_from(at * 64).unwrap_or(u32::MAX), word & mask(at)))
        .filter(|(_, word)| *word != 0)
}

/// Any piece of a set under a mask: the next one from a random place on.
fn any(set: &PieceSet, mask: impl Fn(usize) -> u64, random: &mut impl Rng) -> Option<u32> {
    let words = set.words();
    if set.is_empty() {
        return None;
    }
    let number = random.next_u32();
    let start = (number >> 6) as usize % words.len();
    let at = (start..words.len()).chain(0..start).find(|at| words[*at] & mask(*at) != 0)?;
    let turned = (words[at] & mask(at)).rotate_right(number % 64);
    let bit = (turned.trailing_zeros() + number % 64) % 64;
    u32::try_from(at * 64).ok().map(|first| first + bit)
}
