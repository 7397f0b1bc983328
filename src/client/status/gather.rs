//! Asks all machines: those that the names lead to, and all that they name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use tokio::task::JoinSet;

use super::page::{Member, StatusPage};
use crate::driver::resolve::{ResolveOptions, resolve};
use crate::driver::ws;
use crate::model::limits;

/// All that was answered.
#[derive(Debug, Default)]
pub(in crate::client) struct Gathered {
    /// Names that weren't found, and why.
    pub(in crate::client) unresolved: Vec<(String, String)>,
    /// What each address answered.
    pub(in crate::client) answers: BTreeMap<SocketAddr, Result<StatusPage, String>>,
    /// What machines say of each other.
    pub(super) members: BTreeMap<SocketAddr, Member>,
}

impl Gathered {
    /// What could not be asked, and why.
    pub(in crate::client) fn failed(&self) -> Vec<(String, String)> {
        let answers = self.answers.iter();
        let silent = answers.filter_map(|(address, page)| Some((address.to_string(), page.as_ref().err()?.clone())));
        self.unresolved.iter().cloned().chain(silent).collect()
    }
}

/// Resolves the names and asks everybody, a few at a time.
pub(in crate::client) async fn gather(names: &[String], port: u16) -> Gathered {
    let mut gathered = Gathered::default();
    let mut known = BTreeSet::new();
    for (name, found) in look_up(names, port).await {
        match found {
            Ok(addresses) => known.extend(addresses),
            Err(reason) => gathered.unresolved.push((name, reason)),
        }
    }
    let mut waiting: VecDeque<_> = known.iter().copied().collect();
    let mut asked = JoinSet::new();
    loop {
        while asked.len() < limits::STATUS_ASKED_AT_ONCE_MAX
            && let Some(address) = waiting.pop_front()
        {
            asked.spawn(async move { (address, ask(address).await) });
        }
        let Some(answer) = asked.join_next().await else { return gathered };
        // A task that failed would be a bug of ours; its machine is then missing, which shows.
        let Ok((address, answer)) = answer else { continue };
        for member in answer.iter().flat_map(|page| &page.members) {
            if known.len() < limits::PEERS_MAX && known.insert(member.address) {
                waiting.push_back(member.address);
            }
            gathered.members.entry(member.address).or_insert_with(|| member.clone());
        }
        gathered.answers.insert(address, answer);
    }
}

async fn look_up(names: &[String], port: u16) -> Vec<(String, Result<Vec<SocketAddr>, String>)> {
    let mut asked = JoinSet::new();
    for name in names.iter().cloned() {
        asked.spawn(async move {
            let found = resolve(&name, port, &ResolveOptions::default()).await.map_err(|error| error.to_string());
            (name, found)
        });
    }
    let mut found = asked.join_all().await;
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    found
}

async fn ask(address: SocketAddr) -> Result<StatusPage, String> {
    let text = ws::fetch(address, "/status.json").await.map_err(|error| error.to_string())?;
    StatusPage::parse(&text)
}
