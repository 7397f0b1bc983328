//! What tells that a file isn't any more the one that was read.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;

/// A file's status as far as a change of its content changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// On that device.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When its content was changed last, seconds.
    pub modified: i64,
    /// When its content or status was changed last, seconds.
    pub changed: i64,
    /// Nanoseconds of these two.
    pub nanoseconds: (u32, u32),
}

/// A hash of a [`Fingerprint`], which is kept of millions of files: of two files, or of one that has changed, it is another one as far as 64
/// bits tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FingerprintHash([u8; 8]);

/// What the scan asks of `statx`.
pub(super) const FIELDS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::CTIME);

impl Fingerprint {
    /// What to keep of it.
    pub fn hash(&self) -> FingerprintHash {
        let mut hasher = DefaultHasher::new();
        Hash::hash(self, &mut hasher);
        FingerprintHash(hasher.finish().to_ne_bytes())
    }

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
            modified: status.stx_mtime.tv_sec,
            changed: status.stx_ctime.tv_sec,
            nanoseconds: (status.stx_mtime.tv_nsec, status.stx_ctime.tv_nsec),
        }
    }
}
