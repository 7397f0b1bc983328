//! What gossip costs: bytes on the wire for each node and second, headers of UDP and IP included, and memory.

use std::time::Duration;

use super::membership::{USUAL, joined, secs};
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
    let mut world = joined(seed, USUAL, count);
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
