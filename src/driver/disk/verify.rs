//! The one place where the disk driver checks blocks against an image.

use crate::format::hash::hash_blocks;
use crate::model::ids::BlockHash;
use crate::model::image::Image;
use crate::model::limits::{BLOCK_BYTES, CHECK_BYTES_MAX};

/// Gathers blocks, also of different files, and hashes many at once.
pub(super) struct Checker<'a> {
    image: &'a Image,
    buffer: Vec<u8>,
    /// Number and length of each block in `buffer`.
    blocks: Vec<(u64, usize)>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(image: &'a Image) -> Self {
        Self { image, buffer: Vec::new(), blocks: Vec::new() }
    }

    /// Room for the bytes of some consecutive blocks, which [`Self::filled_with`] then declares.
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.buffer.len();
        self.buffer.resize(start + bytes, 0);
        &mut self.buffer[start..]
    }

    /// Of the last room, `bytes` long, only the first `kept` bytes are blocks.
    pub(super) fn keep_last(&mut self, bytes: usize, kept: usize) {
        self.buffer.truncate(self.buffer.len() - (bytes - kept));
    }

    /// The next `bytes` of the room were filled with consecutive blocks of one file from number `block` on, of which
    /// only the last may be short. Gives the number after them.
    pub(super) fn filled_with(&mut self, block: u64, bytes: usize) -> u64 {
        let mut next = block;
        for at in (0..bytes).step_by(BLOCK_BYTES) {
            self.blocks.push((next, BLOCK_BYTES.min(bytes - at)));
            next += 1;
        }
        next
    }

    /// Whether it is time to [`Self::flush`].
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= CHECK_BYTES_MAX
    }

    /// Hashes what is there and calls `each` with every block's number, length and whether its hash is right.
    pub(super) fn flush(&mut self, mut each: impl FnMut(u64, usize, bool)) {
        let mut rest = &self.buffer[..];
        let mut slices = Vec::with_capacity(self.blocks.len());
        for (_, len) in &self.blocks {
            let (block, tail) = rest.split_at(*len);
            slices.push(block);
            rest = tail;
        }
        let hashes = hash_blocks(self.image.hash_kind(), &slices);
        for ((block, len), hash) in self.blocks.iter().zip(hashes) {
            each(*block, *len, expected(self.image, *block) == Some(hash));
        }
        self.buffer.clear();
        self.blocks.clear();
    }
}

/// The hash which the image names for `block`.
fn expected(image: &Image, block: u64) -> Option<BlockHash> {
    image.hashes().get(usize::try_from(block).ok()?).copied()
}

/// Numbers of those of the consecutive `blocks` (from number `first` on) that aren't what the image says.
pub(super) fn wrong(image: &Image, first: u64, blocks: &[&[u8]]) -> Vec<u64> {
    let hashes = hash_blocks(image.hash_kind(), blocks);
    (first..)
        .zip(hashes)
        .filter(|(block, hash)| expected(image, *block) != Some(*hash))
        .map(|(block, _)| block)
        .collect()
}
