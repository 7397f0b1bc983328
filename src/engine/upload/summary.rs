//! How it stands, node by node, and whether that is an end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::follow::{Followed, Key, Row, is_good, result_of};
use super::peer::{Link, Peer, Stage};
use super::{Kept, Refused, Uploads};
use crate::format::wire::Outcome;
use crate::model::origins::{Origins, Supply};
use crate::model::peer::Host;
use crate::model::time::Time;
use crate::model::vpath::VPath;

/// How it ended: the exit status follows from it.
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
    /// The source was changed, or can't be read any more, before every node had it.
    SourceLost,
    /// The deadline passed, or what `--require-all` asks for can't come true any more.
    Late,
    /// No node can be reached.
    Unreachable,
    /// The keys at hand failed to sign.
    NotSigned(String),
    /// Somebody pressed Ctrl-C.
    Interrupted,
    /// The same, when the nodes had everything together: they complete it among themselves.
    Left,
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
    /// Paths which no node that could be asked carries.
    pub homeless: Vec<VPath>,
    /// The nodes have everything together and pass it on: the client may go away.
    pub safe: bool,
    /// Pieces which the connected nodes have together, and how many there are; zeros: not known.
    pub held: (u64, u64),
    /// Time from start to end; zero before the end.
    pub took: Duration,
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
    /// However long one waits, it will not be of use.
    pub given_up: bool,
    /// Others tell of it, and supply it when it returns.
    pub followed: bool,
    /// One per upload.
    pub uploads: Vec<(VPath, UploadResult)>,
}

/// How an upload fares at one node.
#[derive(Debug, Clone, PartialEq)]
pub enum UploadResult {
    /// Visible there.
    Done { already: bool, bytes: Origins, sources: Vec<Supply> },
    /// Not there any more, as a delete asks.
    Removed,
    /// Another image is there, which `--append-weak` allows.
    Kept(Kept),
    /// The node doesn't carry that directory.
    NotHere,
    /// Refused, and what a person should know.
    Refused(Refused),
    /// The node took it and gave it up.
    Aborted { result: String, reason: String },
    /// The node took it and can't get it: the source was changed or can't be read.
    NotServed { reason: String },
    /// Under way, and what it waits for.
    Waiting { state: String, waiting: Option<String>, bytes_done: u64, bytes_total: u64 },
}

impl UploadResult {
    /// As it should be.
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Removed | Self::Kept(_) | Self::NotHere)
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

    /// It has nothing to do with any of the directories.
    pub fn is_outside(&self) -> bool {
        self.uploads.iter().all(|(_, result)| *result == UploadResult::NotHere)
    }

    /// All that it carries is there.
    pub fn is_done(&self) -> bool {
        self.is_good() && !self.is_outside()
    }
}

impl Summary {
    pub(super) fn of(engine: &Uploads) -> Self {
        let mut nodes: Vec<_> = engine.peers.values().map(|peer| node(engine, peer)).collect();
        nodes.extend(others(engine));
        // Whoever was named as having it, and can't be reached, may have it.
        let unreached = || engine.peers.values().any(|peer| peer.host.is_none());
        let named = engine.was_redirected() && unreached();
        let homeless = engine.intents.iter().enumerate().filter(|(upload, _)| {
            let mut reached = engine.peers.values().filter(|peer| peer.host.is_some()).peekable();
            !named && reached.peek().is_some() && reached.all(|peer| peer.stages[*upload] == Stage::NotHere)
        });
        let homeless = homeless.map(|(_, intent)| intent.upload.path.clone()).collect();
        let unresolved = engine.unresolved.iter().map(|(name, reason)| (name.clone(), reason.clone())).collect();
        let held = (0..engine.intents.len()).map(|upload| engine.held(upload));
        let held = held.fold((0, 0), |sum, (held, total)| (sum.0 + u64::from(held), sum.1 + u64::from(total)));
        let safe = engine.safe;
        Self { ending: Ending::Open, nodes, unresolved, homeless, safe, held, took: Duration::ZERO }
    }

    /// Nodes that carry one of the directories, or may.
    pub fn known(&self) -> impl Iterator<Item = &NodeResult> + Clone {
        self.nodes.iter().filter(|node| !node.is_outside())
    }

    /// Bytes that had to come over the network: for each path what the node fetched that had least of it.
    pub fn bytes_needed(&self) -> u64 {
        let mut needed = BTreeMap::<&VPath, u64>::new();
        for (path, result) in self.nodes.iter().flat_map(|node| &node.uploads) {
            if let UploadResult::Done { bytes, .. } = result {
                let most = needed.entry(path).or_default();
                *most = (*most).max(bytes.fetched);
            }
        }
        needed.values().sum()
    }

    /// The ending, if this is one.
    pub(super) fn ending_at(&self, engine: &Uploads, now: Time) -> Option<Ending> {
        let settled = |node: &NodeResult| node.is_final() || node.down.is_some();
        let all_settled = self.nodes.iter().all(settled);
        if engine.resolving.is_empty() {
            if all_settled && engine.is_told() {
                let ending = self.settled(engine);
                if ending.is_some() {
                    return ending;
                }
            }
            if engine.is_stranded() {
                let ending = if all_settled && self.is_complete(engine) { self.settled(engine) } else { None };
                return Some(ending.or_else(|| self.failure()).unwrap_or(Ending::Unreachable));
            }
        }
        if engine.early_passed && self.is_enough(engine) {
            return Some(Ending::DoneEarly);
        }
        if now < engine.started + engine.rules.deadline {
            return None;
        }
        // Who tells of all others may have gone, or not come to it; but here all are that there are.
        let all_told = all_settled && engine.resolving.is_empty() && self.is_complete(engine);
        let settled = if all_told { self.settled(engine) } else { None };
        Some(settled.or_else(|| self.failure()).unwrap_or_else(|| self.not_done()))
    }

    /// The ending when every node is final or down; `None`: those that are down are waited for.
    fn settled(&self, engine: &Uploads) -> Option<Ending> {
        if let Some(failure) = self.failure() {
            return Some(failure);
        }
        if !self.homeless.is_empty() {
            return Some(Ending::Refused);
        }
        let missing = self.nodes.iter().filter(|node| !node.is_final());
        let landed = |upload: usize| {
            let mut results = self.nodes.iter().map(|node| &node.uploads[upload].1);
            results.any(|result| result.is_good() && *result != UploadResult::NotHere)
        };
        if !engine.rules.require_all {
            let all_landed = (0..engine.intents.len()).all(landed) && !self.nodes.is_empty();
            return Some(if all_landed { Ending::Done } else { Ending::Unreachable });
        }
        let hopeless = !self.unresolved.is_empty() || missing.clone().any(|node| node.given_up);
        match (missing.count(), hopeless) {
            (0, false) if !self.nodes.is_empty() => Some(Ending::Done),
            (_, true) => Some(self.not_done()),
            (_, false) if self.nodes.is_empty() => Some(Ending::Unreachable),
            (_, false) => None,
        }
    }

    /// Whether it has as many nodes as there are, by the word of whoever knows most.
    fn is_complete(&self, engine: &Uploads) -> bool {
        engine.followed.iter().all(|followed| self.nodes.len() as u64 >= followed.total())
    }

    /// What can't become success any more.
    pub(super) fn failure(&self) -> Option<Ending> {
        let results = || self.nodes.iter().flat_map(|node| node.uploads.iter().map(|(_, result)| result));
        let refused = |result: &UploadResult| matches!(result, UploadResult::Refused(_) | UploadResult::Aborted { .. });
        if results().any(refused) {
            return Some(Ending::Refused);
        }
        results().any(|result| matches!(result, UploadResult::NotServed { .. })).then_some(Ending::SourceLost)
    }

    /// The ending without success: was anybody there?
    fn not_done(&self) -> Ending {
        if self.nodes.iter().all(|node| node.host.is_none()) { Ending::Unreachable } else { Ending::Late }
    }

    /// Whether the early rule is content.
    fn is_enough(&self, engine: &Uploads) -> bool {
        let done = self.known().filter(|node| node.is_done()).count();
        let enough = done as f64 >= engine.rules.early_fraction * self.known().count() as f64;
        done >= engine.rules.early_hosts.max(1) && enough && self.failure().is_none()
    }
}

impl Uploads {
    /// Whether nothing more is to be heard of nodes that aren't connected. What can be had neither from here nor from the
    /// nodes isn't waited for.
    fn is_told(&self) -> bool {
        let lost = |upload: usize| {
            let not_served = |peer: &Peer| matches!(peer.stages[upload], Stage::NotServed { .. });
            self.peers.values().any(not_served) && !self.is_upload_safe(upload)
        };
        (0..self.intents.len()).all(|upload| self.followed[upload].is_settled() || lost(upload))
    }

    /// What others tell of a peer, for each upload.
    pub(super) fn rows_of(&self, peer: &Peer) -> Vec<Option<(Key, Row<'_>)>> {
        let is_other = |(address, machine_id): Key| {
            let at = self.peers.get(&address);
            at.is_some_and(|at| at.host.as_ref().is_none_or(|host| host.machine_id == machine_id))
        };
        let row = |followed: &'_ Followed| followed.key_of(peer, is_other);
        self.followed.iter().map(|followed| row(followed).and_then(|key| Some((key, followed.row(key)?)))).collect()
    }
}

/// A node that was connected to: by its own word, and by that of others while it can't be spoken to.
fn node(engine: &Uploads, peer: &Peer) -> NodeResult {
    let rows = engine.rows_of(peer);
    let is_up = matches!(peer.link, Link::Up { .. });
    let lives = rows.iter().flatten().any(|(_, row)| row.alive);
    let trouble = peer.trouble().map(str::to_owned);
    let down = peer.is_down() && !lives;
    let down = down.then(|| trouble.clone().unwrap_or_else(|| "it doesn't answer".to_owned()));
    let uploads = engine.intents.iter().enumerate().map(|(upload, intent)| {
        let stage = &peer.stages[upload];
        let own = match &peer.before[upload] {
            Some(before) if !stage.is_final() => ended(before),
            _ => result(stage, intent.signed.is_some(), trouble.as_deref()),
        };
        let told = rows[upload].as_ref().filter(|(_, row)| row.alive || row.report.result.is_some());
        let own = match told {
            Some((_, row)) if !is_up && !own.is_final() => result_of(row.report, intent.upload.weak),
            _ => own,
        };
        (intent.upload.path.clone(), own)
    });
    let uploads = uploads.collect();
    let (given_up, followed) = (peer.is_given_up(), rows.iter().any(Option::is_some));
    NodeResult { address: peer.address, host: peer.host.clone(), down, trouble, given_up, followed, uploads }
}

/// Nodes that are only told of.
fn others(engine: &Uploads) -> Vec<NodeResult> {
    let peers: BTreeSet<Key> =
        engine.peers.values().flat_map(|peer| engine.rows_of(peer)).flatten().map(|(key, _)| key).collect();
    let mut others = BTreeMap::<Key, NodeResult>::new();
    for (upload, (intent, followed)) in engine.intents.iter().zip(&engine.followed).enumerate() {
        for (key, row) in followed.rows().filter(|(key, _)| !peers.contains(key)) {
            let node = others.entry(key).or_insert_with(|| NodeResult {
                address: key.0,
                host: Some(row.report.host.clone()),
                down: None,
                trouble: None,
                given_up: false,
                followed: true,
                uploads: engine.intents.iter().map(|one| (one.upload.path.clone(), UploadResult::NotHere)).collect(),
            });
            node.uploads[upload].1 = result_of(row.report, intent.upload.weak);
            if !row.alive {
                node.down = Some("the other machines don't hear from it".to_owned());
            }
        }
    }
    others.into_values().collect()
}

fn ended(outcome: &Outcome) -> UploadResult {
    if outcome.result == "removed" {
        return UploadResult::Removed;
    }
    if is_good(&outcome.result) {
        let already = outcome.result == "already";
        return UploadResult::Done { already, bytes: outcome.bytes, sources: outcome.sources.clone() };
    }
    let reason = outcome.reason.clone().unwrap_or_else(|| outcome.result.clone());
    UploadResult::Aborted { result: outcome.result.clone(), reason }
}

fn result(stage: &Stage, signed: bool, trouble: Option<&str>) -> UploadResult {
    let waiting = |state: &str, waiting: Option<&str>| {
        let waiting = trouble.or(waiting).map(str::to_owned);
        UploadResult::Waiting { state: state.to_owned(), waiting, bytes_done: 0, bytes_total: 0 }
    };
    match stage {
        Stage::Unsent if signed => waiting("connecting", None),
        Stage::Unsent => waiting("connecting", Some("our signature")),
        Stage::Asked { .. } => waiting("submitted", Some("the node's verdict")),
        Stage::Accepted { progress: None, .. } => waiting("accepted", None),
        Stage::Accepted { progress: Some(progress), .. } => UploadResult::Waiting {
            state: progress.state.clone(),
            waiting: progress.waiting.clone(),
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
        },
        Stage::NotHere => UploadResult::NotHere,
        Stage::Kept(kept) => UploadResult::Kept(*kept),
        Stage::Refused(refusal) => UploadResult::Refused(refusal.clone()),
        Stage::NotServed { reason } => UploadResult::NotServed { reason: reason.clone() },
        Stage::Ended(outcome) => ended(outcome),
    }
}
