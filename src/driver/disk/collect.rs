//! Removing what is left behind: old trees, abandoned stages, what nobody knows.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::{self, is};
use super::fs::{Access, FileSystem, Kind, Stat};
use super::place::{PREVIOUS_SUFFIX, Place, REMOVED_SUFFIX};
use crate::model::disk_task::Previous;
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::limits::{COLLECT_STEP_ENTRIES_MAX, STAGING_DIR_NAME};
use crate::model::reuse::Touch;

/// What [`sweep`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Staging directories that were removed.
    pub removed: usize,
    /// Staging directories in which an old tree waits for its swap to be finished; they were left alone.
    pub left: Vec<String>,
}

/// Removes what is in the path's staging directory, and the directory: at most [`COLLECT_STEP_ENTRIES_MAX`] entries.
/// Says whether nothing is left; call again until then. Inodes which have other names are added to `touches`.
///
/// An old tree that waits between two renames, with nothing visible at the target, is put back rather than removed.
pub fn collect<F: FileSystem>(
    fs: &F,
    place: &Place,
    previous: Previous,
    touches: &mut Vec<Touch>,
) -> Result<bool, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    put_back(fs, &root, place)?;
    match previous {
        Previous::Untouched => {}
        Previous::Dropped => drop_previous(fs, &root, place, touches)?,
        Previous::Kept(tree) => set_aside(fs, &root, place, tree, touches)?,
    }
    super::commit::unseal(fs, &root, place)?;
    let mut budget = COLLECT_STEP_ENTRIES_MAX;
    let staging = place.staging();
    clear(fs, &root, &staging, &mut budget, touches).map_err(|e| error::at(place, "remove", &staging, &e))
}

/// Removes the tree that was set aside, and nothing else.
pub fn forgo<F: FileSystem>(fs: &F, place: &Place, touches: &mut Vec<Touch>) -> Result<(), Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    drop_previous(fs, &root, place, touches)
}

/// Whether the tree with this root is set aside.
pub fn is_set_aside<F: FileSystem>(fs: &F, place: &Place, expected: FileIdentity) -> Result<bool, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let previous = place.previous();
    match fs.stat(&root, &previous) {
        Ok(stat) => Ok(stat.kind == Kind::Directory && stat.ino == expected.ino),
        Err(e) if is(&e, Errno::NOENT) => Ok(false),
        Err(e) => Err(error::at(place, "look at", &previous, &e)),
    }
}

/// Removes the tree that was set aside, durably: what is kept there is never swept. A crash leaves it whole, or what is swept.
pub(super) fn drop_previous<F: FileSystem>(
    fs: &F,
    root: &F::Root,
    place: &Place,
    touches: &mut Vec<Touch>,
) -> Result<(), Failure> {
    let (previous, staging) = (place.previous(), Path::new(STAGING_DIR_NAME));
    match fs.stat(root, &previous) {
        Err(e) if is(&e, Errno::NOENT) => return Ok(()),
        Err(e) => return Err(error::at(place, "look at", &previous, &e)),
        Ok(_) => {}
    }
    let removed = place.removed();
    let mut clear = |path| clear_all(fs, root, path, touches).map_err(|e| error::at(place, "remove", path, &e));
    let sync = || fs.fsync_dir(root, staging).map_err(|e| error::at(place, "sync the directory", staging, &e));
    clear(&removed)?;
    match fs.rename(root, &previous, &removed) {
        Ok(()) => {
            // Before any of it is deleted: a crash may not bring back a half of it.
            sync()?;
            clear(&removed)?;
        }
        // No room even for that: half of it is better than none to come.
        Err(e) if error::kind_of(&e) == FailureKind::NoSpace => clear(&previous)?,
        Err(e) => return Err(error::at(place, "remove", &previous, &e)),
    }
    sync()
}

/// Sets the old tree aside that a swap left, if it is there and has this root.
fn set_aside<F: FileSystem>(
    fs: &F,
    root: &F::Root,
    place: &Place,
    expected: FileIdentity,
    touches: &mut Vec<Touch>,
) -> Result<(), Failure> {
    for old in [place.tree(), place.old()] {
        match fs.stat(root, &old) {
            Ok(stat) if stat.kind == Kind::Directory && stat.ino == expected.ino => {
                drop_previous(fs, root, place, touches)?;
                let previous = place.previous();
                return fs.rename(root, &old, &previous).map_err(|e| error::at(place, "set aside", &previous, &e));
            }
            Ok(_) => {}
            Err(e) if is(&e, Errno::NOENT) => {}
            Err(e) => return Err(error::at(place, "look at", &old, &e)),
        }
    }
    // Some other one would never be used, nor swept.
    if is_set_aside(fs, place, expected)? { Ok(()) } else { drop_previous(fs, root, place, touches) }
}

/// Puts the old tree back if a swap in two renames was left between them; says whether it did.
pub(super) fn put_back<F: FileSystem>(fs: &F, root: &F::Root, place: &Place) -> Result<bool, Failure> {
    let old = place.old();
    match fs.stat(root, &old) {
        Err(e) if is(&e, Errno::NOENT) => return Ok(false),
        Err(e) => return Err(error::at(place, "look at", &old, &e)),
        Ok(_) => {}
    }
    match fs.stat(root, place.target()) {
        Err(e) if is(&e, Errno::NOENT) => {}
        Err(e) => return Err(error::at(place, "look at", place.target(), &e)),
        Ok(_) => return Ok(false),
    }
    fs.rename(root, &old, place.target()).map_err(|e| error::at(place, "put back", place.target(), &e))?;
    super::commit::sync_names(fs, root, place)?;
    Ok(true)
}

/// Removes every staging directory below `base` but those in `keep`. For the start, when nothing is under way.
pub fn sweep<F: FileSystem>(fs: &F, base: &Path, keep: &BTreeSet<String>) -> Result<Swept, Failure> {
    let root = fs.open_root(base).map_err(|e| error::base(base, &e))?;
    let staging = Path::new(STAGING_DIR_NAME);
    let fail = |path: &Path, e: io::Error| Failure {
        kind: error::kind_of(&e),
        text: format!("can't clean {}: {e}", base.join(path).display()),
    };
    let entries = match fs.read_dir(&root, staging) {
        Err(e) if is(&e, Errno::NOENT) => return Ok(Swept::default()),
        other => other.map_err(|e| fail(staging, e))?,
    };
    let mut swept = Swept::default();
    for entry in entries {
        let path = staging.join(&entry.name);
        let name = entry.name.to_string_lossy().into_owned();
        if keep.contains(name.strip_suffix(PREVIOUS_SUFFIX).unwrap_or(&name)) {
            continue;
        }
        let inside = if entry.kind == Kind::Directory
            && ![REMOVED_SUFFIX, PREVIOUS_SUFFIX].iter().any(|end| name.ends_with(end))
        {
            fs.read_dir(&root, &path).map_err(|e| fail(&path, e))?
        } else {
            Vec::new()
        };
        if ["tree", "old"].iter().all(|name| inside.iter().any(|entry| entry.name == *name)) {
            swept.left.push(name);
            continue;
        }
        while !clear(fs, &root, &path, &mut COLLECT_STEP_ENTRIES_MAX.clone(), &mut Vec::new())
            .map_err(|e| fail(&path, e))?
        {}
        swept.removed += 1;
    }
    Ok(swept)
}

/// Removes whatever is at `path`, links not followed, as far as the budget of entries goes; says whether it is gone.
/// The links that describe a stage go before its trees, so that half a tree is never taken for a staged one.
pub(super) fn clear<F: FileSystem>(
    fs: &F,
    root: &F::Root,
    path: &Path,
    budget: &mut usize,
    touches: &mut Vec<Touch>,
) -> io::Result<bool> {
    let gone = |result: io::Result<()>| match result {
        Err(e) if is(&e, Errno::NOENT) => Ok(()),
        other => other,
    };
    match fs.stat(root, path) {
        Err(e) if is(&e, Errno::NOENT) => return Ok(true),
        Err(e) => return Err(e),
        Ok(stat) if stat.kind != Kind::Directory => return gone(unlink(fs, root, path, touches)).map(|()| true),
        Ok(_) => {}
    }
    let mut todo = vec![path.to_owned()];
    while let Some(directory) = todo.last().cloned() {
        let mut inner = Vec::<PathBuf>::new();
        for entry in fs.read_dir(root, &directory)? {
            if *budget == 0 {
                return Ok(false);
            }
            let path = directory.join(&entry.name);
            if entry.kind == Kind::Directory {
                inner.push(path);
            } else {
                gone(if entry.kind == Kind::File { unlink(fs, root, &path, touches) } else { fs.unlink(root, &path) })?;
                *budget -= 1;
            }
        }
        if inner.is_empty() {
            gone(fs.rmdir(root, &directory))?;
            *budget = budget.saturating_sub(1);
            todo.pop();
        } else {
            todo.append(&mut inner);
        }
    }
    Ok(true)
}

/// [`clear`] without a budget.
pub(super) fn clear_all<F: FileSystem>(
    fs: &F,
    root: &F::Root,
    path: &Path,
    touches: &mut Vec<Touch>,
) -> io::Result<()> {
    while !clear(fs, root, path, &mut COLLECT_STEP_ENTRIES_MAX.clone(), touches)? {}
    Ok(())
}

/// Removes a name that isn't a directory's. An inode which other directories share gets another change time from that: that
/// it was only this is told by looking before and after.
pub(super) fn unlink<F: FileSystem>(fs: &F, root: &F::Root, path: &Path, touches: &mut Vec<Touch>) -> io::Result<()> {
    let stat = fs.stat(root, path)?;
    if stat.kind != Kind::File || stat.links < 2 {
        return fs.unlink(root, path);
    }
    // Unreadable, or something else by now: then it isn't known what it is.
    let file = fs.open_file(root, path, Access::Read).ok();
    let before = file.as_ref().and_then(|file| fs.file_stat(file).ok());
    fs.unlink(root, path)?;
    let after = file.as_ref().and_then(|file| fs.file_stat(file).ok());
    touches.extend(before.zip(after).and_then(|(before, after)| touch(&before, &after)));
    Ok(())
}

/// What became of an inode whose link count was changed between two looks; `None` if it isn't only that.
pub(super) fn touch(before: &Stat, after: &Stat) -> Option<Touch> {
    let (dev, before, after) = (before.dev, before.fingerprint(), after.fingerprint());
    let same = (before.ino, before.size, before.mtime_ns) == (after.ino, after.size, after.mtime_ns);
    same.then_some(Touch { dev, before, after })
}
