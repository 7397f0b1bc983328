//! The configuration folder: `master.key`, `keys/NAME.key`, `configs/NAME.yaml`, `overrides.yaml`, `peers.txt`, `cluster.key`, read into
//! one [`NodeConfig`]. All that is wrong is reported at once, with file and line. What a text means is `format/config`'s;
//! when to reload, the daemon's.

mod check;
mod files;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::config::{self, ConfigError, Override, did_you_mean};
use crate::format::ssh::{AuthorizedKeysError, parse_authorized_keys};
use crate::model::directory::{DirectoryConfig, NodeConfig, Rates};
use crate::model::limits;
use crate::model::peer::ClusterKey;

use files::Folder;
/// The file with the cluster's key.
pub const CLUSTER_KEY_FILE: &str = "cluster.key";

pub use report::{ConfigReport, check_config, render_report};

/// One thing that is wrong with the configuration folder.
#[derive(Debug)]
pub struct ConfigurationError {
    /// The file or folder.
    pub file: PathBuf,
    /// Counted from 1; `None` if it concerns the whole file.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: ConfigurationProblem,
}

/// What can be wrong with a configuration folder.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationProblem {
    /// Not there.
    #[error("no such folder; name another with --config-base-dir")]
    MissingBase,
    /// The system's words.
    #[error("can't be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// A pipe or device would block, a directory has no text.
    #[error("it is not a regular file")]
    NotAFile,
    /// Beyond [`limits::CONFIG_FILE_BYTES_MAX`].
    #[error("it is longer than {} bytes", limits::CONFIG_FILE_BYTES_MAX)]
    TooLong,
    /// Not UTF-8.
    #[error("it contains bytes that are not UTF-8 text")]
    NotText,
    /// Beyond [`limits::CONFIG_FILES_MAX`].
    #[error("it has more than {} files", limits::CONFIG_FILES_MAX)]
    TooManyFiles,
    /// A file whose ending is nearly right.
    #[error("it is not read; rename it to {0}")]
    WrongEnding(String),
    /// In a config or peers file.
    #[error(transparent)]
    Config(config::Problem),
    /// In a key file.
    #[error(transparent)]
    Key(crate::format::ssh::authorized::KeyLineProblem),
    /// `upload-keys` names a key file that isn't there.
    #[error("`upload-keys` names `{name}`, but there is no keys/{name}.key{}", did_you_mean(meant.as_deref()))]
    UnknownKey { name: String, meant: Option<String> },
    /// `overrides.yaml` names a config that isn't there.
    #[error("there is no configs/{name}.yaml{}", did_you_mean(meant.as_deref()))]
    UnknownOverride { name: String, meant: Option<String> },
    /// Two configs would manage the same tree.
    #[error("its directory {} is {relation} {}, the directory of {other}; each config needs a tree of its own", mine.display(), theirs.display())]
    Overlap { mine: Box<Path>, relation: &'static str, theirs: Box<Path>, other: Box<str> },
    /// Beyond [`limits::KEYS_PER_DIRECTORY_MAX`].
    #[error("it accepts {0} keys, more than {max}", max = limits::KEYS_PER_DIRECTORY_MAX)]
    TooManyKeys(usize),
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file's name may hold anything, but the message stays one line.
        for c in self.file.to_string_lossy().chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        write!(f, "{line}: {}", self.problem)
    }
}

impl std::error::Error for ConfigurationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}

/// Reads the configuration below `base`; relative directories are below `cwd`, which is absolute. Each file may be missing,
/// but `base` may not.
pub fn load(base: &Path, cwd: &Path) -> Result<NodeConfig, Vec<ConfigurationError>> {
    let mut loader = Loader { folder: Folder::open(base)?, cwd, errors: Vec::new() };
    let config = loader.load();
    if loader.errors.is_empty() { Ok(config) } else { Err(loader.errors) }
}

/// What is dangerous about the folder, though it can be used.
pub fn warnings(base: &Path) -> Vec<String> {
    let file = base.join(CLUSTER_KEY_FILE);
    let mode = std::fs::metadata(&file).map(|metadata| metadata.permissions().mode() & 0o077);
    let exposed = mode.ok().filter(|mode| *mode != 0);
    let warning = |_| {
        format!(
            "{file} can be read or written by other users of this host, and whoever has it is a node of the cluster; chmod 600 it",
            file = file.display()
        )
    };
    exposed.map(warning).into_iter().collect()
}

struct Loader<'a> {
    folder: Folder,
    cwd: &'a Path,
    errors: Vec<ConfigurationError>,
}

impl Loader<'_> {
    fn load(&mut self) -> NodeConfig {
        let master_keys = self.keys(Path::new("master.key"), "master");
        let mut keys = BTreeMap::new();
        for (name, file) in self.named("keys", "key", &[]) {
            let list = self.keys(&file, &name);
            keys.insert(name.into_boxed_str(), list);
        }
        let (mut directories, mut places) = (BTreeMap::new(), BTreeMap::new());
        // Names of configs that are there but broken: an override of one is no second error.
        let mut known = Vec::new();
        for (name, file) in self.named("configs", "yaml", &["yml"]) {
            if let Some((directory, lines)) = self.directory(&file, &name) {
                let name = name.clone().into_boxed_str();
                let place = check::Place { upload_keys: lines.upload_keys, directory: (file, lines.directory) };
                directories.insert(name.clone(), directory);
                places.insert(name, place);
            }
            known.push(name);
        }
        self.overrides(&mut directories, &mut places, &known);
        let peers = self.peers();
        let cluster_key = self.cluster_key();
        let directories = directories.into_iter().map(|(name, directory)| (name, Arc::new(directory))).collect();
        let rates = self.rates();
        let config = NodeConfig { directories, master_keys, keys, peers, cluster_key, rates };
        self.errors.extend(check::upload_keys(&self.folder, &config, &places));
        self.errors.extend(check::overlaps(&self.folder, &config, &places));
        config
    }

    /// Files of `folder` with the given ending, by name; one with an ending in `wrong` is an error.
    fn named(&mut self, folder: &str, ending: &str, wrong: &[&str]) -> Vec<(String, PathBuf)> {
        let listed = self.folder.list(folder, ending, wrong);
        self.errors.extend(listed.errors);
        listed.named
    }

    fn text(&mut self, file: &Path) -> Option<String> {
        self.folder.read(file).unwrap_or_else(|error| {
            self.errors.push(error);
            None
        })
    }

    fn keys(&mut self, file: &Path, name: &str) -> Vec<crate::model::key::NamedKey> {
        let text = self.text(file).unwrap_or_default();
        parse_authorized_keys(name, &text).unwrap_or_else(|errors| {
            let errors = errors.into_iter().map(|AuthorizedKeysError { line, problem }| {
                self.folder.error(file, Some(line), ConfigurationProblem::Key(problem))
            });
            self.errors.extend(errors);
            Vec::new()
        })
    }

    fn directory(&mut self, file: &Path, name: &str) -> Option<(DirectoryConfig, config::Lines)> {
        let text = self.text(file)?;
        config::parse_directory(name, &text, self.cwd).map_err(|errors| self.config_errors(file, errors)).ok()
    }

    fn overrides(
        &mut self,
        directories: &mut BTreeMap<Box<str>, DirectoryConfig>,
        places: &mut BTreeMap<Box<str>, check::Place>,
        known: &[String],
    ) {
        let file = Path::new("overrides.yaml");
        let Some(text) = self.text(file) else { return };
        let overrides = config::parse_overrides(&text, self.cwd).unwrap_or_else(|errors| {
            self.config_errors(file, errors);
            Vec::new()
        });
        for Override { name, line, directory } in overrides {
            if let Some(config) = directories.get_mut(&name) {
                config.directory = directory;
                if let Some(place) = places.get_mut(&name) {
                    place.directory = (file.to_owned(), Some(line));
                }
            } else if known.iter().all(|known| **known != *name) {
                let meant = config::nearest(&name, known.iter().map(String::as_str)).map(str::to_owned);
                let problem = ConfigurationProblem::UnknownOverride { name: name.into_string(), meant };
                self.errors.push(self.folder.error(file, Some(line), problem));
            }
        }
    }

    fn peers(&mut self) -> Vec<Box<str>> {
        let file = Path::new("peers.txt");
        let text = self.text(file).unwrap_or_default();
        config::parse_peers(&text).unwrap_or_else(|errors| {
            self.config_errors(file, errors);
            Vec::new()
        })
    }

    fn rates(&mut self) -> Rates {
        let file = Path::new("daemon.yaml");
        let Some(text) = self.text(file) else { return Rates::default() };
        config::parse_daemon(&text).unwrap_or_else(|errors| {
            self.config_errors(file, errors);
            Rates::default()
        })
    }

    fn cluster_key(&mut self) -> Option<ClusterKey> {
        let file = Path::new(CLUSTER_KEY_FILE);
        let text = self.text(file)?;
        config::parse_cluster_key(&text).map_err(|error| self.config_errors(file, vec![error])).ok()
    }

    fn config_errors(&mut self, file: &Path, errors: Vec<ConfigError>) {
        let errors = errors
            .into_iter()
            .map(|ConfigError { line, problem }| self.folder.error(file, line, ConfigurationProblem::Config(problem)));
        self.errors.extend(errors);
    }
}
