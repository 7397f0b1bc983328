//! A tree, or one file, that comes block by block in any order, each checked before it is written.
//!
//! The place should be in a folder that nobody else can write to; giving it its final name is left to others.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::engine::download::{Found, Selection, StoreError, below};
use crate::format::hash::hash_blocks;
use crate::model::escape::escaped;
use crate::model::image::{BlockPlace, EntryKind};
use crate::model::run::Run;

/// What is being written. Threads may share it.
#[derive(Debug, Default)]
pub struct Content {
    place: PathBuf,
    /// Why it must not be a directory.
    no_tree: Option<String>,
    found: OnceLock<Found>,
}

impl Content {
    /// Will be at `place`, where nothing is yet. `no_tree`: why it must not be a directory.
    pub(super) fn new(place: PathBuf, no_tree: Option<String>) -> Self {
        Self { place, no_tree, found: OnceLock::new() }
    }

    /// Makes what has no bytes: directories, links, empty files.
    pub(super) fn begin(&self, found: Found) -> Result<(), String> {
        let found = self.found.get_or_init(|| found);
        if let Selection::Link { path, target } = &found.selection {
            return Err(format!("{path:?} is a symbolic link to {target:?}: name that"));
        }
        if let (Selection::Directory { .. }, Some(reason)) = (&found.selection, &self.no_tree) {
            return Err(reason.clone());
        }
        for directory in found.selection.directories(&found.image) {
            let path = self.path(found, &directory.path);
            DirBuilder::new().mode(0o755).create(&path).map_err(|error| cannot("make the directory", &path, &error))?;
            for entry in &directory.entries {
                let path = self.path(found, &directory.join(entry.name));
                match &entry.kind {
                    EntryKind::Symlink { target } => {
                        symlink(&**target, &path).map_err(|error| cannot("make the link", &path, &error))?;
                    }
                    EntryKind::File { size: 0, executable, .. } => drop(open(&path, *executable)?),
                    EntryKind::File { .. } => {}
                }
            }
        }
        match &found.selection {
            Selection::File { path } if found.image.file(path).is_some_and(|file| file.size == 0) => {
                let executable = found.image.file(path).is_some_and(|file| file.executable);
                open(&self.place, executable).map(drop)
            }
            Selection::File { .. } | Selection::Directory { .. } | Selection::Link { .. } => Ok(()),
        }
    }

    /// Checks the blocks, then writes them.
    pub(super) fn store(&self, run: Run, data: &[u8]) -> Result<(), StoreError> {
        let found = self.found.get().ok_or_else(|| StoreError::Local("nothing was begun".to_owned()))?;
        let places: Vec<_> = run.blocks().filter_map(|block| found.image.place(block)).collect();
        let (mut blocks, mut rest) = (Vec::with_capacity(places.len()), data);
        for place in &places {
            let (block, after) = rest.split_at_checked(place.len).ok_or(StoreError::Wrong)?;
            blocks.push(block);
            rest = after;
        }
        let expected = found.image.block_hashes(run.first, u64::from(run.count));
        if !rest.is_empty() || hash_blocks(found.image.hash_kind(), &blocks) != expected {
            return Err(StoreError::Wrong);
        }
        let placed: Vec<_> = places.iter().zip(blocks).collect();
        for blocks in placed.chunk_by(|a, b| a.0.same_file(b.0)) {
            self.write(found, blocks).map_err(StoreError::Local)?;
        }
        Ok(())
    }

    /// Blocks of one file.
    fn write(&self, found: &Found, blocks: &[(&BlockPlace<'_>, &[u8])]) -> Result<(), String> {
        let Some((first, _)) = blocks.first() else { return Ok(()) };
        let path = self.path(found, &first.file.path());
        let file = open(&path, first.file.executable)?;
        for (place, block) in blocks {
            file.write_all_at(block, place.offset).map_err(|error| cannot("write", &path, &error))?;
        }
        Ok(())
    }

    /// Where an entry of the image goes.
    fn path(&self, found: &Found, inner: &str) -> PathBuf {
        match below(found.selection.path(), inner) {
            None | Some("") => self.place.clone(),
            Some(inner) => self.place.join(inner),
        }
    }
}

fn open(path: &Path, executable: bool) -> Result<File, String> {
    let mode = if executable { 0o755 } else { 0o644 };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(path);
    file.map_err(|error| cannot("write", path, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}", escaped(path.as_os_str().as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::scan::{ScanOptions, scan};

    #[test]
    fn only_what_fits_its_hash_is_written() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (source, dest) = (folder.path().join("source"), folder.path().join("dest"));
        std::fs::create_dir_all(source.join("empty")).expect("mkdir");
        let data: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).take(40_000).collect();
        std::fs::write(source.join("f"), &data).expect("write");
        let scanned = scan(&source, &ScanOptions::default(), &|_| ()).expect("readable");
        let path = "/k/x".parse().expect("valid");
        let selection = Selection::Directory { path: "".into() };
        let found = Found { path, id: scanned.id, image: scanned.image, selection };
        assert_eq!(Content::new(dest.clone(), Some("no".to_owned())).begin(found.clone()), Err("no".to_owned()));
        let content = Content::new(dest.clone(), None);
        content.begin(found).expect("made");
        let run = Run { first: 0, count: 2 };
        let mut altered = data.clone();
        altered[39_999] ^= 1;
        for wrong in [&data[..39_999], &[&data[..], &[0]].concat(), &altered, &[]] {
            assert_eq!(content.store(run, wrong), Err(StoreError::Wrong));
        }
        assert!(dest.join("empty").is_dir() && !dest.join("f").exists());
        assert_eq!(content.store(run, &data), Ok(()));
        assert_eq!(std::fs::read(dest.join("f")).expect("readable"), data);
    }
}
