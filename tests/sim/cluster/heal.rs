//! Somebody changes files of committed directories: each machine finds it by itself and gets what is wrong from the others.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ciruela::driver::disk::fs::FileSystem as _;
use ciruela::engine::upload::Upload;
use ciruela::model::change::Verb;
use ciruela::model::directory::{NodeConfig, Retention};

use super::client::Client;
use super::machine::{BASE, Machine};
use super::network::Conditions;
use super::scenarios::{PATH, node_config, secret, upload};
use super::world::{World, status};
use crate::disk::memory_fs::Abilities;
use crate::disk::power::Random;
use crate::disk::trees::{Item, Sample, read_tree, vpath};
use crate::seeds::seeds;

const LIMIT: Duration = Duration::from_hours(2);

/// With `retention`, only the newest directory is kept.
fn config(append_only: bool, retention: bool) -> Arc<NodeConfig> {
    let mut config = NodeConfig::clone(&node_config(append_only));
    for directory in config.directories.values_mut() {
        let directory = Arc::make_mut(directory);
        directory.retention = retention.then_some(Retention {
            keep_min_directories: 1,
            keep_max_directories: 1,
            keep_recent: Duration::ZERO,
            keep_list_file: None,
        });
        directory.scrub_interval = Some(Duration::from_mins(2));
        directory.heal = true;
    }
    Arc::new(config)
}

/// So many machines on which the sample is visible; the other client is for later.
fn deployed(seed: u64, machines: u8, retention: bool, sample: &Sample) -> World {
    let mut random = Random::new(seed ^ 0x5c0b);
    let conditions = Conditions { loss_permille: 0, breaks_permille: 0, ..Conditions::of_seed(&mut random) };
    let machine = |number| {
        let abilities = Abilities::renames(!seed.is_multiple_of(3));
        Machine::in_cluster(number, config(retention || seed.is_multiple_of(2), retention), abilities)
    };
    let client = Client::new(sample.clone(), secret(), upload(Verb::Append), seed);
    let next = |image| Upload { path: vpath("/key/next"), ..upload(Verb::Append)(image) };
    let next = Client::new(Sample::new(2), secret(), next, seed + 1);
    let machines_all = (1..=machines).map(machine).collect();
    let mut world = World::new(seed, conditions, machines_all, vec![client, next], vpath(PATH));
    world.cluster = true;
    let alive = |machine: &Machine| status(machine).is_some_and(|status| status.members.len() == usize::from(machines));
    world.run_within(LIMIT, |world| world.machines.iter().all(alive));
    world.start_client(0, Duration::ZERO);
    world.run_within(LIMIT, |world| {
        world.clients[0].summary.is_some() && world.machines.iter().all(|machine| is_whole(machine, sample))
    });
    world
}

fn visible(machine: &Machine) -> BTreeMap<String, Item> {
    read_tree(&machine.fs, Path::new(BASE), Path::new("image"))
}

fn is_whole(machine: &Machine, sample: &Sample) -> bool {
    let paths = status(machine).map(|status| status.paths).unwrap_or_default();
    visible(machine) == sample.items && paths.iter().all(|path| path.state == "done" && path.damaged.is_none())
}

/// Changes something there.
fn spoil(machine: &Machine, sample: &Sample, random: &mut Random) {
    let files = sample.items.iter().filter(|(_, item)| matches!(item, Item::File { bytes, .. } if !bytes.is_empty()));
    let files: Vec<_> = files.map(|(name, _)| Path::new("image").join(name)).collect();
    let file = &files[usize::try_from(random.below(files.len() as u64)).expect("small")];
    let root = machine.fs.open_root(Path::new(BASE)).expect("there");
    match random.below(4) {
        0 => machine.fs.unlink(&root, file).expect("removed"),
        1 => {
            machine.fs.unlink(&root, file).expect("removed");
            machine.fs.symlink(&root, "a".as_ref(), file).expect("made");
        }
        _ => machine.fs.edit(&Path::new(BASE).join(file), b"?"),
    }
    machine.fs.syncfs(&root).expect("synced");
}

fn healed_by_others(seed: u64) {
    let sample = Sample::new(1);
    let mut world = deployed(seed, 3, false, &sample);
    let mut random = Random::new(seed ^ 0xbad);
    for _ in 0..3 {
        // One of them stays whole.
        for machine in 1..world.machines.len() {
            // A power cut in the midst of this would be somebody else's to recover from.
            world.machines[machine].power.spared(|| spoil(&world.machines[machine], &sample, &mut random));
            world.known.push(visible(&world.machines[machine]));
        }
        if random.below(2) == 0 {
            world.doom(1, Duration::from_secs(110), random.below(100));
        }
        world.run_within(LIMIT, |world| {
            world.machines.iter().all(|machine| status(machine).is_some() && is_whole(machine, &sample))
        });
    }
}

#[test]
fn what_somebody_changed_comes_back_from_others() {
    for seed in seeds(12) {
        healed_by_others(seed);
    }
}

/// It is damaged, and waits for somebody who has what is wrong.
fn waits(world: &World) -> bool {
    let paths = status(&world.machines[0]).map(|status| status.paths).unwrap_or_default();
    paths.iter().find(|path| path.path == vpath(PATH)).is_some_and(|path| {
        let says = path.damaged.as_deref().is_some_and(|damage| damage.starts_with("a was changed on this node"));
        says && path.waiting.as_deref().is_some_and(|waiting| waiting.starts_with("no source"))
    })
}

#[test]
fn alone_it_stays_as_it_is_and_says_so() {
    for seed in seeds(4) {
        let sample = Sample::new(1);
        let mut world = deployed(seed, 1, false, &sample);
        world.machines[0].fs.edit(&Path::new(BASE).join("image/a"), b"?");
        let edited = visible(&world.machines[0]);
        world.known.push(edited.clone());
        world.run_within(LIMIT, waits);
        assert_eq!(visible(&world.machines[0]), edited, "seed {seed}");
        // Somebody puts it right.
        let Some(Item::File { bytes, .. }) = sample.items.get("a") else { panic!("it is a file") };
        world.machines[0].fs.edit(&Path::new(BASE).join("image/a"), bytes);
        world.run_within(LIMIT, |world| is_whole(&world.machines[0], &sample));
    }
}

/// What nobody can heal doesn't stay for ever where the rules don't keep it.
#[test]
fn what_waits_to_be_healed_is_removed_like_others() {
    for seed in seeds(4) {
        let sample = Sample::new(1);
        let mut world = deployed(seed, 1, true, &sample);
        world.machines[0].fs.edit(&Path::new(BASE).join("image/a"), b"?");
        world.known.push(visible(&world.machines[0]));
        world.run_within(LIMIT, waits);
        world.start_client(1, Duration::ZERO);
        world.run_within(LIMIT, |world| visible(&world.machines[0]).is_empty());
    }
}
