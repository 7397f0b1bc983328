//! What nodes tell of the others: how every node of the cluster fares with one upload.
//!
//! Each connected node tells what it knows, latest values; what several tell is put together here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Kept;
use super::peer::Peer;
use super::summary::UploadResult;
use crate::format::wire::{NodeReport, Nodes};
use crate::model::ids::MachineId;
use crate::model::limits;
use crate::model::origins::Origins;

/// A node, as the others tell it from clones.
pub(super) type Key = (SocketAddr, MachineId);

/// All that was told about one upload.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Some node tells of the others, or said that it will.
    pub(super) aware: bool,
    tellers: BTreeMap<SocketAddr, Teller>,
    /// What those said that are gone.
    archive: BTreeMap<Key, NodeReport>,
    /// Nodes whose end was shown.
    ended: BTreeSet<Key>,
}

/// What one connected node says.
#[derive(Debug, Default)]
pub(super) struct Teller {
    rows: BTreeMap<Key, NodeReport>,
    /// Of the rows: alive and not at an end; alive and done.
    open: usize,
    done: usize,
    total: u64,
    complete: bool,
}

/// What is known of one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) report: &'a NodeReport,
    pub(super) alive: bool,
}

/// The words for an end as it should be.
pub(super) fn is_good(result: &str) -> bool {
    matches!(result, "done" | "already" | "removed")
}

/// The words for other content at the path.
pub(super) fn is_other(word: &str) -> bool {
    matches!(word, "conflict" | "already_exists" | "occupied")
}

impl Teller {
    /// Told of all of them, and all are at an end or down.
    fn is_settled(&self) -> bool {
        self.complete && self.open == 0 && self.rows.len() as u64 >= self.total
    }

    /// Whether it says that a node is alive: at this address, or, when the client came by another one, with this machine id.
    pub(super) fn hears(&self, address: SocketAddr, machine_id: MachineId) -> bool {
        let alive = |report: &NodeReport| report.alive;
        let exact = self.rows.get(&(address, machine_id));
        let same = || self.rows.iter().any(|((_, other), report)| *other == machine_id && alive(report));
        exact.map_or_else(same, alive)
    }

    /// Whether some live node has it all.
    pub(super) fn is_done_anywhere(&self) -> bool {
        self.done > 0
    }

    fn insert(&mut self, key: Key, report: NodeReport) {
        if self.rows.len() >= limits::PEERS_MAX && !self.rows.contains_key(&key) {
            return;
        }
        let counts = |report: &NodeReport| {
            let done = report.result.as_deref().is_some_and(is_good);
            (usize::from(report.alive && report.result.is_none()), usize::from(report.alive && done))
        };
        let (open, done) = counts(&report);
        let before = self.rows.insert(key, report).as_ref().map_or((0, 0), counts);
        self.open = self.open + open - before.0;
        self.done = self.done + done - before.1;
    }
}

impl Followed {
    /// What is told of a change from before this upload: who is done when it is heard of first had it already.
    pub(super) fn before(&self, mut nodes: Nodes) -> Nodes {
        for report in nodes.nodes.iter_mut().filter(|report| report.result.as_deref() == Some("done")) {
            let known = report.address.parse().ok().and_then(|address| self.row((address, report.host.machine_id)));
            if known.is_none_or(|row| row.report.result.as_deref() == Some("already")) {
                report.result = Some("already".to_owned());
                report.bytes = Origins::default();
                report.sources = Vec::new();
            }
        }
        nodes
    }

    /// A connected node told; gives the nodes of which there is news.
    pub(super) fn tell(&mut self, teller: SocketAddr, nodes: Nodes) -> Vec<Key> {
        self.aware = true;
        let mut news = Vec::new();
        for report in nodes.nodes {
            let Ok(address) = report.address.parse() else { continue };
            let key = (address, report.host.machine_id);
            let before = self.row(key).map(|row| (row.report.clone(), row.alive));
            self.tellers.entry(teller).or_default().insert(key, report);
            let after = self.row(key).map(|row| (row.report.clone(), row.alive));
            if before != after {
                news.push(key);
            }
        }
        let told = self.tellers.entry(teller).or_default();
        (told.total, told.complete) = (nodes.total, nodes.complete);
        news
    }

    /// A node's end is to be shown; `false`: it was already.
    pub(super) fn ends(&mut self, key: Key) -> bool {
        self.ended.insert(key)
    }

    /// It isn't connected any more.
    pub(super) fn lose(&mut self, teller: SocketAddr) {
        if let Some(lost) = self.tellers.remove(&teller) {
            self.archive.extend(lost.rows);
        }
    }

    /// Whether there is nothing more to be told of.
    pub(super) fn is_settled(&self) -> bool {
        !self.aware || self.tellers.values().any(Teller::is_settled)
    }

    /// What a connected node says of the others, or, as long as it says nothing, one that hears it.
    pub(super) fn told_by_or_of(&self, address: SocketAddr, id: Option<MachineId>) -> Option<&Teller> {
        let hears = |teller: &&Teller| id.is_some_and(|id| teller.hears(address, id));
        self.tellers.get(&address).or_else(|| self.tellers.values().find(hears))
    }

    /// How many nodes there are, by the word of whoever knows most.
    pub(super) fn total(&self) -> u64 {
        let told = self.tellers.values().map(|teller| teller.total).max().unwrap_or(0);
        told.max(self.archive.len() as u64)
    }

    /// What is known of a node. An end is believed to whoever tells it; who is down for one is down.
    pub(super) fn row(&self, key: Key) -> Option<Row<'_>> {
        let told = || self.tellers.values().filter_map(|teller| teller.rows.get(&key));
        let report = told().chain(self.archive.get(&key)).max_by_key(|report| {
            let result = report.result.as_deref();
            (result.is_some(), result.is_some_and(is_good), report.state != "unknown", report.bytes_done)
        })?;
        // Who is known only from the archive, though somebody told of all, is gone.
        let gone = told().next().is_none() && self.tellers.values().any(|teller| teller.complete);
        let alive = !gone && told().all(|report| report.alive) && (report.alive || told().next().is_some());
        Some(Row { report, alive })
    }

    /// All nodes.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Key, Row<'_>)> {
        let keys = self.tellers.values().flat_map(|teller| teller.rows.keys()).chain(self.archive.keys());
        let keys: BTreeSet<_> = keys.copied().collect();
        keys.into_iter().filter_map(|key| Some((key, self.row(key)?)))
    }

    /// Which of the nodes is the one that is connected, or was, at a peer's address: another address may lead to it too.
    /// `is_other`: another peer is that node.
    pub(super) fn key_of(&self, peer: &Peer, is_other: impl Fn(Key) -> bool) -> Option<Key> {
        let mut keys = self.rows().map(|(key, row)| (key, &row.report.host.hostname));
        let Some(host) = &peer.host else {
            return keys.find(|(key, _)| key.0 == peer.address).map(|(key, _)| key);
        };
        let exact = (peer.address, host.machine_id);
        if self.row(exact).is_some() {
            return Some(exact);
        }
        let same = |key: Key, name: &str| {
            key.1 == host.machine_id && (name.is_empty() || *name == *host.hostname) && !is_other(key)
        };
        keys.find(|(key, name)| same(*key, name)).map(|(key, _)| key)
    }
}

/// A report as a result. `weak`: other content is fine too.
pub(super) fn result_of(report: &NodeReport, weak: bool) -> UploadResult {
    match report.result.as_deref() {
        Some("removed") => UploadResult::Removed,
        Some(result) if is_good(result) => {
            let sources = report.sources.clone();
            UploadResult::Done { already: result == "already", bytes: report.bytes, sources }
        }
        Some(result) if weak && (is_other(result) || report.reason.as_deref().is_some_and(is_other)) => {
            UploadResult::Kept(Kept::default())
        }
        Some(result) => UploadResult::Aborted {
            result: result.to_owned(),
            reason: report.reason.clone().unwrap_or_else(|| result.to_owned()),
        },
        None if report.state == "unknown" => UploadResult::Waiting {
            state: "unknown".to_owned(),
            waiting: Some("its first report".to_owned()),
            bytes_done: 0,
            bytes_total: 0,
        },
        None => UploadResult::Waiting {
            state: report.state.clone(),
            waiting: report.waiting.clone(),
            bytes_done: report.bytes_done,
            bytes_total: report.bytes_total,
        },
    }
}
