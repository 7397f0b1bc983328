//! A file system in memory with the durability of a real one: what wasn't synced may be lost at a crash, name by name and
//! sector by sector; a rename is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ciruela::driver::disk::fs::{Access, DirEntry, FileSystem, Kind, Space, Stat};
use rustix::io::Errno;

use super::memory_db::Content;
use super::power::{Power, Survival};

/// The whole file system. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct MemoryFs {
    power: Power,
    tree: Arc<Mutex<Tree>>,
}

/// An opened file.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    ino: u64,
    access: Access,
}

/// A locked directory.
#[derive(Debug)]
pub(crate) struct MemoryLock {
    ino: u64,
    tree: Arc<Mutex<Tree>>,
}

/// What differs between file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) exchange: bool,
    pub(crate) noreplace: bool,
}

#[derive(Debug, Clone)]
struct Tree {
    inodes: BTreeMap<u64, Inode>,
    /// Changes of names, in order, which aren't durable.
    pending: Vec<Rename>,
    abilities: Abilities,
    space: Space,
    clock: i64,
    locks: BTreeSet<u64>,
}

/// One or more names that get another meaning in one step.
type Rename = Vec<(u64, OsString, Option<u64>)>;

#[derive(Debug, Clone)]
struct Inode {
    mode: u32,
    mtime: i64,
    node: Node,
}

#[derive(Debug, Clone)]
enum Node {
    File(Content),
    Directory { live: BTreeMap<OsString, u64>, durable: BTreeMap<OsString, u64> },
    Symlink(OsString),
}

const ROOT: u64 = 2;
const DEVICE: u64 = 7;

impl Node {
    fn directory() -> Self {
        Self::Directory { live: BTreeMap::new(), durable: BTreeMap::new() }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Directory { .. } => Kind::Directory,
            Self::Symlink(_) => Kind::Symlink,
        }
    }
}

impl Tree {
    fn names(&self, ino: u64) -> io::Result<&BTreeMap<OsString, u64>> {
        match &self.inodes.get(&ino).ok_or(Errno::NOENT)?.node {
            Node::Directory { live, .. } => Ok(live),
            Node::Symlink(_) => Err(Errno::LOOP.into()),
            Node::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    /// The inode at `path`, links not followed.
    fn find(&self, root: u64, path: &Path) -> io::Result<u64> {
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

    fn parent<'a>(&self, root: u64, path: &'a Path) -> io::Result<(u64, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = self.find(root, path.parent().unwrap_or(Path::new("")))?;
        self.names(parent)?;
        Ok((parent, name))
    }

    fn get(&self, parent: u64, name: &OsStr) -> Option<u64> {
        self.names(parent).ok()?.get(name).copied()
    }

    fn apply(&mut self, rename: Rename) {
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
    fn forget_unnamed(&mut self) {
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

    fn add(&mut self, root: u64, path: &Path, mode: u32, node: Node) -> io::Result<u64> {
        let (parent, name) = self.parent(root, path)?;
        if self.get(parent, name).is_some() {
            return Err(Errno::EXIST.into());
        }
        let ino = (ROOT..u64::MAX).find(|ino| !self.inodes.contains_key(ino)).expect("numbers are left");
        self.clock += 1;
        self.inodes.insert(ino, Inode { mode, mtime: self.clock, node });
        self.apply(vec![(parent, name.to_owned(), Some(ino))]);
        Ok(ino)
    }

    fn content(&mut self, ino: u64) -> io::Result<&mut Content> {
        self.clock += 1;
        let clock = self.clock;
        let inode = self.inodes.get_mut(&ino).ok_or(Errno::BADF)?;
        inode.mtime = clock;
        match &mut inode.node {
            Node::File(content) => Ok(content),
            Node::Directory { .. } | Node::Symlink(_) => Err(Errno::ISDIR.into()),
        }
    }

    fn stat(&self, ino: u64) -> io::Result<Stat> {
        let inode = self.inodes.get(&ino).ok_or(Errno::BADF)?;
        let links = self.inodes.values().map(|inode| match &inode.node {
            Node::Directory { live, .. } => live.values().filter(|child| **child == ino).count() as u64,
            Node::File(_) | Node::Symlink(_) => 0,
        });
        let size = match &inode.node {
            Node::File(content) => content.live.len() as u64,
            Node::Directory { .. } | Node::Symlink(_) => 0,
        };
        let (kind, mode, mtime_ns) = (inode.node.kind(), inode.mode, inode.mtime);
        Ok(Stat { kind, dev: DEVICE, ino, links: links.sum(), mode, size, mtime_ns, ctime_ns: mtime_ns })
    }

    fn rename(&mut self, root: u64, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
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
    fn settle(&mut self, which: impl Fn(&Rename) -> bool) {
        let mut touched = Touched::default();
        let chosen: Vec<_> = self.pending.iter().rev().map(|rename| touched.either(rename, which(rename))).collect();
        let mut chosen = chosen.into_iter().rev();
        self.settle_each(|_| chosen.next().unwrap_or_default());
    }

    /// Makes durable what survives a crash: what is lost takes with it whatever follows from it.
    fn settle_some(&mut self, survival: &mut Survival) {
        let mut lost = Touched::default();
        self.settle_each(|rename| !lost.either(rename, !survival.keeps()));
    }

    fn settle_each(&mut self, mut which: impl FnMut(&Rename) -> bool) {
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
struct Touched {
    names: BTreeSet<(u64, OsString)>,
    inodes: BTreeSet<u64>,
}

impl Touched {
    /// Adds a change if it is to be, or if it is about the same as one that was added; says whether it did.
    fn either(&mut self, rename: &Rename, add: bool) -> bool {
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

fn set(names: &mut BTreeMap<OsString, u64>, name: &OsStr, ino: Option<u64>) {
    match ino {
        Some(ino) => names.insert(name.to_owned(), ino),
        None => names.remove(name),
    };
}

impl MemoryFs {
    /// An empty file system with a durable directory at `base`.
    pub(crate) fn new(power: Power, base: &Path, abilities: Abilities) -> Self {
        let root = Inode { mode: 0o755, mtime: 0, node: Node::directory() };
        let space = Space { bytes: 1 << 40, inodes: 1 << 20 };
        let inodes = BTreeMap::from([(ROOT, root)]);
        let mut tree = Tree { inodes, pending: Vec::new(), abilities, space, clock: 0, locks: BTreeSet::new() };
        for path in base.ancestors().collect::<Vec<_>>().into_iter().rev().filter(|path| path.file_name().is_some()) {
            tree.add(ROOT, path, 0o755, Node::directory()).expect("a new file system");
        }
        tree.settle(|_| true);
        Self { power, tree: Arc::new(Mutex::new(tree)) }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same content with its own future.
    pub(crate) fn copy(&self, power: Power) -> Self {
        Self { power, tree: Arc::new(Mutex::new(self.tree().clone())) }
    }

    /// The power was cut: what survives of the unsynced part is visible from now on.
    pub(crate) fn crash(&self, survival: &mut Survival) {
        let mut tree = self.tree();
        tree.settle_some(survival);
        tree.pending.clear();
        tree.locks.clear();
        for inode in tree.inodes.values_mut() {
            match &mut inode.node {
                Node::File(content) => content.crash(survival),
                Node::Directory { live, durable } => live.clone_from(durable),
                Node::Symlink(_) => {}
            }
        }
        tree.forget_unnamed();
    }

    pub(crate) fn set_space(&self, space: Space) {
        self.tree().space = space;
    }

    /// Gives a file one more name, as somebody else might.
    pub(crate) fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let ino = tree.find(ROOT, from)?;
        let (parent, name) = tree.parent(ROOT, to)?;
        let name = name.to_owned();
        tree.apply(vec![(parent, name, Some(ino))]);
        Ok(())
    }
}

impl FileSystem for MemoryFs {
    type Root = u64;
    type File = MemoryFile;
    type Lock = MemoryLock;

    fn open_root(&self, base: &Path) -> io::Result<u64> {
        self.power.check()?;
        let tree = self.tree();
        let ino = tree.find(ROOT, base)?;
        tree.names(ino)?;
        Ok(ino)
    }

    fn mkdir(&self, root: &u64, path: &Path, mode: u32) -> io::Result<()> {
        self.power.tick()?;
        self.tree().add(*root, path, mode, Node::directory()).map(|_| ())
    }

    fn create_file(&self, root: &u64, path: &Path, mode: u32) -> io::Result<MemoryFile> {
        self.power.tick()?;
        let ino = self.tree().add(*root, path, mode, Node::File(Content::default()))?;
        Ok(MemoryFile { ino, access: Access::Write })
    }

    fn open_file(&self, root: &u64, path: &Path, access: Access) -> io::Result<MemoryFile> {
        self.power.check()?;
        let tree = self.tree();
        let ino = tree.find(*root, path)?;
        match tree.stat(ino)?.kind {
            Kind::Symlink => Err(Errno::LOOP.into()),
            Kind::Directory if access == Access::Write => Err(Errno::ISDIR.into()),
            Kind::File | Kind::Directory | Kind::Other => Ok(MemoryFile { ino, access }),
        }
    }

    fn write_at(&self, file: &MemoryFile, offset: u64, data: &[u8]) -> io::Result<()> {
        self.power.tick()?;
        if file.access != Access::Write {
            return Err(Errno::BADF.into());
        }
        self.tree().content(file.ino)?.write(usize::try_from(offset).expect("small files"), data);
        Ok(())
    }

    fn read_at(&self, file: &MemoryFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.power.check()?;
        let tree = self.tree();
        let Some(Inode { node: Node::File(content), .. }) = tree.inodes.get(&file.ino) else {
            return Err(Errno::ISDIR.into());
        };
        let bytes = content.live.get(usize::try_from(offset).expect("small files")..).unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn preallocate(&self, file: &MemoryFile, len: u64) -> io::Result<()> {
        self.power.tick()?;
        self.tree().content(file.ino)?.set_len(usize::try_from(len).expect("small files"));
        Ok(())
    }

    fn file_stat(&self, file: &MemoryFile) -> io::Result<Stat> {
        self.power.check()?;
        self.tree().stat(file.ino)
    }

    fn symlink(&self, root: &u64, target: &OsStr, path: &Path) -> io::Result<()> {
        self.power.tick()?;
        self.tree().add(*root, path, 0o777, Node::Symlink(target.to_owned())).map(|_| ())
    }

    fn read_link(&self, root: &u64, path: &Path) -> io::Result<OsString> {
        self.power.check()?;
        let tree = self.tree();
        match &tree.inodes[&tree.find(*root, path)?].node {
            Node::Symlink(target) => Ok(target.clone()),
            Node::File(_) | Node::Directory { .. } => Err(Errno::INVAL.into()),
        }
    }

    fn stat(&self, root: &u64, path: &Path) -> io::Result<Stat> {
        self.power.check()?;
        let tree = self.tree();
        tree.stat(tree.find(*root, path)?)
    }

    fn read_dir(&self, root: &u64, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.power.check()?;
        let tree = self.tree();
        let names = tree.names(tree.find(*root, path)?)?;
        Ok(names
            .iter()
            .map(|(name, ino)| DirEntry { name: name.clone(), kind: tree.inodes[ino].node.kind() })
            .collect())
    }

    fn rename_noreplace(&self, root: &u64, from: &Path, to: &Path) -> io::Result<()> {
        self.power.tick()?;
        let mut tree = self.tree();
        if !tree.abilities.noreplace {
            return Err(Errno::INVAL.into());
        }
        tree.rename(*root, from, to, false)
    }

    fn rename_exchange(&self, root: &u64, a: &Path, b: &Path) -> io::Result<()> {
        self.power.tick()?;
        let mut tree = self.tree();
        if !tree.abilities.exchange {
            return Err(Errno::INVAL.into());
        }
        let ((a_dir, a), (b_dir, b)) = (tree.parent(*root, a)?, tree.parent(*root, b)?);
        let at_a = tree.get(a_dir, a).ok_or(Errno::NOENT)?;
        let at_b = tree.get(b_dir, b).ok_or(Errno::NOENT)?;
        tree.apply(vec![(a_dir, a.to_owned(), Some(at_b)), (b_dir, b.to_owned(), Some(at_a))]);
        Ok(())
    }

    fn rename(&self, root: &u64, from: &Path, to: &Path) -> io::Result<()> {
        self.power.tick()?;
        self.tree().rename(*root, from, to, true)
    }

    fn unlink(&self, root: &u64, path: &Path) -> io::Result<()> {
        self.power.tick()?;
        let mut tree = self.tree();
        let (parent, name) = tree.parent(*root, path)?;
        let ino = tree.get(parent, name).ok_or(Errno::NOENT)?;
        if tree.names(ino).is_ok() {
            return Err(Errno::ISDIR.into());
        }
        tree.apply(vec![(parent, name.to_owned(), None)]);
        Ok(())
    }

    fn rmdir(&self, root: &u64, path: &Path) -> io::Result<()> {
        self.power.tick()?;
        let mut tree = self.tree();
        let (parent, name) = tree.parent(*root, path)?;
        let ino = tree.get(parent, name).ok_or(Errno::NOENT)?;
        if !tree.names(ino)?.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        tree.apply(vec![(parent, name.to_owned(), None)]);
        Ok(())
    }

    fn fsync_file(&self, file: &MemoryFile) -> io::Result<()> {
        let result = self.power.tick();
        if !self.power.crashed() {
            sync(self.tree().content(file.ino)?, &result);
        }
        result
    }

    fn fsync_dir(&self, root: &u64, path: &Path) -> io::Result<()> {
        self.power.tick()?;
        let mut tree = self.tree();
        let ino = tree.find(*root, path)?;
        tree.names(ino)?;
        tree.settle(|rename| rename.iter().any(|(directory, _, _)| *directory == ino));
        Ok(())
    }

    fn syncfs(&self, _root: &u64) -> io::Result<()> {
        let result = self.power.tick();
        if self.power.crashed() {
            return result;
        }
        let mut tree = self.tree();
        for inode in tree.inodes.values_mut() {
            if let Node::File(content) = &mut inode.node {
                sync(content, &result);
            }
        }
        if result.is_ok() {
            tree.settle(|_| true);
        }
        result
    }

    fn free_space(&self, _root: &u64) -> io::Result<Space> {
        self.power.check()?;
        Ok(self.tree().space)
    }

    fn lock_dir(&self, root: &u64, path: &Path) -> io::Result<MemoryLock> {
        self.power.check()?;
        let mut tree = self.tree();
        let ino = tree.find(*root, path)?;
        if tree.locks.insert(ino) {
            Ok(MemoryLock { ino, tree: Arc::clone(&self.tree) })
        } else {
            Err(Errno::WOULDBLOCK.into())
        }
    }
}

/// A failed sync is told once; what it should have written is lost, and later syncs succeed.
fn sync(content: &mut Content, result: &io::Result<()>) {
    if result.is_ok() {
        content.sync();
    } else {
        content.forget_pending();
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner).locks.remove(&self.ino);
    }
}
