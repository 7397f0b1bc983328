//! What was replaced is kept and put back, while machines crash: without the client's giving any of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ciruela::engine::upload::{Ending, Rules, Upload};
use ciruela::model::change::Verb;
use ciruela::model::directory::NodeConfig;

use super::checks;
use super::client::{Client, patient};
use super::machine::{BASE, Machine};
use super::network::Conditions;
use super::scenarios::{PATH, node_config, secret};
use super::world::{World, status};
use crate::disk::memory_fs::Abilities;
use crate::disk::power::Random;
use crate::disk::trees::{Sample, read_tree, vpath};
use crate::seeds::seeds;

const NODES: usize = 3;
const LIMIT: Duration = Duration::from_hours(3);

fn config() -> Arc<NodeConfig> {
    let mut config = NodeConfig::clone(&node_config(false));
    for directory in config.directories.values_mut() {
        Arc::make_mut(directory).keep_previous = true;
    }
    Arc::new(config)
}

fn client(version: u8, given: bool, seed: u64) -> Client {
    let upload =
        move |image| Upload { path: vpath(PATH), image, verb: Verb::Replace, old_image: None, weak: false, given };
    let rules = Rules { deadline: Duration::from_mins(30), require_all: false, ..patient() };
    Client::with_rules(rules, Sample::new(version), secret(), upload, seed)
}

/// All show the client's tree, and have kept the other one's.
fn settled(world: &World, shown: usize, kept: Option<usize>) -> bool {
    let kept = kept.map(|client| world.clients[client].id);
    world.machines.iter().all(|machine| !machine.power.crashed())
        && checks::heads_agree(&world.machines)
        && world.machines.iter().all(|machine| {
            let paths = status(machine).map(|status| status.paths).unwrap_or_default();
            let tree = read_tree(&machine.fs, Path::new(BASE), Path::new("image"));
            let there = tree == world.clients[shown].sample.items;
            there && paths.len() == 1 && paths[0].state == "done" && (kept.is_none() || paths[0].previous == kept)
        })
}

fn back_and_forth(seed: u64) {
    let mut random = Random::new(seed ^ 0xbac4);
    let conditions = Conditions { loss_permille: 0, breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let machine = |number| Machine::in_cluster(number, config(), Abilities::renames(!seed.is_multiple_of(3)));
    let machines = (1..=u8::try_from(NODES).expect("few")).map(machine).collect();
    let clients = vec![
        client(1, true, random.next()),
        client(2, true, random.next()),
        client(1, false, random.next()),
        client(2, false, random.next()),
    ];
    let mut world = World::new(seed, conditions, machines, clients, vpath(PATH));
    world.cluster = true;
    world.run_within(LIMIT, |world| {
        world.machines.iter().all(|machine| status(machine).is_some_and(|status| status.members.len() == NODES))
    });
    for number in 0..4 {
        world.start_client(number, Duration::ZERO);
        // The first two are published in peace: what crashes there is told elsewhere.
        if number > 1 {
            let victim = usize::try_from(random.below(NODES as u64)).expect("small");
            world.doom(victim, Duration::from_millis(random.below(600)), random.below(120));
        }
        let kept = number.checked_sub(1);
        let over = |world: &World| world.clients[number].summary.clone();
        world.run_within(LIMIT, |world| {
            let taken = over(world).is_some_and(|summary| summary.ending == Ending::Done);
            over(world).is_some() && (settled(world, number, kept) || !taken)
        });
        if over(&world).is_some_and(|summary| summary.ending != Ending::Done) {
            // Nobody could be reached for longer than the client waits.
            assert_ne!(
                over(&world).map(|summary| summary.ending),
                Some(Ending::Late),
                "seed {seed}: what was kept is lost"
            );
            return;
        }
    }
}

#[test]
fn what_was_there_before_comes_back() {
    for seed in seeds(16) {
        back_and_forth(seed);
    }
}
