//! File systems of tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags};

use crate::patience;

#[expect(clippy::print_stderr, reason = "whoever reads the test's output should know")]
pub(crate) fn skipped(why: &str) {
    eprintln!("not tested here: {why}");
}

/// Whether files of the folder can share their data without sharing the inode.
pub(crate) fn has_reflinks(folder: &Path) -> bool {
    let [from, to] = ["reflink-from", "reflink-to"].map(|name| folder.join(name));
    fs::write(&from, [1; 8192]).expect("written");
    let file = fs::File::create(&to).expect("made");
    let cloned = rustix::fs::ioctl_ficlone(&file, fs::File::open(&from).expect("there")).is_ok();
    for path in [from, to] {
        fs::remove_file(path).expect("removed");
    }
    cloned
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

    /// A file system in a file beside it, with reflinks.
    pub(crate) fn btrfs(at: &Path) -> Option<Self> {
        let image = at.with_extension("image");
        fs::File::create(&image).and_then(|file| file.set_len(256 << 20)).expect("made");
        let run = |program: &str, words: &[&Path]| {
            let output = Command::new(program).args(words).output();
            output.is_ok_and(|output| output.status.success())
        };
        let made = run("mkfs.btrfs", &[Path::new("-q"), &image]) && run("mount", &[Path::new("-oloop"), &image, at]);
        made.then(|| Self(at.to_owned()))
    }

    pub(crate) fn remount(&self, options: &str) {
        self.remount_with(options, MountFlags::empty());
    }

    pub(crate) fn remount_with(&self, options: &str, flags: MountFlags) {
        // Busy as long as a file is open for writing.
        let done = || {
            let result = rustix::mount::mount_remount(&self.0, flags, options);
            (result != Err(rustix::io::Errno::BUSY)).then_some(result)
        };
        patience::until(done, || "the file system is busy".to_owned()).expect("ours");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}
