//! How the commands index directories: their options, what they remember of earlier runs, the progress bar.

use std::path::PathBuf;

use clap::Args;

use super::ui;
use crate::driver::clock;
use crate::driver::scan::{ScanCache, ScanError, ScanOptions, ScanProgress};
use crate::model::hash_kind::HashKind;

/// Options of the commands that index a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ScanArgs {
    /// Hash function of the index: blake2b/256, blake3/256 or sha512/256.
    #[arg(long, value_name = "KIND", default_value_t)]
    pub(in crate::client) hash: HashKind,
    /// Read and hash every file, also those that didn't change since they were indexed last.
    #[arg(long)]
    pub(in crate::client) rehash: bool,
}

impl ScanArgs {
    /// For the driver, at this moment.
    pub(in crate::client) fn options(&self) -> ScanOptions {
        let folder = cache_folder().filter(|_| !self.rehash);
        let cache = folder.map(|folder| ScanCache { folder, now: clock::stamp() });
        ScanOptions { cache, ..ScanOptions::new(self.hash) }
    }
}

/// Where hashes are kept, as the XDG base directory specification has it; `None`: whose environment names no home keeps nothing.
fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("ciruela/scans"))
}

/// Scans with a progress bar, if there is a terminal to show it on.
pub(super) fn with_progress<T>(
    doing: &'static str,
    scan: impl FnOnce(&(dyn Fn(ScanProgress) + Sync)) -> Result<T, ScanError>,
) -> Result<T, ScanError> {
    if !ui::is_interactive() {
        return scan(&|_| ());
    }
    let bar = ui::bytes_bar();
    bar.set_message(doing);
    let result = scan(&|progress| match progress {
        ScanProgress::Walking { entries } => bar.set_message(format!("{doing}: {entries} entries")),
        ScanProgress::Hashing { done_bytes, total_bytes } => {
            bar.set_length(total_bytes);
            // Threads tell out of order.
            if done_bytes > bar.position() {
                bar.set_position(done_bytes);
            }
        }
    });
    bar.finish_and_clear();
    result
}
