//! File systems of tests.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

#[expect(clippy::print_stderr, reason = "whoever reads the test's output should know")]
pub(crate) fn skipped(why: &str) {
    eprintln!("not tested here: {why}");
}

/// A small file system, gone when dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// `None`: this process may not.
    pub(crate) fn new(at: &Path, options: &str, flags: MountFlags) -> Option<Self> {
        let options = std::ffi::CString::new(format!("{options},mode=755")).expect("no NUL");
        rustix::mount::mount("ciruela-test", at, "tmpfs", flags, Some(options.as_c_str())).ok()?;
        Some(Self(at.to_owned()))
    }

    /// The directory is seen there, too.
    pub(crate) fn bind(from: &Path, at: &Path) -> Option<Self> {
        rustix::mount::mount_bind(from, at).ok()?;
        Some(Self(at.to_owned()))
    }

    pub(crate) fn remount(&self, options: &str) {
        self.remount_with(options, MountFlags::empty());
    }

    pub(crate) fn remount_with(&self, options: &str, flags: MountFlags) {
        rustix::mount::mount_remount(&self.0, flags, options).expect("ours");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}
