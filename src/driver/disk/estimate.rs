//! What staging an image would take here: looked at, with nothing changed. See `doc/plan.md`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error;
use super::fs::{FileSystem, Kind, Space, Stat};
use super::place::Place;
use super::read::{self, Strictness};
use super::reuse::{Copier, Library, Linker, SiblingTree};
use super::stage::{SPACE_UNIT_BYTES, file_path, mode_of};
use crate::model::block_set::BlockSet;
use crate::model::estimate::{Estimate, NoEstimate};
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::Fingerprint;
use crate::model::ids::ImageId;
use crate::model::image::{EntryKind, FileRef, Image, blocks_of};
use crate::model::limits::FILES_LOOKED_UP_MAX;

/// What is known of the place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Something that this node hasn't made visible is at the target.
    pub occupied: bool,
    /// The image itself is at the target, and damaged: its files as they were when it became visible, in index order.
    pub damaged: &'a [Fingerprint],
    /// The tree that is set aside would go if there were no room otherwise.
    pub forgoes: bool,
}

/// How much of the image would be linked, copied and fetched, and whether there is room. Files whose status has changed since they were
/// known count as missing: whether they are right, only hashing would tell. So does what an earlier attempt has staged, but for its space.
pub fn estimate<F: FileSystem>(
    fs: &F,
    library: &dyn Library,
    place: &Place,
    (id, image): (ImageId, &Image),
    siblings: &[SiblingTree],
    known: Known<'_>,
) -> Result<Estimate, NoEstimate> {
    let root = fs.open_root(place.base()).map_err(|e| NoEstimate::Hindered(error::base(place.base(), &e)))?;
    let look = Look { fs, root: &root, place, image, staged: is_staged(fs, &root, place, id) };
    if known.occupied {
        look.occupant()?;
    }
    look.estimate(library, siblings, known).map_err(NoEstimate::Hindered)
}

/// Whether what is staged there would be taken up again.
fn is_staged<F: FileSystem>(fs: &F, root: &F::Root, place: &Place, id: ImageId) -> bool {
    fs.read_link(root, &place.marker()).is_ok_and(|target| target == OsStr::new(&id.to_string()))
}

struct Look<'a, F: FileSystem> {
    fs: &'a F,
    root: &'a F::Root,
    place: &'a Place,
    image: &'a Image,
    /// Some of the image is staged already.
    staged: bool,
}

impl<F: FileSystem> Look<'_, F> {
    /// What a deployment would make of a directory that isn't ours.
    fn occupant(&self) -> Result<(), NoEstimate> {
        let Self { fs, root, place, image, .. } = *self;
        let seen = read::inspect(fs, root, place, place.target(), image, Strictness::Shared);
        Err(match seen.map_err(NoEstimate::Hindered)? {
            Ok(_) => NoEstimate::Unknown(format!(
                "what is at {} looks like it already; whether it is, only reading all of it would tell",
                place.full_target().display()
            )),
            Err(_) => {
                let what = "something else is there, which isn't ours; move it away, then publish";
                NoEstimate::Hindered(error::found(FailureKind::Occupied, place, place.target(), what))
            }
        })
    }

    fn estimate(&self, library: &dyn Library, siblings: &[SiblingTree], known: Known<'_>) -> Result<Estimate, Failure> {
        let Self { fs, root, place, image, .. } = *self;
        let left = fs.free_space(root).map_err(|e| error::at(place, "look at", Path::new(""), &e))?;
        let files: Vec<FileRef<'_>> = image.files().collect();
        let (mut linker, mut have) = (Linker::new(fs, root, image), BlockSet::none(image.block_count()));
        let mut estimate = Estimate {
            files: files.len() as u64,
            bytes: image.total_bytes(),
            bytes_free: left.bytes,
            inodes_free: Some(left.inodes).filter(|inodes| *inodes < u64::MAX),
            inodes_needed: (image.entry_count() as u64).saturating_sub(self.staged_others()),
            ..Estimate::default()
        };
        let mut intact = known.damaged.iter();
        for some in files.chunks(FILES_LOOKED_UP_MAX) {
            let sources = linker.look_up(library, siblings, some);
            for (file, sources) in some.iter().zip(&sources) {
                let intact = intact.next().is_some_and(|before| self.is_intact(file, before));
                let links = linker.would_link(file, sources);
                if links {
                    estimate.files_linked += 1;
                    estimate.bytes_linked += file.size;
                    estimate.inodes_needed = estimate.inodes_needed.saturating_sub(1);
                } else {
                    self.add_needs(file, &mut estimate);
                    estimate.bytes_copied += if intact { file.size } else { 0 };
                }
                if links || intact {
                    for block in file.first_block..file.first_block + blocks_of(file.size) {
                        have.insert(block);
                    }
                }
            }
        }
        let full = !estimate.fits();
        if full {
            self.add_what_would_go(known.forgoes, &mut estimate);
        }
        let gone = full && known.forgoes;
        let siblings: Vec<_> =
            siblings.iter().filter(|sibling| !gone || !sibling.lies_at(&place.previous())).cloned().collect();
        let mut copier = Copier::new(image);
        linker.donors.drain(..).for_each(|(file, donor)| copier.add(file, donor));
        copier.search(library, &have, &siblings);
        estimate.bytes_copied += copier.bytes_found(&have);
        estimate.bytes_fetched = estimate.bytes.saturating_sub(estimate.bytes_linked + estimate.bytes_copied);
        Ok(estimate)
    }

    /// Whether a file of the damaged tree seems to be what it was. Its inode's change time tells nothing: linking changes it, too.
    fn is_intact(&self, file: &FileRef<'_>, before: &Fingerprint) -> bool {
        let path = file_path(self.place.target(), file.directory, file.name);
        let Some(now) = self.stat(&path).filter(|stat| stat.kind == Kind::File) else { return false };
        let Fingerprint { ino, size, mtime_ns, .. } = now.fingerprint();
        (ino, size, mtime_ns) == (before.ino, before.size, before.mtime_ns)
    }

    /// The space of a file that isn't linked, but for what an earlier attempt has taken of it.
    fn add_needs(&self, file: &FileRef<'_>, estimate: &mut Estimate) {
        let path = file_path(&self.place.tree(), file.directory, file.name);
        let taken = Some(path).filter(|_| self.staged).and_then(|path| self.stat(&path));
        let usable = |stat: &Stat| stat.links == 1 && stat.mode == mode_of(file.executable) && stat.size <= file.size;
        match taken.filter(|stat| stat.kind == Kind::File && usable(stat)) {
            Some(stat) => {
                estimate.bytes_needed += (file.size - stat.size).next_multiple_of(SPACE_UNIT_BYTES);
                estimate.inodes_needed = estimate.inodes_needed.saturating_sub(1);
            }
            None => estimate.bytes_needed += file.size.next_multiple_of(SPACE_UNIT_BYTES),
        }
    }

    /// How many directories and links of the image are staged.
    fn staged_others(&self) -> u64 {
        if !self.staged {
            return 0;
        }
        let tree = self.place.tree();
        let mut count = 0;
        for directory in self.image.directories() {
            let path = if directory.path.is_empty() { tree.clone() } else { tree.join(&*directory.path) };
            let links = directory.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Symlink { .. }));
            let links = links.filter(|entry| self.stat(&path.join(entry.name)).is_some()).count();
            count += u64::from(self.stat(&path).is_some()) + links as u64;
        }
        count
    }

    /// What would be removed first where there is no room: what is staged of another image, and what is set aside.
    fn add_what_would_go(&self, forgoes: bool, estimate: &mut Estimate) {
        let staging = Some(self.place.staging()).filter(|_| !self.staged);
        let previous = Some(self.place.previous()).filter(|_| forgoes);
        for tree in staging.into_iter().chain(previous) {
            let Space { bytes, inodes } = self.weight(tree);
            estimate.bytes_free += bytes;
            estimate.inodes_free = estimate.inodes_free.map(|free| free + inodes);
        }
    }

    /// What removing a tree would give back.
    fn weight(&self, tree: PathBuf) -> Space {
        let mut weight = Space { bytes: 0, inodes: 0 };
        let mut todo = vec![tree];
        while let Some(directory) = todo.pop() {
            let Ok(entries) = self.fs.read_dir(self.root, &directory) else { continue };
            weight.inodes += 1;
            for entry in entries {
                let path = directory.join(&entry.name);
                if entry.kind == Kind::Directory {
                    todo.push(path);
                } else if let Some(stat) = self.stat(&path).filter(|stat| stat.links == 1) {
                    weight.inodes += 1;
                    weight.bytes += stat.size.next_multiple_of(SPACE_UNIT_BYTES);
                }
            }
        }
        weight
    }

    fn stat(&self, path: &Path) -> Option<Stat> {
        self.fs.stat(self.root, path).ok()
    }
}
