//! How it stands, node by node, and whether that is an end.

use std::net::SocketAddr;

use super::Uploads;
use super::peer::{Peer, Stage};
use crate::model::ids::ImageId;
use crate::model::peer::Host;
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// How it ended, in order of weight: the exit status follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Not an end.
    Open,
    /// Every live node is done.
    Done,
    /// Enough nodes are done by the early rule; the others are named.
    DoneEarly,
    /// A node refused, gave up, or nobody carries a directory.
    Refused,
    /// The deadline passed.
    Late,
    /// No node can be reached.
    Unreachable,
    /// The keys at hand failed to sign.
    NotSigned(String),
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Whether it is over, and how.
    pub ending: Ending,
    /// Each node.
    pub nodes: Vec<NodeResult>,
    /// Names that could not be resolved, and why.
    pub unresolved: Vec<(String, String)>,
    /// Paths which no node carries.
    pub homeless: Vec<VPath>,
}

/// How it stands at one node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeResult {
    /// Its address.
    pub address: SocketAddr,
    /// Who it is, if it was ever reached.
    pub host: Option<Host>,
    /// It can't be reached and counts as down; why.
    pub down: Option<String>,
    /// Not connected now, and why.
    pub trouble: Option<String>,
    /// One per upload.
    pub uploads: Vec<(VPath, UploadResult)>,
}

/// How an upload fares at one node.
#[derive(Debug, Clone, PartialEq)]
pub enum UploadResult {
    /// Visible there.
    Done { already: bool, bytes_reused: u64, bytes_fetched: u64 },
    /// Another image is there, which `--append-weak` allows.
    Kept { current: Option<ImageId> },
    /// The node doesn't carry that directory.
    NotHere,
    /// Refused, and what a person should know.
    Refused { word: String, detail: String, keys: Vec<String>, current: Option<ImageId> },
    /// The node took it and gave it up.
    Aborted { result: String, reason: String },
    /// Under way, and what it waits for.
    Waiting { state: String, waiting: Option<String>, bytes_done: u64, bytes_total: u64 },
}

impl UploadResult {
    /// As it should be.
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Kept { .. } | Self::NotHere)
    }

    /// Nothing more is to come.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Waiting { .. })
    }
}

impl NodeResult {
    /// Everything final.
    pub fn is_final(&self) -> bool {
        self.uploads.iter().all(|(_, result)| result.is_final())
    }

    /// Everything final and good.
    pub fn is_good(&self) -> bool {
        self.uploads.iter().all(|(_, result)| result.is_good())
    }
}

impl Summary {
    pub(super) fn of(engine: &Uploads, _now: Time) -> Self {
        let nodes: Vec<_> = engine.peers.values().map(|peer| node(engine, peer)).collect();
        let homeless = engine.uploads.iter().enumerate().filter(|(upload, _)| {
            let mut stages = engine.peers.values().map(|peer| &peer.stages[*upload]);
            !engine.peers.is_empty() && stages.all(|stage| *stage == Stage::NotHere)
        });
        let homeless = homeless.map(|(_, upload)| upload.path.clone()).collect();
        let unresolved = engine.unresolved.iter().map(|(name, reason)| (name.clone(), reason.clone())).collect();
        Self { ending: Ending::Open, nodes, unresolved, homeless }
    }

    /// The ending, if this is one.
    pub(super) fn ending_at(&self, engine: &Uploads, now: Time) -> Option<Ending> {
        let done = self.nodes.iter().filter(|node| node.is_final() && node.is_good()).count();
        let late = now >= engine.started + engine.rules.deadline;
        if engine.resolving.is_empty() {
            if self.nodes.is_empty() || self.nodes.iter().all(|node| node.down.is_some() && node.host.is_none()) {
                return Some(Ending::Unreachable);
            }
            let settled = |node: &NodeResult| node.is_final() || (node.down.is_some() && !engine.rules.require_all);
            if self.nodes.iter().all(settled) {
                let bad = self.nodes.iter().any(|node| node.is_final() && !node.is_good());
                let unresolved = !self.unresolved.is_empty() && engine.rules.require_all;
                return Some(if bad || !self.homeless.is_empty() {
                    Ending::Refused
                } else if unresolved {
                    Ending::Late
                } else {
                    Ending::Done
                });
            }
        }
        if engine.early_passed && done >= engine.rules.early_hosts {
            let enough = done as f64 >= engine.rules.early_fraction * self.nodes.len() as f64;
            let bad = self.nodes.iter().any(|node| node.is_final() && !node.is_good());
            if enough && !bad {
                return Some(Ending::DoneEarly);
            }
        }
        late.then(|| if self.nodes.iter().all(|node| node.host.is_none()) { Ending::Unreachable } else { Ending::Late })
    }
}

fn node(engine: &Uploads, peer: &Peer) -> NodeResult {
    let trouble = peer.trouble().map(str::to_owned);
    let down = peer.is_down().then(|| trouble.clone().unwrap_or_else(|| "it doesn't answer".to_owned()));
    let uploads = engine
        .uploads
        .iter()
        .zip(&peer.stages)
        .map(|(upload, stage)| (upload.path.clone(), result(stage, trouble.as_deref())));
    NodeResult {
        address: peer.address,
        host: peer.host.clone(),
        down,
        uploads: uploads.collect(),
        trouble: trouble.clone(),
    }
}

fn result(stage: &Stage, trouble: Option<&str>) -> UploadResult {
    let waiting = |state: &str, waiting: Option<String>| {
        let waiting = waiting.or_else(|| trouble.map(str::to_owned));
        UploadResult::Waiting { state: state.to_owned(), waiting, bytes_done: 0, bytes_total: 0 }
    };
    match stage {
        Stage::Unsent => waiting("not sent", None),
        Stage::Asked { .. } => waiting("submitted", Some("the node's verdict".to_owned())),
        Stage::Accepted { progress: None } => waiting("accepted", None),
        Stage::Accepted { progress: Some(progress) } => UploadResult::Waiting {
            state: progress.state.clone(),
            waiting: progress.waiting.clone(),
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
        },
        Stage::NotHere => UploadResult::NotHere,
        Stage::Kept { current } => UploadResult::Kept { current: *current },
        Stage::Refused { word, detail, keys, current } => {
            UploadResult::Refused { word: word.clone(), detail: detail.clone(), keys: keys.clone(), current: *current }
        }
        Stage::Ended(outcome) if matches!(outcome.result.as_str(), "done" | "already") => UploadResult::Done {
            already: outcome.result == "already",
            bytes_reused: outcome.bytes_reused,
            bytes_fetched: outcome.bytes_fetched,
        },
        Stage::Ended(outcome) => UploadResult::Aborted {
            result: outcome.result.clone(),
            reason: outcome.reason.clone().unwrap_or_else(|| outcome.result.clone()),
        },
    }
}
