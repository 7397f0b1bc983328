//! What arrived: each copy is scanned anew, compared with the source, and listed shortly.

use std::path::{Path, PathBuf};

use crate::client::scanning::with_progress;
use crate::client::ui;
use crate::driver::scan::{Difference, Scan, ScanError, ScanOptions, ScanStats, compare, scan};
use crate::model::image::Image;

/// Entries that are named in the list.
const ENTRIES_SHOWN_MAX: usize = 4;
/// Differences that are named.
const DIFFERENCES_SHOWN_MAX: usize = 5;

/// A directory as one daemon has it.
pub(super) struct Copy {
    /// The daemon's.
    name: String,
    path: PathBuf,
    found: ScanStats,
    /// In the root, as the index has them.
    entries: Vec<String>,
    /// Empty if it is the published image.
    pub(super) differences: Vec<Difference>,
}

/// Reads source and copies.
pub(super) fn verify(source: &Path, trees: Vec<(String, PathBuf)>) -> Result<Vec<Copy>, ScanError> {
    let options = ScanOptions::default();
    let scan = |dir: &Path| with_progress("verifying", |progress| scan(dir, &options, progress));
    let original = scan(source)?;
    let copy = |(name, path): (String, PathBuf)| {
        let Scan { image, id, stats, .. } = scan(&path)?;
        let differences = if id == original.id { Vec::new() } else { differences(&path, &original.image)? };
        Ok(Copy { name, path, found: stats, entries: entries(&image), differences })
    };
    trees.into_iter().map(copy).collect()
}

fn differences(dir: &Path, image: &Image) -> Result<Vec<Difference>, ScanError> {
    with_progress("comparing", |progress| compare(dir, image, &ScanOptions::default(), progress))
}

/// Names in the root, directories with a slash.
fn entries(image: &Image) -> Vec<String> {
    let top = |path: &str| {
        let name = path.trim_start_matches('/');
        (!name.is_empty() && !name.contains('/')).then(|| format!("{name}/"))
    };
    let directories = image.directories().iter().filter_map(|directory| top(&directory.path));
    let root = image.directories().first().into_iter().flat_map(|root| &root.entries);
    directories.chain(root.map(|entry| entry.name.to_owned())).collect()
}

/// The copies in lines.
pub(super) fn listing(copies: &[Copy]) -> String {
    let mut lines = vec!["the copies, read anew and compared with the source:".to_owned()];
    for copy in copies {
        let Copy { name, path, found, entries, differences } = copy;
        let verdict = if differences.is_empty() { "verified" } else { "DIFFERENT" };
        lines.push(format!(
            "  {name}: {} files, {}, {verdict}: {}",
            found.files,
            ui::bytes(found.bytes),
            path.display()
        ));
        lines.push(format!("    {}", shortened(entries, ENTRIES_SHOWN_MAX).join("  ")));
        let differences: Vec<_> = differences.iter().map(|one| format!("{:?} {}", one.kind, one.path)).collect();
        lines.extend(shortened(&differences, DIFFERENCES_SHOWN_MAX).iter().map(|line| format!("    {line}")));
    }
    lines.join("\n")
}

fn shortened(all: &[String], max: usize) -> Vec<String> {
    let mut shown: Vec<_> = all.iter().take(max).cloned().collect();
    if all.len() > max {
        shown.push(format!("and {} more", all.len() - max));
    }
    shown
}
