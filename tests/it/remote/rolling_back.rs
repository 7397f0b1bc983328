//! `rollback`: what was there before comes back everywhere, from what machines have kept.

use std::fs;

use rustix::mount::MountFlags;
use rustix::process::Signal;

use super::{Said, User};
use crate::cluster::{cluster, wait_for_members};
use crate::daemon::{Daemon, tree};
use crate::e2e::wait_for_status;
use crate::mounts::{Mount, skipped};
use crate::patience;
use crate::publisher::to;
use crate::trees::{file, mixed, noise, plain};

fn keep_previous(daemon: &Daemon) {
    daemon.configure("conf", "conf-data", "append-only: false\nkeep-previous: true");
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("configuration read again");
}

fn rollback(user: &User, daemon: &Daemon, options: &[&str]) -> Said {
    let address = daemon.address.to_string();
    user.run(&[&["rollback", "/conf/x", &address][..], options].concat())
}

fn visible(daemon: &Daemon) -> String {
    let entry = wait_for_status(daemon, "/conf/x", |entry| entry["state"] == "done");
    entry["visible"].as_str().expect("an id").to_owned()
}

#[test]
fn it_goes_back_and_forth_without_the_source() {
    let user = User::new(212);
    let mut daemons = cluster(&user.publisher, [212, 213, 214]);
    wait_for_members(&daemons.each_ref(), 3);
    daemons.iter().for_each(keep_previous);
    let (first, second) = (user.folder("first"), user.folder("second"));
    mixed(&first, 1);
    mixed(&second, 1);
    file(&second.join("large"), &vec![5; 200_000], 0o644);
    file(&second.join("more"), b"more", 0o644);
    let entry = [daemons[0].address.to_string()];
    user.publisher.run(&["--replace", &to(&first, "/conf/x")], &entry).expect(0);
    let one = visible(&daemons[0]);
    rollback(&user, &daemons[0], &[]).expect(3, &["no machine has kept", "keep-previous: true"]);
    user.publisher.run(&["--replace", &to(&second, "/conf/x")], &entry).expect(0);
    let two = visible(&daemons[0]);
    let expected = [tree(&first), tree(&second)];
    for daemon in &daemons {
        wait_for_status(daemon, "/conf/x", |entry| entry["state"] == "done" && entry["previous"] == one.as_str());
    }
    fs::remove_dir_all(&first).expect("removed");
    fs::remove_dir_all(&second).expect("removed");

    let none = "ab".repeat(32);
    rollback(&user, &daemons[0], &["--to", &none]).expect(3, &["no machine has kept image abab", &one]);
    daemons[2].kill();
    rollback(&user, &daemons[0], &[]).expect(0, &["back from image", "done on 2 of "]);
    for daemon in &daemons[..2] {
        assert_eq!(tree(&daemon.data("conf-data/x")), expected[0]);
        let entry = wait_for_status(daemon, "/conf/x", |entry| entry["previous"] == two.as_str());
        assert_eq!((&entry["visible"], &entry["bytes_fetched"]), (&one.as_str().into(), &0.into()), "{entry}");
    }
    // A machine that was killed has what it kept; who was off has it from the others, or from what it kept.
    daemons[0].kill();
    daemons[0].spawn();
    daemons[2].spawn();
    wait_for_members(&daemons.each_ref(), 3);
    for daemon in &daemons {
        wait_for_status(daemon, "/conf/x", |entry| entry["state"] == "done" && entry["visible"] == one.as_str());
        assert_eq!(tree(&daemon.data("conf-data/x")), expected[0]);
    }
    rollback(&user, &daemons[1], &["--to", &two]).expect(0, &[]);
    for daemon in &daemons {
        assert_eq!((visible(daemon), tree(&daemon.data("conf-data/x"))), (two.clone(), expected[1].clone()));
    }
    // What is removed takes along what was kept.
    user.run(&["remove", "/conf/x", &daemons[0].address.to_string()]).expect(0, &[]);
    for daemon in &daemons {
        wait_for_status(daemon, "/conf/x", |entry| entry["state"] == "removed" && entry["previous"].is_null());
        let staged = fs::read_dir(daemon.data("conf-data/.ciruela-staging")).map_or(0, Iterator::count);
        assert_eq!(staged, 0);
    }
    rollback(&user, &daemons[0], &[]).expect(3, &["nothing is at /conf/x"]);
}

/// What is only kept to go back to never keeps a machine from what is published, and goes when it isn't wanted any more.
#[test]
fn what_is_kept_makes_room() {
    let user = User::new(226);
    let mut daemon = Daemon::prepare(226, &user.publisher.public_key());
    let Some(_mount) = Mount::new(&daemon.data("conf-data"), "size=8m", MountFlags::empty()) else {
        return skipped("no small file system can be mounted");
    };
    daemon.configure("conf", "conf-data", "append-only: false\nkeep-previous: true");
    daemon.spawn();
    let entry = [daemon.address.to_string()];
    let publish = |n: u64| {
        let source = user.folder(&format!("source{n}"));
        file(&source.join("large"), &noise(n, 3 << 20), 0o644);
        user.publisher.run(&["--replace", &to(&source, "/conf/x")], &entry).expect(0);
        assert_eq!(tree(&daemon.data("conf-data/x")), tree(&source));
        visible(&daemon)
    };
    let previous = |expected: Option<&str>| {
        wait_for_status(&daemon, "/conf/x", |entry| entry["state"] == "done" && entry["previous"].as_str() == expected)
    };
    let one = publish(1);
    let two = publish(2);
    previous(Some(&one));
    // There is room for two.
    publish(3);
    daemon.wait_for_line("no room for what comes");
    previous(Some(&two));
    let staged = || fs::read_dir(daemon.data("conf-data/.ciruela-staging")).map_or(0, Iterator::count);
    assert_eq!(staged(), 1);
    let off = "append-only: false";
    daemon.configure("conf", "conf-data", off);
    daemon.signal(Signal::HUP);
    previous(None);
    patience::until(|| (staged() == 0).then_some(()), || "something is left".to_owned());
    // The same at a start.
    keep_previous(&daemon);
    let three = visible(&daemon);
    publish(4);
    previous(Some(&three));
    daemon.configure("conf", "conf-data", off);
    daemon.kill();
    daemon.spawn();
    wait_for_status(&daemon, "/conf/x", |entry| entry["state"] == "done" && entry["previous"].is_null());
    patience::until(
        || (fs::read_dir(daemon.data("conf-data/.ciruela-staging")).map_or(0, Iterator::count) == 0).then_some(()),
        || "something is left".to_owned(),
    );
    daemon.kill();
}

#[test]
fn what_cant_be_rolled_back_says_why() {
    let user = User::new(215);
    let daemons = user.daemons([215]);
    let source = user.folder("source");
    plain(&source, 1, 2, 100);
    user.publish("--append", &source, "/data/x", &daemons);
    let at = daemons[0].address.to_string();
    user.run(&["rollback", "/data/x", &at]).expect(3, &["no machine has kept"]);
    user.run(&["rollback", "/none/x", &at]).expect(3, &["carries /none"]);
    user.run(&["rollback", "/data/x", "127.0.0.1:1"]).expect(5, &[]);
    user.run(&["rollback", "/data/x"]).expect(1, &["no entry point"]);
}
