//! Who finds whom, and how soon: joins, deaths, goodbyes, restarts, partitions.

use std::time::Duration;

use ciruela::engine::gossip::{Effect, Input};
use ciruela::model::time::Time;

use super::world::{DIRECTORY, World};
use crate::cluster::network::Conditions;
use crate::disk::power::Random;

/// Loses one datagram of fifty.
pub(super) const USUAL: Conditions = Conditions {
    delay: Duration::from_millis(1),
    jitter: Duration::from_millis(5),
    loss_permille: 20,
    doubled_permille: 10,
    ..Conditions::FAIR
};

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn joined(seed: u64, conditions: Conditions, count: usize) -> World {
    let mut world = World::new(seed, conditions, count);
    world.start_all();
    world.run_until(secs(60), World::agree);
    world
}

/// The same for many nodes, without the work of joining.
pub(super) fn acquainted(seed: u64, conditions: Conditions, count: usize) -> World {
    let mut world = World::new(seed, conditions, count);
    world.start_all();
    world.introduce();
    assert!(world.agree());
    world.run_for(secs(10));
    world
}

#[test]
fn all_find_all_through_three_peers() {
    for (seed, count, most) in [(1, 2, 5), (2, 3, 5), (3, 10, 10), (4, 40, 15), (5, 100, 20)] {
        let mut world = World::new(seed, USUAL, count);
        world.start_all();
        let took = world.run_until(secs(most), World::agree);
        println!("{count} nodes know each other after {took:?}");
    }
}

#[test]
fn all_find_all_in_any_weather() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let conditions = Conditions::of_seed(&mut random);
        let mut world = World::new(seed, conditions, 2 + usize::try_from(random.below(9)).expect("small"));
        for number in 0..world.nodes.len() {
            world.run_for(Duration::from_millis(random.below(5_000)));
            world.start(number);
        }
        // With three datagrams of ten lost some are held for dead from time to time.
        world.run_until(secs(300), World::agree);
    }
}

#[test]
fn the_same_seed_gives_the_same() {
    let trace = |seed| {
        let mut world = joined(seed, USUAL, 8);
        world.kill(5);
        world.run_for(secs(20));
        world.trace()
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}

#[test]
fn a_death_is_known_everywhere() {
    for (seed, count, most) in [(1, 3, 10), (2, 10, 15), (3, 100, 25)] {
        let mut world = acquainted(seed, USUAL, count);
        let dead = world.nodes[count / 2].id;
        world.run_for(secs(5));
        world.kill(count / 2);
        let took = world.run_until(secs(most), World::agree);
        println!("a death is known to {count} nodes after {took:?}");
        for number in world.running() {
            let count = world.told(number, |effect| *effect == Effect::Down { node: dead, left: false });
            assert_eq!(count, 1, "seed {seed}, node {number}");
            let down: Vec<_> = world.engine(number).down(DIRECTORY).collect();
            assert_eq!(down.len(), 1);
            assert!(*down[0].0 == dead && down[0].2 > Time::new(secs(5)) && !down[0].3);
        }
        let falsely = |effect: &Effect| matches!(effect, Effect::Down { node, .. } if *node != dead);
        let falsely: usize = world.running().iter().map(|number| world.told(*number, falsely)).sum();
        assert_eq!(falsely, 0, "seed {seed}: held for dead");
    }
}

#[test]
fn a_goodbye_is_known_everywhere() {
    for (seed, count) in [(1, 2), (2, 3), (3, 60)] {
        let mut world = joined(seed, USUAL, count);
        let leaving = world.nodes[1].id;
        world.tell(1, Input::Leave);
        world.run_for(Duration::from_millis(50));
        world.kill(1);
        let took = world.run_until(secs(5), World::agree);
        println!("a goodbye is known to {count} nodes after {took:?}");
        for number in world.running() {
            assert_eq!(world.told(number, |effect| *effect == Effect::Down { node: leaving, left: true }), 1);
        }
        // It may come back.
        world.restart(1);
        world.run_until(secs(15), World::agree);
    }
}

#[test]
fn a_restart_is_another_node() {
    for (seed, pause) in [(1, 0), (2, 3), (3, 40)] {
        let mut world = joined(seed, USUAL, 12);
        let old = world.nodes[4].id;
        world.kill(4);
        world.run_for(secs(pause));
        world.restart(4);
        let new = world.nodes[4].id;
        world.run_until(secs(15), World::agree);
        for number in world.running().into_iter().filter(|number| *number != 4) {
            let told: Vec<_> = world.nodes[number].told.iter().map(|(_, effect)| effect).collect();
            let at = |what: &dyn Fn(&Effect) -> bool| told.iter().position(|effect| what(effect));
            let down = at(&|effect| *effect == Effect::Down { node: old, left: false });
            let up = at(&|effect| matches!(effect, Effect::Up { node, .. } if *node == new));
            assert!(down.is_some() && down < up, "seed {seed}, node {number}: {down:?} {up:?}");
        }
    }
}

#[test]
fn who_was_stopped_is_forgiven() {
    for (seed, count) in [(1, 2), (2, 3), (3, 30)] {
        let mut world = joined(seed, USUAL, count);
        world.stop(0, true);
        world.run_until(secs(40), |world| (1..count).all(|n| world.engine(n).members().count() == count - 2));
        world.run_for(secs(60));
        world.stop(0, false);
        let took = world.run_until(secs(30), World::agree);
        println!("of {count} nodes one that was stopped is back after {took:?}");
    }
}

#[test]
fn partitions_heal() {
    for (seed, count, most) in [(1, 2, 30), (2, 4, 40), (3, 20, 60), (4, 100, 60)] {
        let mut world = acquainted(seed, USUAL, count);
        for number in 0..count / 2 {
            world.nodes[number].group = 1;
        }
        world.run_until(secs(120), World::agree);
        world.run_for(secs(60));
        world.nodes.iter_mut().for_each(|node| node.group = 0);
        let took = world.run_until(secs(most), World::agree);
        println!("two halves of {count} nodes are one after {took:?}");
    }
}
