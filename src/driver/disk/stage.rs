//! Making the staged tree, or taking up again what an earlier attempt left of it.
//!
//! Directories, links, empty files and large files are made at once; other files when `store` gets their first block. What the
//! node has elsewhere is linked or copied before that, and only for what is left then space is asked for.
//! What is found is trusted in nothing: every block is hashed again, and whatever the image doesn't have is removed.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::collect::{clear_all, put_back};
use super::error::{self, is};
use super::fs::{Access, FileSystem, Kind};
use super::place::Place;
use super::reuse::{Copier, Library, Linker, SiblingTree};
use super::verify::Checker;
use crate::model::block_set::BlockSet;
use crate::model::failure::{Failure, FailureKind};
use crate::model::ids::ImageId;
use crate::model::image::{Directory, EntryKind, FileRef, Image, blocks_of, directory_order};
use crate::model::limits::{
    BLOCK_BYTES, CHECK_BYTES_MAX, FILES_LOOKED_UP_MAX, PREALLOCATE_BYTES_MIN, STAGING_DIR_NAME, TOUCHES_GATHERED_MAX,
};
use crate::model::reuse::Reused;

/// Mode of directories, and of files that may be executed.
pub(super) const MODE_EXECUTABLE: u32 = 0o755;
/// Mode of other files.
pub(super) const MODE_PLAIN: u32 = 0o644;
/// Mode of the staging directories: what is in them is nobody else's.
const MODE_STAGING: u32 = 0o700;
/// What a small file takes on most file systems is a multiple of this.
pub(super) const SPACE_UNIT_BYTES: u64 = 4_096;

/// A tree that is ready for blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Blocks that are there, and right.
    pub have: BlockSet,
    /// Bytes of those that were there before.
    pub kept_bytes: u64,
    /// What was found elsewhere on this node.
    pub reused: Reused,
}

pub(super) fn mode_of(executable: bool) -> u32 {
    if executable { MODE_EXECUTABLE } else { MODE_PLAIN }
}

/// Makes the staged tree of `image`, or resumes the one that is there for the same image; another image's is removed. Uses
/// what the library knows, and blocks of the siblings. `NoSpace` if the file system has too little for what is missing then.
pub fn stage<F: FileSystem>(
    fs: &F,
    library: &dyn Library,
    place: &Place,
    (id, image): (ImageId, &Image),
    siblings: &[SiblingTree],
) -> Result<Staged, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    make_staging(fs, &root, place)?;
    put_back(fs, &root, place)?;
    let resume = can_resume(fs, &root, place, id)?;
    super::commit::unseal(fs, &root, place)?;
    let stage = Stage { fs, root: &root, place, image };
    if !resume {
        let staging = place.staging();
        let mut touches = Vec::new();
        let cleared = clear_all(fs, &root, &staging, &mut touches);
        library.touched(touches);
        cleared.map_err(|e| error::at(place, "remove", &staging, &e))?;
        stage.check_space(0, std::iter::empty(), (image.entry_count() - image.files().count()) as u64)?;
        make_staging(fs, &root, place)?;
        let marker = place.marker();
        fs.symlink(&root, OsStr::new(&id.to_string()), &marker)
            .map_err(|e| error::at(place, "create the link", &marker, &e))?;
    }
    stage.run(library, siblings)
}

/// Makes the staging directories of the base and of the path, as far as they are missing.
pub(super) fn make_staging<F: FileSystem>(fs: &F, root: &F::Root, place: &Place) -> Result<(), Failure> {
    make_private(fs, root, place.base(), Path::new(STAGING_DIR_NAME))?;
    make_private(fs, root, place.base(), &place.staging())
}

/// Makes a directory that only the daemon may use. If it is there, nobody else may be able to write to it.
pub(super) fn make_private<F: FileSystem>(fs: &F, root: &F::Root, base: &Path, path: &Path) -> Result<(), Failure> {
    match fs.mkdir(root, path, MODE_STAGING) {
        Ok(()) => return Ok(()),
        Err(e) if is(&e, Errno::EXIST) => {}
        Err(e) => return Err(error::below(base, "create the directory", path, &e)),
    }
    let stat = fs.stat(root, path).map_err(|e| error::below(base, "look at", path, &e))?;
    if stat.kind != Kind::Directory || stat.mode & 0o022 != 0 {
        let what = "must be a directory that only the daemon can write to";
        return Err(error::found_below(FailureKind::Hostile, base, path, what));
    }
    Ok(())
}

/// Whether what is staged belongs to this image, and isn't the old tree that an exchange left there.
fn can_resume<F: FileSystem>(fs: &F, root: &F::Root, place: &Place, id: ImageId) -> Result<bool, Failure> {
    let marker = place.marker();
    match fs.read_link(root, &marker) {
        Ok(target) if target == OsStr::new(&id.to_string()) => {}
        Ok(_) => return Ok(false),
        Err(e) if is(&e, Errno::NOENT) || is(&e, Errno::INVAL) => return Ok(false),
        Err(e) => return Err(error::at(place, "read the link", &marker, &e)),
    }
    let Some(sealed) = super::commit::sealed(fs, root, place)? else { return Ok(true) };
    let tree = place.tree();
    match fs.stat(root, &tree) {
        Ok(stat) => Ok(stat.ino == sealed),
        Err(e) if is(&e, Errno::NOENT) => Ok(false),
        Err(e) => Err(error::at(place, "look at", &tree, &e)),
    }
}

/// One call of [`stage`].
struct Stage<'a, F: FileSystem> {
    fs: &'a F,
    root: &'a F::Root,
    place: &'a Place,
    image: &'a Image,
}

/// What is found out about the tree on the way.
struct Found<'a> {
    have: BlockSet,
    kept_bytes: u64,
    checker: Checker<'a>,
    /// Files that aren't there, or only as somebody else's, by number in index order.
    missing: BlockSet,
    /// Of these: what is there instead, an inode with several names.
    shared: BlockSet,
    /// Bytes of files that are there but not whole, whose space may not be reserved.
    partial_bytes: u64,
}

impl Found<'_> {
    fn flush(&mut self) {
        let (have, kept_bytes) = (&mut self.have, &mut self.kept_bytes);
        self.checker.flush(|block, len, good| {
            if good && have.insert(block) {
                *kept_bytes += len as u64;
            }
        });
    }
}

impl<'a, F: FileSystem> Stage<'a, F> {
    fn run(&self, library: &dyn Library, siblings: &[SiblingTree]) -> Result<Staged, Failure> {
        let mut found = self.shape()?;
        let mut linker = Linker::new(self.fs, self.root, self.image);
        let mut reused = Reused::nothing(found.missing.len());
        let linked = self.link((library, siblings), &mut found, &mut linker, &mut reused);
        linker.tell(library);
        linked?;
        self.create_missing(&found)?;
        let mut copier = Copier::new(self.image);
        linker.donors.drain(..).for_each(|(file, donor)| copier.add(file, donor));
        copier.search(library, &found.have, siblings);
        reused.bytes_copied = copier.copy(self.fs, self.place, &mut linker.trees, &mut found.have)?;
        reused.rehashed = linker.rehashed;
        (reused.damaged, reused.sources) = linker.trees.end();
        Ok(Staged { have: found.have, kept_bytes: found.kept_bytes, reused })
    }

    /// Makes directories and links, and looks at the files that are there.
    fn shape(&self) -> Result<Found<'a>, Failure> {
        let tree = self.place.tree();
        let have = BlockSet::none(self.image.block_count());
        let checker = Checker::new(self.image);
        let files = BlockSet::none(self.image.files().count() as u64);
        let mut found = Found { have, kept_bytes: 0, checker, missing: files.clone(), shared: files, partial_bytes: 0 };
        let mut number = 0;
        for directory in self.image.directories() {
            let path = if directory.path.is_empty() { tree.clone() } else { tree.join(&*directory.path) };
            let existing = self.directory(directory, &path)?;
            for entry in &directory.entries {
                let at = path.join(entry.name);
                let exists = existing.binary_search_by(|name| (**name).cmp(OsStr::new(entry.name))).is_ok();
                if let EntryKind::Symlink { target } = entry.kind {
                    self.symlink(&at, target, exists)?;
                }
                if let Some(file) = entry.file(directory) {
                    self.file(&mut found, (number, file), &at, exists)?;
                    number += 1;
                }
            }
        }
        found.flush();
        Ok(found)
    }

    /// Links those of the missing files which are elsewhere on this node.
    fn link(
        &self,
        (library, siblings): (&dyn Library, &[SiblingTree]),
        found: &mut Found<'a>,
        linker: &mut Linker<'_, F>,
        reused: &mut Reused,
    ) -> Result<(), Failure> {
        let Found { missing, shared, have, .. } = found;
        let mut files = self.numbered(missing);
        loop {
            let (numbers, some): (Vec<_>, Vec<_>) = files.by_ref().take(FILES_LOOKED_UP_MAX).unzip();
            if some.is_empty() {
                break;
            }
            for ((number, file), sources) in numbers.iter().zip(&some).zip(linker.look_up(library, siblings, &some)) {
                let path = file_path(&self.place.tree(), file.directory, file.name);
                let sources = if file.size == 0 { Vec::new() } else { sources };
                let fail = |e| error::at(self.place, "link the file", &path, &e);
                let present = shared.contains(*number).then(|| self.fs.stat(self.root, &path)).transpose();
                if linker.link(file, &path, present.map_err(fail)?, sources).map_err(fail)? {
                    reused.linked.insert(*number);
                    reused.bytes_linked += file.size;
                    (file.first_block..file.first_block + blocks_of(file.size))
                        .for_each(|block| _ = have.insert(block));
                }
            }
            if linker.touches.len() >= TOUCHES_GATHERED_MAX {
                linker.tell(library);
            }
        }
        drop(files);
        (0..missing.len()).filter(|number| reused.linked.contains(*number)).for_each(|file| _ = missing.remove(file));
        Ok(())
    }

    /// The files of a set, with their numbers.
    fn numbered<'s>(&self, set: &'s BlockSet) -> impl Iterator<Item = (u64, FileRef<'a>)> + use<'s, 'a, F> {
        (0..).zip(self.image.files()).filter(|(number, _)| set.contains(*number))
    }

    /// Makes the directory, or removes from it what doesn't belong there; gives the names that are left, sorted.
    fn directory(&self, directory: &Directory, path: &Path) -> Result<Vec<std::ffi::OsString>, Failure> {
        let fail = |what: &str, e: &io::Error| error::at(self.place, what, path, e);
        match self.fs.stat(self.root, path) {
            Ok(stat) if stat.kind == Kind::Directory && stat.mode == MODE_EXECUTABLE => {}
            Err(e) if !is(&e, Errno::NOENT) => return Err(fail("look at", &e)),
            other => {
                if other.is_ok() {
                    self.remove(path).map_err(|e| fail("remove", &e))?;
                }
                self.fs.mkdir(self.root, path, MODE_EXECUTABLE).map_err(|e| fail("create the directory", &e))?;
                return Ok(Vec::new());
            }
        }
        let mut names = Vec::new();
        for entry in self.fs.read_dir(self.root, path).map_err(|e| fail("list", &e))? {
            if expected_kind(self.image, directory, &entry.name) == Some(entry.kind) {
                names.push(entry.name);
            } else {
                let path = path.join(&entry.name);
                self.remove(&path).map_err(|e| error::at(self.place, "remove", &path, &e))?;
            }
        }
        Ok(names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        clear_all(self.fs, self.root, path, &mut Vec::new())
    }

    fn symlink(&self, path: &Path, target: &str, exists: bool) -> Result<(), Failure> {
        if exists {
            let fail = |e| error::at(self.place, "replace the link", path, &e);
            if self.fs.read_link(self.root, path).map_err(fail)? == target {
                return Ok(());
            }
            self.fs.unlink(self.root, path).map_err(fail)?;
        }
        self.fs
            .symlink(self.root, OsStr::new(target), path)
            .map_err(|e| error::at(self.place, "create the link", path, &e))
    }

    /// Hashes what is there of a file; one that we may not write to, or that is too long, is removed.
    fn file(
        &self,
        found: &mut Found<'a>,
        (number, file): (u64, FileRef<'a>),
        path: &Path,
        exists: bool,
    ) -> Result<(), Failure> {
        if !exists {
            found.missing.insert(number);
            return Ok(());
        }
        let fail = |what: &str, e: &io::Error| error::at(self.place, what, path, e);
        let stat = self.fs.stat(self.root, path).map_err(|e| fail("look at", &e))?;
        if stat.links != 1 {
            found.missing.insert(number);
            found.shared.insert(number);
            return Ok(());
        }
        if stat.mode != mode_of(file.executable) || stat.size > file.size {
            self.fs.unlink(self.root, path).map_err(|e| fail("remove", &e))?;
            found.missing.insert(number);
            return Ok(());
        }
        if stat.size < file.size {
            found.partial_bytes += file.size - stat.size;
        }
        let handle = self.fs.open_file(self.root, path, Access::Read).map_err(|e| fail("open", &e))?;
        let mut offset = 0;
        while offset < stat.size {
            let step = usize::try_from(file.size - offset).map_or(CHECK_BYTES_MAX, |left| left.min(CHECK_BYTES_MAX));
            let room = found.checker.room(step);
            // What a short file lacks stays zero, and so does hash as wrong (or is right: then only its length isn't).
            let read = self.fs.read_at(&handle, offset, room).map_err(|e| fail("read", &e))?;
            let whole = if read == step { read } else { read / BLOCK_BYTES * BLOCK_BYTES };
            found.checker.keep_last(step, whole);
            found.checker.filled_with(file.first_block + offset / BLOCK_BYTES as u64, whole);
            if found.checker.is_full() {
                found.flush();
            }
            offset += step as u64;
        }
        Ok(())
    }

    /// Makes the empty files, and the large ones with their space, once it is known that all fits.
    fn create_missing(&self, found: &Found<'a>) -> Result<(), Failure> {
        let missing = || self.numbered(&found.missing).map(|(_, file)| file);
        let bytes = missing().map(|file| file.size).sum::<u64>() + found.partial_bytes;
        self.check_space(bytes, missing(), found.missing.count())?;
        for file in missing().filter(|file| file.size == 0 || file.size >= PREALLOCATE_BYTES_MIN) {
            let path = file_path(&self.place.tree(), file.directory, file.name);
            let fail = |e| error::at(self.place, "create the file", &path, &e);
            let handle = self.fs.create_file(self.root, &path, mode_of(file.executable)).map_err(fail)?;
            if file.size > 0 {
                self.fs
                    .preallocate(&handle, file.size)
                    .map_err(|e| error::at(self.place, "reserve space for", &path, &e))?;
            }
        }
        Ok(())
    }

    /// `NoSpace` if `bytes` in `files`, or `inodes`, don't fit.
    fn check_space<'f>(
        &self,
        bytes: u64,
        files: impl Iterator<Item = FileRef<'f>>,
        inodes: u64,
    ) -> Result<(), Failure> {
        let base = Path::new("");
        let left = self.fs.free_space(self.root).map_err(|e| error::at(self.place, "look at", base, &e))?;
        let rounding = files.map(|file| file.size.next_multiple_of(SPACE_UNIT_BYTES) - file.size).sum::<u64>();
        let bytes = bytes + rounding;
        if bytes <= left.bytes && inodes <= left.inodes {
            return Ok(());
        }
        let what = format!(
            "needs {bytes} bytes and {inodes} inodes, the file system has {} and {} left",
            left.bytes, left.inodes
        );
        Err(error::found(FailureKind::NoSpace, self.place, self.place.target(), &what))
    }
}

/// The path of a file or link of a tree at `top`.
pub(super) fn file_path(top: &Path, directory: &Directory, name: &str) -> PathBuf {
    if directory.path.is_empty() { top.join(name) } else { top.join(&*directory.path).join(name) }
}

/// What the image has under this name in this directory.
pub(super) fn expected_kind(image: &Image, directory: &Directory, name: &OsStr) -> Option<Kind> {
    let name = name.to_str()?;
    if let Some(entry) = directory.entry(name) {
        return Some(match entry.kind {
            EntryKind::File { .. } => Kind::File,
            EntryKind::Symlink { .. } => Kind::Symlink,
        });
    }
    let path = directory.join(name);
    let found = image.directories().binary_search_by(|other| directory_order(&other.path, &path));
    found.is_ok().then_some(Kind::Directory)
}
