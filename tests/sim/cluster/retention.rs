//! Versions come one after the other while machines crash: old ones go everywhere, what is in use stays, and there is always one.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ciruela::driver::disk::fs::FileSystem as _;
use ciruela::engine::upload::{Ending, Rules, Upload};
use ciruela::model::change::Verb;
use ciruela::model::directory::{NodeConfig, Retention};

use super::checks;
use super::client::{Client, patient};
use super::machine::{BASE, Machine};
use super::network::Conditions;
use super::scenarios::{node_config, secret};
use super::world::{World, status};
use crate::disk::memory_fs::Abilities;
use crate::disk::power::Random;
use crate::disk::trees::{Sample, read_tree, vpath};
use crate::seeds::seeds;

const NODES: usize = 3;
const VERSIONS: usize = 4;
const LIMIT: Duration = Duration::from_hours(3);

fn config() -> Arc<NodeConfig> {
    let mut config = NodeConfig::clone(&node_config(true));
    for directory in config.directories.values_mut() {
        Arc::make_mut(directory).retention = Some(Retention {
            keep_min_directories: 1,
            keep_max_directories: 1,
            keep_recent: Duration::ZERO,
            keep_list_file: None,
        });
    }
    Arc::new(config)
}

fn client(version: usize, seed: u64) -> Client {
    let upload = move |image| {
        let path = vpath(&format!("/key/v{version}"));
        Upload { path, image, verb: Verb::Append, old_image: None, weak: false, given: true }
    };
    let rules = Rules { deadline: Duration::from_mins(2), require_all: false, ..patient() };
    let sample = Sample::new(u8::try_from(version + 1).expect("few"));
    Client::with_rules(rules, sample, secret(), upload, seed)
}

/// Nothing, or the whole version.
fn is_there(machine: &Machine, version: usize, client: &Client, seed: u64) -> bool {
    let tree = read_tree(&machine.fs, Path::new(BASE), Path::new(&format!("v{version}")));
    let host = &machine.host.hostname;
    assert!(tree.is_empty() || tree == client.sample.items, "seed {seed}: {host}: half of v{version}");
    !tree.is_empty()
}

/// I8: of what a machine has, the newest stays until something newer is there; and what a link points to stays.
fn check(world: &World, version: usize, seed: u64) {
    for (number, machine) in world.machines.iter().enumerate().filter(|(_, machine)| !machine.power.crashed()) {
        let there = |version: usize| is_there(machine, version, &world.clients[version], seed);
        let newest = version == 0 || there(version) || there(version - 1);
        assert!(newest, "seed {seed}: {} has neither v{version} nor the one before", machine.host.hostname);
        if number == 0 && version > 0 {
            assert!(there(0), "seed {seed}: v0 is in use");
        }
    }
}

/// The version is on each machine, and of those before only the one that is in use.
fn settled(world: &World, version: usize, seed: u64) -> bool {
    world.clients[version].summary.is_some()
        && !world.machines.iter().any(|machine| machine.power.crashed())
        && checks::heads_agree(&world.machines)
        && world.machines.iter().enumerate().all(|(number, machine)| {
            let paths = status(machine).map(|status| status.paths).unwrap_or_default();
            let right = (0..=version).all(|one| {
                let expected = one == version || (one == 0 && number == 0);
                is_there(machine, one, &world.clients[one], seed) == expected
            });
            right && paths.len() == version + 1 && paths.iter().all(ciruela::engine::node::PathStatus::is_settled)
        })
}

fn unreachable(world: &World, version: usize) -> bool {
    world.clients[version].summary.as_ref().is_some_and(|summary| summary.ending == Ending::Unreachable)
}

fn versions(seed: u64) {
    let mut random = Random::new(seed ^ 0x4e7e);
    let conditions = Conditions { loss_permille: 0, breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let machine = |number| Machine::in_cluster(number, config(), Abilities::renames(!seed.is_multiple_of(3)));
    let machines = (1..=u8::try_from(NODES).expect("few")).map(machine).collect();
    let clients = (0..VERSIONS).map(|version| client(version, seed)).collect();
    let mut world = World::new(seed, conditions, machines, clients, vpath("/key/v0"));
    world.cluster = true;
    let alive = |machine: &Machine| status(machine).is_some_and(|status| status.members.len() == NODES);
    world.run_within(LIMIT, |world| world.machines.iter().all(alive));
    for version in 0..VERSIONS {
        world.start_client(version, Duration::ZERO);
        // Only while the client isn't needed: it goes when its node has all.
        for _ in 0..random.below(4) {
            let victim = usize::try_from(random.below(NODES as u64)).expect("small");
            let delay = Duration::from_millis(2_000 + random.below(4_000));
            world.restart_after(victim, delay);
        }
        world.run_within(LIMIT, |world| {
            check(world, version, seed);
            settled(world, version, seed) || unreachable(world, version)
        });
        if unreachable(&world, version) {
            // It gave up before any node had taken its version.
            return;
        }
        if version == 0 {
            let fs = &world.machines[0].fs;
            let root = fs.open_root(Path::new(BASE)).expect("there");
            fs.symlink(&root, OsStr::new("v0"), Path::new("current")).expect("made");
            fs.fsync_dir(&root, Path::new("")).expect("synced");
        }
        // In the midst of what is removed later.
        let victim = usize::try_from(random.below(NODES as u64)).expect("small");
        world.doom(victim, Duration::from_millis(random.below(1_000)), 30 + random.below(90));
    }
}

#[test]
fn old_versions_go_and_there_is_always_one() {
    for seed in seeds(12) {
        versions(seed);
    }
}
