//! Compares what the machines answered: who is current, who isn't.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::gather::Gathered;
use super::page::{PathEntry, StatusPage};
use crate::model::vpath::VPath;

/// All machines, compared.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) nodes: Vec<Node>,
    pub(super) unresolved: Vec<(String, String)>,
}

/// One machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: SocketAddr,
    /// Its name, if it or somebody told it.
    pub(super) hostname: Option<String>,
    /// What others say of it: `alive`, `suspect`, `down`.
    pub(super) member: Option<String>,
    /// Or why there is none.
    pub(super) page: Result<StatusPage, String>,
    /// How each of its directories stands, or, if a path was asked for, that one.
    pub(super) standing: BTreeMap<String, Standing>,
}

/// How a directory or path stands on one machine, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// As on most others, and all in place.
    Current,
    /// It knows what should be there, and not all of that is in place.
    Deploying,
    /// What holds isn't what is visible, and in an append-only directory what is visible stays: somebody must decide.
    Conflict,
    /// Most others, or newer ones, have other heads.
    Behind,
}

impl Standing {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Deploying => "deploying",
            Self::Conflict => "conflict",
            Self::Behind => "behind",
        }
    }
}

impl Judged {
    /// `path`: it alone counts.
    pub(super) fn of(gathered: Gathered, path: Option<&VPath>) -> Self {
        let Gathered { unresolved, answers, members } = gathered;
        // A machine may answer only at an address other than the one which the cluster knows.
        let elsewhere: BTreeSet<_> = answers
            .iter()
            .filter(|(address, _)| !members.contains_key(address))
            .filter_map(|(_, page)| Some(page.as_ref().ok()?.machine_id.clone()))
            .collect();
        let mut told = BTreeSet::new();
        let mut nodes = Vec::new();
        // Those at an address that the cluster knows come first: a machine at another one may be the same.
        let (listed, others): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(address, _)| members.contains_key(address));
        for (address, page) in listed.into_iter().chain(others) {
            let member = members.get(&address);
            if let Ok(page) = &page
                && !told.insert((page.machine_id.clone(), page.hostname.clone()))
                && member.is_none()
            {
                continue;
            }
            if page.is_err() && member.is_some_and(|member| elsewhere.contains(&member.machine_id)) {
                continue;
            }
            let hostname = page.as_ref().ok().map(|page| page.hostname.clone());
            let hostname = hostname.or_else(|| member.map(|member| member.hostname.clone()));
            let member = member.map(|member| member.state.clone());
            nodes.push(Node { address, hostname, member, page, standing: BTreeMap::new() });
        }
        nodes.sort_by(|a, b| (&a.hostname, a.address).cmp(&(&b.hostname, b.address)));
        match path {
            Some(path) => judge_path(&mut nodes, path),
            None => judge_directories(&mut nodes),
        }
        Self { nodes, unresolved }
    }

    /// Everybody answered, and everything is current and whole.
    pub(super) fn is_current(&self) -> bool {
        let current = |node: &Node| {
            let current = node.standing.values().all(|one| *one == Standing::Current);
            node.page.is_ok() && current && node.damaged().next().is_none()
        };
        self.unresolved.is_empty() && self.nodes.iter().all(current)
    }
}

impl Node {
    /// Its entry of a path.
    pub(super) fn entry(&self, path: &VPath) -> Option<&PathEntry> {
        self.page.as_ref().ok()?.paths.iter().find(|entry| entry.path == path.as_str())
    }

    /// What was changed there by somebody, of what was asked for.
    pub(super) fn damaged(&self) -> impl Iterator<Item = &PathEntry> {
        let asked = |entry: &&PathEntry| {
            let directory = entry.path.split('/').nth(1).unwrap_or_default();
            self.standing.contains_key(&entry.path) || self.standing.contains_key(directory)
        };
        self.page.iter().flat_map(|page| &page.paths).filter(|entry| entry.damaged.is_some()).filter(asked)
    }

    /// Directories that don't clean as they should, and why.
    pub(super) fn not_cleaned(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.page.iter().flat_map(|page| &page.retention);
        all.filter_map(|(name, one)| Some((name.as_str(), one.problem.as_deref()?)))
    }

    /// What isn't in place.
    pub(super) fn open(&self) -> impl Iterator<Item = &PathEntry> {
        self.page.iter().flat_map(|page| &page.paths).filter(|entry| !entry.is_done())
    }
}

/// The value that most have; of several, the one with the newest stamp.
fn reference<'a>(values: impl Iterator<Item = (&'a str, u64)>) -> Option<String> {
    let mut votes = BTreeMap::<&str, (usize, u64)>::new();
    for (value, stamp) in values {
        let (count, newest) = votes.entry(value).or_default();
        (*count, *newest) = (*count + 1, (*newest).max(stamp));
    }
    votes.into_iter().max_by_key(|(_, weight)| *weight).map(|(value, _)| value.to_owned())
}

fn judge_directories(nodes: &mut [Node]) {
    let directories: BTreeSet<_> = pages(nodes).flat_map(|page| page.directories.iter().cloned()).collect();
    let fingerprint = |page: &StatusPage, directory: &str| {
        page.heads.get(directory).map_or_else(|| made_up(page, directory), |heads| heads.fingerprint.clone())
    };
    for directory in directories {
        let carriers: Vec<_> = pages(nodes)
            .filter(|page| page.directories.contains(&directory))
            .map(|page| {
                let newest = page.paths_of(&directory).map(|entry| entry.stamp_ms).max().unwrap_or(0);
                (fingerprint(page, &directory), newest)
            })
            .collect();
        let right = reference(carriers.iter().map(|(value, newest)| (value.as_str(), *newest)));
        for node in nodes.iter_mut() {
            let Ok(page) = &node.page else { continue };
            if !page.directories.contains(&directory) {
                continue;
            }
            let standing = if Some(fingerprint(page, &directory)) == right {
                let worst = page.paths_of(&directory).map(PathEntry::standing).max();
                worst.unwrap_or(Standing::Current)
            } else {
                Standing::Behind
            };
            node.standing.insert(directory.clone(), standing);
        }
    }
}

/// Of those that answered.
fn pages(nodes: &[Node]) -> impl Iterator<Item = &StatusPage> {
    nodes.iter().filter_map(|node| node.page.as_ref().ok())
}

/// In the place of a fingerprint, for machines that tell none.
fn made_up(page: &StatusPage, directory: &str) -> String {
    let mut heads: Vec<_> = page.paths_of(directory).map(|entry| format!("{} {}", entry.path, entry.change)).collect();
    heads.sort_unstable();
    heads.join("\n")
}

/// What the newest change of a path says, is right.
fn judge_path(nodes: &mut [Node], path: &VPath) {
    let newest = nodes.iter().filter_map(|node| node.entry(path)).max_by_key(|entry| (entry.stamp_ms, &entry.change));
    let newest = newest.map(|entry| (entry.change.clone(), entry.image.clone()));
    for node in nodes {
        let Ok(page) = &node.page else { continue };
        let carries = page.directories.iter().any(|directory| directory == path.key());
        let standing = match (node.entry(path), &newest) {
            (Some(entry), Some((change, image))) if entry.change == *change || entry.image == *image => {
                entry.standing()
            }
            (None, None) if carries => Standing::Current,
            (Some(_), _) => Standing::Behind,
            (None, _) if carries => Standing::Behind,
            (None, _) => continue,
        };
        node.standing.insert(path.to_string(), standing);
    }
}
