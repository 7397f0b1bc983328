//! Scenarios of a cluster whose nodes hear each other: clients speak with some of them, all must end alike.

use std::collections::BTreeSet;
use std::time::Duration;

use ciruela::engine::upload::{Ending, Rules, Upload};
use ciruela::model::change::Verb;
use ciruela::model::peer::ClusterKey;

use super::checks;
use super::client::{Client, patient};
use super::machine::Machine;
use super::network::Conditions;
use super::scenarios::{PATH, node_config, sample, secret, upload};
use super::world::{World, status};
use crate::disk::memory_fs::Abilities;
use crate::disk::power::Random;
use crate::disk::trees::{Sample, vpath};
use crate::seeds::seeds;

const NODES: usize = 5;
/// More virtual time than any of these needs.
const LIMIT: Duration = Duration::from_hours(3);

/// Each try needs something that fails, and that happens at most so often.
const STORM_TRIES_MAX: u64 = 8;

/// Longer than any client of these needs.
const DEADLINE: Duration = Duration::from_mins(2);

/// A client that speaks with these nodes.
fn client(sample: Sample, verb: Verb, entries: &[usize], seed: u64) -> Client {
    client_at(PATH, sample, verb, entries, seed)
}

/// The same, with another path.
fn client_at(path: &str, sample: Sample, verb: Verb, entries: &[usize], seed: u64) -> Client {
    let rules = Rules { deadline: DEADLINE, require_all: false, ..patient() };
    let upload = |image| Upload { path: vpath(path), ..upload(verb)(image) };
    let mut client = Client::with_rules(rules, sample, secret(), upload, seed);
    client.entries = Some(entries.to_vec());
    client
}

/// Five nodes, which know of each other already.
fn cluster(seed: u64, conditions: Conditions, append_only: bool, clients: Vec<Client>) -> World {
    let abilities = Abilities::renames(true);
    let key = (!seed.is_multiple_of(4)).then_some(ClusterKey([9; 32]));
    let machine = |number| {
        let mut machine = Machine::new(number, node_config(append_only), abilities);
        machine.key.clone_from(&key);
        machine
    };
    let machines = (1..=u8::try_from(NODES).expect("few")).map(machine).collect();
    let mut world = World::new(seed, conditions, machines, clients, vpath(PATH));
    world.cluster = true;
    world.run_within(LIMIT, formed);
    world
}

/// Every node knows every other one.
fn formed(world: &World) -> bool {
    let alive = |status: ciruela::engine::node::NodeStatus| {
        status.members.iter().filter(|member| member.state == "alive").map(|member| member.node.address).collect()
    };
    world.machines.iter().all(|machine| {
        let alive: BTreeSet<_> = status(machine).map(alive).unwrap_or_default();
        alive.len() == NODES
    })
}

/// No client waits, no node is at anything, and all have the same heads.
fn settled(world: &World) -> bool {
    let still = |state: &str| matches!(state, "done" | "conflict");
    world.clients.iter().all(|client| client.summary.is_some())
        && world.machines.iter().all(|machine| {
            let paths = status(machine).map(|status| status.paths).unwrap_or_default();
            !paths.is_empty() && paths.iter().all(|path| still(path.state))
        })
        && checks::heads_agree(&world.machines)
}

/// The nodes that the last client spoke with were gone for so long that it gave up.
fn gave_up(world: &World) -> bool {
    let summary = world.clients.last().and_then(|client| client.summary.as_ref());
    summary.is_some_and(|summary| summary.ending == Ending::Unreachable)
}

/// Some node has all of what holds there.
fn is_somewhere(world: &World) -> bool {
    let mut paths = world.machines.iter().filter_map(status).flat_map(|status| status.paths);
    paths.any(|path| path.state == "done")
}

/// Runs to the end and looks at it.
fn finish(world: &mut World, seed: u64) {
    world.run_within(LIMIT, settled);
    checks::same_heads(&world.machines, seed);
    for machine in &world.machines {
        checks::shows_head(machine, &world.clients, seed);
    }
}

/// Every node shows this client's tree.
fn check_winner(world: &World, winner: usize, seed: u64) {
    for machine in &world.machines {
        checks::shows(machine, &world.clients[winner].sample, seed);
    }
}

/// A client speaks with one node, all five get the tree, and the client hears of each.
fn one_entry(seed: u64) -> World {
    let mut random = Random::new(seed ^ 0x1e11);
    let conditions = Conditions { loss_permille: 0, breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let entry = usize::try_from(random.below(NODES as u64)).expect("small");
    let client = client(sample(&mut random, 1), Verb::Append, &[entry], seed);
    let mut world = cluster(seed, conditions, true, vec![client]);
    world.start_client(0, Duration::ZERO);
    finish(&mut world, seed);
    check_winner(&world, 0, seed);
    checks::told_of_all(&world.clients[0], &world.machines, seed);
    world
}

/// The same while datagrams get lost, streams break and machines crash or are restarted. A client that gave up because its nodes were
/// gone is run again: until then nodes may have the change alone. What one of them has comes to all by itself.
fn storm(seed: u64) {
    let mut random = Random::new(seed ^ 0x5708);
    let conditions = Conditions::of_seed(&mut random);
    let any = |random: &mut Random| usize::try_from(random.below(NODES as u64)).expect("small");
    let entries = [any(&mut random), any(&mut random)];
    let sample = sample(&mut random, 1);
    let try_again = |tries: u64| client(sample.clone(), Verb::Append, &entries, seed + tries);
    let mut world = cluster(seed, conditions, true, vec![try_again(0)]);
    world.start_client(0, Duration::ZERO);
    for _ in 0..random.below(6) {
        let delay = Duration::from_millis(random.below(20_000));
        world.doom(any(&mut random), delay, random.below(120));
    }
    for _ in 0..random.below(4) {
        let delay = Duration::from_millis(random.below(20_000));
        world.restart_after(any(&mut random), delay);
    }
    for tries in 1..=STORM_TRIES_MAX {
        world.run_within(LIMIT, |world| settled(world) || gave_up(world));
        if !gave_up(&world) {
            break;
        }
        if is_somewhere(&world) {
            world.run_within(LIMIT, settled);
        }
        world.clients.push(try_again(tries));
        world.start_client(world.clients.len() - 1, Duration::ZERO);
    }
    finish(&mut world, seed);
    check_winner(&world, 0, seed);
    checks::ended(world.clients.last().expect("one"), &Ending::Done, seed);
}

/// A node is down while the tree is put there and replaced; it comes back when the clients have gone.
fn a_node_comes_back(seed: u64) {
    let mut random = Random::new(seed ^ 0xbac);
    let conditions = Conditions { breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let first = client(sample(&mut random, 1), Verb::Append, &[0, 1], seed);
    let second = client(sample(&mut random, 2), Verb::Replace, &[2, 3], seed + 1);
    let mut world = cluster(seed, conditions, false, vec![first, second]);
    world.switch_off(NODES - 1);
    for client in 0..2 {
        world.start_client(client, Duration::from_millis(1));
        world.run_within(LIMIT, |world| world.clients[client].summary.is_some());
        checks::ended(&world.clients[client], &Ending::Done, seed);
    }
    world.switch_on(NODES - 1);
    finish(&mut world, seed);
    check_winner(&world, 1, seed);
}

/// Two clients put different trees at one path of different nodes at once.
fn two_clients_meet(seed: u64, append_only: bool) {
    let mut random = Random::new(seed ^ 0x7c0);
    let conditions = Conditions::of_seed(&mut random);
    let verb = if append_only { Verb::Append } else { Verb::Replace };
    let one = client(sample(&mut random, 1), verb, &[0], seed);
    let other = client(sample(&mut random, 2), verb, &[NODES - 1], seed + 1);
    let mut world = cluster(seed, conditions, append_only, vec![one, other]);
    for client in 0..2 {
        world.start_client(client, Duration::from_micros(random.below(500_000)));
    }
    finish(&mut world, seed);
    for client in &world.clients {
        checks::not_late(client, seed);
    }
    if !append_only {
        let winner = checks::winner(&world.machines[0], &world.clients);
        check_winner(&world, winner, seed);
    }
}

/// The cluster falls apart for a while, and each half gets another tree at the same path. Gives the number of conflicts.
fn halves(seed: u64, append_only: bool) -> usize {
    let mut random = Random::new(seed ^ 0x4a1f);
    let conditions = Conditions { breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let verb = if append_only { Verb::Append } else { Verb::Replace };
    let one = client(sample(&mut random, 1), verb, &[0], seed);
    let other = client(sample(&mut random, 2), verb, &[NODES - 1], seed + 1);
    let mut world = cluster(seed, conditions, append_only, vec![one, other]);
    world.split(2 + usize::from(random.below(2) == 1));
    let quiet = Duration::from_millis(random.below(30_000));
    for client in 0..2 {
        world.start_client(client, quiet + Duration::from_millis(random.below(2_000)));
    }
    // Some clients see the cluster become one again.
    let end = world.now + quiet + Duration::from_millis(random.below(60_000));
    world.run(|world| world.now > end);
    world.heal();
    finish(&mut world, seed);
    if append_only {
        for machine in &world.machines {
            checks::keeps_conflict(machine, &world.clients, seed);
        }
        for client in &world.clients {
            checks::stays_where_done(client, &world.machines, seed);
        }
    } else {
        let winner = checks::winner(&world.machines[0], &world.clients);
        check_winner(&world, winner, seed);
    }
    let paths = world.machines.iter().filter_map(status).flat_map(|status| status.paths);
    paths.filter(|path| path.state == "conflict").count()
}

/// One of the two nodes that the client speaks with has the right tree and gives wrong blocks.
fn a_node_lies(seed: u64) {
    let mut random = Random::new(seed ^ 0x11e5);
    let conditions = Conditions { breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let client = client(sample(&mut random, 1), Verb::Append, &[0, 1], seed);
    let mut world = cluster(seed, conditions, true, vec![client]);
    world.machines[1].lies_permille = 200 + random.below(801);
    world.start_client(0, Duration::ZERO);
    finish(&mut world, seed);
    check_winner(&world, 0, seed);
}

#[test]
fn all_get_what_one_was_given() {
    for seed in seeds(12) {
        one_entry(seed);
    }
}

/// Databases that take their time: whoever hears of pieces before its own change is durable hears of them again. Connections from one
/// deployment serve the next.
fn slow_databases(seed: u64) {
    let mut random = Random::new(seed ^ 0x510b);
    let next_path = "/key/next";
    let one = client(sample(&mut random, 1), Verb::Append, &[0], seed);
    let next = client_at(next_path, sample(&mut random, 2), Verb::Append, &[0], seed + 1);
    let mut world = cluster(seed, Conditions::FAIR, true, vec![one, next]);
    for machine in &mut world.machines {
        machine.write_time = Duration::from_millis(1 + random.below(150));
    }
    for (client, path) in [PATH, next_path].into_iter().enumerate() {
        let begin = world.now;
        world.start_client(client, Duration::ZERO);
        let has_it = |machine: &Machine| {
            let paths = status(machine).map(|status| status.paths).unwrap_or_default();
            paths.iter().any(|entry| entry.path.as_str() == path && entry.state == "done")
        };
        world.run_within(LIMIT, |world| world.clients[client].summary.is_some() && world.machines.iter().all(has_it));
        checks::ended(&world.clients[client], &Ending::Done, seed);
        let took = world.now.checked_sub(begin).expect("time goes on");
        assert!(took < Duration::from_secs(3), "seed {seed}: {path} took {took:?}");
    }
}

#[test]
fn slow_databases_hold_nobody_up_for_long() {
    for seed in seeds(12) {
        slow_databases(seed);
    }
}

#[test]
fn all_converge_after_a_storm() {
    for seed in seeds(12) {
        storm(seed);
    }
}

#[test]
fn who_was_down_catches_up() {
    for seed in seeds(6) {
        a_node_comes_back(seed);
    }
}

#[test]
fn two_appending_clients_leave_the_same_heads() {
    for seed in seeds(6) {
        two_clients_meet(seed, true);
    }
}

#[test]
fn two_replacing_clients_leave_one_tree() {
    for seed in seeds(6) {
        two_clients_meet(seed, false);
    }
}

#[test]
fn halves_that_had_different_trees_end_with_one() {
    assert_eq!(seeds(6).map(|seed| halves(seed, false)).sum::<usize>(), 0);
}

#[test]
fn halves_that_hold_each_other_for_dead_are_quick_to_agree() {
    // Each answered every late word that it was dead by coming back anew.
    halves(148_769_896, true);
}

#[test]
fn halves_keep_what_was_appended_in_each() {
    assert_ne!(seeds(6).map(|seed| halves(seed, true)).sum::<usize>(), 0, "nothing was tried");
}

#[test]
fn a_lying_node_holds_nobody_up() {
    for seed in seeds(10) {
        a_node_lies(seed);
    }
}

#[test]
fn a_seed_of_a_cluster_replays() {
    assert_eq!(one_entry(5).trace(), one_entry(5).trace());
}
