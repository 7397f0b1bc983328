//! A directory is published, removed, and published again, while machines crash, are away, or are cut off from each other: all
//! end alike, and what was removed stays so.

use std::path::Path;
use std::time::Duration;

use ciruela::engine::upload::{Ending, Rules, Upload};
use ciruela::model::change::Verb;

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

/// Puts a version there, or removes it; through these machines.
fn client(verb: Verb, version: u8, entries: &[usize], seed: u64) -> Client {
    let upload = move |image| Upload {
        path: vpath(PATH),
        image,
        verb,
        old_image: None,
        weak: false,
        given: verb != Verb::Delete,
    };
    let rules = Rules { deadline: Duration::from_mins(5), require_all: false, ..patient() };
    let mut client = Client::with_rules(rules, Sample::new(version), secret(), upload, seed);
    client.entries = Some(entries.to_vec());
    client
}

fn world(seed: u64, append_only: bool, clients: Vec<Client>) -> World {
    let mut random = Random::new(seed ^ 0xde1e);
    let conditions = Conditions { loss_permille: 0, breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let machine =
        |number| Machine::in_cluster(number, node_config(append_only), Abilities::renames(!seed.is_multiple_of(3)));
    let machines = (1..=u8::try_from(NODES).expect("few")).map(machine).collect();
    let mut world = World::new(seed, conditions, machines, clients, vpath(PATH));
    world.cluster = true;
    world.run_within(LIMIT, |world| {
        world.machines.iter().all(|machine| status(machine).is_some_and(|status| status.members.len() == NODES))
    });
    world
}

/// Whether all machines agree, and show the client's tree; `None`: nothing.
fn settled(world: &World, shown: Option<usize>) -> bool {
    let state = if shown.is_some() { "done" } else { "removed" };
    let expected = shown.map(|client| &world.clients[client].sample.items);
    world.machines.iter().all(|machine| !machine.power.crashed())
        && checks::heads_agree(&world.machines)
        && world.machines.iter().all(|machine| {
            let paths = status(machine).map(|status| status.paths).unwrap_or_default();
            let tree = read_tree(&machine.fs, Path::new(BASE), Path::new("image"));
            paths.len() == 1 && paths[0].state == state && expected.map_or(tree.is_empty(), |items| tree == *items)
        })
}

fn nothing_staged(world: &World, seed: u64) {
    for machine in &world.machines {
        let staging = read_tree(&machine.fs, Path::new(BASE), Path::new(".ciruela-staging"));
        // A crash may bring back what was deleted of a removed tree: a daemon sweeps that when it starts.
        let left: Vec<_> = staging.keys().filter(|name| !name.is_empty() && !name.contains("-removed")).collect();
        assert!(left.is_empty(), "seed {seed}: left in staging: {left:?}");
    }
}

fn publish(world: &mut World, client: usize) {
    world.start_client(client, Duration::ZERO);
    world.run_within(LIMIT, |world| world.clients[client].summary.is_some() && settled(world, Some(client)));
}

/// Power is cut anywhere in a removal, and in what comes after it.
fn crashes(seed: u64, append_only: bool) {
    let mut random = Random::new(seed ^ 0xc4a5);
    let mut client = |verb, version| client(verb, version, &[0, 1, 2], random.next());
    let clients =
        vec![client(Verb::Append, 1), client(Verb::Delete, 1), client(Verb::Append, 2), client(Verb::Delete, 2)];
    let mut world = world(seed, append_only, clients);
    publish(&mut world, 0);
    for (number, shown) in [(1, None), (2, Some(2)), (3, None)] {
        world.start_client(number, Duration::ZERO);
        for machine in 0..NODES {
            if random.below(2) == 0 {
                world.doom(machine, Duration::from_millis(random.below(400)), random.below(60));
            }
        }
        let over = |world: &World| world.clients[number].summary.clone();
        world.run_within(LIMIT, |world| {
            let taken = over(world).is_some_and(|summary| summary.ending == Ending::Done);
            over(world).is_some() && (settled(world, shown) || !taken)
        });
        if over(&world).is_some_and(|summary| summary.ending != Ending::Done) {
            // All were down for longer than the client waits.
            return;
        }
        if shown.is_none() {
            nothing_staged(&world, seed);
        }
    }
}

/// It is removed in one half of the cluster, and the other half gets it, something else, or nothing new.
fn halves(seed: u64, append_only: bool) {
    let mut random = Random::new(seed ^ 0x4a1f);
    let other = 1 + u8::try_from(random.below(2)).expect("small");
    let verb = if append_only { Verb::Append } else { Verb::Replace };
    let clients = vec![
        client(Verb::Append, 1, &[0], seed),
        client(Verb::Delete, 1, &[0], seed + 1),
        client(verb, other, &[2], seed + 2),
    ];
    let mut world = world(seed, append_only, clients);
    publish(&mut world, 0);
    world.split(1 + usize::try_from(random.below(2)).expect("small"));
    let quiet = Duration::from_millis(random.below(20_000));
    let removed = Duration::from_millis(random.below(5_000));
    let published = Duration::from_millis(random.below(5_000));
    world.start_client(1, quiet + removed);
    world.start_client(2, quiet + published);
    let end = world.now + quiet + Duration::from_millis(6_000 + random.below(20_000));
    world.run(|world| world.now > end);
    world.heal();
    // What is published later wins where it may take a place; where directories are only added, it can't know of the removal.
    world.run_within(LIMIT, |world| {
        let ended = world.clients.iter().all(|client| client.summary.is_some());
        ended && (settled(world, None) || (!append_only && settled(world, Some(2))))
    });
    let summary = world.clients[1].summary.as_ref().expect("ended");
    if append_only {
        assert!(settled(&world, None), "seed {seed}");
        assert_eq!(summary.ending, Ending::Done, "seed {seed}: {summary:#?}");
    }
}

/// A machine is off from before the removal until long after: it never shows it again for longer than it takes to hear of it.
fn late(seed: u64, append_only: bool) {
    let mut random = Random::new(seed ^ 0x1a7e);
    let clients = vec![
        client(Verb::Append, 1, &[0], seed),
        client(Verb::Delete, 1, &[0], seed + 1),
        client(Verb::Append, 2, &[0], seed + 2),
        client(Verb::Delete, 2, &[0], seed + 3),
    ];
    let mut world = world(seed, append_only, clients);
    publish(&mut world, 0);
    world.split(2);
    let steps = 1 + usize::try_from(random.below(3)).expect("small");
    for number in 1..=steps {
        world.start_client(number, Duration::ZERO);
        world.run_within(LIMIT, |world| world.clients[number].summary.is_some());
        let ending = &world.clients[number].summary.as_ref().expect("ended").ending;
        assert_eq!(*ending, Ending::Done, "seed {seed}: client {number}");
    }
    world.heal();
    world.run_within(LIMIT, |world| settled(world, (steps == 2).then_some(2)));
}

#[test]
fn a_removal_survives_crashes_and_so_does_what_comes_after_it() {
    for seed in seeds(16) {
        crashes(seed, seed.is_multiple_of(2));
    }
}

#[test]
fn halves_of_which_one_removes_end_alike() {
    for seed in seeds(12) {
        halves(seed, seed.is_multiple_of(2));
    }
}

#[test]
fn who_was_away_removes_it_and_has_what_came_later() {
    for seed in seeds(12) {
        late(seed, seed.is_multiple_of(2));
    }
}
