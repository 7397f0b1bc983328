//! What must hold at every step, whatever the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ciruela::engine::upload::Event;
use ciruela::model::ids::MachineId;
use ciruela::model::vpath::VPath;

use super::client::Client;
use super::machine::{BASE, Machine};
use crate::disk::trees::{Item, read_tree};

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
