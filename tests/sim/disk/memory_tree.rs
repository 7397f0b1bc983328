//! Names and inodes of the file system in memory: what is visible, what is durable, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

use ciruela::driver::disk::fs::{Kind, Space, Stat};
use rustix::io::Errno;

use super::memory_db::Content;
use super::power::Survival;

/// What differs between file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) exchange: bool,
    pub(crate) noreplace: bool,
    /// Files can share their data until they are written.
    pub(crate) clone: bool,
    /// Names that a file may have.
    pub(crate) links: u64,
}

impl Abilities {
    /// Of a usual file system, or of one that knows only the oldest kind of rename.
    pub(crate) const fn renames(modern: bool) -> Self {
        Self { exchange: modern, noreplace: modern, clone: false, links: u64::MAX }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) inodes: BTreeMap<u64, Inode>,
    /// Changes of names, in order, which aren't durable.
    pub(crate) pending: Vec<Rename>,
    pub(crate) abilities: Abilities,
    pub(crate) space: Space,
    pub(crate) clock: i64,
    pub(crate) locks: BTreeSet<u64>,
}

/// One or more names that get another meaning in one step.
pub(crate) type Rename = Vec<(u64, OsString, Option<u64>)>;

#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
    pub(crate) node: Node,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    File(Content),
    Directory { live: BTreeMap<OsString, u64>, durable: BTreeMap<OsString, u64> },
    Symlink(OsString),
}

pub(crate) const ROOT: u64 = 2;
pub(crate) const DEVICE: u64 = 7;

impl Node {
    pub(crate) fn directory() -> Self {
        Self::Directory { live: BTreeMap::new(), durable: BTreeMap::new() }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Directory { .. } => Kind::Directory,
            Self::Symlink(_) => Kind::Symlink,
        }
    }
}

impl Tree {
    pub(crate) fn names(&self, ino: u64) -> io::Result<&BTreeMap<OsString, u64>> {
        match &self.inodes.get(&ino).ok_or(Errno::NOENT)?.node {
            Node::Directory { live, .. } => Ok(live),
            Node::Symlink(_) => Err(Errno::LOOP.into()),
            Node::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    /// The inode at `path`, links not followed.
    pub(crate) fn find(&self, root: u64, path: &Path) -> io::Result<u64> {
        let mut ino = root;
        for component in path.components() {
            ino = match component {
                Component::RootDir => continue,
                Component::Normal(name) => *self.names(ino)?.get(name).ok_or(Errno::NOENT)?,
                Component::Prefix(_) | Component::CurDir | Component::ParentDir => return Err(Errno::XDEV.into()),
            };
        }
        Ok(ino)
    }

    pub(crate) fn parent<'a>(&self, root: u64, path: &'a Path) -> io::Result<(u64, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = self.find(root, path.parent().unwrap_or(Path::new("")))?;
        self.names(parent)?;
        Ok((parent, name))
    }

    pub(crate) fn get(&self, parent: u64, name: &OsStr) -> Option<u64> {
        self.names(parent).ok()?.get(name).copied()
    }

    pub(crate) fn apply(&mut self, rename: Rename) {
        for (directory, name, ino) in &rename {
            let Some(Inode { node: Node::Directory { live, .. }, .. }) = self.inodes.get_mut(directory) else {
                continue;
            };
            set(live, name, *ino);
        }
        self.pending.push(rename);
        self.forget_unnamed();
    }

    /// Frees inodes that no name leads to, durably or not: their numbers are used again at once, as ext4 does.
    pub(crate) fn forget_unnamed(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        named.extend(self.pending.iter().flatten().filter_map(|(_, _, ino)| *ino));
        named.extend(self.pending.iter().flatten().map(|(directory, _, _)| *directory));
        for inode in self.inodes.values() {
            if let Node::Directory { live, durable } = &inode.node {
                named.extend(live.values().chain(durable.values()));
            }
        }
        self.inodes.retain(|ino, _| named.contains(ino));
    }

    pub(crate) fn add(&mut self, root: u64, path: &Path, mode: u32, node: Node) -> io::Result<u64> {
        let (parent, name) = self.parent(root, path)?;
        if self.get(parent, name).is_some() {
            return Err(Errno::EXIST.into());
        }
        let ino = (ROOT..u64::MAX).find(|ino| !self.inodes.contains_key(ino)).expect("numbers are left");
        self.clock += 1;
        self.inodes.insert(ino, Inode { mode, mtime: self.clock, ctime: self.clock, node });
        self.apply(vec![(parent, name.to_owned(), Some(ino))]);
        Ok(ino)
    }

    /// The inode got or lost a name.
    pub(crate) fn changed(&mut self, ino: u64) {
        self.clock += 1;
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.ctime = self.clock;
        }
    }

    pub(crate) fn content(&mut self, ino: u64) -> io::Result<&mut Content> {
        self.clock += 1;
        let clock = self.clock;
        let inode = self.inodes.get_mut(&ino).ok_or(Errno::BADF)?;
        (inode.mtime, inode.ctime) = (clock, clock);
        match &mut inode.node {
            Node::File(content) => Ok(content),
            Node::Directory { .. } | Node::Symlink(_) => Err(Errno::ISDIR.into()),
        }
    }

    pub(crate) fn stat(&self, ino: u64) -> io::Result<Stat> {
        let inode = self.inodes.get(&ino).ok_or(Errno::BADF)?;
        let links = self.inodes.values().map(|inode| match &inode.node {
            Node::Directory { live, .. } => live.values().filter(|child| **child == ino).count() as u64,
            Node::File(_) | Node::Symlink(_) => 0,
        });
        let size = match &inode.node {
            Node::File(content) => content.live.len() as u64,
            Node::Directory { .. } | Node::Symlink(_) => 0,
        };
        let (kind, mode, mtime_ns, ctime_ns) = (inode.node.kind(), inode.mode, inode.mtime, inode.ctime);
        Ok(Stat { kind, dev: DEVICE, ino, links: links.sum(), mode, size, mtime_ns, ctime_ns })
    }

    pub(crate) fn rename(&mut self, root: u64, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(root, from)?, self.parent(root, to)?);
        let moved = self.get(from_dir, from).ok_or(Errno::NOENT)?;
        if let Some(there) = self.get(to_dir, to) {
            let directory = |ino| self.names(ino).is_ok();
            match (directory(moved), directory(there)) {
                _ if !replace => return Err(Errno::EXIST.into()),
                (true, false) => return Err(Errno::NOTDIR.into()),
                (false, true) => return Err(Errno::ISDIR.into()),
                (true, true) if !self.names(there)?.is_empty() => return Err(Errno::NOTEMPTY.into()),
                _ => {}
            }
        }
        self.apply(vec![(from_dir, from.to_owned(), None), (to_dir, to.to_owned(), Some(moved))]);
        Ok(())
    }

    /// Makes durable those pending changes that `which` accepts, and those that they follow from.
    pub(crate) fn settle(&mut self, which: impl Fn(&Rename) -> bool) {
        let mut touched = Touched::default();
        let chosen: Vec<_> = self.pending.iter().rev().map(|rename| touched.either(rename, which(rename))).collect();
        let mut chosen = chosen.into_iter().rev();
        self.settle_each(|_| chosen.next().unwrap_or_default());
    }

    /// Makes durable what survives a crash: what is lost takes with it whatever follows from it.
    pub(crate) fn settle_some(&mut self, survival: &mut Survival) {
        let mut lost = Touched::default();
        self.settle_each(|rename| !lost.either(rename, !survival.keeps()));
    }

    pub(crate) fn settle_each(&mut self, mut which: impl FnMut(&Rename) -> bool) {
        for rename in std::mem::take(&mut self.pending) {
            if !which(&rename) {
                self.pending.push(rename);
                continue;
            }
            for (directory, name, ino) in rename {
                if let Some(Inode { node: Node::Directory { durable, .. }, .. }) = self.inodes.get_mut(&directory) {
                    set(durable, &name, ino);
                }
            }
        }
        self.forget_unnamed();
    }
}

/// Names and inodes that some changes are about.
#[derive(Default)]
pub(crate) struct Touched {
    names: BTreeSet<(u64, OsString)>,
    inodes: BTreeSet<u64>,
}

impl Touched {
    /// Adds a change if it is to be, or if it is about the same as one that was added; says whether it did.
    pub(crate) fn either(&mut self, rename: &Rename, add: bool) -> bool {
        let names = || rename.iter().map(|(directory, name, _)| (*directory, name.clone()));
        let inodes = || rename.iter().filter_map(|(_, _, ino)| *ino);
        let add =
            add || names().any(|name| self.names.contains(&name)) || inodes().any(|ino| self.inodes.contains(&ino));
        if add {
            self.names.extend(names());
            self.inodes.extend(inodes());
        }
        add
    }
}

pub(crate) fn set(names: &mut BTreeMap<OsString, u64>, name: &OsStr, ino: Option<u64>) {
    match ino {
        Some(ino) => names.insert(name.to_owned(), ino),
        None => names.remove(name),
    };
}
