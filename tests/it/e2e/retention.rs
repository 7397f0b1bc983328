//! Old directories go, those in use stay, and what was cleaned comes back only when somebody publishes it again.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use serde_json::Value;

use super::{Daemon, source, start, status, wait_for_status};
use crate::cluster::{cluster, join, wait_for_members};
use crate::daemon::tree;
use crate::patience;
use crate::publisher::{Publisher, addresses, to};
use crate::scrub::scrub;
use crate::trees::plain;

const RULES: &str = "append-only: true\nauto-clean: true\nkeep-recent: 0s\nkeep-min-directories";

/// A version of its own.
fn version(publisher: &Publisher, n: u64) -> std::path::PathBuf {
    source(publisher, &format!("v{n}"), |root| plain(root, n, 4, 2_000))
}

fn visible(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(daemon.data("data")).expect("readable").map(|entry| entry.expect("readable"));
    let names = entries.filter(|entry| entry.file_type().expect("known").is_dir());
    let names = names.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

fn staged(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(daemon.data("data/.ciruela-staging")).expect("readable");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

fn retention(daemon: &Daemon) -> Value {
    let status: Value = serde_json::from_str(&daemon.get("/status.json")).expect("JSON");
    status["retention"]["data"].clone()
}

fn wait_for_retention(daemon: &Daemon, wanted: impl Fn(&Value) -> bool) -> Value {
    patience::until(|| Some(retention(daemon)).filter(&wanted), || format!("{:#}", retention(daemon)))
}

fn wait_until_cleaned(daemon: &Daemon, path: &str) {
    wait_for_status(daemon, path, |entry| entry["state"] == "cleaned" && entry["visible"].is_null());
}

#[test]
fn the_last_good_one_stays() {
    let publisher = Publisher::new(198);
    let [daemon] = start(&publisher, [198]);
    let all = addresses(&[&daemon]);
    let versions: Vec<_> = (1..=2).map(|n| version(&publisher, n)).collect();
    let publish =
        |n: usize| publisher.run(&["--append", &to(&versions[n - 1], &format!("/data/v{n}"))], &all).expect(0);
    publish(1);
    publish(2);
    fs::remove_dir_all(daemon.data("data/v2")).expect("removed");
    assert_eq!(scrub(&daemon, &["/data/v2"]).0, Some(1));
    daemon.configure("data", "data", &format!("{RULES}: 1"));
    daemon.signal(Signal::HUP);
    wait_for_retention(&daemon, |kept| kept["newest"] == 2);
    assert_eq!(visible(&daemon), ["v1"]);
    // When the newer one is right again, it goes.
    publish(2);
    wait_until_cleaned(&daemon, "/data/v1");
    assert_eq!(visible(&daemon), ["v2"]);
}

#[test]
fn old_ones_go_and_what_is_in_use_stays() {
    let publisher = Publisher::new(75);
    let [daemon] = start(&publisher, [75]);
    let all = addresses(&[&daemon]);
    let versions: Vec<_> = (1..=6).map(|n| version(&publisher, n)).collect();
    let publish =
        |n: usize| publisher.run(&["--append", &to(&versions[n - 1], &format!("/data/v{n}"))], &all).expect(0);
    let list = daemon.data("conf/keep.txt");
    let rules = format!("{RULES}: 2\nkeep-list-file: {}", list.display());
    for n in 1..=3 {
        publish(n);
    }
    assert_eq!((visible(&daemon), retention(&daemon)), (vec!["v1".into(), "v2".into(), "v3".into()], Value::Null));
    symlink("v1/d00", daemon.data("data/current")).expect("made");
    fs::write(&list, format!("# in use\n{}\n", daemon.data("data/v2").display())).expect("written");
    daemon.configure("data", "data", &rules);
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("configuration read again");
    publish(4);
    publish(5);
    wait_until_cleaned(&daemon, "/data/v3");
    let line = daemon.wait_for_line("path=/data/v3");
    assert!(line.contains("removed: 2 newer ones are there, it is not in use"), "{line}");
    assert_eq!(visible(&daemon), ["v1", "v2", "v4", "v5"]);
    assert_eq!(tree(&daemon.data("data/v1")), tree(&versions[0]));
    assert_eq!(staged(&daemon), [""; 0]);
    let kept = wait_for_retention(&daemon, |kept| kept["active"] == 2);
    assert_eq!((&kept["newest"], &kept["removed"], &kept["problem"]), (&2.into(), &1.into(), &Value::Null));
    assert!(daemon.get("/metrics").contains("ciruela_removed_directories_total 1"));

    // Without the list it isn't known what is in use.
    fs::remove_file(&list).expect("removed");
    publish(6);
    let troubled = wait_for_retention(&daemon, |kept| !kept["problem"].is_null());
    let problem = troubled["problem"].as_str().expect("a text");
    assert!(problem.contains("nothing is removed") && problem.contains("keep.txt"), "{problem}");
    // Nor with a name that nothing here can have.
    fs::write(&list, b"v4/d00\nv\xff\n").expect("written");
    daemon.signal(Signal::HUP);
    daemon.wait_for_line(&format!("line 2 of the keep list {}", list.display()));
    wait_for_retention(&daemon, |kept| kept["problem"].as_str().is_some_and(|problem| problem.contains("line 2 of")));
    assert_eq!(visible(&daemon), ["v1", "v2", "v4", "v5", "v6"]);
    fs::write(&list, "v4/d00\n").expect("written");
    daemon.signal(Signal::HUP);
    wait_until_cleaned(&daemon, "/data/v2");
    assert_eq!(visible(&daemon), ["v1", "v4", "v5", "v6"]);
    fs::remove_file(daemon.data("data/current")).expect("removed");
    daemon.signal(Signal::HUP);
    wait_until_cleaned(&daemon, "/data/v1");

    // Another image can't take its place; the same one can.
    let other = source(&publisher, "other", |root| plain(root, 9, 1, 10));
    let refused = publisher.run(&["--append", &to(&other, "/data/v3")], &all).expect(3);
    assert_eq!(refused.at(&daemon, "/data/v3")["reason"], "already_exists");
    publish(3);
    assert_eq!(tree(&daemon.data("data/v3")), tree(&versions[2]));
    // Now it is among the newest.
    wait_until_cleaned(&daemon, "/data/v5");
    assert_eq!(visible(&daemon), ["v3", "v4", "v6"]);
}

#[test]
fn a_killed_daemon_goes_on() {
    let publisher = Publisher::new(76);
    let mut daemon = Daemon::prepare(76, &publisher.public_key());
    daemon.spawn();
    let all = addresses(&[&daemon]);
    for n in 1..=4 {
        publisher.run(&["--append", &to(&version(&publisher, n), &format!("/data/v{n}"))], &all).expect(0);
    }
    daemon.configure("data", "data", &format!("{RULES}: 1"));
    for _ in 0..5 {
        daemon.kill();
        daemon.spawn();
    }
    for n in 1..=3 {
        wait_until_cleaned(&daemon, &format!("/data/v{n}"));
    }
    assert_eq!(visible(&daemon), ["v4"]);
    daemon.kill();
    daemon.spawn();
    let states: Vec<_> =
        (1..=3).map(|n| status(&daemon, &format!("/data/v{n}")).expect("known")["state"].clone()).collect();
    assert_eq!(states, ["cleaned"; 3]);
    // It is looked at first.
    wait_for_status(&daemon, "/data/v4", |entry| entry["state"] == "done");
    assert_eq!(staged(&daemon), [""; 0]);
}

#[test]
fn what_others_cleaned_is_not_fetched() {
    let publisher = Publisher::new(77);
    let mut daemons = cluster(&publisher, [77, 78, 79]);
    wait_for_members(&daemons.each_ref(), 3);
    let versions: Vec<_> = (1..=5).map(|n| version(&publisher, n)).collect();
    let path = |n: usize| format!("/data/v{n}");
    for daemon in &daemons {
        daemon.configure("data", "data", &format!("{RULES}: 1"));
        daemon.signal(Signal::HUP);
        daemon.wait_for_line("configuration read again");
    }
    let entry = [daemons[0].address.to_string()];
    let publish = |n: usize| publisher.run(&["--append", &to(&versions[n - 1], &path(n))], &entry);
    publish(1).expect(0);
    daemons[2].kill();
    for n in 2..=5 {
        publish(n).expect(0);
    }
    for n in 1..=4 {
        wait_until_cleaned(&daemons[1], &path(n));
    }
    daemons[2].spawn();
    let mut fresh = Daemon::prepare(80, &publisher.public_key());
    fresh.configure("data", "data", &format!("{RULES}: 1"));
    join(&mut fresh, Some(daemons[1].address));
    for daemon in [&daemons[2], &fresh] {
        wait_for_status(daemon, &path(5), |entry| entry["state"] == "done");
        for n in 2..=4 {
            wait_for_status(daemon, &path(n), |entry| entry["state"] == "not kept");
        }
    }
    wait_until_cleaned(&daemons[2], &path(1));
    assert_eq!((visible(&daemons[2]), visible(&fresh)), (vec!["v5".to_owned()], vec!["v5".to_owned()]));
    // It comes back on all of them, and by then it is the newest.
    publish(2).expect(0);
    for daemon in daemons.iter().chain([&fresh]) {
        wait_until_cleaned(daemon, &path(5));
        assert_eq!(visible(daemon), ["v2"]);
        assert_eq!(tree(&daemon.data("data/v2")), tree(&versions[1]));
    }
}
