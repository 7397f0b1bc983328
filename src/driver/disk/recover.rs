//! After a crash: on which side of the swap was it?

use std::path::Path;

use rustix::io::Errno;

use super::error::{self, is};
use super::fs::{FileSystem, Kind, Stat};
use super::place::Place;
use crate::model::disk_task::Side;
use crate::model::failure::Failure;
use crate::model::fingerprint::FileIdentity;

/// Where the tree is that had this identity when it was sealed. With [`Side::After`] the names are durable.
///
/// [`Side::Before`] also promises that nothing was written to the tree since it was sealed.
pub fn side<F: FileSystem>(fs: &F, place: &Place, staged: FileIdentity) -> Result<Side, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let side = side_of(fs, &root, place, staged.ino)?;
    match side {
        Side::After => super::commit::sync_names(fs, &root, place)?,
        Side::Before | Side::Between if super::commit::sealed(fs, &root, place)? != Some(staged.ino) => {
            return Ok(Side::Lost);
        }
        Side::Before | Side::Between | Side::Lost => {}
    }
    Ok(side)
}

/// The same by the inode number alone: device numbers may differ after a reboot, and all is on the base's device.
pub(super) fn side_of<F: FileSystem>(fs: &F, root: &F::Root, place: &Place, ino: u64) -> Result<Side, Failure> {
    let base = Path::new("");
    let dev = fs.stat(root, base).map_err(|e| error::at(place, "look at", base, &e))?.dev;
    let is_it = |stat: &Option<Stat>| {
        stat.is_some_and(|stat| stat.kind == Kind::Directory && (stat.dev, stat.ino) == (dev, ino))
    };
    let target = look(fs, root, place, place.target())?;
    if is_it(&target) {
        return Ok(Side::After);
    }
    if !is_it(&look(fs, root, place, &place.tree())?) {
        return Ok(Side::Lost);
    }
    let set_aside = target.is_none() && look(fs, root, place, &place.old())?.is_some();
    Ok(if set_aside { Side::Between } else { Side::Before })
}

/// What is there, `None` only if nothing is.
fn look<F: FileSystem>(fs: &F, root: &F::Root, place: &Place, path: &Path) -> Result<Option<Stat>, Failure> {
    match fs.stat(root, path) {
        Ok(stat) => Ok(Some(stat)),
        Err(e) if is(&e, Errno::NOENT) => Ok(None),
        Err(e) => Err(error::at(place, "look at", path, &e)),
    }
}
