//! What tells that a file isn't any more the one that was read.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;

/// A file's status as far as a change of its content changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// On that device.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When its content was changed last: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// When its content or status was changed last: seconds and nanoseconds.
    pub changed: (i64, u32),
}

/// What the scan asks of `statx`.
pub(super) const FIELDS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::CTIME);

impl Fingerprint {
    /// Of an open file.
    pub fn of_file(file: impl AsFd) -> Result<Self, Errno> {
        statx(file, c"", AtFlags::EMPTY_PATH, FIELDS).map(|status| Self::from(&status))
    }
}

impl From<&Statx> for Fingerprint {
    fn from(status: &Statx) -> Self {
        Self {
            device: (status.stx_dev_major, status.stx_dev_minor),
            inode: status.stx_ino,
            size: status.stx_size,
            modified: (status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec),
            changed: (status.stx_ctime.tv_sec, status.stx_ctime.tv_nsec),
        }
    }
}
