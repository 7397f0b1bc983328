//! The operations of a file system that the disk driver uses, low-level: the simulator's fake crashes between any two.
//!
//! All paths are relative to an opened base directory and are resolved below it without following any link: a link on
//! the way is `ELOOP`, an escape `EXDEV`. Errors are the operating system's; `error` gives them a meaning and a text.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::model::fingerprint::Fingerprint;

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or FIFO.
    Other,
}

/// What `lstat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// The file system's number.
    pub dev: u64,
    /// The inode's number on it.
    pub ino: u64,
    /// Names that the inode has.
    pub links: u64,
    /// Permission bits, with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Nanoseconds since the epoch.
    pub ctime_ns: i64,
}

impl Stat {
    /// By which the content is told to be the same.
    pub fn fingerprint(&self) -> Fingerprint {
        let Self { ino, size, mtime_ns, ctime_ns, .. } = *self;
        Fingerprint { ino, size, mtime_ns, ctime_ns }
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Any bytes but `/` and NUL.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
}

/// What a file system has left for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub bytes: u64,
    /// Inodes; `u64::MAX` where the file system doesn't count them.
    pub inodes: u64,
}

/// Whether an opened file is to be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Only written.
    Write,
}

/// A file system. Handles are closed by dropping them.
pub trait FileSystem: Send + Sync + 'static {
    /// An opened base directory.
    type Root: Send + Sync;
    /// An opened regular file.
    type File: Send + Sync;
    /// An exclusive lock of a directory, given back by dropping it (or by the end of the process).
    type Lock: Send + Sync;

    /// Opens a base directory; it is the administrator's, so links on the way to it are followed.
    fn open_root(&self, base: &Path) -> io::Result<Self::Root>;
    /// Opens a directory below as a base of its own, for many operations in it. The handle goes with the directory if that
    /// is renamed.
    fn open_dir(&self, root: &Self::Root, path: &Path) -> io::Result<Self::Root>;
    /// Where an absolute path leads to, all links followed; `ENOENT` if nothing is there.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// The content of an administrator's file, links followed; `EFBIG` if it has more bytes than `max`.
    fn read_small_file(&self, path: &Path, max: usize) -> io::Result<Vec<u8>>;
    /// Makes a directory with exactly this mode.
    fn mkdir(&self, root: &Self::Root, path: &Path, mode: u32) -> io::Result<()>;
    /// Makes a file with exactly this mode, and opens it for writing; `EEXIST` if anything has that name.
    fn create_file(&self, root: &Self::Root, path: &Path, mode: u32) -> io::Result<Self::File>;
    /// Opens what is there.
    fn open_file(&self, root: &Self::Root, path: &Path, access: Access) -> io::Result<Self::File>;
    /// Writes all of `data`.
    fn write_at(&self, file: &Self::File, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Fills `buffer` as far as the file goes; says how many bytes that were.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Makes the file `len` bytes long, with its space reserved where the file system can and it is of use.
    fn preallocate(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// What the opened file is.
    fn file_stat(&self, file: &Self::File) -> io::Result<Stat>;
    /// Gives an opened file one more name; `EMLINK` if it has too many, `EXDEV` on another file system.
    fn link(&self, file: &Self::File, root: &Self::Root, path: &Path) -> io::Result<()>;
    /// Gives the inode that has a name one more name, links not followed; `EMLINK` and `EXDEV` as above.
    fn link_name(&self, from: (&Self::Root, &Path), to: (&Self::Root, &Path)) -> io::Result<()>;
    /// Makes `to`, which is empty and opened for writing, share all data of `from` until one of them is written;
    /// `EOPNOTSUPP`, `EXDEV` or `EINVAL` where the file system can't.
    fn clone_file(&self, from: &Self::File, to: &Self::File) -> io::Result<()>;
    /// Makes a symbolic link.
    fn symlink(&self, root: &Self::Root, target: &OsStr, path: &Path) -> io::Result<()>;
    /// A link's target.
    fn read_link(&self, root: &Self::Root, path: &Path) -> io::Result<OsString>;
    /// What has that name, links not followed.
    fn stat(&self, root: &Self::Root, path: &Path) -> io::Result<Stat>;
    /// Names in a directory, sorted, without `.` and `..`; the empty path is the base itself.
    fn read_dir(&self, root: &Self::Root, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames; `EEXIST` if the new name is taken, `EINVAL` or `ENOSYS` where the file system can't promise that.
    fn rename_noreplace(&self, root: &Self::Root, from: &Path, to: &Path) -> io::Result<()>;
    /// Swaps two names in one step; `EINVAL` or `ENOSYS` where the file system can't.
    fn rename_exchange(&self, root: &Self::Root, a: &Path, b: &Path) -> io::Result<()>;
    /// Renames over whatever file or empty directory has the new name.
    fn rename(&self, root: &Self::Root, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name that isn't a directory's.
    fn unlink(&self, root: &Self::Root, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, root: &Self::Root, path: &Path) -> io::Result<()>;
    /// Makes a file's content durable, not its name.
    fn fsync_file(&self, file: &Self::File) -> io::Result<()>;
    /// Makes the names in a directory durable; the empty path is the base itself.
    fn fsync_dir(&self, root: &Self::Root, path: &Path) -> io::Result<()>;
    /// Makes everything on the base's file system durable.
    fn syncfs(&self, root: &Self::Root) -> io::Result<()>;
    /// What is left.
    fn free_space(&self, root: &Self::Root) -> io::Result<Space>;
    /// Locks a directory against other processes without waiting; `EWOULDBLOCK` if another one has it.
    fn lock_dir(&self, root: &Self::Root, path: &Path) -> io::Result<Self::Lock>;
}
