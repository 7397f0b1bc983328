//! Daemons and clients that die in the middle of an upload: how much of it has arrived is a gate's decision.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::{source, start, wait_for_status};
use crate::daemon::{Daemon, tree};
use crate::gate::Gate;
use crate::publisher::{Publisher, to};
use crate::trees::{file, noise, plain};

/// About 12 MiB in small files and one of 4 MiB.
fn large(publisher: &Publisher) -> PathBuf {
    source(publisher, "large", |root: &Path| {
        plain(root, 7, 400, 20_000);
        file(&root.join("large"), &noise(7, 4 << 20), 0o755);
    })
}

const LARGE_BYTES: u64 = 400 * 20_000 + (4 << 20);
/// What has passed the gate when it holds.
const PASSED_BYTES: usize = 6 << 20;

/// Waits until what has arrived is stored but for what is under way; gives the stored bytes.
fn stored(daemon: &Daemon) -> u64 {
    let some = |entry: &serde_json::Value| entry["bytes_done"].as_u64() >= Some(2 << 20);
    wait_for_status(daemon, "/data/large", some)["bytes_done"].as_u64().expect("a number")
}

fn fetched(ended: &crate::publisher::Ended, daemon: &Daemon) -> u64 {
    ended.at(daemon, "/data/large")["bytes_fetched"].as_u64().expect("a number")
}

#[test]
fn a_killed_daemon_goes_on_where_it_was() {
    dies_and_comes_back(32, Signal::KILL);
}

#[test]
fn a_stopped_daemon_goes_on_where_it_was() {
    dies_and_comes_back(33, Signal::TERM);
}

fn dies_and_comes_back(number: u8, signal: Signal) {
    let publisher = Publisher::new(number);
    let [mut daemon] = start(&publisher, [number]);
    let root = large(&publisher);
    let gate = Gate::new(daemon.address, PASSED_BYTES);
    let client = publisher.start(&["--append", &to(&root, "/data/large")], &[gate.address.to_string()]);
    gate.wait_until_held();
    let stored = stored(&daemon);
    daemon.signal(signal);
    assert_eq!(daemon.wait().success(), signal == Signal::TERM);
    assert!(!daemon.data("data/large").exists());
    gate.open();
    daemon.spawn();
    let ended = client.end().expect(0);
    assert_eq!(tree(&daemon.data("data/large")), tree(&root));
    // The client names the gate as the node's address.
    let node = &ended.finished()["nodes"][0];
    assert_eq!(node["hostname"], format!("node{number}"));
    let fetched = node["paths"]["/data/large"]["bytes_fetched"].as_u64().expect("a number");
    assert!(fetched <= LARGE_BYTES - stored / 100 * 99, "{fetched} fetched though {stored} were there");
}

#[test]
fn another_client_finishes_what_one_began() {
    let publisher = Publisher::new(34);
    let [daemon] = start(&publisher, [34]);
    let root = large(&publisher);
    let append = to(&root, "/data/large");
    let gate = Gate::new(daemon.address, PASSED_BYTES);
    let client = publisher.start(&["--append", &append], &[gate.address.to_string()]);
    gate.wait_until_held();
    let stored = stored(&daemon);
    client.kill();
    gate.cut();
    let entry = wait_for_status(&daemon, "/data/large", |entry| entry["waiting"].is_string());
    assert!(entry["waiting"].as_str().is_some_and(|text| text.starts_with("no source")), "{entry}");
    let ended = publisher.run(&["--append", &append], &[daemon.address.to_string()]).expect(0);
    assert_eq!(tree(&daemon.data("data/large")), tree(&root));
    let bound = LARGE_BYTES - stored / 100 * 99 + 100_000;
    assert!(ended.bytes_sent() <= bound, "{} sent, {bound} expected", ended.bytes_sent());
    assert_eq!(fetched(&ended, &daemon), LARGE_BYTES, "both clients' together");
}

#[test]
fn another_client_finishes_after_a_crash() {
    let publisher = Publisher::new(35);
    let [mut daemon] = start(&publisher, [35]);
    let root = large(&publisher);
    let append = to(&root, "/data/large");
    let gate = Gate::new(daemon.address, PASSED_BYTES);
    let client = publisher.start(&["--append", &append], &[gate.address.to_string()]);
    gate.wait_until_held();
    let stored = stored(&daemon);
    client.kill();
    daemon.kill();
    daemon.spawn();
    // It checks what it has before anybody returns.
    let entry = wait_for_status(&daemon, "/data/large", |entry| entry["bytes_done"].as_u64() >= Some(stored));
    assert_eq!(entry["state"], "fetch");
    let ended = publisher.run(&["--append", &append], &[daemon.address.to_string()]).expect(0);
    assert_eq!(tree(&daemon.data("data/large")), tree(&root));
    let fetched = fetched(&ended, &daemon);
    assert!(fetched <= LARGE_BYTES - stored / 100 * 99, "{fetched} fetched though {stored} were there");
    assert!(ended.bytes_sent() <= fetched + 100_000, "{} sent, {fetched} fetched", ended.bytes_sent());
}

#[test]
fn one_node_that_hangs_does_not_hold_up_the_others() {
    let publisher = Publisher::new(36);
    let daemons = start(&publisher, [36, 37]);
    let root = large(&publisher);
    let gate = Gate::new(daemons[0].address, PASSED_BYTES);
    let entry_points = [gate.address.to_string(), daemons[1].address.to_string()];
    let mut client = publisher.start(&["--append", &to(&root, "/data/large")], &entry_points);
    gate.wait_until_held();
    client.wait_for("the end on the other node", |event| event["event"] == "ended");
    assert_eq!(tree(&daemons[1].data("data/large")), tree(&root));
    gate.open();
    client.end().expect(0);
    assert_eq!(tree(&daemons[0].data("data/large")), tree(&root));
}
