//! What gossip costs: bytes on the wire for each node and second, headers of UDP and IP included, and memory.

use std::time::Duration;

use super::crowd::Crowd;
use super::membership::{USUAL, acquainted, secs};
use super::world::World;

/// What an idle node sends in a second at most, whatever the cluster's size.
const IDLE_BYTES_PER_SECOND_MAX: u64 = 1_000;

fn idle_bytes_per_second(world: &mut World, time: Duration) -> u64 {
    let sent = |world: &World| world.nodes.iter().map(|node| node.bytes).collect::<Vec<_>>();
    let before = sent(world);
    world.run_for(time);
    let after = sent(world);
    let rate = |(before, after): (&u64, &u64)| (after - before) / time.as_secs();
    let rates: Vec<_> = before.iter().zip(&after).map(rate).collect();
    let (worst, mean) = (rates.iter().max().copied().unwrap_or(0), rates.iter().sum::<u64>() / rates.len() as u64);
    println!("{} nodes: {mean} bytes per node and second, at most {worst}", world.nodes.len());
    assert!(worst <= 2 * IDLE_BYTES_PER_SECOND_MAX, "{worst}");
    mean
}

fn settled(seed: u64, count: usize) -> World {
    let mut world = acquainted(seed, USUAL, count);
    // What is still passed on comes to its end.
    world.run_for(secs(20));
    world
}

#[test]
fn bytes_do_not_grow_with_the_cluster() {
    for (seed, count) in [(1, 3), (2, 100)] {
        let mean = idle_bytes_per_second(&mut settled(seed, count), secs(60));
        assert!(mean <= IDLE_BYTES_PER_SECOND_MAX, "{count} nodes: {mean}");
    }
}

#[test]
fn nor_with_a_thousand() {
    // Minutes of one core: a thousand nodes that start together.
    if std::env::var_os("CIRUELA_SIM_LONG").is_none() {
        return;
    }
    let mut world = World::new(3, USUAL, 1_000);
    world.start_all();
    println!("1000 nodes know each other after {:?}", world.run_until(secs(60), World::agree));
    world.run_for(secs(30));
    let mean = idle_bytes_per_second(&mut world, secs(20));
    assert!(mean <= IDLE_BYTES_PER_SECOND_MAX, "{mean}");
    world.kill(500);
    println!("a death is known to 1000 nodes after {:?}", world.run_until(secs(40), World::agree));
    world.set_head(1, 100, true);
    let took = world.run_until(secs(10), |world| world.running().into_iter().all(|n| world.nodes[n].head == 100));
    println!("a head is at all of 1000 nodes after {took:?}");
    assert!(took <= secs(2), "{took:?}");
}

#[test]
fn nor_with_ten_thousand() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4_096
    };
    let (whole, before) = (8, resident());
    let mut crowd = Crowd::new(4, whole, 10_000);
    println!("a node keeps 10000 members in {} kB", (resident() - before) / whole as u64 / 1_024);
    assert_eq!(crowd.known(), whole * 9_999);
    crowd.run_for(20);
    let (bytes, time) = (crowd.bytes, 60);
    crowd.run_for(time);
    let mean = (crowd.bytes - bytes) / time / whole as u64;
    println!("10000 nodes: {mean} bytes per node and second");
    assert!(mean <= IDLE_BYTES_PER_SECOND_MAX, "{mean}");
    assert_eq!(crowd.downs, 0);
    // Rounds of a second: a head needs as many more than with a thousand nodes as the logarithm is larger.
    let took = crowd.spread();
    println!("a head is at all of 10000 nodes after {took:?}");
    assert!(took <= secs(4), "{took:?}");
}
