//! Hashing of blocks, several at once, and of texts, piece by piece. Where the bytes come from is the caller's.

#[cfg(target_arch = "x86_64")]
mod blake2b_avx512;

use blake2b_simd::many::{HashManyJob, hash_many};
use sha2::{Digest, Sha512_256};

use crate::model::hash_kind::HashKind;
use crate::model::ids::BlockHash;

/// Give at least so many blocks to one [`hash_blocks`] call, if they are there: SIMD works on several at once.
pub const BLOCKS_PER_CALL: usize = 8;

/// The hash of each block, in the order of `blocks`. Lengths may differ; feed [`BLOCKS_PER_CALL`] or more for speed.
pub fn hash_blocks(kind: HashKind, blocks: &[&[u8]]) -> Vec<BlockHash> {
    match kind {
        HashKind::Blake2b256 => blake2b_blocks(blocks),
        HashKind::Blake3 | HashKind::Sha512_256 => blocks.iter().map(|block| hash_one(kind, block)).collect(),
    }
}

/// The hash of one block.
pub fn hash_one(kind: HashKind, block: &[u8]) -> BlockHash {
    BlockHash::new(match kind {
        HashKind::Blake2b256 => blake2b_output(&blake2b_params().hash(block)),
        HashKind::Blake3 => *blake3::hash(block).as_bytes(),
        HashKind::Sha512_256 => Sha512_256::digest(block).into(),
    })
}

/// A hash fed piece by piece: the footer of an index, the id of a change.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Blake2b(Box<blake2b_simd::State>),
    Blake3(Box<blake3::Hasher>),
    Sha512(Box<Sha512_256>),
}

impl Hasher {
    /// Nothing fed yet.
    pub fn new(kind: HashKind) -> Self {
        Self(match kind {
            HashKind::Blake2b256 => State::Blake2b(Box::new(blake2b_params().to_state())),
            HashKind::Blake3 => State::Blake3(Box::default()),
            HashKind::Sha512_256 => State::Sha512(Box::default()),
        })
    }

    /// Feeds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        match &mut self.0 {
            State::Blake2b(state) => {
                state.update(bytes);
            }
            State::Blake3(state) => {
                state.update(bytes);
            }
            State::Sha512(state) => state.update(bytes),
        }
        self
    }

    /// The hash of all that was fed.
    pub fn finish(&self) -> [u8; 32] {
        match &self.0 {
            State::Blake2b(state) => blake2b_output(&state.finalize()),
            State::Blake3(state) => *state.finalize().as_bytes(),
            State::Sha512(state) => Digest::finalize(Sha512_256::clone(state)).into(),
        }
    }
}

fn blake2b_params() -> blake2b_simd::Params {
    let mut params = blake2b_simd::Params::new();
    params.hash_length(32);
    params
}

fn blake2b_output(hash: &blake2b_simd::Hash) -> [u8; 32] {
    hash.as_bytes().try_into().expect("the hash length was set to 32 bytes")
}

/// Eight at once where the processor can.
fn blake2b_blocks(blocks: &[&[u8]]) -> Vec<BlockHash> {
    #[cfg(target_arch = "x86_64")]
    if let Some(hashes) = blake2b_avx512::hash_all(blocks) {
        return hashes.into_iter().map(BlockHash::new).collect();
    }
    blake2b_many(blocks)
}

/// Few, or on any processor.
fn blake2b_many(blocks: &[&[u8]]) -> Vec<BlockHash> {
    let params = blake2b_params();
    let mut jobs = blocks.iter().map(|block| HashManyJob::new(&params, block)).collect::<Vec<_>>();
    if blocks.windows(2).all(|pair| pair[0].len() >= pair[1].len()) {
        hash_many(&mut jobs);
    } else {
        // Longest first, so that no long one is left to be hashed alone at the end.
        let mut order = jobs.iter_mut().zip(blocks).collect::<Vec<_>>();
        order.sort_by_key(|(_, block)| std::cmp::Reverse(block.len()));
        hash_many(order.into_iter().map(|(job, _)| job));
    }
    jobs.iter().map(|job| BlockHash::new(blake2b_output(&job.to_hash()))).collect()
}

#[cfg(test)]
mod tests {
    use blake2::Blake2b;
    use blake2::digest::consts::U32;
    use proptest::prelude::*;

    use super::*;

    /// Another implementation of BLAKE2b.
    fn oracle(block: &[u8]) -> BlockHash {
        BlockHash::new(Blake2b::<U32>::digest(block).into())
    }

    fn sample(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251 * 7 + seed).to_le_bytes()[0]).collect()
    }

    #[test]
    fn known_vectors() {
        let cases = [
            (HashKind::Blake2b256, "", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"),
            (HashKind::Blake2b256, "abc", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"),
            (HashKind::Blake3, "", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (HashKind::Blake3, "abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
            (HashKind::Sha512_256, "", "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"),
            (HashKind::Sha512_256, "abc", "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"),
        ];
        for (kind, text, hash) in cases {
            assert_eq!(hash_one(kind, text.as_bytes()).to_string(), hash, "{kind} of {text:?}");
        }
    }

    #[test]
    fn no_blocks_and_empty_blocks() {
        for kind in HashKind::ALL {
            assert_eq!(hash_blocks(kind, &[]), []);
            assert_eq!(hash_blocks(kind, &[b"", b"", b""]), [hash_one(kind, b""); 3]);
        }
    }

    #[test]
    fn full_blocks_in_any_number() {
        let data = (0..19).map(|seed| sample(32_768, seed)).collect::<Vec<_>>();
        let blocks = data.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let expected = blocks.iter().map(|block| oracle(block)).collect::<Vec<_>>();
        for count in 0..=blocks.len() {
            assert_eq!(hash_blocks(HashKind::Blake2b256, &blocks[..count]), expected[..count]);
        }
    }

    /// Eight and more blocks of one length.
    #[test]
    fn equal_lengths() {
        for (count, len) in [(8, 128), (8, 256), (9, 32_768), (16, 32_768), (17, 1_280), (31, 127), (8, 0), (24, 129)] {
            let data = (0..count).map(|seed| sample(len, seed * 97)).collect::<Vec<_>>();
            let blocks = data.iter().map(Vec::as_slice).collect::<Vec<_>>();
            let expected = blocks.iter().map(|block| oracle(block)).collect::<Vec<_>>();
            assert_eq!(hash_blocks(HashKind::Blake2b256, &blocks), expected, "{count} of {len}");
        }
    }

    proptest! {
        #[test]
        fn whole_chunks(count in 1_usize..40, chunks in 1_usize..6, short in proptest::option::of(0_usize..40), seed in 0_usize..999) {
            let len = |i| if Some(i) == short { chunks * 128 - 1 } else { chunks * 128 };
            let data = (0..count).map(|i| sample(len(i), seed + i * 31)).collect::<Vec<_>>();
            let blocks = data.iter().map(Vec::as_slice).collect::<Vec<_>>();
            prop_assert_eq!(hash_blocks(HashKind::Blake2b256, &blocks), blocks.iter().map(|block| oracle(block)).collect::<Vec<_>>());
        }

        #[test]
        fn mixed_lengths(lens in proptest::collection::vec(0_usize..5_000, 0..30), split in 0_usize..5_000) {
            let data = lens.iter().enumerate().map(|(seed, len)| sample(*len, seed)).collect::<Vec<_>>();
            let blocks = data.iter().map(Vec::as_slice).collect::<Vec<_>>();
            let many = hash_blocks(HashKind::Blake2b256, &blocks);
            prop_assert_eq!(&many, &blocks.iter().map(|block| oracle(block)).collect::<Vec<_>>());
            prop_assert_eq!(&many, &blake2b_many(&blocks), "as other processors do it");
            for kind in HashKind::ALL {
                let many = hash_blocks(kind, &blocks);
                for (hash, block) in many.iter().zip(&blocks) {
                    prop_assert_eq!(*hash, hash_one(kind, block));
                    let (head, tail) = block.split_at(split.min(block.len()));
                    prop_assert_eq!(hash.as_bytes(), &Hasher::new(kind).update(head).update(tail).finish());
                }
            }
        }
    }
}
