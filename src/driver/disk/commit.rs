//! The commit: the staged tree made durable, then visible in one step.
//!
//! A link in the staging directory names the inode of the sealed tree. It makes `swap` safe to repeat: without it a
//! second exchange would bring the old tree back.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::collect::clear_all;
use super::error::{self, is, unsupported};
use super::fs::{FileSystem, Kind};
use super::place::Place;
use super::read::{self, Strictness};
use crate::model::block_set::BlockSet;
use crate::model::disk_task::{Sealed, Side};
use crate::model::failure::{Failure, FailureKind};
use crate::model::image::Image;
use crate::model::limits::STAGING_DIR_NAME;

/// What is expected at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SwapMode {
    /// Nothing, or an empty directory.
    Create,
    /// A directory, which takes the place of the staged one and is garbage then; or nothing.
    Exchange,
}

/// Makes the staged tree durable with one sync of its file system and looks whether it has the image's shape. Only the files
/// with a number in `linked` may have several names.
///
/// `Poisoned`: the tree can't be trusted, `collect` it and start again. After a failed sync this also holds for every
/// other tree that is staged below this base, so their markers go: the system tells of lost writes only once.
pub fn seal<F: FileSystem>(fs: &F, place: &Place, image: &Image, linked: &BlockSet) -> Result<Sealed, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    unseal(fs, &root, place)?;
    let tree = place.tree();
    let stat = match fs.stat(&root, &tree) {
        Ok(stat) => stat,
        Err(e) if is(&e, Errno::NOENT) => {
            return Err(error::found(FailureKind::Poisoned, place, &tree, "the staged tree is gone"));
        }
        Err(e) => return Err(error::at(place, "look at", &tree, &e)),
    };
    let link = place.sealed();
    fs.symlink(&root, OsStr::new(&stat.ino.to_string()), &link)
        .map_err(|e| error::at(place, "create the link", &link, &e))?;
    if let Err(e) = fs.syncfs(&root) {
        distrust_all(fs, &root);
        return Err(error::poisoned(place, "sync the file system of", &tree, &e));
    }
    let sealed = read::inspect(fs, &root, place, &tree, image, Strictness::Own(linked))?
        .map_err(|differs| error::found(FailureKind::Poisoned, place, &differs.path, differs.what))?;
    match fs.stat(&root, &place.marker()) {
        Ok(_) => Ok(sealed),
        Err(_) => Err(error::found(FailureKind::Poisoned, place, &tree, "another tree's sync failed meanwhile")),
    }
}

/// Removes the marker of every staged tree. What can't be removed belongs to a file system that is beyond this.
fn distrust_all<F: FileSystem>(fs: &F, root: &F::Root) {
    let staging = Path::new(STAGING_DIR_NAME);
    for entry in fs.read_dir(root, staging).unwrap_or_default() {
        let _ = fs.unlink(root, &staging.join(entry.name).join("image"));
    }
}

/// Makes the sealed tree visible. Calling it again after any failure or crash finishes it, and changes nothing if it was
/// finished. `Occupied`: something is at the target which is not to be replaced.
pub fn swap<F: FileSystem>(fs: &F, place: &Place, mode: SwapMode) -> Result<(), Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let ino = sealed(fs, &root, place)?
        .ok_or_else(|| error::found(FailureKind::Poisoned, place, &place.tree(), "no tree is sealed here"))?;
    match super::recover::side_of(fs, &root, place, ino)? {
        Side::After => {}
        Side::Lost => {
            return Err(error::found(FailureKind::Poisoned, place, &place.tree(), "the sealed tree is gone"));
        }
        Side::Before | Side::Between => {
            make_parents(fs, &root, place)?;
            match mode {
                SwapMode::Create => create(fs, &root, place)?,
                SwapMode::Exchange => exchange(fs, &root, place)?,
            }
        }
    }
    sync_names(fs, &root, place)
}

/// Directories between the base and the target, from the base on.
fn parents(place: &Place) -> Vec<PathBuf> {
    let mut parents: Vec<_> =
        place.target().ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned).collect();
    parents.reverse();
    parents
}

fn make_parents<F: FileSystem>(fs: &F, root: &F::Root, place: &Place) -> Result<(), Failure> {
    for parent in parents(place) {
        match fs.mkdir(root, &parent, super::stage::MODE_EXECUTABLE) {
            Err(e) if !is(&e, Errno::EXIST) => {
                return Err(error::at(place, "create the directory", &parent, &e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn create<F: FileSystem>(fs: &F, root: &F::Root, place: &Place) -> Result<(), Failure> {
    let (tree, target) = (place.tree(), place.target());
    let result = match fs.rename_noreplace(root, &tree, target) {
        // A directory can be renamed onto nothing but an empty directory: so this can't lose anything either.
        Err(e) if is(&e, Errno::EXIST) || unsupported(&e) => fs.rename(root, &tree, target),
        other => other,
    };
    result.map_err(|e| {
        let occupied = [Errno::EXIST, Errno::NOTEMPTY, Errno::NOTDIR].into_iter().any(|errno| is(&e, errno));
        let kind = if occupied { FailureKind::Occupied } else { error::kind_of(&e) };
        error::as_kind(kind, place, "make the directory visible at", target, &e)
    })
}

fn exchange<F: FileSystem>(fs: &F, root: &F::Root, place: &Place) -> Result<(), Failure> {
    let (tree, old, target) = (place.tree(), place.old(), place.target());
    let fail = |e| error::at(place, "replace the directory", target, &e);
    match fs.stat(root, target) {
        Err(e) if is(&e, Errno::NOENT) => return create(fs, root, place),
        Err(e) => return Err(error::at(place, "look at", target, &e)),
        Ok(stat) if stat.kind != Kind::Directory => {
            return Err(error::found(
                FailureKind::Occupied,
                place,
                target,
                "isn't a directory; move it away, then publish again",
            ));
        }
        Ok(_) => {}
    }
    match fs.rename_exchange(root, &tree, target) {
        Err(e) if unsupported(&e) => {
            // Whatever was set aside earlier is garbage: something newer is visible.
            clear_all(fs, root, &old, &mut Vec::new()).map_err(fail)?;
            fs.rename(root, target, &old).map_err(fail)?;
            fs.rename(root, &tree, target).map_err(fail)
        }
        other => other.map_err(fail),
    }
}

/// Makes the names durable that a swap changes. A failure isn't `Poisoned`: the tree itself is, and `swap` can be
/// called again, since a journal that failed goes on failing.
pub(super) fn sync_names<F: FileSystem>(fs: &F, root: &F::Root, place: &Place) -> Result<(), Failure> {
    let sync = |path: &Path| fs.fsync_dir(root, path).map_err(|e| error::at(place, "sync the directory", path, &e));
    sync(Path::new(""))?;
    parents(place).iter().try_for_each(|parent| sync(parent))?;
    match fs.fsync_dir(root, &place.staging()) {
        Err(e) if is(&e, Errno::NOENT) => Ok(()),
        other => other.map_err(|e| error::at(place, "sync the directory", &place.staging(), &e)),
    }
}

/// The inode number of the tree that was sealed last.
pub(super) fn sealed<F: FileSystem>(fs: &F, root: &F::Root, place: &Place) -> Result<Option<u64>, Failure> {
    let path = place.sealed();
    match fs.read_link(root, &path) {
        Ok(target) => Ok(target.to_str().and_then(|text| text.parse().ok())),
        Err(e) if is(&e, Errno::NOENT) || is(&e, Errno::INVAL) => Ok(None),
        Err(e) => Err(error::at(place, "read the link", &path, &e)),
    }
}

/// The staged tree is going to change: from now on, and after any crash, it isn't the sealed one.
pub(super) fn unseal<F: FileSystem>(fs: &F, root: &F::Root, place: &Place) -> Result<(), Failure> {
    let (path, staging) = (place.sealed(), place.staging());
    match fs.unlink(root, &path) {
        Err(e) if is(&e, Errno::NOENT) => Ok(()),
        Err(e) => Err(error::at(place, "remove the link", &path, &e)),
        Ok(()) => fs.fsync_dir(root, &staging).map_err(|e| error::at(place, "sync the directory", &staging, &e)),
    }
}
