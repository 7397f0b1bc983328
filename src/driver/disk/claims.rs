//! The daemon's claims on base directories: one daemon at a time, and what nobody needs is swept when it takes one.
//!
//! A claim is looked at again before each piece of work that writes: a base directory may come late, go, be another one
//! (a disk was mounted there), and none of this concerns the other directories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;

use super::collect::{Swept, sweep};
use super::error::{self, is};
use super::fs::{FileSystem, Kind};
use super::place::Place;
use crate::model::failure::{Failure, FailureKind};
use crate::model::fingerprint::FileIdentity;
use crate::model::limits::STAGING_DIR_NAME;

/// All claims of a process.
pub struct Claims<F: FileSystem> {
    bases: Mutex<BTreeMap<PathBuf, Slot<F>>>,
    /// Each lock that is held: two base directories may be one under two names.
    locks: Mutex<BTreeMap<FileIdentity, Weak<F::Lock>>>,
    /// Names of staging directories that are never swept; `None`: it isn't known which are needed, so none is.
    needed: Option<Mutex<BTreeSet<String>>>,
}

/// One base directory. Whoever takes it on makes the others wait, so that nothing is staged where it is being swept.
type Slot<F> = Arc<Mutex<Option<Held<F>>>>;

struct Held<F: FileSystem> {
    staging: FileIdentity,
    _lock: Option<Arc<F::Lock>>,
}

/// What came of asking for a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It was held before.
    Before,
    /// It is held now, and this was found there. `unlocked`: the file system has no locks, so nobody else is kept out.
    Now { swept: Result<Swept, Failure>, unlocked: Option<String> },
}

impl<F: FileSystem> Claims<F> {
    /// None yet. `needed`: names of the staging directories of all paths which may still be deployed; `None`: unknown.
    pub fn new(needed: Option<BTreeSet<String>>) -> Self {
        Self { bases: Mutex::default(), locks: Mutex::default(), needed: needed.map(Mutex::new) }
    }

    /// Claims the place's base directory, if this isn't done, before anything is done at that place.
    pub fn ensure(&self, fs: &F, place: &Place) -> Result<Claimed, Failure> {
        if let Some(needed) = &self.needed {
            let mut needed = lock(needed);
            if !needed.contains(place.staging_name()) {
                needed.insert(place.staging_name().to_owned());
            }
        }
        self.claim(fs, place.base())
    }

    /// Claims a base directory, if this isn't done. `Claimed`: another daemon has it.
    pub fn claim(&self, fs: &F, base: &Path) -> Result<Claimed, Failure> {
        let slot = Arc::clone(lock(&self.bases).entry(base.to_owned()).or_default());
        let mut slot = lock(&slot);
        let root = fs.open_root(base).map_err(|e| error::base(base, &e))?;
        if let Some(held) = &*slot
            && identity(fs, &root, base).is_ok_and(|found| found == held.staging)
        {
            return Ok(Claimed::Before);
        }
        *slot = None;
        let (held, unlocked) = self.take(fs, &root, base)?;
        *slot = Some(held);
        let swept = match &self.needed {
            Some(needed) => {
                // Not held while it sweeps: whoever adds a name for this base directory waits for the slot, too.
                let keep = lock(needed).clone();
                sweep(fs, base, &keep)
            }
            None => Ok(Swept::default()),
        };
        Ok(Claimed::Now { swept, unlocked })
    }

    /// Gives back all but these.
    pub fn retain(&self, bases: &BTreeSet<PathBuf>) {
        lock(&self.bases).retain(|base, _| bases.contains(base));
    }

    fn take(&self, fs: &F, root: &F::Root, base: &Path) -> Result<(Held<F>, Option<String>), Failure> {
        let mut locks = lock(&self.locks);
        locks.retain(|_, held| held.strong_count() > 0);
        super::stage::make_private(fs, root, base, Path::new(STAGING_DIR_NAME))?;
        let staging = identity(fs, root, base)?;
        if let Some(shared) = locks.get(&staging).and_then(Weak::upgrade) {
            return Ok((Held { staging, _lock: Some(shared) }, None));
        }
        match lock_staging(fs, root, base) {
            Ok(held) => {
                let held = Arc::new(held);
                locks.insert(staging, Arc::downgrade(&held));
                Ok((Held { staging, _lock: Some(held) }, None))
            }
            Err(NoLock::Taken(failure)) => Err(failure),
            Err(NoLock::Unknown(failure)) => Ok((Held { staging, _lock: None }, Some(failure.text))),
        }
    }
}

/// Why there is no lock.
enum NoLock {
    /// Somebody else has it, or the system failed.
    Taken(Failure),
    /// The file system doesn't know locks of directories.
    Unknown(Failure),
}

fn lock_staging<F: FileSystem>(fs: &F, root: &F::Root, base: &Path) -> Result<F::Lock, NoLock> {
    let staging = Path::new(STAGING_DIR_NAME);
    fs.lock_dir(root, staging).map_err(|e| {
        let failure = error::below(base, "lock", staging, &e);
        if is(&e, Errno::WOULDBLOCK) {
            let what = "another daemon manages this directory";
            NoLock::Taken(error::found_below(FailureKind::Claimed, base, staging, what))
        } else if error::unsupported(&e) || is(&e, Errno::BADF) || is(&e, Errno::NOLCK) {
            NoLock::Unknown(failure)
        } else {
            NoLock::Taken(failure)
        }
    })
}

/// Which directory the staging directory is; links aren't followed.
fn identity<F: FileSystem>(fs: &F, root: &F::Root, base: &Path) -> Result<FileIdentity, Failure> {
    let staging = Path::new(STAGING_DIR_NAME);
    let stat = fs.stat(root, staging).map_err(|e| error::below(base, "look at", staging, &e))?;
    if stat.kind != Kind::Directory {
        return Err(error::found_below(FailureKind::Hostile, base, staging, "isn't a directory"));
    }
    Ok(FileIdentity { dev: stat.dev, ino: stat.ino })
}

/// Nothing is left half-done under these locks, so a panic elsewhere doesn't matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
