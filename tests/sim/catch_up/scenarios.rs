//! Any history of changes at any nodes, sessions that break, nodes that are off: all end with the same heads.

use std::time::Duration;

use ciruela::engine::catch_up::Input;
use ciruela::format::{change, signature};
use ciruela::model::change::{Change, SignedChange, Verb};
use ciruela::model::ids::ImageId;
use ciruela::model::key::{Scheme, Signature};
use ciruela::model::time::Stamp;

use super::node::{self, Node};
use super::world::{START, World};
use crate::cluster::network::Conditions;
use crate::disk::power::Random;
use crate::seeds::seeds;

fn nodes(count: u64) -> Vec<Node> {
    let config = node::config();
    (1..=u8::try_from(count).expect("few")).map(|n| Node::new(n, config.clone())).collect()
}

pub(super) fn signed(verb: Verb, path: &str, image: u8, stamp: u64) -> SignedChange {
    let change = Change {
        cluster: None,
        verb,
        path: path.parse().expect("valid"),
        image: Some(ImageId::new([image; 32])).filter(|_| verb != Verb::Delete),
        old_image: Some(ImageId::new([image; 32])).filter(|_| verb == Verb::Delete),
        stamp: Stamp(stamp),
    };
    let secret = node::secret();
    let message = change::signed_bytes(&change, Scheme::V2).expect("it can be signed");
    let bytes = signature::sign(&secret, &message);
    SignedChange::new(change, vec![Signature { scheme: Scheme::V2, key: Some(secret.public_key()), bytes }])
}

/// A client somewhere, whose clock may be wrong by minutes.
fn any_change(random: &mut Random, at: Duration, paths: u64) -> SignedChange {
    let (directory, verb) = match random.below(5) {
        0 => ("append", Verb::Append),
        1 => ("replace", Verb::Append),
        2 => ("append", Verb::Delete),
        3 => ("replace", Verb::Delete),
        _ => ("replace", Verb::Replace),
    };
    let milliseconds = u64::try_from(at.as_millis()).expect("short");
    let stamp = START.0 + milliseconds + random.below(300_000) - 200_000;
    let image = u8::try_from(random.below(4)).expect("small");
    signed(verb, &format!("/{directory}/{}", random.below(paths)), image, stamp)
}

/// Random histories; at the end all are up, and then differences must go away.
fn history(seed: u64) -> World {
    let mut random = Random::new(seed);
    let conditions = Conditions::of_seed(&mut random);
    let count = 2 + random.below(6);
    let mut world = World::new(seed, conditions, nodes(count));
    let seconds = 5 + random.below(60);
    let changes = random.below(150);
    let paths = 1 + random.below(60);
    for _ in 0..changes {
        let at = Duration::from_millis(random.below(seconds * 1_000));
        let node = usize::try_from(random.below(count)).expect("few");
        let change = any_change(&mut random, at, paths);
        world.submit(at, node, change);
    }
    for node in 0..usize::try_from(count).expect("few") {
        if random.below(2) == 0 {
            let at = Duration::from_millis(random.below(seconds * 1_000));
            let until = at + Duration::from_millis(random.below(seconds * 1_000));
            world.off(at, node, until, false);
        }
    }
    world.run_until(Duration::from_secs(2 * seconds));
    world.run_until_equal(Duration::from_mins(30));
    world
}

#[test]
fn all_end_with_the_same_heads() {
    let (mut messages, mut broken, mut heads) = (0, 0, 0);
    for seed in seeds(40) {
        let world = history(seed);
        messages += world.messages;
        broken += world.broken;
        heads += world.expected.len();
    }
    assert!(messages > 0 && broken > 0 && heads > 0, "{messages} {broken} {heads}: nothing was tried");
}

#[test]
fn the_same_seed_is_the_same_history() {
    let run = |seed| {
        let world = history(seed);
        (world.messages, world.bytes, world.broken, world.nodes[0].catch_up.fingerprint("replace"))
    };
    for seed in [3, 4] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// A node that was off for hours, and one with an empty disk, get everything from the others.
#[test]
fn who_was_away_and_who_is_new_get_everything() {
    for seed in seeds(2) {
        let mut random = Random::new(seed);
        let mut world = World::new(seed, Conditions::FAIR, nodes(4));
        world.off(Duration::from_secs(1), 2, Duration::from_hours(3), false);
        world.off(Duration::from_hours(2), 3, Duration::from_hours(2) + Duration::from_secs(5), true);
        for n in 0..600_u64 {
            let at = Duration::from_secs(2 + n);
            let node = usize::try_from(random.below(2)).expect("two");
            let stamp = START.0 + n * 1_000;
            let directory = if n % 3 == 0 { "append" } else { "replace" };
            world.submit(at, node, signed(Verb::Append, &format!("/{directory}/{n}"), 1, stamp));
        }
        // What it had not heard of when it went off must come from it.
        world.submit(Duration::from_millis(960), 2, signed(Verb::Append, "/append/its-own", 1, START.0));
        world.run_until(Duration::from_secs(700));
        assert!(world.nodes[0].durable.len() >= 600, "seed {seed}");
        world.run_until(Duration::from_hours(3) + Duration::from_secs(1));
        let before = (world.messages, world.expected.len());
        world.run_until_equal(Duration::from_mins(2));
        assert_eq!(before.1, 601, "seed {seed}");
        // 600 changes by 64 in a message, some questions, and the one change told to the others.
        assert!(world.messages - before.0 < 150, "seed {seed}: {} messages", world.messages - before.0);
    }
}

/// Both open a session with each other at the same moment, again and again.
#[test]
fn both_directions_at_once() {
    let mut at_once = 0;
    for seed in seeds(40) {
        let mut random = Random::new(seed);
        let conditions = Conditions { loss_permille: 0, breaks_permille: 0, ..Conditions::of_seed(&mut random) };
        let mut world = World::new(seed, conditions, nodes(2));
        for node in 0..2 {
            for n in 0..100_u64 {
                let n = n + 70 * node;
                let stamp = START.0 - random.below(1_000);
                let change =
                    signed(Verb::Append, &format!("/replace/{n}"), 1 + u8::try_from(node).expect("two"), stamp);
                world.submit(Duration::ZERO, usize::try_from(node).expect("two"), change);
            }
        }
        // So long the disks take.
        world.run_until(Duration::from_secs(3));
        let took = world.run_until_equal(Duration::from_mins(5));
        assert_eq!((world.expected.len(), world.broken), (170, 0), "seed {seed}");
        at_once = at_once.max(world.at_once);
        assert!(took < Duration::from_mins(1), "seed {seed}: {took:?}");
    }
    assert_eq!(at_once, 2, "never both at once");
}

/// A change which one node can't use keeps it different for good: it is tried seldom, and what comes later still gets there.
#[test]
fn a_lasting_difference_costs_little_and_hinders_nothing() {
    for seed in seeds(5) {
        let mut world = World::new(seed, Conditions::FAIR, nodes(3));
        let unusable = signed(Verb::Append, "/append/unusable", 1, START.0);
        let reason = "names that can't be here".to_owned();
        world.tell(2, Input::Withdrawn { change: change::id(&unusable.change), reason });
        world.submit(Duration::ZERO, 0, unusable);
        world.run_until(Duration::from_hours(1));
        let heads: Vec<_> = world.nodes.iter().map(|node| node.durable.len()).collect();
        assert_eq!((heads, world.broken), (vec![1, 1, 0], 0), "seed {seed}");
        // Two pairs, both ways, some 20 sessions each with a few messages, instead of some 7,200 pulses that differ.
        assert!(world.messages < 600, "seed {seed}: {} messages", world.messages);
        world.submit(Duration::from_hours(1), 0, signed(Verb::Append, "/append/later", 1, START.0 + 3_600_000));
        world.run_until(Duration::from_hours(1) + Duration::from_secs(30));
        assert_eq!(world.nodes[2].durable.len(), 1, "seed {seed}: it didn't hear of the later one");
    }
}

/// Nothing differs: nothing is said but pulses.
#[test]
fn equal_nodes_are_silent() {
    let mut world = World::new(1, Conditions::FAIR, nodes(5));
    world.submit(Duration::ZERO, 0, signed(Verb::Append, "/append/a", 1, START.0));
    world.run_until_equal(Duration::from_mins(1));
    world.run_until(Duration::from_mins(5));
    let before = world.messages;
    world.run_until(Duration::from_hours(2));
    assert_eq!(world.messages, before);
}
