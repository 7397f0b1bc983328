//! Scenarios: what is put where, what goes wrong meanwhile, and how it must end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ciruela::engine::upload::{Ending, Upload, UploadResult};
use ciruela::format::ssh::SecretKey;
use ciruela::model::change::Verb;
use ciruela::model::directory::NodeConfig;
use ciruela::model::ids::ImageId;
use ciruela::model::key::NamedKey;

use super::client::Client;
use super::machine::{BASE, Machine};
use super::network::Conditions;
use super::world::{World, status};
use crate::disk::memory_fs::Abilities;
use crate::disk::power::Random;
use crate::disk::trees::{Sample, config, read_tree, vpath};
use crate::seeds::seeds;

pub(super) const PATH: &str = "/key/image";

pub(super) fn secret() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

pub(super) fn node_config(append_only: bool) -> Arc<NodeConfig> {
    let mut directory = config(Path::new(BASE), 1);
    directory.append_only = append_only;
    directory.upload_keys = vec!["ci".into()];
    let key = NamedKey { key: secret().public_key(), name: "ci".into() };
    Arc::new(NodeConfig {
        directories: [("key".into(), Arc::new(directory))].into(),
        keys: [("ci".into(), vec![key])].into(),
        ..NodeConfig::default()
    })
}

fn machines(random: &mut Random, append_only: bool) -> Vec<Machine> {
    let modern = random.below(3) > 0;
    let abilities = Abilities::renames(modern);
    (1..=u8::try_from(1 + random.below(4)).expect("few"))
        .map(|n| Machine::new(n, node_config(append_only), abilities))
        .collect()
}

pub(super) fn upload(verb: Verb) -> impl FnOnce(ImageId) -> Upload {
    move |image| Upload { path: vpath(PATH), image, verb, old_image: None, weak: false, given: true }
}

pub(super) fn sample(random: &mut Random, version: u8) -> Sample {
    if random.below(4) == 0 { Sample::large(version) } else { Sample::new(version) }
}

/// Every client heard the truth, and every node shows the last tree.
fn check_end(world: &World, winner: usize, seed: u64) {
    for (number, client) in world.clients.iter().enumerate() {
        let summary = client.summary.as_ref().unwrap_or_else(|| panic!("seed {seed}: client {number} never ended"));
        if number == winner {
            assert_eq!(summary.ending, Ending::Done, "seed {seed}: {summary:#?}");
            let done = |result: &UploadResult| matches!(result, UploadResult::Done { .. });
            assert!(
                summary.nodes.iter().all(|node| node.uploads.iter().all(|(_, result)| done(result))),
                "seed {seed}"
            );
        }
    }
    for machine in &world.machines {
        let visible = read_tree(&machine.fs, Path::new(BASE), Path::new("image"));
        assert_eq!(visible, world.clients[winner].sample.items, "seed {seed}: {}", machine.host.hostname);
        let status = status(machine).expect("it runs");
        assert!(status.paths.iter().all(|path| path.state == "done"), "seed {seed}: {:?}", status.paths);
        let staging = read_tree(&machine.fs, Path::new(BASE), Path::new(".ciruela-staging"));
        assert!(staging.len() <= 1, "seed {seed}: left in staging: {:?}", staging.keys());
    }
}

fn all_ended(world: &World) -> bool {
    world.clients.iter().all(|client| client.summary.is_some()) && all_settled(world)
}

/// Nothing is under way anywhere, so that the end can be looked at.
fn all_settled(world: &World) -> bool {
    world
        .machines
        .iter()
        .all(|machine| status(machine).is_some_and(|status| status.paths.iter().all(|path| path.state == "done")))
}

/// One client appends, machines crash at random operations of their disks, streams break.
fn append_with_crashes(seed: u64) -> World {
    let mut random = Random::new(seed);
    let conditions = Conditions::of_seed(&mut random);
    let machines = machines(&mut random, true);
    let client = Client::new(sample(&mut random, 1), secret(), upload(Verb::Append), seed);
    let count = machines.len() as u64;
    let mut world = World::new(seed, conditions, machines, vec![client], vpath(PATH));
    world.start_client(0, Duration::from_millis(100));
    for _ in 0..random.below(5) {
        let machine = usize::try_from(random.below(count)).expect("small");
        let delay = Duration::from_millis(50 + random.below(20_000));
        world.doom(machine, delay, random.below(120));
    }
    world.run(all_ended);
    check_end(&world, 0, seed);
    world
}

/// A tree is there; another takes its place, with crashes.
fn replace_with_crashes(seed: u64) {
    let mut random = Random::new(seed ^ 0xabc);
    let conditions = Conditions::of_seed(&mut random);
    let machines = machines(&mut random, false);
    let first = Client::new(Sample::new(1), secret(), upload(Verb::Append), seed);
    let second = Client::new(Sample::new(2), secret(), upload(Verb::Replace), seed + 1);
    let count = machines.len() as u64;
    let mut world = World::new(seed, conditions, machines, vec![first, second], vpath(PATH));
    world.start_client(0, Duration::ZERO);
    world.run(|world| world.clients[0].summary.is_some());
    world.start_client(1, Duration::from_millis(1));
    for _ in 0..=random.below(3) {
        let machine = usize::try_from(random.below(count)).expect("small");
        let delay = Duration::from_millis(random.below(2_000));
        world.doom(machine, delay, random.below(120));
    }
    world.run(all_ended);
    check_end(&world, 1, seed);
}

/// Two clients have the same tree; one of them lies now and then.
fn a_liar_is_left(seed: u64) {
    let mut random = Random::new(seed ^ 0x11a5);
    let conditions = Conditions { breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let machines = machines(&mut random, true);
    let honest = Client::new(Sample::new(1), secret(), upload(Verb::Append), seed);
    let mut liar = Client::new(Sample::new(1), secret(), upload(Verb::Append), seed + 1);
    liar.lies_permille = 500;
    let mut world = World::new(seed, conditions, machines, vec![honest, liar], vpath(PATH));
    world.start_client(0, Duration::from_millis(random.below(300)));
    world.start_client(1, Duration::from_millis(random.below(300)));
    world.run(all_ended);
    check_end(&world, 0, seed);
}

/// Different trees for the same path of an append-only directory: one wins on each node, the other client is told.
fn two_appends_meet(seed: u64) {
    let mut random = Random::new(seed ^ 0x2222);
    let conditions = Conditions { breaks_permille: 0, ..Conditions::FAIR };
    let machines = vec![Machine::new(1, node_config(true), Abilities::renames(true))];
    let one = Client::new(Sample::new(1), secret(), upload(Verb::Append), seed);
    let other = Client::new(Sample::new(2), secret(), upload(Verb::Append), seed + 1);
    let mut world = World::new(seed, conditions, machines, vec![one, other], vpath(PATH));
    world.start_client(0, Duration::from_micros(random.below(5_000)));
    world.start_client(1, Duration::from_micros(random.below(5_000)));
    world.run(all_ended);
    let endings: Vec<_> = world.clients.iter().map(|client| client.summary.clone().expect("ended").ending).collect();
    let winner = endings.iter().position(|ending| *ending == Ending::Done).expect("one wins");
    assert_eq!(endings[1 - winner], Ending::Refused, "seed {seed}");
    check_end(&world, winner, seed);
}

#[test]
fn appends_survive_crashes() {
    for seed in seeds(150) {
        append_with_crashes(seed);
    }
}

#[test]
fn replaces_survive_crashes() {
    for seed in seeds(150) {
        replace_with_crashes(seed);
    }
}

#[test]
fn liars_are_left() {
    for seed in seeds(60) {
        a_liar_is_left(seed);
    }
}

#[test]
fn one_of_two_appends_wins() {
    for seed in seeds(60) {
        two_appends_meet(seed);
    }
}

/// Law 1: the same seed gives the same run, to the last effect.
#[test]
fn a_seed_replays() {
    for seed in [3, 14, 15] {
        assert_eq!(append_with_crashes(seed).trace(), append_with_crashes(seed).trace(), "seed {seed}");
    }
    assert_ne!(append_with_crashes(3).trace(), append_with_crashes(14).trace());
}
