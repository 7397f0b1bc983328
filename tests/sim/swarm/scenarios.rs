//! How long it takes, and what it costs, in a few networks.

use super::record::Record;
use super::setup::Setup;
use super::world::run;

#[expect(clippy::print_stderr, reason = "the figures are for who reads the test's output")]
fn show(name: &str, setup: &Setup) -> Record {
    let record = run(setup.clone());
    let (ratio, client, doubled) = (record.ratio(), record.client_ratio(), record.doubled_ratio());
    eprintln!(
        "{name}: {} nodes, {} pieces, seed {}: {ratio:.3} of the bound, client sent {client:.3}, twice {doubled:.4}, dropped {}",
        setup.nodes,
        setup.pieces,
        setup.seed,
        record.dropped.len()
    );
    record
}

#[test]
fn equal_links() {
    for nodes in [10, 100] {
        let record = show("equal links", &Setup::new(1, nodes));
        assert!(record.ratio() <= 1.5);
    }
}
