//! Why a directory can't be scanned.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::model::escape::escaped;
use crate::model::image::ImageError;

/// A scan failed. Nothing was changed; paths are escaped as in the index text.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The directory itself can't be opened.
    #[error("{path}: cannot open the directory: {source}")]
    Root { path: String, source: io::Error },
    /// Something in it can't be read. Never taken for "absent".
    #[error("{path}: cannot {doing}: {source}")]
    Io { path: String, doing: &'static str, source: io::Error },
    /// A name that no image can hold.
    #[error("{path}: the name is not UTF-8")]
    NotUtf8 { path: String },
    /// A link's target that no image can hold.
    #[error("{path}: the link's target is not UTF-8: {target}")]
    TargetNotUtf8 { path: String, target: String },
    /// Something that no image can hold.
    #[error("{path} is {kind}: neither a file, a directory nor a symlink")]
    Special { path: String, kind: SpecialFile },
    /// A file isn't any more what it was when the scan began.
    #[error("{path}: changed while indexing ({how})")]
    Changed { path: String, how: &'static str },
    /// An image of it would break a rule of the format or a bound.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What isn't a file, a directory or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialFile {
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
    /// A block or character device.
    Device,
    /// Whatever else there may be.
    Unknown,
}

impl fmt::Display for SpecialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
            Self::Unknown => "of unknown type",
        })
    }
}

impl SpecialFile {
    /// For a type that isn't a file, a directory or a link.
    pub(super) fn of(kind: FileType) -> Self {
        if kind == FileType::Fifo {
            Self::Fifo
        } else if kind == FileType::Socket {
            Self::Socket
        } else if kind == FileType::BlockDevice || kind == FileType::CharacterDevice {
            Self::Device
        } else {
            Self::Unknown
        }
    }
}

/// What the system says when a file, directory or link is taken for one of the others, or for a FIFO or socket.
const OTHER_TYPE: [Errno; 5] = [Errno::LOOP, Errno::NOTDIR, Errno::ISDIR, Errno::SPIPE, Errno::NXIO];

impl ScanError {
    /// For an entry that the walk saw a moment ago: if it is gone, or of another type, the tree is being changed.
    pub(super) fn of_entry(path: String, doing: &'static str, errno: Errno) -> Self {
        if errno == Errno::NOENT {
            Self::Changed { path, how: "it is gone" }
        } else if OTHER_TYPE.contains(&errno) {
            Self::Changed { path, how: "its type is another one" }
        } else {
            Self::Io { path, doing, source: errno.into() }
        }
    }
}

/// `dir` and a path below it, as errors show them.
pub(super) fn shown(dir: &Path, below: &[u8]) -> String {
    let dir = dir.as_os_str().as_bytes();
    let separator: &[u8] = if below.is_empty() || dir.ends_with(b"/") { b"" } else { b"/" };
    escaped(&[dir, separator, below].concat())
}
