//! The real file system, through directory handles: `openat2` with `RESOLVE_BENEATH` and `NO_SYMLINKS` (Linux 5.6).
//!
//! No handle is kept between two calls: resolving a path anew costs about a microsecond, and a kept one would go on
//! pointing to where a directory was before it was swapped. Who does much in one directory opens it as a base of its own.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags,
};
use rustix::io::{Errno, retry_on_intr};

use super::fs::{Access, DirEntry, FileSystem, Kind, Space, Stat};

/// Bytes of a path that one system call takes; a longer one (an image's, below the staging directory's) goes in parts.
const PATH_PART_BYTES_MAX: usize = 4_000;

/// The type of tmpfs, as statfs(2) lists it.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// The operating system's file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFileSystem;

/// So much is written to a file by one thread at a time.
const WRITTEN_ALONE_BYTES_MIN: usize = 64 << 10;

/// Which threads write much, and where. The system has a lock for each file, for which threads that want to write there, too, wait by
/// spinning: on two cores that was 2 % of the time of a large deployment. Here they sleep.
static WRITERS: [Writer; 64] = [const { Writer { turn: Mutex::new(()), file: AtomicU64::new(0) } }; 64];

struct Writer {
    turn: Mutex<()>,
    /// Of whose turn it is.
    file: AtomicU64,
}

/// Waits only for who writes to the same file, as the system would: others may take long.
fn turn_to_write(file: &OwnedFd) -> io::Result<Option<MutexGuard<'static, ()>>> {
    let stat = rustix::fs::fstat(file)?;
    let file = stat.st_ino ^ stat.st_dev.rotate_left(32);
    let at = usize::try_from(file % WRITERS.len() as u64).unwrap_or(0);
    let Writer { turn, file: owner } = &WRITERS[at];
    let turn = match turn.try_lock() {
        Ok(turn) => turn,
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) if owner.load(Ordering::Relaxed) == file => {
            turn.lock().unwrap_or_else(PoisonError::into_inner)
        }
        Err(TryLockError::WouldBlock) => return Ok(None),
    };
    owner.store(file, Ordering::Relaxed);
    Ok(Some(turn))
}

/// Opens `path` below `root`; the empty path is the root itself.
fn open_beneath(root: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let root = root.as_fd();
    let open = |at: BorrowedFd<'_>, path: &OsStr, flags: OFlags, mode: Mode| {
        retry_on_intr(|| rustix::fs::openat2(at, path, flags | OFlags::CLOEXEC, mode, resolve))
    };
    let mut rest = path.as_os_str();
    let mut handle = None;
    while rest.len() > PATH_PART_BYTES_MAX {
        let cut = rest.as_bytes()[..PATH_PART_BYTES_MAX].iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let (part, tail) = rest.as_bytes().split_at(cut);
        let at = handle.as_ref().map_or(root, AsFd::as_fd);
        handle = Some(open(at, OsStr::from_bytes(part), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?);
        rest = OsStr::from_bytes(&tail[1..]);
    }
    let rest = if rest.is_empty() { OsStr::new(".") } else { rest };
    Ok(open(handle.as_ref().map_or(root, AsFd::as_fd), rest, flags, mode)?)
}

fn open_directory(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// The directory that a path is in.
enum Parent<'r> {
    Root(&'r OwnedFd),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Parent::Root(root) => root.as_fd(),
            Parent::Below(handle) => handle.as_fd(),
        }
    }
}

/// The handle of the directory that `path` is in, and its name there.
fn open_parent<'r, 'a>(root: &'r OwnedFd, path: &'a Path) -> io::Result<(Parent<'r>, &'a OsStr)> {
    let Some(Component::Normal(name)) = path.components().next_back() else { return Err(Errno::INVAL.into()) };
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            let handle = open_beneath(root, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            Ok((Parent::Below(handle), name))
        }
        _ => Ok((Parent::Root(root), name)),
    }
}

fn rename_with(root: &OwnedFd, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    let ((from_dir, from), (to_dir, to)) = (open_parent(root, from)?, open_parent(root, to)?);
    Ok(rustix::fs::renameat_with(&from_dir, from, &to_dir, to, flags)?)
}

fn kind(file_type: FileType) -> Kind {
    if file_type.is_file() {
        Kind::File
    } else if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        Kind::Symlink
    } else {
        Kind::Other
    }
}

fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    // The types of these fields differ between architectures; beyond 2262 a time is only compared with itself.
    let nanoseconds = |seconds: i64, fraction: u64| {
        seconds.wrapping_mul(1_000_000_000).wrapping_add(i64::try_from(fraction).unwrap_or_default())
    };
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, clippy::useless_conversion, reason = "see above")]
    Stat {
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        links: stat.st_nlink as u64,
        mode: stat.st_mode as u32 & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mtime_ns: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        ctime_ns: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
    }
}

/// Looking costs less than setting, most of all on a disk.
fn ensure_mode(made: &OwnedFd, mode: Mode) -> io::Result<()> {
    if Mode::from_raw_mode(rustix::fs::fstat(made)?.st_mode & 0o7777) != mode {
        rustix::fs::fchmod(made, mode)?;
    }
    Ok(())
}

impl FileSystem for RealFileSystem {
    type Root = OwnedFd;
    type File = OwnedFd;
    type Lock = OwnedFd;

    fn open_root(&self, base: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, base, flags, Mode::empty())?)
    }

    fn open_dir(&self, root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
        open_directory(root, path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn read_small_file(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        // NONBLOCK: a FIFO must not hold up a thread.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = std::fs::File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
        if file.metadata()?.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        let mut text = Vec::new();
        file.take(max as u64 + 1).read_to_end(&mut text)?;
        if text.len() > max { Err(Errno::FBIG.into()) } else { Ok(text) }
    }

    fn mkdir(&self, root: &OwnedFd, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode))?;
        // What the process's umask, a default ACL or the parent's set-group-id bit made of the mode is undone.
        let made = open_beneath(&parent, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        ensure_mode(&made, Mode::from_raw_mode(mode))
    }

    fn create_file(&self, root: &OwnedFd, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let mode = Mode::from_raw_mode(mode);
        let file = open_beneath(root, path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)?;
        ensure_mode(&file, mode)?;
        Ok(file)
    }

    fn open_file(&self, root: &OwnedFd, path: &Path, access: Access) -> io::Result<OwnedFd> {
        // NONBLOCK: a FIFO that somebody put there must not hold up a thread.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
        };
        open_beneath(root, path, flags | access, Mode::empty())
    }

    fn write_at(&self, file: &OwnedFd, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        let _turn = if data.len() < WRITTEN_ALONE_BYTES_MIN { None } else { turn_to_write(file)? };
        while !data.is_empty() {
            let written = retry_on_intr(|| rustix::io::pwrite(file, data, offset))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += written as u64;
            data = &data[written..];
        }
        Ok(())
    }

    fn read_at(&self, file: &OwnedFd, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            let read = retry_on_intr(|| rustix::io::pread(file, &mut *rest, offset + filled as u64))?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    fn preallocate(&self, file: &OwnedFd, len: u64) -> io::Result<()> {
        // In memory it would fill each page with zeros, which costs as much as writing the content.
        if rustix::fs::fstatfs(file)?.f_type == TMPFS_MAGIC {
            return Ok(rustix::fs::ftruncate(file, len)?);
        }
        match retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len)) {
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(rustix::fs::ftruncate(file, len)?),
            other => Ok(other?),
        }
    }

    fn file_stat(&self, file: &OwnedFd) -> io::Result<Stat> {
        Ok(stat_of(&rustix::fs::fstat(file)?))
    }

    fn link(&self, file: &OwnedFd, root: &OwnedFd, path: &Path) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        // The very inode, whatever has its name by now. Without CAP_DAC_READ_SEARCH (before Linux 6.10) only by way of /proc.
        match rustix::fs::linkat(file, "", &parent, name, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT) => {
                let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
                Ok(rustix::fs::linkat(CWD, handle, &parent, name, AtFlags::SYMLINK_FOLLOW)?)
            }
            other => Ok(other?),
        }
    }

    fn link_name(&self, from: (&OwnedFd, &Path), to: (&OwnedFd, &Path)) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (open_parent(from.0, from.1)?, open_parent(to.0, to.1)?);
        Ok(rustix::fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty())?)
    }

    fn clone_file(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        Ok(rustix::fs::ioctl_ficlone(to, from)?)
    }

    fn symlink(&self, root: &OwnedFd, target: &OsStr, path: &Path) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        Ok(rustix::fs::symlinkat(target, &parent, name)?)
    }

    fn read_link(&self, root: &OwnedFd, path: &Path) -> io::Result<OsString> {
        let (parent, name) = open_parent(root, path)?;
        Ok(OsString::from_vec(rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes()))
    }

    fn stat(&self, root: &OwnedFd, path: &Path) -> io::Result<Stat> {
        if path.as_os_str().is_empty() {
            return Ok(stat_of(&rustix::fs::fstat(root)?));
        }
        let (parent, name) = open_parent(root, path)?;
        Ok(stat_of(&rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn read_dir(&self, root: &OwnedFd, path: &Path) -> io::Result<Vec<DirEntry>> {
        let handle = open_directory(root, path)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&handle)? {
            let entry = entry?;
            let name = entry.file_name();
            if [&b"."[..], b".."].contains(&name.to_bytes()) {
                continue;
            }
            let mut file_type = entry.file_type();
            if file_type == FileType::Unknown {
                let stat = rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
                file_type = FileType::from_raw_mode(stat.st_mode);
            }
            let name = OsStr::from_bytes(name.to_bytes()).to_owned();
            entries.push(DirEntry { name, kind: kind(file_type) });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn rename_noreplace(&self, root: &OwnedFd, from: &Path, to: &Path) -> io::Result<()> {
        rename_with(root, from, to, RenameFlags::NOREPLACE)
    }

    fn rename_exchange(&self, root: &OwnedFd, a: &Path, b: &Path) -> io::Result<()> {
        rename_with(root, a, b, RenameFlags::EXCHANGE)
    }

    fn rename(&self, root: &OwnedFd, from: &Path, to: &Path) -> io::Result<()> {
        rename_with(root, from, to, RenameFlags::empty())
    }

    fn unlink(&self, root: &OwnedFd, path: &Path) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?)
    }

    fn rmdir(&self, root: &OwnedFd, path: &Path) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
    }

    fn fsync_file(&self, file: &OwnedFd) -> io::Result<()> {
        Ok(rustix::fs::fsync(file)?)
    }

    fn fsync_dir(&self, root: &OwnedFd, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::fsync(open_directory(root, path)?)?)
    }

    fn syncfs(&self, root: &OwnedFd) -> io::Result<()> {
        Ok(rustix::fs::syncfs(root)?)
    }

    fn free_space(&self, root: &OwnedFd) -> io::Result<Space> {
        let space = rustix::fs::fstatvfs(root)?;
        // Some file systems make inodes as needed and say that they have none.
        let inodes = if space.f_files == 0 { u64::MAX } else { space.f_favail };
        Ok(Space { bytes: space.f_bavail.saturating_mul(space.f_frsize), inodes })
    }

    fn lock_dir(&self, root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
        let handle = open_directory(root, path)?;
        rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive)?;
        Ok(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::disk::error::is;

    #[test]
    fn paths_longer_than_a_system_call_takes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fs = RealFileSystem;
        let root = fs.open_root(folder.path()).expect("opens");
        let name = "n".repeat(250);
        let mut path = PathBuf::new();
        for _ in 0..20 {
            path.push(&name);
            fs.mkdir(&root, &path, 0o755).expect("made");
        }
        let file = fs.create_file(&root, &path.join("file"), 0o644).expect("made");
        fs.write_at(&file, 3, b"abc").expect("written");
        assert_eq!(fs.stat(&root, &path.join("file")).expect("there").size, 6);
        assert_eq!(fs.read_dir(&root, &path).expect("there").len(), 1);
        fs.unlink(&root, &path.join("file")).expect("removed");
        while path.pop() && !path.as_os_str().is_empty() {
            fs.rmdir(&root, &path.join(&name)).expect("removed");
        }
    }

    #[test]
    fn nothing_leads_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fs = RealFileSystem;
        let root = fs.open_root(folder.path()).expect("opens");
        fs.symlink(&root, OsStr::new("/etc"), Path::new("link")).expect("made");
        for path in ["..", "../x", "/etc/passwd", "link/passwd"] {
            let path = Path::new(path);
            let error = fs.open_file(&root, path, Access::Read).map(|_| ()).expect_err("leads out");
            assert!(is(&error, Errno::XDEV) || is(&error, Errno::LOOP), "{error}");
            assert!(fs.stat(&root, &path.join("x")).is_err());
            assert!(fs.create_file(&root, &path.join("x"), 0o644).is_err());
            assert!(fs.rename(&root, Path::new("link"), &path.join("x")).is_err());
        }
        assert_eq!(fs.stat(&root, Path::new("link")).expect("the link itself").kind, Kind::Symlink);
        assert!(is(&fs.open_file(&root, Path::new("link"), Access::Write).expect_err("a link"), Errno::LOOP));
    }

    #[test]
    fn modes_are_exact() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fs = RealFileSystem;
        let root = fs.open_root(folder.path()).expect("opens");
        // The usual umask takes away the group's right to write.
        for mode in [0o700, 0o755, 0o775] {
            let path = PathBuf::from(format!("{mode:o}"));
            fs.mkdir(&root, &path, mode).expect("made");
            let file = fs.create_file(&root, &path.join("file"), mode).expect("made");
            assert_eq!(fs.stat(&root, &path).expect("there").mode, mode);
            assert_eq!(fs.file_stat(&file).expect("opened").mode, mode);
        }
    }
}
