//! Where a virtual path lies on disk: base directory, target below it, staging directory on the same file system.
//!
//! `num-levels` ≥ 1: the base is the configured directory, the target what follows the key. 0: the configured directory
//! is itself the target, so the base is its parent. Whether a change may go there at all is `engine/access`'s question.

use std::path::{Component, Path, PathBuf};

use crate::model::directory::DirectoryConfig;
use crate::model::failure::{Failure, FailureKind};
use crate::model::ids::hex;
use crate::model::limits::STAGING_DIR_NAME;
use crate::model::vpath::VPath;

/// Ends the names of trees in the staging directory that are being removed.
/// Ends the names in the staging directory of trees that were visible before.
pub const PREVIOUS_SUFFIX: &str = "-previous";
/// Ends the names of trees that are being removed.
pub const REMOVED_SUFFIX: &str = "-removed";

/// The places on disk of one virtual path. All but the base are relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    base: PathBuf,
    target: PathBuf,
    staging_name: String,
}

impl Place {
    /// The place of `path` under `config`; `Hostile` for a configuration that leaves no sane place.
    pub fn new(config: &DirectoryConfig, path: &VPath) -> Result<Self, Failure> {
        let hostile = |why: &str| no_place(&path.to_string(), config, why);
        let base = base_of(config)?;
        let target = match (config.num_levels, path.suffix()) {
            (0, "") => PathBuf::from(config.directory.file_name().ok_or_else(|| hostile("it has no name of its own"))?),
            (levels, suffix) if levels > 0 && path.levels() == levels => PathBuf::from(suffix),
            _ => return Err(hostile("the number of components doesn't fit its `num-levels`")),
        };
        if !target.components().all(|c| matches!(c, Component::Normal(name) if name != STAGING_DIR_NAME)) {
            return Err(hostile("the path isn't made of plain names"));
        }
        Ok(Self { base, target, staging_name: staging_name(path) })
    }

    /// The directory that must be there: nothing above it is ever made.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Where the directory becomes visible, relative to the base.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The target with its base, for people.
    pub fn full_target(&self) -> PathBuf {
        self.base.join(&self.target)
    }

    /// The name of this path's staging directory in [`STAGING_DIR_NAME`].
    pub fn staging_name(&self) -> &str {
        &self.staging_name
    }

    /// The staging directory, relative to the base.
    pub fn staging(&self) -> PathBuf {
        Path::new(STAGING_DIR_NAME).join(&self.staging_name)
    }

    /// The tree that is staged; after an exchange, the old tree.
    pub fn tree(&self) -> PathBuf {
        self.staging().join("tree")
    }

    /// The old tree, where the file system can't exchange.
    pub fn old(&self) -> PathBuf {
        self.staging().join("old")
    }

    /// The visible tree, when it is being removed.
    pub fn removed(&self) -> PathBuf {
        Path::new(STAGING_DIR_NAME).join(format!("{}{REMOVED_SUFFIX}", self.staging_name))
    }

    /// A link which points to the id of the image that is staged: made in one step, never half written.
    pub fn previous(&self) -> PathBuf {
        Path::new(STAGING_DIR_NAME).join(format!("{}{PREVIOUS_SUFFIX}", self.staging_name))
    }

    pub fn marker(&self) -> PathBuf {
        self.staging().join("image")
    }

    /// A link which points to the inode number of a tree that was sealed: only that one may be swapped.
    pub fn sealed(&self) -> PathBuf {
        self.staging().join("sealed")
    }
}

/// The base directory of all paths under `config`; `Hostile` for a configuration that leaves none.
pub fn base_of(config: &DirectoryConfig) -> Result<PathBuf, Failure> {
    let hostile = |why: &str| no_place(&config.name, config, why);
    if !config.directory.is_absolute() {
        return Err(hostile("it isn't absolute"));
    }
    if config.num_levels > 0 {
        return Ok(config.directory.clone());
    }
    config.directory.parent().map(Path::to_owned).ok_or_else(|| hostile("it has no parent"))
}

fn no_place(what: &str, config: &DirectoryConfig, why: &str) -> Failure {
    let text = format!("{what} has no place in the directory {}: {why}", config.directory.display());
    Failure { kind: FailureKind::Hostile, text }
}

/// The name of a path's staging directory: fixed length, safe for any path, different for different paths.
pub fn staging_name(path: &VPath) -> String {
    hex(blake2b_simd::Params::new().hash_length(16).hash(path.as_str().as_bytes()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &str, num_levels: usize) -> DirectoryConfig {
        DirectoryConfig { num_levels, ..DirectoryConfig::plain("key", directory) }
    }

    fn path(text: &str) -> VPath {
        text.parse().expect("a valid path")
    }

    #[test]
    fn levels() {
        let place = Place::new(&config("/srv/images", 2), &path("/key/a/b")).expect("fits");
        assert_eq!((place.base(), place.target()), (Path::new("/srv/images"), Path::new("a/b")));
        assert_eq!(place.tree(), Path::new(".ciruela-staging").join(place.staging_name()).join("tree"));
        assert_eq!(place.staging_name().len(), 32);
        let whole = Place::new(&config("/srv/images", 0), &path("/key")).expect("fits");
        assert_eq!((whole.base(), whole.target()), (Path::new("/srv"), Path::new("images")));
        assert_ne!(place.staging_name(), whole.staging_name());
    }

    #[test]
    fn what_does_not_fit() {
        for (directory, levels, at) in [
            ("/srv", 1, "/key"),
            ("/srv", 0, "/key/a"),
            ("/srv", 1, "/key/a/b"),
            ("/", 0, "/key"),
            ("srv", 1, "/key/a"),
        ] {
            let failure = Place::new(&config(directory, levels), &path(at)).expect_err("must not fit");
            assert_eq!(failure.kind, FailureKind::Hostile, "{failure}");
        }
    }
}
