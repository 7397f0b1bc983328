//! What must fit between several files: names of keys, and directories that don't overlap.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::Folder;
use super::{ConfigurationError, ConfigurationProblem};
use crate::format::config::nearest;
use crate::model::directory::{DirectoryConfig, NodeConfig};
use crate::model::limits;

/// Where a config says what has to fit others.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The line of each name in `upload-keys`, in its own file.
    pub(super) upload_keys: Vec<usize>,
    /// The file and line of its directory.
    pub(super) directory: (PathBuf, Option<usize>),
}

type Places = BTreeMap<Box<str>, Place>;

/// `upload-keys` that name no key file, and directories which accept too many keys.
pub(super) fn upload_keys(folder: &Folder, config: &NodeConfig, places: &Places) -> Vec<ConfigurationError> {
    let mut errors = Vec::new();
    for directory in config.directories.values() {
        let mut error = |line, problem| errors.push(folder.error(&file_of(directory), line, problem));
        let lines = places.get(&directory.name).map(|place| place.upload_keys.as_slice()).unwrap_or_default();
        for (at, name) in directory.upload_keys.iter().enumerate() {
            if !config.keys.contains_key(name) {
                let meant = nearest(name, config.keys.keys().map(|known| &**known)).map(str::to_owned);
                let problem = ConfigurationProblem::UnknownKey { name: name.to_string(), meant };
                error(lines.get(at).copied(), problem);
            }
        }
        let accepted = config.accepted_keys(directory).len();
        if accepted > limits::KEYS_PER_DIRECTORY_MAX {
            error(lines.first().copied(), ConfigurationProblem::TooManyKeys(accepted));
        }
    }
    errors
}

/// Directories that are, or are inside, another config's: each would remove what the other keeps.
pub(super) fn overlaps(folder: &Folder, config: &NodeConfig, places: &Places) -> Vec<ConfigurationError> {
    let mut resolved: Vec<(PathBuf, &DirectoryConfig)> =
        config.directories.values().map(|directory| (resolve(&directory.directory), &**directory)).collect();
    // Paths are ordered component by component, so what is inside a directory follows it without a gap.
    resolved.sort_by(|a, b| (&a.0, &a.1.name).cmp(&(&b.0, &b.1.name)));
    let place_of = |directory: &DirectoryConfig| match places.get(&directory.name) {
        Some(place) => place.directory.clone(),
        None => (file_of(directory), None),
    };
    let shown = |(file, line): (PathBuf, Option<usize>)| match line {
        Some(line) => format!("{}:{line}", file.display()),
        None => file.display().to_string(),
    };
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
                other: shown(place_of(other)).into(),
            };
            let (file, line) = place_of(inner.1);
            errors.push(folder.error(&file, line, problem));
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
