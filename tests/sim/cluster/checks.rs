//! What must hold at every step, whatever the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ciruela::engine::upload::{Ending, Event, UploadResult};
use ciruela::format::wire::Outcome;
use ciruela::model::ids::{ChangeId, MachineId};
use ciruela::model::vpath::VPath;

use super::client::Client;
use super::machine::{BASE, Machine};
use super::world::status;
use crate::disk::trees::{Item, Sample, read_tree};

/// Trees which may be visible at a path: those of the clients, and nothing.
pub(super) type Known = Vec<BTreeMap<String, Item>>;

/// I2: what is visible is absent or whole, never mixed.
pub(super) fn whole(machine: &Machine, path: &VPath, known: &Known, seed: u64) {
    if machine.power.crashed() {
        return;
    }
    let visible = read_tree(&machine.fs, Path::new(BASE), Path::new(path.suffix()));
    let fits = visible.is_empty() || known.contains(&visible);
    assert!(fits, "seed {seed}: {} shows a mixed tree: {:?}", machine.host.hostname, visible.keys());
}

/// I3: what was acknowledged as registered is known after a restart.
pub(super) fn remembers(machine: &Machine, acknowledged: &BTreeSet<(MachineId, VPath)>, seed: u64) {
    let Some(running) = &machine.running else { return };
    let status = running.node.status();
    for (_, path) in acknowledged.iter().filter(|(id, _)| *id == machine.host.machine_id) {
        let known = status.paths.iter().any(|status| status.path == *path);
        assert!(known, "seed {seed}: {} forgot {path} which it had acknowledged", machine.host.hostname);
    }
}

/// I11: one final outcome per node.
pub(super) fn one_outcome_each(client: &Client, seed: u64) {
    let mut seen = BTreeSet::new();
    for event in &client.events {
        if let Event::Ended { outcome, .. } = event {
            assert!(seen.insert(outcome.host.machine_id), "seed {seed}: {:?} ended twice", outcome.host);
        }
    }
}

/// Each running node's paths with the changes that hold there.
fn heads(machine: &Machine) -> BTreeMap<VPath, ChangeId> {
    let paths = status(machine).map(|status| status.paths).unwrap_or_default();
    paths.into_iter().map(|path| (path.path, path.change)).collect()
}

/// Whether all nodes have the same heads.
pub(super) fn heads_agree(machines: &[Machine]) -> bool {
    machines.windows(2).all(|pair| heads(&pair[0]) == heads(&pair[1]))
}

/// I1: when nothing is under way, all nodes have the same heads.
pub(super) fn same_heads(machines: &[Machine], seed: u64) {
    for pair in machines.windows(2) {
        assert_eq!(heads(&pair[0]), heads(&pair[1]), "seed {seed}: {} and the next one differ", pair[0].host.hostname);
    }
}

/// Where a node says that it is done, its head's tree is visible, and nothing else is left.
pub(super) fn shows_head(machine: &Machine, clients: &[Client], seed: u64) {
    for path in status(machine).map(|status| status.paths).unwrap_or_default() {
        let client = clients.iter().find(|client| Some(client.id) == path.image);
        if let (Some(client), "done") = (client, path.state) {
            shows(machine, &client.sample, seed);
        }
    }
    let staging = read_tree(&machine.fs, Path::new(BASE), Path::new(".ciruela-staging"));
    assert!(staging.len() <= 1, "seed {seed}: left in staging: {:?}", staging.keys());
}

/// I6: what is visible in an append-only directory stays, whatever holds there, and the node says so.
pub(super) fn keeps_conflict(machine: &Machine, clients: &[Client], seed: u64) {
    for path in status(machine).map(|status| status.paths).unwrap_or_default() {
        let visible = clients.iter().find(|client| Some(client.id) == path.visible);
        let visible = visible.unwrap_or_else(|| panic!("seed {seed}: {path:?} is no client's"));
        shows(machine, &visible.sample, seed);
        let other = path.visible != path.image;
        assert_eq!(path.state == "conflict", other, "seed {seed}: {}: {path:?}", machine.host.hostname);
    }
}

/// What a client was told is done at a node stays visible there.
pub(super) fn stays_where_done(client: &Client, machines: &[Machine], seed: u64) {
    for event in &client.events {
        let Event::Ended { outcome: Outcome { host, result, .. }, .. } = event else { continue };
        if !matches!(result.as_str(), "done" | "already") {
            continue;
        }
        let machine = machines.iter().find(|machine| machine.host == *host).expect("one of them");
        shows(machine, &client.sample, seed);
    }
}

/// A machine shows this tree.
pub(super) fn shows(machine: &Machine, sample: &Sample, seed: u64) {
    let visible = read_tree(&machine.fs, Path::new(BASE), Path::new("image"));
    assert!(visible == sample.items, "seed {seed}: {} shows {:?}", machine.host.hostname, visible.keys());
}

/// Whose image holds at a node.
pub(super) fn winner(machine: &Machine, clients: &[Client]) -> usize {
    let path = status(machine).and_then(|status| status.paths.into_iter().next()).expect("it has a head");
    clients.iter().position(|client| Some(client.id) == path.image).expect("somebody's image")
}

/// How a client ended.
pub(super) fn ended(client: &Client, ending: &Ending, seed: u64) {
    assert_eq!(
        client.summary.as_ref().map(|summary| &summary.ending),
        Some(ending),
        "seed {seed}: {:#?}",
        client.summary
    );
}

/// A client that was told how its change ended at each node doesn't wait for its deadline.
pub(super) fn not_late(client: &Client, seed: u64) {
    let summary = client.summary.as_ref().expect("it ended");
    let open: Vec<_> = summary.nodes.iter().filter(|node| !node.is_final()).collect();
    assert!(summary.took < client.deadline, "seed {seed}: {:?} after {:?}: {open:#?}", summary.ending, summary.took);
}

/// A client hears of every node, whomever it speaks with.
pub(super) fn told_of_all(client: &Client, machines: &[Machine], seed: u64) {
    let summary = client.summary.as_ref().expect("it ended");
    assert_eq!(summary.ending, Ending::Done, "seed {seed}: {summary:#?}");
    let done = |result: &UploadResult| matches!(result, UploadResult::Done { .. });
    let told: BTreeSet<_> = summary
        .nodes
        .iter()
        .filter(|node| node.uploads.iter().all(|(_, result)| done(result)))
        .filter_map(|node| Some(node.host.as_ref()?.machine_id))
        .collect();
    let all: BTreeSet<_> = machines.iter().map(|machine| machine.host.machine_id).collect();
    assert_eq!(told, all, "seed {seed}: {summary:#?}");
}
