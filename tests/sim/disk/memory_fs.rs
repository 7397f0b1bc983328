//! A file system in memory with the durability of a real one: what wasn't synced may be lost at a crash, name by name and
//! sector by sector; a rename is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ciruela::driver::disk::fs::{Access, DirEntry, FileSystem, Kind, Space, Stat};
use rustix::io::Errno;

use super::memory_db::Content;
pub(crate) use super::memory_tree::Abilities;
use super::memory_tree::{Inode, Node, ROOT, Tree};
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

impl MemoryFs {
    /// An empty file system with a durable directory at `base`.
    pub(crate) fn new(power: Power, base: &Path, abilities: Abilities) -> Self {
        let root = Inode { mode: 0o755, mtime: 0, ctime: 0, node: Node::directory() };
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

    /// Writes into a file, as somebody else might.
    pub(crate) fn edit(&self, path: &Path, data: &[u8]) {
        let mut tree = self.tree();
        let ino = tree.find(ROOT, path).expect("there");
        tree.content(ino).expect("a file").write(0, data);
    }

    /// Changes a file's bytes, as a fault of the disk does: its status stays.
    pub(crate) fn rot(&self, path: &Path, data: &[u8]) {
        let mut tree = self.tree();
        let ino = tree.find(ROOT, path).expect("there");
        let inode = &tree.inodes[&ino];
        let times = (inode.mtime, inode.ctime);
        tree.content(ino).expect("a file").write(0, data);
        let inode = tree.inodes.get_mut(&ino).expect("there");
        (inode.mtime, inode.ctime) = times;
    }

    /// Gives a file one more name, as somebody else might.
    pub(crate) fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let ino = tree.find(ROOT, from)?;
        let (parent, name) = tree.parent(ROOT, to)?;
        let name = name.to_owned();
        tree.apply(vec![(parent, name, Some(ino))]);
        tree.changed(ino);
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

    fn open_dir(&self, root: &u64, path: &Path) -> io::Result<u64> {
        self.power.check()?;
        let tree = self.tree();
        let ino = tree.find(*root, path)?;
        tree.names(ino)?;
        Ok(ino)
    }

    /// Of a path without links.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.power.check()?;
        self.tree().find(ROOT, path).map(|_| path.to_owned())
    }

    fn read_small_file(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        self.power.check()?;
        let tree = self.tree();
        let ino = tree.find(ROOT, path)?;
        let Some(Inode { node: Node::File(content), .. }) = tree.inodes.get(&ino) else {
            return Err(Errno::ISDIR.into());
        };
        if content.live.len() > max { Err(Errno::FBIG.into()) } else { Ok(content.live.clone()) }
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
        let mut tree = self.tree();
        assert!(tree.stat(file.ino)?.links < 2, "a shared inode is written");
        tree.content(file.ino)?.write(usize::try_from(offset).expect("small files"), data);
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
        assert!(self.tree().stat(file.ino)?.links < 2, "a shared inode is written");
        self.tree().content(file.ino)?.set_len(usize::try_from(len).expect("small files"));
        Ok(())
    }

    fn file_stat(&self, file: &MemoryFile) -> io::Result<Stat> {
        self.power.check()?;
        self.tree().stat(file.ino)
    }

    fn link(&self, file: &MemoryFile, root: &u64, path: &Path) -> io::Result<()> {
        self.power.tick()?;
        let mut tree = self.tree();
        let links = tree.stat(file.ino)?.links;
        if links == 0 {
            return Err(Errno::NOENT.into());
        }
        if links >= tree.abilities.links {
            return Err(Errno::MLINK.into());
        }
        let (parent, name) = tree.parent(*root, path)?;
        if tree.get(parent, name).is_some() {
            return Err(Errno::EXIST.into());
        }
        tree.apply(vec![(parent, name.to_owned(), Some(file.ino))]);
        tree.changed(file.ino);
        Ok(())
    }

    fn link_name(&self, from: (&u64, &Path), to: (&u64, &Path)) -> io::Result<()> {
        let ino = self.tree().find(*from.0, from.1)?;
        self.link(&MemoryFile { ino, access: Access::Read }, to.0, to.1)
    }

    fn clone_file(&self, from: &MemoryFile, to: &MemoryFile) -> io::Result<()> {
        self.power.tick()?;
        let mut tree = self.tree();
        if !tree.abilities.clone {
            return Err(Errno::OPNOTSUPP.into());
        }
        let Some(Inode { node: Node::File(content), .. }) = tree.inodes.get(&from.ino) else {
            return Err(Errno::INVAL.into());
        };
        let bytes = content.live.clone();
        tree.content(to.ino)?.write(0, &bytes);
        Ok(())
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
        tree.changed(ino);
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
