//! What one machine says of itself: `/status.json`, see `doc/operations.md`. What it doesn't say, as an older one, is missing.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

use super::judge::Standing;

/// Characters of an image's or change's id that are shown.
const ID_CHARS: usize = 16;

/// The page.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::client) struct StatusPage {
    pub(super) version: String,
    pub(in crate::client) hostname: String,
    pub(in crate::client) machine_id: String,
    #[serde(default)]
    pub(super) uptime_seconds: Option<u64>,
    #[serde(default)]
    pub(in crate::client) directories: Vec<String>,
    /// Of each directory.
    #[serde(default)]
    pub(super) heads: BTreeMap<String, Heads>,
    #[serde(default)]
    pub(in crate::client) paths: Vec<PathEntry>,
    /// Of each directory that cleans.
    #[serde(default)]
    pub(super) retention: BTreeMap<String, Retention>,
    /// Nodes of the cluster, itself included.
    #[serde(default)]
    pub(super) members: Vec<Member>,
}

/// All heads of a directory in one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Heads {
    pub(super) count: u64,
    pub(super) fingerprint: String,
}

/// How a directory stands that cleans.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Retention {
    /// Why nothing is removed, or not all that should be.
    #[serde(default)]
    pub(super) problem: Option<String>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(in crate::client) struct PathEntry {
    pub(in crate::client) path: String,
    pub(in crate::client) image: Option<String>,
    pub(in crate::client) change: String,
    pub(in crate::client) stamp_ms: u64,
    pub(in crate::client) visible: Option<String>,
    /// What was visible before, if the machine has it still.
    #[serde(default)]
    pub(in crate::client) previous: Option<String>,
    pub(super) state: String,
    pub(super) waiting: Option<String>,
    pub(super) bytes_done: u64,
    pub(super) bytes_total: u64,
    /// What is wrong with what is visible.
    #[serde(default)]
    pub(super) damaged: Option<String>,
}

/// A node as another one knows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Member {
    pub(super) address: SocketAddr,
    #[serde(default)]
    pub(super) machine_id: String,
    #[serde(default)]
    pub(super) hostname: String,
    /// `alive`, `suspect` or `down`.
    #[serde(default)]
    pub(super) state: String,
}

impl StatusPage {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| format!("its status page isn't one of ciruela: {error}"))
    }

    /// The paths of a directory.
    pub(super) fn paths_of(&self, directory: &str) -> impl Iterator<Item = &PathEntry> {
        let below = move |path: &str| path.split('/').nth(1) == Some(directory);
        self.paths.iter().filter(move |entry| below(&entry.path))
    }
}

impl PathEntry {
    /// What should be there is; an old tree may still be removed.
    pub(in crate::client) fn is_done(&self) -> bool {
        matches!(self.state.as_str(), "done" | "removed" | "cleaned" | "not kept")
            || (self.state == "collect" && self.visible == self.image)
    }

    /// Another image is visible, and stays.
    pub(super) fn is_conflict(&self) -> bool {
        self.state == "conflict"
    }

    /// On a machine that has the right head.
    pub(super) fn standing(&self) -> Standing {
        match () {
            () if self.is_done() => Standing::Current,
            () if self.is_conflict() => Standing::Conflict,
            () => Standing::Deploying,
        }
    }

    /// `fetch 45 %, waits: no source`.
    pub(super) fn words(&self) -> String {
        if let (true, Some(visible), Some(image)) = (self.is_conflict(), &self.visible, &self.image) {
            return format!("conflict: {} is there and stays, {} should be", short(visible), short(image));
        }
        let percent = match self.bytes_total {
            0 => String::new(),
            total => format!(" {} %", u128::from(self.bytes_done) * 100 / u128::from(total)),
        };
        let waiting = self.waiting.as_ref().map_or_else(String::new, |what| format!(", waits: {what}"));
        let damaged = self.damaged.as_ref().map_or_else(String::new, |what| format!(", DAMAGED: {what}"));
        format!("{}{percent}{waiting}{damaged}", self.state)
    }
}

/// The first characters of an id.
pub(super) fn short(id: &str) -> String {
    id.chars().take(ID_CHARS).collect()
}
