//! A set of block numbers of one image, one bit each.

/// Which blocks are there.
#[derive(Clone, PartialEq, Eq)]
pub struct BlockSet {
    words: Vec<u64>,
    len: u64,
    count: u64,
}

impl BlockSet {
    /// None of `len` blocks.
    pub fn none(len: u64) -> Self {
        let words = usize::try_from(len.div_ceil(64)).expect("IMAGE_BLOCKS_MAX fits memory");
        Self { words: vec![0; words], len, count: 0 }
    }

    /// Adds a block; beyond the end nothing happens. Says whether it was new.
    pub fn insert(&mut self, block: u64) -> bool {
        let Some((word, bit)) = self.position(block) else { return false };
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(new);
        new
    }

    /// Takes a block out. Says whether it was there.
    pub fn remove(&mut self, block: u64) -> bool {
        let Some((word, bit)) = self.position(block) else { return false };
        let there = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        self.count -= u64::from(there);
        there
    }

    /// Adds the blocks of another set; if it is of another length nothing happens.
    pub fn add(&mut self, other: &Self) {
        if other.len == self.len {
            self.words.iter_mut().zip(&other.words).for_each(|(sum, word)| *sum |= word);
            self.count = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        }
    }

    /// 64 blocks each, the lowest bit first; bits beyond the end are 0.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether the block is in it.
    pub fn contains(&self, block: u64) -> bool {
        self.position(block).is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// How many blocks it could hold.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// How many blocks are in it.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether every block is in it.
    pub fn is_full(&self) -> bool {
        self.count == self.len
    }

    fn position(&self, block: u64) -> Option<(usize, u64)> {
        (block < self.len).then(|| usize::try_from(block / 64).ok().map(|word| (word, 1 << (block % 64))))?
    }
}

impl std::fmt::Debug for BlockSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} blocks", self.count, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_block_once() {
        let mut set = BlockSet::none(65);
        assert!(set.insert(64) && !set.insert(64) && !set.insert(65));
        assert!(set.contains(64) && !set.contains(63) && !set.contains(65));
        assert_eq!((set.count(), set.is_full()), (1, false));
        (0..64).for_each(|block| assert!(set.insert(block)));
        assert!(set.is_full());
        assert!(set.remove(64) && !set.remove(64) && !set.remove(65));
        assert_eq!((set.count(), set.words()), (64, &[u64::MAX, 0][..]));
    }
}
