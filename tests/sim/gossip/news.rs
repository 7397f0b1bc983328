//! Watches, reports, what nodes say about themselves, and heads: what comes through, and how soon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ciruela::engine::gossip::{Effect, Input};
use ciruela::model::change::Rank;
use ciruela::model::ids::ChangeId;
use ciruela::model::peer::NodeInfo;
use ciruela::model::time::Stamp;
use ciruela::model::vpath::VPath;

use super::membership::{USUAL, acquainted, joined, secs};
use super::world::{DIRECTORY, World, info};
use crate::cluster::network::Conditions;

const LOSSY: Conditions =
    Conditions { loss_permille: 200, doubled_permille: 50, jitter: Duration::from_millis(50), ..USUAL };

pub(super) fn change(number: u8) -> Rank {
    Rank { stamp: Stamp(1), id: ChangeId::new([number; 32]), overrides: false }
}

fn path(name: &str) -> VPath {
    format!("/{DIRECTORY}/{name}").parse().expect("a path")
}

fn watched_everywhere(world: &World, path: &VPath, expected: usize) -> bool {
    (1..world.nodes.len()).all(|number| world.engine(number).watchers(path).count() == expected)
}

#[test]
fn watches_reach_all_and_end() {
    for (seed, conditions, count) in [(1, USUAL, 3), (2, USUAL, 100), (3, LOSSY, 30)] {
        let mut world = joined(seed, conditions, count);
        let long = path(&["x".repeat(250), "y".repeat(250), "z".repeat(250), "w".repeat(250)].join("/"));
        for (path, most) in [(path("a"), 10), (long, 20)] {
            let watch = |on| Input::Watch { path: path.clone(), change: change(1), on };
            world.tell(0, watch(true));
            let took = world.run_until(secs(most), |world| watched_everywhere(world, &path, 1));
            println!("a watch is known to {count} nodes after {took:?}");
            world.tell(0, watch(false));
            world.run_until(secs(most), |world| watched_everywhere(world, &path, 0));
        }
        for number in 1..count {
            let on =
                |on| world.told(number, |effect| matches!(effect, Effect::Watched { on: there, .. } if *there == on));
            assert!(on(true) >= 2 && on(false) >= 2, "seed {seed}, node {number}");
        }
        world.tell(0, Input::Watch { path: path("b"), change: change(2), on: true });
        world.run_until(secs(20), |world| watched_everywhere(world, &path("b"), 1));
        world.kill(0);
        world.run_until(secs(60), |world| watched_everywhere(world, &path("b"), 0));
    }
}

#[test]
fn many_watches_arrive() {
    let mut world = joined(1, LOSSY, 8);
    for number in 0..300 {
        world.tell(0, Input::Watch { path: path(&format!("image-{number}")), change: change(3), on: true });
    }
    let all = |world: &World| (0..300).all(|number| watched_everywhere(world, &path(&format!("image-{number}")), 1));
    println!("300 watches are known to 8 nodes after {:?}", world.run_until(secs(60), all));
    for number in 0..300 {
        world.tell(0, Input::Watch { path: path(&format!("image-{number}")), change: change(3), on: false });
    }
    world.run_until(secs(60), |world| (1..8).all(|node| world.engine(node).watchers(&path("image-7")).count() == 0));
}

#[test]
fn what_a_node_says_about_itself_arrives() {
    let mut world = joined(1, LOSSY, 20);
    let directories: BTreeSet<Box<str>> = (0..800).map(|n| format!("directory-{n:04}").into()).collect();
    let info = NodeInfo { directories: directories.into_iter().collect(), ..info(3) };
    world.tell(3, Input::Info(info));
    assert_eq!(world.engine(3).directories_left_out(), 0);
    let known = |world: &World| {
        let others = world.running().into_iter().filter(|number| *number != 3);
        others.map(|number| world.engine(number)).all(|engine| engine.carriers("directory-0799").count() == 1)
    };
    println!("800 directories of one node are known to 20 after {:?}", world.run_until(secs(60), known));
}

#[test]
fn reports_arrive_and_are_acknowledged_once() {
    for (seed, conditions) in [(1, USUAL), (2, LOSSY)] {
        let mut world = joined(seed, conditions, 20);
        let to = world.nodes[0].id;
        let body = |number: u64| Bytes::from(number.to_be_bytes().repeat(125));
        for number in 0..30 {
            for node in 1..20 {
                world.tell(node, Input::SendReport { to, number, body: body(number) });
            }
        }
        world.run_until(secs(120), |world| (1..20).all(|node| world.engine(node).reports_pending() == 0));
        let mut received = BTreeMap::<_, u32>::new();
        for (_, effect) in &world.nodes[0].told {
            if let Effect::ReportReceived { from, number, body: came } = effect {
                assert_eq!(*came, body(*number));
                *received.entry((from.address, *number)).or_default() += 1;
            }
        }
        assert_eq!(received.len(), 19 * 30, "seed {seed}");
        for node in 1..20 {
            let acked = world.nodes[node].told.iter().filter_map(|(_, effect)| {
                let Effect::ReportAcked { from, number } = effect else { return None };
                (*from == to).then_some(*number)
            });
            let acked: Vec<_> = acked.collect();
            assert_eq!(acked.iter().copied().collect::<BTreeSet<_>>(), (0..30).collect(), "seed {seed}, node {node}");
            assert_eq!(acked.len(), 30, "seed {seed}, node {node}: acknowledged twice");
        }
        // To one that is down they aren't sent for ever.
        world.kill(0);
        world.tell(1, Input::SendReport { to, number: 99, body: body(99) });
        world.run_until(secs(40), |world| world.engine(1).reports_pending() == 0);
    }
}

/// How long until all have the head that one has.
fn spread(seed: u64, count: usize, urgent: bool) -> Duration {
    let mut world = acquainted(seed, Conditions { delay: Duration::from_millis(5), ..USUAL }, count);
    world.run_for(secs(3));
    world.set_head(0, 100, urgent);
    world.run_until(secs(60), |world| world.nodes.iter().all(|node| node.head == 100))
}

#[test]
fn heads_converge() {
    for (count, most_ms) in [(3, 300), (30, 700), (100, 1_000), (300, 1_500)] {
        let took = spread(7, count, true);
        println!("a head is at all of {count} nodes after {took:?}");
        assert!(took <= Duration::from_millis(most_ms), "{count} nodes: {took:?}");
    }
    // By the usual pulses alone.
    let took = spread(8, 30, false);
    assert!(took <= secs(10), "{took:?}");
}

#[test]
fn what_a_partition_has_missed_is_found() {
    let mut world = joined(3, USUAL, 10);
    (0..5).for_each(|number| world.nodes[number].group = 1);
    world.run_for(secs(40));
    world.set_head(2, 5, true);
    world.run_for(secs(10));
    let heads: Vec<_> = world.nodes.iter().map(|node| node.head).collect();
    assert_eq!(heads, [5, 5, 5, 5, 5, 1, 1, 1, 1, 1]);
    world.nodes.iter_mut().for_each(|node| node.group = 0);
    world.run_until(secs(60), |world| world.nodes.iter().all(|node| node.head == 5));
}
