//! Removing a visible directory: whole or gone, whatever happens. Whether it may go is `engine/retention`'s.

use std::path::Path;

use rustix::io::Errno;

use super::collect::clear_all;
use super::commit::sync_names;
use super::error::{self, is, unsupported};
use super::fs::{FileSystem, Kind};
use super::place::Place;
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::limits::STAGING_DIR_NAME;
use crate::model::reuse::Touch;

/// Removes the tree at the target if it has this root; says whether it is gone, which it isn't only if `only_rest` forbids
/// it. Calling it again after any failure or crash finishes it.
///
/// What has another root isn't ours, and stays. Nothing is made, so that a full disk doesn't hinder it.
pub fn remove<F: FileSystem>(
    fs: &F,
    place: &Place,
    expected: FileIdentity,
    only_rest: bool,
    touches: &mut Vec<Touch>,
) -> Result<bool, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let (target, removed) = (place.target(), place.removed());
    let mut clear =
        || clear_all(fs, &root, &removed, touches).map_err(|e| error::at(place, "remove the directory", &removed, &e));
    if is_ours(fs, &root, place, expected)? {
        if only_rest {
            return Ok(false);
        }
        super::stage::make_private(fs, &root, place.base(), Path::new(STAGING_DIR_NAME))?;
        clear()?;
        let moved = match fs.rename_noreplace(&root, target, &removed) {
            Err(e) if unsupported(&e) => fs.rename(&root, target, &removed),
            other => other,
        };
        moved.map_err(|e| error::at(place, "remove the directory", target, &e))?;
    } else {
        is_mounted(fs, &root, place, expected)?;
    }
    // Before any of it is deleted: a crash may not bring back a half of it.
    sync_names(fs, &root, place)?;
    let staging = Path::new(STAGING_DIR_NAME);
    fs.fsync_dir(&root, staging).map_err(|e| error::at(place, "sync the directory", staging, &e))?;
    clear()?;
    super::collect::drop_previous(fs, &root, place, touches)?;
    Ok(true)
}

/// Fails where nothing is left of what was there: an empty base directory on another device than the tree's.
fn is_mounted<F: FileSystem>(fs: &F, root: &F::Root, place: &Place, expected: FileIdentity) -> Result<(), Failure> {
    let base = Path::new("");
    let dev = fs.stat(root, base).map_err(|e| error::base(place.base(), &e))?.dev;
    if dev == expected.dev || fs.stat(root, &place.removed()).is_ok() {
        return Ok(());
    }
    let entries = fs.read_dir(root, base).map_err(|e| error::base(place.base(), &e))?;
    if entries.iter().any(|entry| entry.name != STAGING_DIR_NAME) {
        return Ok(());
    }
    let what = "is empty, and not on the device that the directory was put on: is its disk mounted? If that was replaced by \
                this one, say so by putting any file there";
    Err(error::found_below(FailureKind::MissingBase, place.base(), base, what))
}

/// By the inode number alone: device numbers may differ after a reboot, and all is on the base's device.
fn is_ours<F: FileSystem>(fs: &F, root: &F::Root, place: &Place, expected: FileIdentity) -> Result<bool, Failure> {
    let look = |path: &Path| match fs.stat(root, path) {
        Ok(stat) => Ok(Some(stat)),
        Err(e) if is(&e, Errno::NOENT) => Ok(None),
        Err(e) => Err(error::at(place, "look at", path, &e)),
    };
    let dev = look(Path::new(""))?.map(|stat| stat.dev);
    let target = look(place.target())?.filter(|stat| stat.kind == Kind::Directory);
    Ok(target.is_some_and(|stat| Some(stat.dev) == dev && stat.ino == expected.ino))
}
