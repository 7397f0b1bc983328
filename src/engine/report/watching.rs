//! The side of a node that clients are connected to: what the others told of the changes that are watched here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::format::report::{self, Standing};
use crate::format::wire::{NodeReport, Nodes};
use crate::model::ids::{ChangeId, ImageId, MachineId};
use crate::model::limits;
use crate::model::origins::Origins;
use crate::model::peer::{Host, NodeId, NodeInfo};
use crate::model::vpath::VPath;

/// All that is watched here. Every change of a row gets a new version, so whoever tells a client asks for the news since
/// the version that it told last.
#[derive(Debug, Default)]
pub struct Watching {
    members: BTreeMap<Key, Member>,
    watched: BTreeMap<(VPath, ChangeId), Watched>,
    paths: BTreeMap<ChangeId, VPath>,
    last_version: u64,
}

/// A node, whichever start of it.
type Key = (SocketAddr, MachineId);

#[derive(Debug)]
struct Member {
    incarnation: u64,
    info: NodeInfo,
    alive: bool,
}

#[derive(Debug)]
struct Watched {
    image: ImageId,
    rows: BTreeMap<Key, Row>,
    /// The row of each version.
    versions: BTreeMap<u64, Key>,
}

#[derive(Debug)]
struct Row {
    report: NodeReport,
    /// Incarnation and number of what was told: the greater one is the later one.
    told: (u64, u64),
    version: u64,
}

impl Watching {
    /// A member, the node itself too, joined, changed what it says of itself, or went down.
    pub fn member(&mut self, node: NodeId, info: &NodeInfo, alive: bool) {
        let key = (node.address, node.machine_id);
        if self.members.get(&key).is_some_and(|member| member.incarnation > node.incarnation) {
            return;
        }
        if self.members.len() >= limits::PEERS_MAX && !self.members.contains_key(&key) {
            return;
        }
        let member = Member { incarnation: node.incarnation, info: info.clone(), alive };
        for ((path, _), watched) in &mut self.watched {
            watched.member(key, path, &member, &mut self.last_version);
        }
        self.members.insert(key, member);
    }

    /// Membership doesn't know the node any more. Where it was told of, it stays, as down.
    pub fn forgotten(&mut self, node: NodeId) {
        let key = (node.address, node.machine_id);
        let Some(mut member) = self.members.remove(&key) else { return };
        member.alive = false;
        for ((path, _), watched) in &mut self.watched {
            watched.member(key, path, &member, &mut self.last_version);
        }
    }

    /// A client waits for the change; `false`: too many are watched already. Follow with [`Self::local`].
    pub fn watch(&mut self, path: &VPath, change: ChangeId, image: ImageId) -> bool {
        let key = (path.clone(), change);
        if self.watched.contains_key(&key) {
            return true;
        }
        if self.watched.len() >= limits::WATCHES_MAX {
            return false;
        }
        let mut watched = Watched { image, rows: BTreeMap::new(), versions: BTreeMap::new() };
        for (node, member) in &self.members {
            watched.member(*node, path, member, &mut self.last_version);
        }
        self.paths.insert(change, path.clone());
        self.watched.insert(key, watched);
        true
    }

    /// No client waits for it any more.
    pub fn unwatch(&mut self, path: &VPath, change: ChangeId) {
        if self.watched.remove(&(path.clone(), change)).is_some() {
            self.paths.remove(&change);
        }
    }

    /// A report, which is to be acknowledged in any case: nothing better comes of repeating it. Of which watched path it
    /// was, if it was news.
    pub fn received(&mut self, from: NodeId, number: u64, body: &[u8]) -> Option<(VPath, ChangeId)> {
        let (change, standing) = report::decode(body).ok()?;
        let path = self.paths.get(&change)?.clone();
        self.told(from, number, &path, change, standing).then_some((path, change))
    }

    /// What a node has reported of a watched change, and its image, if it has ended there.
    pub fn ended(&self, path: &VPath, change: ChangeId, node: NodeId) -> Option<(&NodeReport, ImageId)> {
        let watched = self.watched.get(&(path.clone(), change))?;
        let report = &watched.rows.get(&(node.address, node.machine_id))?.report;
        report.result.is_some().then_some((report, watched.image))
    }

    /// How the change fares on this very node.
    pub fn local(&mut self, own: NodeId, path: &VPath, change: ChangeId, standing: Standing) {
        let key = (path.clone(), change);
        let row = self.watched.get(&key).and_then(|watched| watched.rows.get(&(own.address, own.machine_id)));
        let number = row.filter(|row| row.told.0 == own.incarnation).map_or(0, |row| row.told.1);
        self.told(own, number + 1, path, change, standing);
    }

    fn told(&mut self, node: NodeId, number: u64, path: &VPath, change: ChangeId, standing: Standing) -> bool {
        let key = (node.address, node.machine_id);
        let Some(watched) = self.watched.get_mut(&(path.clone(), change)) else { return false };
        if watched.rows.len() >= limits::PEERS_MAX && !watched.rows.contains_key(&key) {
            return false;
        }
        // Whoever reports is alive, even if membership hasn't heard of it yet.
        let hostname = self.members.get(&key).map_or("", |member| &*member.info.hostname);
        let row = watched.rows.entry(key).or_insert_with(|| Row::new(key, hostname, true));
        if (node.incarnation, number) <= row.told {
            return false;
        }
        row.told = (node.incarnation, number);
        let before = row.report.clone();
        row.tell(standing);
        let news = row.version == 0 || row.report != before;
        if news {
            watched.renew(key, &mut self.last_version);
        }
        news
    }

    /// The news since a version (0: all), at most one message of it, and the version to ask from next time; `None`:
    /// nothing is new, or it isn't watched.
    pub fn news(&self, path: &VPath, change: ChangeId, since: u64) -> Option<(Nodes, u64)> {
        let watched = self.watched.get(&(path.clone(), change))?;
        let mut versions = watched.versions.range(since.saturating_add(1)..);
        let mut nodes = Vec::new();
        let mut last = since;
        for (version, key) in versions.by_ref().take(limits::NODES_PER_MESSAGE_MAX) {
            nodes.extend(watched.rows.get(key).map(|row| row.report.clone()));
            last = *version;
        }
        let complete = versions.next().is_none();
        let total = watched.rows.len() as u64;
        (last > since)
            .then(|| (Nodes { path: path.clone(), image: watched.image, change, total, nodes, complete }, last))
    }
}

impl Watched {
    /// What membership says of a node shows in its row, which is made if the node carries the directory.
    fn member(&mut self, key: Key, path: &VPath, member: &Member, last_version: &mut u64) {
        let carries = member.info.directories.iter().any(|directory| &**directory == path.key());
        if !carries && !self.rows.contains_key(&key) {
            return;
        }
        let row = self.rows.entry(key).or_insert_with(|| Row::new(key, "", member.alive));
        let before = (row.report.host.hostname.clone(), row.report.alive);
        let after = (member.info.hostname.clone(), member.alive);
        if row.version == 0 || before != after {
            (row.report.host.hostname, row.report.alive) = after;
            self.renew(key, last_version);
        }
    }

    /// Gives the row a new version.
    fn renew(&mut self, key: Key, last_version: &mut u64) {
        let Some(row) = self.rows.get_mut(&key) else { return };
        *last_version += 1;
        self.versions.remove(&row.version);
        self.versions.insert(*last_version, key);
        row.version = *last_version;
    }
}

impl Row {
    /// Nothing is known but that the node is there.
    fn new((address, machine_id): Key, hostname: &str, alive: bool) -> Self {
        let report = NodeReport {
            host: Host { machine_id, hostname: hostname.into() },
            address: address.to_string().into(),
            alive,
            state: "unknown".to_owned(),
            result: None,
            reason: None,
            waiting: None,
            bytes_done: 0,
            bytes_total: 0,
            bytes: Origins::default(),
            sources: Vec::new(),
        };
        Self { report, told: (0, 0), version: 0 }
    }

    fn tell(&mut self, standing: Standing) {
        let Standing { state, result, reason, waiting, bytes_done, bytes_total, bytes, sources } = standing;
        self.report = NodeReport {
            host: self.report.host.clone(),
            address: self.report.address.clone(),
            alive: self.report.alive,
            state,
            result,
            reason,
            waiting,
            bytes_done,
            bytes_total,
            bytes,
            sources,
        };
    }
}
