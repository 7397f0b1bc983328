//! Several real daemons which know each other: what one is told, all get.

mod liars;

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::daemon::{Daemon, tree};
use crate::e2e::wait_for_status;
use crate::patience;
use crate::publisher::{Publisher, to};
use crate::trees::{mixed, plain};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";

/// Daemons with one key, of which each knows the first.
pub(super) fn cluster<const N: usize>(publisher: &Publisher, numbers: [u8; N]) -> [Daemon; N] {
    let mut first = None;
    numbers.map(|number| {
        let mut daemon = Daemon::prepare(number, &publisher.public_key());
        join(&mut daemon, first);
        first = first.or(Some(daemon.address));
        daemon
    })
}

/// Starts a daemon that knows this peer.
pub(super) fn join(daemon: &mut Daemon, peer: Option<std::net::SocketAddr>) {
    write(daemon, "cluster.key", KEY);
    if let Some(peer) = peer {
        write(daemon, "peers.txt", &format!("{peer}\n"));
    }
    daemon.spawn();
}

fn write(daemon: &Daemon, name: &str, text: &str) {
    fs::write(daemon.folder.path().join("conf").join(name), text).expect("write");
}

pub(super) fn source(publisher: &Publisher, name: &str, fill: impl FnOnce(&Path)) -> std::path::PathBuf {
    let root = publisher.folder.path().join(name);
    fs::create_dir(&root).expect("mkdir");
    fill(&root);
    root
}

/// Waits until the tree is visible on each of them.
pub(super) fn wait_for_all(daemons: &[&Daemon], path: &str, folder: &str, source: &Path) {
    let expected = tree(source);
    for daemon in daemons {
        wait_for_status(daemon, path, |entry| entry["state"] == "done");
        assert_eq!(tree(&daemon.data(folder)), expected);
    }
}

#[test]
fn what_one_node_is_told_all_get_before_the_client_ends() {
    let publisher = Publisher::new(101);
    let daemons = cluster(&publisher, [101, 102, 103, 104, 105]);
    wait_for_members(&daemons.each_ref(), 5);
    let source = source(&publisher, "first", |root| mixed(root, 1));
    let ended = publisher.run(&["--append", &to(&source, "/data/mixed")], &[daemons[0].address.to_string()]).expect(0);
    let expected = tree(&source);
    for daemon in &daemons {
        assert_eq!(tree(&daemon.data("data/mixed")), expected);
    }
    assert_eq!(ended.events.last().expect("an end")["exit_status"], 0);
}

#[test]
fn who_was_off_and_who_is_new_catch_up_with_no_client_there() {
    let publisher = Publisher::new(106);
    let mut daemons = cluster(&publisher, [106, 107, 108]);
    wait_for_members(&daemons.each_ref(), 3);
    daemons[2].kill();
    let first = source(&publisher, "first", |root| mixed(root, 2));
    let second = source(&publisher, "second", |root| mixed(root, 3));
    let entry = [daemons[1].address.to_string()];
    publisher.run(&["--append", &to(&first, "/data/mixed")], &entry).expect(0);
    publisher.run(&["--replace", &to(&second, "/conf/other")], &entry).expect(0);
    daemons[2].spawn();
    let mut fresh = Daemon::prepare(109, &publisher.public_key());
    join(&mut fresh, Some(daemons[1].address));
    wait_for_all(&[&daemons[2], &fresh], "/data/mixed", "data/mixed", &first);
    wait_for_all(&[&daemons[2], &fresh], "/conf/other", "conf-data/other", &second);
}

/// A new disk, or somebody's `rm -r`, while the daemon was off: the others have it, and their names are known.
#[test]
fn what_was_lost_while_a_daemon_was_off_comes_from_the_others() {
    let publisher = Publisher::new(170);
    let mut daemons = cluster(&publisher, [170, 171, 172]);
    wait_for_members(&daemons.each_ref(), 3);
    let first = source(&publisher, "first", |root| mixed(root, 12));
    let second = source(&publisher, "second", |root| mixed(root, 13));
    let entry = [daemons[0].address.to_string()];
    publisher.run(&["--append", &to(&first, "/data/mixed")], &entry).expect(0);
    publisher.run(&["--replace", &to(&second, "/conf/other")], &entry).expect(0);
    daemons[2].kill();
    fs::remove_dir_all(daemons[2].data("data/mixed")).expect("it was there");
    fs::remove_dir_all(daemons[2].data("conf-data")).expect("it was there");
    fs::create_dir(daemons[2].data("conf-data")).expect("made");
    daemons[2].spawn();
    wait_for_all(&[&daemons[2]], "/data/mixed", "data/mixed", &first);
    wait_for_all(&[&daemons[2]], "/conf/other", "conf-data/other", &second);
}

#[test]
fn a_node_without_the_directory_names_those_that_have_it() {
    let publisher = Publisher::new(110);
    let [mut first, mut second, mut third] = [110, 111, 112].map(|n| Daemon::prepare(n, &publisher.public_key()));
    fs::remove_file(first.folder.path().join("conf/configs/data.yaml")).expect("it is there");
    join(&mut first, None);
    join(&mut second, Some(first.address));
    join(&mut third, Some(first.address));
    wait_for_members(&[&first, &second, &third], 3);
    let source = source(&publisher, "source", |root| mixed(root, 4));
    let entry = [first.address.to_string()];
    publisher.run(&["--append", &to(&source, "/data/mixed")], &entry).expect(0);
    wait_for_all(&[&second, &third], "/data/mixed", "data/mixed", &source);
    assert!(!first.data("data/mixed").exists());
    // What nobody carries ends at once.
    publisher.run(&["--append", &to(&source, "/nobody/mixed")], &entry).expect(3);
}

#[test]
fn who_hangs_is_held_for_down_and_gets_it_when_it_goes_on() {
    let publisher = Publisher::new(113);
    let daemons = cluster(&publisher, [113, 114, 115]);
    wait_for_members(&daemons.each_ref(), 3);
    daemons[2].signal(Signal::STOP);
    wait_for_members(&[&daemons[0], &daemons[1]], 2);
    let source = source(&publisher, "source", |root| mixed(root, 5));
    publisher.run(&["--append", &to(&source, "/data/mixed")], &[daemons[0].address.to_string()]).expect(0);
    wait_for_all(&[&daemons[0], &daemons[1]], "/data/mixed", "data/mixed", &source);
    daemons[2].signal(Signal::CONT);
    wait_for_all(&[&daemons[2]], "/data/mixed", "data/mixed", &source);
    wait_for_members(&daemons.each_ref(), 3);
}

#[test]
fn who_hangs_in_the_midst_of_a_change_holds_nobody_up() {
    let publisher = Publisher::new(236);
    let daemons = cluster(&publisher, [236, 237, 238]);
    wait_for_members(&daemons.each_ref(), 3);
    let source = source(&publisher, "source", |root| plain(root, 9, 40, 500_000));
    let mut client = publisher.start(&["--append", &to(&source, "/data/large")], &[daemons[0].address.to_string()]);
    client.wait_for("accepted", |event| event["event"] == "accepted");
    daemons[2].signal(Signal::STOP);
    wait_for_all(&[&daemons[0], &daemons[1]], "/data/large", "data/large", &source);
    client.end().expect(0);
    daemons[2].signal(Signal::CONT);
    wait_for_all(&[&daemons[2]], "/data/large", "data/large", &source);
    wait_for_members(&daemons.each_ref(), 3);
}

/// The only node that the client was told of hangs while it is connected to it: the client goes to another one.
#[test]
fn who_is_connected_and_hangs_is_left() {
    let publisher = Publisher::new(239);
    let daemons = cluster(&publisher, [239, 240, 241]);
    wait_for_members(&daemons.each_ref(), 3);
    let source = source(&publisher, "source", |root| plain(root, 9, 40, 500_000));
    let mut client = publisher.start(&["--append", &to(&source, "/data/large")], &[daemons[0].address.to_string()]);
    client.wait_for("accepted", |event| event["event"] == "accepted");
    daemons[0].signal(Signal::STOP);
    let ended = client.end().expect(0);
    wait_for_all(&[&daemons[1], &daemons[2]], "/data/large", "data/large", &source);
    assert_eq!(ended.finished()["nodes"].as_array().expect("a list").len(), 3);
    daemons[0].signal(Signal::CONT);
    wait_for_all(&[&daemons[0]], "/data/large", "data/large", &source);
}

#[test]
fn who_leaves_is_known_to_have_left() {
    let publisher = Publisher::new(116);
    let mut daemons = cluster(&publisher, [116, 117, 118]);
    wait_for_members(&daemons.each_ref(), 3);
    daemons[1].signal(Signal::TERM);
    assert!(daemons[1].wait().success());
    wait_for_members(&[&daemons[0], &daemons[2]], 2);
    let left = members(&daemons[0]).into_iter().find(|member| member["hostname"] == "node117").expect("remembered");
    assert_eq!(left["state"], "left");
}

#[test]
fn another_key_is_another_cluster() {
    let publisher = Publisher::new(119);
    let [first] = cluster(&publisher, [119]);
    let mut stranger = Daemon::prepare(120, &publisher.public_key());
    write(&stranger, "cluster.key", &KEY.replace('0', "f"));
    write(&stranger, "peers.txt", &format!("{}\n", first.address));
    stranger.spawn();
    first.wait_for_line("has it another cluster.key?");
    stranger.wait_for_line("none of peers.txt answers");
    let mut friend = Daemon::prepare(121, &publisher.public_key());
    join(&mut friend, Some(first.address));
    wait_for_members(&[&first, &friend], 2);
    let source = source(&publisher, "source", |root| mixed(root, 6));
    publisher.run(&["--append", &to(&source, "/data/mixed")], &[first.address.to_string()]).expect(0);
    wait_for_all(&[&first, &friend], "/data/mixed", "data/mixed", &source);
    assert_eq!(members(&stranger).len(), 1);
    assert!(!stranger.data("data/mixed").exists());
}

#[test]
fn when_it_is_safe_the_client_may_go() {
    let publisher = Publisher::new(122);
    let daemons = cluster(&publisher, [122, 123, 124, 125]);
    wait_for_members(&daemons.each_ref(), 4);
    let source = source(&publisher, "source", |root| plain(root, 7, 40, 500_000));
    let mut client = publisher.start(&["--append", &to(&source, "/data/large")], &[daemons[3].address.to_string()]);
    client.wait_for("safe", |event| event["event"] == "safe" && event["safe"] == true);
    client.kill();
    wait_for_all(&daemons.each_ref(), "/data/large", "data/large", &source);
}

#[test]
fn who_refuses_is_named_with_its_reason() {
    let publisher = Publisher::new(126);
    let [first, second] = cluster(&publisher, [126, 127]);
    let mut third = Daemon::prepare(128, &Publisher::new(1).public_key());
    join(&mut third, Some(first.address));
    wait_for_members(&[&first, &second, &third], 3);
    let source = source(&publisher, "source", |root| mixed(root, 8));
    let ended = publisher.run(&["--append", &to(&source, "/data/mixed")], &[first.address.to_string()]);
    assert_ne!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!([&first, &second].map(|daemon| ended.result(daemon, "/data/mixed")), ["done", "done"]);
    assert_eq!(ended.result(&third, "/data/mixed"), "aborted");
    let reason = ended.at(&third, "/data/mixed")["reason"].as_str().expect("a reason");
    assert!(reason.contains("signature"), "{reason}");
    assert!(!third.data("data/mixed").exists());
}

fn members(daemon: &Daemon) -> Vec<serde_json::Value> {
    let status: serde_json::Value = serde_json::from_str(&daemon.get("/status.json")).expect("JSON");
    status["members"].as_array().expect("an array").clone()
}

/// Waits until each knows so many live nodes, itself included.
pub(super) fn wait_for_members(daemons: &[&Daemon], alive: usize) {
    let is_alive = |member: &&serde_json::Value| member["state"] == "alive";
    for daemon in daemons {
        let all_there = || members(daemon).iter().filter(is_alive).count() == alive;
        patience::until(|| all_there().then_some(()), || format!("{:#?}", members(daemon)));
    }
}
