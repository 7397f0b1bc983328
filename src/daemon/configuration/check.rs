//! What must fit between several files: names of keys, and directories that don't overlap.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::Folder;
use super::{ConfigurationError, ConfigurationProblem};
use crate::format::config::nearest;
use crate::model::directory::{DirectoryConfig, NodeConfig};
use crate::model::limits;

/// `upload-keys` that name no key file, and directories which accept too many keys.
pub(super) fn upload_keys(folder: &Folder, config: &NodeConfig) -> Vec<ConfigurationError> {
    let mut errors = Vec::new();
    for directory in config.directories.values() {
        let mut error = |problem| errors.push(folder.error(&file_of(directory), None, problem));
        for name in directory.upload_keys.iter().filter(|name| !config.keys.contains_key(*name)) {
            let meant = nearest(name, config.keys.keys().map(|known| &**known)).map(str::to_owned);
            error(ConfigurationProblem::UnknownKey { name: name.to_string(), meant });
        }
        let accepted = config.accepted_keys(directory).len();
        if accepted > limits::KEYS_PER_DIRECTORY_MAX {
            error(ConfigurationProblem::TooManyKeys(accepted));
        }
    }
    errors
}

/// Directories that are, or are inside, another config's: each would remove what the other keeps.
pub(super) fn overlaps(folder: &Folder, config: &NodeConfig) -> Vec<ConfigurationError> {
    let mut resolved: Vec<(PathBuf, &DirectoryConfig)> =
        config.directories.values().map(|directory| (resolve(&directory.directory), &**directory)).collect();
    // Paths are ordered component by component, so what is inside a directory follows it without a gap.
    resolved.sort_by(|a, b| (&a.0, &a.1.name).cmp(&(&b.0, &b.1.name)));
    let mut errors = Vec::new();
    let mut outer: Vec<&(PathBuf, &DirectoryConfig)> = Vec::new();
    for inner in &resolved {
        while outer.last().is_some_and(|(path, _)| !inner.0.starts_with(path)) {
            outer.pop();
        }
        if let Some((path, other)) = outer.last() {
            let problem = ConfigurationProblem::Overlap {
                mine: inner.1.directory.as_path().into(),
                relation: if *path == inner.0 { "the same as" } else { "inside" },
                theirs: other.directory.as_path().into(),
                other: file_of(other).display().to_string().into(),
            };
            errors.push(folder.error(&file_of(inner.1), None, problem));
        }
        outer.push(inner);
    }
    errors
}

fn file_of(directory: &DirectoryConfig) -> PathBuf {
    Path::new("configs").join(format!("{}.yaml", directory.name))
}

/// The path with its links followed, as far as it exists: two names can lead to one directory.
fn resolve(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|ancestor| Some((ancestor, fs::canonicalize(ancestor).ok()?)));
    let resolved = existing.and_then(|(ancestor, real)| Some(real.join(path.strip_prefix(ancestor).ok()?)));
    // Joining an empty rest leaves a slash at the end, which comparing by components ignores.
    resolved.unwrap_or_else(|| path.into())
}
