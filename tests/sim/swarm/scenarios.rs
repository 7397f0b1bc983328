//! How long it takes, and what it costs, in a few networks.
#![expect(clippy::print_stdout, reason = "the figures are what these tests are read for")]

use super::record::Record;
use super::setup::Setup;
use super::world::run;

/// A tenth of the nodes' own.
const SLOW: u64 = 12_500_000;

/// Runs it, checks what always holds, and prints the figures.
fn show(name: &str, setup: &Setup) -> Record {
    let record = run(setup);
    println!(
        "{name}, {} nodes: {:.3} of the bound, the client sent {:.3} of the image, {:.4} came twice (seed {})",
        setup.nodes,
        record.ratio(),
        record.client_ratio(),
        record.doubled_ratio(),
        setup.seed,
    );
    assert!(record.time().is_some(), "{name}, seed {}: somebody never had everything", setup.seed);
    assert!(record.doubled_ratio() < 0.02, "{name}, seed {}: {:.4} came twice", setup.seed, record.doubled_ratio());
    record
}

fn at_most(what: &str, setup: &Setup, value: f64, bound: f64) {
    assert!(value <= bound, "seed {}, {} nodes: {what} is {value:.3}, over {bound}", setup.seed, setup.nodes);
}

/// Whether the long simulations are wanted, too.
fn long() -> bool {
    std::env::var_os("CIRUELA_SIM_LONG").is_some()
}

#[test]
fn equal_links_are_used_almost_fully() {
    for (seed, nodes) in [(1, 2), (2, 3), (3, 10), (4, 10), (5, 30), (6, 100)] {
        let setup = Setup::new(seed, nodes);
        let record = show("equal links", &setup);
        at_most("time", &setup, record.ratio(), 1.15);
        at_most("what the client sent", &setup, record.client_ratio(), 1.1);
    }
}

#[test]
fn a_slow_client_sends_everything_once() {
    for (seed, nodes) in [(1, 10), (2, 100)] {
        let setup = Setup { client_rate: SLOW, ..Setup::new(seed, nodes) };
        let record = show("slow client", &setup);
        at_most("time", &setup, record.ratio(), 1.15);
        at_most("what the client sent", &setup, record.client_ratio(), 1.1);
    }
}

/// The client's connections share its link unfairly, and none can carry all of it.
#[test]
fn uneven_flows_hold_up_nobody() {
    for (seed, nodes) in [(1, 3), (2, 8), (3, 30)] {
        let setup = Setup { client_flows: &[60, 40, 25], ..Setup::new(seed, nodes) };
        let record = show("uneven flows", &setup);
        at_most("time", &setup, record.ratio(), 1.15);
        at_most("what the client sent", &setup, record.client_ratio(), 1.1);
    }
}

#[test]
fn a_thousand_nodes() {
    if !long() {
        return;
    }
    let first = std::env::var("CIRUELA_SIM_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(1);
    for (seed, nodes) in [(first, 300), (first + 1, 1_000)] {
        let equal = Setup::new(seed, nodes);
        for (name, setup, most, client) in [
            ("equal links", equal.clone(), 1.15, 1.1),
            ("slow client", Setup { client_rate: SLOW, ..equal.clone() }, 1.15, 1.02),
            ("late answers", Setup { stalls: 100, breaks: 1, ..equal.clone() }, 1.3, 1.1),
            ("deaths", Setup { deaths: nodes / 10, ..equal.clone() }, 1.3, 1.1),
            ("one liar", Setup { liars: 1, ..equal.clone() }, 1.3, 1.1),
        ] {
            let record = show(name, &setup);
            at_most("time", &setup, record.ratio(), most);
            at_most("what the client sent", &setup, record.client_ratio(), client);
        }
    }
}

/// Takes half an hour.
#[test]
fn ten_thousand_nodes() {
    if !long() {
        return;
    }
    let setup = Setup::new(1, 10_000);
    let record = show("equal links", &setup);
    at_most("time", &setup, record.ratio(), 1.15);
    at_most("what the client sent", &setup, record.client_ratio(), 1.02);
}

/// What is lost on the way comes again: one answer in a hundred is late, with all behind it, and now and then a connection breaks.
#[test]
fn one_answer_in_a_hundred_is_lost() {
    for (seed, nodes) in [(1, 10), (2, 50)] {
        let setup = Setup { stalls: 100, breaks: 1, ..Setup::new(seed, nodes) };
        let record = show("lossy links", &setup);
        at_most("time", &setup, record.ratio(), 1.3);
    }
}

#[test]
fn a_tenth_of_the_nodes_dies() {
    for (seed, nodes) in [(1, 20), (2, 50)] {
        let setup = Setup { deaths: nodes / 10, ..Setup::new(seed, nodes) };
        let record = show("deaths", &setup);
        assert_eq!(record.dead.len(), nodes / 10);
        at_most("time", &setup, record.ratio(), 1.3);
    }
}

#[test]
fn slow_uplinks_hold_up_nobody_for_long() {
    for (seed, slow) in [(1, 3), (2, 15)] {
        let setup = Setup { slow, ..Setup::new(seed, 30) };
        let record = show("slow uplinks", &setup);
        at_most("time", &setup, record.ratio(), 1.5);
    }
}

#[test]
fn a_node_that_serves_clients_shares_dies() {
    for seed in 1..3 {
        let setup = Setup { entry_dies: true, client_rate: SLOW, pieces: 200, ..Setup::new(seed, 20) };
        let record = show("an entry dies", &setup);
        at_most("time", &setup, record.ratio(), 1.3);
        at_most("what the client sent", &setup, record.client_ratio(), 1.1);
    }
}

#[test]
fn a_liar_is_dropped_by_everyone_it_lied_to() {
    for (seed, nodes) in [(1, 10), (2, 30)] {
        let setup = Setup { liars: 1, pieces: 500, ..Setup::new(seed, nodes) };
        let record = show("one liar", &setup);
        let liar = Some(nodes - 1);
        assert!(record.dropped.iter().any(|(_, other, _)| *other == liar), "seed {seed}: it lied to nobody");
        let wrong = record.dropped.iter().find(|(_, other, _)| *other != liar);
        assert!(wrong.is_none(), "seed {seed}: {wrong:?} was dropped");
        at_most("time", &setup, record.ratio(), 1.3);
    }
}

#[test]
fn a_bounded_rate_is_kept() {
    let rate = 20_000_000;
    let setup = Setup { download_rate: Some(rate), pieces: 300, ..Setup::new(1, 10) };
    let record = show("bounded rate", &setup);
    let time = record.time().expect("all had everything").as_secs_f64();
    let least = setup.bytes() as f64 / rate as f64;
    assert!((0.95..1.1).contains(&(time / least)), "{time} s instead of {least}");
}

#[test]
fn a_seed_replays() {
    let setup = Setup { stalls: 50, breaks: 2, deaths: 2, pieces: 100, ..Setup::new(7, 20) };
    assert_eq!(run(&setup), run(&setup));
}
