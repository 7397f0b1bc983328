//! Trees for tests: what they hold, the image of it, and what a file system has of it.

use std::collections::BTreeMap;
use std::path::Path;

use ciruela::driver::disk::fs::{Access, FileSystem, Kind};
use ciruela::driver::disk::place::Place;
use ciruela::driver::disk::store::store;
use ciruela::model::block_set::BlockSet;
use ciruela::model::directory::DirectoryConfig;
use ciruela::model::failure::Failure;
use ciruela::model::hash_kind::HashKind;
use ciruela::model::ids::{BlockHash, ImageId};
use ciruela::model::image::{Image, ImageBuilder, directory_order};
use ciruela::model::limits::BLOCK_BYTES;
use ciruela::model::run::{Run, runs_of};
use ciruela::model::vpath::VPath;

use super::power::Random;

/// What is at a path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Directory { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Symlink(String),
}

/// A tree with its image.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) id: ImageId,
    pub(crate) image: Image,
    pub(crate) items: BTreeMap<String, Item>,
}

fn hash(bytes: &[u8]) -> BlockHash {
    let hash = blake2b_simd::Params::new().hash_length(32).hash(bytes);
    BlockHash::from_slice(hash.as_bytes()).expect("32 bytes")
}

pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.next().to_le_bytes()[0]).collect()
}

impl Sample {
    /// Files of all sorts: `version` decides what is in them and which there are.
    pub(crate) fn new(version: u8) -> Self {
        let v = u64::from(version);
        let file = |seed: u64, len: usize| Item::File { mode: 0o644, bytes: bytes(v << 32 | seed, len) };
        let directory = Item::Directory { mode: 0o755 };
        let mut items = BTreeMap::from([
            (String::new(), directory.clone()),
            ("a".into(), file(1, 100)),
            ("empty".into(), file(2, 0)),
            ("sub".into(), directory.clone()),
            ("sub/deep".into(), directory.clone()),
            ("sub/deep/blocks".into(), file(3, BLOCK_BYTES * 2 + 77)),
            ("sub/link".into(), Item::Symlink("../a".into())),
            ("sub/run".into(), Item::File { mode: 0o755, bytes: bytes(v << 32 | 4, 33) }),
            ("version".into(), file(5, 10)),
            (format!("only-in-{version}"), directory),
            (format!("only-in-{version}/x"), file(6, 5)),
        ]);
        // A name that is a link in one version and a file in the next.
        let turns = if version.is_multiple_of(2) { Item::Symlink("a".into()) } else { file(7, 9) };
        items.insert("turns".into(), turns);
        Self::of(version, items)
    }

    /// One file that is large enough for its space to be reserved.
    pub(crate) fn large(version: u8) -> Self {
        let large = Item::File { mode: 0o644, bytes: bytes(9, (1 << 20) + 5 * BLOCK_BYTES + 1) };
        let items = [(String::new(), Item::Directory { mode: 0o755 }), ("large".into(), large)];
        Self::of(version, BTreeMap::from(items))
    }

    pub(crate) fn of(version: u8, items: BTreeMap<String, Item>) -> Self {
        let mut directories: Vec<_> = items
            .iter()
            .filter(|(_, item)| matches!(item, Item::Directory { .. }))
            .map(|(path, _)| path.as_str())
            .collect();
        directories.sort_by(|a, b| directory_order(a, b));
        let mut builder = ImageBuilder::new(HashKind::Blake2b256);
        for directory in directories {
            builder.directory(directory).expect("sorted");
            for (path, item) in &items {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                if parent != directory || name.is_empty() {
                    continue;
                }
                match item {
                    Item::Directory { .. } => {}
                    Item::Symlink(target) => builder.symlink(name, target).expect("valid"),
                    Item::File { mode, bytes } => {
                        let hashes: Vec<_> = bytes.chunks(BLOCK_BYTES).map(hash).collect();
                        builder.file(name, *mode == 0o755, bytes.len() as u64, &hashes).expect("valid");
                    }
                }
            }
        }
        Self { id: ImageId::new([version; 32]), image: builder.finish().expect("complete"), items }
    }

    /// The bytes of a run.
    pub(crate) fn data(&self, run: Run) -> Vec<u8> {
        let mut data = Vec::new();
        for block in run.blocks() {
            let place = self.image.place(block).expect("in the image");
            let Some(Item::File { bytes, .. }) = self.items.get(&place.file.path()) else { panic!("no such file") };
            let start = usize::try_from(place.offset).expect("small");
            data.extend_from_slice(&bytes[start..start + place.len]);
        }
        data
    }

    /// Stores all blocks that aren't there yet, in runs of at most two.
    pub(crate) fn store_missing<F: FileSystem>(&self, fs: &F, place: &Place, have: &BlockSet) -> Result<(), Failure> {
        for run in runs_of(&self.image) {
            let missing: Vec<_> = run.blocks().filter(|block| !have.contains(*block)).collect();
            for blocks in missing.chunk_by(|a, b| a + 1 == *b).flat_map(|blocks| blocks.chunks(2)) {
                let run = Run { first: blocks[0], count: u32::try_from(blocks.len()).expect("at most two") };
                let stored = store(fs, place, &self.image, run, &self.data(run))?;
                assert_eq!(stored.bad, Vec::<u64>::new(), "right blocks were called wrong");
            }
        }
        Ok(())
    }
}

/// All that is at `path` below `base`; empty if nothing is.
pub(crate) fn read_tree<F: FileSystem>(fs: &F, base: &Path, path: &Path) -> BTreeMap<String, Item> {
    let root = fs.open_root(base).expect("the base is there");
    let mut items = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(relative) = todo.pop() {
        let at = if relative.is_empty() { path.to_owned() } else { path.join(&relative) };
        let Ok(stat) = fs.stat(&root, &at) else { continue };
        let item = match stat.kind {
            Kind::Directory => {
                for entry in fs.read_dir(&root, &at).expect("readable") {
                    let name = entry.name.to_str().expect("plain names");
                    todo.push(if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") });
                }
                Item::Directory { mode: stat.mode }
            }
            Kind::File => {
                let mut bytes = vec![0; usize::try_from(stat.size).expect("small")];
                let file = fs.open_file(&root, &at, Access::Read).expect("readable");
                assert_eq!(fs.read_at(&file, 0, &mut bytes).expect("readable"), bytes.len());
                Item::File { mode: stat.mode, bytes }
            }
            Kind::Symlink => {
                Item::Symlink(fs.read_link(&root, &at).expect("readable").into_string().expect("plain text"))
            }
            Kind::Other => panic!("{} is a device", at.display()),
        };
        items.insert(relative, item);
    }
    items
}

pub(crate) fn config(directory: &Path, num_levels: usize) -> DirectoryConfig {
    DirectoryConfig { num_levels, ..DirectoryConfig::plain("key", directory.to_owned()) }
}

pub(crate) fn vpath(text: &str) -> VPath {
    text.parse().expect("a valid path")
}
