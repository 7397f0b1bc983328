//! Pieces: what nodes tell each other that they have. A piece is a run of consecutive blocks in index order.
//!
//! The cuts follow from the index alone, so that both sides make the same. Who has which piece, and which to ask for, is
//! the fetch engine's.

use std::ops::Range;

use super::block_set::BlockSet;
use super::image::Image;
use super::limits;

/// How an image is cut into pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// The first block of each piece.
    firsts: Vec<u64>,
    blocks: u64,
}

impl Pieces {
    /// Each piece takes blocks as long as they fit into a thousandth of the image, within the bounds of a piece.
    pub fn of(image: &Image) -> Self {
        let size = (image.total_bytes() / limits::PIECES_AIMED).clamp(limits::PIECE_BYTES_MIN, limits::PIECE_BYTES_MAX);
        let mut firsts = Vec::new();
        let mut bytes = size;
        for (block, len) in (0..).zip(image.block_lengths()) {
            if bytes + len > size {
                firsts.push(block);
                bytes = 0;
            }
            bytes += len;
        }
        debug_assert!(firsts.len() <= limits::PIECES_MAX, "a full piece has at least 256 blocks");
        Self { firsts, blocks: image.block_count() }
    }

    /// How many.
    pub fn count(&self) -> u32 {
        u32::try_from(self.firsts.len()).unwrap_or(u32::MAX)
    }

    /// The numbers of a piece's blocks; empty beyond the last one.
    pub fn blocks(&self, piece: u32) -> Range<u64> {
        let first = |piece: usize| self.firsts.get(piece).copied().unwrap_or(self.blocks);
        first(piece as usize)..first(piece as usize + 1)
    }

    /// The piece in which a block lies; `None` beyond the last block.
    pub fn piece(&self, block: u64) -> Option<u32> {
        let after = self.firsts.partition_point(|first| *first <= block);
        (block < self.blocks).then(|| u32::try_from(after.checked_sub(1)?).ok())?
    }
}

/// Which pieces of an image are there, one bit each.
#[derive(Clone, PartialEq, Eq)]
pub struct PieceSet(BlockSet);

impl PieceSet {
    /// None of `len` pieces.
    pub fn none(len: u32) -> Self {
        Self(BlockSet::none(u64::from(len)))
    }

    /// Reads [`Self::to_bytes`]; `None` if there are too many pieces, or too few, too many or stray bits.
    pub fn from_bytes(len: u32, bytes: &[u8]) -> Option<Self> {
        if len as usize > limits::PIECES_MAX || bytes.len() != (len as usize).div_ceil(8) {
            return None;
        }
        let mut set = Self::none(len);
        for (byte, at) in bytes.iter().zip((0_u32..).step_by(8)) {
            for bit in (0..8).filter(|bit| byte & 1 << bit != 0) {
                if !set.insert(at + bit) {
                    return None;
                }
            }
        }
        Some(set)
    }

    /// One bit for each piece, the lowest bit of the first byte first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate((self.len() as usize).div_ceil(8));
        bytes
    }

    /// Adds a piece; beyond the end nothing happens. Says whether it was new.
    pub fn insert(&mut self, piece: u32) -> bool {
        self.0.insert(u64::from(piece))
    }

    /// Takes a piece out. Says whether it was there.
    pub fn remove(&mut self, piece: u32) -> bool {
        self.0.remove(u64::from(piece))
    }

    /// Adds the pieces of another set; if it is of another length nothing happens.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0);
    }

    /// Whether the piece is in it.
    pub fn contains(&self, piece: u32) -> bool {
        self.0.contains(u64::from(piece))
    }

    /// How many pieces it could hold.
    pub fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// How many pieces are in it.
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.count()).unwrap_or(u32::MAX)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every piece is in it.
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// 64 pieces each, the lowest bit first; bits beyond the end are 0.
    pub fn words(&self) -> &[u64] {
        self.0.words()
    }

    /// The pieces in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0_u32..).step_by(64).zip(self.words()).flat_map(|(at, word)| bits(*word).map(move |bit| at + bit))
    }
}

/// The pieces of an image that a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Has {
    /// Every piece.
    All,
    /// These.
    Some(PieceSet),
}

impl Has {
    /// As nodes tell it: a `count` of 0 is all, else the bytes are those of a set; `None` if they can't be.
    pub fn told(count: u32, bytes: &[u8]) -> Option<Self> {
        if count == 0 { Some(Self::All) } else { PieceSet::from_bytes(count, bytes).map(Self::Some) }
    }

    /// Adds a piece. Says whether it was new.
    pub fn insert(&mut self, piece: u32) -> bool {
        match self {
            Self::All => false,
            Self::Some(pieces) => pieces.insert(piece),
        }
    }

    /// Whether the piece is among them.
    pub fn contains(&self, piece: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(pieces) => pieces.contains(piece),
        }
    }

    /// 64 pieces, as in [`PieceSet::words`].
    pub fn word(&self, at: usize) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::Some(pieces) => pieces.words().get(at).copied().unwrap_or(0),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.some().is_some_and(PieceSet::is_empty)
    }

    /// Whether it can be about an image of so many pieces.
    pub fn fits(&self, count: u32) -> bool {
        self.some().is_none_or(|pieces| pieces.len() == count)
    }

    /// Which ones, unless that is all.
    pub fn some(&self) -> Option<&PieceSet> {
        match self {
            Self::All => None,
            Self::Some(pieces) => Some(pieces),
        }
    }
}

/// The numbers of the bits that are set, ascending.
fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

impl std::fmt::Debug for PieceSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} pieces", self.count(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash_kind::HashKind;
    use crate::model::ids::BlockHash;
    use crate::model::image::{ImageBuilder, blocks_of};

    fn image(sizes: &[u64]) -> Image {
        let mut builder = ImageBuilder::new(HashKind::default());
        builder.directory("").expect("root");
        for (i, size) in sizes.iter().enumerate() {
            let count = usize::try_from(blocks_of(*size)).expect("small");
            builder.file(&format!("f{i:06}"), false, *size, &vec![BlockHash::new([0; 32]); count]).expect("file");
        }
        builder.finish().expect("complete")
    }

    fn bytes(image: &Image, blocks: Range<u64>) -> u64 {
        blocks.map(|block| image.place(block).expect("in the image").len as u64).sum()
    }

    #[test]
    fn pieces_cover_every_block_once() {
        let many: Vec<_> = (0..5_000).map(|i| i * 7 % 9_001).collect();
        for sizes in [&[][..], &[0], &[1], &[40_000, 0, 7, 3_000_000], &[1 << 30], &many] {
            let image = image(sizes);
            let pieces = Pieces::of(&image);
            let all: Vec<u64> = (0..pieces.count()).flat_map(|piece| pieces.blocks(piece)).collect();
            assert_eq!(all, (0..image.block_count()).collect::<Vec<_>>());
            for piece in 0..pieces.count() {
                assert!(pieces.blocks(piece).all(|block| pieces.piece(block) == Some(piece)));
                assert!(bytes(&image, pieces.blocks(piece)) <= (1 << 20));
            }
            assert_eq!(pieces.piece(image.block_count()), None);
            assert!(pieces.blocks(pieces.count()).is_empty() && pieces.blocks(u32::MAX).is_empty());
        }
    }

    #[test]
    fn pieces_are_a_thousandth_within_bounds() {
        let count = |bytes| Pieces::of(&image(&[bytes])).count();
        assert_eq!((count(1), count(256 << 10), count((256 << 10) + 1)), (1, 1, 2));
        assert_eq!(count(1 << 30), 1_024);
        assert_eq!(count(16 << 30), 2_048);
        assert!((1_000..=1_130).contains(&count(300 << 20)));
    }

    #[test]
    fn the_largest_image_has_the_most_pieces() {
        let all = limits::IMAGE_BLOCKS_MAX * limits::BLOCK_BYTES as u64;
        assert_eq!(all / limits::PIECE_BYTES_MAX, limits::PIECES_MAX as u64);
    }

    #[test]
    fn sets_are_added() {
        let set = |len, bytes: &[u8]| PieceSet::from_bytes(len, bytes).expect("fits");
        let mut sum = set(9, &[5, 0]);
        sum.add(&set(9, &[4, 1]));
        assert_eq!((sum.iter().collect::<Vec<_>>(), sum.count()), (vec![0, 2, 8], 3));
        sum.add(&set(8, &[0xff]));
        assert_eq!(sum.count(), 3, "of another length");
    }

    #[test]
    fn sets_go_through_bytes() {
        for len in [0, 1, 7, 8, 9, 64, 65, 1_000] {
            let mut set = PieceSet::none(len);
            (0..len).filter(|piece| piece % 3 == 0).for_each(|piece| assert!(set.insert(piece)));
            let bytes = set.to_bytes();
            assert_eq!(PieceSet::from_bytes(len, &bytes).as_ref(), Some(&set));
            assert_eq!(set.iter().collect::<Vec<_>>(), (0..len).filter(|piece| piece % 3 == 0).collect::<Vec<_>>());
            assert_eq!(PieceSet::from_bytes(len + 8, &bytes), None);
        }
        assert_eq!(PieceSet::none(9).to_bytes(), [0, 0]);
        assert_eq!(PieceSet::from_bytes(9, &[1, 1]).map(|set| set.count()), Some(2));
        assert_eq!(PieceSet::from_bytes(9, &[0, 2]), None, "a bit beyond the end");
        assert_eq!(Has::told(0, &[]), Some(Has::All));
        assert_eq!(Has::told(9, &[1, 1]).map(|has| (has.contains(0), has.contains(1))), Some((true, false)));
        assert_eq!((Has::told(9, &[1]), Has::told(9, &[0, 2])), (None, None));
        let over = u32::try_from(limits::PIECES_MAX).expect("small") + 1;
        assert_eq!(PieceSet::from_bytes(over, &vec![0; over.div_ceil(8) as usize]), None);
    }
}
