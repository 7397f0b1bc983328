//! The trees that are used, and what is found out about them: open bases, damage, bytes taken.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Donor;
use crate::driver::disk::error::is;
use crate::driver::disk::folder::LastFolder;
use crate::driver::disk::fs::{Access, FileSystem, Kind, Stat};
use crate::model::limits;
use crate::model::origins::{Supply, Way};
use crate::model::reuse::Damage;
use crate::model::vpath::VPath;

/// What one staging has found out.
pub(in crate::driver::disk) struct Trees<'a, F: FileSystem> {
    fs: &'a F,
    /// Opened base directories; `None`: it can't be opened.
    bases: BTreeMap<PathBuf, Option<F::Root>>,
    /// Most files come from the one that the file before came from.
    folder: LastFolder<F::Root>,
    damaged: BTreeMap<VPath, Damage>,
    taken: BTreeMap<(Way, VPath), u64>,
}

impl<'a, F: FileSystem> Trees<'a, F> {
    pub(in crate::driver::disk) fn new(fs: &'a F) -> Self {
        Self {
            fs,
            bases: BTreeMap::new(),
            folder: LastFolder::none(),
            damaged: BTreeMap::new(),
            taken: BTreeMap::new(),
        }
    }

    /// The directory that the file is in, and its name there.
    pub(super) fn folder<'d>(&mut self, donor: &'d Donor) -> io::Result<(&F::Root, &'d Path)> {
        let (above, name) = donor.file.rsplit_once('/').unwrap_or(("", &donor.file));
        let path = if above.is_empty() { donor.target.clone() } else { donor.target.join(above) };
        let Self { fs, bases, folder, .. } = self;
        let open = || fs.open_dir(base(*fs, bases, donor).ok_or(Errno::IO)?, &path);
        Ok((folder.get(&donor.base, &path, open)?, Path::new(name)))
    }

    /// What the file is. If it isn't there or isn't a file any more, the directory is damaged.
    pub(super) fn stat(&mut self, donor: &Donor) -> Option<Stat> {
        if self.damaged.contains_key(&donor.path) {
            return None;
        }
        let fs = self.fs;
        let stat = self.folder(donor).and_then(|(folder, name)| fs.stat(folder, name));
        self.judge(donor, stat.map(|stat| (stat.kind, stat)))
    }

    /// Opens the file for reading; the same holds.
    pub(super) fn open(&mut self, donor: &Donor) -> Option<F::File> {
        if self.damaged.contains_key(&donor.path) {
            return None;
        }
        let fs = self.fs;
        let opened = self.folder(donor).and_then(|(folder, name)| fs.open_file(folder, name, Access::Read));
        self.judge(donor, opened.and_then(|file| Ok((fs.file_stat(&file)?.kind, file))))
    }

    fn judge<T>(&mut self, donor: &Donor, found: io::Result<(Kind, T)>) -> Option<T> {
        let what = match found {
            Ok((Kind::File, found)) => return Some(found),
            Ok(_) => "isn't a file any more",
            Err(e) if is(&e, Errno::NOENT) => "is gone",
            Err(e) if [Errno::LOOP, Errno::NOTDIR, Errno::XDEV].into_iter().any(|errno| is(&e, errno)) => {
                "isn't a file any more"
            }
            Err(e) => {
                tracing::debug!(path = %donor.path, file = %donor.file, "isn't used again: {e}");
                return None;
            }
        };
        self.damage(donor, what);
        None
    }

    /// The file isn't what it should be, unless the whole tree went meanwhile.
    pub(super) fn damage(&mut self, donor: &Donor, what: &str) {
        if donor.damaged {
            return;
        }
        let root = base(self.fs, &mut self.bases, donor).and_then(|base| self.fs.stat(base, &donor.target).ok());
        // Device numbers may have changed at a reboot.
        if root.is_none_or(|root| root.kind != Kind::Directory || root.ino != donor.root.ino) {
            return;
        }
        let Donor { path, root, file, .. } = donor.clone();
        self.damaged.entry(path.clone()).or_insert(Damage { path, root, file, what: what.into() });
    }

    pub(super) fn is_damaged(&self, path: &VPath) -> bool {
        self.damaged.contains_key(path)
    }

    pub(super) fn took(&mut self, way: Way, path: &VPath, bytes: u64) {
        *self.taken.entry((way, path.clone())).or_default() += bytes;
    }

    /// What was found damaged, and the directories of which most was taken.
    pub(in crate::driver::disk) fn end(self) -> (Vec<Damage>, Vec<Supply>) {
        let supply = |((way, path), bytes): ((_, VPath), _)| Supply { way, from: path.as_str().into(), bytes };
        let mut taken: Vec<_> = self.taken.into_iter().map(supply).collect();
        taken.sort_by_key(|supply| std::cmp::Reverse(supply.bytes));
        taken.truncate(limits::SOURCES_TOLD_MAX);
        (self.damaged.into_values().collect(), taken)
    }
}

/// The base directory that the file is below.
fn base<'b, F: FileSystem>(
    fs: &F,
    bases: &'b mut BTreeMap<PathBuf, Option<F::Root>>,
    donor: &Donor,
) -> Option<&'b F::Root> {
    if !bases.contains_key(&donor.base) {
        bases.insert(donor.base.clone(), fs.open_root(&donor.base).ok());
    }
    bases.get(&donor.base)?.as_ref()
}
