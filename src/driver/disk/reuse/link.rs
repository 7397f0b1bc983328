//! Whole files: shared with the tree that has them, if the file there is what it was.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::sources::Trees;
use super::{Donor, Library, SiblingTree};
use crate::driver::disk::collect::{touch, unlink};
use crate::driver::disk::error::{is, unsupported};
use crate::driver::disk::folder::LastFolder;
use crate::driver::disk::fs::{FileSystem, Stat};
use crate::driver::disk::stage::mode_of;
use crate::driver::disk::verify::Checker;
use crate::model::fingerprint::{FileIdentity, Fingerprint};
use crate::model::image::{FileRef, Image};
use crate::model::limits::CHECK_BYTES_MAX;
use crate::model::origins::Way;
use crate::model::reuse::{Source, Touch};

/// Shares files.
pub(in crate::driver::disk) struct Linker<'a, F: FileSystem> {
    fs: &'a F,
    root: &'a F::Root,
    image: &'a Image,
    pub(in crate::driver::disk) trees: Trees<'a, F>,
    /// What each inode was when its content was known last, `None`: it is wrong. The key's device is the one that it has now.
    known: BTreeMap<FileIdentity, Option<Fingerprint>>,
    pub(in crate::driver::disk) touches: Vec<Touch>,
    /// The directory of the staged tree that was used last.
    folder: LastFolder<F::Root>,
    /// The file system may be able to share extents.
    clones: bool,
    /// How many files were hashed.
    pub(in crate::driver::disk) rehashed: u64,
    /// Sources of blocks, each with the number of the file's first block and its size.
    pub(in crate::driver::disk) donors: Vec<(FileOf, Donor)>,
}

/// Which file of the image.
pub(in crate::driver::disk) type FileOf = (u64, u64);

impl<'a, F: FileSystem> Linker<'a, F> {
    pub(in crate::driver::disk) fn new(fs: &'a F, root: &'a F::Root, image: &'a Image) -> Self {
        let (known, touches, donors) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self {
            fs,
            root,
            image,
            trees: Trees::new(fs),
            known,
            touches,
            folder: LastFolder::none(),
            clones: true,
            rehashed: 0,
            donors,
        }
    }

    /// Where the contents of the files should be, but for siblings with which something is known to be wrong.
    pub(in crate::driver::disk) fn look_up(
        &self,
        library: &dyn Library,
        siblings: &[SiblingTree],
        files: &[FileRef<'_>],
    ) -> Vec<Vec<Source>> {
        let mut all = library.sources(self.image, files);
        for sources in &mut all {
            sources.retain(|source| !siblings.iter().any(|sibling| sibling.taints(source)));
        }
        all
    }

    /// Tells the library of inodes that were touched. From then on it knows them.
    pub(in crate::driver::disk) fn tell(&mut self, library: &dyn Library) {
        library.touched(std::mem::take(&mut self.touches));
        self.known.retain(|_, known| known.is_none());
    }

    /// Puts the file at `path` if one of the sources can be shared. `present`: an inode with several names is there
    /// already, which is right if it is the source's; otherwise it goes. An error: the tree can't be written to.
    pub(in crate::driver::disk) fn link(
        &mut self,
        file: &FileRef<'_>,
        path: &Path,
        present: Option<Stat>,
        sources: Vec<Source>,
    ) -> io::Result<bool> {
        let mut present = present;
        for source in sources {
            let donor = Donor::of(&source.path, &source.tree, &source.file);
            let Some(stat) = self.trusted(file, &source, &donor) else { continue };
            if source.executable == file.executable && stat.mode == mode_of(file.executable) {
                if present.is_some_and(|present| (present.dev, present.ino) == (stat.dev, stat.ino)) {
                    self.trees.took(Way::Linked, &source.path, file.size);
                    return Ok(true);
                }
                if present.take().is_some() {
                    unlink(self.fs, self.root, path, &mut self.touches)?;
                }
                if self.share(&donor, &stat, path, file.executable)? {
                    self.trees.took(Way::Linked, &source.path, file.size);
                    return Ok(true);
                }
            }
            self.donors.push(((file.first_block, file.size), donor));
            break;
        }
        if present.is_some() {
            unlink(self.fs, self.root, path, &mut self.touches)?;
        }
        Ok(false)
    }

    /// Whether the file would be linked; otherwise a donor of its blocks is noted, if there is one. Nothing is hashed: what would have to
    /// be isn't used.
    pub(in crate::driver::disk) fn would_link(&mut self, file: &FileRef<'_>, sources: &[Source]) -> bool {
        for source in sources {
            let donor = Donor::of(&source.path, &source.tree, &source.file);
            let Some(stat) = self.trees.stat(&donor) else { continue };
            if source.fingerprint != Some(stat.fingerprint()) {
                continue;
            }
            if source.executable == file.executable && stat.mode == mode_of(file.executable) {
                return true;
            }
            self.donors.push(((file.first_block, file.size), donor));
            return false;
        }
        false
    }

    /// What the file is, if its content is right.
    fn trusted(&mut self, file: &FileRef<'_>, source: &Source, donor: &Donor) -> Option<Stat> {
        let known = |linker: &Self, stat: &Stat| linker.known.get(&identity(stat)).copied();
        let stat = self.trees.stat(donor)?;
        if known(self, &stat).unwrap_or(source.fingerprint) == Some(stat.fingerprint()) {
            return Some(stat);
        }
        let opened = self.trees.open(donor)?;
        let stat = self.fs.file_stat(&opened).ok()?;
        let (identity, known) = (identity(&stat), known(self, &stat));
        self.rehashed += 1;
        let right = stat.size == file.size && content_is(self.fs, &opened, self.image, file)?;
        // Written to while it was read: then it isn't known what it is. Others may have linked it meanwhile.
        let after = self.fs.file_stat(&opened).ok()?;
        let right = right && touch(&stat, &after).is_some();
        self.known.insert(identity, right.then(|| after.fingerprint()));
        if !right {
            self.trees.damage(donor, "was changed on this node");
            return None;
        }
        let before = source.fingerprint.filter(|_| known.is_none());
        let dev = source.tree.root.dev;
        self.touches.extend(before.map(|before| Touch { dev, before, after: after.fingerprint() }));
        Some(after)
    }

    /// Gives the file's data a name in the staged tree; `false` if the file system doesn't, or the file is another one by now.
    fn share(&mut self, donor: &Donor, before: &Stat, path: &Path, executable: bool) -> io::Result<bool> {
        if self.clones {
            let Some(opened) = self.trees.open(donor) else { return Ok(false) };
            match self.clone_to(&opened, path, executable) {
                Ok(()) => {
                    let after = self.fs.file_stat(&opened);
                    return self.unless_changed(before, after.ok(), path).map(|after| after.is_some());
                }
                Err(e) if unsupported(&e) || is(&e, Errno::XDEV) || is(&e, Errno::NOTTY) => {
                    self.fs.unlink(self.root, path)?;
                    self.clones = false;
                }
                Err(e) => return Err(e),
            }
        }
        let fs = self.fs;
        let Ok(from) = self.trees.folder(donor) else { return Ok(false) };
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL.into()) };
        // Always of the same tree.
        let folder = self.folder.get(Path::new(""), above, || fs.open_dir(self.root, above))?;
        let to = (folder, Path::new(name));
        match fs.link_name(from, to) {
            Ok(()) => {}
            Err(e) if is(&e, Errno::NOSPC) || is(&e, Errno::DQUOT) || is(&e, Errno::IO) => return Err(e),
            // Too many names, another file system, not allowed here.
            Err(_) if fs.stat(to.0, to.1).is_err() => return Ok(false),
            Err(e) => return Err(e),
        }
        // By its new name: whatever it was that was linked.
        let after = fs.stat(to.0, to.1).ok();
        let Some(after) = self.unless_changed(before, after, path)? else { return Ok(false) };
        self.known.insert(identity(&after), Some(after.fingerprint()));
        self.touches.extend(touch(before, &after));
        Ok(true)
    }

    fn clone_to(&self, opened: &F::File, path: &Path, executable: bool) -> io::Result<()> {
        let made = self.fs.create_file(self.root, path, mode_of(executable))?;
        self.fs.clone_file(opened, &made)
    }

    /// What the source is now; if it is another one, or somebody has changed it meanwhile, the new name goes.
    fn unless_changed(&self, before: &Stat, after: Option<Stat>, path: &Path) -> io::Result<Option<Stat>> {
        match after {
            Some(after) if touch(before, &after).is_some() => Ok(Some(after)),
            _ => self.fs.unlink(self.root, path).map(|()| None),
        }
    }
}

fn identity(stat: &Stat) -> FileIdentity {
    FileIdentity { dev: stat.dev, ino: stat.ino }
}

/// Hashes the whole file; `None` if it can't be read.
fn content_is<F: FileSystem>(fs: &F, opened: &F::File, image: &Image, file: &FileRef<'_>) -> Option<bool> {
    let mut checker = Checker::new(image);
    let mut block = file.first_block;
    let (mut offset, mut right) = (0, true);
    while offset < file.size && right {
        let step = usize::try_from(file.size - offset).map_or(CHECK_BYTES_MAX, |left| left.min(CHECK_BYTES_MAX));
        right = fs.read_at(opened, offset, checker.room(step)).ok()? == step;
        block = checker.filled_with(block, step);
        checker.flush(|_, _, good| right &= good);
        offset += step as u64;
    }
    Some(right)
}
