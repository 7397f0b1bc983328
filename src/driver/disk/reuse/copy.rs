//! Single blocks: copied from files which have them, hashed before they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::sources::Trees;
use super::{Donor, Library, SiblingTree};
use crate::driver::disk::fs::FileSystem;
use crate::driver::disk::place::Place;
use crate::driver::disk::store::store;
use crate::model::block_set::BlockSet;
use crate::model::failure::Failure;
use crate::model::ids::BlockHash;
use crate::model::image::{Image, blocks_of};
use crate::model::limits::{BLOCK_BYTES, RUN_BLOCKS_MAX, RUN_BYTES_MAX};
use crate::model::origins::Way;
use crate::model::run::Run;

/// Copies blocks.
pub(in crate::driver::disk) struct Copier<'a> {
    image: &'a Image,
    donors: Vec<Donor>,
    /// Where each block is: number of the donor and offset.
    found: BTreeMap<u64, (usize, u64)>,
}

impl<'a> Copier<'a> {
    pub(in crate::driver::disk) fn new(image: &'a Image) -> Self {
        Self { image, donors: Vec::new(), found: BTreeMap::new() }
    }

    /// A file has the content of the image's file which begins with that block.
    pub(in crate::driver::disk) fn add(&mut self, (first, size): (u64, u64), donor: Donor) {
        for (block, offset) in (first..first + blocks_of(size)).zip((0..).step_by(BLOCK_BYTES)) {
            self.found.entry(block).or_insert((self.donors.len(), offset));
        }
        self.donors.push(donor);
    }

    /// Looks in other images for the blocks that are still missing.
    pub(in crate::driver::disk) fn search(&mut self, library: &dyn Library, have: &BlockSet, siblings: &[SiblingTree]) {
        if siblings.is_empty() {
            return;
        }
        let mut wanted = self.wanted(have);
        for sibling in siblings {
            if wanted.is_empty() {
                return;
            }
            let Some(other) = library.image(sibling.image).filter(|o| o.hash_kind() == self.image.hash_kind()) else {
                continue;
            };
            self.search_one(&other, sibling, &wanted);
            wanted.retain(|(_, block)| !self.found.contains_key(block));
        }
    }

    /// Blocks that are neither there nor found, by hash.
    fn wanted(&self, have: &BlockSet) -> Vec<(BlockHash, u64)> {
        let missing = (0..self.image.block_count()).zip(self.image.hashes());
        let missing = missing.filter(|(block, _)| !have.contains(*block) && !self.found.contains_key(block));
        let mut wanted: Vec<_> = missing.map(|(block, hash)| (*hash, block)).collect();
        wanted.sort_unstable();
        wanted
    }

    fn search_one(&mut self, other: &Arc<Image>, sibling: &SiblingTree, wanted: &[(BlockHash, u64)]) {
        for file in other.files() {
            let mut donor = None;
            for (hash, offset) in other.file_hashes(&file).iter().zip((0..).step_by(BLOCK_BYTES)) {
                let start = wanted.partition_point(|(other, _)| other < hash);
                for (_, block) in wanted[start..].iter().take_while(|(other, _)| other == hash) {
                    let donor = *donor.get_or_insert_with(|| {
                        self.donors.push(Donor::of_sibling(sibling, &file.directory.join(file.name)));
                        self.donors.len() - 1
                    });
                    self.found.entry(*block).or_insert((donor, offset));
                }
            }
        }
    }

    /// Bytes that would be copied, if nothing turns out to be wrong.
    pub(in crate::driver::disk) fn bytes_found(&self, have: &BlockSet) -> u64 {
        let found = self.found.keys().filter(|block| !have.contains(**block));
        found.filter_map(|block| self.image.place(*block)).map(|place| place.len as u64).sum()
    }

    /// Copies what was found; gives the bytes. What turns out to be wrong stays missing.
    pub(in crate::driver::disk) fn copy<F: FileSystem>(
        &self,
        fs: &F,
        place: &Place,
        trees: &mut Trees<'_, F>,
        have: &mut BlockSet,
    ) -> Result<u64, Failure> {
        let mut copied = 0;
        let mut opened: Option<(usize, Option<F::File>)> = None;
        let mut buffer = Vec::new();
        let found: Vec<_> = self.found.iter().filter(|(block, _)| !have.contains(**block)).collect();
        for blocks in runs(&found) {
            let run = Run { first: *blocks[0].0, count: u32::try_from(blocks.len()).unwrap_or(RUN_BLOCKS_MAX) };
            let Some(bytes) = run.bytes(self.image) else { continue };
            buffer.clear();
            buffer.resize(bytes, 0);
            let mut unread = BTreeSet::new();
            let mut rest = &mut buffer[..];
            for parts in blocks.chunk_by(|(_, a), (_, b)| a.0 == b.0 && a.1 + BLOCK_BYTES as u64 == b.1) {
                let len = parts.iter().filter_map(|(block, _)| self.image.place(**block)).map(|place| place.len).sum();
                let (here, tail) = rest.split_at_mut(len);
                rest = tail;
                let (donor, offset) = *parts[0].1;
                if opened.as_ref().is_none_or(|(number, _)| *number != donor) {
                    opened = Some((donor, trees.open(&self.donors[donor])));
                }
                let file = opened.as_ref().and_then(|(_, file)| file.as_ref());
                // What isn't there stays zero, and so hashes as wrong.
                if file.is_none_or(|file| fs.read_at(file, offset, here).is_err()) {
                    unread.extend(parts.iter().map(|(block, _)| **block));
                }
            }
            let bad = store(fs, place, self.image, run, &buffer)?.bad;
            for (block, (donor, _)) in blocks {
                let donor = &self.donors[*donor];
                if bad.binary_search(block).is_ok() {
                    if unread.contains(*block) {
                        continue;
                    }
                    trees.damage(donor, "was changed on this node");
                } else if have.insert(**block) {
                    let len = self.image.place(**block).map_or(0, |place| place.len as u64);
                    copied += len;
                    trees.took(Way::Copied, &donor.path, len);
                }
            }
            if opened.as_ref().is_some_and(|(number, _)| trees.is_damaged(&self.donors[*number].path)) {
                opened = None;
            }
        }
        Ok(copied)
    }
}

/// Cuts what was found into runs of consecutive blocks which can be stored at once.
fn runs<'f>(found: &'f [(&'f u64, &'f (usize, u64))]) -> impl Iterator<Item = &'f [(&'f u64, &'f (usize, u64))]> {
    const BLOCKS: usize = RUN_BYTES_MAX / BLOCK_BYTES;
    found.chunk_by(|(a, _), (b, _)| **a + 1 == **b).flat_map(|blocks| blocks.chunks(BLOCKS))
}
