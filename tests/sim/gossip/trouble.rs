//! Clones, backups, other keys, clocks that are off, datagrams that come again.

use std::collections::BTreeSet;
use std::time::Duration;

use ciruela::engine::gossip::{Effect, Input};
use ciruela::model::peer::{ClusterKey, NodeId};

use super::membership::{USUAL, joined, secs};
use super::world::{World, address};
use crate::cluster::network::Conditions;
use crate::disk::power::Random;

#[test]
fn restored_from_an_older_copy() {
    // The others remember the later start: as dead for long, as dead just now, as alive.
    for (seed, pause) in [(1, 120), (2, 12), (3, 0)] {
        let mut world = joined(seed, USUAL, 10);
        for _ in 0..8 {
            world.restart(4);
            world.run_for(secs(2));
        }
        world.run_until(secs(20), World::agree);
        let last = world.nodes[4].id.incarnation;
        world.kill(4);
        world.run_for(secs(pause));
        world.nodes[4].id.incarnation = 3;
        world.nodes[4].told.clear();
        world.start(4);
        world.run_until(secs(30), World::agree);
        let restored = world.nodes[4].told.iter().filter_map(|(_, effect)| {
            let Effect::Restored { seen } = effect else { return None };
            Some(*seen)
        });
        assert_eq!(restored.collect::<Vec<_>>(), [last], "seed {seed}");
        assert_eq!(world.nodes[4].id.incarnation, last + 1, "seed {seed}");
    }
}

#[test]
fn twins_are_two_members() {
    let mut world = joined(1, USUAL, 5);
    let clone = NodeId { address: address(77), ..world.nodes[2].id };
    let number = world.add(clone);
    world.start(number);
    world.run_until(secs(15), World::agree);
    world.run_for(secs(180));
    let original = world.nodes[2].id;
    for node in world.running() {
        let told = world.nodes[node].told.iter().filter_map(|(_, effect)| {
            let Effect::Twin { node } = effect else { return None };
            Some(*node)
        });
        let told: Vec<_> = told.collect();
        let expected = match node {
            2 => BTreeSet::from([clone]),
            node if node == number => BTreeSet::from([original]),
            _ => BTreeSet::from([clone, original]),
        };
        assert!(told.iter().all(|node| expected.contains(node)) && !told.is_empty(), "node {node}: {told:?}");
        assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len(), "node {node}: told twice");
    }
}

#[test]
fn a_new_machine_at_an_old_address() {
    let mut world = joined(1, USUAL, 6);
    for _ in 0..5 {
        world.restart(3);
        world.run_for(secs(3));
    }
    world.kill(3);
    world.run_for(secs(2));
    // It knows nothing of its predecessor, whose incarnation was higher.
    let new = world.nodes[5].id.machine_id;
    world.nodes[3].id = NodeId { machine_id: new, incarnation: 1, address: address(3) };
    world.kill(5);
    world.start(3);
    world.run_until(secs(30), World::agree);
}

#[test]
fn another_key_is_another_cluster() {
    let mut world = World::new(1, USUAL, 9);
    for number in 4..8 {
        world.nodes[number].key = Some(ClusterKey([8; 32]));
        world.nodes[number].group = 0;
    }
    world.nodes[8].key = None;
    world.start_all();
    world.run_for(secs(60));
    for number in 0..9 {
        let same: BTreeSet<_> =
            (0..9).filter(|other| *other != number && world.nodes[*other].key == world.nodes[number].key).collect();
        let known: BTreeSet<_> = world.engine(number).members().map(|(node, _)| node.address).collect();
        // Peers are of the first cluster: those of the other one don't find each other.
        let expected = if number < 4 { same } else { BTreeSet::new() };
        assert_eq!(known, expected.into_iter().map(address).collect(), "node {number}");
    }
    assert!(world.engine(0).dropped().unsealable > 0);
}

#[test]
fn without_a_key_only_peers_talk() {
    let mut world = World::new(1, USUAL, 6);
    world.nodes.iter_mut().for_each(|node| node.key = None);
    world.start_all();
    world.run_for(secs(40));
    for number in 0..6 {
        let known: BTreeSet<_> = world.engine(number).members().map(|(node, _)| node.address).collect();
        let expected = (0..3).filter(|other| number < 3 && *other != number).map(address).collect();
        assert_eq!(known, expected, "node {number}");
    }
    assert!(world.engine(0).dropped().unlisted > 0);
    // A peer that isn't listed any more is gone.
    for number in 0..3 {
        world.tell(number, Input::Peers(vec![address(0), address(1)]));
    }
    world.run_for(secs(30));
    assert_eq!(world.engine(0).members().count(), 1);
    assert_eq!(world.engine(2).members().count(), 0);
}

#[test]
fn what_is_replayed_is_refused() {
    let mut world = joined(1, Conditions { loss_permille: 0, doubled_permille: 0, ..USUAL }, 6);
    world.recorded = Some(Vec::new());
    world.tell(
        3,
        Input::Watch { path: "/images/a".parse().expect("a path"), change: crate::gossip::news::change(1), on: true },
    );
    world.run_for(secs(20));
    let recorded = world.recorded.take().expect("it was on");
    world.run_for(secs(1));
    let members = world.engine(0).members().count();
    for pause in [0, 60, 900] {
        world.run_for(secs(pause));
        // Node 4 has started again and remembers nothing.
        world.restart(4);
        world.run_until(secs(20), World::agree);
        let before: Vec<_> = world.nodes.iter().map(|node| node.told.len()).collect();
        let sent: Vec<_> = world.nodes.iter().map(|node| node.datagrams).collect();
        for (from, to, data) in recorded.clone() {
            let number = (0..6).find(|number| address(*number) == to).expect("one of ours");
            let dropped = world.engine(number).dropped().total();
            world.tell(number, Input::Datagram { from, data });
            assert_eq!(world.engine(number).dropped().total(), dropped + 1, "after {pause} s, to {number}");
        }
        for (number, node) in world.nodes.iter().enumerate() {
            assert_eq!((node.told.len(), node.datagrams), (before[number], sent[number]), "after {pause} s: {number}");
        }
        assert_eq!(world.engine(0).members().count(), members);
    }
}

#[test]
fn clocks_may_be_off_by_minutes() {
    let mut world = World::new(1, USUAL, 6);
    for (number, node) in world.nodes.iter_mut().enumerate() {
        node.clock_ahead_ms = number as u64 * 100_000;
    }
    // More than ten minutes ahead of all others.
    world.nodes[5].clock_ahead_ms = 1_100_000;
    world.start_all();
    world.run_for(secs(60));
    assert_eq!(world.engine(0).members().count(), 4);
    assert!(world.engine(0).dropped().untimely > 0);
}

#[test]
fn nonsense_changes_nothing() {
    let mut world = joined(1, USUAL, 4);
    world.recorded = Some(Vec::new());
    world.run_for(secs(3));
    let recorded = world.recorded.take().expect("it was on");
    let mut random = Random::new(5);
    let before = world.nodes[0].told.len();
    for (from, _, data) in recorded {
        let mut bytes = data.to_vec();
        let at = usize::try_from(random.below(bytes.len() as u64)).expect("small");
        match random.below(3) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            _ => bytes.extend([0; 7]),
        }
        let dropped = world.engine(0).dropped().total();
        world.tell(0, Input::Datagram { from, data: bytes.into() });
        assert_eq!(world.engine(0).dropped().total(), dropped + 1);
    }
    // But that somebody sends it is said, once.
    let news: Vec<_> = world.nodes[0].told[before..].iter().map(|(_, effect)| effect).collect();
    assert!(matches!(news[..], [Effect::Stranger { .. }]), "{news:?}");
    world.run_for(Duration::from_secs(5));
    assert!(world.agree());
}
