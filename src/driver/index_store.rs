//! Index texts cached by image id: `DB_DIR/indexes/ab/<id>.ds1`.
//!
//! A text is there whole or not at all. Whether it is the right one the caller finds out by parsing it: the last line is
//! the id.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::disk::error::{self, is};
use super::disk::fs::{Access, FileSystem, Kind};
use crate::model::failure::Failure;
use crate::model::ids::ImageId;
use crate::model::limits::INDEX_BYTES_MAX;

const FOLDER: &str = "indexes";
const SUFFIX: &str = ".ds1";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// An index can't be read or written. What was there is there still.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} {}: {source}", path.display())]
pub struct IndexStoreError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl IndexStoreError {
    /// What it means for a directory.
    pub fn failure(&self) -> Failure {
        Failure { kind: error::kind_of(&self.source), text: self.to_string() }
    }
}

/// The cached indexes of one node.
pub struct IndexStore<F: FileSystem> {
    fs: F,
    root: F::Root,
    base: PathBuf,
    temporaries: AtomicU64,
}

impl<F: FileSystem> IndexStore<F> {
    /// Opens the store in `db_dir`, which must be there, and removes what an interrupted write left.
    pub fn open(fs: F, db_dir: &Path) -> Result<Self, IndexStoreError> {
        let base = db_dir.to_owned();
        let root = fs.open_root(db_dir).map_err(|source| IndexStoreError {
            what: "open the directory",
            path: base.clone(),
            source,
        })?;
        let store = Self { fs, root, base, temporaries: AtomicU64::new(0) };
        store.make_folder(Path::new(FOLDER))?;
        store.remove_temporaries()?;
        Ok(store)
    }

    /// The text of an index, `None` if it isn't cached.
    pub fn load(&self, id: ImageId) -> Result<Option<Vec<u8>>, IndexStoreError> {
        let path = path_of(id);
        let file = match self.fs.open_file(&self.root, &path, Access::Read) {
            Err(e) if is(&e, Errno::NOENT) => return Ok(None),
            other => other.map_err(self.error("open", &path))?,
        };
        let size = self.fs.file_stat(&file).map_err(self.error("look at", &path))?.size;
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= INDEX_BYTES_MAX) else {
            return Err(self.error("read", &path)(Errno::FBIG.into()));
        };
        let mut text = vec![0; size];
        let read = self.fs.read_at(&file, 0, &mut text).map_err(self.error("read", &path))?;
        text.truncate(read);
        Ok(Some(text))
    }

    /// At most `len` bytes of the text from `offset` on, and the length of the whole; `None` if it isn't cached.
    pub fn load_part(&self, id: ImageId, offset: u64, len: usize) -> Result<Option<(Vec<u8>, u64)>, IndexStoreError> {
        let path = path_of(id);
        let file = match self.fs.open_file(&self.root, &path, Access::Read) {
            Err(e) if is(&e, Errno::NOENT) => return Ok(None),
            other => other.map_err(self.error("open", &path))?,
        };
        let total = self.fs.file_stat(&file).map_err(self.error("look at", &path))?.size;
        let len = usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
        let mut part = vec![0; len];
        let read = self.fs.read_at(&file, offset, &mut part).map_err(self.error("read", &path))?;
        part.truncate(read);
        Ok(Some((part, total)))
    }

    /// Keeps the text of an index, durably.
    pub fn store(&self, id: ImageId, text: &[u8]) -> Result<(), IndexStoreError> {
        let path = path_of(id);
        let folder = path.parent().unwrap_or(Path::new(FOLDER));
        self.make_folder(folder)?;
        // A name of its own: another thread may be storing the same index.
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{number}{TEMPORARY_SUFFIX}"));
        let written = self
            .write_temporary(&temporary, text)
            .and_then(|()| self.fs.rename(&self.root, &temporary, &path).map_err(self.error("rename to", &path)));
        if written.is_err() {
            // If this fails too, the next start removes it.
            let _ = self.fs.unlink(&self.root, &temporary);
        }
        written?;
        self.fs.fsync_dir(&self.root, folder).map_err(self.error("sync", folder))
    }

    fn write_temporary(&self, path: &Path, text: &[u8]) -> Result<(), IndexStoreError> {
        let file = self.fs.create_file(&self.root, path, 0o600).map_err(self.error("create", path))?;
        self.fs.write_at(&file, 0, text).map_err(self.error("write", path))?;
        self.fs.fsync_file(&file).map_err(self.error("sync", path))
    }

    /// All indexes that are cached.
    pub fn list(&self) -> Result<Vec<ImageId>, IndexStoreError> {
        let mut images = Vec::new();
        let top = Path::new(FOLDER);
        for folder in self.fs.read_dir(&self.root, top).map_err(self.error("list", top))? {
            if folder.kind != Kind::Directory {
                continue;
            }
            let folder = top.join(folder.name);
            for entry in self.fs.read_dir(&self.root, &folder).map_err(self.error("list", &folder))? {
                let name = entry.name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
                images.extend(name.and_then(|name| name.parse::<ImageId>().ok()));
            }
        }
        Ok(images)
    }

    /// Forgets an index.
    pub fn remove(&self, id: ImageId) -> Result<(), IndexStoreError> {
        let path = path_of(id);
        match self.fs.unlink(&self.root, &path) {
            Err(e) if !is(&e, Errno::NOENT) => Err(self.error("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// Makes a folder, and its name durable: what is put into it later counts on that.
    fn make_folder(&self, path: &Path) -> Result<(), IndexStoreError> {
        match self.fs.mkdir(&self.root, path, 0o700) {
            Err(e) if is(&e, Errno::EXIST) => return Ok(()),
            other => other.map_err(self.error("create", path))?,
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        self.fs.fsync_dir(&self.root, parent).map_err(self.error("sync", parent))
    }

    fn remove_temporaries(&self) -> Result<(), IndexStoreError> {
        let top = Path::new(FOLDER);
        for folder in self.fs.read_dir(&self.root, top).map_err(self.error("list", top))? {
            if folder.kind != Kind::Directory {
                continue;
            }
            let folder = top.join(folder.name);
            for entry in self.fs.read_dir(&self.root, &folder).map_err(self.error("list", &folder))? {
                if entry.kind == Kind::File && entry.name.as_encoded_bytes().ends_with(TEMPORARY_SUFFIX.as_bytes()) {
                    let path = folder.join(entry.name);
                    self.fs.unlink(&self.root, &path).map_err(self.error("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    fn error<'a>(&'a self, what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> IndexStoreError + 'a {
        move |source| IndexStoreError { what, path: self.base.join(path), source }
    }
}

fn path_of(id: ImageId) -> PathBuf {
    let text = id.to_string();
    Path::new(FOLDER).join(&text[..2]).join(format!("{text}{SUFFIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::disk::real::RealFileSystem;

    #[test]
    fn stores_and_loads() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let id = ImageId::new([0xab; 32]);
        let store = IndexStore::open(RealFileSystem, folder.path()).expect("opens");
        assert_eq!(store.load(id).expect("readable"), None);
        store.store(id, b"text").expect("stored");
        store.store(id, b"again").expect("stored");
        assert_eq!(store.load(id).expect("readable").as_deref(), Some(&b"again"[..]));
        let part = |offset, len| store.load_part(id, offset, len).expect("readable");
        assert_eq!(part(1, 3), Some((b"gai".to_vec(), 5)));
        assert_eq!((part(3, 100), part(5, 1)), (Some((b"in".to_vec(), 5)), Some((Vec::new(), 5))));
        assert_eq!(part(u64::MAX, 1), Some((Vec::new(), 5)));
        let left = folder.path().join(format!("indexes/ab/{id}.7.tmp"));
        std::fs::write(&left, b"half").expect("writable");
        let store = IndexStore::open(RealFileSystem, folder.path()).expect("opens again");
        assert!(!left.exists());
        assert_eq!(store.load(id).expect("readable").as_deref(), Some(&b"again"[..]));
        assert_eq!(store.list().expect("readable"), [id]);
        store.remove(id).expect("removed");
        store.remove(id).expect("removing twice is nothing");
        assert_eq!(store.load(id).expect("readable"), None);
    }

    #[test]
    fn an_unreadable_index_is_not_an_absent_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let id = ImageId::new([1; 32]);
        let store = IndexStore::open(RealFileSystem, folder.path()).expect("opens");
        std::os::unix::fs::symlink("/etc", folder.path().join("indexes/01")).expect("a link");
        let error = store.load(id).expect_err("a link is not followed").to_string();
        assert!(error.contains("can't open") && error.contains("indexes/01"), "{error}");
    }
}
