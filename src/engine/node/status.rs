//! What a node can say of itself, for the status pages.

use std::collections::BTreeMap;

use super::keeping::Gone;
use super::{Node, cluster};
use crate::engine::deploy::{self, Found};
use crate::engine::gossip::Dropped;
use crate::engine::retention;
use crate::model::ids::{ChangeId, ImageId};
use crate::model::peer::{Host, NodeId, NodeInfo};
use crate::model::scrub::Verdict;
use crate::model::time::Stamp;
use crate::model::vpath::VPath;

/// A node at one moment.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// Who it is.
    pub host: Host,
    /// WebSocket connections.
    pub connections: usize,
    /// Names of configured directories.
    pub directories: Vec<String>,
    /// Each path that has a head.
    pub paths: Vec<PathStatus>,
    /// Nodes of the cluster, this one first.
    pub members: Vec<MemberStatus>,
    /// Directories that the others aren't told of, because they are too many.
    pub directories_left_out: usize,
    /// Datagrams that weren't taken, by reason.
    pub datagrams_dropped: Dropped,
    /// How each config stands that cleans.
    pub retention: Vec<(String, retention::Status)>,
    /// Which directory is being compared with its image, and how many bytes of it were read.
    pub scrubbing: Option<(VPath, u64)>,
}

/// A node as this one knows it.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// Which.
    pub node: NodeId,
    /// What it says of itself.
    pub info: NodeInfo,
    /// `alive`, `down` or `left`.
    pub state: &'static str,
}

/// One path at one moment.
#[derive(Debug, Clone)]
pub struct PathStatus {
    /// Which.
    pub path: VPath,
    /// What should be there.
    pub image: Option<ImageId>,
    /// By which change.
    pub change: ChangeId,
    /// Of what time.
    pub stamp: Stamp,
    /// What this node made visible there.
    pub visible: Option<ImageId>,
    /// What was visible before, if it is set aside.
    pub previous: Option<ImageId>,
    /// `done`, `removing` and `removed` (by a delete), `cleaned` (`removing` before), `not kept` (the rules of retention would remove it), `not configured`, `conflict` (another image stays visible), or the step of the deployment.
    pub state: &'static str,
    /// What it waits for.
    pub waiting: Option<String>,
    /// The kind of failure that it waits to go away.
    pub failure: Option<&'static str>,
    /// Bytes that are there.
    pub bytes_done: u64,
    /// Bytes of all files, 0 while unknown.
    pub bytes_total: u64,
    /// What is wrong with what is visible.
    pub damaged: Option<String>,
    /// How it was when it was compared with its image, or deployed.
    pub verdict: Option<Verdict>,
    /// Bytes that were fetched, so far or for what is visible.
    pub bytes_fetched: u64,
    /// Where the others came from, and those.
    pub found: Found,
}

impl PathStatus {
    /// All is as it should be: the image is visible, or nothing is, as a delete or the rules of retention say.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, "done" | "removed" | "cleaned" | "not kept")
    }
}

impl Node {
    /// Everything at this moment, paths in order.
    pub fn status(&self) -> NodeStatus {
        let gone = self.all_gone();
        let retention = self.retentions.status().map(|(name, status)| (name.to_owned(), status.clone()));
        NodeStatus {
            host: self.host.clone(),
            connections: self.connections.len(),
            directories: self.config.directories.keys().map(ToString::to_string).collect(),
            paths: self.heads.paths().iter().filter_map(|path| self.path_status(path, gone.get(path))).collect(),
            members: self.members(),
            directories_left_out: self.cluster.gossip.directories_left_out(),
            datagrams_dropped: self.cluster.gossip.dropped(),
            retention: retention.collect(),
            scrubbing: self.scrubs.current().map(|(path, bytes)| (path.clone(), bytes)),
        }
    }

    fn members(&self) -> Vec<MemberStatus> {
        let me = MemberStatus {
            node: self.links.me,
            info: cluster::info(&self.host, self.version, &self.config),
            state: "alive",
        };
        let gossip = &self.cluster.gossip;
        let alive = gossip.members().map(|(node, info)| (*node, info.clone(), "alive"));
        // One that carried several directories is found with each.
        let down = self.config.directories.keys().flat_map(|directory| gossip.down(directory));
        let down = down.map(|(node, info, _, left)| (*node, info.clone(), if left { "left" } else { "down" }));
        let others: BTreeMap<_, _> = down.chain(alive).map(|(node, info, state)| (node, (info, state))).collect();
        let others = others.into_iter().map(|(node, (info, state))| MemberStatus { node, info, state });
        std::iter::once(me).chain(others).collect()
    }

    fn path_status(&self, path: &VPath, gone: Option<&Gone>) -> Option<PathStatus> {
        let (change, signed) = self.heads.change(path)?;
        let deploy = self.deploys.status(path);
        let visible = self.heads.committed_at(path).map(|committed| committed.image);
        let fetched = self.heads.committed_at(path).map_or(0, |committed| committed.bytes.fetched);
        let fetching = deploy.as_ref().filter(|status| !status.reported);
        let (bytes_fetched, found) = match fetching {
            Some(status) => (self.fetches.bytes_fetched(path).unwrap_or(0), status.found.clone()),
            None => (fetched, self.heads.origin(path).cloned().unwrap_or_default()),
        };
        let deleted = self.heads.is_deleted(path);
        let removal = self.removals.failure(path).filter(|_| deleted);
        let idle = match self.config.serves(path) {
            Some(_) if deleted && !self.is_removed(path) => "removing",
            _ if deleted && visible.is_none() => "removed",
            // Marked: what may be left of it goes.
            _ if self.heads.is_cleaned(path) && self.heads.is_left(path) => "removing",
            _ if self.heads.is_cleaned(path) => Gone::Cleaned.state(),
            _ if self.heads.is_committed(path) => "done",
            _ if let Some(gone) = gone => gone.state(),
            Some(_) if self.conflict(path).is_some() => "conflict",
            Some(_) | None => "not configured",
        };
        Some(PathStatus {
            path: path.clone(),
            image: signed.change.image,
            change,
            stamp: signed.change.stamp,
            visible,
            previous: self.heads.previous(path).map(|(image, _)| image),
            state: deploy.as_ref().filter(|_| !deleted).map_or(idle, |status| status.step),
            waiting: deploy
                .as_ref()
                .and_then(|status| self.waiting(path, status).or_else(|| self.unsupplied(path, status)))
                .or_else(|| removal.map(|failure| failure.text.clone())),
            failure: deploy
                .as_ref()
                .and_then(|status| status.failure.as_ref())
                .or(removal)
                .map(|failure| failure.kind.name()),
            bytes_done: deploy
                .as_ref()
                .map_or(0, |status| status.bytes_done + self.fetches.bytes_fetched(path).unwrap_or(0)),
            bytes_total: deploy.as_ref().map_or(0, |status| status.bytes_total),
            bytes_fetched,
            found,
            verdict: self.scrubs.tree(path).and_then(|tree| tree.verdict),
            damaged: self.heads.trouble(path),
        })
    }

    /// That what is missing is nowhere: for a moment that is so in any swarm, so it is only shown to whoever looks.
    fn unsupplied(&self, path: &VPath, status: &deploy::Status) -> Option<String> {
        let fetches = self.fetches.bytes_fetched(path).is_some();
        let needs = fetches && status.bytes_total > 0 && !self.fetches.has_useful_source(status.image);
        needs.then(|| "no source: nobody connected has what is missing here".to_owned())
    }

    /// What a deployment waits for, in words.
    pub(super) fn waiting(&self, path: &VPath, status: &deploy::Status) -> Option<String> {
        let needs_source = self.fetches.bytes_fetched(path).is_some() || self.fetches.wants_index(status.image);
        if needs_source && self.fetches.source_count(status.image) == 0 {
            return Some("no source: nobody connected offers this image".to_owned());
        }
        status.waiting.clone()
    }
}
