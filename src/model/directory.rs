//! Directory configs and the node's configuration, as checked values. Reading them from files is `format/config`'s.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::key::{NamedKey, PublicKey};
use super::peer::ClusterKey;
use super::vpath::VPath;

/// One `configs/NAME.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// The file's name without `.yaml`: the first component of virtual paths.
    pub name: Box<str>,
    /// Where its directories are, absolute.
    pub directory: PathBuf,
    /// Components after the key; with 0 the directory is replaced as a whole.
    pub num_levels: usize,
    /// First wins; a different image for the same path is refused.
    pub append_only: bool,
    /// Names of key files whose keys may upload here (besides the master keys).
    pub upload_keys: Vec<Box<str>>,
    /// Also accept signatures over `[path, image, timestamp]` alone.
    pub legacy_signatures: bool,
    /// Of each directory that is replaced, the tree that was visible before is set aside until the next one is.
    pub keep_previous: bool,
    /// How often its directories are read and compared with their images; `None`: never by themselves.
    pub scrub_interval: Option<Duration>,
    /// What is found damaged is deployed again.
    pub heal: bool,
    /// The retention rules; `None`: nothing is ever removed.
    pub retention: Option<Retention>,
}

impl DirectoryConfig {
    /// One whose file says nothing else but that it is append-only and has one level.
    pub fn plain(name: impl Into<Box<str>>, directory: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            directory: directory.into(),
            num_levels: 1,
            append_only: true,
            upload_keys: Vec::new(),
            legacy_signatures: false,
            keep_previous: false,
            scrub_interval: None,
            heal: false,
            retention: None,
        }
    }
}

/// The `keep-*` rules of a directory with `auto-clean: true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Keep at least this many.
    pub keep_min_directories: usize,
    /// Keep at most this many.
    pub keep_max_directories: usize,
    /// Keep what was signed within this time.
    pub keep_recent: Duration,
    /// Keep what this file names, one path per line, absolute.
    pub keep_list_file: Option<PathBuf>,
}

/// All that a node's configuration folder says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// By name.
    pub directories: BTreeMap<Box<str>, Arc<DirectoryConfig>>,
    /// Keys of `master.key`: accepted for every directory.
    pub master_keys: Vec<NamedKey>,
    /// Keys of `keys/NAME.key`, by NAME.
    pub keys: BTreeMap<Box<str>, Vec<NamedKey>>,
    /// Lines of `peers.txt`: `host`, `host:port`, `address`, `[address]:port`.
    pub peers: Vec<Box<str>>,
    /// `cluster.key`: what the nodes of the cluster share.
    pub cluster_key: Option<ClusterKey>,
    /// How fast it may send and fetch content.
    pub rates: Rates,
}

impl NodeConfig {
    /// The config of the path's key.
    pub fn directory_of(&self, path: &VPath) -> Option<&Arc<DirectoryConfig>> {
        self.directories.get(path.key())
    }

    /// The config of the path's key, if a path of so many levels can be in it.
    pub fn serves(&self, path: &VPath) -> Option<&Arc<DirectoryConfig>> {
        self.directory_of(path).filter(|directory| directory.num_levels == path.levels())
    }

    /// Every key which `directory` accepts: the master keys and those of `upload-keys`, each once.
    pub fn accepted_keys<'a>(&'a self, directory: &'a DirectoryConfig) -> Vec<&'a NamedKey> {
        let mut seen = std::collections::BTreeSet::<PublicKey>::new();
        let named = directory.upload_keys.iter().filter_map(|name| self.keys.get(name)).flatten();
        named.chain(&self.master_keys).filter(|named| seen.insert(named.key)).collect()
    }
}

/// Bounds on the flow of content, in bytes per second; `None`: there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Blocks and indexes that this node sends.
    pub upload: Option<u64>,
    /// Blocks that it fetches.
    pub download: Option<u64>,
    /// What is read to compare directories with their images; `None`: the usual.
    pub scrub: Option<u64>,
}
