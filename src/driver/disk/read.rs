//! Looking at visible trees: what is there, whether it is an image, its fingerprints, its blocks.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::{self, is};
use super::folder::LastFolder;
use super::fs::{Access, FileSystem, Kind, Stat};
use super::place::Place;
use super::stage::{MODE_EXECUTABLE, expected_kind, file_path, mode_of};
use super::verify::{self, Checker};
use crate::model::block_set::BlockSet;
use crate::model::disk_task::{Sealed, Target};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::{FileIdentity, Fingerprint};
use crate::model::image::{BlockPlace, Directory, EntryKind, Image};
use crate::model::limits::CHECK_BYTES_MAX;
use crate::model::run::Run;

/// Where a tree isn't what the image says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Differs {
    pub(super) path: PathBuf,
    pub(super) what: &'static str,
}

/// What [`inspect`] asks for besides names, kinds, sizes and modes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Strictness<'a> {
    /// Files have no other name, but those with these numbers.
    Own(&'a BlockSet),
    /// Files may be shared.
    Shared,
}

/// What is visible at the place, `None` if nothing is. `Hostile` if it isn't a directory.
pub fn look<F: FileSystem>(fs: &F, place: &Place) -> Result<Option<Target>, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let target = place.target();
    let stat = match fs.stat(&root, target) {
        Err(e) if is(&e, Errno::NOENT) => return Ok(None),
        other => other.map_err(|e| error::at(place, "look at", target, &e))?,
    };
    if stat.kind != Kind::Directory {
        return Err(error::found(
            FailureKind::Occupied,
            place,
            target,
            "isn't a directory; move it away, then publish again",
        ));
    }
    let names = fs.read_dir(&root, target).map_err(|e| error::at(place, "list", target, &e))?;
    Ok(Some(Target { identity: identity_of(&stat), empty: names.is_empty() }))
}

fn identity_of(stat: &Stat) -> FileIdentity {
    FileIdentity { dev: stat.dev, ino: stat.ino }
}

/// The visible tree's identity and its files' fingerprints in image order; `None` if its shape isn't the image's.
pub fn fingerprints<F: FileSystem>(fs: &F, place: &Place, image: &Image) -> Result<Option<Sealed>, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    Ok(inspect(fs, &root, place, place.target(), image, Strictness::Shared)?.ok())
}

/// Whether the visible tree is exactly the image, every block hashed; if it is, it is durable afterwards.
pub fn adopt<F: FileSystem>(fs: &F, place: &Place, image: &Image) -> Result<Option<Sealed>, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let shape = || inspect(fs, &root, place, place.target(), image, Strictness::Shared);
    let Ok(before) = shape()? else { return Ok(None) };
    if !content_is(fs, &root, place, image)? {
        return Ok(None);
    }
    fs.syncfs(&root).map_err(|e| error::at(place, "sync the file system of", place.target(), &e))?;
    // Changed while it was read: then it isn't known what it is.
    Ok(shape()?.ok().filter(|after| *after == before))
}

/// Hashes every block of the visible tree, as far as the first wrong one.
fn content_is<F: FileSystem>(fs: &F, root: &F::Root, place: &Place, image: &Image) -> Result<bool, Failure> {
    let mut checker = Checker::new(image);
    let mut right = true;
    for file in image.files() {
        let path = file_path(place.target(), file.directory, file.name);
        if file.size == 0 {
            continue;
        }
        let handle = fs.open_file(root, &path, Access::Read).map_err(|e| error::at(place, "open", &path, &e))?;
        let mut offset = 0;
        let mut block = file.first_block;
        while offset < file.size {
            let step = usize::try_from(file.size - offset).map_or(CHECK_BYTES_MAX, |left| left.min(CHECK_BYTES_MAX));
            let room = checker.room(step);
            let read = fs.read_at(&handle, offset, room).map_err(|e| error::at(place, "read", &path, &e))?;
            right &= read == step;
            block = checker.filled_with(block, step);
            offset += step as u64;
            if checker.is_full() {
                checker.flush(|_, _, good| right &= good);
            }
            if !right {
                return Ok(false);
            }
        }
    }
    checker.flush(|_, _, good| right &= good);
    Ok(right)
}

/// Compares the shape of the tree at `top` with the image's: names, kinds, link targets, sizes and modes.
pub(super) fn inspect<F: FileSystem>(
    fs: &F,
    root: &F::Root,
    place: &Place,
    top: &Path,
    image: &Image,
    strictness: Strictness<'_>,
) -> Result<Result<Sealed, Differs>, Failure> {
    let inspection = Inspection { fs, root, place, top, image, strictness };
    let mut fingerprints = Vec::new();
    let mut identity = None;
    for directory in image.directories() {
        match inspection.directory(directory, &mut fingerprints)? {
            Ok(stat) => identity = identity.or(Some(identity_of(&stat))),
            Err(differs) => return Ok(Err(differs)),
        }
    }
    let root = identity.ok_or_else(|| error::found(FailureKind::Io, place, top, "the image has no root directory"))?;
    Ok(Ok(Sealed { root, fingerprints }))
}

/// One call of [`inspect`].
struct Inspection<'a, F: FileSystem> {
    fs: &'a F,
    root: &'a F::Root,
    place: &'a Place,
    top: &'a Path,
    image: &'a Image,
    strictness: Strictness<'a>,
}

impl<F: FileSystem> Inspection<'_, F> {
    fn directory(
        &self,
        directory: &Directory,
        fingerprints: &mut Vec<Fingerprint>,
    ) -> Result<Result<Stat, Differs>, Failure> {
        let path = if directory.path.is_empty() { self.top.to_owned() } else { self.top.join(&*directory.path) };
        let differs = |path: &Path, what| Ok(Err(Differs { path: path.to_owned(), what }));
        let stat = match self.stat(&path)? {
            Some(stat) if stat.kind == Kind::Directory && stat.mode == MODE_EXECUTABLE => stat,
            _ => return differs(&path, "isn't the image's directory"),
        };
        let folder = self.fs.open_dir(self.root, &path).map_err(|e| error::at(self.place, "open", &path, &e))?;
        let names = self.fs.read_dir(&folder, Path::new("")).map_err(|e| error::at(self.place, "list", &path, &e))?;
        for name in &names {
            if expected_kind(self.image, directory, &name.name) != Some(name.kind) {
                return differs(&path.join(&name.name), "isn't in the image, or as something else");
            }
        }
        for entry in &directory.entries {
            let name = Path::new(entry.name);
            let path = || path.join(name);
            match &entry.kind {
                EntryKind::Symlink { target } => {
                    if names.binary_search_by(|found| (*found.name).cmp(name.as_os_str())).is_err() {
                        return differs(&path(), "is missing");
                    }
                    let found = self.fs.read_link(&folder, name);
                    if found.map_err(|e| error::at(self.place, "read the link", &path(), &e))? != **target {
                        return differs(&path(), "points to something else");
                    }
                }
                EntryKind::File { size, executable, .. } => {
                    let stat = match self.fs.stat(&folder, name) {
                        Ok(stat) => stat,
                        Err(e) if is(&e, Errno::NOENT) => return differs(&path(), "is missing"),
                        Err(e) => return Err(error::at(self.place, "look at", &path(), &e)),
                    };
                    let number = fingerprints.len() as u64;
                    let shared = match self.strictness {
                        Strictness::Own(linked) => stat.links != 1 && !linked.contains(number),
                        Strictness::Shared => false,
                    };
                    if stat.kind != Kind::File || stat.size != *size || stat.mode != mode_of(*executable) || shared {
                        return differs(&path(), "has another size, mode or number of names");
                    }
                    fingerprints.push(stat.fingerprint());
                }
            }
        }
        Ok(Ok(stat))
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>, Failure> {
        match self.fs.stat(self.root, path) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if is(&e, Errno::NOENT) => Ok(None),
            Err(e) => Err(error::at(self.place, "look at", path, &e)),
        }
    }
}

/// Which of a place's trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// What everyone sees.
    Visible,
    /// What is being staged.
    Staged,
    /// The same, of which all that is read was checked when it was stored.
    Stored,
}

/// Reads the bytes of `run` from a tree into `out`, which has their length, checked. Returns the numbers of the blocks whose
/// bytes aren't the image's (or aren't there): if there are any, `out` must not be used.
pub fn read_run<F: FileSystem>(
    fs: &F,
    (place, tree): (&Place, Tree),
    image: &Image,
    run: Run,
    out: &mut [u8],
) -> Result<Vec<u64>, Failure> {
    if run.bytes(image) != Some(out.len()) {
        return Err(error::found(FailureKind::Io, place, place.target(), "the run is beyond the image"));
    }
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let staged = place.tree();
    let top = match tree {
        Tree::Visible => place.target(),
        Tree::Staged | Tree::Stored => &staged,
    };
    let mut bad = fill(fs, &root, (place, top), image, run, out)?;
    if tree != Tree::Stored {
        bad.append(&mut wrong(image, run, out));
        bad.sort_unstable();
        bad.dedup();
    }
    Ok(bad)
}

/// The numbers of the blocks whose bytes aren't the image's.
fn wrong(image: &Image, run: Run, mut bytes: &[u8]) -> Vec<u64> {
    let places = run.blocks().filter_map(|block| image.place(block));
    let blocks: Vec<_> = places.map_while(|place| bytes.split_off(..place.len)).collect();
    verify::wrong(image, run.first, &blocks)
}

/// Reads the run's bytes into `buffer`, each file's blocks at once; gives the numbers of the blocks that aren't there.
fn fill<F: FileSystem>(
    fs: &F,
    root: &F::Root,
    (place, top): (&Place, &Path),
    image: &Image,
    run: Run,
    buffer: &mut [u8],
) -> Result<Vec<u64>, Failure> {
    let places: Vec<_> = run.blocks().filter_map(|block| image.place(block)).collect();
    let mut missing = Vec::new();
    let mut rest = &mut *buffer;
    let mut block = run.first;
    let mut folder = LastFolder::none();
    for blocks in places.chunk_by(BlockPlace::same_file) {
        let (here, tail) = rest.split_at_mut(blocks.iter().map(|place| place.len).sum());
        rest = tail;
        let (file, offset) = (&blocks[0].file, blocks[0].offset);
        let failed = |what, e| error::at(place, what, &file_path(top, file.directory, file.name), &e);
        let directory = Path::new(&*file.directory.path);
        let folder = folder.get(top, directory, || fs.open_dir(root, &top.join(directory)));
        let opened = folder.and_then(|folder| fs.open_file(folder, Path::new(file.name), Access::Read));
        let read = match opened {
            Err(e) if is(&e, Errno::NOENT) => 0,
            Err(e) => return Err(failed("open", e)),
            Ok(file) => fs.read_at(&file, offset, here).map_err(|e| failed("read", e))?,
        };
        let mut end = 0;
        for place in blocks {
            end += place.len;
            if read < end {
                missing.push(block);
            }
            block += 1;
        }
    }
    Ok(missing)
}
